//! What other programs put around nginx' lines: docker's JSON, the prefixes of CRI and syslog.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memmem};
use serde::{Deserialize, Serialize};

use super::clock::When;
use super::line::has_header;

/// How far into a line its tag may reach.
const PREFIX: usize = 200;

/// How a record of docker's json-file driver begins.
const DOCKER: &[u8] = b"{\"log\":\"";

/// What is before the time in it.
const DOCKER_TIME: &[u8] = b"\"time\":\"";

/// How the lines of a log are wrapped. Found out by looking: only then is a time in the middle of a line nginx', and
/// not what a request made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Wrapping {
    /// As nginx writes them.
    #[default]
    None,
    /// `{"log":"…\n","stream":"stderr","time":"…"}`
    Docker,
    /// `2026-11-23T05:00:00.123456789Z stderr F …`
    Cri,
    /// `Nov 23 02:41:00 proxy1 nginx: …` and the forms of RFC 5424.
    Syslog,
}

impl Wrapping {
    /// How these bytes from the start of a log are wrapped.
    pub fn of(head: &[u8]) -> Self {
        let mut start = 0;
        for end in memchr_iter(b'\n', head) {
            let line = &head[start..end];
            start = end + 1;
            if has_header(line) {
                return Self::None;
            }
            // The first lines in a container may all be of the access log: these forms are known without a time.
            if line.starts_with(DOCKER) {
                return Self::Docker;
            }
            if cri_text(line).is_some() {
                return Self::Cri;
            }
            let of_haproxy = || syslog_time(line).is_some() && is_tagged(line, "haproxy");
            if has_header(syslog_text(line)) || of_haproxy() {
                return Self::Syslog;
            }
        }
        Self::None
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self == Self::None
    }

    /// The time of what is around a line.
    pub fn time(self, line: &[u8]) -> Option<When> {
        match self {
            Self::None => None,
            Self::Docker => {
                let at = memmem::rfind(line, DOCKER_TIME)? + DOCKER_TIME.len();
                When::of_rfc3339(&line[at..at + memchr(b'"', &line[at..])?])
            }
            Self::Cri => {
                let word = &line[..memchr(b' ', line)?];
                match word.strip_prefix(b"@") {
                    Some(second) => {
                        let second = std::str::from_utf8(second).ok()?.parse().ok()?;
                        Some(When::Second(second))
                    }
                    None => When::of_rfc3339(word),
                }
            }
            Self::Syslog => syslog_time(line),
        }
    }

    /// A line as nginx wrote it; a line without a wrapping as it is.
    pub fn unwrap(self, line: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::None => Cow::Borrowed(line),
            Self::Docker => line
                .strip_prefix(DOCKER)
                .map_or(Cow::Borrowed(line), |text| Cow::Owned(json_text(text))),
            Self::Cri => Cow::Borrowed(cri_text(line).unwrap_or(line)),
            Self::Syslog => Cow::Borrowed(syslog_text(line)),
        }
    }

    /// The lines of a batch as nginx wrote them, and where the new ones begin in it.
    pub fn unwrap_batch(self, bytes: &[u8], fresh: usize, into: &mut Vec<u8>) -> usize {
        into.clear();
        let mut new = 0;
        let mut start = 0;
        for end in memchr_iter(b'\n', bytes) {
            if start == fresh {
                new = into.len();
            }
            into.extend_from_slice(&self.unwrap(&bytes[start..end]));
            into.push(b'\n');
            start = end + 1;
        }
        new
    }
}

/// A JSON string from behind its opening quote, without the line feed at its end.
fn json_text(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => {
                let escaped = text.get(at).copied().unwrap_or(b'\\');
                at += 1;
                match escaped {
                    b'n' => out.push(b'\n'),
                    b'r' => out.push(b'\r'),
                    b't' => out.push(b'\t'),
                    b'b' => out.push(8),
                    b'f' => out.push(12),
                    b'u' => {
                        let digits = text.get(at..at + 4).unwrap_or_default();
                        let code = std::str::from_utf8(digits).ok();
                        let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
                        at += digits.len();
                        // Half of a pair stands for a character outside of what a log line needs.
                        let c = code.and_then(char::from_u32).unwrap_or('\u{fffd}');
                        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    other => out.push(other),
                }
            }
            other => out.push(other),
        }
    }
    // One record is one line: what else it holds must not begin another one.
    while out.last() == Some(&b'\n') {
        out.pop();
    }
    out.iter_mut()
        .filter(|b| **b == b'\n')
        .for_each(|b| *b = b' ');
    out
}

/// Whether a syslog daemon, or a program as one would, says that a line is of this program: `haproxy[7]: `, and
/// `haproxy 7 ` as RFC 5424 has it.
pub fn is_tagged(line: &[u8], program: &str) -> bool {
    let reach = &line[..line.len().min(PREFIX)];
    memmem::find_iter(reach, program).any(|at| {
        let before = at.checked_sub(1).map(|at| reach[at]);
        let behind = reach.get(at + program.len());
        before == Some(b' ') && matches!(behind, Some(b'[' | b':' | b' '))
    })
}

/// What stands behind `TIME stderr F `.
fn cri_text(line: &[u8]) -> Option<&[u8]> {
    let rest = &line[memchr(b' ', line).filter(|at| *at <= 40)? + 1..];
    let rest = rest
        .strip_prefix(b"stderr ")
        .or_else(|| rest.strip_prefix(b"stdout "))?;
    rest.strip_prefix(b"F ")
        .or_else(|| rest.strip_prefix(b"P "))
}

/// Whether a line is one of a syslog file, whoever wrote it there.
pub fn is_of_syslog(line: &[u8]) -> bool {
    syslog_time(line).is_some() && syslog_text(line).len() < line.len()
}

/// Whether a line begins with syslog's header and nothing else: behind the time a host, what busybox has as
/// `local7.info`, and the tag. An access log's own lines may begin with a time, too.
pub fn has_syslog_header(line: &[u8]) -> bool {
    let rest = behind_priority(line).unwrap_or(line);
    if rest.starts_with(b"1 ") || !is_of_syslog(line) {
        return is_of_syslog(line);
    }
    let head = &rest[..memmem::find(rest, b": ").unwrap_or(rest.len())];
    let words = head
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    // `Nov 23 02:41:00` has three, `2026-11-23T02:41:00+00:00` one.
    let of_time = if When::of_rfc3164(rest).is_some() {
        3
    } else {
        1
    };
    words.count() <= of_time + 3
}

/// `Nov 23 02:41:00`, `2026-11-23T02:41:00+00:00`, behind a priority and a version or not.
fn syslog_time(line: &[u8]) -> Option<When> {
    let rest = behind_priority(line)?;
    let rest = rest.strip_prefix(b"1 ").unwrap_or(rest);
    let word = &rest[..memchr(b' ', rest)?];
    When::of_rfc3339(word).or_else(|| When::of_rfc3164(rest))
}

/// What stands behind `<131>`, or all where there is no priority.
fn behind_priority(line: &[u8]) -> Option<&[u8]> {
    let Some(rest) = line.strip_prefix(b"<") else {
        return Some(line);
    };
    Some(&rest[memchr(b'>', &rest[..rest.len().min(4)])? + 1..])
}

/// What stands right behind the tag. Nothing further along is looked for: anybody can write a header there.
fn syslog_text(line: &[u8]) -> &[u8] {
    let versioned = behind_priority(line).and_then(|rest| rest.strip_prefix(b"1 "));
    let text = match versioned {
        Some(rest) => rfc5424_text(rest),
        None => rfc3164_text(line),
    };
    text.unwrap_or(line)
}

/// What stands behind `TIME HOST TAG: `.
fn rfc3164_text(line: &[u8]) -> Option<&[u8]> {
    let at = memmem::find(&line[..line.len().min(PREFIX)], b": ")?;
    let text = line[at + 2..].trim_ascii_start();
    // What rsyslog makes of several that are the same counts as one.
    let Some(repeated) = text.strip_prefix(b"message repeated ") else {
        return Some(text);
    };
    let count = repeated.iter().take_while(|byte| byte.is_ascii_digit());
    let first = repeated[count.count()..].strip_prefix(b" times: [");
    Some(first.map_or(text, <[u8]>::trim_ascii_start))
}

/// What stands behind `TIME HOST APP PROCID MSGID DATA `.
fn rfc5424_text(mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..5 {
        rest = &rest[memchr(b' ', rest)? + 1..];
    }
    let text = match rest.strip_prefix(b"-") {
        Some(text) => text,
        None => &rest[data_length(rest)?..],
    };
    let text = text.strip_prefix(b" ")?.trim_ascii_start();
    Some(text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text))
}

/// How long `[id name="value"][…]` is. In a value `"`, `]` and the backslash stand behind a backslash.
fn data_length(data: &[u8]) -> Option<usize> {
    let (mut at, mut quoted) = (0, false);
    while let Some(byte) = data.get(at) {
        at += 1;
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b']' if !quoted && data.get(at) != Some(&b'[') => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"2026/11/23 05:00:00 [crit] 9#9: *1 bind(0.0.0.0) failed (98: Address in use) while connecting to upstream, client: 192.0.2.1, server: a, request: "GET /a?x=1&y HTTP/1.1", upstream: "http://b:1/", host: "a""#;

    #[test]
    fn every_container_gives_back_what_nginx_wrote() {
        let json = LINE.replace('"', "\\\"").replace('&', "\\u0026");
        for (wrapping, line) in [
            (Wrapping::None, LINE.to_owned()),
            (
                Wrapping::Docker,
                format!(
                    r#"{{"log":"{json}\n","stream":"stderr","time":"2026-11-23T05:00:00.123456789Z"}}"#
                ),
            ),
            (
                Wrapping::Cri,
                format!("2026-11-23T05:00:00.123456789Z stderr F {LINE}"),
            ),
            (
                Wrapping::Syslog,
                format!("Nov 23 02:41:00 vm nginx: {LINE}"),
            ),
            (
                Wrapping::Syslog,
                format!("<187>Nov 23 02:41:00  nginx: {LINE}"),
            ),
            (
                Wrapping::Syslog,
                format!("2026-11-23T02:41:00+00:00 vm nginx: {LINE}"),
            ),
            (
                Wrapping::Syslog,
                format!("<187>1 2026-11-23T02:41:00+00:00 vm nginx - - -  {LINE}"),
            ),
            (
                Wrapping::Syslog,
                format!("1 2026-11-23T02:41:00+00:00 vm nginx 7 - - {LINE}"),
            ),
            (
                Wrapping::Syslog,
                format!(
                    r#"<187>1 2026-11-23T02:41:00Z vm nginx 7 - [a@1 b="c\] \" d"][e f="]"] {LINE}"#
                ),
            ),
            // What journalctl -o short-iso and with-unit print.
            (
                Wrapping::Syslog,
                format!("2026-11-23T02:41:00+0000 vm nginx[7]: {LINE}"),
            ),
            (
                Wrapping::Syslog,
                format!("Mon 2026-11-23 02:41:00 UTC vm nginx.service[7]: {LINE}"),
            ),
            (
                Wrapping::Syslog,
                format!("Nov 23 02:41:00 vm nginx:  {LINE}"),
            ),
        ] {
            assert_eq!(
                Wrapping::of(format!("{line}\n").as_bytes()),
                wrapping,
                "{line}"
            );
            assert_eq!(wrapping.unwrap(line.as_bytes()), LINE.as_bytes(), "{line}");
        }
        // In a plain log, what stands in the middle of a line is not nginx' time.
        let plain = format!("{LINE}\nsomething: {LINE}\n");
        assert_eq!(Wrapping::of(plain.as_bytes()), Wrapping::None);
    }

    #[test]
    fn only_what_stands_first_behind_the_tag_is_nginx_header() {
        for wrapped in [
            format!(
                "Nov 23 05:00:00 vm nginx: 192.0.2.66 - - [23/Nov/2026:05:00:00 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"{LINE}\""
            ),
            format!("Nov 23 05:00:00 vm sshd[77]: Invalid user {LINE} from 192.0.2.66 port 3333"),
            format!("Nov 23 05:00:00 vm app: user: {LINE}"),
            format!("<86>1 2026-11-23T05:00:00Z vm sshd 77 - - Invalid user {LINE}"),
            format!("<86>1 2026-11-23T05:00:00Z vm app 77 - [a b=\"c\\] {LINE}\"] text"),
            format!("<86>1 2026-11-23T05:00:00Z vm app 77 - - x: {LINE}"),
        ] {
            let text = Wrapping::Syslog.unwrap(wrapped.as_bytes());
            assert!(!has_header(&text), "{wrapped}");
            let head = format!("{wrapped}\n");
            assert_eq!(Wrapping::of(head.as_bytes()), Wrapping::None, "{wrapped}");
        }
    }

    #[test]
    fn a_line_that_begins_with_a_time_is_not_syslogs_for_that() {
        for (line, expected) in [
            ("<190>Nov 23 05:00:00 vm nginx: a - - GET: /", true),
            ("Nov  3 05:00:00 proxy1: a", true),
            ("Nov  3 05:00:00 vm local7.info nginx: a", true),
            ("2026-11-23T05:00:00.123456+00:00 vm nginx[7]: a", true),
            ("<190>1 2026-11-23T05:00:00Z vm nginx - - - a: b", true),
            ("Nov 23 05:00:00 vm last message", false),
            ("2026-11-23T05:00:12+00:00 192.0.2.4:51236 GET /", false),
            ("2026-11-23T05:00:12+00:00 192.0.2.4 GET / 200 x: y", false),
            ("nginx: a", false),
            ("", false),
        ] {
            assert_eq!(has_syslog_header(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn a_message_that_rsyslog_put_together_counts() {
        let line = format!("Nov 23 05:00:00 vm nginx: message repeated 2 times: [ {LINE}]");
        let text = Wrapping::Syslog.unwrap(line.as_bytes());
        assert_eq!(text, format!("{LINE}]").as_bytes());
    }

    #[test]
    fn a_batch_keeps_its_lines_and_their_border() {
        let bytes = b"half\nT stderr F one\nT stderr F two\n";
        let mut out = Vec::new();
        let fresh = bytes.len() - b"T stderr F two\n".len();
        let new = Wrapping::Cri.unwrap_batch(bytes, fresh, &mut out);
        assert_eq!(
            (&out[..new], &out[new..]),
            (&b"half\none\n"[..], &b"two\n"[..])
        );
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_stumble(line: Vec<u8>) {
            for wrapping in [Wrapping::None, Wrapping::Docker, Wrapping::Cri, Wrapping::Syslog] {
                let _ = (wrapping.unwrap(&line), has_syslog_header(&line));
                let quoted = [b"{\"log\":\"", line.as_slice()].concat();
                assert!(wrapping != Wrapping::Docker || !wrapping.unwrap(&quoted).contains(&b'\n'));
            }
        }
    }
}
