//! Counts and limits to a state and its reason.

use super::tally::Summary;
use crate::plugin::{Range, State};

/// A pair of ranges: WARNING and CRITICAL.
pub type Pair = (Option<Range>, Option<Range>);

/// How many are too many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// For the count in the window.
    pub count: Pair,
    /// For the count of the worst minute.
    pub per_minute: Pair,
}

impl Thresholds {
    /// Those given; where none is, any event is CRITICAL.
    pub fn new(count: Pair, per_minute: Pair) -> Self {
        let none_given = [count.0, count.1, per_minute.0, per_minute.1]
            .iter()
            .all(Option::is_none);
        let count = if none_given {
            (None, Some(Range::up_to(0.0)))
        } else {
            count
        };
        Self { count, per_minute }
    }

    /// The state of a window.
    pub fn judge(&self, summary: &Summary) -> State {
        let peak = summary.peak.map_or(0, |(_, count)| count);
        let of_count = judge(self.count, summary.count as f64);
        let of_peak = judge(self.per_minute, peak as f64);
        if [of_count, of_peak].contains(&State::Critical) {
            State::Critical
        } else if [of_count, of_peak].contains(&State::Warning) {
            State::Warning
        } else {
            State::Ok
        }
    }
}

fn judge((warning, critical): Pair, value: f64) -> State {
    let alerts = |range: Option<Range>| range.is_some_and(|range| range.alerts(value));
    if alerts(critical) {
        State::Critical
    } else if alerts(warning) {
        State::Warning
    } else {
        State::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_event_is_critical_unless_limits_are_given() {
        let up_to = |n| Some(Range::up_to(n));
        let summary = |count, peak| Summary {
            count,
            peak: Some((0, peak)),
            ..Summary::default()
        };
        for (thresholds, count, peak, state) in [
            (((None, None), (None, None)), 1, 1, State::Critical),
            (((None, None), (None, None)), 0, 0, State::Ok),
            (((up_to(5.0), None), (None, None)), 5, 5, State::Ok),
            (((up_to(5.0), None), (None, None)), 600, 5, State::Warning),
            (
                ((None, None), (up_to(5.0), up_to(9.0))),
                600,
                9,
                State::Warning,
            ),
            (
                ((up_to(5.0), None), (None, up_to(9.0))),
                600,
                10,
                State::Critical,
            ),
        ] {
            let (a, b): (Pair, Pair) = thresholds;
            assert_eq!(Thresholds::new(a, b).judge(&summary(count, peak)), state);
        }
    }
}
