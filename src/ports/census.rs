//! Folds a stream of sockets into what the headroom is computed from: a table by port, one by address, one by
//! destination. Its size depends on the ports and the destinations, not on the number of sockets.

use std::collections::HashMap;
use std::net::IpAddr;

use super::forecast::{self, Ages};
use super::port_set::{PortRange, PortSet};
use super::port_table::{PortTable, PortUse};
use super::socket::{Socket, State};
use super::sysctl::{Reuse, Sysctl};
use super::taken::Taken;

/// The most destinations that are counted one by one. The kernel dumps in the order of a hash: of a million sockets, one
/// destination's 300 (1 % of the usual range) are missed among the first 32 768 once in ten thousand looks.
const MOST_TUPLES: usize = 1 << 15;

/// Slots for what was met last.
const RECENT: usize = 64;

/// What a client port can be used for once: a local address, and where its connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// The local address.
    pub source: IpAddr,
    /// The remote address.
    pub destination: IpAddr,
    /// The remote port.
    pub port: u16,
}

/// The sockets of one tuple, on ports that connect() may choose.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// All of them: one a port.
    pub sockets: u32,
    /// Those in TIME_WAIT.
    pub time_wait: u32,
    /// Those in ESTABLISHED.
    pub established: u32,
    /// Those in TIME_WAIT which a connect() may take over now.
    pub reusable: u32,
    /// Those that would be reusable, if only their age were known.
    pub of_unknown_age: u32,
    /// Those on ports which connect() tries last.
    pub second_choice: u32,
    /// The reusable ones of these.
    pub second_choice_reusable: u32,
    /// Those of them in TIME_WAIT.
    pub second_choice_waiting: u32,
    /// Those on such ports in TIME_WAIT for a few seconds only, or nobody knows for how long.
    pub second_choice_recent: u32,
    /// Those known to share their port (`IP_BIND_ADDRESS_NO_PORT`).
    pub sharing: u32,
    /// When the TIME_WAITs end.
    pub ages: Option<Box<Ages>>,
    /// The port of the first one seen.
    first_port: u16,
}

/// Everything counted.
#[derive(Debug, Clone)]
pub struct Census {
    /// The range that the kernel hands ports out of.
    pub range: PortRange,
    /// Its ports, less the reserved ones.
    pub ports: PortSet,
    /// How many these are.
    pub capacity: u32,
    /// When a TIME_WAIT may be taken over.
    pub reuse: Reuse,
    /// Sockets by state, in the order of [`State::ALL`], wherever their ports lie.
    pub states: [u64; State::ALL.len()],
    /// Ports that a listener or a bound socket claims.
    pub claimed: PortSet,
    /// Those of them that a bound socket claims, which neither listens nor is connected.
    pub bound: u32,
    /// So many sockets at most may be bound beside these: on a busy host a few are not looked for.
    pub unseen_bound: u32,
    /// Sockets of destinations beyond the most that are counted.
    pub unlisted: u64,
    tuples: Vec<(Tuple, Usage)>,
    numbers: HashMap<Tuple, u16>,
    /// The tuples met last. A few destinations have nearly all sockets, and comparing is cheaper than hashing.
    recent: [Option<(Tuple, u16)>; RECENT],
    table: PortTable,
    taken: Taken,
}

impl Census {
    /// An empty one; `named` tuples are listed even where no socket is theirs.
    pub fn new(sysctl: &Sysctl, named: &[Tuple]) -> Self {
        let ports = sysctl.range.without(&sysctl.reserved);
        let mut census = Self {
            range: sysctl.range,
            capacity: ports.len(),
            ports,
            reuse: sysctl.reuse,
            states: [0; State::ALL.len()],
            claimed: PortSet::default(),
            bound: 0,
            unseen_bound: 0,
            unlisted: 0,
            tuples: Vec::new(),
            numbers: HashMap::new(),
            recent: [None; RECENT],
            table: PortTable::new(sysctl.range),
            taken: Taken::default(),
        };
        for tuple in named {
            census.number(*tuple);
        }
        census
    }

    /// Counts a socket. Those that claim a port have to come first.
    ///
    /// Not inlined, and addresses are compared where they lie: the compiler takes them apart byte by byte where it may, which
    /// costs a seventh of the time that is ours.
    #[inline(never)]
    pub fn add(&mut self, socket: &Socket) {
        self.states[socket.state.index()] += 1;
        // A half-open connection of a listener has its port from it, and goes with it.
        if !self.ports.contains(socket.source_port) || socket.state == State::SynRecv {
            return;
        }
        let twice = self.taken.add(socket);
        if socket.claims_port() {
            if !self.claimed.insert(socket.source_port) && socket.state == State::Bound {
                self.bound += 1;
            }
        } else if !self.claimed.contains(socket.source_port) {
            self.add_outgoing(socket, twice);
        }
    }

    fn add_outgoing(&mut self, socket: &Socket, twice: bool) {
        let number = self.number_of(socket);
        self.table.add(socket, number, twice);
        let Some(number) = number else {
            self.unlisted += 1;
            return;
        };
        let second_choice = self.range.is_second_choice(socket.source_port);
        let (tuple, usage) = &mut self.tuples[usize::from(number)];
        if usage.sockets == 0 {
            usage.first_port = socket.source_port;
        }
        usage.sockets += 1;
        usage.second_choice += u32::from(second_choice);
        usage.sharing += u32::from(socket.shares_port);
        match socket.state {
            State::TimeWait => {
                usage.time_wait += 1;
                usage.second_choice_waiting += u32::from(second_choice);
                usage.add_time_wait(self.reuse, tuple, socket.expires, second_choice);
            }
            State::Established => usage.established += 1,
            _ => {}
        }
    }

    /// The number of a socket's tuple.
    fn number_of(&mut self, socket: &Socket) -> Option<u16> {
        let slot = recent_slot(&socket.destination, socket.destination_port);
        if let Some((met, number)) = &self.recent[slot]
            && met.port == socket.destination_port
            && met.destination == socket.destination
            && met.source == socket.source
        {
            return Some(*number);
        }
        let tuple = Tuple {
            source: socket.source,
            destination: socket.destination,
            port: socket.destination_port,
        };
        let number = self.number(tuple)?;
        self.recent[slot] = Some((tuple, number));
        Some(number)
    }

    /// The number of a tuple, a new one where it is not known yet; none when there are too many.
    fn number(&mut self, tuple: Tuple) -> Option<u16> {
        if let Some(number) = self.numbers.get(&tuple) {
            return Some(*number);
        }
        if self.tuples.len() >= MOST_TUPLES {
            return None;
        }
        let number = u16::try_from(self.tuples.len()).ok()?;
        self.tuples.push((tuple, Usage::default()));
        self.numbers.insert(tuple, number);
        Some(number)
    }

    /// The tuples, by number.
    pub fn tuples(&self) -> &[(Tuple, Usage)] {
        &self.tuples
    }

    /// The local addresses that hold a port of the range.
    pub fn sources(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.taken.addresses()
    }

    /// How many ports `bind(address, 0)` finds occupied, out of the capacity. `dual` are those with an IPv6
    /// connection that stands in the way of IPv4.
    pub fn bind_used(&self, address: IpAddr, dual: &PortSet) -> u32 {
        self.taken.of(&self.ports, address, dual)
    }

    /// Ports that have an IPv6 connection, claimed or not.
    pub fn ports_with_ipv6(&self) -> &PortSet {
        self.taken.connected_ipv6()
    }

    /// Whether an IPv6 socket is on any port of the range.
    pub fn any_ipv6(&self) -> bool {
        self.taken.any_ipv6()
    }

    /// Ports that nobody claims.
    pub fn open_ports(&self) -> PortSet {
        self.ports.without(&self.claimed)
    }

    /// Those of them that have connections.
    pub fn used_ports(&self) -> PortSet {
        self.table.used().without(&self.claimed)
    }

    /// Those of them that certainly every connect() may share.
    pub fn shared_ports(&self) -> PortSet {
        // What a listener accepted shares its port by inheritance, which proves nothing once the listener has gone. It
        // shows as destinations (its clients) that have this one port.
        let single = self.tuples.iter().filter(|(_, usage)| usage.sockets == 1);
        let single = single.map(|(_, usage)| usage.first_port).collect();
        self.table.shared(single).without(&self.claimed)
    }

    /// The port and the tuple's number of each connection on these ports, of those that no local address is on twice.
    pub fn tuples_on(&self, ports: &PortSet) -> impl Iterator<Item = (u16, usize)> {
        self.table.tuples(ports)
    }

    /// What is on these ports, as far as they have connections.
    pub fn uses(&self, ports: &PortSet) -> impl Iterator<Item = PortUse> {
        self.table.uses(ports)
    }
}

/// Where a tuple to this destination is kept among the recent ones.
fn recent_slot(destination: &IpAddr, port: u16) -> usize {
    let last = match destination {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    // An odd factor, so that neighbouring addresses with neighbouring ports do not meet.
    (usize::from(port) + usize::from(last) * 37) % RECENT
}

impl Usage {
    fn add_time_wait(&mut self, reuse: Reuse, tuple: &Tuple, expires: Option<u32>, second: bool) {
        let applies = reuse.applies(tuple.source, tuple.destination);
        let recent = expires.is_none_or(forecast::recent);
        self.second_choice_recent += u32::from(second && recent);
        match expires {
            Some(expires) => {
                self.ages.get_or_insert_default().add(expires);
                if applies && reuse.old_enough(expires) {
                    self.reusable += 1;
                    self.second_choice_reusable += u32::from(second);
                }
            }
            None if applies => self.of_unknown_age += 1,
            None => {}
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::ports::sysctl::ReuseScope;

    /// A namespace with these ports and `tcp_tw_reuse` for everyone.
    pub fn sysctl(low: u16, high: u16) -> Sysctl {
        Sysctl {
            range: PortRange::new(low, high).unwrap(),
            reserved: PortSet::default(),
            reuse: Reuse {
                scope: ReuseScope::Off,
                timestamps: true,
                delay: 1000,
            },
            assumed: Vec::new(),
        }
    }

    /// A socket, closed just now where it waits, as in `socket(Established, "192.0.2.1:40000", "192.0.2.2:80")`.
    pub fn socket(state: State, from: &str, to: &str) -> Socket {
        let [from, to]: [std::net::SocketAddr; 2] = [from, to].map(|text| text.parse().unwrap());
        Socket {
            state,
            source: from.ip(),
            source_port: from.port(),
            destination: to.ip(),
            destination_port: to.port(),
            v6only: false,
            expires: (state == State::TimeWait).then_some(58_000),
            shares_port: false,
            inode: 0,
            uid: 0,
        }
    }

    fn census(sockets: &[Socket]) -> Census {
        let mut census = Census::new(&sysctl(1000, 1099), &[]);
        for socket in sockets {
            census.add(socket);
        }
        census
    }

    /// A million sockets, to a few destinations and to one each.
    #[test]
    fn memory_does_not_grow_with_the_number_of_sockets() {
        use crate::ports::evidence::Memory;
        use crate::ports::headroom::{Headroom, Named};
        use crate::ports::plan::Plan;
        use crate::ports::verdict::Verdict;

        const LIMIT_KIB: u64 = 64 * 1024;
        let peak = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let word = line.unwrap().split_ascii_whitespace().next().unwrap();
            word.parse::<u64>().unwrap()
        };
        for destinations in [20_u32, 1_000_000] {
            let before = peak();
            let mut census = Census::new(&sysctl(1024, 65_535), &[]);
            for number in 0..1_000_000_u32 {
                let to = number % destinations;
                census.add(&Socket {
                    source_port: u16::try_from(1024 + number % 64_512).unwrap(),
                    destination: Ipv4Addr::from(0x0a00_0000 + to).into(),
                    ..socket(State::TimeWait, "192.0.2.1:1024", "192.0.2.9:80")
                });
            }
            let headroom = Headroom::of(&census, &Named::default(), &mut Memory::default(), None);
            let verdict = Verdict::of(&headroom, &Plan::test());
            assert_eq!(census.states[State::TimeWait.index()], 1_000_000);
            assert!(verdict.share > 0.0);
            let grown = peak() - before;
            assert!(
                grown < LIMIT_KIB,
                "{grown} KiB for {destinations} destinations"
            );
        }
    }

    #[test]
    fn a_servers_connections_are_no_destinations() {
        let census = census(&[
            socket(State::Listen, "0.0.0.0:1080", "0.0.0.0:0"),
            socket(State::Listen, "0.0.0.0:80", "0.0.0.0:0"),
            socket(State::Established, "192.0.2.1:1080", "198.51.100.1:5000"),
            socket(State::Established, "192.0.2.1:80", "198.51.100.1:5001"),
            socket(State::SynRecv, "192.0.2.1:1090", "198.51.100.1:5002"),
        ]);
        assert!(census.tuples().is_empty());
        assert_eq!(census.claimed.len(), 1);
        assert_eq!(census.states[State::Established.index()], 2);
    }

    #[test]
    fn bind_conflicts_as_the_kernel_has_it() {
        let census = census(&[
            socket(State::Listen, "[::]:1000", "[::]:0"),
            Socket {
                v6only: true,
                ..socket(State::Listen, "[::]:1001", "[::]:0")
            },
            socket(State::Bound, "0.0.0.0:1002", "0.0.0.0:0"),
            socket(State::TimeWait, "192.0.2.1:1003", "192.0.2.9:80"),
            socket(State::Established, "[2001:db8::1]:1004", "[2001:db8::9]:80"),
            socket(State::Established, "[2001:db8::1]:1001", "[2001:db8::9]:81"),
        ]);
        let mut dual = PortSet::default();
        dual.insert(1004);
        for (address, used) in [
            ("192.0.2.1", 3),   // 1000, 1002, 1003
            ("192.0.2.7", 2),   // 1000, 1002
            ("2001:db8::1", 3), // 1000, 1001, 1004
            ("2001:db8::7", 2), // 1000, 1001
            ("0.0.0.0", 4),     // all but 1001
            ("::", 5),
        ] {
            assert_eq!(
                census.bind_used(address.parse().unwrap(), &dual),
                used,
                "{address}"
            );
        }
    }

    #[test]
    fn a_port_is_shared_where_one_address_is_on_it_twice() {
        let two_backends = |port| {
            ["192.0.2.8:80", "192.0.2.9:80"]
                .map(|to| socket(State::Established, &format!("192.0.2.1:{port}"), to))
        };
        let mut sockets = two_backends(1000).to_vec();
        sockets.extend(two_backends(1002));
        // Accepted by a listener that has gone: two clients, one port each.
        for client in ["198.51.100.1:5000", "198.51.100.1:5001"] {
            sockets.push(socket(State::Established, "192.0.2.1:1050", client));
        }
        let census = census(&sockets);
        assert_eq!(census.shared_ports().len(), 2);
        assert_eq!(census.used_ports().len(), 3);
    }

    #[test]
    fn only_an_old_time_wait_between_the_right_addresses_is_reusable() {
        let mut settings = sysctl(1000, 1099);
        settings.reuse.scope = ReuseScope::Loopback;
        let mut census = Census::new(&settings, &[]);
        for (from, to, expires) in [
            ("127.0.0.1:1001", "127.0.0.1:80", Some(10_000)),
            ("127.0.0.1:1003", "127.0.0.1:80", Some(59_900)),
            ("127.0.0.1:1004", "127.0.0.1:80", None),
            ("192.0.2.1:1001", "192.0.2.2:80", Some(10_000)),
        ] {
            census.add(&Socket {
                expires,
                ..socket(State::TimeWait, from, to)
            });
        }
        let usage: Vec<_> = census.tuples().iter().map(|(_, usage)| usage).collect();
        assert_eq!((usage[0].reusable, usage[0].of_unknown_age), (1, 1));
        assert_eq!(usage[0].second_choice_reusable, 1);
        assert_eq!((usage[1].reusable, usage[1].time_wait), (0, 1));
    }
}
