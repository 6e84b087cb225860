//! However lines are chosen and arrive, the counts are the same: what looks at all lines against what looks for texts,
//! in one piece, in many, and by two threads.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::cause::{CAUSES, Cause, CauseSet};
use super::clock::{Clock, Reckoner};
use super::count::{Counter, Rules, Seen};
use super::follow::Part;
use super::line;
use super::reader::Reader;
use super::scan;
use super::sieve::Sieve;
use super::source::Source;
use super::summary::Summary;
use super::tally::Tally;

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
    let first = b"2026/11/23 03:00:00 [notice] 7#7: using the \"epoll\" event method\n".to_vec();
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
        let (summary, ..) = counted(text.as_bytes(), step, &Sieve::of(set(&BINDS)), set(&BINDS));
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
