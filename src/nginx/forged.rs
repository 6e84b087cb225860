//! Lines that a request wrote.
//!
//! nginx prints decoded paths raw: `GET /x%0a2026/11/23%2005:00:00%20[crit]…` makes `open() "/srv/x` end in the
//! middle, and what follows looks like a line of its own. A message is one write of at most [`LONGEST`] bytes, which
//! bounds how far a forged line can be from the line that it grew out of, and its true tail has to come somewhere:
//! `" failed (2: No such file or directory), client: …`, at the end of the forged line or on a line of its own.
//!
//! What cannot be told: a request that forges a whole message *and* another broken one behind it looks, byte for
//! byte, like three messages.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memmem, memrchr};

use super::line::{LONGEST, has_header, is_of_a_connection, message};

static CLIENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"client: "));
static FIELD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b", client: "));

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// nginx.
    Nginx,
    /// A request, by a line feed in its path; or the line belongs to another message of several lines.
    Request,
    /// It takes the bytes that follow to tell.
    Open,
}

/// Looks for forged lines in a text. Only the lines near those that are asked about are looked at.
#[derive(Debug)]
pub struct Watch<'a> {
    bytes: &'a [u8],
    /// Whether more may follow.
    goes_on: bool,
    /// The lines before this place have been looked at.
    passed: usize,
    /// All lines that begin before this place are part of one broken message.
    broken: usize,
    /// Lines that begin before this one may be, by what follows.
    open: usize,
}

impl<'a> Watch<'a> {
    /// One for a text, behind which more may follow.
    pub fn new(bytes: &'a [u8], goes_on: bool) -> Self {
        Self {
            bytes,
            goes_on,
            passed: 0,
            broken: 0,
            open: 0,
        }
    }

    /// Who wrote the line at `start..end`, which has no client's address before `fields`. Lines have to be asked
    /// about in order.
    #[inline]
    pub fn origin(&mut self, start: usize, end: usize, fields: usize) -> Origin {
        self.pass_up_to(start);
        if start < self.broken
            || has_second_tail(&self.bytes[fields..end])
            || has_tail_of_another(&self.bytes[start..fields])
        {
            Origin::Request
        } else if start < self.open {
            Origin::Open
        } else {
            Origin::Nginx
        }
    }

    /// The line at `start..end` has a client's address: it need not be looked at again.
    #[inline]
    pub fn is_whole(&mut self, start: usize, end: usize) {
        if self.passed == start {
            self.passed = end + 1;
        }
    }

    /// Where to look back from here: no message that began before reaches it.
    pub fn reach(bytes: &[u8], at: usize) -> usize {
        let from = at.saturating_sub(LONGEST - 1);
        // That may be in the middle of a line.
        if from > 0 && bytes[from - 1] != b'\n' {
            memchr(b'\n', &bytes[from..at]).map_or(at, |feed| from + feed + 1)
        } else {
            from
        }
    }

    fn pass_up_to(&mut self, start: usize) {
        if self.passed + LONGEST <= start {
            self.passed = Self::reach(self.bytes, start);
        }
        while self.passed < start {
            let rest = &self.bytes[self.passed..start];
            let end = memchr(b'\n', rest).map_or(start, |feed| self.passed + feed);
            self.pass(self.passed, end);
            // A line that begins behind NUL bytes has no line feed before it.
            self.passed = start.min(end + 1);
        }
    }

    fn pass(&mut self, start: usize, end: usize) {
        if !is_broken(&self.bytes[start..end]) {
            return;
        }
        let (extent, is_closed) = extent(&self.bytes[start..]);
        self.broken = self.broken.max(start + extent);
        if self.goes_on && !is_closed {
            self.open = self.open.max(start + LONGEST);
        }
    }
}

/// A line with a header and a client's connection that stops in the middle of a text that nginx printed raw, its
/// fields missing. (The first line of what a FastCGI server said on several lines looks the same, and what follows is
/// no more to be trusted.)
fn is_broken(line: &[u8]) -> bool {
    // What most lines have comes first.
    if CLIENT.find(line).is_some() || line.len() >= LONGEST - 1 {
        return false;
    }
    // What a power failure left of a line before it is none of it.
    let line = &line[memrchr(0, line).map_or(0, |nul| nul + 1)..];
    memchr(b'"', line).is_some() && has_header(line) && is_of_a_connection(line)
}

/// How many bytes the broken message at the start of `bytes` takes, and whether no more can follow of it. Each broken
/// message has one tail of its own; what begins within another one and finds none belongs to that.
fn extent(bytes: &[u8]) -> (usize, bool) {
    let reach = bytes.len().min(LONGEST);
    if bytes.get(LONGEST - 1) == Some(&b'\n') {
        return (LONGEST, true); // cut by nginx, with no tail to wait for
    }
    let (mut extent, mut from, mut without_tail) = (0, 0, 0_u32);
    while from < reach {
        let end = match memchr(b'\n', &bytes[from..reach]) {
            Some(feed) => from + feed,
            None if bytes.len() >= LONGEST => break, // too long for this message
            None => reach,                           // the half of a line that is there
        };
        let line = &bytes[from..end];
        if is_broken(line) {
            if from > 0 && without_tail == 0 {
                // Whether nginx cut it where its buffer ends still has to show.
                return (extent, bytes.len() >= LONGEST);
            }
            without_tail += 1;
        } else if is_tail(line) {
            without_tail = without_tail.saturating_sub(1);
            extent = end + 1;
        }
        from = end + 1;
    }
    (extent.min(bytes.len()), bytes.len() >= LONGEST)
}

fn is_tail(line: &[u8]) -> bool {
    let Some(field) = FIELD.find(line) else {
        return false;
    };
    if !has_header(line) {
        return true;
    }
    has_tail_of_another(&line[..field]) || has_second_tail(line)
}

/// Whether a text ends as messages with a path do: `" failed (2: No such file or directory)`.
fn closes_a_path(text: &[u8]) -> bool {
    text.ends_with(b")")
        && memmem::rfind(text, b"\" ").is_some_and(|quote| {
            let words = &text[quote + 2..];
            [&b"failed ("[..], b"is not found (", b"is forbidden ("]
                .iter()
                .any(|tail| words.starts_with(tail))
        })
}

/// Whether a line ends, before its fields, as messages with a path do, and names none itself.
fn has_tail_of_another(line: &[u8]) -> bool {
    closes_a_path(line)
        && message(line).is_some_and(|message| {
            let call = message.iter().position(|byte| *byte == b'(').unwrap_or(0);
            let names_a_path = message.starts_with(b"\"")
                || message[call..].starts_with(b"() \"")
                || message.starts_with(b"directory index of \"");
            !names_a_path
        })
}

/// `" failed (2: No such file or directory), client: ` behind fields that have been there already.
fn has_second_tail(line: &[u8]) -> bool {
    // Most fields have none of its brackets.
    if memchr(b')', line).is_none() {
        return false;
    }
    let length = FIELD.needle().len();
    let first = if line.starts_with(FIELD.needle()) {
        0
    } else if let Some(first) = FIELD.find(line) {
        first
    } else {
        return false;
    };
    let mut from = first + length;
    while let Some(at) = FIELD.find(&line[from..]) {
        if closes_a_path(&line[first..from + at]) {
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
        let mut watch = Watch::new(text.as_bytes(), false);
        let mut at = 0;
        let judge = |line: &&str| {
            let start = at;
            at += line.len() + 1;
            watch.origin(start, start + line.len(), start) == Origin::Request
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
    fn a_line_without_fields_of_its_own_is_forged_where_it_takes_those_of_another() {
        let open = "2026/11/23 03:35:12 [error] 1370#1370: *116 open() \"/srv/html/x";
        let tail = "\" failed (2: No such file or directory), client: 127.0.0.1, server: a, request: \"GET /x%0a HTTP/1.1\", host: \"a\"";
        let (head, _) = REAL.split_once(", client: ").unwrap();
        let forged_head = format!("{head}{tail}");
        for lines in [
            vec![open, &forged_head, REAL],
            vec![open, REAL, &forged_head, REAL],
        ] {
            let text = lines.join("\n") + "\n";
            let mut watch = Watch::new(text.as_bytes(), false);
            let mut at = 0;
            let mut judge = |line: &&str| {
                let (start, fields) = (at, at + line.find(", client: ").unwrap_or(line.len()));
                at += line.len() + 1;
                watch.origin(start, start + line.len(), fields)
            };
            let origins: Vec<_> = lines.iter().map(&mut judge).collect();
            let (last, forged) = origins[1..].split_last().unwrap();
            assert_eq!(*last, Origin::Nginx);
            assert!(
                forged.iter().all(|origin| *origin == Origin::Request),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn quotes_in_the_path_and_broken_lines_in_it_do_not_hide_a_forged_line() {
        let open = "2026/11/23 03:35:12 [error] 1370#1370: *116 open() \"/srv/html/x";
        let tail = "\" failed (2: No such file or directory), client: 127.0.0.1, server: a, request: \"GET /x%0a HTTP/1.1\", host: \"a\"";
        let even = format!("{open}\"");
        assert_eq!(
            forged(&[REAL, &even, REAL, tail, REAL]),
            [false, false, true, true, false]
        );
        assert_eq!(
            forged(&[open, REAL, open, tail, REAL]),
            [false, true, true, true, false]
        );
        // Some lines never have a client's address.
        let timer = "2026/11/23 03:35:12 [error] 1370#1370: *116 [lua] a.lua:1: said \"x\", context: ngx.timer";
        assert_eq!(forged(&[timer, REAL, REAL]), [false; 3]);
    }

    #[test]
    fn what_is_yet_to_come_may_decide() {
        let open = "2026/11/23 03:35:12 [error] 1370#1370: *116 open() \"/srv/html/x";
        let text = format!("{open}\n{REAL}\n");
        let origin = |text: &str, goes_on| {
            let mut watch = Watch::new(text.as_bytes(), goes_on);
            watch.origin(open.len() + 1, open.len() + 1 + REAL.len(), open.len() + 1)
        };
        assert_eq!(origin(&text, true), Origin::Open);
        assert_eq!(origin(&text, false), Origin::Nginx);
        let half =
            format!("{text}\" failed (2: No such file or directory), client: 127.0.0.1, ser");
        assert_eq!(origin(&half, false), Origin::Request);
        let far = format!("{text}{}", format!("{REAL}\n").repeat(20));
        assert_eq!(origin(&far, true), Origin::Nginx);
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
