//! Time in bins, and counts in lanes: everything that was read, in bounded memory.
//!
//! A lane is a row of the picture: something that happens, counted by bin, or something that is measured. Where the
//! window is not known beforehand the bins begin as seconds and are made coarser as the span grows.

use std::collections::{BTreeMap, HashMap};

use super::access::GAVE_UP;
use super::group::Group;

/// The widths that may be asked for, in seconds.
pub const LADDER: [i64; 6] = [1, 10, 60, 600, 3600, DAY];

const DAY: i64 = 86_400;

/// The widths that are taken without being asked for, each with the number of bins up to which it is. Beyond a day they
/// are for logs in which a broken line or clock tells of another century.
const STEPS: [(i64, i64); 9] = [
    (1, 900),
    (60, 2880),
    (600, MOST_BINS),
    (3600, MOST_BINS),
    (DAY, MOST_BINS),
    (10 * DAY, MOST_BINS),
    (100 * DAY, MOST_BINS),
    (1000 * DAY, MOST_BINS),
    (10_000 * DAY, i64::MAX),
];

/// No more bins than this.
pub const MOST_BINS: i64 = 5000;

/// How many names a group holds while reading. Beyond it the smaller half becomes one lane.
const NAMES: usize = 256;

/// How much of a name is kept.
const NAME: usize = 120;

/// How many lines a bin of a lane keeps, and how much of each.
const LINES: usize = 3;
const LINE: usize = 400;

/// What all lines together may take.
const LINES_IN_ALL: usize = 24 << 20;

/// What the lane is called that stands for all that found no place.
const OTHERS: &[u8] = b"(others)";

/// One bin of a lane.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// The sum of what was counted, or the largest value that was measured.
    pub value: f64,
    /// The first lines that were counted.
    pub lines: Vec<Box<[u8]>>,
}

/// A row.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Its kind.
    pub group: Group,
    /// What of it, as it came: not cleaned.
    pub name: Box<[u8]>,
    /// By bin: seconds since 1970 divided by the width.
    pub cells: BTreeMap<i64, Cell>,
    /// The sum of all, or the largest.
    pub total: f64,
    /// When it first was more than nothing, in seconds since 1970.
    pub first: Option<i64>,
}

impl Lane {
    fn new(group: Group, name: &[u8]) -> Self {
        Self {
            group,
            name: name.into(),
            cells: BTreeMap::new(),
            total: 0.0,
            first: None,
        }
    }

    fn put(&mut self, bin: i64, value: f64) -> &mut Cell {
        let cell = self.cells.entry(bin).or_default();
        if self.group.is_measured() {
            cell.value = cell.value.max(value);
            self.total = self.total.max(value);
        } else {
            cell.value += value;
            self.total += value;
        }
        cell
    }

    /// Takes over all of another one.
    fn absorb(&mut self, other: Self) -> usize {
        let mut freed = 0;
        for (bin, cell) in other.cells {
            let ours = self.put(bin, cell.value);
            freed += keep_lines(ours, cell.lines);
        }
        self.first = match (self.first, other.first) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        freed
    }

    /// Makes its bins so many times wider.
    fn widen(&mut self, times: i64) -> usize {
        let mut freed = 0;
        for (bin, cell) in std::mem::take(&mut self.cells) {
            let wide = self.cells.entry(bin.div_euclid(times)).or_default();
            wide.value = if self.group.is_measured() {
                wide.value.max(cell.value)
            } else {
                wide.value + cell.value
            };
            freed += keep_lines(wide, cell.lines);
        }
        freed
    }
}

/// Keeps as many lines as a cell may hold. Returns the bytes of those that were dropped.
fn keep_lines(cell: &mut Cell, lines: Vec<Box<[u8]>>) -> usize {
    let room = LINES.saturating_sub(cell.lines.len());
    let mut lines = lines.into_iter();
    cell.lines.extend(lines.by_ref().take(room));
    lines.map(|line| line.len()).sum()
}

/// What a lane is found by.
fn set_key(key: &mut Vec<u8>, group: Group, name: &[u8]) {
    key.clear();
    key.push(group as u8);
    key.extend_from_slice(name);
}

/// The width of a bin for so many seconds.
pub fn step_for(seconds: i64) -> i64 {
    let fits = |(step, most): &&(i64, i64)| seconds / step <= *most;
    STEPS.iter().find(fits).map_or(DAY, |(step, _)| *step)
}

/// All lanes.
#[derive(Debug)]
pub struct Grid {
    step: i64,
    /// Whether that was asked for.
    is_given: bool,
    lanes: Vec<Lane>,
    /// By the group's number and the name.
    index: HashMap<Box<[u8]>, usize>,
    key: Vec<u8>,
    /// The first and last second of anything that was read, also where nothing was counted.
    span: Option<(i64, i64)>,
    line_bytes: usize,
}

impl Grid {
    /// An empty one; with a width it begins with that.
    pub fn new(step: Option<i64>) -> Self {
        Self {
            step: step.unwrap_or(1),
            is_given: step.is_some(),
            lanes: Vec::new(),
            index: HashMap::new(),
            key: Vec::new(),
            span: None,
            line_bytes: 0,
        }
    }

    /// The width of a bin in seconds.
    #[cfg(test)]
    fn step(&self) -> i64 {
        self.step
    }

    /// The bin of a second.
    pub fn bin(&self, at: i64) -> i64 {
        at.div_euclid(self.step)
    }

    /// The first and last second of anything that was read.
    pub fn span(&self) -> Option<(i64, i64)> {
        self.span
    }

    /// Says that something was read of this second, and makes the bins wider where they would become too many.
    pub fn reach(&mut self, at: i64) {
        let (first, last) = match self.span {
            Some((first, last)) if at >= first && at <= last => return,
            Some((first, last)) => (first.min(at), last.max(at)),
            None => (at, at),
        };
        self.span = Some((first, last));
        let most = STEPS.iter().find(|(step, _)| *step == self.step);
        let most = most.filter(|_| !self.is_given);
        let most = most.map_or(MOST_BINS, |(_, most)| *most);
        if (last - first) / self.step > most {
            self.widen(step_for(last - first).max(self.step * 10));
        }
    }

    fn widen(&mut self, wanted: i64) {
        let wider = STEPS.iter().map(|(step, _)| *step);
        let mut steps = LADDER.into_iter().chain(wider);
        let step = steps.find(|step| *step >= wanted).unwrap_or(DAY);
        let times = step / self.step;
        if times <= 1 {
            return;
        }
        for lane in &mut self.lanes {
            self.line_bytes -= lane.widen(times).min(self.line_bytes);
        }
        self.step = step;
        self.is_given = false;
    }

    /// Counts or measures something, with the line that says so.
    pub fn add(&mut self, at: i64, group: Group, name: &[u8], value: f64, line: Option<&[u8]>) {
        self.reach(at);
        let bin = self.bin(at);
        let name = &name[..name.len().min(NAME)];
        let id = self.lane(group, name);
        let row = &mut self.lanes[id];
        let room = self.line_bytes < LINES_IN_ALL;
        let cell = row.put(bin, value);
        if let Some(line) = line
            && cell.lines.len() < LINES
            && room
        {
            let line = &line[..line.len().min(LINE)];
            self.line_bytes += line.len();
            cell.lines.push(line.into());
        }
        if value > 0.0 && row.first.is_none_or(|first| at < first) {
            row.first = Some(at);
        }
    }

    fn lane(&mut self, group: Group, name: &[u8]) -> usize {
        set_key(&mut self.key, group, name);
        if let Some(id) = self.index.get(&self.key[..]) {
            return *id;
        }
        if self.lanes.iter().filter(|lane| lane.group == group).count() >= NAMES {
            self.merge_smaller_half(group);
        }
        self.lanes.push(Lane::new(group, name));
        self.index
            .insert(Box::from(&self.key[..]), self.lanes.len() - 1);
        self.lanes.len() - 1
    }

    /// Puts the smaller half of a group's lanes together.
    fn merge_smaller_half(&mut self, group: Group) {
        let mut totals: Vec<f64> = self
            .lanes
            .iter()
            .filter(|lane| lane.group == group)
            .map(|lane| lane.total)
            .collect();
        totals.sort_by(f64::total_cmp);
        let middle = totals[totals.len() / 2];
        self.merge(|lane| lane.group == group && lane.total <= middle);
    }

    /// Puts the lanes for which this holds together, in one for each group.
    fn merge(&mut self, mut is_small: impl FnMut(&Lane) -> bool) {
        let (small, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.lanes)
            .into_iter()
            .partition(|lane| &*lane.name != OTHERS && is_small(lane));
        self.lanes = kept;
        for lane in small {
            let place = self
                .lanes
                .iter()
                .position(|other| other.group == lane.group && &*other.name == OTHERS);
            let place = place.unwrap_or_else(|| {
                self.lanes.push(Lane::new(lane.group, OTHERS));
                self.lanes.len() - 1
            });
            self.line_bytes -= self.lanes[place].absorb(lane).min(self.line_bytes);
        }
        self.index.clear();
        for (id, lane) in self.lanes.iter().enumerate() {
            let mut key = Vec::new();
            set_key(&mut key, lane.group, &lane.name);
            self.index.insert(key.into(), id);
        }
    }

    /// Shows what the error log says of services, paths and backends, where nothing better does.
    fn promote(&mut self) {
        for (told, shown) in [
            (Group::ToldService, Group::Service),
            (Group::ToldPath, Group::Path),
            (Group::ToldBackend, Group::Backend),
        ] {
            if self.lanes.iter().any(|lane| lane.group == shown) {
                self.lanes.retain(|lane| lane.group != told);
            }
            let lanes = self.lanes.iter_mut().filter(|lane| lane.group == told);
            lanes.for_each(|lane| lane.group = shown);
        }
    }

    /// The lanes to show: of each group the largest, the others as one.
    pub fn finish(mut self, top: usize) -> (i64, Vec<Lane>) {
        self.promote();
        for group in Group::SHOWN {
            let mut totals: Vec<_> = self
                .lanes
                .iter()
                .filter(|lane| lane.group == group && !is_apart(&lane.name))
                .map(|lane| (lane.total, lane.name.clone()))
                .collect();
            totals.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            let small: Vec<_> = totals.into_iter().skip(top).map(|(_, name)| name).collect();
            if small.len() > 1 {
                self.merge(|lane| lane.group == group && small.contains(&lane.name));
            }
        }
        let mut lanes = self.lanes;
        lanes.sort_by(|a, b| {
            let order = |lane: &Lane| (lane.group, &*lane.name == OTHERS);
            order(a)
                .cmp(&order(b))
                .then_with(|| b.total.total_cmp(&a.total))
                .then_with(|| a.name.cmp(&b.name))
        });
        (self.step, lanes)
    }
}

/// Whether a lane is none of those of which the largest are shown. Those who gave up are no failures as the others are.
fn is_apart(name: &[u8]) -> bool {
    name == OTHERS || name == GAVE_UP.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of whole numbers are exact.
    fn is(value: f64, expected: f64) -> bool {
        (value - expected).abs() < f64::EPSILON
    }

    #[test]
    fn bins_grow_with_the_span_and_nothing_is_lost() {
        let mut grid = Grid::new(None);
        for at in 0..100_i64 {
            grid.add(
                1_800_000_000 + at,
                Group::Status,
                b"500",
                1.0,
                Some(b"line"),
            );
        }
        assert_eq!(grid.step(), 1);
        grid.add(1_800_000_000 + 86_400, Group::Ports, b"a", 50.0, None);
        grid.add(1_800_000_000 + 86_401, Group::Ports, b"a", 40.0, None);
        assert_eq!(grid.step(), 60);
        grid.add(
            1_800_000_000 + 60 * 86_400,
            Group::Status,
            b"500",
            1.0,
            None,
        );
        assert_eq!(grid.step(), 3600);
        let (step, lanes) = grid.finish(8);
        assert_eq!((step, lanes.len()), (3600, 2));
        assert!(is(lanes[0].total, 101.0));
        let sum: f64 = lanes[0].cells.values().map(|cell| cell.value).sum();
        assert!(is(sum, 101.0));
        assert!(
            lanes[0]
                .cells
                .values()
                .all(|cell| cell.lines.len() <= LINES)
        );
        assert!(is(lanes[1].cells.values().next().unwrap().value, 50.0));
        for (seconds, step) in [
            (60, 1),
            (900, 1),
            (5400, 60),
            (86_400, 60),
            (20 * 86_400, 600),
            (90 * 86_400, 3600),
            (9 * 365 * 86_400, 86_400),
            (56 * 365 * 86_400, 864_000),
        ] {
            assert_eq!(step_for(seconds), step, "{seconds}");
        }
    }

    #[test]
    fn a_line_of_another_age_makes_no_more_bins() {
        let now = 1_800_000_000;
        for stray in [0, -62_135_596_800, 253_402_300_799, -377_705_023_201] {
            for begin in [None, Some(1), Some(3600), Some(86_400)] {
                let mut grid = Grid::new(begin);
                for at in [now, now + 60, stray, now + 61] {
                    grid.add(at, Group::Status, b"500", 1.0, None);
                }
                let (first, last) = grid.span().unwrap();
                let bins = (last - first) / grid.step() + 1;
                assert!(bins <= MOST_BINS + 1, "{stray} {begin:?}: {bins}");
                assert!(is(grid.finish(8).1[0].total, 4.0));
            }
        }
    }

    #[test]
    fn a_width_that_was_asked_for_stays_as_long_as_there_is_room() {
        for (begin, seconds, step) in [
            (Some(1), 3600, 1),
            (Some(1), 5002, 60),
            (Some(10), 3600, 10),
            (None, 3600, 60),
            (None, 901, 60),
            (None, 60 * 3000, 600),
            (Some(60), 60 * 3000, 60),
        ] {
            let mut grid = Grid::new(begin);
            grid.add(0, Group::Status, b"500", 1.0, None);
            grid.add(seconds, Group::Status, b"500", 1.0, None);
            assert_eq!(grid.step(), step, "{begin:?} {seconds}");
        }
    }

    #[test]
    fn those_who_gave_up_have_a_row_of_their_own() {
        let mut grid = Grid::new(None);
        for (name, times) in [("500", 9), (GAVE_UP, 5), ("502", 2), ("503", 1)] {
            for _ in 0..times {
                grid.add(0, Group::Status, name.as_bytes(), 1.0, None);
            }
        }
        let lanes = grid.finish(1).1.into_iter();
        let lanes: Vec<_> = lanes
            .map(|lane| {
                (
                    String::from_utf8_lossy(&lane.name).into_owned(),
                    lane.total.to_bits(),
                )
            })
            .collect();
        let row = |name: &str, total: f64| (name.to_owned(), total.to_bits());
        assert_eq!(
            lanes,
            [row("500", 9.0), row(GAVE_UP, 5.0), row("(others)", 3.0)]
        );
    }

    #[test]
    fn a_flood_of_names_keeps_the_large_ones_and_the_sum() {
        let mut grid = Grid::new(Some(60));
        for n in 0..20_000_u32 {
            grid.add(0, Group::Path, format!("/{n}").as_bytes(), 1.0, None);
            grid.add(0, Group::Path, b"/api", 1.0, None);
        }
        assert!(grid.lanes.len() <= NAMES + 1);
        let (_, lanes) = grid.finish(3);
        assert!(lanes.len() <= 4, "{}", lanes.len());
        assert_eq!(&*lanes[0].name, b"/api");
        assert!(is(lanes[0].total, 20_000.0));
        assert!(is(lanes.iter().map(|lane| lane.total).sum(), 40_000.0));
    }
}
