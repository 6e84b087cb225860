//! Whether some paths fail more than others, and more than by chance. Counts in, numbers out.
//!
//! Two groups of paths are held against each other with Fisher's exact test: the ones that fail most against the rest,
//! for each number of them, and the division that shows most counts. That many divisions were looked at is made up for
//! (Bonferroni): each size of the smaller group gets the same part of the chance to err, and each choice of as many
//! paths the same part of that. Two paths are one division, and three paths are three. Once a division has told, the rest
//! is looked at by itself: a dead path must not hide one that fails now and then.
//!
//! Unlike a test of all paths at once (Freeman and Halton's) this says which ones differ, and it takes no longer for
//! millions of probes.

use std::cmp::Ordering;

use crate::stats::{SIGNIFICANT, fisher, trials_to_tell};

/// What the paths' failures say of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The paths that fail more than all behind them, step by step; only the last step may leave it open. None where all
    /// fail alike.
    pub steps: Vec<Step>,
    /// How likely chance alone sets each path as far apart from those that it is divided from; `None` for one without
    /// probes.
    pub each: Vec<Option<f64>>,
}

/// Paths that fail more than the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which ones, most first.
    pub worse: Vec<usize>,
    /// How likely chance alone sets any paths as far apart.
    pub p_value: f64,
    /// How many probes over each path would tell, four times in five, where these do not and their shares are the true
    /// ones.
    pub enough: Option<u64>,
}

impl Step {
    /// Whether it is more than chance.
    pub fn tells(&self) -> bool {
        self.p_value < SIGNIFICANT
    }
}

/// Compares paths by their attempts and failures. `None` where there is nothing to compare with.
pub fn compare(paths: &[(u64, u64)]) -> Option<Comparison> {
    let mut order: Vec<usize> = (0..paths.len()).filter(|at| paths[*at].0 > 0).collect();
    if order.len() < 2 {
        return None;
    }
    order.sort_by(|one, other| by_share(paths[*other], paths[*one]));
    let mut each: Vec<_> = paths
        .iter()
        .map(|path| (path.0 > 0).then_some(1.0))
        .collect();
    let mut steps: Vec<Step> = Vec::new();
    let mut left = &order[..];
    while steps.last().is_none_or(Step::tells)
        && let Some(step) = divide(paths, left)
    {
        let (worse, rest) = left.split_at(step.worse.len());
        // No path differs where no division does.
        let alone = |at: usize, others| fisher(sum(paths, &[at]), sum(paths, others));
        for at in worse {
            each[*at] = Some(alone(*at, rest).max(step.p_value));
        }
        for at in rest.iter().filter(|_| steps.is_empty()) {
            each[*at] = Some(alone(*at, worse).max(step.p_value));
        }
        left = rest;
        steps.push(step);
    }
    Some(Comparison { steps, each })
}

/// The division of these paths, those first that fail most, that shows most. `None` where all fail alike.
fn divide(paths: &[(u64, u64)], order: &[usize]) -> Option<Step> {
    let (p_value, cut, factor) = (1..order.len())
        // Paths that fail alike are not torn apart.
        .filter(|cut| by_share(paths[order[cut - 1]], paths[order[*cut]]).is_gt())
        .map(|cut| {
            let (worse, rest) = order.split_at(cut);
            let factor = divisions(order.len(), cut);
            let p_value = fisher(sum(paths, worse), sum(paths, rest)) * factor;
            (p_value.min(1.0), cut, factor)
        })
        .min_by(|one, other| one.0.total_cmp(&other.0))?;
    let (worse, rest) = order.split_at(cut);
    let enough = if p_value < SIGNIFICANT {
        None
    } else {
        let share = |group| {
            let (failed, attempts) = sum(paths, group);
            failed as f64 / attempts as f64
        };
        let most = order.iter().map(|at| paths[*at].0).max().unwrap_or(0);
        let parts = [worse.len() as u64, rest.len() as u64];
        trials_to_tell([share(worse), share(rest)], parts, factor, most)
    };
    Some(Step {
        worse: worse.to_vec(),
        p_value,
        enough,
    })
}

/// Failures and attempts of a group.
fn sum(paths: &[(u64, u64)], group: &[usize]) -> (u64, u64) {
    group.iter().fold((0, 0), |(failed, attempts), at| {
        (failed + paths[*at].1, attempts + paths[*at].0)
    })
}

/// By the share of failures, exactly.
fn by_share(one: (u64, u64), other: (u64, u64)) -> Ordering {
    let wide = |a: u64, b: u64| u128::from(a) * u128::from(b);
    wide(one.1, other.0).cmp(&wide(other.1, one.0))
}

/// By how much the chance to err has to be divided for a group of this size.
fn divisions(paths: usize, size: usize) -> f64 {
    let size = size.min(paths - size);
    let choices: f64 = (0..size)
        .map(|at| (paths - at) as f64 / (at + 1) as f64)
        .product();
    // Two halves are one division, whichever of them is chosen.
    let choices = if size * 2 == paths {
        choices / 2.0
    } else {
        choices
    };
    choices * (paths / 2) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_division_gets_its_part_of_the_chance_to_err() {
        for (paths, size, factor) in [
            (2, 1, 1.0),
            (3, 1, 3.0),
            (3, 2, 3.0),
            (4, 1, 8.0),
            (4, 2, 6.0),
            (4, 3, 8.0),
            (64, 1, 64.0 * 32.0),
        ] {
            assert!(
                (divisions(paths, size) - factor).abs() < 1e-9,
                "{paths} {size}"
            );
        }
        for paths in 2..12 {
            // The parts are one together.
            let choose = |size: usize| divisions(paths, size) / (paths / 2) as f64;
            let whole: f64 = (1..=paths / 2)
                .map(|size| choose(size) / divisions(paths, size))
                .sum();
            assert!((whole - 1.0).abs() < 1e-9, "{paths}");
        }
    }

    #[test]
    fn the_path_that_fails_more_is_named_where_chance_does_not_explain_it() {
        for (paths, worse, p, enough) in [
            // The incident, with enough probes and with too few.
            (
                &[(150, 0), (150, 36), (150, 0)][..],
                &[1][..],
                8.66e-19,
                None,
            ),
            (&[(150, 0), (150, 3), (150, 0)], &[1], 0.1096, Some(274)),
            (&[(150, 3), (150, 0)], &[0], 0.2475, Some(392)),
            // A dead address of three.
            (&[(10, 0), (10, 10), (10, 0)], &[1], 9.99e-8, None),
            (&[(2, 0), (2, 2), (2, 0)], &[1], 0.2, Some(3)),
            // Two of four: neither hides the other.
            (
                &[(100, 10), (100, 0), (100, 10), (100, 0)],
                &[0, 2],
                6.944e-6,
                None,
            ),
            // One without probes says nothing.
            (&[(10, 10), (0, 0), (10, 0)], &[0], 1.083e-5, None),
        ] {
            let found = compare(paths).unwrap();
            let [step] = &found.steps[..] else {
                panic!("{paths:?}: {found:?}");
            };
            assert_eq!(step.worse, worse, "{paths:?}");
            assert!((step.p_value / p - 1.0).abs() < 2e-3, "{paths:?}: {step:?}");
            match (step.enough, enough) {
                (Some(found), Some(enough)) => {
                    assert!(found.abs_diff(enough) <= enough / 20, "{paths:?}: {found}");
                }
                (found, enough) => assert_eq!(found, enough, "{paths:?}"),
            }
            for (each, (attempts, _)) in found.each.iter().zip(paths) {
                assert_eq!(each.is_some(), *attempts > 0);
                assert!(each.is_none_or(|each| each >= step.p_value));
            }
        }
        for alike in [
            &[(100, 5), (100, 5)][..],
            &[(100, 0), (99, 0), (100, 0)],
            &[(10, 10), (9, 9)],
        ] {
            let found = compare(alike).unwrap();
            assert_eq!(found.steps, [], "{alike:?}");
            assert_eq!(found.each, vec![Some(1.0); alike.len()]);
        }
        for alone in [&[][..], &[(10, 3)], &[(10, 3), (0, 0)]] {
            assert_eq!(compare(alone), None);
        }
    }

    #[test]
    fn a_dead_path_does_not_hide_one_that_fails_now_and_then() {
        let found = compare(&[(100, 0), (100, 12), (100, 100), (100, 0)]).unwrap();
        let steps: Vec<_> = found.steps.iter().map(|step| &step.worse[..]).collect();
        assert_eq!(steps, [&[2][..], &[1]]);
        assert!(found.steps.iter().all(Step::tells), "{found:?}");
        let few = compare(&[(10, 0), (10, 1), (10, 10), (10, 0)]).unwrap();
        assert_eq!(few.steps.len(), 2);
        assert!(few.steps[0].tells() && !few.steps[1].tells());
        assert!(few.steps[1].enough > Some(20), "{few:?}");
        // What chance may have done to a path is not read as its own fault.
        assert!(
            few.each[1] > Some(0.5) && few.each[2] < Some(0.001),
            "{few:?}"
        );
    }

    #[test]
    fn equal_paths_are_called_different_one_time_in_twenty_at_most() {
        // A linear congruential generator: any will do.
        let mut state = 1_u64;
        let mut chance = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        for paths in [2, 3, 5, 8] {
            let alarms = (0..400)
                .filter(|_| {
                    let path = |_| (60, (0..60).filter(|_| chance() < 0.2).count() as u64);
                    let paths: Vec<_> = (0..paths).map(path).collect();
                    let found = compare(&paths).unwrap();
                    found.steps.first().is_some_and(Step::tells)
                })
                .count();
            assert!(alarms <= 28, "{paths}: {alarms} of 400");
        }
    }
}
