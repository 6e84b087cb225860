//! Lines in the order of the log to counts by time.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter, memchr2_iter, memrchr};

use super::cause::CauseSet;
use super::clock::{self, Reckoner};
use super::dialect::{Dialect, Form};
use super::foreign::Explained;
use super::forged::{Origin, Watch};
use super::line::{self, Event, Level, Line, STAMP};
use super::reader::Batch;
use super::sieve::{Hits, Sieve};
use super::tally::Tally;
use super::wrapping::Wrapping;

static FAILED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b" failed ("));
static CLIENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b", client: "));

/// So many bytes of lines that are all later than what is wanted show that nothing wanted follows. One line does not: a
/// clock may have been wrong when it was written, or a request may have written it.
const LATE: u64 = 1 << 20;

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
    /// Whose words they are in.
    pub dialect: Option<Dialect>,
    /// What is around its lines.
    pub wrapping: Wrapping,
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
    /// Whose words the logs are written in; found out by looking where it is not given.
    pub dialect: Option<Dialect>,
}

/// Counts the lines of one log.
#[derive(Debug)]
pub struct Counter<'a> {
    pub(super) rules: Rules,
    sieve: &'a Sieve,
    /// The log's time.
    pub times: Reckoner<'a>,
    pub(super) tally: &'a mut Tally,
    /// What was seen so far.
    pub seen: Seen,
    /// The last lines of the batch before, from where its end may belong to a message that goes on.
    held: Vec<u8>,
    /// Where in that the lines begin that are not judged yet.
    unjudged: usize,
    /// What other proxies have told already.
    pub(super) explained: Explained,
    late: Late,
}

/// How far the log has come behind what is wanted.
#[derive(Debug, Clone, Copy, Default)]
struct Late {
    /// The bytes of batches in a row whose lines are all later.
    bytes: u64,
    /// Whether any line before them was not.
    since_wanted: bool,
}

/// What was counted of a later part of a log.
pub struct Apart {
    tally: Tally,
    seen: Seen,
    latest: Option<i64>,
    late: Late,
}

/// What it takes to count a later part of a log.
pub struct Fork<'a> {
    rules: Rules,
    sieve: &'a Sieve,
    times: Reckoner<'a>,
    tally: Tally,
    seen: Seen,
}

impl Fork<'_> {
    /// Counts, to be joined later.
    pub fn count<R>(mut self, count: impl FnOnce(&mut Counter<'_>) -> R) -> (R, Apart) {
        let mut counter = Counter::new(
            self.rules,
            self.sieve,
            self.times,
            &mut self.tally,
            self.seen,
        );
        let result = count(&mut counter);
        let (seen, latest, late) = (counter.seen, counter.times.latest(), counter.late);
        let tally = self.tally;
        (
            result,
            Apart {
                tally,
                seen,
                latest,
                late,
            },
        )
    }
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
            explained: Explained::default(),
            late: Late::default(),
        }
    }

    /// Takes in the new lines of a batch.
    pub fn take(&mut self, batch: Batch<'_>) {
        if self.held.is_empty() {
            self.count(batch.bytes, batch.fresh..batch.bytes.len(), true);
        } else {
            let mut joined = std::mem::take(&mut self.held);
            joined.extend_from_slice(&batch.bytes[batch.fresh..]);
            self.count(&joined, self.unjudged..joined.len(), true);
        }
    }

    /// No more lines follow that are to be counted; `behind` is what stands there.
    pub fn end(&mut self, behind: &[u8]) {
        if !self.held.is_empty() {
            let mut last = std::mem::take(&mut self.held);
            let end = last.len();
            last.extend_from_slice(behind);
            self.count(&last, self.unjudged..end, false);
        }
    }

    /// What it takes to count a part of the same log meanwhile: what comes next, or a later one.
    pub fn fork(&self, is_next: bool) -> Fork<'a> {
        Fork {
            rules: self.rules,
            sieve: self.sieve,
            times: self.times.for_part(is_next),
            tally: self.tally.like(),
            seen: Seen {
                recognised: self.seen.recognised,
                levels: self.seen.levels,
                ..Seen::default()
            },
        }
    }

    /// Adds what was counted apart.
    pub fn join(&mut self, apart: Apart) {
        let Apart {
            tally,
            seen,
            latest,
            late,
        } = apart;
        self.late = Late {
            bytes: late.bytes
                + if late.since_wanted {
                    0
                } else {
                    self.late.bytes
                },
            since_wanted: late.since_wanted || self.late.since_wanted,
        };
        self.tally.merge(tally);
        self.times.catch_up(latest);
        self.seen = Seen {
            bytes: self.seen.bytes + seen.bytes,
            first: self.seen.first.or(seen.first),
            last: seen.last.or(self.seen.last),
            levels: self.seen.levels | seen.levels,
            recognised: self.seen.recognised || seen.recognised,
            any_line: self.seen.any_line || seen.any_line,
            dialect: self.seen.dialect,
            wrapping: self.seen.wrapping,
        };
    }

    /// Whether the log has come to where the rest of it is not wanted.
    pub fn has_enough(&self) -> bool {
        self.late.bytes >= LATE
    }

    /// Takes in how late these lines are, the last of them written at `last`. `time` tells a line's time, of two the
    /// earlier one.
    pub(super) fn see_how_late(
        &mut self,
        last: i64,
        lines: &[u8],
        time: impl Fn(&mut Reckoner<'_>, &[u8]) -> Option<i64>,
    ) {
        let enough = self.rules.enough;
        let now = self.times.clock().now() + clock::DISORDER;
        let (mut is_late, mut start) = (false, 0);
        // Mostly the last line says that more is wanted.
        let mut is_wanted = last <= enough;
        for end in memchr_iter(b'\n', lines) {
            if is_wanted {
                break;
            }
            match time(&mut self.times, &lines[start..end]) {
                Some(at) if at <= enough => is_wanted = true,
                // A line from the future says nothing of where the log has come to.
                Some(at) => is_late |= at <= now,
                None => {}
            }
            start = end + 1;
        }
        if is_wanted {
            self.late = Late {
                bytes: 0,
                since_wanted: true,
            };
        } else if is_late {
            self.late.bytes += lines.len() as u64;
        }
    }

    /// Whose words the log is written in, where that was given.
    pub fn dialect(&self) -> Option<Dialect> {
        self.rules.dialect
    }

    /// How what was read before is written, if it is known.
    pub fn known_form(&self) -> Option<Form> {
        let wrapping = self.seen.wrapping;
        let known = self.seen.dialect;
        known.map(|dialect| Form { wrapping, dialect })
    }

    /// Takes in how what follows is written.
    pub fn know_form(&mut self, form: Form) {
        self.seen.dialect = Some(form.dialect);
        self.seen.wrapping = form.wrapping;
    }

    /// Counts lines that were dropped since no buffer holds them.
    pub fn add_overlong(&mut self, lines: u64) {
        if let (Some(time), 1..) = (self.times.latest(), lines) {
            self.tally.add_unparsed(time, lines);
        }
    }

    /// Counts the lines in a part of a text.
    fn count(&mut self, bytes: &[u8], new: Range<usize>, goes_on: bool) {
        self.seen.any_line = true;
        self.look_at_the_first_lines(&bytes[new.clone()]);
        let whole = new.clone();
        let last = last_stamp(&bytes[new.clone()]);
        let mut watch = Watch::new(bytes, goes_on);
        let result = match self.sieve {
            // Where clocks are changed every line's time is needed to tell the hours apart.
            _ if last.is_some_and(|stamp| self.times.is_near_a_change(stamp)) => {
                self.every_line(bytes, new, &mut watch, true)
            }
            Sieve::Levels => self.every_line(bytes, new, &mut watch, false),
            Sieve::Needles(needles) => self.hits(bytes, new, &mut watch, needles),
        };
        if let Some(time) = last.and_then(|stamp| self.times.read(stamp)) {
            self.seen.last = Some(time);
            self.see_how_late(time, &bytes[whole], |times, line| {
                let line = behind_nul(line);
                line::level(line).and_then(|_| times.earliest(&line[..STAMP]))
            });
        }
        if let Err(Open(from)) = result {
            let reach = Watch::reach(bytes, from);
            self.held = bytes[reach..].to_vec();
            self.unjudged = from - reach;
        }
    }

    /// Goes through the lines until there is nothing more to learn but events.
    fn look_at_the_first_lines(&mut self, bytes: &[u8]) {
        let below = Level::Low as u8 | Level::Error as u8;
        let mut start = 0;
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
        new: Range<usize>,
        watch: &mut Watch<'_>,
        with_time: bool,
    ) -> Result<(), Open> {
        let mut start = new.start;
        for at in memchr2_iter(b'\n', 0, &bytes[new.clone()]) {
            let end = new.start + at;
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
        new: Range<usize>,
        watch: &mut Watch<'_>,
        needles: &[Finder<'static>],
    ) -> Result<(), Open> {
        let bytes = &bytes[..new.end];
        let mut hits = Hits::new(needles, bytes);
        let mut from = new.start;
        while let Some(place) = hits.next_from(from) {
            let Some(end) = memchr(b'\n', &bytes[place..]).map(|feed| place + feed) else {
                break;
            };
            let start = memrchr(b'\n', &bytes[from..place]).map_or(from, |feed| from + feed + 1);
            let start = end - behind_nul(&bytes[start..end]).len();
            if start > place {
                // The hit stands before NUL bytes, with the rest of a line that lost its end in them. What begins
                // behind them may hold a hit of its own.
                from = start;
                continue;
            }
            self.line(bytes, start, end, watch, false)?;
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
                let event = match line::read(line) {
                    Line::Event(event) if self.rules.wanted.has(event.cause) => event,
                    Line::Whole => {
                        watch.is_whole(start, end);
                        return Ok(());
                    }
                    _ => return Ok(()),
                };
                let fields = end - event.fields.len();
                match watch.origin(start, end, fields) {
                    Origin::Open => return Err(Open(start)),
                    Origin::Request => self.add_suspect(),
                    Origin::Nginx => self.add(&event),
                }
                if fields < end {
                    watch.is_whole(start, end);
                }
            }
            None if FAILED.find(line).is_some()
                && !line.starts_with(b"nginx: [")
                && CLIENT.find(line).is_none() =>
            {
                // With a client's address it is the end of a message of several lines.
                match watch.origin(start, end, start) {
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
        if time > until {
            self.tally.leave_out(Some(time));
        } else if time > after {
            self.tally.add(time, event, counted.has(event.cause), file);
        }
    }

    /// The time in such a line is as forged as the rest.
    fn add_suspect(&mut self) {
        if let Some(time) = self.times.latest().filter(|time| *time > self.rules.after) {
            self.tally.add_suspect(time);
        }
    }

    pub(super) fn add_unparsed(&mut self) {
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
