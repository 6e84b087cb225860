//! What a summary and the limits come to.

use super::plan::Plan;
use super::probe::Phases;
use super::summary::{Summary, worst_state};
use crate::plugin::State;

/// The state of a run, and what decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The state of the whole.
    pub state: State,
    /// What the failed probes come to.
    pub failures: State,
    /// What the percentile of the times comes to; `None` where none was asked for.
    pub percentile: Option<State>,
}

/// Judges a run.
pub fn judge(plan: &Plan, summary: &Summary) -> Verdict {
    let failures = if plan.failures.any() {
        // A share of all would hide a path that fails among good ones.
        let whole = plan
            .failures
            .judge(summary.failed as f64, summary.attempts as f64);
        let paths = summary.paths.iter().map(|path| path.state(plan));
        paths.fold(whole, worse)
    } else {
        worst_state(summary)
    };
    let percentile = summary.percentile.map(|_| {
        let states = beyond(plan, summary).map(|(_, _, state)| state);
        states.fold(State::Ok, worse)
    });
    // A host that cannot probe, and a run without a probe, know nothing; but a failure that was seen was seen.
    let blind = if summary.trouble.is_some() || summary.attempts == 0 {
        State::Unknown
    } else {
        State::Ok
    };
    let state = [failures, percentile.unwrap_or(State::Ok), blind]
        .into_iter()
        .fold(State::Ok, worse);
    Verdict {
        state,
        failures,
        percentile,
    }
}

/// What the asked-for percentile is of, in words, its seconds and their state, where they are outside of their range.
pub fn beyond<'a>(
    plan: &'a Plan,
    summary: &'a Summary,
) -> impl Iterator<Item = (String, f64, State)> + 'a {
    let times = ("times".to_owned(), plan.checks.run_time, summary.percentile);
    let phases = Phases::NAMES
        .iter()
        .zip(plan.checks.run_phases.in_order())
        .zip(summary.phase_percentiles)
        .map(|((name, limits), seconds)| (name.replace('_', " "), limits, seconds));
    std::iter::once(times)
        .chain(phases)
        .filter_map(|(name, limits, seconds)| Some((name, seconds?, limits.judge(seconds?))))
        .filter(|(_, _, state)| *state != State::Ok)
}

fn worse(one: State, other: State) -> State {
    if other > one { other } else { one }
}
