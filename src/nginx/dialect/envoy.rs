//! Envoy: an access log with the response flags behind the status, as its default format has them, and better with
//! `%RESPONSE_CODE_DETAILS%`, where alone it tells why a connection could not be made:
//! `[2026-11-23T05:00:00.123Z] "GET / HTTP/1.1" 503 UF upstream_reset_before_response_started{remote_connection_failure|immediate_connect_error:_Cannot_assign_requested_address|remote_address:192.0.2.1:80} …`.

use jiff::Timestamp;
use memchr::{memchr, memmem, memrchr};

use super::super::cause::Cause;
use super::super::clock::When;
use super::super::fields::{self, Parties};
use super::{Told, by_words};

/// Whether a line begins with a time and a request.
pub fn knows(text: &[u8]) -> bool {
    time(text).is_some()
}

/// The time that a line begins with, in UTC.
pub fn time(text: &[u8]) -> Option<When> {
    let inner = text.strip_prefix(b"[")?;
    let close = memchr(b']', &inner[..inner.len().min(40)])?;
    if !inner[close..].starts_with(b"] \"") {
        return None;
    }
    let time: Timestamp = std::str::from_utf8(&inner[..close]).ok()?.parse().ok()?;
    Some(When::Second(time.as_second()))
}

/// What a line says of an upstream's failure.
pub fn read(text: &[u8]) -> Option<Told<'_>> {
    let request = memmem::find(text, b"] \"")? + 3;
    let end = request + memmem::find(&text[request..], b"\" ")?;
    let mut words = text[end + 2..].splitn(3, |byte| *byte == b' ');
    let (_, flags) = (words.next()?, words.next()?);
    let rest = words.next().unwrap_or_default();
    let details = details(rest).unwrap_or_default();
    let flag = |wanted: &str| {
        flags
            .split(|byte| *byte == b',')
            .any(|flag| flag == wanted.as_bytes())
    };
    let address = field(details, b"remote_address:").or_else(|| last_address(rest));
    let cause = if flag("UF") {
        match reason(details) {
            Some(Cause::NoFreePort) if address.is_some_and(|address| address.starts_with(b"[")) => {
                Cause::Ipv6Unavailable
            }
            Some(cause) => cause,
            None if memmem::find(details, b"TLS_error").is_some() => Cause::Tls,
            None => Cause::OtherUpstream,
        }
    } else if flag("UH") {
        Cause::NoLiveUpstreams
    } else if flag("UT") {
        Cause::Timeout
    } else if flag("UC") {
        Cause::ClosedEarly
    } else if flag("UR") {
        Cause::Reset
    } else if flag("DF") {
        Cause::Resolver
    } else if flag("UO") || flag("URX") {
        Cause::OtherUpstream
    } else {
        return None;
    };
    let line = &text[request..end];
    let path = memchr(b' ', line).map(|at| &line[at + 1..]);
    Some(Told {
        cause,
        parties: Parties {
            upstream: address,
            uri: path.and_then(fields::path_prefix),
            ..Parties::default()
        },
        sums_up: None,
    })
}

/// The details, a word as `name{…}`: right behind the flags in Istio's format, elsewhere in others. What a client sent
/// stands in quotes and may have quotes in it. So they are looked for before the first quote and behind the last one;
/// in quotes they count only right behind the flags.
fn details(rest: &[u8]) -> Option<&[u8]> {
    let is_it = |word: &[u8]| word.contains(&b'{') && word.ends_with(b"}");
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let word = &quoted[..memchr(b'"', quoted)?];
        if is_it(word) && !word.contains(&b' ') {
            return Some(word);
        }
    }
    let first = memchr(b'"', rest).unwrap_or(rest.len());
    let last = memrchr(b'"', rest).unwrap_or(rest.len());
    [&rest[..first], &rest[last..]]
        .into_iter()
        .flat_map(|part| part.split(|byte| *byte == b' '))
        .find(|word| is_it(word))
}

/// Why the connection failed, from the details.
fn reason(details: &[u8]) -> Option<Cause> {
    let at = [
        &b"connect_error:"[..],
        b"upstream_reset_before_response_started{",
        b"connection_timeout",
    ]
    .iter()
    .find_map(|words| memmem::find(details, words))?;
    by_words(&details[at..])
}

fn field<'a>(details: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = &details[memmem::find(details, name)? + name.len()..];
    let end = rest.iter().position(|byte| b"|}".contains(byte));
    Some(&rest[..end.unwrap_or(rest.len())])
}

/// The last quoted word with a port, as the default format ends in: `"192.0.2.1:80"`, with or without `tcp://`.
fn last_address(rest: &[u8]) -> Option<&[u8]> {
    let end = memrchr(b'"', rest)?;
    let start = memrchr(b'"', &rest[..end])? + 1;
    let address = &rest[start..end];
    let address = address.strip_prefix(b"tcp://").unwrap_or(address);
    let port = &address[memrchr(b':', address)? + 1..];
    (!port.is_empty() && port.iter().all(u8::is_ascii_digit)).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_details_tell_why() {
        let head = "[2026-11-23T05:00:00.123Z] \"GET /a/b/c HTTP/1.1\" 503";
        let details = |why: &str, address: &str| {
            format!(
                "UF upstream_reset_before_response_started{{remote_connection_failure|{why}|remote_address:{address}}} - \"-\" 0 91 1 - \"-\" \"curl\" \"id\" \"a\" \"-\""
            )
        };
        for (rest, cause, upstream) in [
            (details("immediate_connect_error:_Cannot_assign_requested_address", "192.0.2.1:80"), Cause::NoFreePort, Some("192.0.2.1:80")),
            (details("immediate_connect_error:_Cannot_assign_requested_address", "[2001:db8::1]:80"), Cause::Ipv6Unavailable, Some("[2001:db8::1]:80")),
            (details("delayed_connect_error:_Connection_refused", "192.0.2.1:80"), Cause::Refused, Some("192.0.2.1:80")),
            (details("immediate_connect_error:_Network_is_unreachable", "192.0.2.1:80"), Cause::Unreachable, Some("192.0.2.1:80")),
            ("UF,URX upstream_reset_before_response_started{connection_timeout} - \"-\"".to_owned(), Cause::Timeout, None),
            ("UF 0 91 10 - \"-\" \"curl\" \"id\" \"a\" \"tcp://192.0.2.1:80\"".to_owned(), Cause::OtherUpstream, Some("192.0.2.1:80")),
            ("UH no_healthy_upstream - \"-\" 0 19".to_owned(), Cause::NoLiveUpstreams, None),
            ("UT response_timeout - \"-\" 0 24".to_owned(), Cause::Timeout, None),
            ("UC upstream_reset_before_response_started{connection_termination} - \"-\"".to_owned(), Cause::ClosedEarly, None),
            ("UF upstream_reset_before_response_started{remote_connection_failure|TLS_error:_1} -".to_owned(), Cause::Tls, None),
            // At the end of the line, and in quotes.
            ("UF 0 91 10 - \"-\" \"curl\" \"id\" \"a\" \"192.0.2.1:80\" upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}".to_owned(), Cause::Refused, Some("192.0.2.1:80")),
            ("UF \"upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused|remote_address:192.0.2.1:80}\" 0 91 10 - \"-\" \"curl\"".to_owned(), Cause::Refused, Some("192.0.2.1:80")),
        ] {
            let line = format!("{head} {rest}");
            let told = read(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((told.cause, told.parties.upstream), (cause, upstream.map(str::as_bytes)), "{line}");
            assert_eq!(told.parties.uri, Some(&b"/a/b"[..]));
        }
        // What a client sent is no detail, even with quotes in it.
        let word = "upstream_reset_before_response_started{connect_error:_Cannot_assign_requested_address|TLS_error|remote_address:203.0.113.9:443}";
        for agent in [
            "connect_error:Cannot_assign_requested_address remote_address:203.0.113.9:443"
                .to_owned(),
            "TLS_error".to_owned(),
            word.to_owned(),
            format!("x\" {word} \"x"),
            format!("x\" 0 \"{word}\" \"x"),
        ] {
            let line = format!(
                "{head} UF 0 91 3 - \"192.0.2.66\" \"{agent}\" \"id-1\" \"host\" \"10.0.0.1:80\""
            );
            let told = read(line.as_bytes()).unwrap();
            let upstream = told.parties.upstream.map(String::from_utf8_lossy);
            assert_eq!(
                (told.cause, upstream.as_deref()),
                (Cause::OtherUpstream, Some("10.0.0.1:80")),
                "{line}"
            );
        }
        for rest in [
            "- via_upstream - \"-\" 0 5",
            "NR route_not_found -",
            "DC downstream_remote_disconnect",
            "",
        ] {
            assert_eq!(read(format!("{head} {rest}").as_bytes()), None, "{rest}");
        }
    }
}
