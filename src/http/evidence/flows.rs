//! Captured packets by connection: those of the probes that are under way or are kept, and nobody else's. Bounded.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::capture::{Frame, Ring};
use super::filter;

/// How much of the packets of one connection is kept.
const FLOW_LIMIT: usize = 1 << 20;

/// The same of all connections together.
const LIMIT: usize = 64 << 20;

/// How long after a probe's end packets still belong to it: the farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// PACKET_OUTGOING.
const OUTGOING: u8 = 4;

/// A captured packet.
#[derive(Debug, Clone)]
pub struct Packet {
    /// When it passed, in nanoseconds since 1970.
    pub nanoseconds: u64,
    /// Its length, from the IP header on.
    pub length: u32,
    /// The number of its interface.
    pub interface: u32,
    /// The kind of its interface (ARPHRD_*).
    pub hardware: u16,
    /// Whose it is (PACKET_HOST …).
    pub kind: u8,
    /// The protocol, by its Ethernet number.
    pub protocol: u16,
    /// The sender's hardware address, and how much of it counts.
    pub address: ([u8; 8], u8),
    /// Whether this host sent it.
    pub outbound: bool,
    /// Its TCP header.
    pub tcp: Tcp,
    /// Its bytes, from the IP header on.
    pub bytes: Bytes,
}

/// What a TCP header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// The number of its first byte.
    pub sequence: u32,
    /// Whether it opens the connection.
    pub syn: bool,
    /// Where in the packet the data begins.
    pub data: usize,
    /// Where it ends, by the IP header: short packets are padded.
    pub end: usize,
}

/// This host's end of a connection and the other one.
type Ends = (SocketAddr, SocketAddr);

/// What captures packets, for all probes of a run and its rounds.
#[derive(Debug)]
pub struct Sniffer(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    ring: Ring,
    /// The servers that the kernel looks for, the oldest first.
    servers: VecDeque<SocketAddr>,
    flows: HashMap<u64, Flow>,
    /// The connections by their ends: the numbers of those that had them, the latest last.
    by_ends: HashMap<Ends, Vec<u64>>,
    number: u64,
    /// The bytes of all packets that are kept.
    size: usize,
}

#[derive(Debug)]
struct Flow {
    ends: Ends,
    /// The first and the last moment whose packets are its own, in nanoseconds since 1970.
    since: u64,
    until: u64,
    packets: Vec<Packet>,
    size: usize,
    /// Packets that there was no room for.
    left_out: u64,
}

impl Sniffer {
    /// Opens a packet socket. It takes CAP_NET_RAW.
    #[cold]
    pub fn open() -> io::Result<Arc<Self>> {
        let ring = Ring::open()?;
        Ok(Arc::new(Self(Mutex::new(Inner {
            ring,
            servers: VecDeque::new(),
            flows: HashMap::new(),
            by_ends: HashMap::new(),
            number: 0,
            size: 0,
        }))))
    }

    /// Takes what the kernel has handed over.
    pub fn drain(&self) {
        self.lock().drain();
    }

    /// How many packets the kernel had no room for.
    pub fn lost(&self) -> u64 {
        self.lock().ring.lost()
    }

    /// The socket, which becomes readable when there is something to take.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.lock().ring.as_fd().try_clone_to_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn expect(&mut self, server: SocketAddr) {
        if self.servers.contains(&server) {
            return;
        }
        if self.servers.len() == filter::MOST {
            self.servers.pop_front();
        }
        self.servers.push_back(server);
        // Without it no packets come, and the report says that there are none.
        let _ = self
            .ring
            .filter(&filter::program(self.servers.make_contiguous()));
    }

    fn follow(&mut self, ends: Ends, since: u64) -> u64 {
        self.number += 1;
        let number = self.number;
        self.flows.insert(
            number,
            Flow {
                ends,
                since,
                until: u64::MAX,
                packets: Vec::new(),
                size: 0,
                left_out: 0,
            },
        );
        self.by_ends.entry(ends).or_default().push(number);
        number
    }

    fn release(&mut self, number: u64) {
        let Some(flow) = self.flows.remove(&number) else {
            return;
        };
        self.size -= flow.size;
        if let Some(numbers) = self.by_ends.get_mut(&flow.ends) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_ends.remove(&flow.ends);
            }
        }
    }

    fn drain(&mut self) {
        let Self {
            ring,
            flows,
            by_ends,
            size,
            ..
        } = self;
        ring.drain(|frame| {
            let Some((source, destination, tcp)) = parse(frame.bytes) else {
                return;
            };
            let outbound = by_ends.contains_key(&(source, destination));
            let ends = if outbound {
                (source, destination)
            } else {
                (destination, source)
            };
            let numbers = by_ends.get(&ends).map_or(&[][..], Vec::as_slice);
            // A port that is used again: the latest connection that had begun by then.
            let number = numbers.iter().rev().find(|number| {
                flows
                    .get(number)
                    .is_some_and(|f| f.since <= frame.nanoseconds)
            });
            if let Some(flow) = number.and_then(|number| flows.get_mut(number)) {
                *size += flow.take(frame, outbound, tcp, LIMIT.saturating_sub(*size));
            }
        });
    }
}

impl Flow {
    /// Takes a packet if it is its own and there is room; returns how much that took.
    fn take(&mut self, frame: &Frame<'_>, outbound: bool, tcp: Tcp, room: usize) -> usize {
        if frame.nanoseconds > self.until {
            return 0;
        }
        let closing = self.until != u64::MAX;
        if closing && outbound && tcp.syn && frame.nanoseconds + nanoseconds(FAREWELL) > self.until
        {
            // Somebody else was given the port.
            self.until = frame.nanoseconds.saturating_sub(1);
            return 0;
        }
        if self.size + frame.bytes.len() > FLOW_LIMIT || frame.bytes.len() > room {
            self.left_out += 1;
            return 0;
        }
        self.packets.push(Packet {
            nanoseconds: frame.nanoseconds,
            length: frame.length,
            interface: frame.interface,
            hardware: frame.hardware,
            // On loopback it was taken as it arrived.
            kind: if outbound { OUTGOING } else { frame.kind },
            protocol: frame.protocol,
            address: frame.address,
            outbound,
            tcp,
            bytes: Bytes::copy_from_slice(frame.bytes),
        });
        self.size += frame.bytes.len();
        frame.bytes.len()
    }
}

/// The packets of one exchange's connections. They are kept as long as this is.
#[derive(Debug)]
pub struct Tap {
    sniffer: Arc<Sniffer>,
    flows: Vec<u64>,
}

impl Tap {
    /// An empty one.
    pub fn new(sniffer: &Arc<Sniffer>) -> Self {
        Self {
            sniffer: Arc::clone(sniffer),
            flows: Vec::new(),
        }
    }

    /// Has the kernel look for a server.
    pub fn expect(&self, remote: SocketAddr) {
        self.sniffer.lock().expect(remote);
    }

    /// Keeps the packets of a connection that began at `since`.
    pub fn follow(&mut self, local: SocketAddr, remote: SocketAddr, since: SystemTime) {
        // Packets tell no zone.
        let ends = [local, remote].map(|end| SocketAddr::new(end.ip(), end.port()));
        let number = self.sniffer.lock().follow(ends.into(), stamp(since));
        self.flows.push(number);
    }

    /// The exchange is over: packets come for a moment yet.
    pub fn close(&self) {
        let mut inner = self.sniffer.lock();
        let until = stamp(SystemTime::now() + FAREWELL);
        for number in &self.flows {
            if let Some(flow) = inner.flows.get_mut(number) {
                flow.until = flow.until.min(until);
            }
        }
    }

    /// Whether there was no connection.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// The packets so far by connection, and how many there was no room for.
    pub fn packets(&self) -> (Vec<Vec<Packet>>, u64) {
        let inner = self.sniffer.lock();
        let flows = self.flows.iter().filter_map(|n| inner.flows.get(n));
        let mut left_out = 0;
        let packets = flows
            .map(|flow| {
                left_out += flow.left_out;
                seen_once(&flow.packets)
            })
            .collect();
        (packets, left_out)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut inner = self.sniffer.lock();
        for number in &self.flows {
            inner.release(*number);
        }
    }
}

/// A connection's packets, each once: below a bridge, a bond or a VLAN there are further interfaces that see them. The
/// one that the first packet left by is the one that has the address.
fn seen_once(packets: &[Packet]) -> Vec<Packet> {
    let first = packets.iter().find(|packet| packet.outbound);
    let answers: HashSet<u32> = packets
        .iter()
        .filter(|packet| !packet.outbound)
        .map(|packet| packet.interface)
        .collect();
    // Answers may come by another way than the questions went.
    let only = first
        .map(|packet| packet.interface)
        .filter(|interface| answers.is_empty() || answers.contains(interface));
    packets
        .iter()
        .filter(|packet| only.is_none_or(|only| packet.interface == only))
        .cloned()
        .collect()
}

fn stamp(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    nanoseconds(since)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Source, destination and TCP header of a packet that begins with its IP header.
pub(super) fn parse(packet: &[u8]) -> Option<(SocketAddr, SocketAddr, Tcp)> {
    let half = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let (source, destination, header, end): (IpAddr, IpAddr, _, _) = match packet.first()? >> 4 {
        4 => {
            let address = |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok();
            let header = usize::from(packet[0] & 15) * 4;
            (
                address(12)?.into(),
                address(16)?.into(),
                header,
                usize::from(half(2)?),
            )
        }
        6 => {
            let address = |at: usize| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok();
            let end = 40 + usize::from(half(4)?);
            (address(8)?.into(), address(24)?.into(), 40, end)
        }
        _ => return None,
    };
    // A packet above 64 KiB says zero.
    let end = match end {
        0 | 40 => packet.len(),
        end => end.min(packet.len()),
    };
    let word = packet.get(header + 4..header + 8)?;
    let data = header + usize::from(packet.get(header + 12)? >> 4) * 4;
    let tcp = Tcp {
        sequence: u32::from_be_bytes(word.try_into().ok()?),
        syn: packet.get(header + 13)? & 2 != 0,
        data: data.min(end),
        end,
    };
    Some((
        (source, half(header)?).into(),
        (destination, half(header + 2)?).into(),
        tcp,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(interface: u32, outbound: bool) -> Packet {
        Packet {
            nanoseconds: 0,
            length: 0,
            interface,
            hardware: 1,
            kind: 0,
            protocol: 0x800,
            address: ([0; 8], 0),
            outbound,
            tcp: Tcp {
                sequence: 0,
                syn: false,
                data: 0,
                end: 0,
            },
            bytes: Bytes::new(),
        }
    }

    #[test]
    fn a_packet_that_passes_two_interfaces_is_kept_once() {
        for (passed, kept) in [
            // Out by the bridge and its port, in by the port and the bridge.
            (
                &[(5, true), (7, true), (7, false), (5, false)][..],
                &[5, 5][..],
            ),
            // Answers by another way.
            (&[(5, true), (6, false)], &[5, 6]),
            // No answer at all.
            (&[(5, true), (7, true), (5, true), (7, true)], &[5, 5]),
            (&[], &[]),
        ] {
            let packets: Vec<_> = passed.iter().map(|(i, out)| packet(*i, *out)).collect();
            let once = seen_once(&packets);
            let interfaces: Vec<_> = once.iter().map(|packet| packet.interface).collect();
            assert_eq!(interfaces, kept, "{passed:?}");
        }
    }

    #[test]
    fn a_header_is_read_and_nonsense_is_not() {
        let mut bytes = vec![0x45, 0, 0, 42, 0, 0, 0, 0, 64, 6, 0, 0];
        bytes.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        bytes.extend([
            0x9c, 0x40, 0, 80, 0, 0, 1, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
        ]);
        // Two bytes of data, and four of padding.
        bytes.extend(*b"ab\0\0\0\0");
        let (source, destination, tcp) = parse(&bytes).unwrap();
        assert_eq!(source, "192.0.2.1:40000".parse().unwrap());
        assert_eq!(destination, "192.0.2.2:80".parse().unwrap());
        let expected = Tcp {
            sequence: 256,
            syn: true,
            data: 40,
            end: 42,
        };
        assert_eq!(tcp, expected);
        for length in 0..33 {
            assert!(parse(&bytes[..length]).is_none(), "{length}");
        }
        for first in [0x00, 0x4f, 0x60, 0xff] {
            bytes[0] = first;
            let _ = parse(&bytes);
        }
    }
}
