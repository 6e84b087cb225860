//! The word ahead of the result: a run that probes for most of a minute has nothing to hide until its end.

use super::pace::Pace;
use super::plan::Plan;
use super::probe::Probe;
use super::report::{WORDS_LIMIT, failure_line};
use super::summary::Tally;
use crate::plugin::clean::clean_cut;
use crate::plugin::{Report, Run, State};

/// Says once in a run that it went bad, where somebody listens (`--submit`).
pub struct Early<'a> {
    run: &'a Run,
    over: bool,
}

impl<'a> Early<'a> {
    /// For this run.
    pub fn new(run: &'a Run) -> Self {
        Self {
            run,
            over: !run.is_heard(),
        }
    }

    /// Looks at a probe that was not counted yet. With the last one of a run the result comes anyway.
    pub fn hear(&mut self, plan: &Plan, before: &Tally, probe: &Probe, more: bool) {
        if self.over || !more || probe.kind.is_none() {
            return;
        }
        let (attempts, failed) = before.so_far();
        let (attempts, failed) = (attempts + 1, failed + 1);
        let state = state(plan, failed, probe);
        if state == State::Ok {
            return;
        }
        self.over = true;
        self.run.tell_early(&word(state, attempts, failed, probe));
    }
}

/// What the run comes to even if all probes that are to come are good. A share of a number that is not known yet comes
/// to nothing.
fn state(plan: &Plan, failed: u64, probe: &Probe) -> State {
    if !plan.failures.any() {
        return probe.state;
    }
    let limits = [plan.failures.warning, plan.failures.critical];
    let by_share = limits.into_iter().flatten().any(|limit| limit.percent);
    match planned(&plan.pace) {
        None if by_share => State::Ok,
        planned => plan
            .failures
            .judge(failed as f64, planned.unwrap_or_default()),
    }
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

/// Performance data is that of whole runs: none here.
fn word(state: State, attempts: u64, failed: u64, probe: &Probe) -> Report {
    let words = clean_cut(probe.headline(), WORDS_LIMIT);
    let words = words.trim_end_matches('.');
    let mut report = Report::new(
        state,
        format!("{words} - {failed} of {attempts} probes failed so far, the run goes on"),
    );
    report.line(0, failure_line(probe));
    report
}
