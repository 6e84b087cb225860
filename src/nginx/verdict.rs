//! Counts and limits to a state and its reason.

use std::str::FromStr;

use super::cause::Cause;
use super::summary::Summary;
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
        worse(of_count, of_peak)
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

/// A cause beside the counted ones, with limits of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Also {
    /// Which.
    pub cause: Cause,
    /// For its count in the window.
    pub limits: Pair,
}

impl Also {
    /// The state of this cause alone.
    pub fn judge(&self, summary: &Summary) -> State {
        judge(self.limits, summary.of(self.cause) as f64)
    }
}

impl FromStr for Also {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}': give CAUSE=W or CAUSE=W:C, as in refused=100:1000");
        let (cause, limits) = text.split_once('=').ok_or_else(wrong)?;
        let (warning, critical) = match limits.split_once(':') {
            Some((warning, critical)) => (warning, Some(critical)),
            None => (limits, None),
        };
        let up_to = |text: &str| -> Result<Option<Range>, String> {
            match text.trim() {
                "" => Ok(None),
                number => {
                    let number: u32 = number.parse().map_err(|_| wrong())?;
                    Ok(Some(Range::up_to(f64::from(number))))
                }
            }
        };
        let limits = (up_to(warning)?, critical.map_or(Ok(None), up_to)?);
        if limits == (None, None) {
            return Err(wrong());
        }
        Ok(Self {
            cause: cause.parse()?,
            limits,
        })
    }
}

/// The worse of two states.
pub fn worse(a: State, b: State) -> State {
    [State::Critical, State::Warning]
        .into_iter()
        .find(|state| [a, b].contains(state))
        .unwrap_or(State::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_causes_have_limits_of_their_own() {
        let mut summary = Summary::default();
        summary.causes[Cause::Refused.index()] = 101;
        for (text, state) in [
            ("refused=100:1000", State::Warning),
            ("refused=101:1000", State::Ok),
            ("refused=10:100", State::Critical),
            ("refused=:100", State::Critical),
            ("refused=100", State::Warning),
            ("timeout=0:0", State::Ok),
        ] {
            assert_eq!(
                text.parse::<Also>().unwrap().judge(&summary),
                state,
                "{text}"
            );
        }
        for wrong in [
            "refused",
            "refused=",
            "refused=:",
            "x=1:2",
            "refused=-1",
            "refused=1:2:3",
        ] {
            assert!(wrong.parse::<Also>().is_err(), "{wrong}");
        }
    }

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
