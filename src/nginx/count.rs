//! Lines in the order of the log to counts by time.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr2_iter, memrchr};

use super::cause::CauseSet;
use super::clock::Reckoner;
use super::forged::{Origin, Watch};
use super::line::{self, Event, Level, STAMP};
use super::reader::Batch;
use super::sieve::{Hits, Sieve};
use super::tally::Tally;

static FAILED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b" failed ("));
static CLIENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b", client: "));

/// What was seen in the parts of one log.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// How much was read.
    pub bytes: u64,
    /// The time of the first line read.
    pub first: Option<i64>,
    /// The time of the last line read.
    pub last: Option<i64>,
    /// The levels of the lines, as bits of [`Level`]; once one below crit was seen, no more are looked for.
    pub levels: u8,
    /// Whether a line of nginx' was among them.
    pub recognised: bool,
    /// Whether any line was.
    pub any_line: bool,
}

/// How to count.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The causes that are listed by name.
    pub counted: CauseSet,
    /// The causes that are counted at all, and which lines can have them.
    pub wanted: CauseSet,
    /// Events up to this second are too old.
    pub after: i64,
    /// Events after this second do not count.
    pub until: i64,
    /// When the log has come so far, the rest of it is left.
    pub enough: i64,
    /// Tells apart the workers of several logs.
    pub file: usize,
}

/// Counts the lines of one log.
#[derive(Debug)]
pub struct Counter<'a> {
    rules: Rules,
    sieve: &'a Sieve,
    /// The log's time.
    pub times: Reckoner<'a>,
    tally: &'a mut Tally,
    /// What was seen so far.
    pub seen: Seen,
    /// The last lines of the batch before, from where its end may belong to a message that goes on.
    held: Vec<u8>,
    /// Where in that the lines begin that are not judged yet.
    unjudged: usize,
}

/// A place in a text from which on lines can only be judged with what follows.
struct Open(usize);

impl<'a> Counter<'a> {
    /// One that adds to a tally.
    pub fn new(
        rules: Rules,
        sieve: &'a Sieve,
        times: Reckoner<'a>,
        tally: &'a mut Tally,
        seen: Seen,
    ) -> Self {
        Self {
            rules,
            sieve,
            times,
            tally,
            seen,
            held: Vec::new(),
            unjudged: 0,
        }
    }

    /// Takes in the new lines of a batch.
    pub fn take(&mut self, batch: Batch<'_>) {
        if self.held.is_empty() {
            self.count(batch.bytes, batch.fresh, true);
        } else {
            let mut joined = std::mem::take(&mut self.held);
            joined.extend_from_slice(&batch.bytes[batch.fresh..]);
            self.count(&joined, self.unjudged, true);
        }
    }

    /// No more lines follow of this file; `half` is one that has not ended yet.
    pub fn end_file(&mut self, half: &[u8]) {
        if !self.held.is_empty() {
            let mut last = std::mem::take(&mut self.held);
            last.extend_from_slice(half);
            self.count(&last, self.unjudged, false);
        }
    }

    /// Whether the log has come to where the rest of it is not wanted.
    pub fn has_enough(&self) -> bool {
        self.times
            .latest()
            .is_some_and(|latest| latest > self.rules.enough)
    }

    /// Counts lines that were dropped since no buffer holds them.
    pub fn add_overlong(&mut self, lines: u64) {
        if let (Some(time), 1..) = (self.times.latest(), lines) {
            self.tally.add_unparsed(time, lines);
        }
    }

    fn count(&mut self, bytes: &[u8], fresh: usize, goes_on: bool) {
        self.seen.any_line = true;
        self.look_at_the_first_lines(bytes, fresh);
        let last = last_stamp(&bytes[fresh..]);
        let mut watch = Watch::new(bytes, goes_on);
        let result = match self.sieve {
            // Where clocks are changed every line's time is needed to tell the hours apart.
            _ if last.is_some_and(|stamp| self.times.is_near_a_change(stamp)) => {
                self.every_line(bytes, fresh, &mut watch, true)
            }
            Sieve::Levels => self.every_line(bytes, fresh, &mut watch, false),
            Sieve::Needles(needles) => {
                self.hits(bytes, fresh, &mut watch, Hits::new(needles, bytes))
            }
        };
        if let Some(time) = last.and_then(|stamp| self.times.read(stamp)) {
            self.seen.last = Some(time);
        }
        if let Err(Open(from)) = result {
            let reach = Watch::reach(bytes, from);
            self.held = bytes[reach..].to_vec();
            self.unjudged = from - reach;
        }
    }

    /// Goes through the lines until there is nothing more to learn but events.
    fn look_at_the_first_lines(&mut self, bytes: &[u8], fresh: usize) {
        let below = Level::Low as u8 | Level::Error as u8;
        let mut start = fresh;
        while start < bytes.len()
            && !(self.seen.recognised && self.seen.first.is_some() && self.seen.levels & below != 0)
        {
            let end = memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |feed| start + feed);
            let line = behind_nul(&bytes[start..end]);
            if let Some(level) = line::level(line) {
                self.seen.levels |= level as u8;
                self.seen.recognised = self.seen.recognised || line::has_header(line);
                if self.seen.first.is_none() {
                    self.seen.first = self.times.read(&line[..STAMP]);
                }
            }
            start = end + 1;
        }
    }

    fn every_line(
        &mut self,
        bytes: &[u8],
        fresh: usize,
        watch: &mut Watch<'_>,
        with_time: bool,
    ) -> Result<(), Open> {
        let mut start = fresh;
        for at in memchr2_iter(b'\n', 0, &bytes[fresh..]) {
            let end = fresh + at;
            // What stands before NUL bytes has lost its end in them.
            if bytes[end] == b'\n' {
                self.line(bytes, start, end, watch, with_time)?;
            }
            start = end + 1;
        }
        Ok(())
    }

    fn hits(
        &mut self,
        bytes: &[u8],
        fresh: usize,
        watch: &mut Watch<'_>,
        mut hits: Hits<'_>,
    ) -> Result<(), Open> {
        let mut from = fresh;
        while let Some(place) = hits.next_from(from) {
            let Some(end) = memchr(b'\n', &bytes[place..]).map(|feed| place + feed) else {
                break;
            };
            let start = memrchr(b'\n', &bytes[from..place]).map_or(from, |feed| from + feed + 1);
            let start = end - behind_nul(&bytes[start..end]).len();
            if start <= place {
                self.line(bytes, start, end, watch, false)?;
            }
            from = end + 1;
        }
        Ok(())
    }

    #[inline]
    fn line(
        &mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        watch: &mut Watch<'_>,
        with_time: bool,
    ) -> Result<(), Open> {
        let line = &bytes[start..end];
        let level = line::level(line);
        if with_time && level.is_some() {
            self.times.read(&line[..STAMP]);
        }
        match level {
            Some(Level::Low) => {}
            Some(_) => {
                let Some(event) =
                    line::read(line).filter(|event| self.rules.wanted.has(event.cause))
                else {
                    return Ok(());
                };
                match watch.origin(start, end) {
                    Origin::Open => return Err(Open(start)),
                    Origin::Request => self.add_suspect(),
                    Origin::Nginx => self.add(&event),
                }
                if !event.fields.is_empty() {
                    watch.is_whole(end);
                }
            }
            None if FAILED.find(line).is_some()
                && !line.starts_with(b"nginx: [")
                && CLIENT.find(line).is_none() =>
            {
                // With a client's address it is the end of a message of several lines.
                match watch.origin(start, end) {
                    Origin::Open => return Err(Open(start)),
                    Origin::Request => {}
                    Origin::Nginx => self.add_unparsed(),
                }
            }
            None => {}
        }
        Ok(())
    }

    fn add(&mut self, event: &Event<'_>) {
        let Some(time) = self.times.read(event.stamp) else {
            return self.add_unparsed();
        };
        let Rules {
            after,
            until,
            counted,
            file,
            ..
        } = self.rules;
        if time > after && time <= until {
            self.tally.add(time, event, counted.has(event.cause), file);
        }
    }

    /// The time in such a line is as forged as the rest.
    fn add_suspect(&mut self) {
        if let Some(time) = self.times.latest().filter(|time| *time > self.rules.after) {
            self.tally.add_suspect(time);
        }
    }

    fn add_unparsed(&mut self) {
        if let Some(time) = self.times.latest() {
            self.tally.add_unparsed(time, 1);
        }
    }
}

/// What stands behind the NUL bytes that a power failure left.
fn behind_nul(line: &[u8]) -> &[u8] {
    &line[memrchr(0, line).map_or(0, |nul| nul + 1)..]
}

/// The time of the last line that begins as nginx' lines do.
fn last_stamp(lines: &[u8]) -> Option<&[u8]> {
    let mut end = memrchr(b'\n', lines)?;
    loop {
        let start = memrchr(b'\n', &lines[..end]).map_or(0, |feed| feed + 1);
        let line = behind_nul(&lines[start..end]);
        if line::level(line).is_some() {
            return Some(&line[..STAMP]);
        }
        end = start.checked_sub(1)?;
    }
}
