//! A pcapng file, as Wireshark and tshark read it (draft-ietf-opsawg-pcapng): section, interfaces, TLS secrets, packets.
//! No I/O.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::flows::Packet;
use super::record::Key;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
const SECRETS: u32 = 10;

/// LINKTYPE_LINUX_SLL2: what a packet socket tells of a packet, whatever the link is.
const COOKED: u16 = 276;
/// The length of its header.
const COOKED_HEADER: usize = 20;

/// "TLSK": secrets in the form of an NSS key log.
const TLS_KEY_LOG: u32 = 0x544c_534b;

const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const DROPPED: u16 = 5;

/// What a file is made of.
#[derive(Debug)]
pub struct Capture<'a> {
    /// What the whole is about.
    pub comment: &'a str,
    /// The packets, in the order of their times.
    pub packets: &'a [Packet],
    /// The names of their interfaces.
    pub interfaces: &'a BTreeMap<u32, String>,
    /// The TLS secrets that open them.
    pub keys: &'a [Key],
    /// How many packets the kernel had no room for.
    pub lost: u64,
}

/// The file.
pub fn file(capture: &Capture<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut section = Vec::new();
    section.extend(0x1a2b_3c4d_u32.to_le_bytes());
    section.extend([1, 0, 0, 0]);
    // The length of the section is not said: readers go on to its end.
    section.extend(u64::MAX.to_le_bytes());
    let application = concat!("check_http_retry ", env!("CARGO_PKG_VERSION"));
    option(&mut section, APPLICATION, application.as_bytes());
    option(&mut section, COMMENT, capture.comment.as_bytes());
    block(&mut out, SECTION, section, true);

    let mut numbers = BTreeMap::new();
    for (index, name) in capture.interfaces {
        numbers.insert(*index, u32::try_from(numbers.len()).unwrap_or(0));
        let mut interface = Vec::new();
        interface.extend(COOKED.to_le_bytes());
        interface.extend([0; 6]);
        option(&mut interface, NAME, name.as_bytes());
        // Nanoseconds.
        option(&mut interface, RESOLUTION, &[9]);
        block(&mut out, INTERFACE, interface, true);
    }

    if !capture.keys.is_empty() {
        let mut log = String::new();
        for key in capture.keys {
            let (random, secret) = (hex(&key.client_random), hex(&key.secret));
            // Writing to a String cannot fail.
            let _ = writeln!(log, "{} {random} {secret}", key.label);
        }
        let mut secrets = Vec::new();
        secrets.extend(TLS_KEY_LOG.to_le_bytes());
        secrets.extend(length(log.len()));
        padded(&mut secrets, log.as_bytes());
        block(&mut out, SECRETS, secrets, false);
    }

    for packet in capture.packets {
        let number = numbers.get(&packet.interface).copied().unwrap_or(0);
        block(&mut out, PACKET, of_packet(packet, number), true);
    }

    if capture.lost > 0 {
        let mut statistics = Vec::new();
        statistics.extend(0_u32.to_le_bytes());
        let last = capture.packets.last().map_or(0, |last| last.nanoseconds);
        statistics.extend(time(last));
        option(&mut statistics, DROPPED, &capture.lost.to_le_bytes());
        block(&mut out, STATISTICS, statistics, true);
    }
    out
}

fn of_packet(packet: &Packet, interface: u32) -> Vec<u8> {
    let (address, counts) = packet.address;
    let mut bytes = Vec::with_capacity(COOKED_HEADER + packet.bytes.len());
    bytes.extend(packet.protocol.to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(packet.interface.to_be_bytes());
    bytes.extend(packet.hardware.to_be_bytes());
    bytes.push(packet.kind);
    bytes.push(counts);
    bytes.extend(address);
    bytes.extend_from_slice(&packet.bytes);
    let mut block = Vec::with_capacity(bytes.len() + 64);
    block.extend(interface.to_le_bytes());
    block.extend(time(packet.nanoseconds));
    block.extend(length(bytes.len()));
    block.extend(length(packet.length as usize + COOKED_HEADER));
    padded(&mut block, &bytes);
    let direction: u32 = if packet.outbound { 2 } else { 1 };
    option(&mut block, FLAGS, &direction.to_le_bytes());
    block
}

/// The upper half goes first.
fn time(nanoseconds: u64) -> [u8; 8] {
    nanoseconds.rotate_left(32).to_le_bytes()
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(4096)];
    block.extend(code.to_le_bytes());
    block.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    padded(block, value);
}

fn padded(block: &mut Vec<u8>, bytes: &[u8]) {
    block.extend_from_slice(bytes);
    block.resize(block.len().next_multiple_of(4), 0);
}

/// Writes a block, with the end of its options where it has some. All that is in one is padded already.
fn block(out: &mut Vec<u8>, kind: u32, mut body: Vec<u8>, options: bool) {
    if options {
        body.extend([0; 4]);
    }
    let whole = length(body.len() + 12);
    out.extend(kind.to_le_bytes());
    out.extend(whole);
    out.extend(body);
    out.extend(whole);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::evidence::flows::Tcp;

    #[test]
    fn blocks_follow_each_other_to_the_end_of_the_file() {
        let packet = |length: usize| Packet {
            nanoseconds: 0x0102_0304_0506_0708,
            length: 99,
            interface: 7,
            hardware: 1,
            kind: 4,
            protocol: 0x86dd,
            address: ([1, 2, 3, 4, 5, 6, 0, 0], 6),
            outbound: true,
            tcp: Tcp {
                sequence: 0,
                syn: false,
                data: 0,
                end: 0,
            },
            bytes: vec![0x60; length].into(),
        };
        let key = Key {
            label: "CLIENT_RANDOM".to_owned(),
            client_random: vec![0, 0xab],
            secret: vec![1],
        };
        let file = file(&Capture {
            comment: "why",
            packets: &[packet(1), packet(4)],
            interfaces: &BTreeMap::from([(7, "eth0".to_owned())]),
            keys: &[key],
            lost: 3,
        });
        let mut kinds = Vec::new();
        let mut at = 0;
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        while at < file.len() {
            let length = word(at + 4) as usize;
            kinds.push(word(at));
            assert_eq!(length % 4, 0);
            assert_eq!(word(at + length - 4) as usize, length);
            if word(at) == PACKET {
                assert_eq!((word(at + 12), word(at + 16)), (0x0102_0304, 0x0506_0708));
                assert_eq!(word(at + 24), 99 + 20);
            }
            at += length;
        }
        let expected = [SECTION, INTERFACE, SECRETS, PACKET, PACKET, STATISTICS];
        assert_eq!((at, &*kinds), (file.len(), &expected[..]));
        let log = b"CLIENT_RANDOM 00ab 01\n";
        assert!(file.windows(log.len()).any(|window| window == log));
    }
}
