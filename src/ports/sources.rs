//! The ports of local addresses for bind(). Pure.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::census::Census;
use super::closing::Closing;
use super::evidence::Chooser;
use super::headroom::{Destination, Named};
use super::port_set::PortSet;

/// The ports of one local address for bind(address, 0).
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The address; a wildcard needs a port that no address has in use.
    pub address: IpAddr,
    /// Asked for by name.
    pub named: bool,
    /// Ports in use, by any socket in any state.
    pub used: u32,
    /// Ports free.
    pub free: u32,
    /// When the last one goes, where that can be foretold: from the TIME_WAITs of who binds first; with UDP, for the wildcards.
    pub seconds_left: Option<f64>,
}

/// Ports with an IPv6 connection that IPv4's wildcard cannot be bound beside. A socket that was bound to an IPv6
/// address first has `IPV6_V6ONLY` from that, whether or not it chose its port then; the kernel shows neither.
pub fn dual_connections(census: &Census, choosers: &[Chooser]) -> PortSet {
    let v6only = |number: usize| {
        let (tuple, usage) = &census.tuples()[number];
        tuple.source.is_ipv6() && (usage.sharing > 0 || choosers[number] != Chooser::Connect)
    };
    // What a listener accepted has it from the listener, which is known.
    let mut dual = census.ports_with_ipv6().without(&census.claimed);
    for port in census.uses(&dual.clone()) {
        if port.first.is_some_and(v6only) {
            dual.remove(port.number);
        }
    }
    dual
}

/// The addresses from which somebody connects, and the wildcards.
pub fn sources(
    census: &Census,
    named: &Named,
    destinations: &[Destination],
    dual: &PortSet,
    closing: &Closing,
) -> Vec<Source> {
    let addresses: HashSet<IpAddr> = if named.sources.is_empty() {
        let v6 = census.sources().any(|address| address.is_ipv6());
        let wildcards = [
            Some(Ipv4Addr::UNSPECIFIED.into()),
            v6.then_some(Ipv6Addr::UNSPECIFIED.into()),
        ];
        destinations
            .iter()
            .map(|destination| destination.tuple.source)
            .chain(wildcards.into_iter().flatten())
            .collect()
    } else {
        named.sources.iter().copied().collect()
    };
    let mut sources: Vec<_> = addresses
        .into_iter()
        .map(|address| {
            let used = census.bind_used(address, dual);
            let free = census.capacity - used;
            Source {
                address,
                named: named.sources.contains(&address),
                used,
                free,
                seconds_left: closing.seconds_left(address, free),
            }
        })
        .collect();
    sources.sort_by_key(|source| (source.free, source.address));
    sources
}
