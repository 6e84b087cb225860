//! The fields behind a message: `, client: …, server: …, request: "…", subrequest: "…", upstream: "…", host: "…",
//! referrer: "…"`. Nothing in them is escaped; only their order tells which ones nginx wrote.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter, memchr3, memmem};

static CLIENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"client: "));
static SERVER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b", server: "));
static REQUEST: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b", request: \""));
static HOST: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b", host: \""));
static REFERRER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b", referrer: \""));
static UPSTREAM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b", upstream: "));

/// Where the message ends and the fields begin; the end of the line where there are none.
pub fn start(message: &[u8]) -> usize {
    let begins = |at: &usize| {
        let rest = &message[*at..];
        rest.starts_with(b", client: ") || rest.starts_with(b", udp client: ")
    };
    // Messages have few commas, if any.
    memchr_iter(b',', message)
        .find(begins)
        .unwrap_or(message.len())
}

/// Whom a line concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parties<'a> {
    /// `host:port`, `[v6]:port`, `unix:/path` or the name of an upstream block.
    pub upstream: Option<&'a [u8]>,
    /// The server as the line has it.
    pub server: Option<&'a [u8]>,
    /// The client's address.
    pub client: Option<&'a [u8]>,
    /// The first two steps of the request's path, as `/api/v1`.
    pub uri: Option<&'a [u8]>,
}

/// Takes the fields apart.
pub fn parties(fields: &[u8]) -> Parties<'_> {
    in_usual_order(fields).unwrap_or_else(|| in_any_order(fields))
}

/// As nginx writes nearly all of them: client, server, request and upstream, one right behind the other.
fn in_usual_order(fields: &[u8]) -> Option<Parties<'_>> {
    let rest = fields.strip_prefix(b", client: ")?;
    let (client, rest) = rest.split_at(memchr(b',', rest)?);
    let rest = rest.strip_prefix(b", server: ")?;
    let (server, quoted) = rest.split_at(memchr(b',', rest)?);
    let request = quoted.strip_prefix(b", request: \"")?;
    let rest = &request[memchr(b'"', request)? + 1..];
    let value = rest.strip_prefix(b", upstream: ")?;
    Some(Parties {
        upstream: peer(value),
        server: Some(server),
        client: Some(client),
        uri: uri_prefix(quoted),
    })
}

fn in_any_order(fields: &[u8]) -> Parties<'_> {
    let request = REQUEST.find(fields);
    let (plain, quoted) = fields.split_at(request.unwrap_or(fields.len()));
    Parties {
        upstream: upstream(if request.is_some() { quoted } else { fields }),
        server: value(plain, &SERVER),
        client: value(plain, &CLIENT),
        uri: request.and_then(|_| uri_prefix(quoted)),
    }
}

/// The first two steps of the request's path; what follows tells too many apart.
fn uri_prefix(fields: &[u8]) -> Option<&[u8]> {
    let path = &fields[REQUEST.needle().len()..];
    path_prefix(&path[memchr(b' ', &path[..path.len().min(20)])? + 1..])
}

/// The first two steps of a path.
pub fn path_prefix(path: &[u8]) -> Option<&[u8]> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let mut steps = 0;
    let end = path.iter().position(|byte| {
        steps += u8::from(*byte == b'/');
        steps == 3 || b"?# \"".contains(byte)
    });
    Some(&path[..end.unwrap_or(path.len())])
}

/// The value of a field that is not quoted.
fn value<'a>(fields: &'a [u8], name: &Finder<'_>) -> Option<&'a [u8]> {
    let at = name.find(fields)? + name.needle().len();
    let rest = &fields[at..];
    Some(&rest[..memchr(b',', rest).unwrap_or(rest.len())])
}

/// The upstream: `host:port`, `[v6]:port`, `unix:/path` or the name of a block.
pub fn upstream(fields: &[u8]) -> Option<&[u8]> {
    upstream_value(fields).and_then(peer)
}

/// What stands behind `upstream: `, from the first one on that a Host or a Referer could not have written.
fn upstream_value(fields: &[u8]) -> Option<&[u8]> {
    let at = UPSTREAM.find(fields)?;
    let forged = HOST.find(&fields[..at]).is_some() || REFERRER.find(&fields[..at]).is_some();
    (!forged).then(|| &fields[at + UPSTREAM.needle().len()..])
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
    let text = match memchr(b':', &text[..text.len().min(11)]) {
        Some(at) if text[at..].starts_with(b"://") => &text[at + 3..],
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
    match memchr3(b'/', b'?', b'#', text) {
        Some(end) => Some(&text[..end]),
        None => whole.then_some(text),
    }
    .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn the_usual_order_is_read_as_any_other(
            client in "[0-9a-f.:]{1,9}", server in "[a-z.]{0,9}", path in "[a-z/?=]{0,20}",
            upstream in "(http|fastcgi)://[a-z:0-9]{1,9}/[a-z]{0,9}", end in "(, host: \"[a-z\", :]{0,30})?",
        ) {
            let fields = format!(
                ", client: {client}, server: {server}, request: \"GET /{path} HTTP/1.1\", upstream: \"{upstream}\"{end}"
            );
            let fields = fields.as_bytes();
            assert_eq!(in_usual_order(fields), Some(in_any_order(fields)));
            for cut in 0..fields.len() {
                if let Some(parties) = in_usual_order(&fields[..cut]) {
                    assert_eq!(parties, in_any_order(&fields[..cut]));
                }
            }
        }
    }
}
