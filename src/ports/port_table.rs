//! What connections are on each port of the range.

use super::port_set::{PortRange, PortSet};
use super::socket::Socket;

/// The most connections that are kept one by one beside the first one of their port: 4 bytes each.
const MOST_OTHERS: usize = 1 << 18;

/// A port with connections.
#[derive(Debug, Clone, Copy)]
pub struct PortUse {
    /// Its number.
    pub number: u16,
    /// connect() tries it only after all those of the other parity.
    pub second_choice: bool,
    /// The number of the tuple of one of them.
    pub first: Option<usize>,
    /// The inode of that one's socket; 0 for one that no process holds, as those in TIME_WAIT.
    pub inode: u32,
}

/// The ports of a range.
#[derive(Debug, Clone)]
pub struct PortTable {
    range: PortRange,
    /// [`Port`]s, packed: zeros of an integer take no memory until they are written.
    table: Vec<u64>,
    /// Ports, and the numbers of tuples from other local addresses than those that were there before.
    others: Vec<(u16, u16)>,
    /// Ports that the table knows something of. It is read nowhere else.
    used: PortSet,
    /// Those of them that a local address was seen on twice.
    twice: PortSet,
    /// Those of them where a socket told that it shares.
    sharing: PortSet,
}

/// What is known of one port, in 8 bytes: there may be 65 000, and they are met in no order.
#[derive(Debug, Clone, Copy, Default)]
struct Port {
    /// The number of the tuple that was seen on it first, plus one.
    first: u16,
    /// Connections on it.
    sockets: u16,
    /// The inode of the first one's socket, 0 for none.
    inode: u32,
}

impl Port {
    fn pack(self) -> u64 {
        u64::from(self.first) | u64::from(self.sockets) << 16 | u64::from(self.inode) << 32
    }

    fn unpack(word: u64) -> Self {
        let [a, b, c, d, inode @ ..] = word.to_le_bytes();
        Self {
            first: u16::from_le_bytes([a, b]),
            sockets: u16::from_le_bytes([c, d]),
            inode: u32::from_le_bytes(inode),
        }
    }
}

impl PortTable {
    /// An empty one.
    pub fn new(range: PortRange) -> Self {
        Self {
            range,
            table: vec![0; range.size() as usize],
            others: Vec::new(),
            used: PortSet::default(),
            twice: PortSet::default(),
            sharing: PortSet::default(),
        }
    }

    /// Counts a connection on a port of the range. `tuple` is the number of its tuple, `twice` whether its local address
    /// is on this port already.
    pub fn add(&mut self, socket: &Socket, tuple: Option<u16>, twice: bool) {
        let place = usize::from(socket.source_port - self.range.low);
        let mut port = Port::default();
        if self.used.insert(socket.source_port) {
            port = Port::unpack(self.table[place]);
        }
        port.sockets = port.sockets.saturating_add(1);
        if port.first == 0 {
            (port.first, port.inode) = (tuple.map_or(0, |number| number + 1), socket.inode);
        } else if !twice && self.others.len() < MOST_OTHERS {
            let number = tuple.map(|number| (socket.source_port, number));
            self.others.extend(number);
        }
        self.table[place] = port.pack();
        if twice {
            self.twice.insert(socket.source_port);
        }
        if socket.shares_port {
            self.sharing.insert(socket.source_port);
        }
    }

    /// The ports with connections.
    pub fn used(&self) -> &PortSet {
        &self.used
    }

    /// The ports that certainly are shared: by a local address that is there twice, or as a socket says. `single` are
    /// ports of tuples that have no other; where there are only such, an address that is there twice proves nothing.
    pub fn shared(&self, mut single: Vec<u16>) -> PortSet {
        let mut shared = self.twice.clone();
        single.sort_unstable();
        for singles in single.chunk_by(|a, b| a == b) {
            if usize::from(self.port(singles[0]).sockets) <= singles.len() {
                shared.remove(singles[0]);
            }
        }
        shared.add_all(&self.sharing);
        shared
    }

    /// What is on these ports, as far as they have connections.
    pub fn uses(&self, ports: &PortSet) -> impl Iterator<Item = PortUse> {
        let used = ports.iter().filter(|port| self.used.contains(*port));
        used.map(|number| {
            let port = self.port(number);
            PortUse {
                number,
                second_choice: self.range.is_second_choice(number),
                first: port.first.checked_sub(1).map(usize::from),
                inode: port.inode,
            }
        })
    }

    /// The numbers of the tuples on these ports that no local address is on twice, and the port of each of their sockets.
    pub fn tuples(&self, ports: &PortSet) -> impl Iterator<Item = (u16, usize)> {
        let others = self.others.iter();
        let others = others.map(|(port, tuple)| (*port, usize::from(*tuple)));
        self.uses(ports)
            .filter_map(|port| Some((port.number, port.first?)))
            .chain(others.filter(|(port, _)| ports.contains(*port)))
    }

    fn port(&self, number: u16) -> Port {
        Port::unpack(self.table[usize::from(number - self.range.low)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::census::tests::socket;
    use crate::ports::socket::State::Established;

    #[test]
    fn what_was_put_into_a_port_comes_out_of_it() {
        let mut table = PortTable::new(PortRange::new(1000, 1099).unwrap());
        for (port, tuple, twice, inode) in [
            ("1001", Some(7), false, 4_000_000_000),
            ("1001", Some(8), true, 5),
            ("1099", Some(32_767), false, 0),
            ("1098", None, false, 6),
        ] {
            let from = format!("192.0.2.1:{port}");
            let socket = Socket {
                inode,
                shares_port: port == "1099",
                ..socket(Established, &from, "192.0.2.9:80")
            };
            table.add(&socket, tuple, twice);
        }
        let told: Vec<_> = table
            .uses(table.used())
            .map(|port| (port.number, port.second_choice, port.first, port.inode))
            .collect();
        assert_eq!(
            told,
            [
                (1001, true, Some(7), 4_000_000_000),
                (1098, false, None, 6),
                (1099, true, Some(32_767), 0)
            ]
        );
        // Tuple 8 is from an address that is there already.
        assert!(table.tuples(table.used()).eq([(1001, 7), (1099, 32_767)]));
        let elsewhere = socket(Established, "192.0.2.2:1099", "192.0.2.9:80");
        table.add(&elsewhere, Some(9), false);
        let mut port = PortSet::default();
        port.insert(1099);
        assert!(table.tuples(&port).eq([(1099, 32_767), (1099, 9)]));
        assert!(table.shared(Vec::new()).iter().eq([1001, 1099]));
        assert!(table.shared(vec![1001]).iter().eq([1001, 1099]));
        assert!(table.shared(vec![1001, 1001]).iter().eq([1099]));
    }
}
