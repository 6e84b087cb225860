//! What a report says path by path: which fails, always or now and then, and whether that is more than chance. No I/O.

use std::collections::BTreeSet;

use super::compare::Step;
use super::path_summary::PathSummary;
use super::paths::{Path, Ways};
use super::plan::Plan;
use super::probe::{Kind, Probe};
use super::report::rate_text;
use super::summary::Summary;
use crate::plugin::Finding;
use crate::plugin::metric::percent;
use crate::stats::wilson;

/// How many names, or groups of paths, stand in one line.
const LISTED: usize = 4;

/// How many paths have a finding of their own.
pub(super) const FINDINGS: usize = 8;

/// The paths of a run with what came over them.
pub(super) fn both<'a>(
    plan: &'a Plan,
    summary: &'a Summary,
) -> impl Iterator<Item = (&'a Path, &'a PathSummary)> {
    plan.paths.iter().zip(&summary.paths)
}

/// `3 of 150 via proxy1 (192.0.2.9), 0 of 150 via proxy0 and direct: proxy1 intermittent, but it may be chance (p 0.11): …`
#[cold]
pub(super) fn headline(plan: &Plan, summary: &Summary) -> String {
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
pub(super) fn only(plan: &Plan) -> String {
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
pub(super) fn list(names: &[String]) -> String {
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
pub(super) fn p_text(p: f64) -> String {
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
#[cold]
pub(super) fn findings(plan: &Plan, summary: &Summary) -> Vec<Finding> {
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

pub(super) fn kinds(s: &PathSummary) -> String {
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

/// A line on a probe, with the path that it took.
pub(super) fn with_path(plan: &Plan, probe: &Probe, line: String) -> String {
    if plan.paths.len() > 1 {
        format!("{line} via {}", plan.paths[probe.path].name)
    } else {
        line
    }
}

/// What each path alone rules out, where none has failed.
pub(super) fn ruled_out(plan: &Plan, summary: &Summary) -> String {
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
