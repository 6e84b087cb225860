//! What was counted, second by second (or coarser for long windows): small enough to be kept between two runs.

use serde::{Deserialize, Serialize};

use super::cause::{Cause, CauseSet};
use super::connections::{self, SERIAL};
use super::fields::Parties;
use super::line::Event;
use super::names::{NAMES, Names, OTHERS};
use super::packed;
use super::slot::{Slot, add_to};
use super::summary::{KINDS, Summary};

/// How many of each kind are told apart within one slot.
const PER_SLOT: usize = 64;

/// How many connections are told apart in all.
const CONNECTIONS: usize = 1 << 17;

/// How many of them are looked at together for those that came before. (In tests few, so that it happens.)
const TOGETHER: usize = if cfg!(test) { 64 } else { 1 << 14 };

/// How many places in lists are remembered for each kind.
const HINTS: usize = 512;

/// Counts by time, within bounded memory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tally {
    /// The length of a slot in seconds, a divisor of 60.
    width: i64,
    names: Names,
    /// In the order of time. Stored beside the rest, in less room.
    #[serde(skip)]
    slots: Vec<Slot>,
    /// The last slot that lacks connections, since there was no more room.
    full: Option<i64>,
    /// When the first event was that was left out since it was yet to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    yet_to_come: Option<i64>,
    /// Up to which second a connection of one slot is looked for in the others; what lies ahead is for a later run.
    #[serde(skip)]
    until: Option<i64>,
    /// How many connections are kept.
    #[serde(skip)]
    kept: usize,
    /// How many of them were added since they were told apart.
    #[serde(skip)]
    fresh: usize,
    /// How many they were when all were known to be different.
    #[serde(skip)]
    different: usize,
    /// The place of the slot that was counted in last.
    #[serde(skip)]
    recent: usize,
    /// Where a name was found last in the list of a slot, by kind and number.
    #[serde(skip)]
    hints: Vec<u8>,
}

impl Tally {
    /// An empty tally whose slots are fine enough for a window of this many seconds: the edge of the window is sharp
    /// to a six-hundredth of it, and to the second up to ten minutes.
    pub fn new(window: i64) -> Self {
        let fine_enough = |width: &i64| window <= width * 600;
        let width = [1, 2, 3, 5, 6, 10, 15, 20, 30]
            .into_iter()
            .find(fine_enough)
            .unwrap_or(60);
        Self {
            width,
            ..Self::default()
        }
    }

    /// An empty one whose slots are as fine, to be merged into this: connections are told apart then.
    pub fn like(&self) -> Self {
        Self {
            width: self.width,
            until: Some(i64::MIN / 2),
            ..Self::default()
        }
    }

    /// Nothing behind this second is in the window.
    pub fn up_to(&mut self, second: i64) {
        self.until = Some(second);
    }

    /// Notes that an event of that second was left out, if one was, since it was yet to come.
    pub fn leave_out(&mut self, time: Option<i64>) {
        self.yet_to_come = self.yet_to_come.into_iter().chain(time).min();
    }

    /// Whether an event up to this second was left out.
    pub fn lacks(&self, second: i64) -> bool {
        self.yet_to_come.is_some_and(|first| first <= second)
    }

    /// Adds what another one counted whose slots are as fine.
    pub fn merge(&mut self, other: Self) {
        let names = other.names.iter();
        let numbers: Vec<_> = names
            .map(|name| self.names.number(name.as_bytes()))
            .collect();
        let others = self.names.number(OTHERS.as_bytes());
        self.full = self.full.max(other.full);
        self.leave_out(other.yet_to_come);
        for theirs in other.slots {
            for connection in theirs.connections.all() {
                self.add_connection(theirs.start, connection);
            }
            let ours = self.slot(theirs.start);
            for (sum, count) in ours.causes.iter_mut().zip(theirs.causes) {
                *sum += count;
            }
            ours.suspect += theirs.suspect;
            ours.unparsed += theirs.unparsed;
            let spans = ours.span.into_iter().chain(theirs.span);
            ours.span = spans.reduce(|(a, b), (c, d)| (a.min(c), b.max(d)));
            theirs.who.each(|kind, name, count| {
                let name = numbers.get(name as usize).copied().unwrap_or(others);
                let list = &mut ours.who.open()[kind];
                if !add_to(list, name, count, PER_SLOT, &mut 0) {
                    add_to(list, others, count, PER_SLOT + 1, &mut 0);
                }
            });
        }
    }

    /// The slots, to be stored beside the rest.
    pub fn packed(&self) -> String {
        packed::pack(&self.slots)
    }

    /// Rebuilds what was stored beside the rest, and what is not stored; `None` where it makes no sense.
    pub fn restored(mut self, packed: &str) -> Option<Self> {
        self.slots = packed::unpack(packed)?;
        let in_order = self.slots.is_sorted_by(|a, b| a.start < b.start);
        if !in_order || !(1..=60).contains(&self.width) {
            return None;
        }
        self.count_connections();
        Some(self)
    }

    /// Counts an event at its time. `file` tells apart the workers of several logs.
    pub fn add(&mut self, time: i64, event: &Event<'_>, counted: bool, file: usize) {
        if !counted {
            return self.add_cause(time, event.cause);
        }
        // 8 bits of file, 22 of process, 34 of connection.
        let connection = event.connection().map(|(pid, cid)| {
            ((file as u64 & 0xff) << 56) | (u64::from(pid & 0x3f_ffff) << 34) | (cid & SERIAL)
        });
        self.add_listed(time, event.cause, event.parties(), connection);
    }

    /// Counts an event that is not listed by name.
    pub fn add_cause(&mut self, time: i64, cause: Cause) {
        let start = self.start_near(time);
        self.slot(start).causes[cause.index()] += 1;
    }

    /// Counts an event, whom it concerns and its connection, if it has one.
    pub fn add_listed(
        &mut self,
        time: i64,
        cause: Cause,
        parties: Parties<'_>,
        connection: Option<u64>,
    ) {
        let start = self.start_near(time);
        let Parties {
            upstream,
            server,
            client,
            uri,
        } = parties;
        let who =
            [upstream, server, client, uri].map(|name| name.map(|name| self.names.number(name)));
        let mut hints = std::mem::take(&mut self.hints);
        hints.resize(KINDS * HINTS, 0);
        let slot = self.slot(start);
        slot.causes[cause.index()] += 1;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a slot is at most 60 s
        let second = (time - start) as u8;
        let (first, last) = slot.span.unwrap_or((second, second));
        slot.span = Some((first.min(second), last.max(second)));
        let mut crowded = [false; KINDS];
        let open = slot.who.open();
        let lists = open.iter_mut().zip(who).zip(hints.chunks_mut(HINTS));
        for (((list, name), hints), crowded) in lists.zip(&mut crowded) {
            *crowded = name.is_some_and(|name| {
                let hint = &mut hints[name as usize % HINTS];
                !add_to(list, name, 1, PER_SLOT, hint)
            });
        }
        self.hints = hints;
        if let Some(connection) = connection {
            self.add_connection(start, connection);
        }
        if crowded.contains(&true) {
            let others = self.names.number(OTHERS.as_bytes());
            let slot = self.slot(start);
            // Behind all others, mostly.
            let mut hint = u8::try_from(PER_SLOT).unwrap_or(0);
            let lists = slot.who.open().iter_mut().zip(crowded);
            for (list, _) in lists.filter(|(_, crowded)| *crowded) {
                add_to(list, others, 1, PER_SLOT + 1, &mut hint);
            }
        }
    }

    fn add_connection(&mut self, start: i64, connection: u64) {
        if self.fresh >= TOGETHER {
            self.settle();
        }
        if self.kept >= CONNECTIONS && self.kept != self.different {
            // Before one is given up, those that came more than once are told apart, in a part of a log as well.
            connections::settle(&mut self.slots);
            self.count_connections();
            self.different = self.kept;
        }
        if self.kept >= CONNECTIONS {
            self.full = self.full.max(Some(start));
        } else if self.slot(start).connections.add(connection) {
            self.kept += 1;
            self.fresh += 1;
        }
    }

    /// Tells the connections apart that were added.
    fn settle(&mut self) {
        let last = self.until.map_or(i64::MAX, |until| self.start(until));
        let end = self.slots.partition_point(|slot| slot.start <= last);
        connections::settle(&mut self.slots[..end]);
        self.count_connections();
    }

    fn count_connections(&mut self) {
        let kept = self.slots.iter().map(|slot| slot.connections.kept());
        self.kept = kept.sum();
        self.fresh = 0;
    }

    /// Counts a line that a request wrote, at the time of the log around it.
    pub fn add_suspect(&mut self, time: i64) {
        let start = self.start(time);
        self.slot(start).suspect += 1;
    }

    /// Counts lines that look like failures and cannot be read.
    pub fn add_unparsed(&mut self, time: i64, lines: u64) {
        let start = self.start(time);
        self.slot(start).unparsed += lines;
    }

    /// Forgets what lies before this second, and the names that nobody bears any more.
    pub fn forget_before(&mut self, time: i64) {
        let start = self.start(time);
        self.slots.retain(|slot| slot.start >= start);
        self.recent = 0;
        if self.slots.is_empty() {
            self.names = Names::default();
        }
        if self.names.len() > NAMES / 2 {
            self.renumber();
        }
        self.full = self.full.filter(|full| *full >= start);
        self.count_connections();
    }

    /// What happened after `from` and up to `to`, in seconds. A slot belongs to a window as a whole.
    pub fn summary(&mut self, from: i64, to: i64, counted: CauseSet) -> Summary {
        self.up_to(to);
        self.settle();
        let (first, last) = (self.start(from + 1), self.start(to));
        if first > last {
            return Summary::default();
        }
        let begin = self.slots.partition_point(|slot| slot.start < first);
        let within = self.slots[begin..]
            .iter()
            .take_while(|slot| slot.start <= last);
        Summary {
            connections_capped: self.full.is_some_and(|full| full >= first),
            ..Summary::over(within, &self.names, counted)
        }
    }

    fn start(&self, time: i64) -> i64 {
        time - time.rem_euclid(self.width.max(1))
    }

    /// The same, without the division where the time is in the slot that was counted in last.
    fn start_near(&self, time: i64) -> i64 {
        let recent = self.slots.get(self.recent).map(|slot| slot.start);
        recent
            .filter(|start| (0..self.width).contains(&time.wrapping_sub(*start)))
            .unwrap_or_else(|| self.start(time))
    }

    fn slot(&mut self, start: i64) -> &mut Slot {
        // Lines stand nearly in the order of time.
        if self
            .slots
            .get(self.recent)
            .is_none_or(|slot| slot.start != start)
        {
            let place = self.slots.partition_point(|slot| slot.start < start);
            if self.slots.get(place).is_none_or(|slot| slot.start != start) {
                let slot = Slot {
                    start,
                    ..Slot::default()
                };
                self.slots.insert(place, slot);
            }
            self.recent = place;
        }
        &mut self.slots[self.recent]
    }

    /// Leaves out the names that no slot uses.
    fn renumber(&mut self) {
        let old = std::mem::take(&mut self.names);
        for list in self.slots.iter_mut().flat_map(|slot| slot.who.open()) {
            for (number, _) in list {
                let name = old.get(*number).unwrap_or(OTHERS);
                *number = self.names.number(name.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(cause: Cause, header: &'a str, upstream: &'a str) -> Event<'a> {
        let fields = b", client: 192.0.2.1, server: a";
        Event::other(cause, header.as_bytes(), fields, Some(upstream.as_bytes()))
    }

    /// As the next run has it.
    fn kept(tally: &Tally) -> Option<Tally> {
        let text = serde_json::to_string(tally).unwrap();
        let rest: Tally = serde_json::from_str(&text).unwrap();
        rest.restored(&tally.packed())
    }

    fn counted() -> CauseSet {
        [Cause::BindInUse].into_iter().collect()
    }

    #[test]
    fn a_window_begins_behind_its_start_and_ends_with_its_end() {
        let mut tally = Tally::new(600);
        for time in [999, 1000, 1001, 1600, 1601] {
            tally.add(
                time,
                &event(Cause::BindInUse, "crit] 7#7: *1 ", "u"),
                true,
                0,
            );
        }
        tally.add(
            1300,
            &event(Cause::Refused, "crit] 7#7: *9 ", "other"),
            false,
            0,
        );
        let summary = tally.summary(1000, 1600, counted());
        assert_eq!((summary.count, summary.connections), (2, 1));
        assert_eq!(summary.span, Some((1001, 1600)));
        assert_eq!(
            (summary.of(Cause::Refused), summary.of(Cause::BindInUse)),
            (1, 2)
        );
        assert_eq!(summary.upstreams, [("u".to_owned(), 2)]);
        assert_eq!(
            summary.minutes.into_iter().collect::<Vec<_>>(),
            [(960, 1), (1560, 1)]
        );
        assert_eq!(summary.peak, Some((960, 1)));
    }

    #[test]
    fn what_was_stored_says_the_same() {
        let mut tally = Tally::new(600);
        for n in 0..5000 {
            let upstream = format!("u{}", n % 7);
            tally.add(
                1000 + n / 50,
                &event(
                    Cause::BindInUse,
                    &format!("crit] 7#7: *{} ", 3 * n),
                    &upstream,
                ),
                true,
                1,
            );
        }
        tally.add_suspect(1001);
        tally.add_unparsed(1002, 3);
        let before = tally.summary(900, 1500, counted());
        let mut restored = kept(&tally).unwrap();
        assert_eq!(restored.summary(900, 1500, counted()), before);
        assert_eq!(
            (before.connections, before.suspect, before.unparsed),
            (5000, 1, 3)
        );
        let length = tally.packed().len();
        assert!(length < 5000 * 2 + 100 * 200, "{length}");
        restored.forget_before(1050);
        assert_eq!(restored.summary(900, 1500, counted()).count, 2500);
    }

    #[test]
    fn a_state_whose_sums_would_wrap_round_is_refused() {
        let mut tally = Tally::new(600);
        for time in [1000, 1001] {
            let listed = event(Cause::BindInUse, "crit] 7#7: *1 ", "u");
            tally.add(time, &listed, true, 0);
        }
        assert!(kept(&tally).is_some());
        let huge = [
            |slot: &mut Slot| slot.causes[0] = u64::MAX,
            |slot: &mut Slot| slot.suspect = u64::MAX,
            |slot: &mut Slot| slot.unparsed = u64::MAX,
            |slot: &mut Slot| slot.start = i64::MAX,
            |slot: &mut Slot| slot.start = i64::MIN,
        ];
        for (number, change) in huge.iter().enumerate() {
            let mut tally = tally.clone();
            change(&mut tally.slots[1]);
            assert!(kept(&tally).is_none(), "{number}");
        }
        // What stays packed is looked at when it is added up.
        tally.slots[1].who.open()[0][0].1 = u64::MAX;
        let mut restored = kept(&tally).unwrap();
        let upstreams = restored.summary(900, 1500, counted()).upstreams;
        assert_eq!(upstreams, [("u".to_owned(), 1)]);
    }

    #[test]
    fn two_parts_counted_apart_are_the_whole() {
        let header: Vec<_> = (0..600).map(|n| format!("crit] 7#7: *{n} ")).collect();
        let (mut whole, mut parts) = (Tally::new(600), [Tally::new(600), Tally::new(600)]);
        for (n, header) in (0..).zip(&header) {
            let upstream = format!("u{}", n * n % 90);
            let event = event(Cause::BindInUse, header, &upstream);
            let time = 1000 + n / 3;
            whole.add(time, &event, n % 5 > 0, 0);
            parts[usize::from(n > 250)].add(time, &event, n % 5 > 0, 0);
        }
        parts[1].add_suspect(1010);
        whole.add_suspect(1010);
        let [mut first, second] = parts;
        first.merge(second);
        let [first, whole] = [first, whole].map(|mut tally| tally.summary(900, 1500, counted()));
        assert_eq!(first, whole);
        assert_eq!((whole.connections, whole.suspect), (480, 1));
    }

    #[test]
    fn names_without_end_take_no_more_than_their_room() {
        let mut tally = Tally::new(600);
        for n in 0..20_000 {
            let upstream = format!("upstream-{n}");
            tally.add(
                1000 + n % 600,
                &event(Cause::BindInUse, "crit] 7#7: *1 ", &upstream),
                true,
                0,
            );
        }
        let summary = tally.summary(0, 5000, counted());
        assert_eq!(
            summary.upstreams.iter().map(|(_, n)| n).sum::<u64>(),
            20_000
        );
        assert!(summary.upstreams.len() <= NAMES && summary.upstreams[0].0 == OTHERS);
    }

    #[test]
    fn a_part_with_few_connections_and_many_events_has_room_for_more() {
        let mut tally = Tally::new(600);
        let mut part = tally.like();
        let mut add = |connection| {
            part.add_listed(1000, Cause::BindInUse, Parties::default(), Some(connection));
        };
        (0..=CONNECTIONS as u64).for_each(|n| add(n % 2));
        add(7);
        assert_eq!(part.full, None);
        tally.up_to(1000);
        tally.merge(part);
        assert_eq!(tally.summary(0, 1000, counted()).connections, 3);
    }
}
