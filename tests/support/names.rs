//! A name server for one network namespace: names with addresses that a test may change at any time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::netns::Netns;

const A: u16 = 1;
const AAAA: u16 = 28;

/// What it says of a name.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These addresses, in this order.
    Addresses(Vec<IpAddr>),
    /// These addresses; questions for a family of which there is none among them are not answered at all.
    Half(Vec<IpAddr>),
    /// That it cannot find out (SERVFAIL).
    Failure,
    /// Nothing at all.
    Silence,
    /// These bytes behind the number of the question.
    Bytes(Vec<u8>),
}

/// The running server; what `ip netns exec` starts in its namespace asks it.
#[derive(Debug)]
pub struct Names {
    /// The first name that it was given.
    name: &'static str,
    folder: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    answers: Mutex<BTreeMap<&'static str, Answer>>,
    /// Questions for A records so far: one for each look-up.
    asked: AtomicU32,
    /// Questions for A records that got no answer since it fell silent.
    unheard: AtomicU32,
    silent: AtomicBool,
    over: AtomicBool,
}

impl Names {
    /// Starts one that knows these addresses of `name`, and nothing else.
    pub fn start(netns: &Netns, name: &'static str, addresses: &[IpAddr]) -> Self {
        Self::of(netns, &[(name, Answer::Addresses(addresses.to_vec()))])
    }

    /// Starts one that knows these names; of all others it says that there is no such name.
    pub fn of(netns: &Netns, answers: &[(&'static str, Answer)]) -> Self {
        // ip netns exec puts the files below this folder in the place of those of /etc.
        let folder = PathBuf::from("/etc/netns").join(netns.name());
        fs::create_dir_all(&folder).expect("root may make a folder below /etc/netns");
        fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.53\n").expect("it is ours");
        let hosts = "127.0.0.1 localhost\n::1 six-in-hosts.test\n";
        fs::write(folder.join("hosts"), hosts).expect("it is ours");
        let nsswitch = "hosts: files dns\n";
        fs::write(folder.join("nsswitch.conf"), nsswitch).expect("it is ours");
        let place = SocketAddr::from(([127, 0, 0, 53], 53));
        let socket = netns
            .within(|| UdpSocket::bind(place))
            .expect("nobody else is in this namespace");
        let patience = Some(Duration::from_millis(20));
        socket.set_read_timeout(patience).expect("a time-out");
        let shared = Arc::new(Shared {
            answers: Mutex::new(answers.iter().cloned().collect()),
            asked: AtomicU32::new(0),
            unheard: AtomicU32::new(0),
            silent: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&socket, &shared)
        });
        Self {
            name: answers[0].0,
            folder,
            shared,
            thread: Some(thread),
        }
    }

    /// From now on the first name has these addresses.
    pub fn change(&self, addresses: &[IpAddr]) {
        let answers = self.shared.answers.lock();
        let mut answers = answers.unwrap_or_else(PoisonError::into_inner);
        answers.insert(self.name, Answer::Addresses(addresses.to_vec()));
    }

    /// From now on no question is answered.
    pub fn fall_silent(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// Questions are answered again.
    pub fn speak_again(&self) {
        self.shared.silent.store(false, Ordering::SeqCst);
    }

    /// How many look-ups it left without an answer since it fell silent.
    pub fn unheard(&self) -> u32 {
        self.shared.unheard.load(Ordering::SeqCst)
    }

    /// How often names that it knows were looked up.
    pub fn asked(&self) -> u32 {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
        // The folder above stays: another test may be making its own in it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut question = [0; 512];
    while !shared.over.load(Ordering::SeqCst) {
        let Ok((length, client)) = socket.recv_from(&mut question) else {
            continue;
        };
        if shared.silent.load(Ordering::SeqCst) {
            let kind = read(&question[..length]).map(|(_, kind, _)| kind);
            let unheard = u32::from(kind == Some(A));
            shared.unheard.fetch_add(unheard, Ordering::SeqCst);
            continue;
        }
        if let Some(answer) = answer(&question[..length], shared) {
            let _: io::Result<usize> = socket.send_to(&answer, client);
        }
    }
}

/// The name that a question is about, the type of the records that it asks for, and where the name ends.
fn read(question: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    while *question.get(at)? > 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(question.get(at + 1..end)?).into_owned());
        at = end;
    }
    let kind = u16::from_be_bytes([*question.get(at + 1)?, *question.get(at + 2)?]);
    Some((labels.join(".").to_ascii_lowercase(), kind, at))
}

/// RFC 1035: the question as it came, and an address record for each address that it asks for. `None`: silence.
fn answer(question: &[u8], shared: &Shared) -> Option<Vec<u8>> {
    let (name, kind, at) = read(question)?;
    let answers = shared.answers.lock();
    let answers = answers.unwrap_or_else(PoisonError::into_inner);
    let known = answers.get(&*name);
    // A response without recursion asked further; SERVFAIL where it is to fail, NXDOMAIN for any other name.
    let (code, addresses) = match known {
        Some(Answer::Addresses(addresses) | Answer::Half(addresses)) => (0x80, &**addresses),
        Some(Answer::Failure) => (0x82, &[][..]),
        Some(Answer::Silence) => return None,
        Some(Answer::Bytes(bytes)) => return Some([&question[..2], bytes].concat()),
        None => (0x83, &[][..]),
    };
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match (kind, address) {
            (A, IpAddr::V4(address)) => Some(address.octets().to_vec()),
            (AAAA, IpAddr::V6(address)) => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    if records.is_empty() && matches!(known, Some(Answer::Half(_))) {
        return None;
    }
    if known.is_some() && kind == A {
        shared.asked.fetch_add(1, Ordering::SeqCst);
    }
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, code, 0, 1]);
    answer.extend(u16::try_from(records.len()).ok()?.to_be_bytes());
    answer.extend([0, 0, 0, 0]);
    answer.extend(&question[12..at + 5]);
    for record in records {
        // The name above; class IN; not to be kept.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0]);
        answer.extend(u16::try_from(record.len()).ok()?.to_be_bytes());
        answer.extend(record);
    }
    Some(answer)
}
