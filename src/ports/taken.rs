//! Which ports are occupied against bind(), for each local address and for the wildcards.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::port_set::PortSet;
use super::socket::Socket;

/// The most local addresses that are counted one by one, 8 KiB each.
const MOST_SOURCES: usize = 2048;

/// Which ports a local address occupies against bind().
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// By each address of its own; the wildcards are kept apart.
    addresses: Vec<(IpAddr, PortSet)>,
    numbers: HashMap<IpAddr, usize>,
    /// The address met last.
    last: usize,
    /// By 0.0.0.0, and by :: without `IPV6_V6ONLY`.
    wildcard4: PortSet,
    wildcard6: PortSet,
    /// By :: with `IPV6_V6ONLY`.
    wildcard6_only: PortSet,
    /// By any IPv4 socket, any IPv6 socket, any IPv6 socket that claims its port for IPv4, too.
    any4: PortSet,
    any6: PortSet,
    /// By any IPv6 connection.
    connected6: PortSet,
    claimed_dual: PortSet,
}

impl Taken {
    /// Notes that a socket is on its port. Returns whether its local address was there already.
    pub fn add(&mut self, socket: &Socket) -> bool {
        let port = socket.source_port;
        match socket.source {
            IpAddr::V4(_) => self.any4.insert(port),
            IpAddr::V6(_) => {
                if !socket.claims_port() {
                    self.connected6.insert(port);
                } else if !socket.v6only {
                    self.claimed_dual.insert(port);
                }
                self.any6.insert(port)
            }
        };
        match &socket.source {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => self.wildcard4.insert(port),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) if socket.v6only => self.wildcard6_only.insert(port),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => self.wildcard6.insert(port),
            address => self.number(address).is_some_and(|number| {
                self.last = number;
                self.addresses[number].1.insert(port)
            }),
        }
    }

    /// The number of a local address, a new one where it is not known yet; none when there are too many.
    fn number(&mut self, address: &IpAddr) -> Option<usize> {
        if self
            .addresses
            .get(self.last)
            .is_some_and(|(last, _)| last == address)
        {
            return Some(self.last);
        }
        if let Some(number) = self.numbers.get(address) {
            return Some(*number);
        }
        let number = self.addresses.len();
        if number >= MOST_SOURCES {
            return None;
        }
        self.addresses.push((*address, PortSet::default()));
        self.numbers.insert(*address, number);
        Some(number)
    }

    /// The local addresses that hold a port.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(|(address, _)| *address)
    }

    /// The ports that IPv6 connections are on.
    pub fn connected_ipv6(&self) -> &PortSet {
        &self.connected6
    }

    /// Whether there is an IPv6 socket at all.
    pub fn any_ipv6(&self) -> bool {
        !self.any6.is_empty()
    }

    /// How many of these ports `bind(address, 0)` finds occupied. `dual` are those with an IPv6 connection that stands in
    /// the way of IPv4.
    pub fn of(&self, ports: &PortSet, address: IpAddr, dual: &PortSet) -> u32 {
        let none = PortSet::default();
        let own = self.numbers.get(&address);
        let own = own.map_or(&none, |number| &self.addresses[*number].1);
        let others: &[&PortSet] = match address {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => &[&self.any4, &self.claimed_dual, dual],
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => &[&self.any4, &self.any6],
            IpAddr::V4(_) => &[own, &self.wildcard4, &self.wildcard6],
            IpAddr::V6(_) => &[own, &self.wildcard6, &self.wildcard6_only],
        };
        ports.covered_by(others)
    }
}
