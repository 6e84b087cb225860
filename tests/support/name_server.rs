//! A name server that knows what a test tells it, on a network namespace's loopback. What runs in that namespace by
//! `Netns::command` asks it and nobody else.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::netns::Netns;

/// What it says of a name.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These addresses, in this order.
    Addresses(Vec<IpAddr>),
    /// That it cannot find out (SERVFAIL).
    Failure,
    /// Nothing at all.
    Silence,
}

/// The server; it says of all other names that there is no such name. It ends when dropped.
pub struct NameServer {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Where `ip netns exec` finds the `resolv.conf` for it.
    folder: PathBuf,
}

impl NameServer {
    /// Starts one.
    pub fn start(netns: &Netns, names: BTreeMap<&'static str, Answer>) -> Self {
        let folder = PathBuf::from("/etc/netns").join(netns.name());
        std::fs::create_dir_all(&folder).expect("root may write to /etc");
        // One question, one second: a test of silence should not take long.
        let settings = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
        std::fs::write(folder.join("resolv.conf"), settings).expect("root may write to /etc");
        let socket = netns.within(|| UdpSocket::bind(("127.0.0.1", 53)).expect("port 53 is free"));
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a socket has a time-out");
        let over = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut question = [0; 512];
            while !ends.load(Ordering::SeqCst) {
                let Ok((length, client)) = socket.recv_from(&mut question) else {
                    continue;
                };
                if let Some(reply) = reply(&question[..length], &names) {
                    let _ = socket.send_to(&reply, client);
                }
            }
        });
        Self {
            over,
            thread: Some(thread),
            folder,
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
        // Empty, if nobody else has anything there.
        let _ = std::fs::remove_dir("/etc/netns");
    }
}

/// RFC 1035. `None`: no reply.
fn reply(question: &[u8], names: &BTreeMap<&str, Answer>) -> Option<Vec<u8>> {
    let (name, end) = name(question.get(12..)?)?;
    let asked = question.get(12..12 + end + 4)?;
    let kind = u16::from_be_bytes([asked[end], asked[end + 1]]);
    let (code, addresses) = match names.get(&*name) {
        Some(Answer::Addresses(addresses)) => (0, &**addresses),
        Some(Answer::Failure) => (2, &[][..]),
        Some(Answer::Silence) => return None,
        None => (3, &[][..]),
    };
    let fitting: Vec<_> = addresses
        .iter()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(address), 1) => Some(address.octets().to_vec()),
            (IpAddr::V6(address), 28) => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    let count = u16::try_from(fitting.len()).ok()?.to_be_bytes();
    let mut reply = question[..2].to_vec();
    reply.extend([0x85, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0]);
    reply.extend(asked);
    for address in fitting {
        // The name is the one at byte 12.
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 0, 0, u8::try_from(address.len()).ok()?]);
        reply.extend(address);
    }
    Some(reply)
}

/// A name in lower case, and where it ends.
fn name(bytes: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length == 0 {
            return Some((labels.join("."), at + 1));
        }
        let label = bytes.get(at + 1..at + 1 + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + length;
    }
}
