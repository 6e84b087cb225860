//! What a summary and the limits come to.

use super::plan::Plan;
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
        plan.failures
            .judge(summary.failed as f64, summary.attempts as f64)
    } else {
        worst_state(summary)
    };
    let percentile = summary
        .percentile
        .map(|seconds| plan.checks.run_time.judge(seconds));
    // A host that cannot probe, and a run without a probe, know nothing; but a failure that was seen was seen.
    let blind = if summary.trouble.is_some() || summary.attempts == 0 {
        State::Unknown
    } else {
        State::Ok
    };
    let state = [failures, percentile.unwrap_or(State::Ok), blind]
        .into_iter()
        .fold(
            State::Ok,
            |worst, state| if state > worst { state } else { worst },
        );
    Verdict {
        state,
        failures,
        percentile,
    }
}
