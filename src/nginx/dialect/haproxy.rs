//! HAProxy: what it says of connections that could not be made (`Connect() failed for backend …`, once for each try),
//! and its log of requests, whose termination state tells the rest.

use memchr::{memchr, memchr_iter, memmem, memrchr};

use super::super::cause::Cause;
use super::super::clock::When;
use super::super::fields::{self, Parties};
use super::super::wrapping::is_tagged;
use super::Told;

/// Whether a line is of a process of this name, or of its own kind.
pub fn knows(raw: &[u8], text: &[u8]) -> bool {
    is_tagged(raw, "haproxy") || told(text).is_some() || Request::read(text).is_some()
}

/// What a line says of an upstream's failure.
pub fn read(text: &[u8]) -> Option<Told<'_>> {
    told(text).or_else(|| Request::read(text)?.told())
}

/// When the request of a line came.
pub fn time(text: &[u8]) -> Option<When> {
    Request::read(text)?.time
}

/// A line of an event.
fn told(text: &[u8]) -> Option<Told<'_>> {
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if let Some(rest) = text.strip_prefix(b"Connect() failed for backend ") {
        let colon = memrchr(b':', rest)?;
        let cause = match rest[colon + 1..].trim_ascii() {
            b"no free ports." => Cause::NoFreePort,
            b"local address already in use." => Cause::BindInUse,
            _ => Cause::OtherUpstream,
        };
        return Some(Told::new(cause, Some(&rest[..colon])));
    }
    // The port range of `source` is used up, or its address is not here: it says the same of both.
    for start in [
        &b"Cannot bind to source address before connect() for backend "[..],
        b"Cannot bind to tproxy source address before connect() for backend ",
    ] {
        if let Some(rest) = text.strip_prefix(start) {
            let name = &rest[..memchr(b'.', rest).unwrap_or(rest.len())];
            return Some(Told::new(Cause::BindInUse, Some(name)));
        }
    }
    if let Some(rest) = text.strip_prefix(b"Proxy ") {
        let limits = [
            &b" reached process FD limit"[..],
            b" reached system FD limit",
        ];
        let at = limits.iter().find_map(|words| memmem::find(rest, words))?;
        return Some(Told::new(Cause::NoFileDescriptors, Some(&rest[..at])));
    }
    if let Some(rest) = text.strip_prefix(b"backend ") {
        let name = rest.strip_suffix(b" has no server available!")?;
        return Some(Told::new(Cause::NoLiveUpstreams, Some(name)));
    }
    // Checks of servers take ports, too.
    let rest = text.strip_prefix(b"Server ")?;
    memmem::find(rest, b"Out of local source ports on the system")?;
    let name = &rest[..memchr(b' ', rest)?];
    Some(Told::new(Cause::NoFreePort, Some(name)))
}

/// A line as `option httplog` and `option tcplog` write it:
/// `CLIENT:PORT [23/Nov/2026:05:00:00.279] FRONTEND BACKEND/SERVER 0/0/-1/-1/3018 503 217 - - SC-- 1/1/0/0/3 0/0 "GET / HTTP/1.1"`.
struct Request<'a> {
    parties: Parties<'a>,
    has_server: bool,
    /// Why the session ended, and when.
    state: &'a [u8],
    retries: u32,
    time: Option<When>,
}

impl<'a> Request<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let open = memmem::find(&text[..text.len().min(80)], b" [")?;
        let (client, rest) = (&text[..open], &text[open + 2..]);
        let close = memchr(b']', &rest[..rest.len().min(40)])?;
        let time = When::of_request(&rest[..close])?;
        let rest = rest[close + 1..].strip_prefix(b" ")?;
        let mut words = rest.split(|byte| *byte == b' ');
        let (frontend, upstream, timers) = (words.next()?, words.next()?, words.next()?);
        // http has five timers, a status, bytes and two cookies; tcp three and bytes.
        let before = match memchr_iter(b'/', timers).count() {
            4 => 4,
            2 => 1,
            _ => return None,
        };
        let state = words.nth(before).filter(|state| state.len() >= 2)?;
        // actconn/feconn/beconn/srv_conn/retries, these with a + where another server was tried.
        let retries = words.next().and_then(|counts| {
            let last = &counts[memrchr(b'/', counts)? + 1..];
            let digits = last.strip_prefix(b"+").unwrap_or(last);
            std::str::from_utf8(digits).ok()?.parse().ok()
        });
        let slash = memchr(b'/', upstream)?;
        let uri = memmem::find(rest, b" \"").map(|quote| &rest[quote + 2..]);
        let uri =
            uri.and_then(|request| fields::path_prefix(&request[memchr(b' ', request)? + 1..]));
        Some(Self {
            parties: Parties {
                upstream: Some(upstream),
                server: Some(frontend.strip_suffix(b"~").unwrap_or(frontend)),
                client: Some(&client[..memrchr(b':', client).unwrap_or(client.len())]),
                uri,
            },
            has_server: &upstream[slash + 1..] != b"<NOSRV>",
            state,
            retries: retries.unwrap_or(0),
            time: Some(time),
        })
    }

    fn told(self) -> Option<Told<'a>> {
        let cause = match (self.state[0], self.state[1]) {
            (b'S', b'C') if !self.has_server => Cause::NoLiveUpstreams,
            (b'S', b'C') | (b's', b'Q') => Cause::OtherUpstream,
            (b's', b'C' | b'H' | b'D') => Cause::Timeout,
            (b'S', b'H' | b'D') => Cause::ClosedEarly,
            _ => return None,
        };
        Some(Told {
            cause,
            parties: self.parties,
            sums_up: Some(self.retries.saturating_add(1)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_words_are_those_of_2_6_under_ten_ports() {
        let request = |state: &str, server: &str| {
            format!(
                "192.0.2.9:1234 [23/Nov/2026:11:32:12.279] f~ b/{server} 0/0/-1/-1/3018 503 217 - - {state} 1/1/0/0/3 0/0 \"GET /a/b/c HTTP/1.1\""
            )
        };
        for (text, cause, upstream) in [
            (
                "Connect() failed for backend b: no free ports.",
                Cause::NoFreePort,
                "b",
            ),
            (
                "Connect() failed for backend b: local address already in use.",
                Cause::BindInUse,
                "b",
            ),
            (
                "Cannot bind to source address before connect() for backend range. Aborting.",
                Cause::BindInUse,
                "range",
            ),
            (
                "Cannot bind to source address before connect() for backend range.",
                Cause::BindInUse,
                "range",
            ),
            (
                "Proxy f reached process FD limit (maxsock=100). Please check 'ulimit-n' and restart.",
                Cause::NoFileDescriptors,
                "f",
            ),
            (
                "backend chk has no server available!",
                Cause::NoLiveUpstreams,
                "chk",
            ),
            (
                "Server chk/s1 is DOWN, reason: Layer4 connection problem, info: \"Out of local source ports on the system (Cannot assign requested address)\", check duration: 0ms.",
                Cause::NoFreePort,
                "chk/s1",
            ),
            (&request("SC--", "s1"), Cause::OtherUpstream, "b/s1"),
            (
                &request("SC--", "<NOSRV>"),
                Cause::NoLiveUpstreams,
                "b/<NOSRV>",
            ),
            (&request("sH--", "s1"), Cause::Timeout, "b/s1"),
            (&request("SH--", "s1"), Cause::ClosedEarly, "b/s1"),
            (
                "unix:1 [23/Nov/2026:11:32:21.223] t t/s1 1/-1/0 0 sC 1/1/0/0/3 0/0",
                Cause::Timeout,
                "t/s1",
            ),
        ] {
            let told = read(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                (told.cause, told.parties.upstream),
                (cause, Some(upstream.as_bytes())),
                "{text}"
            );
        }
        let text = request("SC--", "s1");
        let parties = read(text.as_bytes()).unwrap().parties;
        assert_eq!(
            (parties.server, parties.client, parties.uri),
            (Some(&b"f"[..]), Some(&b"192.0.2.9"[..]), Some(&b"/a/b"[..]))
        );
        for text in [
            &request("----", "s1")[..],
            &request("CD--", "s1"),
            "Server chk/s1 is DOWN, reason: Layer4 connection problem, info: \"Connection refused\", check duration: 0ms.",
            "Proxy f started.",
            "backend chk is up",
            "",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
