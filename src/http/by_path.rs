//! What a report says path by path: which fails, always or now and then, and whether that is more than chance. No I/O.

use std::collections::BTreeSet;

use super::compare::Step;
use super::path_summary::PathSummary;
use super::paths::{Path, Ways};
use super::plan::Plan;
use super::probe::{Kind, Probe};
use super::report::{millis, percent, rate_text};
use super::summary::Summary;
use crate::plugin::clean::label;
use crate::plugin::{Finding, Metric, Report};
use crate::stats::wilson;

/// How many names, or groups of paths, stand in one line.
const LISTED: usize = 4;

/// How many paths have a finding of their own.
const FINDINGS: usize = 8;

/// The paths of a run with what came over them.
fn both<'a>(
    plan: &'a Plan,
    summary: &'a Summary,
) -> impl Iterator<Item = (&'a Path, &'a PathSummary)> {
    plan.paths.iter().zip(&summary.paths)
}

/// `3 of 150 via proxy1 (192.0.2.9), 0 of 150 via proxy0 and direct: proxy1 intermittent, but it may be chance (p 0.11): …`
pub fn headline(plan: &Plan, summary: &Summary) -> String {
    let mut failing: Vec<_> = both(plan, summary).filter(|(_, s)| s.failed > 0).collect();
    failing.sort_by(|(_, one), (_, other)| {
        let share = |s: &PathSummary| s.failed as f64 / s.attempts as f64;
        share(other).total_cmp(&share(one))
    });
    let groups: Vec<_> = failing
        .chunk_by(|(_, one), (_, other)| {
            (one.failed, one.attempts) == (other.failed, other.attempts)
        })
        .collect();
    let mut parts: Vec<String> = groups
        .iter()
        .take(LISTED)
        .map(|group| {
            let (_, first) = group[0];
            let names: Vec<_> = group.iter().map(|(path, _)| full_name(path)).collect();
            format!(
                "{} of {} via {}",
                first.failed,
                first.attempts,
                list(&names)
            )
        })
        .collect();
    let more: usize = groups.iter().skip(LISTED).map(|group| group.len()).sum();
    if more > 0 {
        parts.push(format!("some via {more} more"));
    }
    parts.extend(good(plan, summary));
    let verdict = verdict(plan, summary);
    format!("{}: {verdict}", parts.join(", "))
}

/// The one path, where it was named: ` via proxy1 (192.0.2.9)`.
pub fn only(plan: &Plan) -> String {
    match &plan.paths[..] {
        [path] if plan.ways != Ways::One => format!(" via {}", full_name(path)),
        _ => String::new(),
    }
}

/// `0 of 150 via proxy0 and direct`
fn good(plan: &Plan, summary: &Summary) -> Option<String> {
    let (names, attempts): (Vec<_>, Vec<_>) = both(plan, summary)
        .filter(|(_, s)| s.failed == 0 && s.attempts > 0)
        .map(|(path, s)| (path.name.clone(), s.attempts))
        .unzip();
    let (least, most) = (attempts.iter().min()?, attempts.iter().max()?);
    let attempts = if least == most {
        least.to_string()
    } else {
        format!("{least} to {most}")
    };
    Some(format!("0 of {attempts} via {}", list(&names)))
}

/// `web2 down, more than chance (p < 0.001); web1 intermittent, but it may be chance (p 0.11): …`
fn verdict(plan: &Plan, summary: &Summary) -> String {
    let steps = summary.comparison.iter().flat_map(|found| &found.steps);
    let mut parts: Vec<_> = steps
        .clone()
        .map(|step| {
            let words = words(plan, summary, |at| step.worse.contains(&at));
            words + &chance(plan, step)
        })
        .collect();
    // Those that fail no more than others do.
    let told: BTreeSet<_> = steps.flat_map(|step| &step.worse).collect();
    let rest = words(plan, summary, |at| !told.contains(&at));
    parts.extend((!rest.is_empty()).then_some(rest));
    parts.join("; ")
}

/// `web2 down, web1 and web0 intermittent`, of the paths that are wanted.
fn words(plan: &Plan, summary: &Summary, wanted: impl Fn(usize) -> bool) -> String {
    let tried = summary.paths.iter().filter(|s| s.attempts > 0).count();
    let words = ["down", "intermittent"].iter().filter_map(|word| {
        let names: Vec<_> = both(plan, summary)
            .enumerate()
            .filter(|(at, (_, s))| wanted(*at) && s.verdict() == *word)
            .map(|(_, (path, _))| path.name.clone())
            .collect();
        let names = match names.len() {
            0 => return None,
            2 if tried == 2 => "both".to_owned(),
            count if count == tried => format!("all {count}"),
            _ => list(&names),
        };
        Some(format!("{names} {word}"))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// What a step comes to, in words to append.
fn chance(plan: &Plan, step: &Step) -> String {
    let p = p_text(step.p_value);
    match step.enough {
        _ if step.tells() => format!(", more than chance ({p})"),
        Some(enough) => {
            let (enough, each) = (rounded(enough), each(plan));
            format!(", but it may be chance ({p}): {enough} probes over {each} would tell")
        }
        None => format!(", but it may be chance ({p})"),
    }
}

fn each(plan: &Plan) -> &'static str {
    if plan.ways == Ways::Addresses {
        "each address"
    } else {
        "each path"
    }
}

/// A name with its address, where that says something more.
fn full_name(path: &Path) -> String {
    if path.name == path.address {
        path.name.clone()
    } else {
        format!("{} ({})", path.name, path.address)
    }
}

/// `a, b and c`
fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] if names.len() <= LISTED => {
            format!("{} and {last}", first.join(", "))
        }
        _ => {
            let shown = LISTED - 1;
            let more = names.len() - shown;
            format!("{} and {more} more", names[..shown].join(", "))
        }
    }
}

/// `p 0.0012`, with two digits that say something.
pub fn p_text(p: f64) -> String {
    if p < 0.001 {
        return "p < 0.001".to_owned();
    }
    let digits = if p < 0.00995 {
        4
    } else if p < 0.0995 {
        3
    } else {
        2
    };
    let text = format!("{p:.digits$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("p {text}")
}

/// A number of probes, rounded up to two digits that say something: more would be made up.
fn rounded(number: u64) -> String {
    let mut unit = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    let rounded = number.div_ceil(unit) * unit;
    if unit == 1 {
        rounded.to_string()
    } else {
        format!("about {rounded}")
    }
}

/// A finding for each path that fails, those that are down first.
pub fn findings(plan: &Plan, summary: &Summary) -> Vec<Finding> {
    let mut failing: Vec<_> = both(plan, summary).filter(|(_, s)| s.failed > 0).collect();
    failing.sort_by_key(|(_, s)| !s.is_down());
    failing
        .into_iter()
        .take(FINDINGS)
        .map(|(path, s)| Finding {
            cause: if s.is_down() {
                "path-down"
            } else {
                "path-intermittent"
            },
            state: s.state(plan),
            text: finding_text(summary, path, s),
            advice: advice(plan, s).to_owned(),
        })
        .collect()
}

fn finding_text(summary: &Summary, path: &Path, s: &PathSummary) -> String {
    let name = full_name(path);
    let kinds = kinds(s);
    let (failed, attempts) = (summary.failed - s.failed, summary.attempts - s.attempts);
    let others = format!("over the others {failed} of {attempts}");
    if s.is_down() {
        let all = match s.attempts {
            1 => "the one probe".to_owned(),
            n => format!("all {n} probes"),
        };
        return format!("{name} is down: {all} over it failed ({kinds}), {others}");
    }
    let rate = s.rate.as_ref().map_or(String::new(), rate_text);
    format!(
        "{name} fails now and then: {} of {} probes over it failed{rate}: {kinds}; {others}",
        s.failed, s.attempts
    )
}

fn kinds(s: &PathSummary) -> String {
    let kinds = s.kinds.iter();
    let kinds: Vec<_> = kinds
        .map(|(kind, count)| format!("{count} {}", kind.name()))
        .collect();
    kinds.join(", ")
}

fn advice(plan: &Plan, s: &PathSummary) -> &'static str {
    let nobody = |kind: &Kind| {
        matches!(
            kind,
            Kind::Refused | Kind::Unreachable | Kind::ConnectTimeout
        )
    };
    let dead = s.is_down() && s.kinds.keys().all(nobody);
    match (dead, plan.ways) {
        (true, Ways::Addresses) => {
            "nothing answers there: start what should, or take the address out of the name's records"
        }
        (true, _) => "nothing answers there: start what should, or take it out of service",
        (false, _) if s.is_down() => {
            "what answers there is not what answers on the other paths: look at its configuration"
        }
        (false, _) => {
            "where the other paths are good, what they have in common is not to blame: look for the cause on this one"
        }
    }
}

/// The numbers of the paths.
pub fn metrics(plan: &Plan, summary: &Summary) -> Vec<Metric> {
    if plan.ways == Ways::One {
        return Vec::new();
    }
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
        let limit = |limit: Option<crate::plugin::Limit>| limit.map(|l| l.as_count(attempts));
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
pub fn lines(report: &mut Report, plan: &Plan, summary: &Summary) {
    if plan.ways == Ways::One {
        return;
    }
    if plan.left_out > 0 {
        let text = format!("{} more addresses are left out", plan.left_out);
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

/// A line on a probe, with the path that it took.
pub fn with_path(plan: &Plan, probe: &Probe, line: String) -> String {
    if plan.paths.len() > 1 {
        format!("{line} via {}", plan.paths[probe.path].name)
    } else {
        line
    }
}

/// What each path alone rules out, where none has failed.
pub fn ruled_out(plan: &Plan, summary: &Summary) -> String {
    let attempts = summary.paths.iter().map(|s| s.attempts).min().unwrap_or(0);
    match wilson(0, attempts).filter(|_| plan.paths.len() > 1) {
        Some(rate) => format!(", over {} alone above {} %", each(plan), percent(rate.high)),
        None => String::new(),
    }
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

    #[test]
    fn chance_has_the_digits_that_say_something() {
        for (p, text) in [
            (1.0, "p 1"),
            (0.2475, "p 0.25"),
            (0.1, "p 0.1"),
            (0.0365, "p 0.036"),
            (0.001_23, "p 0.0012"),
            (0.000_9, "p < 0.001"),
            (0.0, "p < 0.001"),
        ] {
            assert_eq!(p_text(p), text);
        }
        for (number, text) in [
            (4, "4"),
            (99, "99"),
            (100, "about 100"),
            (274, "about 280"),
            (12_345, "about 13000"),
        ] {
            assert_eq!(rounded(number), text);
        }
    }

    #[test]
    fn names_are_listed_as_people_say_them() {
        let names: Vec<_> = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
        for (count, text) in [
            (1, "a"),
            (2, "a and b"),
            (4, "a, b, c and d"),
            (5, "a, b, c and 2 more"),
        ] {
            assert_eq!(list(&names[..count]), text);
        }
    }
}
