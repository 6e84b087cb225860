//! Lines in the order of the log to counts by time.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr2_iter, memrchr};

use super::cause::CauseSet;
use super::clock::Reckoner;
use super::dialect::Dialect;
use super::foreign::Explained;
use super::forged::{Origin, Watch};
use super::line::{self, Event, Level, Line, STAMP};
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
    /// Whose words they are in.
    pub dialect: Option<Dialect>,
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
}

/// What was counted of a later part of a log.
pub struct Apart {
    tally: Tally,
    seen: Seen,
    latest: Option<i64>,
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
        let (seen, latest) = (counter.seen, counter.times.latest());
        let tally = self.tally;
        (
            result,
            Apart {
                tally,
                seen,
                latest,
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

    /// What it takes to count a later part of the same log meanwhile.
    pub fn fork(&self) -> Fork<'a> {
        Fork {
            rules: self.rules,
            sieve: self.sieve,
            times: self.times.afresh(),
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
        } = apart;
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
        };
    }

    /// Whether the log has come to where the rest of it is not wanted.
    pub fn has_enough(&self) -> bool {
        self.times
            .latest()
            .is_some_and(|latest| latest > self.rules.enough)
    }

    /// Whose words the log is written in, where that was given.
    pub fn dialect(&self) -> Option<Dialect> {
        self.rules.dialect
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::super::cause::{CAUSES, Cause};
    use super::super::clock::Clock;
    use super::super::follow::Part;
    use super::super::reader::Reader;
    use super::super::scan;
    use super::super::source::Source;
    use super::super::tally::Summary;
    use super::*;

    const CORPUS: &[u8] = include_bytes!("../../tests/fixtures/nginx_error.log");
    const BINDS: [Cause; 2] = [Cause::BindInUse, Cause::NoFreePort];

    fn set(causes: &[Cause]) -> CauseSet {
        causes.iter().copied().collect()
    }

    /// What is counted in a text that comes in pieces of some size: causes, suspects, unparsed, first and last time.
    fn counted(
        text: &[u8],
        step: usize,
        sieve: &Sieve,
        wanted: CauseSet,
    ) -> (Summary, Option<i64>, Option<i64>, bool) {
        with_counter(sieve, wanted, |counter| {
            let mut reader = Reader::new(pieces(text, step), 0, b"", false);
            while let Some(batch) = reader.next_batch().unwrap() {
                counter.take(batch);
            }
            counter.end(reader.half());
        })
    }

    fn with_counter(
        sieve: &Sieve,
        wanted: CauseSet,
        count: impl FnOnce(&mut Counter<'_>),
    ) -> (Summary, Option<i64>, Option<i64>, bool) {
        let now: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
        let clock = Clock::new(TimeZone::UTC, now);
        let rules = Rules {
            counted: set(&BINDS),
            wanted,
            after: i64::MIN / 2,
            until: i64::MAX / 2,
            enough: i64::MAX,
            file: 0,
            dialect: None,
        };
        let mut tally = Tally::new(1 << 40);
        let times = Reckoner::new(&clock, None);
        let mut counter = Counter::new(rules, sieve, times, &mut tally, Seen::default());
        count(&mut counter);
        let seen = counter.seen;
        let summary = tally.summary(i64::MIN / 4, i64::MAX / 4, set(&BINDS));
        (summary, seen.first, seen.last, seen.recognised)
    }

    fn pieces(text: &[u8], step: usize) -> Source {
        struct Pieces(Vec<u8>, usize, usize);
        impl std::io::Read for Pieces {
            fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
                let length = self.2.min(into.len()).min(self.0.len() - self.1);
                into[..length].copy_from_slice(&self.0[self.1..self.1 + length]);
                self.1 += length;
                Ok(length)
            }
        }
        Source::stream(Box::new(Pieces(text.to_vec(), 0, step)))
    }

    /// Lines of a real nginx, and what may stand between and within them.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let lines: Vec<_> = CORPUS
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let open = "2026/11/23 03:35:12 [error] 7#7: *116 open() \"/srv/x";
        let tail = "\" failed (2: No such file or directory), client: 192.0.2.1, server: a";
        let piece = prop_oneof![
            8 => prop::sample::select(lines),
            1 => prop::collection::vec(any::<u8>(), 0..60),
            1 => prop::sample::select(vec![" failed (98: ", " failed (9", "\n", "\0", " failed (11: x", "2026/11/23 ", "\"\n", open, tail])
                .prop_map(|text| text.as_bytes().to_vec()),
        ];
        let first =
            b"2026/11/23 03:00:00 [notice] 7#7: using the \"epoll\" event method\n".to_vec();
        prop::collection::vec(piece, 0..60)
            .prop_map(move |pieces| [first.clone(), pieces.concat()].concat())
    }

    #[test]
    fn whatever_lines_are_chosen_by_the_causes_asked_for_are_counted_alike() {
        let all = set(&Cause::ALL);
        let of_all = |text: &[u8], wanted: &[Cause]| {
            let sieve = Sieve::of(set(wanted));
            assert!(matches!(sieve, Sieve::Needles(_)));
            let (fast, ..) = counted(text, 9999, &sieve, set(wanted));
            let (slow, ..) = counted(text, 9999, &Sieve::Levels, set(wanted));
            assert_eq!(fast, slow);
        };
        for cause in Cause::ALL {
            if let Sieve::Needles(_) = Sieve::of(set(&[cause])) {
                of_all(CORPUS, &[cause]);
            }
        }
        of_all(CORPUS, &BINDS);
        assert_eq!(CAUSES, all.iter().count());
    }

    #[test]
    fn a_line_behind_nul_bytes_is_counted_whatever_stands_before_them() {
        let lost = b" failed (11: x\0";
        let line = CORPUS
            .split_inclusive(|byte| *byte == b'\n')
            .find(|line| {
                memchr::memmem::find(line, b" connect() to 127.0.0.1:9002 failed (99:").is_some()
            })
            .unwrap();
        let text = [line, &lost[..], line, &lost[..], &lost[..], line].concat();
        for sieve in [Sieve::of(set(&BINDS)), Sieve::Levels] {
            let (summary, ..) = counted(&text, 9999, &sieve, set(&BINDS));
            assert_eq!(summary.count, 3, "{sieve:?}");
        }
    }

    #[test]
    fn a_line_behind_nul_bytes_is_judged_by_all_of_its_bytes() {
        let event = "2026/11/23 03:35:28 [crit] 7#7: *2 bind(0.0.0.0) failed (98: x) while connecting to upstream, client: a, server: b";
        let torn = "\0\0x2026/11/23 03:35:12 [error] 7#7: *116 open() \"/srv/x failed (98: y";
        let text = format!("{event}\n{torn}\n failed (98: z\n{event}\n");
        for step in [1, 1 << 20] {
            let (summary, ..) =
                counted(text.as_bytes(), step, &Sieve::of(set(&BINDS)), set(&BINDS));
            assert_eq!(
                (summary.count, summary.suspect, summary.unparsed),
                (2, 0, 2),
                "{step}"
            );
        }
    }

    #[test]
    fn where_a_torn_message_ends_does_not_depend_on_how_it_arrives() {
        let open = "2026/11/23 03:35:12 [error] 7#7: *116 open() \"/srv/x";
        let tail = "\" failed (2: No such file or directory), client: 192.0.2.1, server: a";
        let event = "2026/11/23 03:35:28 [crit] 7#7: *2 bind(0.0.0.0) failed (98: x) while connecting to upstream, client: a, server: b";
        // Two torn messages with an event between them, and a line feed where nginx would have cut the first one.
        let begin = format!("{event}\n{open}\n{tail}\n{event}\n{open}\n");
        let filling = "y".repeat(line::LONGEST - 1 - (begin.len() - event.len() - 1));
        let text = format!("{begin}{filling}\n{event}\n");
        for sieve in [Sieve::of(set(&BINDS)), Sieve::Levels] {
            let at_once = counted(text.as_bytes(), 1 << 20, &sieve, set(&BINDS));
            let in_pieces = counted(text.as_bytes(), 1, &sieve, set(&BINDS));
            assert_eq!(at_once, in_pieces);
            assert_eq!((at_once.0.count, at_once.0.suspect), (2, 1));
        }
    }

    /// The same of a file, by as many threads as it takes.
    fn counted_in_a_file(
        text: &[u8],
        sieve: &Sieve,
        wanted: CauseSet,
    ) -> (Summary, Option<i64>, Option<i64>, bool) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, text).unwrap();
        let part = Part {
            path: file.path().to_owned(),
            file: file.reopen().unwrap(),
            from: 0,
            skipping: false,
            is_current: true,
            is_compressed: false,
        };
        with_counter(sieve, wanted, |counter| {
            scan::scan(&part, counter, &|| false).unwrap();
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn however_lines_are_chosen_and_arrive_the_counts_are_the_same(text in text(), step in 1_usize..5000) {
            let sieve = Sieve::of(set(&BINDS));
            let wanted = set(&BINDS);
            let fast = counted(&text, 1 << 20, &sieve, wanted);
            prop_assert_eq!(&counted(&text, step, &sieve, wanted), &fast);
            // Lines that nginx did not write are told of only where they hold one of the texts.
            let slow = counted(&text, 1 << 20, &Sieve::Levels, wanted);
            prop_assert_eq!(&counted(&text, step, &Sieve::Levels, wanted), &slow);
            prop_assert_eq!(&counted_in_a_file(&text, &sieve, wanted), &fast);
            prop_assert_eq!(&counted_in_a_file(&text, &Sieve::Levels, wanted), &slow);
            let unparsed = fast.0.unparsed;
            prop_assert!(unparsed <= slow.0.unparsed);
            let as_fast = Summary { unparsed, ..slow.0 };
            prop_assert_eq!((as_fast, slow.1, slow.2, slow.3), fast);
        }
    }
}
