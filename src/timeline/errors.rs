//! nginx' error log: each line's cause as `check_nginx_upstream_bind` reads it.

use memchr::{memchr_iter, memrchr};

use super::facts::{Facts, Source};
use super::group::Group;
use super::sort::{self, Sort};
use crate::nginx::clock::{Clock, Reckoner};
use crate::nginx::forged::{Origin, Watch};
use crate::nginx::line::{self, LONGEST, Level, Line, STAMP};

/// So much is looked at as one: a forged line is told by what stands around it.
const BATCH: usize = 64 * 1024;

/// Reads the lines of one error log.
pub struct Errors<'a> {
    times: Reckoner<'a>,
    /// What was looked at before, for looking back, and from `fresh` on what was not.
    bytes: Vec<u8>,
    fresh: usize,
}

impl<'a> Errors<'a> {
    /// One for a log of this clock's.
    pub fn new(clock: &'a Clock) -> Self {
        Self {
            times: Reckoner::new(clock, None),
            bytes: Vec::with_capacity(BATCH + LONGEST),
            fresh: 0,
        }
    }

    /// Takes a line in.
    pub fn line(&mut self, line: &[u8], facts: &mut Facts<'_>, source: &mut Source) {
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        if self.bytes.len() >= BATCH {
            self.look(true, facts, source);
        }
    }

    /// Looks at what is left: no more lines follow.
    pub fn finish(&mut self, facts: &mut Facts<'_>, source: &mut Source) {
        self.look(false, facts, source);
    }

    /// Looks at what has gathered, up to a line that takes what follows to judge.
    fn look(&mut self, goes_on: bool, facts: &mut Facts<'_>, source: &mut Source) {
        let mut watch = Watch::new(&self.bytes, goes_on);
        let mut start = self.fresh;
        for feed in memchr_iter(b'\n', &self.bytes[self.fresh..]) {
            let end = self.fresh + feed;
            // What stands before NUL bytes has lost its end in them.
            start += memrchr(0, &self.bytes[start..end]).map_or(0, |nul| nul + 1);
            let told = &self.bytes[start..end];
            let read = match line::level(told) {
                None => {
                    source.unparsed += 1;
                    start = end + 1;
                    continue;
                }
                Some(Level::Low) => Line::Other,
                Some(_) => line::read(told),
            };
            let Line::Event(event) = read else {
                if read == Line::Whole {
                    watch.is_whole(start, end);
                }
                match self.times.read(&told[..STAMP]) {
                    Some(at) if facts.plan.holds(at) => {
                        source.use_line(at);
                        facts.grid.reach(at);
                    }
                    Some(at) => source.leave_line(at),
                    None => {}
                }
                start = end + 1;
                continue;
            };
            let fields = end - event.fields.len();
            match watch.origin(start, end, fields) {
                Origin::Open => break,
                Origin::Request => source.suspect += 1,
                Origin::Nginx => match self.times.read(event.stamp) {
                    Some(at) => add(at, &event, told, facts, source),
                    None => source.unparsed += 1,
                },
            }
            if fields < end {
                watch.is_whole(start, end);
            }
            start = end + 1;
        }
        let reach = Watch::reach(&self.bytes, start);
        self.bytes.drain(..reach);
        self.fresh = start - reach;
    }
}

fn add(at: i64, event: &line::Event<'_>, told: &[u8], facts: &mut Facts<'_>, source: &mut Source) {
    if !facts.plan.holds(at) {
        source.leave_line(at);
        return;
    }
    source.use_line(at);
    facts.failure(at, Group::Error, event.cause.name().as_bytes(), told);
    let parties = event.parties();
    facts.blame(
        at,
        sort::Origin::ErrorLog,
        Sort::of_cause(event.cause, told),
        parties.upstream,
    );
    for (group, name) in [
        (Group::ToldBackend, parties.upstream),
        (Group::ToldService, parties.server),
        (Group::ToldPath, parties.uri),
    ] {
        if let Some(name) = name {
            facts.also(at, group, name);
        }
    }
}
