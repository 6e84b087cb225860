//! Whose turn it is: which path a probe takes, and the number that makes a run's order and its request ids its own.

use jiff::Timestamp;

use super::plan::Plan;

/// A number for this run that no other has, to begin its request ids with.
pub fn run_number() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds its hashing from the kernel's random numbers, once for each process; the time tells
    // the rounds of a loop apart.
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_i128(Timestamp::now().as_nanosecond());
    hasher.finish()
}

impl Plan {
    /// The path of a probe. Each round of probes takes each path once, so that a burst of failures hits all alike, and in
    /// an order of its own: a server that fails every second request, or a proxy that takes its backends in turn, must
    /// not fall into step with it.
    pub fn path_of(&self, number: u64, run_number: u64) -> usize {
        let count = self.paths.len();
        if count < 2 {
            return 0;
        }
        let (round, turn) = (number / count as u64, number % count as u64);
        let mut order: Vec<usize> = (0..count).collect();
        let mut state = run_number ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for last in (1..count).rev() {
            state = mixed(state);
            // The remainder is no larger than `last`.
            let chosen = usize::try_from(state % (last as u64 + 1)).unwrap_or(0);
            order.swap(chosen, last);
        }
        usize::try_from(turn).map_or(0, |turn| order[turn])
    }
}

/// The next number of `SplitMix64`, which looks like chance whatever it begins with.
fn mixed(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::args::Args;
    use super::*;
    use crate::plugin::options;

    #[test]
    fn rounds_are_whole_and_no_order_is_preferred() {
        let words = "check_http_retry -H a --via p --via q --via r".split(' ');
        let args: Args = options::parse("HTTP", words.map(Into::into)).unwrap();
        let plan = Plan::try_from(&args).unwrap();
        let mut first = [0; 3];
        let mut pairs = [[0; 3]; 3];
        for round in 0..3000_u64 {
            let order = [0, 1, 2].map(|turn| plan.path_of(3 * round + turn, 7));
            let mut sorted = order;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            first[order[0]] += 1;
            pairs[order[0]][order[1]] += 1;
        }
        assert!(first.iter().all(|n| (900..1100).contains(n)), "{first:?}");
        for (one, others) in pairs.iter().enumerate() {
            for (other, n) in others.iter().enumerate() {
                let expected = if one == other { 0..1 } else { 420..580 };
                assert!(expected.contains(n), "{pairs:?}");
            }
        }
        // Another run has another order.
        let order = |run| (0..30).map(|n| plan.path_of(n, run)).collect::<Vec<_>>();
        assert_ne!(order(1), order(2));
    }
}
