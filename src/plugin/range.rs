//! Nagios threshold ranges: `[@]start:end`, as the Monitoring Plugins development guidelines define them.

use std::fmt;
use std::str::FromStr;

use super::State;

/// A range of values that are fine; a value outside of it alerts. With `@` it is the inside that alerts.
///
/// Both ends belong to the range, so that `10` alerts above 10 and not at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    start: f64,
    end: f64,
    inside: bool,
}

impl Range {
    /// The range `0:end`, which alerts above `end` and below zero.
    pub const fn up_to(end: f64) -> Self {
        Self {
            start: 0.0,
            end,
            inside: false,
        }
    }

    /// Whether this value alerts. What is no number always does: not knowing is no reason to be quiet.
    pub fn alerts(&self, value: f64) -> bool {
        let within = self.start <= value && value <= self.end;
        value.is_nan() || within == self.inside
    }

    /// The largest value that does not alert, where there is one above the start.
    pub fn end(&self) -> f64 {
        self.end
    }

    /// The same range with both ends multiplied, for a range of percent on a scale of counts.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        // An open end stays open even where the factor is zero.
        let scale = |bound: f64| {
            if bound.is_infinite() {
                bound
            } else {
                bound * factor
            }
        };
        Self {
            start: scale(self.start),
            end: scale(self.end),
            inside: self.inside,
        }
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let limit: Limit = text.parse()?;
        if limit.percent {
            Err(format!(
                "'{text}': a percentage makes no sense here, give a plain number"
            ))
        } else {
            Ok(limit.range)
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use super::metric::plain;
        if self.inside {
            f.write_str("@")?;
        }
        // `0:10` is printed as `10`: metric writers keep only thresholds that are plain numbers.
        if self.start == f64::NEG_INFINITY {
            f.write_str("~:")?;
        } else if self.start != 0.0 || self.end == f64::INFINITY {
            write!(f, "{}:", plain(self.start))?;
        }
        if self.end == f64::INFINITY {
            Ok(())
        } else {
            f.write_str(&plain(self.end))
        }
    }
}

/// A range as given for an option that takes counts as well as shares: `5`, `5%`, `10:20%`, `@5%:10%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// The range, in percent where `percent` is set.
    pub range: Range,
    /// Whether the numbers are percentages.
    pub percent: bool,
}

impl Limit {
    /// Whether `part` of `whole` alerts: compared as a count, or as its share in percent.
    pub fn alerts(&self, part: f64, whole: f64) -> bool {
        match (self.percent, whole > 0.0) {
            (false, _) => self.range.alerts(part),
            (true, true) => self.range.alerts(part * 100.0 / whole),
            (true, false) => false,
        }
    }

    /// The range on the scale of counts out of `whole`, as performance data wants it.
    pub fn as_count(&self, whole: f64) -> Range {
        if self.percent {
            self.range.scaled(whole / 100.0)
        } else {
            self.range
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("'{text}' is no range: {why} (a range is 10, 10:, ~:10, 10:20 or @10:20)")
        };
        let (inside, rest) = match text.strip_prefix('@') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (start, end) = match rest.split_once(':') {
            Some((start, end)) => (Some(start), end),
            None => (None, rest),
        };
        let mut marks = Vec::with_capacity(2);
        let mut number = |word: &str| {
            let digits = word.strip_suffix('%');
            marks.push(digits.is_some());
            decimal(digits.unwrap_or(word))
                .ok_or_else(|| wrong(&format!("'{word}' is no decimal number")))
        };
        let start = match start {
            None => 0.0,
            Some("~") => f64::NEG_INFINITY,
            Some("") => return Err(wrong("nothing stands before the colon")),
            Some(word) => number(word)?,
        };
        let end = match end {
            "" if rest.contains(':') => f64::INFINITY,
            "" => return Err(wrong("it is empty")),
            word => number(word)?,
        };
        if start > end {
            return Err(wrong("its start lies above its end"));
        }
        // `10:20%` reads as both in percent; `10%:20` could mean anything.
        let percent = match marks[..] {
            [true, false] => {
                return Err(wrong(
                    "a % at the first number wants one at the second as well",
                ));
            }
            [.., last] => last,
            [] => false,
        };
        Ok(Self {
            range: Range { start, end, inside },
            percent,
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.range.to_string();
        match range.strip_suffix(':') {
            _ if !self.percent => f.write_str(&range),
            // The sign stands behind a number, and `~:` has none.
            Some("~" | "@~") => f.write_str(&range),
            Some(start) => write!(f, "{start}%:"),
            None => write!(f, "{range}%"),
        }
    }
}

/// A plain decimal number. `f64::from_str` alone would also take `inf`, `nan` and `1e5`.
fn decimal(word: &str) -> Option<f64> {
    let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && digits.bytes().any(|b| b.is_ascii_digit());
    if plain {
        word.parse().ok().filter(|n: &f64| n.is_finite())
    } else {
        None
    }
}

/// The two ranges that most thresholds come as. Critical is looked at first.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits<T = Range> {
    /// What is fine before WARNING.
    pub warning: Option<T>,
    /// What is fine before CRITICAL.
    pub critical: Option<T>,
}

impl Limits<Range> {
    /// The state of one value.
    pub fn judge(&self, value: f64) -> State {
        self.judge_by(|range| range.alerts(value))
    }
}

impl Limits<Limit> {
    /// The state of `part` out of `whole`.
    pub fn judge(&self, part: f64, whole: f64) -> State {
        self.judge_by(|limit| limit.alerts(part, whole))
    }
}

impl<T> Limits<T> {
    /// Whether any threshold is set at all.
    pub fn any(&self) -> bool {
        self.warning.is_some() || self.critical.is_some()
    }

    fn judge_by(&self, alerts: impl Fn(&T) -> bool) -> State {
        if self.critical.as_ref().is_some_and(&alerts) {
            State::Critical
        } else if self.warning.as_ref().is_some_and(&alerts) {
            State::Warning
        } else {
            State::Ok
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_alerts_where_the_guidelines_say() {
        for (spec, quiet, loud) in [
            ("10", &[0.0, 10.0][..], &[-0.1, 10.1][..]),
            ("10:", &[10.0, 1e9], &[9.9, -1.0]),
            ("~:10", &[-1e9, 10.0], &[10.1]),
            ("10:20", &[10.0, 20.0], &[9.9, 20.1]),
            ("@10:20", &[9.9, 20.1], &[10.0, 20.0]),
            ("-5:5", &[-5.0, 5.0], &[-5.1, 5.1]),
            ("~:", &[-1e300, 1e300], &[f64::NAN]),
            ("0", &[0.0], &[1.0, -1.0]),
            (".5", &[0.5], &[0.51]),
        ] {
            let range: Range = spec.parse().unwrap();
            assert!(quiet.iter().all(|&v| !range.alerts(v)), "{spec} too loud");
            assert!(loud.iter().all(|&v| range.alerts(v)), "{spec} too quiet");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for spec in [
            "", "@", ":", ":10", "~", "20:10", "a", "1e3", "inf", "nan", "10:x", "1,5", "10 ",
            " 10", "10s", "5%", "0x10", "--5", "1:2:3", "-", ".", "1.2.3",
        ] {
            assert!(spec.parse::<Range>().is_err(), "{spec} was taken");
        }
        assert!("10%:20".parse::<Limit>().is_err());
    }

    #[test]
    fn a_percent_sign_counts_for_both_ends() {
        for spec in ["5%", "5:10%", "5%:10%", "@5:10%"] {
            assert!(spec.parse::<Limit>().unwrap().percent, "{spec}");
        }
        let limit: Limit = "5%".parse().unwrap();
        assert!(!limit.alerts(5.0, 100.0) && limit.alerts(6.0, 100.0) && !limit.alerts(0.0, 0.0));
        // In this order of counting a whole number of percent comes out whole.
        for count in 1..=100 {
            for spec in [format!("{count}%"), format!("{count}%:")] {
                let limit: Limit = spec.parse().unwrap();
                assert!(!limit.alerts(count.into(), 100.0), "{spec}");
                assert!(!limit.alerts(f64::from(count) * 3.0, 300.0), "{spec}");
            }
        }
        assert_eq!(limit.as_count(200.0).to_string(), "10");
        for (spec, printed) in [
            ("5%", "5%"),
            ("50%:", "50%:"),
            ("@~:5%", "@~:5%"),
            ("2:5%", "2:5%"),
        ] {
            assert_eq!(spec.parse::<Limit>().unwrap().to_string(), printed);
        }
        assert_eq!(
            "50%:".parse::<Limit>().unwrap().as_count(0.0).to_string(),
            "0:"
        );
    }

    #[test]
    fn critical_goes_before_warning() {
        let limits = Limits {
            warning: Some(Range::up_to(1.0)),
            critical: Some(Range::up_to(5.0)),
        };
        assert_eq!(
            [limits.judge(1.0), limits.judge(2.0), limits.judge(6.0)],
            [State::Ok, State::Warning, State::Critical]
        );
    }

    proptest! {
        #[test]
        fn a_printed_range_reads_back(start in -1e6..1e6f64, width in 0.0..1e6f64, inside: bool, open in 0..3) {
            let start = (start * 100.0).round() / 100.0;
            let end = ((start + width) * 100.0).round() / 100.0;
            let range = match open {
                0 => Range { start, end, inside },
                1 => Range { start: f64::NEG_INFINITY, end, inside },
                _ => Range { start, end: f64::INFINITY, inside },
            };
            prop_assert_eq!(range.to_string().parse::<Range>().unwrap(), range);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,12}") {
            let _ = text.parse::<Limit>();
        }
    }
}
