//! Small statistics: numbers in, numbers out.

mod fisher;

use std::time::Duration;

pub use fisher::{SIGNIFICANT, fisher, hypergeometric_tail, trials_to_tell};

/// The 95 % quantile of the normal distribution, two-sided.
const Z95: f64 = 1.959_963_984_540_054;

/// An estimated share with the interval that holds the true one with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Hits by trials.
    pub estimate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The share of `hits` in `trials` with its Wilson score interval at 95 %; `None` without trials.
///
/// Wilson, E. B. (1927), "Probable inference, the law of succession, and statistical inference". Unlike the
/// textbook interval it stays within 0 to 1 and keeps its promise for small numbers. With no hit (or nothing but
/// hits) the bound is the exact one-sided one, `1 - 0.05^(1/n)`: the rate that n probes in a row rule out, and the
/// same formula as [`trials_to_detect`], so that the two agree.
pub fn wilson(hits: u64, trials: u64) -> Option<Rate> {
    if trials == 0 {
        return None;
    }
    let n = trials as f64;
    let p = hits as f64 / n;
    let z2 = Z95 * Z95;
    let center = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let ruled_out = 1.0 - libm::pow(0.05, 1.0 / n);
    let low = if hits == 0 {
        0.0
    } else if hits == trials {
        1.0 - ruled_out
    } else {
        center - half
    };
    let high = if hits == trials {
        1.0
    } else if hits == 0 {
        ruled_out
    } else {
        center + half
    };
    Some(Rate {
        estimate: p,
        low,
        high,
    })
}

/// How many trials it takes to see at least one hit of a rate (0 to 1, exclusive) with 95 % confidence.
pub fn trials_to_detect(rate: f64) -> u64 {
    let trials = (libm::log(0.05) / libm::log1p(-rate)).ceil();
    // Rates are checked before; a cast of a finite positive number saturates.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let trials = trials as u64;
    trials.max(1)
}

/// The `p`-th percentile (0 to 100) of sorted values, by nearest rank: always a value that was measured.
pub fn percentile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and the length
    let rank = (p / 100.0 * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get((rank - 1).min(last)).copied()
}

/// Durations in bounded memory, whatever their number: exact up to [`Sample::EXACT`] of them, then in buckets that
/// are off by 0.4 % at most. Minimum and maximum stay exact. Microseconds; what is longer than 71 minutes counts as
/// that.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    exact: Vec<u32>,
    /// Counts by [`bucket`]; empty as long as `exact` suffices.
    buckets: Vec<u64>,
    count: u64,
    min: u32,
    max: u32,
}

impl Sample {
    /// How many are kept one by one.
    pub const EXACT: usize = 10_000;

    /// Takes one in.
    pub fn add(&mut self, duration: Duration) {
        let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
        self.min = if self.count == 0 {
            micros
        } else {
            self.min.min(micros)
        };
        self.max = self.max.max(micros);
        self.count += 1;
        if self.buckets.is_empty() {
            if self.exact.len() < Self::EXACT {
                self.exact.push(micros);
                return;
            }
            self.buckets = vec![0; bucket(u32::MAX) + 1];
            for micros in std::mem::take(&mut self.exact) {
                self.buckets[bucket(micros)] += 1;
            }
        }
        self.buckets[bucket(micros)] += 1;
    }

    /// These percentiles (0 to 100) in seconds, by nearest rank; `None` where nothing was taken in.
    pub fn percentiles<const N: usize>(&self, percents: [f64; N]) -> Option<[f64; N]> {
        if self.count == 0 {
            return None;
        }
        let mut sorted = self.exact.clone();
        sorted.sort_unstable();
        Some(percents.map(|percent| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // up to the count
            let rank = ((percent / 100.0 * self.count as f64).ceil() as u64).clamp(1, self.count);
            let micros = match usize::try_from(rank - 1).ok().and_then(|at| sorted.get(at)) {
                Some(&micros) => micros,
                None => self.in_buckets(rank),
            };
            f64::from(micros) / 1e6
        }))
    }

    fn in_buckets(&self, rank: u64) -> u32 {
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(at).clamp(self.min, self.max);
            }
        }
        self.max
    }
}

/// The number of buckets for each power of two.
const STEPS: u32 = 128;

/// The bucket of a value: one for each value below 128, then 128 for each power of two.
fn bucket(value: u32) -> usize {
    let shift = (32 - value.leading_zeros()).saturating_sub(8);
    // `value >> shift` is below 2 * STEPS: the sum fits an usize anywhere.
    (shift * STEPS + (value >> shift)) as usize
}

/// The value in the middle of a bucket.
fn middle(bucket: usize) -> u32 {
    let bucket = u32::try_from(bucket).unwrap_or(u32::MAX);
    let shift = (bucket / STEPS).saturating_sub(1);
    let low = u64::from(bucket - shift * STEPS) << shift;
    u32::try_from(low + ((1_u64 << shift) - 1) / 2).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_agrees_with_published_values() {
        // Brown, Cai, DasGupta (2001): Wilson for 5 of 20 is 0.112 to 0.469.
        let rate = wilson(5, 20).unwrap();
        assert!(
            (rate.low - 0.1119).abs() < 1e-3 && (rate.high - 0.4687).abs() < 1e-3,
            "{rate:?}"
        );
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn no_failure_rules_out_what_would_have_been_seen() {
        let rate = wilson(0, 299).unwrap();
        assert!(
            rate.low == 0.0 && rate.high < 0.01 && rate.high > 0.0099,
            "{rate:?}"
        );
        assert_eq!(trials_to_detect(0.01), 299);
        assert_eq!(trials_to_detect(0.5), 5);
        assert_eq!(trials_to_detect(0.001), 2995);
    }

    #[test]
    fn percentiles_are_measured_values() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        for (p, expected) in [
            (0.0, 1.0),
            (50.0, 5.0),
            (90.0, 9.0),
            (95.0, 10.0),
            (100.0, 10.0),
        ] {
            assert_eq!(percentile(&values, p), Some(expected));
        }
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn a_sample_is_exact_while_it_is_small_and_close_when_it_is_large() {
        let mut sample = Sample::default();
        assert_eq!(sample.percentiles([50.0]), None);
        (1..=10_u64).for_each(|n| sample.add(Duration::from_millis(n)));
        assert_eq!(
            sample.percentiles([0.0, 50.0, 90.0, 95.0, 100.0]),
            Some([0.001, 0.005, 0.009, 0.01, 0.01])
        );
        let mut sample = Sample::default();
        (1..=1_000_000_u64).for_each(|n| sample.add(Duration::from_micros(n * 7)));
        let values = sample
            .percentiles([0.0, 1.0, 50.0, 99.0, 99.9, 100.0])
            .unwrap();
        for (value, expected) in values.iter().zip([0.000_007, 0.07, 3.5, 6.93, 6.993, 7.0]) {
            assert!(
                (value / expected - 1.0).abs() < 0.004,
                "{value} for {expected}"
            );
        }
        assert!(sample.exact.is_empty() && sample.buckets.len() < 4096);
    }

    #[test]
    fn every_value_has_a_bucket_close_to_it() {
        let powers = (0..32).map(|n| 1_u32 << n);
        for value in powers
            .flat_map(|n| [n - 1, n, n | 1, n + n / 3])
            .chain([u32::MAX])
        {
            let back = middle(bucket(value));
            assert!(
                value.abs_diff(back) <= value / 256 + 1,
                "{value} became {back}"
            );
            assert!(bucket(value) <= bucket(u32::MAX));
        }
    }
}
