//! The kernel's TCP and UDP sockets over `NETLINK_SOCK_DIAG`, one record after the other, nothing kept.
//!
//! Structures and numbers are those of `include/uapi/linux/{inet_diag,sock_diag,netlink}.h`. The replies carry what
//! the netlink-packet-sock-diag crate leaves out (the TIME_WAIT timer), and there are 55 000 of them in 20 ms: they
//! are read in place.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer};
use netlink_sys::Socket as Netlink;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::socket::{Socket, State};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

/// The message types of requests; replies carry the same.
const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Attributes of a reply.
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_SOCKOPT: u16 = 22;

/// Bits of the states to show: all, and bit 13 for bound sockets (`TCP_BOUND_INACTIVE`, Linux 6.8; ignored before).
const EVERY_STATE: u32 = 0b11_1111_1111_1110;
const BOUND: u32 = 1 << 13;
/// Those that claim a port.
const CLAIMING: u32 = 1 << 10 | BOUND;
/// Those of UDP: unconnected (the number of `TCP_CLOSE`), and connected.
const UDP_STATES: [u32; 2] = [1 << 7, 1 << 1];

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct inet_diag_sockid`, which requests leave empty to mean any socket.
const SOCKET_ID: usize = 48;
/// Length of `struct inet_diag_msg`.
const REPLY: usize = 72;
/// The kernel fills at most 32 KiB a message, whatever the reader offers.
const BUFFER: usize = 32 * 1024;
/// A dump never waits for anything; a kernel that is silent for so long has no answer.
const SILENCE: Duration = Duration::from_secs(5);

/// How to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `TCPDIAG_GETSOCK`: both families in one walk of the table, the listeners first.
    OneWalk,
    /// `SOCK_DIAG_BY_FAMILY`: a walk for each family, those that claim a port asked for first.
    ByFamily,
    /// The same for UDP, which has no other.
    Udp,
}

/// Gives every socket of this thread's network namespace to `each`: those that claim a port first.
///
/// Looking for bound sockets that neither listen nor are connected costs as much as all the others, as the kernel has to
/// go through every port in use; without `bound` it is left out. UDP has them in its one table.
///
/// An error means that the kernel or a seccomp filter refused; `each` may have seen some sockets by then.
pub fn dump(dialect: Dialect, bound: bool, mut each: impl FnMut(&Socket)) -> io::Result<()> {
    let wanted = if bound {
        EVERY_STATE
    } else {
        EVERY_STATE & !BOUND
    };
    let socket = open()?;
    set_socket_timeout(&socket, Timeout::Recv, Some(SILENCE))?;
    let requests: &[Vec<u8>] = &match dialect {
        Dialect::OneWalk => vec![one_walk(wanted)],
        Dialect::ByFamily => by_families(IPPROTO_TCP, [CLAIMING & wanted, wanted & !CLAIMING]),
        Dialect::Udp => by_families(IPPROTO_UDP, UDP_STATES),
    };
    let mut buffer = Vec::with_capacity(BUFFER);
    for request in requests {
        socket.send(request, 0)?;
        loop {
            receive(&socket, &mut buffer)?;
            if read_messages(&buffer, &mut each)? {
                break;
            }
        }
    }
    Ok(())
}

/// Opens a socket that is asked for what everybody may know. The kernel adds to each connection what is for those alone who may
/// administer the network, which takes it an eighth of its time; it goes by the rights of whoever opened the socket.
fn open() -> io::Result<Netlink> {
    let rights = capabilities(None)
        .ok()
        .filter(|rights| rights.effective.contains(CapabilitySet::NET_ADMIN));
    if let Some(mut rights) = rights {
        rights.effective.remove(CapabilitySet::NET_ADMIN);
        // Where that is refused, the answer is the same and comes later.
        let _ = set_capabilities(None, rights);
    }
    let socket = Netlink::new(NETLINK_SOCK_DIAG);
    if let Some(rights) = rights {
        let _ = set_capabilities(None, rights);
    }
    socket
}

/// Receives one datagram.
fn receive(socket: &Netlink, buffer: &mut Vec<u8>) -> io::Result<()> {
    loop {
        buffer.clear();
        match socket.recv(buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received.map(drop),
        }
    }
}

fn one_walk(states: u32) -> Vec<u8> {
    // struct inet_diag_req: family, source and destination length, extensions, socket, states, bound device
    let mut body = vec![0; 4 + SOCKET_ID];
    body.extend(states.to_ne_bytes());
    body.extend(0_u32.to_ne_bytes());
    request(TCPDIAG_GETSOCK, &body)
}

/// A request for each family, first for the one states, then for the others.
fn by_families(protocol: u8, states: [u32; 2]) -> Vec<Vec<u8>> {
    let both = |states| [AF_INET, AF_INET6].map(|family| by_family(protocol, family, states));
    states.into_iter().flat_map(both).collect()
}

fn by_family(protocol: u8, family: u8, states: u32) -> Vec<u8> {
    // struct inet_diag_req_v2: family, protocol, extensions, padding, states, socket
    let mut body = vec![family, protocol, 0, 0];
    body.extend(states.to_ne_bytes());
    body.resize(8 + SOCKET_ID, 0);
    request(SOCK_DIAG_BY_FAMILY, &body)
}

fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message.extend(body);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut header = NetlinkBuffer::new(&mut message);
    header.set_length(length);
    header.set_message_type(kind);
    header.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
    header.set_sequence_number(1);
    message
}

/// Reads the messages of one datagram. Returns whether they end the dump.
///
/// By hand, and so are the attributes: the crate's views check each field's range anew, and half of the time that this
/// side takes went there.
pub(super) fn read_messages(mut bytes: &[u8], each: &mut impl FnMut(&Socket)) -> io::Result<bool> {
    while !bytes.is_empty() {
        let (length, kind) = header(bytes).ok_or_else(broken)?;
        let payload = bytes.get(HEADER..length).ok_or_else(broken)?;
        match kind {
            NLMSG_ERROR | NLMSG_DONE => {
                // Both begin with a negative error number, or zero; an old NLMSG_DONE may be empty.
                let code = payload
                    .first_chunk()
                    .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                return match (kind, code) {
                    (_, ..0) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                    (NLMSG_DONE, _) => Ok(true),
                    _ => Err(broken()),
                };
            }
            TCPDIAG_GETSOCK | SOCK_DIAG_BY_FAMILY => {
                if let Some(socket) = read_socket(payload) {
                    each(&socket);
                }
            }
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Length and type out of a `struct nlmsghdr`.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?);
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    Some((usize::try_from(length).ok()?, kind))
}

fn broken() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the kernel's reply is no netlink message",
    )
}

/// Reads a `struct inet_diag_msg` and its attributes. `None` for a family or state of the future.
fn read_socket(payload: &[u8]) -> Option<Socket> {
    let (head, attributes) = payload.split_at_checked(REPLY)?;
    let family = head[0];
    let state = State::from_number(head[1])?;
    let word = |at: usize| {
        head[at..]
            .first_chunk()
            .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    };
    let port = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let mut socket = Socket {
        state,
        source: address(family, &head[8..24])?,
        source_port: port(4),
        destination: address(family, &head[24..40])?,
        destination_port: port(6),
        v6only: false,
        expires: (state == State::TimeWait).then(|| word(52)),
        shares_port: false,
        uid: word(64),
        inode: word(68),
    };
    let mut rest = attributes;
    while let Some((kind, value, next)) = attribute(rest) {
        match (kind, value) {
            (INET_DIAG_SKV6ONLY, [flag, ..]) => socket.v6only = *flag != 0,
            // struct inet_diag_sockopt: two bytes of flags, bind_address_no_port the first of the second
            (INET_DIAG_SOCKOPT, [_, flags, ..]) => socket.shares_port = flags & 1 != 0,
            _ => {}
        }
        rest = next;
    }
    Some(socket)
}

/// The first attribute's kind and value, and what follows it; `None` at the end and for a torn one.
fn attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let [low, high, kind_low, kind_high] = *bytes.first_chunk()?;
    let length = usize::from(u16::from_ne_bytes([low, high]));
    let value = bytes.get(4..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([kind_low, kind_high]), value, next))
}

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        AF_INET6 => {
            let address = Ipv6Addr::from(*bytes.first_chunk::<16>()?);
            Some(address.to_ipv4_mapped().map_or(address.into(), IpAddr::V4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = request(kind, payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn time_wait() -> Vec<u8> {
        let mut reply = vec![0; REPLY];
        reply[..4].copy_from_slice(&[AF_INET6, 6, 3, 0]);
        reply[4..8].copy_from_slice(&[0x9c, 0x40, 0x1f, 0x90]);
        reply[18..24].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        reply[24..40].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        reply[52..56].copy_from_slice(&59_000_u32.to_ne_bytes());
        reply
    }

    #[test]
    fn a_reply_reads_as_the_socket_it_tells_of() {
        let socket = read_socket(&time_wait()).unwrap();
        assert_eq!(socket.source, "192.0.2.1".parse::<IpAddr>().unwrap());
        assert_eq!(socket.destination, "::1".parse::<IpAddr>().unwrap());
        assert_eq!((socket.source_port, socket.destination_port), (40000, 8080));
        assert_eq!(
            (socket.state, socket.expires),
            (State::TimeWait, Some(59_000))
        );
    }

    #[test]
    fn options_come_from_the_attributes() {
        let mut reply = time_wait();
        reply.extend([6, 0, 22, 0, 0, 1, 0, 0, 5, 0, 11, 0, 1, 0, 0, 0]);
        let socket = read_socket(&reply).unwrap();
        assert!(socket.shares_port && socket.v6only);
    }

    #[test]
    fn a_dump_ends_with_done_and_fails_with_the_kernels_error() {
        let mut seen = 0;
        let mut each = |_: &Socket| seen += 1;
        let mut bytes = message(TCPDIAG_GETSOCK, &time_wait());
        assert!(!read_messages(&bytes, &mut each).unwrap());
        bytes.extend(message(NLMSG_DONE, &0_i32.to_ne_bytes()));
        assert!(read_messages(&bytes, &mut each).unwrap());
        let refused = message(NLMSG_ERROR, &(-1_i32).to_ne_bytes());
        let error = read_messages(&refused, &mut each).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(seen, 2);
    }

    #[test]
    fn both_dialects_show_the_same_sockets() {
        let listeners = ["0.0.0.0:0", "[::]:0", "127.0.0.1:0"]
            .map(|address| std::net::TcpListener::bind(address).unwrap());
        let ports = listeners.map(|listener| (listener.local_addr().unwrap().port(), listener));
        // Of all the others some may come or go between the two.
        let [one_walk, by_family] = [Dialect::OneWalk, Dialect::ByFamily].map(|dialect| {
            let mut seen = Vec::new();
            dump(dialect, true, |socket| {
                let ours = ports.iter().any(|(port, _)| *port == socket.source_port);
                if ours && socket.state == State::Listen {
                    seen.push(*socket);
                }
            })
            .unwrap();
            seen.sort_by_key(|socket| (socket.source_port, socket.source));
            seen
        });
        assert_eq!(one_walk.len(), 3);
        assert_eq!(one_walk, by_family);
    }

    #[test]
    fn what_is_for_administrators_alone_is_not_asked_for_and_their_rights_stay() {
        /// `INET_DIAG_MARK`.
        const MARK: u16 = 15;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let port = client.local_addr().unwrap().port().to_be_bytes();
        let before = capabilities(None).unwrap();
        let socket = open().unwrap();
        assert_eq!(capabilities(None).unwrap(), before);
        socket.send(&one_walk(EVERY_STATE), 0).unwrap();
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut seen = 0;
        loop {
            receive(&socket, &mut buffer).unwrap();
            let mut rest = &buffer[..];
            while let Some((length, TCPDIAG_GETSOCK)) = header(rest) {
                let (head, mut attributes) = rest[HEADER..length].split_at(REPLY);
                while let Some((kind, _, next)) = attribute(attributes) {
                    assert!(head[4..6] != port || kind != MARK);
                    attributes = next;
                }
                seen += usize::from(head[4..6] == port);
                rest = &rest[length.next_multiple_of(4)..];
            }
            if read_messages(&buffer, &mut |_| {}).unwrap() {
                break;
            }
        }
        assert!(seen > 0);
    }

    #[test]
    fn torn_messages_are_an_error_or_nothing_but_never_a_panic() {
        let whole = message(TCPDIAG_GETSOCK, &time_wait());
        for length in 1..whole.len() {
            assert!(
                read_messages(&whole[..length], &mut |_| {}).is_err(),
                "{length}"
            );
        }
        for length in 0..REPLY {
            assert_eq!(read_socket(&time_wait()[..length]), None);
        }
        let code = message(NLMSG_ERROR, &i32::MIN.to_ne_bytes());
        assert!(read_messages(&code, &mut |_| {}).is_err());
    }
}
