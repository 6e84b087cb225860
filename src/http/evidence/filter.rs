//! The program by which the kernel picks packets: classic BPF. What is not for the servers that probes go to never
//! reaches this process. No I/O.
//!
//! The packet begins with the IP header: the socket is one of SOCK_DGRAM, which knows no header below it.

use std::net::{IpAddr, SocketAddr};

use libc::sock_filter;

/// The most servers that are looked for at the same time: enough for paths, proxies and redirects, and a program that
/// every packet of this host goes through must be short.
pub const MOST: usize = 64;

/// As much of a packet as there is.
const ALL: u32 = 0x0004_0000;

// Operations, by the names of linux/filter.h.
const LD_WORD: u16 = 0x20;
const LD_HALF: u16 = 0x28;
const LD_BYTE: u16 = 0x30;
const LD_HALF_BEHIND_X: u16 = 0x48;
/// X becomes the length of an IPv4 header.
const LDX_HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

// What the kernel tells of a packet beside its bytes (SKF_AD_OFF and what is behind it).
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
const HARDWARE_TYPE: u32 = 0xffff_f000 + 28;

const OUTGOING: u32 = 4;
const LOOPBACK: u32 = 772;
const TCP: u32 = 6;

fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// A program that takes the TCP packets from and to these servers. On loopback each packet is seen twice, as it leaves
/// and as it arrives: it takes the latter.
pub fn program(servers: &[SocketAddr]) -> Vec<sock_filter> {
    let mut v4 = vec![
        step(LD_BYTE, 0, 0, 9),
        step(JUMP_IF_EQUAL, 1, 0, TCP),
        step(RETURN, 0, 0, 0),
        // The second and later fragments have no ports.
        step(LD_HALF, 0, 0, 6),
        step(JUMP_IF_SET, 0, 1, 0x1fff),
        step(RETURN, 0, 0, 0),
        step(LDX_HEADER_LENGTH, 0, 0, 0),
    ];
    let mut v6 = vec![
        step(LD_BYTE, 0, 0, 6),
        step(JUMP_IF_EQUAL, 1, 0, TCP),
        step(RETURN, 0, 0, 0),
    ];
    for server in servers.iter().take(MOST) {
        match server.ip() {
            IpAddr::V4(address) => {
                let address = u32::from(address);
                // As the destination, and as the source: address and port.
                for (at, port) in [(16, 2), (12, 0)] {
                    v4.extend([
                        step(LD_WORD, 0, 0, at),
                        step(JUMP_IF_EQUAL, 0, 3, address),
                        step(LD_HALF_BEHIND_X, 0, 0, port),
                        step(JUMP_IF_EQUAL, 0, 1, u32::from(server.port())),
                        step(RETURN, 0, 0, ALL),
                    ]);
                }
            }
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                for (at, port) in [(24, 42), (8, 40)] {
                    for word in 0..4 {
                        // To the next comparison: over the rest of this one.
                        let rest = u8::try_from(9 - 2 * word).unwrap_or(0);
                        #[allow(clippy::cast_possible_truncation)] // a word of it, on purpose
                        let part = (bits >> (96 - 32 * word)) as u32;
                        v6.extend([
                            step(LD_WORD, 0, 0, at + 4 * word),
                            step(JUMP_IF_EQUAL, 0, rest, part),
                        ]);
                    }
                    v6.extend([
                        step(LD_HALF, 0, 0, port),
                        step(JUMP_IF_EQUAL, 0, 1, u32::from(server.port())),
                        step(RETURN, 0, 0, ALL),
                    ]);
                }
            }
        }
    }
    v4.push(step(RETURN, 0, 0, 0));
    v6.push(step(RETURN, 0, 0, 0));
    let mut program = vec![
        step(LD_WORD, 0, 0, HARDWARE_TYPE),
        step(JUMP_IF_EQUAL, 0, 3, LOOPBACK),
        step(LD_WORD, 0, 0, PACKET_TYPE),
        step(JUMP_IF_EQUAL, 0, 1, OUTGOING),
        step(RETURN, 0, 0, 0),
        step(LD_BYTE, 0, 0, 0),
        step(AND, 0, 0, 0xf0),
        step(JUMP_IF_EQUAL, 2, 0, 0x40),
        step(JUMP_IF_EQUAL, 2, 0, 0x60),
        step(RETURN, 0, 0, 0),
        // A conditional jump reaches 255 steps at most.
        step(JUMP, 0, 0, 1),
        step(JUMP, 0, 0, u32::try_from(v4.len()).unwrap_or(0)),
    ];
    program.extend(v4);
    program.extend(v6);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would make of a packet.
    fn verdict(program: &[sock_filter], packet: &[u8], ancillary: [u32; 2]) -> u32 {
        let load = |at: usize, size: usize| {
            let bytes = packet.get(at..at + size)?;
            Some(bytes.iter().fold(0, |word, b| word << 8 | u32::from(*b)))
        };
        let (mut at, mut a, mut x) = (0, 0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let mut jump = |yes: bool| at += usize::from(if yes { jt } else { jf });
            let loaded = match code {
                LD_WORD if k == PACKET_TYPE => Some(ancillary[0]),
                LD_WORD if k == HARDWARE_TYPE => Some(ancillary[1]),
                LD_WORD => load(k as usize, 4),
                LD_HALF => load(k as usize, 2),
                LD_BYTE => load(k as usize, 1),
                LD_HALF_BEHIND_X => load(k as usize + x, 2),
                _ => Some(a),
            };
            let Some(loaded) = loaded else { return 0 };
            a = loaded;
            match code {
                LDX_HEADER_LENGTH => x = usize::from(packet[k as usize] & 15) * 4,
                AND => a &= k,
                JUMP => at += k as usize,
                JUMP_IF_EQUAL => jump(a == k),
                JUMP_IF_SET => jump(a & k != 0),
                RETURN => return k,
                _ => {}
            }
        }
    }

    fn packet(from: &str, to: &str, protocol: u8) -> Vec<u8> {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let mut packet = Vec::new();
        match (from.ip(), to.ip()) {
            (IpAddr::V4(one), IpAddr::V4(two)) => {
                // With four bytes of options.
                packet.extend([0x46, 0, 0, 44, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
                packet.extend(one.octets());
                packet.extend(two.octets());
                packet.extend([1, 1, 1, 0]);
            }
            (IpAddr::V6(one), IpAddr::V6(two)) => {
                packet.extend([0x60, 0, 0, 0, 0, 20, protocol, 64]);
                packet.extend(one.octets());
                packet.extend(two.octets());
            }
            _ => unreachable!(),
        }
        packet.extend(from.port().to_be_bytes());
        packet.extend(to.port().to_be_bytes());
        packet.extend([0; 16]);
        packet
    }

    #[test]
    fn the_kernel_takes_what_goes_to_and_from_the_servers() {
        let mut servers: Vec<SocketAddr> = (0..60)
            .map(|n| format!("192.0.2.{n}:81").parse().unwrap())
            .collect();
        servers.extend(
            ["198.51.100.7:443", "[2001:db8::7]:443"].map(|s| s.parse::<SocketAddr>().unwrap()),
        );
        let program = program(&servers);
        assert!(program.len() < 4096, "{}", program.len());
        for (from, to, taken) in [
            ("10.0.0.1:40000", "198.51.100.7:443", true),
            ("198.51.100.7:443", "10.0.0.1:40000", true),
            ("10.0.0.1:40000", "192.0.2.59:81", true),
            ("10.0.0.1:40000", "198.51.100.7:444", false),
            ("10.0.0.1:443", "198.51.100.8:443", false),
            // The port is the client's, and the address the server's.
            ("10.0.0.1:443", "198.51.100.7:40000", false),
            ("[2001:db8::1]:40000", "[2001:db8::7]:443", true),
            ("[2001:db8::7]:443", "[2001:db8::1]:40000", true),
            ("[2001:db8::1]:40000", "[2001:db8::8]:443", false),
            ("[2001:db8::1]:443", "[2001:db8::7]:40000", false),
        ] {
            let packet = packet(from, to, 6);
            let result = verdict(&program, &packet, [0, 1]);
            assert_eq!(result, if taken { ALL } else { 0 }, "{from} {to}");
        }
    }

    #[test]
    fn the_kernel_takes_a_packet_on_loopback_once_and_no_fragments_nor_other_protocols() {
        let program = program(&["127.0.0.1:80".parse().unwrap()]);
        let good = packet("127.0.0.1:40000", "127.0.0.1:80", 6);
        assert_eq!(verdict(&program, &good, [OUTGOING, LOOPBACK]), 0);
        assert_eq!(verdict(&program, &good, [0, LOOPBACK]), ALL);
        assert_eq!(verdict(&program, &good, [OUTGOING, 1]), ALL);
        let mut fragment = good.clone();
        fragment[7] = 1;
        assert_eq!(verdict(&program, &fragment, [0, 1]), 0);
        let datagram = packet("127.0.0.1:40000", "127.0.0.1:80", 17);
        assert_eq!(verdict(&program, &datagram, [0, 1]), 0);
        assert_eq!(verdict(&program, &[0x45], [0, 1]), 0);
        assert_eq!(verdict(&program, &[], [0, 1]), 0);
        for servers in [&[][..], &["[::1]:80".parse().unwrap()]] {
            assert_eq!(verdict(&super::program(servers), &good, [0, 1]), 0);
        }
    }
}
