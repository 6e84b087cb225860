//! What the kernel still grants to UDP. Pure.
//!
//! A UDP port is taken on its local address whatever the destination, connected or not: nothing is shared between
//! destinations, no parity is preferred, nothing waits. A socket that was not bound gets its port at connect() or at
//! the first sendto(), before it has an address: from a port that *no* address of its family has in use, which is what
//! `bind(0.0.0.0, 0)` or `bind([::], 0)` takes. One that was bound to an address first, with or without
//! `IP_BIND_ADDRESS_NO_PORT`, needs one that this address and the wildcards have not. `SO_REUSEADDR` and `SO_REUSEPORT`
//! let sockets share that both have them set; the kernel shows neither, and who asks here has neither.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::active::Active;
use super::census::Census;
use super::evidence::Evidence;
use super::forecast::Forecast;
use super::headroom::{Destination, Headroom, Named};
use super::sources::Source;

const ANY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

/// Computes it. What is not known is whether an IPv6 connection was bound to its address first, and so leaves IPv4 alone
/// (`IPV6_V6ONLY`): taken not to have been, unless `--active` has tried.
pub fn headroom(census: &Census, named: &Named, active: Option<&Active>) -> Headroom {
    let dual = active.map_or_else(|| census.ports_with_ipv6().clone(), Active::closed_ports);
    let capacity = census.capacity;
    let free_of = |address| capacity - census.bind_used(address, &dual);
    let wildcards = ANY
        .into_iter()
        .filter(|any| any.is_ipv4() || census.any_ipv6());
    let unbound = ANY.map(free_of);
    let mut by_source: HashMap<IpAddr, u32> = HashMap::new();
    let connected: u64 = census
        .tuples()
        .iter()
        .map(|(_, usage)| u64::from(usage.sockets))
        .sum();
    let mut destinations: Vec<_> = census
        .tuples()
        .iter()
        .filter(|(tuple, _)| named.wants(tuple))
        .map(|(tuple, usage)| {
            let bound = by_source.entry(tuple.source);
            let bound = *bound.or_insert_with(|| free_of(tuple.source));
            let unbound = unbound[usize::from(tuple.source.is_ipv6())].min(bound);
            // Who names a local address means sockets that are bound to it.
            let free = if named.sources.contains(&tuple.source) {
                bound
            } else {
                unbound
            };
            Destination {
                tuple: *tuple,
                named: named.tuples.contains(tuple),
                free,
                free_min: unbound,
                free_max: bound,
                used: capacity - free,
                sockets: usage.sockets,
                time_wait: 0,
                established: usage.established,
                reusable: 0,
                bound: false,
                forecast: Forecast::UNKNOWN,
            }
        })
        .collect();
    destinations.sort_by_key(|d| (d.free, Reverse(d.sockets), d.tuple));
    let addresses: BTreeSet<IpAddr> = if named.sources.is_empty() {
        wildcards.clone().chain(census.sources()).collect()
    } else {
        named.sources.iter().copied().collect()
    };
    let mut sources: Vec<_> = addresses
        .into_iter()
        .map(|address| {
            let free = free_of(address);
            Source {
                address,
                named: named.sources.contains(&address),
                used: capacity - free,
                free,
                seconds_left: None,
            }
        })
        .collect();
    sources.sort_by_key(|source| (source.free, source.address));
    Headroom {
        capacity,
        claimed: census.claimed.len(),
        fresh: wildcards.map(free_of).min().unwrap_or(capacity),
        // Every port of UDP is bound; there is no other way to get one.
        bind_before_connect: Evidence::Yes,
        destinations,
        sources,
        outgoing: connected + census.unlisted + u64::from(census.bound),
    }
}

/// How the ports in use grow from look to look: a straight line through them, of which only sums are kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trend {
    /// How many are in use at the first look. All sums are of what comes on top, so that where nothing does they are
    /// nothing, too, and not what floats leave over.
    first: Option<f64>,
    looks: f64,
    seconds: f64,
    used: f64,
    seconds_squared: f64,
    used_squared: f64,
    product: f64,
    free: f64,
}

impl Trend {
    /// Adds a look, so many seconds after the first.
    pub fn add(&mut self, seconds: f64, source: &Source) {
        let used = f64::from(source.used);
        let used = used - *self.first.get_or_insert(used);
        self.looks += 1.0;
        self.seconds += seconds;
        self.used += used;
        self.seconds_squared += seconds * seconds;
        self.used_squared += used * used;
        self.product += seconds * used;
        self.free = source.free.into();
    }

    /// When the last port goes, if their use grows and not only varies: by more than three times the line's own
    /// uncertainty.
    pub fn seconds_left(&self) -> Option<f64> {
        const FEWEST: f64 = 5.0;
        let spread = self.seconds_squared - self.seconds * self.seconds / self.looks;
        if self.looks < FEWEST || spread <= 0.0 {
            return None;
        }
        let rate = (self.product - self.seconds * self.used / self.looks) / spread;
        let scatter = self.used_squared - self.used * self.used / self.looks - rate * rate * spread;
        let uncertainty = (scatter.max(0.0) / (self.looks - 2.0) / spread).sqrt();
        (rate > 0.0 && rate > 3.0 * uncertainty).then(|| self.free / rate)
    }
}

/// Puts what the looks foretell where it belongs: for IPv4 and for IPv6.
pub fn foretell(headroom: &mut Headroom, trends: &[Trend; 2]) {
    let left = trends.map(|trend| trend.seconds_left());
    let of = |address: IpAddr| left[usize::from(address.is_ipv6())];
    for source in &mut headroom.sources {
        if source.address.is_unspecified() {
            source.seconds_left = of(source.address);
        }
    }
    for destination in &mut headroom.destinations {
        destination.forecast.seconds_left = of(destination.tuple.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::census::tests::{socket, sysctl};
    use crate::ports::socket::State::{Bound, Established};

    fn of(sockets: &[(crate::ports::socket::State, &str, &str)], named: &Named) -> Headroom {
        let mut census = Census::new(&sysctl(1000, 1099), &named.tuples);
        for (state, from, to) in sockets {
            census.add(&socket(*state, from, to));
        }
        headroom(&census, named, None)
    }

    fn free(headroom: &Headroom, address: &str) -> u32 {
        let address: IpAddr = address.parse().unwrap();
        let mut sources = headroom.sources.iter();
        sources.find(|s| s.address == address).unwrap().free
    }

    #[test]
    fn a_port_is_taken_on_its_address_and_for_all_who_are_not_bound() {
        let headroom = of(
            &[
                (Bound, "0.0.0.0:1000", "0.0.0.0:0"),
                (Bound, "192.0.2.1:1001", "0.0.0.0:0"),
                (Established, "192.0.2.1:1002", "192.0.2.9:53"),
                (Established, "192.0.2.2:1002", "192.0.2.9:53"),
                (Established, "[2001:db8::1]:1003", "[2001:db8::9]:53"),
                (Established, "192.0.2.2:53", "192.0.2.9:4000"),
            ],
            &Named::default(),
        );
        for (address, expected) in [
            ("192.0.2.1", 97),
            ("192.0.2.2", 98),
            ("2001:db8::1", 99),
            ("0.0.0.0", 96),
            ("::", 96),
        ] {
            assert_eq!(free(&headroom, address), expected, "{address}");
        }
        let told = &headroom.destinations[0];
        assert_eq!((told.free_min, told.free, told.free_max), (96, 96, 97));
        assert_eq!((headroom.fresh, headroom.outgoing), (96, 5));
    }

    #[test]
    fn without_ipv6_nobody_is_told_of_it() {
        let headroom = of(&[(Bound, "0.0.0.0:1000", "0.0.0.0:0")], &Named::default());
        assert_eq!(headroom.sources.len(), 1);
        assert_eq!(free(&headroom, "0.0.0.0"), 99);
    }

    #[test]
    fn growth_is_foretold_and_variation_is_not() {
        let source = |used: u32| Source {
            address: ANY[0],
            named: false,
            used,
            free: 1000 - used,
            seconds_left: None,
        };
        let left = |used: &dyn Fn(u32) -> u32| {
            let mut trend = Trend::default();
            (0..50).for_each(|look| trend.add(f64::from(look) / 10.0, &source(used(look))));
            trend.seconds_left()
        };
        // 20 a second; 98 are used after the last look.
        let grown = left(&|look| look * 2).unwrap();
        assert!((grown - 45.1).abs() < 1e-6, "{grown}");
        assert_eq!(left(&|_| 500), None);
        // Looks are never quite as far apart as they should be: what sums leave over is no growth.
        for used in 1..500 {
            let mut trend = Trend::default();
            for look in 0..200 {
                let late = f64::from((look * 7919 + used) % 1009) / 1e6;
                trend.add(f64::from(look) / 50.0 + late, &source(used));
            }
            assert_eq!(trend.seconds_left(), None, "{used}");
        }
        assert_eq!(left(&|look| 900 - look), None);
        assert_eq!(left(&|look| 500 + look * 7919 % 101), None);
        assert_eq!(Trend::default().seconds_left(), None);
    }
}
