//! Which rows of the picture stand out together: of all pairs that do not look at the same events.

use serde::Serialize;

use super::coincide::Coincidence;
use super::document::round;
use super::facts::Facts;
use super::grid::Lane;
use super::group::Group;
use super::plan::Kind;
use super::series::{Bins, Series};
use super::words::name;
use crate::stats;

/// How many are told.
const MOST: usize = 30;

/// Two rows that stand out together.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// The places of the rows in `lanes`.
    pub a: usize,
    pub b: usize,
    pub names: [String; 2],
    #[serde(flatten)]
    pub figures: Coincidence,
    /// How many times as often as chance.
    pub times: f64,
    /// The p-value times the pairs that were compared (Bonferroni).
    pub p_adjusted: f64,
    pub test: &'static str,
}

/// Rows of one family look at the same events: that they coincide says nothing.
fn family(group: Group) -> &'static str {
    match group {
        Group::Error => "error-log",
        Group::Check | Group::Run | Group::Daemon => "icinga-log",
        Group::Probe | Group::Ports | Group::Limit => "journal",
        _ => "access-log",
    }
}

/// The pairs that chance would hardly have given, the surest first.
pub fn pairs(rows: &[(&Lane, &Series)], facts: &Facts<'_>, bins: Bins) -> Vec<Pair> {
    let whole = (bins.start(0), bins.start(bins.count - 1));
    let span_of = |group: Group| {
        // Where nothing goes wrong an error log is silent, and Icinga's nearly so.
        if matches!(family(group), "error-log" | "icinga-log") {
            return Some(whole);
        }
        let of = facts
            .sources
            .iter()
            .filter(|source| source.kind == family(group))
            .filter_map(|source| source.span);
        of.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    };
    let mut pairs = Vec::new();
    let mut compared = 0_u32;
    for (a, (one, ours)) in rows.iter().enumerate() {
        for (b, (other, theirs)) in rows.iter().enumerate().skip(a + 1) {
            let both_measured = one.group.is_measured() && other.group.is_measured();
            let is_told =
                |group: Group| matches!(group, Group::Service | Group::Path | Group::Backend);
            let told_by_error_log = facts
                .plan
                .inputs
                .iter()
                .all(|input| input.kind != Kind::Access);
            let same_events = family(one.group) == family(other.group)
                && one.group != Group::Probe
                && other.group != Group::Probe
                || told_by_error_log && (is_told(one.group) && other.group == Group::Error);
            // Several services in the same minute: that is worth a look.
            let siblings =
                one.group == other.group && matches!(one.group, Group::Service | Group::Check);
            let different = !same_events && one.group != other.group || siblings;
            if both_measured || !different {
                continue;
            }
            let Some((one_span, other_span)) = span_of(one.group).zip(span_of(other.group)) else {
                continue;
            };
            let range = bins.between((one_span.0.max(other_span.0), one_span.1.min(other_span.1)));
            let Some(figures) = Coincidence::of(&ours.raised[range.clone()], &theirs.raised[range])
            else {
                continue;
            };
            compared += 1;
            let label = |lane: &Lane| format!("{} {}", lane.group.name(), name(&lane.name));
            pairs.push(Pair {
                a,
                b,
                names: [label(one), label(other)],
                times: round(figures.times(), 1e2),
                p_adjusted: figures.p_value,
                test: "Fisher's exact test, one-sided",
                figures,
            });
        }
    }
    for pair in &mut pairs {
        pair.p_adjusted = (pair.p_adjusted * f64::from(compared)).min(1.0);
    }
    pairs.retain(|pair| pair.p_adjusted < stats::SIGNIFICANT);
    pairs.sort_by(|x, y| {
        x.figures
            .p_value
            .total_cmp(&y.figures.p_value)
            .then_with(|| y.figures.both.cmp(&x.figures.both))
    });
    pairs.truncate(MOST);
    pairs
}
