//! One number of the performance data, in the form that all daemons and metric writers keep.

use std::borrow::Cow;

use nagiosplugin::{PerfData, PerfString, ToPerfString};
use serde_json::{Value, json};

use super::{Range, clean};

/// A unit that every daemon and metric writer knows; times are seconds and sizes bytes, whatever their magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// A count or a rate.
    #[default]
    None,
    /// Seconds.
    Seconds,
    /// Percent.
    Percent,
    /// Bytes.
    Bytes,
}

impl Unit {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "s",
            Self::Percent => "%",
            Self::Bytes => "B",
        }
    }
}

impl From<Unit> for nagiosplugin::Unit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::None => Self::None,
            Unit::Seconds => Self::Seconds,
            Unit::Percent => Self::Percentage,
            Unit::Bytes => Self::Bytes,
        }
    }
}

/// A named number with its unit, thresholds and bounds.
///
/// A number that is not known is not made up: leave the metric out, or give one that is not finite, which is left
/// out for you. Labels are an interface: added, never renamed.
#[derive(Debug, Clone)]
pub struct Metric {
    label: Cow<'static, str>,
    value: f64,
    unit: Unit,
    warning: Option<Range>,
    critical: Option<Range>,
    min: Option<f64>,
    max: Option<f64>,
}

impl Metric {
    /// A metric without unit. What a label may not hold becomes `_`.
    pub fn new(label: impl Into<Cow<'static, str>>, value: f64) -> Self {
        let label = label.into();
        let harmless = !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let label = if harmless {
            label
        } else {
            clean::label(&label).into()
        };
        Self {
            label,
            value,
            unit: Unit::None,
            warning: None,
            critical: None,
            min: None,
            max: None,
        }
    }

    /// A count: no unit, never below zero.
    pub fn count(label: impl Into<Cow<'static, str>>, value: u64) -> Self {
        Self::new(label, value as f64).min(0.0)
    }

    /// A time in seconds, never below zero.
    pub fn seconds(label: impl Into<Cow<'static, str>>, value: f64) -> Self {
        Self::new(label, value).unit(Unit::Seconds).min(0.0)
    }

    /// A share in percent, from 0 to 100.
    pub fn percent(label: impl Into<Cow<'static, str>>, value: f64) -> Self {
        Self::new(label, value)
            .unit(Unit::Percent)
            .min(0.0)
            .max(100.0)
    }

    /// Sets the unit.
    #[must_use]
    pub fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    /// Sets the thresholds, on the scale of the value.
    #[must_use]
    pub fn limits(self, warning: Option<Range>, critical: Option<Range>) -> Self {
        Self {
            warning,
            critical,
            ..self
        }
    }

    /// Sets the smallest value possible.
    #[must_use]
    pub fn min(self, min: f64) -> Self {
        Self {
            min: Some(min),
            ..self
        }
    }

    /// Sets the largest value possible.
    #[must_use]
    pub fn max(self, max: f64) -> Self {
        Self {
            max: Some(max),
            ..self
        }
    }

    /// Whether the number is one that can be printed.
    pub fn is_known(&self) -> bool {
        self.value.is_finite()
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn value(&self) -> f64 {
        self.value
    }

    pub(super) fn unit_of(&self) -> Unit {
        self.unit
    }

    /// The ranges for WARNING and CRITICAL.
    pub(super) fn ranges(&self) -> [Option<Range>; 2] {
        [self.warning, self.critical]
    }

    /// The smallest and the largest value possible.
    pub(super) fn bounds(&self) -> [Option<f64>; 2] {
        [self.min, self.max]
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "label": self.label,
            "value": number(self.value),
            "unit": self.unit.as_str(),
            "warning": self.warning.map(|range| range.to_string()),
            "critical": self.critical.map(|range| range.to_string()),
            "min": self.min.map(number),
            "max": self.max.map(number),
        })
    }
}

impl From<&Metric> for PerfString {
    fn from(metric: &Metric) -> Self {
        let bound = |value: Option<f64>| value.filter(|v| v.is_finite()).map(Field::Number);
        let mut data = PerfData::new(metric.label.as_ref(), Field::Number(metric.value))
            .with_unit(metric.unit.into())
            .with_thresholds(
                metric.warning.map(Field::Range),
                metric.critical.map(Field::Range),
            );
        if let Some(min) = bound(metric.min) {
            data = data.with_minimum(min);
        }
        if let Some(max) = bound(metric.max) {
            data = data.with_maximum(max);
        }
        data.into()
    }
}

/// What may stand in a field of the performance data.
#[derive(Debug, Clone, Copy)]
enum Field {
    Number(f64),
    Range(Range),
}

impl ToPerfString for Field {
    fn to_perf_string(&self) -> String {
        match self {
            Self::Number(number) => plain(*number),
            Self::Range(range) => range.to_string(),
        }
    }
}

/// A number as plain decimals with at most six digits behind the point, which is where the metric writers cut.
/// No exponent, no `-0`, no digits that rounding error made.
pub fn plain(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// The same number for a JSON document, rounded like [`plain`].
pub fn number(value: f64) -> Value {
    let rounded = (value * 1e6).round() / 1e6;
    let rounded = if rounded.is_finite() { rounded } else { value };
    // 2^53: beyond it a double no longer tells neighbouring integers apart.
    if rounded.fract() == 0.0 && rounded.abs() < 9_007_199_254_740_992.0 {
        #[allow(clippy::cast_possible_truncation)] // checked above
        return json!(rounded as i64);
    }
    json!(rounded)
}

/// A share as percent in words, with one digit, or below 1 % with two that say something.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 1.0 {
        plain((percent * 1000.0).round() / 1000.0)
    } else {
        plain((percent * 10.0).round() / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_decimals() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.1 + 0.2, "0.3"),
            (1e-9, "0"),
            (-1e-9, "0"),
            (100.0, "100"),
            (1_234_567.0, "1234567"),
            (0.000_001, "0.000001"),
            (-2.5, "-2.5"),
            (1e21, "1000000000000000000000"),
        ] {
            assert_eq!(plain(value), text);
        }
    }

    #[test]
    fn json_numbers_are_whole_where_they_can_be() {
        assert_eq!(number(3.0).to_string(), "3");
        assert_eq!(number(0.1 + 0.2).to_string(), "0.3");
        assert_eq!(number(f64::NAN), Value::Null);
    }
}
