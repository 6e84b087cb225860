//! One physical line of an nginx error log: who wrote it, why it matters, whom it concerns. Pure; nothing is copied.
//!
//! `YYYY/MM/DD HH:MM:SS [level] PID#TID: *CID MESSAGE (ERRNO: text) while ACTION, client: …, server: …, request: "…",
//! subrequest: "…", upstream: "…", host: "…", referrer: "…"` (ngx_log.c and ngx_http_request.c of nginx). Nothing in
//! it is escaped, so that fields can only be trusted in their fixed order, and a message only by how it begins.

use memchr::{memchr, memmem};

use super::cause::Cause;

/// The bytes of `2026/11/23 05:00:00`.
pub const STAMP: usize = 19;

/// The longest line that nginx writes, with its line feed (`NGX_MAX_ERROR_STR`).
pub const LONGEST: usize = 2048;

/// A line that says why an upstream (or a listener) failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// `YYYY/MM/DD HH:MM:SS`.
    pub stamp: &'a [u8],
    /// Why.
    pub cause: Cause,
    /// The worker and its number for the client's connection; absent in lines of the master and of the resolver.
    pub connection: Option<(u32, u64)>,
    /// `host:port`, `[v6]:port`, `unix:/path` or the name of an upstream block.
    pub upstream: Option<&'a [u8]>,
    /// The server as the line has it.
    pub server: Option<&'a [u8]>,
    /// The client's address.
    pub client: Option<&'a [u8]>,
}

/// How bad a line says it is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// debug, info, notice, warn
    Low = 1,
    /// error
    Error = 2,
    /// crit
    Crit = 4,
    /// alert, emerg
    Worst = 8,
}

/// The level of a line that begins as nginx' lines do; `None` for any other.
#[inline]
pub fn level(line: &[u8]) -> Option<Level> {
    if line.len() < 28 || line[20] != b'[' || line[4] != b'/' || line[16] != b':' {
        return None;
    }
    match (line[21], line[22]) {
        (b'e', b'r') => Some(Level::Error),
        (b'c', b'r') => Some(Level::Crit),
        (b'a', b'l') | (b'e', b'm') => Some(Level::Worst),
        (b'w' | b'n' | b'i' | b'd', _) => Some(Level::Low),
        _ => None,
    }
}

/// Whether a line begins with a whole header: time, level and process.
pub fn has_header(line: &[u8]) -> bool {
    level(line).is_some() && digits_are_there(line) && header(line).is_some()
}

fn digits_are_there(line: &[u8]) -> bool {
    b"0000/00/00 00:00:00 ["
        .iter()
        .zip(line)
        .all(|(&pattern, &byte)| match pattern {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        })
}

/// What stands behind the header.
pub struct Header<'a> {
    /// The process, and the number of the client's connection.
    pub connection: Option<(u32, u64)>,
    /// All that follows.
    pub message: &'a [u8],
}

/// Takes `2026/11/23 05:00:00 [crit] 9#9: *1 ` off.
pub fn header(line: &[u8]) -> Option<Header<'_>> {
    let rest = line.get(21..)?;
    let rest = &rest[memchr(b']', &rest[..rest.len().min(8)])? + 1..];
    let (pid, rest) = number(rest.strip_prefix(b" ")?)?;
    let (_, rest) = number(rest.strip_prefix(b"#")?)?;
    let rest = rest.strip_prefix(b": ")?;
    let numbered = rest
        .strip_prefix(b"*")
        .and_then(number)
        .and_then(|(cid, rest)| Some((cid, rest.strip_prefix(b" ")?)));
    Some(match numbered {
        Some((cid, message)) => Header {
            connection: u32::try_from(pid).ok().map(|pid| (pid, cid)),
            message,
        },
        None => Header {
            connection: None,
            message: rest,
        },
    })
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take(19).take_while(|b| b.is_ascii_digit());
    let (length, value) = digits.fold((0, 0), |(length, value), digit| {
        (length + 1, value * 10 + u64::from(digit - b'0'))
    });
    (length > 0).then(|| (value, &text[length..]))
}

/// Reads a line of level error or worse. `None` where it does not say why an upstream failed.
pub fn read(line: &[u8]) -> Option<Event<'_>> {
    let Header {
        connection,
        message,
    } = header(line)?;
    let fields_at = fields(message);
    let (head, fields) = message.split_at(fields_at);
    let told = Told::new(head, fields);
    let cause = told.cause()?;
    Some(Event {
        stamp: &line[..STAMP],
        cause,
        connection,
        upstream: told.upstream(),
        server: field(fields, b", server: "),
        client: field(fields, b"client: "),
    })
}

/// Where the message ends and the fields begin; the end of the line where there are none.
fn fields(message: &[u8]) -> usize {
    let mut from = 0;
    while let Some(at) = memmem::find(&message[from..], b"client: ") {
        let at = from + at;
        for before in [&b", "[..], b", udp "] {
            if message[..at].ends_with(before) {
                return at - before.len();
            }
        }
        from = at + 1;
    }
    message.len()
}

/// The value of a field that is not quoted.
fn field<'a>(fields: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let request = memmem::find(fields, b", request: \"").unwrap_or(fields.len());
    let at = memmem::find(&fields[..request], name)? + name.len();
    let rest = &fields[at..];
    Some(&rest[..memchr(b',', rest).unwrap_or(rest.len())])
}

/// A message taken apart.
struct Told<'a> {
    /// Up to the fields.
    head: &'a [u8],
    fields: &'a [u8],
    /// The address in `connect() to ADDR failed`.
    address: Option<&'a [u8]>,
    /// The number in `failed (98: …`.
    errno: Option<u64>,
}

impl<'a> Told<'a> {
    fn new(head: &'a [u8], fields: &'a [u8]) -> Self {
        let failed = memmem::find(head, b" failed (");
        let errno = failed.and_then(|at| {
            let (errno, rest) = number(&head[at + b" failed (".len()..])?;
            rest.starts_with(b":").then_some(errno)
        });
        let address = failed.and_then(|at| head[..at].strip_prefix(b"connect() to "));
        Self {
            head,
            fields,
            address,
            errno,
        }
    }

    fn cause(&self) -> Option<Cause> {
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
            _ if self.is_name_unresolved() => Some(Cause::Resolver),
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
        if self.says(b" while resolving") {
            return Some(Cause::Resolver);
        }
        // To a syslog server or an OCSP responder, which are no upstreams.
        if self.says(b" while logging to syslog") || self.says(b" while requesting certificate") {
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

    /// `NAME could not be resolved (3: Host not found)`.
    fn is_name_unresolved(&self) -> bool {
        memmem::find(self.head, b" could not be resolved (")
            .is_some_and(|at| memchr(b' ', &self.head[..at]).is_none())
    }

    /// `recv() failed (104: …) while reading response header from upstream` and its like: any call that failed.
    fn other_call(&self) -> Option<Cause> {
        let open = memchr(b'(', self.head)?;
        let call = &self.head[..open];
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        if call.is_empty() || !call.iter().all(is_name) {
            return None;
        }
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
            .is_some_and(|action| memmem::find(action, b"upstream").is_some())
    }

    fn says(&self, words: &[u8]) -> bool {
        self.action()
            .is_some_and(|action| action.starts_with(words))
    }

    /// ` while …`, the last one of the message.
    fn action(&self) -> Option<&'a [u8]> {
        memmem::rfind(self.head, b" while ").map(|at| &self.head[at..])
    }

    fn is_ipv6(&self) -> bool {
        self.address
            .or_else(|| self.upstream())
            .is_some_and(|address| address.starts_with(b"["))
    }

    /// The field, or where a long request pushed it out of the line, the address in the message.
    fn upstream(&self) -> Option<&'a [u8]> {
        upstream_field(self.fields).and_then(peer).or(self.address)
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

/// What stands behind `upstream: `, from the first one on that a Host or a Referer could not have written.
fn upstream_field(fields: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b", upstream: ";
    let at = memmem::find(fields, NAME)?;
    let forged = memmem::find(&fields[..at], b", host: \"").is_some()
        || memmem::find(&fields[..at], b", referrer: \"").is_some();
    (!forged).then(|| &fields[at + NAME.len()..])
}

/// `"http://127.0.0.1:9099/refused", host: …` becomes `127.0.0.1:9099`. Mail writes its upstream without quotes.
/// `None` where the line was cut before the name's end.
fn peer(value: &[u8]) -> Option<&[u8]> {
    let (text, whole) = match value.strip_prefix(b"\"") {
        Some(quoted) => match memchr(b'"', quoted) {
            Some(end) => (&quoted[..end], true),
            None => (quoted, false),
        },
        None => (&value[..memchr(b',', value).unwrap_or(value.len())], true),
    };
    let text = match memmem::find(text, b"://") {
        Some(at) if at <= 10 => &text[at + 3..],
        _ => text,
    };
    if let Some(path) = text.strip_prefix(b"unix:") {
        let end = memchr(b':', path).or_else(|| {
            // While reading, nginx leaves out the colon between socket and URI.
            memmem::find(path, b".sock/").map(|at| at + b".sock".len())
        });
        return match end {
            Some(end) => Some(&text[..b"unix:".len() + end]),
            None => whole.then_some(text),
        };
    }
    match text.iter().position(|b| b"/?#".contains(b)) {
        Some(end) => Some(&text[..end]),
        None => whole.then_some(text),
    }
    .filter(|name| !name.is_empty())
}
