//! Properties of what reads logs and what was kept of them.

use std::borrow::Cow;
use std::io::{self, BufReader, Read};
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::cause::{Cause, CauseSet};
use super::clock::{Clock, Reckoner};
use super::count::{Counter, Rules, Seen};
use super::journal::messages;
use super::line::{self, Level, Line};
use super::memory;
use super::scan::Stream;
use super::sieve::Sieve;
use super::summary::Summary;
use super::tally::Tally;
use super::wrapping::Wrapping;
use crate::fuzzing::Feed;

/// One line of the error log: what is read of it lies within it.
pub fn line(data: &[u8]) {
    // Nothing else is asked of it.
    if line::level(data).is_none_or(|level| level == Level::Low) {
        return;
    }
    let read = line::read(data);
    let within = |part: &[u8]| data.as_ptr_range().contains(&part.as_ptr()) || part.is_empty();
    if let Line::Event(event) = read {
        assert!(data.starts_with(event.stamp) && event.stamp.len() == line::STAMP);
        assert!(within(event.fields));
        let parties = event.parties();
        let parts = [
            parties.upstream,
            parties.server,
            parties.client,
            parties.uri,
        ];
        for part in parts.into_iter().flatten() {
            assert!(within(part));
        }
    }
    if line::has_header(data) {
        assert!(line::level(data).is_some());
    }
}

/// What other programs put around lines.
pub fn wrapping(data: &[u8]) {
    let found = Wrapping::of(data);
    let mut whole = data.to_vec();
    whole.push(b'\n');
    for wrapping in [
        found,
        Wrapping::Docker,
        Wrapping::Cri,
        Wrapping::Syslog,
        Wrapping::None,
    ] {
        // A batch is its lines, one by one.
        let mut expected = Vec::new();
        for text in data.split(|b| *b == b'\n') {
            let unwrapped = wrapping.unwrap(text);
            assert!(unwrapped.len() <= text.len() * 2 + 4);
            if let Cow::Owned(owned) = &unwrapped {
                assert!(!owned.contains(&b'\n'), "one line became two");
            }
            expected.extend_from_slice(&unwrapped);
            expected.push(b'\n');
        }
        let mut batch = Vec::new();
        wrapping.unwrap_batch(&whole, 0, &mut batch);
        assert_eq!(batch, expected, "{wrapping:?}");
    }
}

/// What journalctl gives: the same however it arrives.
pub fn journal(data: &[u8]) {
    let mut feed = Feed(data);
    let step = usize::from(feed.byte()) + 1;
    let (text, cursor) = messages(feed.0);
    let (other, other_cursor) = messages(BufReader::with_capacity(step, feed.0));
    assert_eq!((&text, &cursor), (&other, &other_cursor));
    assert!(text.is_empty() || text.ends_with(b"\n"));
    // Each entry ends with two line feeds at least, and begins with its second.
    assert!(text.len() <= feed.0.len() * 16);
}

/// A whole log: counted the same whatever pieces it arrives in and however its lines are chosen, and what was counted
/// survives being stored.
pub fn log(data: &[u8]) {
    let mut feed = Feed(data);
    let step = usize::from(feed.byte()) + 1;
    let text = feed.0;
    let whole = || Box::new(io::Cursor::new(text.to_vec()));
    let pieces = || Box::new(Drip(text.to_vec(), 0, step));
    let all: CauseSet = Cause::ALL.into_iter().collect();
    let (first, tally) = counted(whole(), &Sieve::Levels, all);
    assert_eq!(first, counted(pieces(), &Sieve::Levels, all).0);
    survives(tally);
    // The fast way, by texts, against the slow one, by levels.
    let binds: CauseSet = [Cause::BindInUse, Cause::NoFreePort].into_iter().collect();
    let (slow, _) = counted(whole(), &Sieve::Levels, binds);
    let (fast, _) = counted(whole(), &Sieve::of(binds), binds);
    assert_eq!(fast, counted(pieces(), &Sieve::of(binds), binds).0);
    // Lines that nginx did not write are told of only where they hold one of the texts.
    let unparsed = fast.summary.unparsed;
    assert!(unparsed <= slow.summary.unparsed);
    let summary = Summary {
        unparsed,
        ..slow.summary
    };
    assert_eq!(Counted { summary, ..slow }, fast);
}

/// What one run left for the next: refused, or as good as new.
pub fn state(data: &[u8]) {
    let mut feed = Feed(data);
    let before = feed.number().cast_signed();
    let Some(tally) = memory::content(&String::from_utf8_lossy(feed.0)) else {
        return;
    };
    survives(tally.clone());
    let mut later = tally;
    later.forget_before(before.clamp(FIRST, LAST));
    survives(later);
}

fn survives(tally: Tally) {
    let all = |tally: &mut Tally| {
        let summary = tally.summary(FIRST, LAST, Cause::ALL.into_iter().collect());
        format!("{summary:?}")
    };
    let mut sorted = tally;
    sorted.forget_before(FIRST);
    let before = all(&mut sorted);
    let stored = serde_json::to_string(&sorted).expect("a tally can be stored");
    let read: Tally = serde_json::from_str(&stored).expect("what was stored can be read");
    let slots = sorted.packed();
    let mut read = read.restored(&slots).expect("what was stored is sound");
    assert_eq!(all(&mut read), before);
}

/// What a log comes to.
#[derive(Debug, PartialEq)]
struct Counted {
    /// Whether reading came to its end, or why there is nothing to read.
    result: Result<bool, String>,
    first: Option<i64>,
    last: Option<i64>,
    recognised: bool,
    summary: Summary,
}

fn counted(stream: Box<dyn Read + Send>, sieve: &Sieve, wanted: CauseSet) -> (Counted, Tally) {
    static CLOCK: LazyLock<Clock> =
        LazyLock::new(|| Clock::new(TimeZone::UTC, Timestamp::from_second(NOW).expect("a time")));
    let listed: CauseSet = [Cause::BindInUse, Cause::NoFreePort].into_iter().collect();
    let rules = Rules {
        counted: listed,
        wanted,
        after: i64::MIN / 2,
        until: i64::MAX / 2,
        enough: i64::MAX,
        file: 0,
        dialect: None,
    };
    let mut tally = Tally::new(1 << 40);
    let times = Reckoner::new(&CLOCK, None);
    let mut counter = Counter::new(rules, sieve, times, &mut tally, Seen::default());
    let result = Stream::open(stream, None)
        .map_err(anyhow::Error::from)
        .and_then(|stream| stream.count("a log", &mut counter, &|| false))
        .map_err(|error| format!("{error:#}"));
    let seen = counter.seen;
    let sum = Counted {
        result,
        first: seen.first,
        last: seen.last,
        recognised: seen.recognised,
        summary: tally.summary(FIRST, LAST, listed),
    };
    (sum, tally)
}

/// All times that a log or a clock can have, and more.
const FIRST: i64 = i64::MIN / 4;
const LAST: i64 = i64::MAX / 4;

/// The time of the seeds.
const NOW: i64 = 1_700_000_000;

/// A stream that gives a few bytes at a time.
struct Drip(Vec<u8>, usize, usize);

impl Read for Drip {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = &self.0[self.1..];
        let length = self.2.min(into.len()).min(rest.len());
        into[..length].copy_from_slice(&rest[..length]);
        self.1 += length;
        Ok(length)
    }
}
