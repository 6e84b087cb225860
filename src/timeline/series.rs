//! Lanes as rows of equal length, and the bins in which they stand out.

use super::grid::Lane;
use super::group::Group;

/// From so many percent of a limit on it counts as nearly used up.
const NEAR: f64 = 80.0;

/// The bins of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bins {
    /// The number of the first one.
    pub first: i64,
    /// How many.
    pub count: usize,
    /// How wide, in seconds.
    pub step: i64,
}

impl Bins {
    /// When a bin begins, in seconds since 1970.
    pub fn start(&self, index: usize) -> i64 {
        (self.first + i64::try_from(index).unwrap_or(0)) * self.step
    }

    /// The place of a second.
    pub fn index(&self, at: i64) -> Option<usize> {
        let index = usize::try_from(at.div_euclid(self.step) - self.first).ok()?;
        (index < self.count).then_some(index)
    }

    /// The places from one second to another.
    pub fn between(&self, (first, last): (i64, i64)) -> std::ops::Range<usize> {
        let place = |at: i64| usize::try_from(at.div_euclid(self.step) - self.first).unwrap_or(0);
        let end = (place(last) + 1).min(self.count);
        place(first).min(end)..end
    }
}

/// A lane, bin by bin.
#[derive(Debug, Clone)]
pub struct Series {
    /// What was counted; of what is measured `None` where nothing was.
    pub values: Vec<Option<f64>>,
    /// Whether a bin stands out.
    pub raised: Vec<bool>,
}

impl Series {
    /// A lane over these bins.
    pub fn of(lane: &Lane, bins: Bins) -> Self {
        let values: Vec<Option<f64>> = (0..bins.count)
            .map(|index| {
                let bin = bins.first + i64::try_from(index).unwrap_or(0);
                match lane.cells.get(&bin) {
                    Some(cell) => Some(cell.value),
                    None => (!lane.group.is_measured()).then_some(0.0),
                }
            })
            .collect();
        let usual = median(&values);
        let limit = match lane.group {
            Group::Ports | Group::Limit => NEAR.next_down(),
            Group::Time => (usual * 3.0).max(usual + 0.2),
            // What a count that comes by chance stays below 99.9 times in 100.
            _ => usual + 3.0 * usual.sqrt(),
        };
        let above = |limit: f64| -> Vec<bool> {
            let is_above = |value: &Option<f64>| value.is_some_and(|value| value > limit);
            values.iter().map(is_above).collect()
        };
        let mut raised = above(limit);
        // What fails all the time stands out all the time.
        if lane.group != Group::Requests && !lane.group.is_measured() && !raised.contains(&true) {
            raised = above(0.0);
        }
        Self { values, raised }
    }

    /// How many bins stand out.
    pub fn count(&self) -> usize {
        self.raised.iter().filter(|raised| **raised).count()
    }

    /// The largest value and its place.
    pub fn peak(&self) -> Option<(usize, f64)> {
        let known = self
            .values
            .iter()
            .enumerate()
            .filter_map(|(at, value)| Some((at, (*value)?)));
        known.reduce(|most, one| if one.1 > most.1 { one } else { most })
    }

    /// The middle one of the values of some bins.
    pub fn median_where(&self, holds: impl Fn(usize) -> bool) -> Option<f64> {
        let mut known: Vec<f64> = self
            .values
            .iter()
            .enumerate()
            .filter(|(at, _)| holds(*at))
            .filter_map(|(_, value)| *value)
            .collect();
        known.sort_by(f64::total_cmp);
        known.get(known.len() / 2).copied()
    }
}

fn median(values: &[Option<f64>]) -> f64 {
    let mut known: Vec<f64> = values.iter().flatten().copied().collect();
    known.sort_by(f64::total_cmp);
    known.get(known.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::grid::Grid;
    use super::*;

    #[test]
    fn what_stands_out_is_told_from_what_is_usual() {
        let bins = Bins {
            first: 0,
            count: 10,
            step: 60,
        };
        let rows = |group, values: [f64; 10]| {
            let mut grid = Grid::new(Some(60));
            for (at, value) in (0..).zip(values) {
                if value >= 0.0 {
                    grid.add(at * 60, group, b"x", value, None);
                }
            }
            Series::of(&grid.finish(8).1[0], bins)
        };
        let quiet = rows(
            Group::Error,
            [0.0, 0.0, 3.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        );
        assert_eq!((quiet.count(), quiet.peak()), (2, Some((2, 3.0))));
        let busy = rows(
            Group::Error,
            [
                100.0, 110.0, 95.0, 129.0, 140.0, 100.0, 90.0, 100.0, 105.0, 99.0,
            ],
        );
        assert_eq!(busy.count(), 1);
        let ports = rows(
            Group::Ports,
            [50.0, 79.9, 80.0, 100.0, -1.0, 50.0, 50.0, 50.0, 50.0, 50.0],
        );
        assert_eq!((ports.count(), ports.values[4]), (2, None));
        assert_eq!(bins.between((65, 130)), 1..3);
        assert_eq!(
            (bins.index(599), bins.index(600), bins.index(-1)),
            (Some(9), None, None)
        );
    }
}
