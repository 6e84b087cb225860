//! Small statistics: numbers in, numbers out.

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
    let ruled_out = 1.0 - 0.05_f64.powf(1.0 / n);
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
    let trials = (0.05_f64.ln() / (-rate).ln_1p()).ceil();
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
}
