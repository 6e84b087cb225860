//! From the census to the number of connections that the kernel still grants. Pure.
//!
//! A connect() may choose a port of the range that is not reserved, that no listener and no bound socket claims, and
//! on which its own tuple is not taken. Whether a *connected* socket was bound before it connected cannot be seen
//! from outside; if it was, its port is closed to every connect(). Hence a lower bound (all that is not proven to
//! be shared was bound), an upper bound (none was) and an estimate between them, from the evidence.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::TIME_WAIT_MS;
use super::active::{Active, Placed};
use super::census::{Census, Tuple, Usage};
use super::closing::Closing;
use super::evidence::{self, Chooser, Evidence, Memory, Open};
use super::forecast::{Ages, Forecast, Now};
use super::port_set::PortSet;
use super::sources::{Source, dual_connections, sources};

/// What is free, for whom.
#[derive(Debug, Clone)]
pub struct Headroom {
    /// Ports of the range that are not reserved.
    pub capacity: u32,
    /// Those of them that listeners and bound sockets claim.
    pub claimed: u32,
    /// Ports for connect() to where nobody is connected yet.
    pub fresh: u32,
    /// Whether somebody here binds before connecting.
    pub bind_before_connect: Evidence,
    /// By tuple, the tightest first.
    pub destinations: Vec<Destination>,
    /// By local address, the tightest first.
    pub sources: Vec<Source>,
    /// Connections on ports of the range, listeners' ones left out.
    pub outgoing: u64,
}

/// The ports of one tuple for connect().
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// From where to where.
    pub tuple: Tuple,
    /// Asked for by name.
    pub named: bool,
    /// The best estimate.
    pub free: u32,
    /// At least so many.
    pub free_min: u32,
    /// At most so many.
    pub free_max: u32,
    /// The capacity less what is free: its own sockets, listeners, and what others have closed to it.
    pub used: u32,
    /// Its own sockets.
    pub sockets: u32,
    /// Those in TIME_WAIT.
    pub time_wait: u32,
    /// Those in ESTABLISHED.
    pub established: u32,
    /// Those in TIME_WAIT that may be taken over; they count as free.
    pub reusable: u32,
    /// Whether its ports look chosen by bind().
    pub bound: bool,
    /// How it goes on.
    pub forecast: Forecast,
}

/// What is asked for by name; nothing means everything that is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Named {
    /// Tuples.
    pub tuples: Vec<Tuple>,
    /// Remote addresses and ports.
    pub destinations: Vec<(IpAddr, u16)>,
    /// Local addresses; a wildcard stands for all of its family.
    pub sources: Vec<IpAddr>,
}

impl Named {
    /// Whether a tuple is among them.
    pub fn wants(&self, tuple: &Tuple) -> bool {
        let to = (tuple.destination, tuple.port);
        (self.destinations.is_empty() || self.destinations.contains(&to))
            && (self.sources.is_empty() || self.sources.iter().any(|a| covers(*a, tuple.source)))
    }
}

fn covers(named: IpAddr, address: IpAddr) -> bool {
    named == address || (named.is_unspecified() && named.is_ipv4() == address.is_ipv4())
}

impl Headroom {
    /// Computes it, with what earlier looks have shown, and adds what this one shows.
    pub fn of(
        census: &Census,
        named: &Named,
        memory: &mut Memory,
        active: Option<&Active>,
    ) -> Self {
        let open = Open::count(census);
        let fresh = match active {
            Some(active) => evidence::settled(census, active),
            None => evidence::choosers(census, &open),
        };
        memory.learn(census, &fresh);
        let choosers = match active {
            Some(_) => fresh,
            None => memory.recalled(census, fresh),
        };
        let (closed, own_closed) = closed_by_bind(census, &choosers);
        let closed = active.map_or(closed, Active::closed);
        let capacity = census.capacity;
        // Where no port is shared, all connections look alike: whoever asks for bind() has each of them take a port.
        let closing = Closing::of(census, |number| {
            choosers[number] != Chooser::Connect || open.shared == 0
        });
        let mut destinations: Vec<_> = census
            .tuples()
            .iter()
            .enumerate()
            .filter(|(_, (tuple, _))| named.wants(tuple))
            .map(|(at, (tuple, usage))| {
                let free = match active {
                    Some(active) => settled(&open, active.closed(), active.of(tuple)),
                    None => free(census, &open, usage, choosers[at], closed, own_closed[at]),
                };
                let bound = choosers[at] != Chooser::Connect;
                let mut forecast = forecast(census, tuple, usage, free.estimate, bound);
                if bound {
                    // What its address closes to others takes its ports, too.
                    let all = closing.seconds_left(tuple.source, free.estimate);
                    let own = forecast.seconds_left;
                    forecast.seconds_left = own.into_iter().chain(all).min_by(f64::total_cmp);
                }
                Destination {
                    tuple: *tuple,
                    named: named.tuples.contains(tuple),
                    free: free.estimate,
                    free_min: free.min,
                    free_max: free.max,
                    used: capacity - free.estimate,
                    sockets: usage.sockets,
                    time_wait: usage.time_wait,
                    established: usage.established,
                    reusable: usage.reusable,
                    bound,
                    forecast,
                }
            })
            .collect();
        destinations.sort_by_key(|d| (d.free, Reverse(d.sockets), d.tuple));
        Self {
            capacity,
            claimed: census.claimed.len(),
            fresh: open.all - closed.min(open.all),
            bind_before_connect: match active {
                Some(active) if active.closed() == 0 && active.tried > 0 => Evidence::No,
                _ => Evidence::of(census, &open, &choosers),
            },
            sources: sources(
                census,
                named,
                &destinations,
                &dual_connections(census, &choosers),
                &closing,
            ),
            destinations,
            outgoing: census
                .tuples()
                .iter()
                .map(|(_, u)| u64::from(u.sockets))
                .sum::<u64>()
                + census.unlisted,
        }
    }

    /// Whether sockets from this address look bound before they were connected.
    pub fn binds_from(&self, address: IpAddr) -> bool {
        self.destinations
            .iter()
            .any(|destination| destination.bound && destination.tuple.source == address)
    }
}

/// How many ports those who bind first have closed to every connect(), and how many sockets each tuple has on them. Ports that
/// are shared for certain are not among them, so that each local address is on each of these once.
fn closed_by_bind(census: &Census, choosers: &[Chooser]) -> (u32, Vec<u32>) {
    let mut own = vec![0; choosers.len()];
    let mut closed = PortSet::default();
    if choosers.iter().all(|chooser| *chooser == Chooser::Connect) {
        return (0, own);
    }
    let doubtful = census.used_ports().without(&census.shared_ports());
    for (port, tuple) in census.tuples_on(&doubtful) {
        if choosers[tuple].bound(census.range.is_second_choice(port)) {
            closed.insert(port);
        }
    }
    for (_, tuple) in census.tuples_on(&closed) {
        own[tuple] += 1;
    }
    (closed.len(), own)
}

struct Free {
    estimate: u32,
    min: u32,
    max: u32,
}

/// Where every port was tried. Whether the other side has timestamps is still not known.
fn settled(open: &Open, closed: u32, placed: Placed) -> Free {
    let estimate = open.all.saturating_sub(closed + placed.on_open);
    Free {
        estimate,
        min: estimate.saturating_sub(placed.reusable),
        max: estimate,
    }
}

fn free(
    census: &Census,
    open: &Open,
    usage: &Usage,
    chooser: Chooser,
    closed: u32,
    own_closed: u32,
) -> Free {
    let max = open
        .all
        .saturating_sub(usage.sockets - usage.reusable - usage.of_unknown_age);
    // Of an odd number of ports, connect() leaves out one at either end.
    let odd = census.range.size() % 2;
    let min = (open.empty + open.shared.saturating_sub(usage.sockets))
        .saturating_sub(odd + census.unseen_bound);
    // What waits on a closed port is never taken over by a connect() that chooses its port.
    let lost = match chooser {
        // Which of them lie there is not known.
        Chooser::Connect => part(usage.reusable, own_closed, usage.sockets),
        Chooser::BindSecondChoice => usage.second_choice_reusable,
        Chooser::BindAll => usage.reusable,
    }
    .min(own_closed);
    let elsewhere = (usage.sockets - own_closed).saturating_sub(usage.reusable - lost);
    let estimate = open.all.saturating_sub(closed + elsewhere);
    let min = min.min(max);
    Free {
        estimate: estimate.clamp(min, max),
        min,
        max,
    }
}

/// `number * of / all`, rounded down; 0 of nothing.
fn part(number: u32, of: u32, all: u32) -> u32 {
    let part = u64::from(number) * u64::from(of) / u64::from(all.max(1));
    u32::try_from(part).unwrap_or(u32::MAX)
}

fn forecast(census: &Census, tuple: &Tuple, usage: &Usage, free: u32, bound: bool) -> Forecast {
    let taken_over = !bound && census.reuse.applies(tuple.source, tuple.destination);
    Forecast::of(&Now {
        free,
        waiting: usage.time_wait - usage.reusable,
        ages: match usage.time_wait {
            0 => Some(&Ages::NONE),
            _ => usage.ages.as_deref(),
        },
        hold: if taken_over {
            census.reuse.delay.min(TIME_WAIT_MS)
        } else {
            TIME_WAIT_MS
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::census::tests::{socket, sysctl};
    use crate::ports::socket::{Socket, State};

    /// A census of the ports 1000 to 1099.
    fn headroom(sockets: &[Socket]) -> Headroom {
        let mut census = Census::new(&sysctl(1000, 1099), &[]);
        let (claim, rest): (Vec<_>, Vec<_>) = sockets.iter().partition(|s| s.claims_port());
        claim
            .into_iter()
            .chain(rest)
            .for_each(|socket| census.add(socket));
        Headroom::of(&census, &Named::default(), &mut Memory::default(), None)
    }

    fn connections(state: State, ports: impl IntoIterator<Item = u16>, to: &str) -> Vec<Socket> {
        ports
            .into_iter()
            .map(|port| socket(state, &format!("192.0.2.1:{port}"), to))
            .collect()
    }

    fn bounds(destination: &Destination) -> (u32, u32, u32) {
        (destination.free_min, destination.free, destination.free_max)
    }

    #[test]
    fn one_destination_by_connect_is_exact() {
        let sockets = connections(State::TimeWait, (1000..1060).step_by(2), "192.0.2.9:80");
        let headroom = headroom(&sockets);
        assert_eq!(bounds(&headroom.destinations[0]), (70, 70, 70));
        assert_eq!(headroom.bind_before_connect, Evidence::No);
        assert_eq!((headroom.fresh, headroom.outgoing), (100, 30));
    }

    #[test]
    fn ports_of_the_second_parity_tell_of_bind() {
        let mut sockets = connections(State::TimeWait, (1001..1061).step_by(2), "192.0.2.9:80");
        sockets.extend(connections(
            State::Established,
            [1000, 1002],
            "192.0.2.8:80",
        ));
        let headroom = headroom(&sockets);
        assert_eq!(headroom.bind_before_connect, Evidence::Yes);
        let to = |last| {
            let is = |d: &&Destination| d.tuple.destination.to_string().ends_with(last);
            headroom.destinations.iter().find(is).unwrap()
        };
        assert_eq!(bounds(to("9")), (68, 70, 70));
        assert_eq!(bounds(to("8")), (68, 68, 98));
        assert!(headroom.binds_from("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn beyond_half_of_the_range_connect_uses_the_second_parity_too() {
        let mut sockets = connections(State::TimeWait, (1000..1100).step_by(2), "192.0.2.9:80");
        sockets.extend(connections(
            State::TimeWait,
            (1001..1061).step_by(2),
            "192.0.2.9:80",
        ));
        let headroom = headroom(&sockets);
        assert_ne!(headroom.bind_before_connect, Evidence::Yes);
        assert_eq!(bounds(&headroom.destinations[0]), (20, 20, 20));
    }

    #[test]
    fn listeners_close_their_port_to_everybody() {
        let headroom = headroom(&[
            socket(State::Listen, "127.0.0.1:1000", "0.0.0.0:0"),
            socket(State::Listen, "[::]:1001", "[::]:0"),
            socket(State::Established, "192.0.2.1:1002", "192.0.2.9:80"),
        ]);
        assert_eq!((headroom.claimed, headroom.fresh), (2, 98));
        assert_eq!(bounds(&headroom.destinations[0]), (97, 97, 97));
        let source = |address: &str| {
            headroom
                .sources
                .iter()
                .find(|s| s.address.to_string() == address)
                .unwrap()
                .used
        };
        assert_eq!((source("192.0.2.1"), source("0.0.0.0")), (2, 3));
    }

    #[test]
    fn destinations_that_never_share_a_port_were_bound() {
        // 48 + 48 connections: connect() would have put both on the same first ports.
        let mut sockets = connections(State::TimeWait, 1000..1048, "192.0.2.9:80");
        sockets.extend(connections(State::TimeWait, 1050..1098, "192.0.2.8:80"));
        let headroom = headroom(&sockets);
        assert_eq!(headroom.bind_before_connect, Evidence::Yes);
        assert!(headroom.destinations.iter().all(|d| d.free_min == 4));
    }

    #[test]
    fn a_shared_port_is_free_for_a_third_destination() {
        let mut sockets = connections(State::Established, (1000..1040).step_by(2), "192.0.2.9:80");
        sockets.extend(connections(
            State::Established,
            (1000..1040).step_by(2),
            "192.0.2.8:80",
        ));
        let mut census = Census::new(&sysctl(1000, 1099), &[]);
        for socket in &sockets {
            census.add(socket);
        }
        let open = Open::count(&census);
        assert_eq!((open.empty, open.shared), (80, 20));
        let free = free(&census, &open, &Usage::default(), Chooser::Connect, 0, 0);
        assert_eq!((free.min, free.estimate, free.max), (100, 100, 100));
    }

    #[test]
    fn an_odd_range_may_lose_one() {
        let mut census = Census::new(&sysctl(1000, 1100), &[]);
        census.add(&socket(
            State::Established,
            "192.0.2.1:1000",
            "192.0.2.9:80",
        ));
        let headroom = Headroom::of(&census, &Named::default(), &mut Memory::default(), None);
        assert_eq!(bounds(&headroom.destinations[0]), (99, 100, 100));
    }

    #[test]
    fn what_is_named_is_alone_and_always_there() {
        let tuple = Tuple {
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.7".parse().unwrap(),
            port: 443,
        };
        let named = Named {
            tuples: vec![tuple],
            destinations: vec![(tuple.destination, tuple.port)],
            sources: vec![tuple.source],
        };
        let mut census = Census::new(&sysctl(1000, 1099), &named.tuples);
        census.add(&socket(
            State::Established,
            "192.0.2.1:1000",
            "192.0.2.9:80",
        ));
        let headroom = Headroom::of(&census, &named, &mut Memory::default(), None);
        assert_eq!(headroom.destinations.len(), 1);
        assert!(headroom.destinations[0].named && headroom.destinations[0].sockets == 0);
        assert_eq!(bounds(&headroom.destinations[0]), (99, 100, 100));
        assert_eq!(headroom.sources.len(), 1);
    }

    /// Two addresses that are bound to, as with several `proxy_bind`: each port may be closed by both.
    #[test]
    fn a_port_that_two_addresses_have_bound_is_closed_once() {
        let at = |address: &str, ports: std::ops::Range<u16>, to: &str| -> Vec<Socket> {
            let ports = ports.step_by(2);
            let from = |port| format!("{address}:{port}");
            ports
                .map(|port| socket(State::Established, &from(port), to))
                .collect()
        };
        let mut sockets = at("192.0.2.1", 1001..1063, "192.0.2.9:80");
        sockets.extend(at("192.0.2.2", 1001..1063, "192.0.2.9:80"));
        // What connect() chose, shared; and one of it that was there before a port was bound by another address.
        sockets.extend(at("192.0.2.3", 1000..1040, "192.0.2.8:80"));
        sockets.extend(at("192.0.2.3", 1000..1040, "192.0.2.7:80"));
        sockets.insert(
            0,
            socket(State::Established, "192.0.2.3:1041", "192.0.2.7:80"),
        );
        let headroom = headroom(&sockets);
        let free = |from: &str, to: &str| {
            let is = |d: &&Destination| {
                (d.tuple.source, d.tuple.destination)
                    == (from.parse().unwrap(), to.parse().unwrap())
            };
            headroom.destinations.iter().find(is).unwrap().free
        };
        assert_eq!(free("192.0.2.1", "192.0.2.9"), 69);
        assert_eq!(free("192.0.2.2", "192.0.2.9"), 69);
        assert_eq!(free("192.0.2.3", "192.0.2.8"), 49);
        assert_eq!(free("192.0.2.3", "192.0.2.7"), 49);
        assert_eq!(headroom.fresh, 69);
    }

    #[test]
    fn without_timers_the_rate_of_closing_is_not_known() {
        let sockets: Vec<_> = connections(State::TimeWait, (1000..1060).step_by(2), "192.0.2.9:80")
            .into_iter()
            .map(|socket| Socket {
                expires: None,
                ..socket
            })
            .collect();
        let forecast = headroom(&sockets).destinations[0].forecast;
        assert!(forecast.closed_per_second.is_nan(), "{forecast:?}");
        assert!(forecast.limit_per_second > 1.0, "{forecast:?}");
        assert_eq!(forecast.seconds_left, None);
        // Where nothing waits, nothing was closed.
        let live = connections(State::Established, (1000..1060).step_by(2), "192.0.2.9:80");
        let forecast = headroom(&live).destinations[0].forecast;
        assert!(forecast.closed_per_second.abs() < 1e-9, "{forecast:?}");
    }
}
