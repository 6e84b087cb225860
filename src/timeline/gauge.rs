//! Whether what can run out had run out: the gauges of a journal, held against the bins that failed.

use super::causes::Candidate;
use super::grid::Lane;
use super::group::Group;
use super::series::Series;
use super::words::name;

/// What is nearly used up, in percent.
const NEAR: f64 = 95.0;
/// What leaves room enough for ports to be innocent, in percent.
const ROOM: f64 = 80.0;

/// What can run out.
pub struct Gauge {
    group: Group,
    /// The gauges' own names, which stand behind that of the series; none where all of the group are.
    names: &'static [&'static [u8]],
    what: &'static str,
    /// Whether room at each look says that there was room in between.
    lasts: bool,
}

/// A port stays in TIME_WAIT for a minute: a look in each sees it.
pub const CLIENT_PORTS: Gauge = Gauge {
    group: Group::Ports,
    names: &[],
    what: "client ports",
    lasts: true,
};

/// `files` is the whole host's limit (ENFILE) and says nothing of a worker's own (EMFILE), which is nginx' error 24;
/// `open_files` is a process's own, and a descriptor that is closed is free at once, long before the next look.
pub const FILE_DESCRIPTORS: Gauge = Gauge {
    group: Group::Limit,
    names: &[b"files", b"open_files"],
    what: "file descriptors",
    lasts: false,
};

impl Gauge {
    fn is_of(&self, lane: &Lane) -> bool {
        let own = lane.name.rsplit(|byte| *byte == b' ').next();
        lane.group == self.group
            && (self.names.is_empty() || own.is_some_and(|own| self.names.contains(&own)))
    }

    /// Lets the tightest of its lanes speak for the candidate, or against it.
    pub fn weigh<'a>(
        &self,
        lanes: impl Iterator<Item = (&'a Lane, &'a Series)>,
        failing: &[bool],
        candidate: &mut Candidate,
    ) {
        let tightest = lanes
            .filter(|(lane, _)| self.is_of(lane))
            .filter_map(|(lane, series)| Some((lane, series, series.peak()?)))
            .max_by(|a, b| a.2.1.total_cmp(&b.2.1));
        let Some((lane, series, (_, most))) = tightest else {
            return;
        };
        let what = self.what;
        let lane = name(&lane.name);
        let within = series.median_where(|at| failing[at]);
        let outside = series.median_where(|at| !failing[at]);
        let figures = || {
            let shown = |value: Option<f64>| {
                value.map_or("not measured".to_owned(), |value| format!("{value:.0} %"))
            };
            format!(
                "{lane}: at most {most:.0} %, median {} in failing bins, {} in the others",
                shown(within),
                shown(outside)
            )
        };
        if most < ROOM && self.lasts {
            candidate.score *= 0.1;
            candidate.speaks_against.push(format!(
                "there were {what} left all the time ({})",
                figures()
            ));
        } else if most >= NEAR && within.is_some() {
            // Where nothing else was read the gauge speaks for itself.
            candidate.score += 0.5;
            candidate
                .speaks_for
                .push(format!("{what} were used up ({})", figures()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::grid::Grid;
    use super::super::series::Bins;
    use super::*;

    /// The score, from a half on, and how many words there are for and against it, when of two bins the second fails.
    fn weighed(gauge: &Gauge, group: Group, lane: &str, values: [f64; 2]) -> (f64, usize, usize) {
        let bins = Bins {
            first: 0,
            count: 2,
            step: 60,
        };
        let mut grid = Grid::new(Some(60));
        for (at, value) in [0, 60].into_iter().zip(values) {
            grid.add(at, group, lane.as_bytes(), value, None);
        }
        let lanes = grid.finish(8).1;
        let series: Vec<_> = lanes.iter().map(|lane| Series::of(lane, bins)).collect();
        let mut candidate = Candidate {
            sort: None,
            score: 0.5,
            speaks_for: Vec::new(),
            speaks_against: Vec::new(),
            next: Vec::new(),
        };
        let failing = [false, true];
        gauge.weigh(lanes.iter().zip(&series), &failing, &mut candidate);
        let Candidate {
            score,
            speaks_for,
            speaks_against,
            ..
        } = candidate;
        (score, speaks_for.len(), speaks_against.len())
    }

    #[test]
    fn ports_that_were_left_acquit() {
        let ports = |values| weighed(&CLIENT_PORTS, Group::Ports, "files bind", values);
        assert_eq!(ports([30.0, 79.0]), (0.05, 0, 1));
        assert_eq!(ports([30.0, 90.0]), (0.5, 0, 0));
        assert_eq!(ports([30.0, 95.0]), (1.0, 1, 0));
    }

    #[test]
    fn descriptors_of_the_host_or_between_bursts_acquit_no_worker() {
        for lane in ["net:[4026532387] files", "net:[4026532387] open_files"] {
            let files = |values| weighed(&FILE_DESCRIPTORS, Group::Limit, lane, values);
            assert_eq!(files([0.0, 1.0]), (0.5, 0, 0), "{lane}");
            assert_eq!(files([0.0, 95.0]), (1.0, 1, 0), "{lane}");
        }
    }

    #[test]
    fn a_series_with_files_in_its_name_is_no_gauge_of_them() {
        for lane in [
            "profile-proxy time_wait_buckets",
            "files conntrack",
            "a profiles",
        ] {
            let found = weighed(&FILE_DESCRIPTORS, Group::Limit, lane, [99.0, 100.0]);
            assert_eq!(found, (0.5, 0, 0), "{lane}");
        }
    }
}
