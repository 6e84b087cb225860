//! The numbers of a report path by path: performance data, and the table below the first line. No I/O.

use std::collections::BTreeSet;

use super::by_path::{FINDINGS, both, kinds, list, p_text};
use super::compare::Step;
use super::paths::Ways;
use super::plan::Plan;
use super::report::millis;
use super::summary::Summary;
use crate::plugin::clean::label;
use crate::plugin::metric::percent;
use crate::plugin::{Limit, Metric, Report};

/// The numbers of the paths, where there is more than one way.
#[cold]
pub(super) fn metrics(plan: &Plan, summary: &Summary) -> Vec<Metric> {
    let count = |wanted: &str| {
        let paths = summary.paths.iter();
        paths.filter(|s| s.verdict() == wanted).count() as u64
    };
    let mut metrics = vec![
        Metric::count("paths", plan.paths.len() as u64),
        Metric::count("paths_down", count("down")),
        Metric::count("paths_intermittent", count("intermittent")),
    ];
    let names = plan.paths.iter().map(|path| &*path.name);
    for (label, s) in labels(names).into_iter().zip(&summary.paths) {
        let attempts = s.attempts as f64;
        let limit = |limit: Option<Limit>| limit.map(|l| l.as_count(attempts));
        metrics.push(
            Metric::count(label, s.failed)
                .limits(limit(plan.failures.warning), limit(plan.failures.critical))
                .max(attempts),
        );
    }
    metrics
}

/// A label for each name: what it may not hold is replaced, and what is the same then gets a number.
fn labels<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let plain: Vec<_> = names
        .map(|name| format!("failed_{}", label(name)))
        .collect();
    let mut taken: BTreeSet<String> = plain.iter().cloned().collect();
    let mut given = BTreeSet::new();
    let unique = |plain: &String| {
        if given.insert(plain.clone()) {
            return plain.clone();
        }
        let numbered = (2_usize..).map(|number| format!("{plain}_{number}"));
        // There are endlessly many numbers, and few names.
        let free = numbered.into_iter().find(|label| !taken.contains(label));
        let free = free.unwrap_or_default();
        taken.insert(free.clone());
        free
    };
    plain.iter().map(unique).collect()
}

/// The table of paths, and what there is to say on how they were found.
#[cold]
pub(super) fn lines(report: &mut Report, plan: &Plan, summary: &Summary) {
    if plan.left_out > 0 {
        let text = format!("{} more addresses are left out", plan.left_out);
        report.line(0, text);
    }
    let failing = summary.paths.iter().filter(|s| s.failed > 0).count();
    if failing > FINDINGS {
        let text = format!("{} more paths fail: -v lists them", failing - FINDINGS);
        report.line(0, text);
    }
    if plan.ways == Ways::Addresses && plan.paths.len() == 1 {
        report.line(1, "there is one address alone: nothing to compare it with");
    }
    for line in table(plan, summary) {
        report.line(1, line);
    }
    for step in summary.comparison.iter().flat_map(|found| &found.steps) {
        report.line(1, comparison(plan, step));
    }
}

fn table(plan: &Plan, summary: &Summary) -> Vec<String> {
    let head = [
        "path",
        "address",
        "probes",
        "failed",
        "rate (95 %)",
        "p50 ms",
        "kinds",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(both(plan, summary).map(|(path, s)| {
        [
            path.name.clone(),
            path.address.clone(),
            s.attempts.to_string(),
            s.failed.to_string(),
            s.rate.as_ref().map_or(String::new(), |rate| {
                let [estimate, low, high] = [rate.estimate, rate.low, rate.high].map(percent);
                format!("{estimate} % ({low}-{high})")
            }),
            s.p50.map_or(String::new(), millis),
            kinds(s),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..head.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let line = |row: &[String; 7]| {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                2 | 3 | 5 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            })
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn comparison(plan: &Plan, step: &Step) -> String {
    let names: Vec<_> = step
        .worse
        .iter()
        .map(|at| plan.paths[*at].name.clone())
        .collect();
    let p = p_text(step.p_value);
    format!(
        "{} against those that fail less: {p} (Fisher's exact test, corrected for the ways to divide the paths)",
        list(&names)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stay_apart_when_names_do_not() {
        for (names, expected) in [
            (
                &["proxy0", "proxy1", "direct"][..],
                &["proxy0", "proxy1", "direct"][..],
            ),
            (
                &["a.b", "a_b", "a b", "a_b_2"],
                &["a_b", "a_b_3", "a_b_4", "a_b_2"],
            ),
            (&["192.0.2.9", "2001:db8::1"], &["192_0_2_9", "2001_db8__1"]),
            (&["ä", "ö"], &["_", "__2"]),
            (&["x|y=1;'z'", "rate"], &["x_y_1__z_", "rate"]),
        ] {
            let expected: Vec<_> = expected.iter().map(|end| format!("failed_{end}")).collect();
            assert_eq!(labels(names.iter().copied()), expected);
        }
    }
}
