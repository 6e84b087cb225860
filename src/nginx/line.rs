//! One physical line of an nginx error log: who wrote it, why it matters, whom it concerns. Pure; nothing is copied.
//!
//! `YYYY/MM/DD HH:MM:SS [level] PID#TID: *CID MESSAGE (ERRNO: text) while ACTION, client: …, server: …, request: "…",
//! subrequest: "…", upstream: "…", host: "…", referrer: "…"` (ngx_log.c and ngx_http_request.c of nginx). Nothing in
//! it is escaped, so that fields can only be trusted in their fixed order, and a message only by how it begins.

use memchr::{memchr, memrchr};

use super::cause::Cause;
use super::fields::{self, Parties};
use super::message::{self, Told};

/// The bytes of `2026/11/23 05:00:00`.
pub const STAMP: usize = 19;

/// Where the level begins, behind its bracket.
const LEVEL: usize = STAMP + 2;

/// The longest line that nginx writes, with its line feed (`NGX_MAX_ERROR_STR`).
pub const LONGEST: usize = 2048;

/// A line that says why an upstream (or a listener) failed. Whom it concerns is read when it is asked for: most lines
/// are only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// `YYYY/MM/DD HH:MM:SS`.
    pub stamp: &'a [u8],
    /// Why.
    pub cause: Cause,
    /// From the process on.
    header: &'a [u8],
    /// All behind the message.
    pub fields: &'a [u8],
    /// The address that the message itself names.
    pub address: Option<&'a [u8]>,
}

impl<'a> Event<'a> {
    /// Whom it concerns. The upstream is that of the field, or where a long request pushed it out of the line, the
    /// address in the message.
    pub fn parties(&self) -> Parties<'a> {
        let parties = fields::parties(self.fields);
        Parties {
            upstream: parties.upstream.or(self.address),
            ..parties
        }
    }

    /// The worker and its number for the client's connection; absent in lines of the master and of the resolver.
    pub fn connection(&self) -> Option<(u32, u64)> {
        let at = memchr(b' ', self.header)?;
        let (pid, rest) = number(&self.header[at + 1..])?;
        let at = memchr(b' ', rest)?;
        let (cid, _) = number(rest[at + 1..].strip_prefix(b"*")?)?;
        Some((u32::try_from(pid).ok()?, cid))
    }

    /// One for a test.
    #[cfg(test)]
    pub fn other(
        cause: Cause,
        header: &'a [u8],
        fields: &'a [u8],
        address: Option<&'a [u8]>,
    ) -> Self {
        Self {
            stamp: b"",
            cause,
            header,
            fields,
            address,
        }
    }
}

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// Why an upstream failed.
    Event(Event<'a>),
    /// Something else, and whom it concerns.
    Whole,
    /// Something else; it may have been torn by a line feed in a path.
    Other,
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
    level(line).is_some() && digits_are_there(line) && header(&line[LEVEL..]).is_some()
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

/// Whether a line that has a header is of a client's connection.
pub fn is_of_a_connection(line: &[u8]) -> bool {
    header(&line[LEVEL..]).is_some_and(|header| header.numbered)
}

/// What stands behind the header of a line that has one.
pub fn message(line: &[u8]) -> Option<&[u8]> {
    level(line)?;
    header(&line[LEVEL..]).map(|header| header.message)
}

/// `crit] 9#9: *1 ` taken off.
struct Header<'a> {
    /// All that follows.
    message: &'a [u8],
    /// Whether it is of a client's connection.
    numbered: bool,
}

#[inline]
fn header(rest: &[u8]) -> Option<Header<'_>> {
    let at = 4 + rest.get(4..7)?.iter().position(|byte| *byte == b']')? + 2;
    let end = behind_digits(rest, at);
    if end == at || rest.get(end) != Some(&b'#') {
        return None;
    }
    let at = end + 1;
    let end = behind_digits(rest, at);
    if end == at || !rest[end..].starts_with(b": ") {
        return None;
    }
    let at = end + 2;
    if rest.get(at) == Some(&b'*') {
        let end = behind_digits(rest, at + 1);
        if end > at + 1 && rest.get(end) == Some(&b' ') {
            return Some(Header {
                message: &rest[end + 1..],
                numbered: true,
            });
        }
    }
    Some(Header {
        message: &rest[at..],
        numbered: false,
    })
}

/// The place behind the digits that stand here. Numbers are short: mostly eight bytes at once tell.
#[inline]
fn behind_digits(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(eight) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        // Digits are now 0 to 9; what is more, or was not ASCII, has its highest bit set after the addition.
        let digits = u64::from_le_bytes(*eight) ^ 0x3030_3030_3030_3030;
        let others = (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080;
        if others != 0 {
            return at + others.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Digits at the start of a text, and what follows.
pub fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut length, mut value) = (0, 0);
    while let Some(byte) = text.get(length)
        && byte.is_ascii_digit()
        && length < 19
    {
        value = value * 10 + u64::from(byte - b'0');
        length += 1;
    }
    (length > 0).then(|| (value, &text[length..]))
}

/// Reads a line of level error or worse.
#[inline]
pub fn read(line: &[u8]) -> Line<'_> {
    let header = &line[LEVEL..];
    let Some(Header { message, .. }) = self::header(header) else {
        return Line::Other;
    };
    // A file that is not there is what most logs are full of; only the want of descriptors matters here.
    let opens = message.starts_with(OPEN);
    if opens && says_not_found(message) {
        return Line::Whole;
    }
    let (head, fields) = message.split_at(fields::start(message));
    let other = if fields.is_empty() {
        Line::Other
    } else {
        Line::Whole
    };
    let may_matter = if opens {
        wants_descriptors(head)
    } else {
        message::may_matter(message)
    };
    if !may_matter {
        return other;
    }
    let told = Told::new(head, fields);
    told.cause().map_or(other, |cause| {
        Line::Event(Event {
            stamp: &line[..STAMP],
            cause,
            header,
            fields,
            address: told.address,
        })
    })
}

/// How messages about a file begin.
const OPEN: &[u8] = b"open() \"";

/// `open() "…" failed (2: No such file or directory), client: …` with a path that has no quotation mark.
#[inline]
fn says_not_found(message: &[u8]) -> bool {
    let path = &message[OPEN.len()..];
    memchr(b'"', path).is_some_and(|end| {
        path[end..].starts_with(b"\" failed (2: No such file or directory), client: ")
    })
}

/// `open() "…" failed (24: Too many open files)`: the number stands behind the last bracket.
fn wants_descriptors(head: &[u8]) -> bool {
    memrchr(b'(', head).is_some_and(|at| head[at..].starts_with(b"(24: "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::forged::{Origin, Watch};

    const CORPUS: &[u8] = include_bytes!("../../tests/fixtures/nginx_error.log");
    const EXPECTED: &str = include_str!("../../tests/fixtures/nginx_error.causes");

    fn event(line: &[u8]) -> Option<Event<'_>> {
        match read(line) {
            Line::Event(event) => Some(event),
            _ => None,
        }
    }

    /// What this program makes of each line: a cause, `suspect` or `-`.
    fn judged(text: &[u8]) -> Vec<String> {
        let mut watch = Watch::new(text, false);
        let mut start = 0;
        memchr::memchr_iter(b'\n', text)
            .map(|end| {
                let line = &text[start..end];
                let origin = watch.origin(start, end, start);
                let event = level(line)
                    .filter(|level| *level != Level::Low)
                    .and_then(|_| event(line));
                let word = match event {
                    Some(_) if origin == Origin::Request => "suspect",
                    Some(event) => event.cause.name(),
                    None => "-",
                };
                start = end + 1;
                word.to_owned()
            })
            .collect()
    }

    #[test]
    fn every_line_of_a_real_nginx_has_its_cause() {
        let lines: Vec<_> = CORPUS.split(|b| *b == b'\n').collect();
        let judged = judged(CORPUS);
        assert_eq!(judged.len(), EXPECTED.lines().count());
        for ((number, judged), expected) in judged.iter().enumerate().zip(EXPECTED.lines()) {
            let line = String::from_utf8_lossy(lines[number]);
            assert_eq!(judged, expected, "line {}: {line}", number + 1);
        }
    }

    #[test]
    fn the_number_of_a_call_with_a_path_stands_behind_the_path() {
        let cause = |message: &str| {
            let line = format!(
                "2026/11/23 03:35:12 [crit] 7#7: *1 {message}, client: 192.0.2.1, server: a"
            );
            event(line.as_bytes()).map(|event| event.cause)
        };
        for call in ["open", "stat", "mkdir"] {
            let asked = format!("{call}() \"/srv/x failed (24: y\" failed (13: Permission denied)");
            assert_eq!(cause(&asked), None);
            let wants =
                format!("{call}() \"/srv/x failed (104: y\" failed (24: Too many open files)");
            assert_eq!(cause(&wants), Some(Cause::NoFileDescriptors));
        }
    }

    #[test]
    fn the_number_decides_and_not_the_text() {
        let glibc = String::from_utf8_lossy(CORPUS);
        // What musl says, as in the images on Alpine.
        let musl = [
            ("Address already in use", "Address in use"),
            ("Cannot assign requested address", "Address not available"),
            ("Connection timed out", "Operation timed out"),
            ("No route to host", "Host is unreachable"),
            ("Network is unreachable", "Network unreachable"),
            ("Too many open files", "No file descriptors available"),
        ]
        .iter()
        .fold(glibc.into_owned(), |text, (from, to)| {
            text.replace(from, to)
        });
        assert!(
            judged(musl.as_bytes())
                .iter()
                .map(String::as_str)
                .eq(EXPECTED.lines())
        );
    }

    /// A line with this message and these fields.
    fn told(message: &str) -> String {
        format!("2026/11/23 05:00:00 [error] 9#9: *7 {message}")
    }

    #[test]
    fn whom_it_concerns_is_read_from_fields_in_their_order() {
        const REFUSED: &str =
            "connect() failed (111: x) while connecting to upstream, client: 192.0.2.7";
        let cut = format!(
            "connect() to 192.0.2.1:80 failed (99: x) while connecting to upstream, client: 192.0.2.7, server: a, request: \"GET /{}",
            "x".repeat(1700)
        );
        let cases: &[(&str, Option<&str>, Option<&str>)] = &[
            (
                r#", server: a, request: "GET / HTTP/1.1", upstream: "http://log3:8080/x", host: "a""#,
                Some("log3:8080"),
                Some("a"),
            ),
            (
                r#", server: , request: "GET / HTTP/1.1", upstream: "https://[2001:db8::1]:443/x", host: "a""#,
                Some("[2001:db8::1]:443"),
                Some(""),
            ),
            (
                r#", server: a, request: "GET / HTTP/1.1", subrequest: "/s", upstream: "fastcgi://127.0.0.1:9000", host: "a""#,
                Some("127.0.0.1:9000"),
                Some("a"),
            ),
            (
                r#", server: a, request: "GET / HTTP/1.1", upstream: "http://unix:/run/a.sock:/x", host: "a""#,
                Some("unix:/run/a.sock"),
                Some("a"),
            ),
            (
                r#", server: a, request: "GET / HTTP/1.1", upstream: "http://unix:/run/a.sock/x", host: "a""#,
                Some("unix:/run/a.sock"),
                Some("a"),
            ),
            (
                r#", server: 0.0.0.0:7001, upstream: "192.0.2.1:9099", bytes from/to client:0/0"#,
                Some("192.0.2.1:9099"),
                Some("0.0.0.0:7001"),
            ),
            (
                r#", server: 0.0.0.0:143, login: "u", upstream: 192.0.2.1:9099"#,
                Some("192.0.2.1:9099"),
                Some("0.0.0.0:143"),
            ),
            // Host and Referer come last, and nothing in them is escaped.
            (
                r#", server: a, request: "GET / HTTP/1.1", upstream: "http://b:1/", host: "h", upstream: "http://7.7.7.7/""#,
                Some("b:1"),
                Some("a"),
            ),
            (
                r#", server: a, request: "GET / HTTP/1.1", host: "h", upstream: "http://7.7.7.7/""#,
                None,
                Some("a"),
            ),
            (
                r#", server: a, request: "GET /, server: b HTTP/1.1", upstream: "http://b:1/""#,
                Some("b:1"),
                Some("a"),
            ),
            // Cut in the middle of the name.
            (
                r#", server: a, request: "GET / HTTP/1.1", upstream: "http://192.0.2.1:80"#,
                None,
                Some("a"),
            ),
        ];
        for (fields, upstream, server) in cases {
            let line = told(&format!("{REFUSED}{fields}"));
            let event = event(line.as_bytes()).unwrap();
            let parties = event.parties();
            assert_eq!(parties.upstream, upstream.map(str::as_bytes), "{line}");
            assert_eq!(parties.server, server.map(str::as_bytes), "{line}");
            assert_eq!(parties.client, Some(&b"192.0.2.7"[..]), "{line}");
            assert_eq!(event.connection(), Some((9, 7)));
        }
        for (request, prefix) in [
            ("GET /api/v1/items/5?page=2 HTTP/1.1", Some("/api/v1")),
            ("GET /api/v1?page=2 HTTP/1.1", Some("/api/v1")),
            ("GET /?a=/b HTTP/1.1", Some("/")),
            ("GET / HTTP/1.1", Some("/")),
            ("GET /a/ HTTP/1.1", Some("/a/")),
            ("GET http://a/b HTTP/1.1", None),
            ("", None),
        ] {
            let line = told(&format!("{REFUSED}, server: a, request: \"{request}\""));
            let prefix = prefix.map(str::as_bytes);
            assert_eq!(
                event(line.as_bytes()).unwrap().parties().uri,
                prefix,
                "{request}"
            );
        }
        let line = told(&cut);
        let event = event(line.as_bytes()).unwrap();
        assert_eq!(
            (event.parties().upstream, event.cause),
            (Some(&b"192.0.2.1:80"[..]), Cause::NoFreePort)
        );
    }

    #[test]
    fn what_is_no_upstream_failure_has_no_cause() {
        for message in [
            r#"open() "/srv/connect() failed (111: x) while connecting to upstream" failed (2: x), client: 1.2.3.4, server: a"#,
            "connect() to unix:/dev/log failed (2: x) while logging to syslog, server: unix:/dev/log",
            "send() failed (104: x) while sending to client, client: 1.2.3.4, server: a",
            "SSL_do_handshake() failed (SSL: x) while SSL handshaking, client: 1.2.3.4, server: a",
            "bind() to [::1]:80 failed (99: x)",
            "",
            "*",
            "failed (98: ",
            "bind(",
        ] {
            assert_eq!(event(told(message).as_bytes()), None, "{message}");
        }
    }

    proptest::proptest! {
        #[test]
        fn digits_end_where_another_byte_stands(text in "[0-9]{0,20}", rest: Vec<u8>, from in 0_usize..30) {
            let text = [text.as_bytes(), &rest].concat();
            let digits = text.iter().skip(from).take_while(|byte| byte.is_ascii_digit());
            assert_eq!(behind_digits(&text, from), from + digits.count());
        }

        #[test]
        fn no_line_makes_it_stumble(mut line: Vec<u8>, at in 0_usize..400) {
            let _ = (level(&line).map(|_| read(&line)), has_header(&line));
            let real = CORPUS.split(|b| *b == b'\n').nth(at).unwrap_or_default();
            let cut = real.len().min(line.len() * 3);
            line.splice(0..0, real[..cut].iter().copied());
            let _ = (level(&line).map(|_| read(&line)), has_header(&line));
            let middle = line.len() / 2;
            let mut watch = Watch::new(&line, at % 2 == 0);
            let _ = watch.origin(middle, line.len(), middle);
        }
    }
}
