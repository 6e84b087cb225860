//! A failing probe and a good one to the files of an entry. No I/O but a look at the captured packets, and at the names
//! of their interfaces.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::compare;
use super::flows::{Packet, Tap};
use super::folder::{self, Entry, MARK, SUMMARY};
use super::har::{self, Archive};
use super::mask::Mask;
use super::parts::{Parts, mask_for, parts};
use super::pcapng::{self, Capture};
use super::record::{Key, Record, Recording};
use crate::http::probe::{Kind, Probe};
use crate::plugin::clean::clean_cut;
use crate::plugin::report::local_time;

/// A probe that is over, with what was kept of it.
#[derive(Debug)]
pub struct Side {
    /// The probe.
    pub probe: Probe,
    /// Its exchanges, where there is a folder for them.
    pub recording: Option<Arc<Recording>>,
}

/// What all entries of a run share.
#[derive(Debug)]
pub struct Frame {
    /// The names of the paths.
    pub paths: Vec<String>,
    /// The run's number.
    pub run: u64,
    /// What is masked.
    pub mask: Option<Mask>,
    /// Why there are no packets, where there are none.
    pub no_packets: Option<String>,
}

/// The entry of a failing probe.
pub fn entry(frame: &Frame, failed: &Side, good: Option<&Side>, lost: u64) -> Entry {
    let probe = &failed.probe;
    let path = frame.paths.get(probe.path).map_or("", String::as_str);
    let number = format!("{:016x}{:016x}", frame.run, probe.number);
    let mut files = Vec::new();
    let mut text = String::from(MARK);
    let sides = [("failed", Some(failed)), ("good", good)];
    for (name, side) in sides.into_iter().filter_map(|(n, side)| Some((n, side?))) {
        text.push('\n');
        describe(&mut text, name, &side.probe, frame.mask.as_ref());
        if let Some(recording) = &side.recording {
            add_files(frame, name, side, recording, lost, &mut files, &mut text);
        }
    }
    text.push('\n');
    match good {
        Some(good) => {
            let lines = compare::lines(&frame.paths, probe, &good.probe, frame.mask.as_ref());
            for line in lines {
                text.push_str(&line);
                text.push('\n');
            }
        }
        None => text.push_str("There was no good probe to compare with.\n"),
    }
    text.push_str(HELP);
    // The mark goes last: what has it is whole.
    files.push((SUMMARY.to_owned(), text.into_bytes()));
    Entry {
        name: folder::name(probe.at, path, &number),
        files,
    }
}

const HELP: &str = "
.har: the developer tools of any browser, or jq. .pcapng: wireshark FILE, or tshark -r FILE -Y http -O http;
the keys to what is encrypted are inside, unless it says above that they are withheld.
.sent, .received: the bytes of each exchange, behind the encryption. Put any file into this folder to keep it for good.
";

fn describe(text: &mut String, name: &str, probe: &Probe, mask: Option<&Mask>) {
    let words = mask.map_or_else(|| probe.words.clone(), |mask| mask.text(&probe.words));
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{name}: {} {} {}",
        local_time(probe.at),
        probe.kind.map_or("good", Kind::name),
        clean_cut(&words, 1000)
    );
    if let Some(local) = probe.local {
        let _ = write!(text, ", from {local}");
    }
    if let Some(remote) = probe.remote {
        let _ = write!(text, " to {remote}");
    }
    if let Some(id) = &probe.request_id {
        let _ = write!(text, ", request id {id}");
    }
    if probe.reused {
        text.push_str(", on a reused connection");
    }
    let _ = writeln!(text, ", {:.3} ms", probe.elapsed.as_secs_f64() * 1e3);
}

fn add_files(
    frame: &Frame,
    name: &str,
    side: &Side,
    recording: &Recording,
    lost: u64,
    files: &mut Vec<(String, Vec<u8>)>,
    text: &mut String,
) {
    let mask = mask_for(recording, frame.mask.as_ref());
    let records: Vec<&Record> = recording
        .hops
        .iter()
        .filter_map(|hop| hop.tape.record.as_deref())
        .collect();
    let all: Vec<Parts> = records.iter().map(|r| parts(r, mask.as_ref())).collect();
    let show = |text: &str| match &mask {
        Some(mask) => mask.text(text),
        None => text.to_owned(),
    };
    let urls: Vec<_> = records.iter().map(|record| show(&record.url)).collect();
    let title = show(&side.probe.words);
    let broken = all.last().is_none_or(|parts| parts.reply.is_empty());
    let archive = har::document(&Archive {
        title: &title,
        recording,
        parts: &all,
        urls: &urls,
        error: (broken && side.probe.kind.is_some()).then_some(&title),
    });
    files.push((format!("{name}.har"), format!("{archive:#}\n").into_bytes()));
    if recording.left_out > 0 {
        let n = recording.left_out;
        let _ = writeln!(
            text,
            "{name}: {n} redirects before the last exchange are left out"
        );
    }
    for (at, (record, parts)) in records.iter().zip(&all).enumerate() {
        let directions = [
            ("sent", &record.sent, &parts.sent, parts.sent_hidden),
            (
                "received",
                &record.received,
                &parts.received,
                parts.received_hidden,
            ),
        ];
        for (what, cut, shown, hidden) in directions {
            let file = format!("{name}-{}.{what}", at + 1);
            let note = match shown {
                None => "left out: it is packed, and may hold secrets".to_owned(),
                Some(bytes) => {
                    files.push((file.clone(), bytes.clone()));
                    let masked = if hidden { ", secrets masked" } else { "" };
                    if cut.is_whole() {
                        format!("{} bytes{masked}", cut.size)
                    } else {
                        format!("the first {} of {} bytes{masked}", bytes.len(), cut.size)
                    }
                }
            };
            let _ = writeln!(text, "{file}: {note}");
        }
    }
    let note = match packets(&records, &all, &title, lost) {
        Ok((bytes, note)) => {
            files.push((format!("{name}.pcapng"), bytes));
            note
        }
        Err(why) => format!("no packets: {}", frame.no_packets.as_deref().unwrap_or(why)),
    };
    let _ = writeln!(text, "{name}.pcapng: {note}");
}

/// The packets of all connections of a probe in a file, and what there is to say about it.
fn packets(
    records: &[&Record],
    all: &[Parts],
    title: &str,
    lost: u64,
) -> Result<(Vec<u8>, String), &'static str> {
    let mut packets = Vec::new();
    let mut keys: Vec<Key> = Vec::new();
    let mut left_out = 0;
    let mut notes = Vec::new();
    for (record, parts) in records.iter().zip(all) {
        let Some(tap) = record.tap() else { continue };
        let (flows, more) = tap.packets();
        left_out += more;
        for mut flow in flows {
            hide(&mut flow, record, parts);
            packets.extend(flow);
        }
        let mut withheld = false;
        keys.extend(record.keys.all().into_iter().filter(|key| {
            let shown = may_show(key, parts);
            withheld |= !shown;
            shown
        }));
        if withheld {
            notes.push("keys to encrypted secrets withheld (see --evidence-secrets)");
        } else if record.goes_on {
            notes.push(if record.clear.is_some() {
                "the handshake was before this probe, so that they cannot be opened"
            } else {
                "the connection is older than this probe"
            });
        } else if record.clear.is_none() && (parts.sent_hidden || parts.received_hidden) {
            notes.push("secrets masked, so that TCP checksums are wrong");
        }
    }
    if packets.is_empty() {
        let made = records.iter().filter_map(|record| record.tap());
        return Err(if made.clone().all(Tap::is_empty) {
            "there was no connection over a network"
        } else {
            "none came by"
        });
    }
    packets.sort_by_key(|packet| packet.nanoseconds);
    let mut note = format!("{} packets", packets.len());
    notes.dedup();
    for more in notes {
        let _ = write!(note, ", {more}");
    }
    if left_out > 0 {
        let _ = write!(note, ", {left_out} more were too many");
    }
    if lost > 0 {
        let _ = write!(
            note,
            ", the kernel lost {lost} in this run, of this or other probes"
        );
    }
    let file = pcapng::file(&Capture {
        comment: title,
        packets: &packets,
        interfaces: &interfaces(&packets),
        keys: &keys,
        lost,
    });
    Ok((file, note))
}

/// Whether a secret of a TLS session opens nothing that is masked elsewhere. TLS 1.3 has one for each direction, and
/// those of the handshake open certificates alone; TLS 1.2 has one for all.
fn may_show(key: &Key, parts: &Parts) -> bool {
    match &*key.label {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET" | "SERVER_HANDSHAKE_TRAFFIC_SECRET" => true,
        label if label.starts_with("CLIENT_TRAFFIC_SECRET") => !parts.sent_hidden,
        label if label.starts_with("SERVER_TRAFFIC_SECRET") => !parts.received_hidden,
        _ => !parts.sent_hidden && !parts.received_hidden,
    }
}

/// Puts what the files of bytes show into the packets as well, as far as they are not encrypted.
fn hide(flow: &mut [Packet], record: &Record, parts: &Parts) {
    // Behind this everything is encrypted.
    let (sent, received) = record.clear.unwrap_or((usize::MAX, usize::MAX));
    let directions = [
        (true, parts.sent_hidden, &parts.sent, sent),
        (false, parts.received_hidden, &parts.received, received),
    ];
    for (outbound, hidden, bytes, clear) in directions {
        if !hidden || clear == 0 {
            continue;
        }
        let shown = bytes.as_deref().unwrap_or_default();
        let opening = flow.iter().find(|p| p.outbound == outbound && p.tcp.syn);
        let first = opening.map(|packet| packet.tcp.sequence.wrapping_add(1));
        for packet in flow
            .iter_mut()
            .filter(|p| p.outbound == outbound && !p.tcp.syn)
        {
            overwrite(packet, first, shown, clear);
        }
    }
}

/// Overwrites the data of a packet with what may be shown of it; where that is not known the packet is cut.
fn overwrite(packet: &mut Packet, first: Option<u32>, shown: &[u8], clear: usize) {
    let (data, end) = (packet.tcp.data, packet.tcp.end);
    if data >= end {
        return;
    }
    let Some(first) = first else {
        packet.bytes.truncate(data);
        return;
    };
    let begin = packet.tcp.sequence.wrapping_sub(first) as usize;
    // One byte of an earlier one keeps a connection alive, and comes again as it was.
    if begin > u32::MAX as usize / 2 {
        packet.bytes.truncate(data);
        return;
    }
    let mut bytes = packet.bytes.to_vec();
    for (at, byte) in bytes[data..end].iter_mut().enumerate() {
        match shown.get(begin + at) {
            _ if begin + at >= clear => break,
            Some(masked) => *byte = *masked,
            None => {
                bytes.truncate(data + at);
                break;
            }
        }
    }
    packet.bytes = bytes.into();
}

/// The names of the interfaces that packets passed.
fn interfaces(packets: &[Packet]) -> BTreeMap<u32, String> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    );
    packets
        .iter()
        .map(|packet| packet.interface)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .map(|index| {
            let name = socket
                .as_ref()
                .ok()
                .and_then(|socket| rustix::net::netdevice::index_to_name(socket, index).ok());
            (index, name.unwrap_or_else(|| format!("interface {index}")))
        })
        .collect()
}
