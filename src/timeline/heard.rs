//! What the logs of monitoring have told already: a main log stands in the debug log once more, and two masters write down
//! the same results. Each counts once.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// How many results and lines are remembered.
const MOST: usize = 200_000;

/// So many seconds may lie between two lines of one event.
pub const APART: i64 = 1;

/// What is new of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum New {
    /// All of it.
    Everything,
    /// What it says of the sort of trouble.
    Sort,
    /// Nothing.
    Nothing,
}

/// What was heard, from all logs and from the one that is being read.
#[derive(Debug, Default)]
pub struct Heard {
    /// Results by host, service and state, and by their second; whether their sort is known.
    before: HashMap<(u64, i64), bool>,
    now: HashMap<(u64, i64), bool>,
    /// Lines of the daemons themselves.
    lines_before: HashSet<u64>,
    lines_now: HashSet<u64>,
}

fn number(parts: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

impl Heard {
    /// Takes a result in.
    pub fn result(&mut self, at: i64, name: &[u8], state: &[u8], has_sort: bool) -> New {
        let key = number(&[name, state]);
        for second in at - APART..=at + APART {
            if let Some(known) = self.before.get_mut(&(key, second)) {
                let is_more = has_sort && !*known;
                *known |= has_sort;
                return if is_more { New::Sort } else { New::Nothing };
            }
        }
        if self.now.len() < MOST {
            *self.now.entry((key, at)).or_default() |= has_sort;
        }
        New::Everything
    }

    /// Whether a daemon's own line is new.
    pub fn is_new(&mut self, line: &[u8]) -> bool {
        let key = number(&[line]);
        if self.lines_before.contains(&key) {
            return false;
        }
        if self.lines_now.len() < MOST {
            self.lines_now.insert(key);
        }
        true
    }

    /// The log is at its end: within one of them what stands there twice happened twice.
    pub fn end(&mut self) {
        let room = |len: usize| MOST.saturating_sub(len);
        let (results, lines) = (room(self.before.len()), room(self.lines_before.len()));
        self.before.extend(self.now.drain().take(results));
        self.lines_before.extend(self.lines_now.drain().take(lines));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_logs_tell_counts_once_and_what_one_tells_twice_counts_twice() {
        let mut heard = Heard::default();
        let name = b"web1!http";
        assert_eq!(heard.result(100, name, b"CRITICAL", false), New::Everything);
        assert_eq!(heard.result(100, name, b"CRITICAL", false), New::Everything);
        assert!(heard.is_new(b"line") && heard.is_new(b"line"));
        heard.end();
        assert_eq!(heard.result(101, name, b"CRITICAL", true), New::Sort);
        assert_eq!(heard.result(101, name, b"CRITICAL", true), New::Nothing);
        assert_eq!(heard.result(101, name, b"WARNING", true), New::Everything);
        assert_eq!(heard.result(102, name, b"CRITICAL", true), New::Everything);
        assert!(!heard.is_new(b"line") && heard.is_new(b"another"));
    }
}
