//! Which lanes stand out in the same bins, and what chance alone would give. *Coincides*, never *causes*.

use serde::Serialize;

use crate::stats;

/// How many bins earlier or later are tried.
pub const LAGS: i64 = 5;

/// No more pairs of bins than this are shifted against each other.
const PAIRS: usize = 20_000_000;

/// Two rows beside each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coincidence {
    /// The bins that both sources speak of.
    pub bins: u64,
    /// In how many of them the one stands out, the other, and both.
    pub a_raised: u64,
    pub b_raised: u64,
    pub both: u64,
    /// How many would be both by chance.
    pub expected: f64,
    /// How likely chance alone gives as many or more: Fisher's exact test, one-sided.
    pub p_value: f64,
    /// The share of all shifts of one against the other, round and round, that give as many: it knows that bins beside
    /// each other are alike, which Fisher's test does not. Absent where there are too many bins.
    pub p_shift: Option<f64>,
    /// By how many bins the second comes later where most of them meet, and how many do then.
    pub best_lag: i64,
    pub best_lag_both: u64,
}

impl Coincidence {
    /// Of two rows of equal length. `None` where one stands out nowhere, or there is too little to tell.
    pub fn of(a: &[bool], b: &[bool]) -> Option<Self> {
        let bins = a.len().min(b.len());
        let places = |row: &[bool]| -> Vec<usize> {
            row.iter()
                .take(bins)
                .enumerate()
                .filter(|(_, on)| **on)
                .map(|(at, _)| at)
                .collect()
        };
        let (ours, theirs) = (places(a), places(b));
        if bins < 5 || ours.is_empty() || theirs.is_empty() {
            return None;
        }
        let meet = |lag: i64| {
            let met = ours.iter().filter(|at| {
                let other = i64::try_from(**at)
                    .ok()
                    .and_then(|at| usize::try_from(at + lag).ok());
                other.is_some_and(|other| other < bins && b[other])
            });
            met.count() as u64
        };
        let both = meet(0);
        let (best_lag, best_lag_both) = (-LAGS..=LAGS)
            .map(|lag| (lag, meet(lag)))
            .max_by_key(|(lag, meeting)| (*meeting, -lag.abs()))
            .unwrap_or((0, both));
        let (population, marked, drawn) = (bins as u64, ours.len() as u64, theirs.len() as u64);
        Some(Self {
            bins: population,
            a_raised: marked,
            b_raised: drawn,
            both,
            expected: drawn as f64 * marked as f64 / population as f64,
            p_value: stats::hypergeometric_tail(population, marked, drawn, both),
            p_shift: by_shift(&ours, &theirs, bins, both),
            best_lag,
            best_lag_both,
        })
    }

    /// How many times as often as chance would have it.
    pub fn times(&self) -> f64 {
        self.both as f64 / self.expected.max(1e-9)
    }
}

fn by_shift(ours: &[usize], theirs: &[usize], bins: usize, both: u64) -> Option<f64> {
    if ours.len().saturating_mul(theirs.len()) > PAIRS {
        return None;
    }
    let mut meeting = vec![0_u64; bins];
    for one in ours {
        for other in theirs {
            meeting[(other + bins - one) % bins] += 1;
        }
    }
    // The one at hand is one of them.
    let as_many = meeting.iter().filter(|met| **met >= both).count();
    Some(as_many as f64 / bins as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(length: usize, on: &[usize]) -> Vec<bool> {
        (0..length).map(|at| on.contains(&at)).collect()
    }

    #[test]
    fn what_coincides_is_told_from_what_chance_gives() {
        let a = row(100, &[9, 10, 11, 12, 13]);
        let b = row(100, &[10, 11, 12, 13, 14, 40]);
        let found = Coincidence::of(&a, &b).unwrap();
        assert_eq!((found.both, found.best_lag, found.best_lag_both), (4, 1, 5));
        assert!(
            (found.expected - 0.3).abs() < 1e-9 && found.p_value < 1e-4,
            "{found:?}"
        );
        // Shifts by 0, 1 and 2 give four or more.
        assert!((found.p_shift.unwrap() - 0.03).abs() < 1e-9, "{found:?}");
        let apart = Coincidence::of(&row(100, &[1, 2]), &row(100, &[50, 70])).unwrap();
        assert_eq!(
            (apart.both, apart.p_value, apart.p_shift),
            (0, 1.0, Some(1.0))
        );
        assert_eq!(Coincidence::of(&a, &row(100, &[])), None);
        assert_eq!(Coincidence::of(&row(3, &[1]), &row(3, &[1])), None);
    }
}
