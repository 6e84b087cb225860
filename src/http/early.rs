//! The word ahead of the result: a run that probes for most of a minute has nothing to hide until its end.

use std::time::{Duration, Instant};

use super::pace::Pace;
use super::plan::Plan;
use super::probe::Probe;
use super::report::{WORDS_LIMIT, failure_line};
use super::summary::Tally;
use crate::plugin::clean::clean_cut;
use crate::plugin::{Report, Run, State};

/// A result that comes within this time needs no word ahead.
const SOON: Duration = Duration::from_secs(1);

/// Says once in a run that it went bad, where somebody listens (`--submit`).
pub struct Early<'a> {
    run: &'a Run,
    pace: Pace,
    began: Instant,
    over: bool,
}

impl<'a> Early<'a> {
    /// For a run at this pace.
    pub fn new(run: &'a Run, pace: Pace) -> Self {
        Self {
            run,
            pace,
            began: Instant::now(),
            over: !run.is_heard(),
        }
    }

    /// Looks at a probe that was not counted yet.
    pub fn hear(&mut self, plan: &Plan, before: &Tally, probe: &Probe) {
        if self.over || probe.kind.is_none() {
            return;
        }
        let (attempts, failed) = before.so_far();
        let (attempts, failed) = (attempts + 1, failed + 1);
        let state = state(plan, &self.pace, failed, probe);
        if state == State::Ok || left(&self.pace, attempts, self.began.elapsed()) < SOON {
            return;
        }
        self.over = true;
        let via = match &plan.paths[..] {
            [_] => String::new(),
            paths => format!(" via {}", paths[probe.path].name),
        };
        let words = clean_cut(probe.headline(), WORDS_LIMIT);
        let words = words.trim_end_matches('.');
        let summary =
            format!("{words}{via} - {failed} of {attempts} probes failed so far, the run goes on");
        // Performance data is that of whole runs.
        let mut report = Report::new(state, summary);
        report.line(0, failure_line(probe));
        self.run.tell_early(&report);
    }
}

/// What the run comes to even if all probes that are to come are good. A share of a number that is not known yet comes
/// to nothing.
fn state(plan: &Plan, pace: &Pace, failed: u64, probe: &Probe) -> State {
    if !plan.failures.any() {
        return probe.state;
    }
    let limits = [plan.failures.warning, plan.failures.critical];
    let by_share = limits.into_iter().flatten().any(|limit| limit.percent);
    match planned(pace) {
        None if by_share => State::Ok,
        planned => plan
            .failures
            .judge(failed as f64, planned.unwrap_or_default()),
    }
}

/// How long a run will go on, as far as can be told.
fn left(pace: &Pace, attempts: u64, elapsed: Duration) -> Duration {
    let by_time = pace.duration.map(|whole| whole.saturating_sub(elapsed));
    let by_count = pace.attempts.map(|whole| {
        let each = elapsed.div_f64(attempts.max(1) as f64).max(pace.interval);
        let left = u32::try_from(whole.saturating_sub(attempts)).unwrap_or(u32::MAX);
        each.saturating_mul(left)
    });
    by_time
        .into_iter()
        .chain(by_count)
        .min()
        .unwrap_or_default()
}

/// How many probes a run has at the most.
fn planned(pace: &Pace) -> Option<f64> {
    let by_time = || {
        let (duration, interval) = (pace.duration?.as_secs_f64(), pace.interval.as_secs_f64());
        (interval > 0.0).then(|| (duration / interval).ceil())
    };
    pace.attempts
        .map(|attempts| attempts as f64)
        .or_else(by_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_run_is_told_from_its_pace() {
        let pace = |attempts, duration, interval| Pace {
            attempts,
            duration,
            interval: Duration::from_millis(interval),
            concurrency: 1,
            keepalive: false,
        };
        let seconds = Duration::from_secs;
        for (pace, attempts, elapsed, expected) in [
            (pace(Some(30), None, 1000), 4, 3, seconds(26)),
            (pace(Some(10), None, 0), 5, 50, seconds(50)),
            (pace(Some(10), None, 0), 10, 50, seconds(0)),
            (pace(None, Some(seconds(45)), 1000), 4, 4, seconds(41)),
            (pace(None, Some(seconds(45)), 0), 4, 50, seconds(0)),
            (pace(Some(5), Some(seconds(45)), 0), 4, 4, seconds(1)),
        ] {
            assert_eq!(
                left(&pace, attempts, seconds(elapsed)),
                expected,
                "{pace:?}"
            );
        }
    }
}
