//! What a message of nginx' says: which call failed with which number, doing what. The number decides, never its text,
//! which differs between C libraries.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use memchr::{memchr, memrchr_iter};

use super::cause::Cause;
use super::fields;
use super::line::number;

// Building a searcher costs more than searching a line with it.
static FAILED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b" failed ("));
static UPSTREAM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"upstream"));

/// Whether a message begins as one that [`Told::cause`] knows may: all but a few are told from its first word.
#[inline]
pub fn may_matter(message: &[u8]) -> bool {
    match message.first() {
        Some(b'u' | b'n' | b'i' | b'p' | b't' | b'0'..=b'9') => true,
        Some(_) => {
            let end = word(message);
            match message.get(end) {
                Some(b'(') => end > 0,
                Some(b' ') => message[end..].starts_with(UNRESOLVED),
                _ => is_name_unresolved(message),
            }
        }
        None => false,
    }
}

/// Which bytes the name of a call has.
const IN_A_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation)] // it is below 256
        let letter = byte as u8;
        table[byte] = letter.is_ascii_alphanumeric() || letter == b'_';
        byte += 1;
    }
    table
};

/// How long the word is that a message begins with.
#[inline]
fn word(message: &[u8]) -> usize {
    let end = message
        .iter()
        .position(|byte| !IN_A_NAME[usize::from(*byte)]);
    end.unwrap_or(message.len())
}

/// The name in `recv() failed …`, of whatever call.
#[inline]
fn call(message: &[u8]) -> Option<&[u8]> {
    let end = word(message);
    (end > 0 && message.get(end) == Some(&b'(')).then(|| &message[..end])
}

/// `NAME could not be resolved (3: Host not found)`.
#[inline]
fn is_name_unresolved(message: &[u8]) -> bool {
    memchr(b' ', message).is_some_and(|end| message[end..].starts_with(UNRESOLVED))
}

/// What stands behind the name in it.
const UNRESOLVED: &[u8] = b" could not be resolved (";

/// A message taken apart.
pub struct Told<'a> {
    /// Up to the fields.
    head: &'a [u8],
    fields: &'a [u8],
    /// The address in `connect() to ADDR failed`.
    pub address: Option<&'a [u8]>,
    /// The number in `failed (98: …`.
    errno: Option<u64>,
}

impl<'a> Told<'a> {
    /// Takes the text before the fields apart.
    pub fn new(head: &'a [u8], fields: &'a [u8]) -> Self {
        let call = call(head).map(<[u8]>::len);
        let failed = match call.map(|length| (length + 2, &head[length..])) {
            // What most of them look like is told at once.
            Some((at, rest)) if rest.starts_with(b"() failed (") => Some(at),
            // A path may hold any words: the number stands behind it.
            Some((_, rest)) if rest.starts_with(b"() \"") => memmem::rfind(head, FAILED.needle()),
            _ => FAILED.find(head),
        };
        let errno = failed.and_then(|at| {
            let text = &head[at + b" failed (".len()..];
            let (errno, rest) = number(text)?;
            (rest.starts_with(b":") && text[0] != b'0').then_some(errno)
        });
        let address = failed.and_then(|at| head[..at].strip_prefix(b"connect() to "));
        Self {
            head,
            fields,
            address,
            errno,
        }
    }

    /// Why an upstream failed; `None` where it is no such message.
    pub fn cause(&self) -> Option<Cause> {
        let head = self.head;
        match head.first()? {
            b'b' if head.starts_with(b"bind(") => self.bind(),
            b'c' if head.starts_with(b"connect() ") => self.connect(),
            b'u' if head.starts_with(b"upstream ") => Some(self.told_by_upstream()),
            b'n' if head.starts_with(b"no live upstreams") => Some(Cause::NoLiveUpstreams),
            b'n' if head.starts_with(b"no resolver defined to resolve ") => Some(Cause::Resolver),
            b'n' if head.starts_with(b"no host in upstream ")
                || head.starts_with(b"no port in upstream ") =>
            {
                Some(Cause::OtherUpstream)
            }
            b'i' if head.starts_with(b"invalid URL prefix in ") => Some(Cause::OtherUpstream),
            b'p' if head.starts_with(b"peer closed connection in SSL handshake") => {
                self.towards_upstream().then_some(Cause::Tls)
            }
            b'S' if head.starts_with(b"SSL_") => self.towards_upstream().then_some(Cause::Tls),
            b't' if head.starts_with(b"the new socket has number ") => {
                Some(Cause::NoFileDescriptors)
            }
            b'F' if head.starts_with(b"FastCGI sent in stderr") => None,
            b'"' => None,
            first if first.is_ascii_digit() && self.is_worker_connections() => {
                Some(Cause::WorkerConnections)
            }
            _ if is_name_unresolved(head) => Some(Cause::Resolver),
            _ => self.other_call(),
        }
    }

    /// `bind(ADDR)` is that of `proxy_bind`; `bind() to ADDR` is that of a listener.
    fn bind(&self) -> Option<Cause> {
        let listener = self.head.starts_with(b"bind() ");
        match (listener, self.errno?) {
            (true, 98) => Some(Cause::ListenConflict),
            (true, _) => None,
            (false, 98) => Some(Cause::BindInUse),
            (false, 99) => Some(Cause::BindWrongAddress),
            (false, errno) => Some(by_number(errno)),
        }
    }

    fn connect(&self) -> Option<Cause> {
        let action = self.action().unwrap_or_default();
        if action.starts_with(b" while resolving") {
            return Some(Cause::Resolver);
        }
        // To a syslog server or an OCSP responder, which are no upstreams.
        if action.starts_with(b" while logging to syslog")
            || action.starts_with(b" while requesting certificate")
        {
            return None;
        }
        let errno = self.errno?;
        let udp = self.fields.starts_with(b", udp client: ");
        Some(match errno {
            99 if self.is_ipv6() => Cause::Ipv6Unavailable,
            99 => Cause::NoFreePort,
            // A unix socket says 11 when its listener's backlog is full.
            11 if udp => Cause::NoFreePort,
            errno => by_number(errno),
        })
    }

    fn told_by_upstream(&self) -> Cause {
        let head = self.head;
        if head.starts_with(b"upstream timed out (") {
            Cause::Timeout
        } else if head.starts_with(b"upstream prematurely closed ") {
            Cause::ClosedEarly
        } else if head.starts_with(b"upstream SSL ") {
            Cause::Tls
        } else {
            Cause::OtherUpstream
        }
    }

    /// `1024 worker_connections are not enough`, also when a connection has no number yet.
    fn is_worker_connections(&self) -> bool {
        number(self.head)
            .is_some_and(|(_, rest)| rest.starts_with(b" worker_connections are not enough"))
    }

    /// `recv() failed (104: …) while reading response header from upstream` and its like: any call that failed.
    fn other_call(&self) -> Option<Cause> {
        let call = call(self.head)?;
        let errno = self.errno?;
        if self.says(b" while resolving") {
            return Some(Cause::Resolver);
        }
        if errno == 24 {
            return Some(Cause::NoFileDescriptors);
        }
        // Opening a file fails by its own numbers; its path could say anything.
        if matches!(call, b"open" | b"stat" | b"lstat" | b"opendir" | b"openat") {
            return None;
        }
        (self.towards_upstream() || self.says(b" while in http auth state"))
            .then(|| by_number(errno))
    }

    fn towards_upstream(&self) -> bool {
        self.action()
            .is_some_and(|action| UPSTREAM.find(action).is_some())
    }

    fn says(&self, words: &[u8]) -> bool {
        self.action()
            .is_some_and(|action| action.starts_with(words))
    }

    /// ` while …`, the last one of the message.
    fn action(&self) -> Option<&'a [u8]> {
        memrchr_iter(b'w', self.head)
            .filter(|&at| at > 0 && self.head[at - 1..].starts_with(b" while "))
            .map(|at| &self.head[at - 1..])
            .next()
    }

    fn is_ipv6(&self) -> bool {
        self.address
            .or_else(|| fields::upstream(self.fields))
            .is_some_and(|address| address.starts_with(b"["))
    }
}

fn by_number(errno: u64) -> Cause {
    match errno {
        24 => Cause::NoFileDescriptors,
        99 => Cause::NoFreePort,
        101 | 113 => Cause::Unreachable,
        104 => Cause::Reset,
        110 => Cause::Timeout,
        111 => Cause::Refused,
        _ => Cause::OtherUpstream,
    }
}
