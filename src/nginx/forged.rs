//! Lines that a request wrote.
//!
//! nginx prints decoded paths raw: `GET /x%0a2026/11/23%2005:00:00%20[crit]…` makes `open() "/srv/x` end in the
//! middle, and what follows looks like a line of its own. A message is one write of at most [`LONGEST`] bytes, which
//! bounds how far a forged line can be from the line that it grew out of, and its true tail has to come somewhere:
//! `" failed (2: No such file or directory), client: …`, at the end of the forged line or on a line of its own.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter, memmem};

use super::line::{LONGEST, has_header, header};

static CLIENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"client: "));
static FIELD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b", client: "));

/// Looks for forged lines in one batch of lines, each of which has to pass in order.
#[derive(Debug)]
pub struct Watch {
    /// All lines that begin before this place are part of one broken message.
    broken: usize,
}

impl Watch {
    /// One for the lines from `fresh` on; what stands before is looked at now.
    pub fn new(bytes: &[u8], fresh: usize) -> Self {
        let mut watch = Self { broken: 0 };
        let mut at = fresh.saturating_sub(LONGEST - 1);
        // Lookback may begin in the middle of a line.
        if at > 0 && bytes[at - 1] != b'\n' {
            at = memchr(b'\n', &bytes[at..fresh]).map_or(fresh, |feed| at + feed + 1);
        }
        while at < fresh {
            let end = memchr(b'\n', &bytes[at..fresh]).map_or(fresh, |feed| at + feed);
            watch.pass(bytes, at, end);
            at = end + 1;
        }
        watch
    }

    /// Takes in the line at `start..end`. Lines that surely have a client's address may be left out.
    #[inline]
    pub fn pass(&mut self, bytes: &[u8], start: usize, end: usize) {
        if is_broken(&bytes[start..end]) {
            self.broken = self.broken.max(start + extent(&bytes[start..]));
        }
    }

    /// Whether the line at `start..end` was written by a request.
    #[inline]
    pub fn is_forged(&self, bytes: &[u8], start: usize, end: usize) -> bool {
        start < self.broken || has_second_tail(&bytes[start..end])
    }
}

/// A line with a header and a client's connection that stops within quotes, its fields missing. (The first line of
/// what a FastCGI server said on several lines looks the same, and what follows is no more to be trusted.)
fn is_broken(line: &[u8]) -> bool {
    // What most lines have comes first.
    CLIENT.find(line).is_none()
        && line.len() < LONGEST - 1
        && memchr_iter(b'"', line).count() % 2 == 1
        && has_header(line)
        && header(line).is_some_and(|header| header.connection.is_some())
}

/// How many bytes the broken message at the start of `bytes` takes.
fn extent(bytes: &[u8]) -> usize {
    let reach = bytes.len().min(LONGEST);
    if bytes.get(LONGEST - 1) == Some(&b'\n') {
        return LONGEST; // cut by nginx, with no tail to wait for
    }
    let mut extent = 0;
    let mut from = 0;
    for feed in memchr_iter(b'\n', &bytes[..reach]) {
        let line = &bytes[from..feed];
        if from > 0 && is_broken(line) {
            break;
        }
        let tail = if has_header(line) {
            has_second_tail(line)
        } else {
            FIELD.find(line).is_some()
        };
        if tail {
            extent = feed + 1;
        }
        from = feed + 1;
    }
    extent
}

/// `" failed (2: No such file or directory), client: ` behind fields that have been there already.
fn has_second_tail(line: &[u8]) -> bool {
    let length = FIELD.needle().len();
    let Some(first) = FIELD.find(line) else {
        return false;
    };
    let mut from = first + length;
    while let Some(at) = FIELD.find(&line[from..]) {
        let before = &line[first..from + at];
        let closes_a_path = before.ends_with(b")")
            && memmem::rfind(before, b"\" ").is_some_and(|quote| {
                let words = &before[quote + 2..];
                [&b"failed ("[..], b"is not found (", b"is forbidden ("]
                    .iter()
                    .any(|tail| words.starts_with(tail))
            });
        if closes_a_path {
            return true;
        }
        from += at + length;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = "2026/11/23 03:35:50 [crit] 54#54: *21 bind(0.0.0.0) failed (98: Address already in use) while connecting to upstream, client: 127.0.0.1, server: a, request: \"GET / HTTP/1.1\", upstream: \"http://127.0.0.1:9002/\", host: \"a\"";

    /// Which lines are forged.
    fn forged(lines: &[&str]) -> Vec<bool> {
        let text = lines.join("\n") + "\n";
        let mut watch = Watch::new(text.as_bytes(), 0);
        let mut at = 0;
        let judge = |line: &&str| {
            let start = at;
            at += line.len() + 1;
            let forged = watch.is_forged(text.as_bytes(), start, start + line.len());
            watch.pass(text.as_bytes(), start, start + line.len());
            forged
        };
        lines.iter().map(judge).collect()
    }

    #[test]
    fn what_grows_out_of_a_broken_path_is_forged_and_its_neighbours_are_not() {
        let open = "2026/11/23 03:35:12 [error] 1370#1370: *116 open() \"/srv/html/x";
        let tail = "\" failed (2: No such file or directory), client: 127.0.0.1, server: a, request: \"GET /x%0a HTTP/1.1\", host: \"a\"";
        let grown = format!("{REAL}{tail}");
        assert_eq!(
            forged(&[REAL, open, &grown, REAL]),
            [false, false, true, false]
        );
        let own_line = format!("y{tail}");
        assert_eq!(
            forged(&[open, REAL, REAL, &own_line, REAL]),
            [false, true, true, true, false]
        );
        // Two such requests do not hide what was logged between them.
        assert_eq!(
            forged(&[open, &own_line, REAL, open, &own_line, REAL]),
            [false, true, false, false, true, false]
        );
    }

    #[test]
    fn a_message_that_nginx_cut_reaches_as_far_as_its_longest_line() {
        let open = "2026/11/23 03:35:12 [error] 1370#1370: *116 open() \"/srv/html/x";
        let rest = "z".repeat(LONGEST - open.len() - REAL.len() - 3);
        assert_eq!(
            forged(&[open, REAL, &rest, REAL]),
            [false, true, true, false]
        );
    }

    #[test]
    fn quotes_and_words_in_a_referrer_do_not_make_a_line_forged() {
        let line = format!("{REAL}, referrer: \"x, client: 1.2.3.4, server: b\" failed \"");
        assert_eq!(forged(&[&line, REAL]), [false, false]);
    }

    #[test]
    fn a_message_of_a_fastcgi_server_is_one_message() {
        let first =
            "2026/11/23 03:34:52 [error] 1370#1370: *43 FastCGI sent in stderr: \"PHP message: x";
        let last =
            "thrown\" while reading response header from upstream, client: 127.0.0.1, server: a";
        assert_eq!(
            forged(&[first, REAL, last, REAL]),
            [false, true, true, false]
        );
    }
}
