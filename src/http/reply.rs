//! A reply as it came, read as leniently as `check_http` reads: what stands in it is what counts, not whether it is
//! well-formed.

use std::borrow::Cow;

use memchr::memmem;

/// The longest header block that is looked at.
pub const HEAD_LIMIT: usize = 256 * 1024;

/// How long the id of a request is: what is shorter says nothing, what is longer is none.
const REQUEST_ID_MIN: usize = 8;
const REQUEST_ID_MAX: usize = 64;

/// A reply: its header block and its page.
#[derive(Debug, Default)]
pub struct Reply {
    /// Status line and headers, up to the empty line.
    pub head: Vec<u8>,
    /// The page, unpacked, as far as it was kept.
    pub page: Vec<u8>,
    /// Whether there was more of the page than was kept.
    pub page_cut: bool,
    /// Whether it came over HTTP/2, its head being a retelling.
    pub http2: bool,
}

impl Reply {
    /// The status line without the white space around it; all of the first line where it is none.
    pub fn status_line(&self) -> Cow<'_, str> {
        let line = self.head.split(|b| *b == b'\n').next().unwrap_or_default();
        String::from_utf8_lossy(line.trim_ascii())
    }

    /// The headers without the status line.
    pub fn headers(&self) -> &[u8] {
        behind_status(&self.head)
    }

    /// The `X-Request-Id` that the other side gives, where it is one: nginx may say its `$request_id` by it.
    pub fn request_id(&self) -> Option<String> {
        let id = header(self.headers(), "x-request-id")?;
        let id = id.as_ref();
        let fits = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
        let one = (REQUEST_ID_MIN..=REQUEST_ID_MAX).contains(&id.len()) && id.iter().all(fits);
        one.then(|| String::from_utf8_lossy(id).into_owned())
    }

    /// The value of the first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        header(self.headers(), name).map(|value| match value {
            Cow::Borrowed(value) => String::from_utf8_lossy(value),
            Cow::Owned(value) => Cow::Owned(String::from_utf8_lossy(&value).into_owned()),
        })
    }

    /// The values of all headers of that name, as they came but for folded lines, which are one here.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = Cow<'a, [u8]>> {
        all(self.headers(), name)
    }
}

/// What stands behind the first line of a header block, whatever that looks like.
fn behind_status(block: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', block).map_or(&[], |at| &block[at + 1..])
}

/// The value of the first header of that name among headers.
fn header<'a>(block: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    all(block, name).next()
}

fn all<'a, 'n>(
    block: &'a [u8],
    name: &'n str,
) -> impl Iterator<Item = Cow<'a, [u8]>> + use<'a, 'n> {
    fields(block).filter_map(move |field| {
        let colon = memchr::memchr(b':', field)?;
        field[..colon]
            .trim_ascii()
            .eq_ignore_ascii_case(name.as_bytes())
            .then(|| unfolded(field[colon + 1..].trim_ascii()))
    })
}

/// Headers, each with the lines behind it that begin with white space: they go on with it (RFC 9112, 5.2).
fn fields(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let goes_on = |at: usize| matches!(rest.get(at + 1), Some(b' ' | b'\t'));
        let mut ends = memchr::memchr_iter(b'\n', rest).filter(|at| !goes_on(*at));
        let end = ends.next().unwrap_or(rest.len());
        let field = (!rest.is_empty()).then(|| &rest[..end])?;
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(field)
    })
}

/// A value with a blank in place of what divides its lines.
fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let lines = value.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    Cow::Owned(lines.join(&b' '))
}

/// Where the header block ends and where the page begins, once the empty line is there. Interim replies (100, 103)
/// before the last one are skipped: `(start, end, page)`.
pub fn split(raw: &[u8]) -> Option<(usize, usize, usize)> {
    let mut start = 0;
    loop {
        let rest = &raw[start..];
        let (end, page) = end_of_head(rest)?;
        if !is_interim(rest) || !raw[start + page..].starts_with(b"HTTP/") {
            return Some((start, start + end, start + page));
        }
        start += page;
    }
}

/// Whether this header block is that of a reply before the reply. (With 101 a connection is given over.)
pub fn is_interim(block: &[u8]) -> bool {
    block.starts_with(b"HTTP/1.")
        && block.get(8..10) == Some(b" 1")
        && block.get(8..12) != Some(b" 101")
}

/// The first empty line, with or without carriage returns: where it begins and where it ends.
fn end_of_head(raw: &[u8]) -> Option<(usize, usize)> {
    memchr::memchr_iter(b'\n', raw).find_map(|at| match &raw[at + 1..] {
        [b'\n', ..] => Some((at + 1, at + 2)),
        [b'\r', b'\n', ..] => Some((at + 1, at + 3)),
        _ => None,
    })
}

/// The length that a header block announces.
pub fn content_length(head: &[u8]) -> Option<u64> {
    let value = header(behind_status(head), "content-length")?;
    std::str::from_utf8(&value).ok()?.parse().ok()
}

/// Whether a header block announces chunks.
pub fn is_chunked(head: &[u8]) -> bool {
    header(behind_status(head), "transfer-encoding")
        .is_some_and(|value| memmem::find(&value.to_ascii_lowercase(), b"chunked").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_block_ends_with_any_kind_of_empty_line() {
        for (raw, expected) in [
            (&b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nx"[..], Some((0, 23, 25))),
            (b"HTTP/1.0 200 OK\nA: b\n\nx", Some((0, 21, 22))),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n", None),
            (b"", None),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
                Some((25, 42, 44)),
            ),
            (b"HTTP/1.1 100 Continue\r\n\r\n", Some((0, 23, 25))),
        ] {
            assert_eq!(split(raw), expected, "{}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn headers_are_found_whatever_their_case() {
        let reply = Reply {
            head: b"HTTP/1.1 200 OK \r\nlocation:  /x \r\nContent-Length: 12\r\n".to_vec(),
            ..Reply::default()
        };
        assert_eq!(reply.status_line(), "HTTP/1.1 200 OK");
        assert_eq!(reply.header("Location").unwrap(), "/x");
        assert_eq!(content_length(&reply.head), Some(12));
        assert_eq!(reply.header("X"), None);
        let twice = Reply {
            head: b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\na : 3\r\n".to_vec(),
            ..Reply::default()
        };
        assert_eq!(twice.all("A").collect::<Vec<_>>(), [&b"1"[..], b"3"]);
        assert!(is_chunked(
            b"HTTP/1.1 200\nTransfer-Encoding: gzip, Chunked\n"
        ));
    }

    #[test]
    fn a_header_on_several_lines_was_one_without_a_value() {
        let reply = Reply {
            head: b"HTTP/1.1 302 Found\r\nLocation:\r\n /ok\r\nX-Long: a \r\n\t b\r\n \r\n  c: d\r\nX-Last:\n 1"
                .to_vec(),
            ..Reply::default()
        };
        for (name, value) in [
            ("location", Some("/ok")),
            ("x-long", Some("a b c: d")),
            ("c", None),
            ("x-last", Some("1")),
        ] {
            assert_eq!(reply.header(name).as_deref(), value, "{name}");
        }
        let orphan = Reply {
            head: b"HTTP/1.1 200 OK\r\n Location: /x\r\n".to_vec(),
            ..Reply::default()
        };
        assert_eq!(orphan.header("location").as_deref(), Some("/x"));
    }
}
