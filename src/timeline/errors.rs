//! nginx' error log: each line's cause as `check_nginx_upstream_bind` reads it.

use memchr::memchr_iter;

use super::facts::{Facts, Source};
use super::grid::Group;
use super::sort::{Origin, Sort};
use crate::nginx::clock::{Clock, Reckoner};
use crate::nginx::forged::Watch;
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
            self.finish(facts, source);
        }
    }

    /// Looks at what has gathered.
    pub fn finish(&mut self, facts: &mut Facts<'_>, source: &mut Source) {
        let mut watch = Watch::new(&self.bytes, self.fresh);
        let mut start = self.fresh;
        for feed in memchr_iter(b'\n', &self.bytes[self.fresh..]) {
            let end = self.fresh + feed;
            let told = &self.bytes[start..end];
            match line::level(told) {
                None => {
                    // What a path or a FastCGI server broke into several lines is of that form all the same.
                    if !line::has_header(told) {
                        source.unparsed += 1;
                    }
                }
                Some(level) => {
                    let read = match level {
                        Level::Low => Line::NoClient,
                        _ => line::read(told),
                    };
                    if let Line::Event(event) = &read {
                        if watch.is_forged(&self.bytes, start, end) {
                            source.suspect += 1;
                        } else if let Some(at) = self.times.read(event.stamp) {
                            add(at, event, told, facts, source);
                        } else {
                            source.unparsed += 1;
                        }
                    } else if let Some(at) = self.times.read(&told[..STAMP])
                        && facts.plan.holds(at)
                    {
                        source.use_line(at);
                        facts.grid.reach(at);
                    }
                    let whole = match read {
                        Line::Event(event) => !event.fields.is_empty(),
                        Line::Other => true,
                        Line::NoClient => false,
                    };
                    if !whole {
                        watch.pass(&self.bytes, start, end);
                    }
                }
            }
            start = end + 1;
        }
        let keep = self.bytes.len().saturating_sub(LONGEST);
        self.bytes.drain(..keep);
        self.fresh = self.bytes.len();
    }
}

fn add(at: i64, event: &line::Event<'_>, told: &[u8], facts: &mut Facts<'_>, source: &mut Source) {
    if !facts.plan.holds(at) {
        return;
    }
    source.use_line(at);
    facts.failure(at, Group::Error, event.cause.name().as_bytes(), told);
    let upstream = event.upstream();
    facts.blame(
        at,
        Origin::ErrorLog,
        Sort::of_cause(event.cause, told),
        upstream,
    );
    for (group, name) in [
        (Group::ToldBackend, upstream),
        (Group::ToldService, event.server()),
        (Group::ToldPath, event.uri()),
    ] {
        if let Some(name) = name {
            facts.also(at, group, name);
        }
    }
}
