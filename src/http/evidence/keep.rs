//! How much evidence is kept.

use std::str::FromStr;
use std::time::Duration;

use crate::plugin::options::parse_positive_duration;

/// The most entries that can be asked for.
const MOST: usize = 10_000;

/// The least bytes: an entry has some.
const LEAST_BYTES: u64 = 1_000_000;

/// Bounds on a folder of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Entries.
    pub number: usize,
    /// Bytes of all entries together; the newest one stays in any case.
    pub bytes: u64,
    /// The age of an entry.
    pub age: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            number: 100,
            bytes: 100_000_000,
            age: Duration::from_hours(30 * 24),
        }
    }
}

impl FromStr for Keep {
    type Err = String;

    /// A number, a size and an age in any order, divided by commas: `20,100MB,7d`. What is not named stays as it is by
    /// default.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut keep = Self::default();
        let (mut number, mut bytes, mut age) = (None, None, None);
        for word in text.split(',').map(str::trim) {
            let twice = if let Some(size) = size(word) {
                bytes.replace(size?).is_some()
            } else if word.bytes().all(|b| b.is_ascii_digit()) {
                let entries = word.parse().ok().filter(|n| (1..=MOST).contains(n));
                let entries = entries.ok_or_else(|| {
                    format!("'{word}': give 1 to {MOST} entries, as in 20,100MB,7d")
                })?;
                number.replace(entries).is_some()
            } else {
                let duration = parse_positive_duration(word).map_err(|_| {
                    format!(
                        "'{word}': give a number, a size (100MB) or an age (7d), as in 20,100MB,7d"
                    )
                })?;
                age.replace(duration).is_some()
            };
            if twice {
                return Err(format!("'{text}': '{word}' is the second of its kind"));
            }
        }
        keep.number = number.unwrap_or(keep.number);
        keep.bytes = bytes.unwrap_or(keep.bytes);
        keep.age = age.unwrap_or(keep.age);
        Ok(keep)
    }
}

/// `100MB`, `1.5GiB`; `None` for what has no such unit.
fn size(word: &str) -> Option<Result<u64, String>> {
    let upper = word.to_ascii_uppercase();
    let (digits, unit) = [
        ("KIB", 1_u64 << 10),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ]
    .into_iter()
    .find_map(|(name, unit)| Some((upper.strip_suffix(name)?, unit)))?;
    let number = digits.trim().parse::<f64>().ok();
    let bytes = number.map(|number| number * unit as f64);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // it is within the range, which is far from u64's
    let bytes = bytes
        .filter(|bytes| (LEAST_BYTES as f64..=1e15).contains(bytes))
        .map(|bytes| bytes as u64);
    Some(bytes.ok_or_else(|| format!("'{word}': give 1MB or more, as in 20,100MB,7d")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_in_any_order() {
        let default = Keep::default();
        let day = Duration::from_hours(24);
        for (text, number, bytes, age) in [
            ("20,100MB,7d", 20, 100_000_000, 7 * day),
            ("7d, 20", 20, default.bytes, 7 * day),
            ("1.5GiB", default.number, 3 << 29, default.age),
            ("1mb,12h", default.number, 1_000_000, day / 2),
        ] {
            let expected = Keep { number, bytes, age };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "", "0", "20,", "1KB", "1,2", "x", "-1", "7d,8d", "1e9", "infMB", "99999", "0s",
        ] {
            assert!(text.parse::<Keep>().is_err(), "{text} was taken");
        }
    }
}
