//! Numbers and comparisons as a person reads them.

use super::correlate::Correlation;
use crate::plugin::Report;

/// What is to be said of another log. Never that it is the reason.
pub fn beside(found: &Correlation, report: &mut Report) {
    let verdict = match found.p_value {
        _ if found.minutes == 0 => "nothing to compare",
        p if p < 0.01 && found.overlap > 0 => "it coincides",
        _ => "no more than chance gives",
    };
    let (lag, meeting) = found.best_lag;
    let lag = if lag == 0 || meeting <= found.overlap {
        String::new()
    } else {
        let side = if lag > 0 { "later" } else { "earlier" };
        format!("; {meeting} where it comes {} min {side}", lag.abs())
    };
    report.line(
        0,
        format!(
            "{}: {verdict}: {} of its {} with failures are among ours, chance would give {:.1} of {} common minutes \
             (p = {}){lag}",
            found.path.display(),
            found.overlap,
            plural(found.minutes, "minute"),
            found.expected,
            found.common,
            probability(found.p_value)
        ),
    );
    if !found.statuses.is_empty() {
        let words: Vec<_> = found
            .statuses
            .iter()
            .map(|(status, count)| format!("{status} {}", plural(*count, "time")))
            .collect();
        report.line(0, format!("  clients got in these: {}", words.join(", ")));
    }
    if !found.what.is_empty() {
        let words: Vec<_> = found
            .what
            .iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        report.line(0, format!("  in the common minutes: {}", words.join(", ")));
    }
}

/// `0.21`, and where that would be nothing `1.3e-4`.
fn probability(p: f64) -> String {
    if p < 0.01 {
        format!("{p:.1e}")
    } else {
        format!("{p:.2}")
    }
}

/// Up to forty signs for a number.
pub fn bar(count: u64, most: u64) -> String {
    let length = (count * 40).div_ceil(most.max(1));
    "#".repeat(usize::try_from(length).unwrap_or(40))
}

/// `3 files`, `1 file`.
pub fn plural(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// `98 %`, never a round 100 or 0 that is not one.
pub fn share(part: u64, whole: u64) -> String {
    let percent = part as f64 / whole.max(1) as f64 * 100.0;
    match percent {
        p if p > 99.5 && part < whole => "more than 99 %".to_owned(),
        p if p < 1.0 => "less than 1 %".to_owned(),
        p => format!("{p:.0} %"),
    }
}

/// The first few of a list, with their counts and shares.
pub fn top(list: &[(String, u64)], whole: u64, limit: usize) -> String {
    let mut words: Vec<_> = list
        .iter()
        .take(limit)
        .map(|(name, count)| {
            let name = if name.is_empty() { "(no name)" } else { name };
            format!("{name} {count} ({})", share(*count, whole))
        })
        .collect();
    if list.len() > limit {
        words.push(format!("{} more", list.len() - limit));
    }
    words.join(", ")
}

/// `10 min`, `2 h`, `90 s`.
pub fn span(seconds: i64) -> String {
    match seconds {
        s if s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s % 3600 == 0 => format!("{} h", s / 3600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_round_only_where_they_are() {
        for (part, whole, text) in [
            (1, 1, "100 %"),
            (9_999, 10_000, "more than 99 %"),
            (1, 10_000, "less than 1 %"),
            (98, 100, "98 %"),
        ] {
            assert_eq!(share(part, whole), text);
        }
    }

    #[test]
    fn probabilities_have_no_more_digits_than_they_need() {
        for (p, text) in [(1.0, "1.00"), (0.2134, "0.21"), (0.000_131, "1.3e-4")] {
            assert_eq!(probability(p), text);
        }
    }

    #[test]
    fn spans_read_as_people_say_them() {
        for (seconds, text) in [
            (600, "10 min"),
            (90, "90 s"),
            (7200, "2 h"),
            (86_400, "1 d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
