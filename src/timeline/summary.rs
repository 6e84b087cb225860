//! The report in one sentence.

use std::collections::BTreeSet;

use super::access::GAVE_UP;
use super::document::{Document, Row, width};
use super::facts::Facts;
use super::words::many;
use crate::nginx::clock::Clock;

/// How many failures, in how many bins, since when, and what the best candidate is.
pub fn summary(document: &Document, facts: &Facts<'_>, clock: &Clock) -> String {
    let (failures, by) = most_failures(&document.lanes);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
    let failures = failures as u64;
    let Some(first) = &facts.first else {
        let is_empty = facts.sources.iter().all(|source| source.used == 0);
        return if is_empty {
            "nothing that was read lies in the window".to_owned()
        } else {
            "no failure in what was read".to_owned()
        };
    };
    let bins = document
        .lanes
        .iter()
        .filter(|lane| counts(lane))
        .flat_map(|lane| {
            lane.values
                .iter()
                .enumerate()
                .filter(|(_, value)| value.is_some_and(|value| value > 0.0))
                .map(|(at, _)| at)
        });
    let bins: BTreeSet<usize> = bins.collect();
    let cause = document.causes.first().filter(|cause| cause.score > 0.0);
    let cause = cause.map_or("no candidate".to_owned(), |cause| {
        format!(
            "best candidate: {} ({:.0} %)",
            cause.name,
            cause.score * 100.0
        )
    });
    format!(
        "{} by {by}, in {} of {} of {}, the first at {}; {cause}",
        many(failures, "failure"),
        bins.len(),
        many(document.window.bins as u64, "bin"),
        width(document.window.step),
        clock.second(first.at).replace('T', " ")
    )
}

fn counts(lane: &Row) -> bool {
    lane.failure && lane.name != GAVE_UP
}

/// How many failures the source knows of that knows of most, and its name: the sources tell of the same ones, so that
/// their sum would be of nothing.
fn most_failures(lanes: &[Row]) -> (f64, &'static str) {
    let sources = [
        ("status", "the access logs"),
        ("error", "the error logs"),
        ("probe", "the probes"),
        ("check", "the check results"),
        ("run", "the runs of plugins"),
        ("daemon", "Icinga itself"),
    ];
    let told = sources.map(|(group, name)| {
        let lanes = lanes
            .iter()
            .filter(|lane| counts(lane) && lane.group == group);
        (
            lanes
                .map(|lane| lane.total)
                .fold(0.0, |sum, total| sum + total),
            name,
        )
    });
    // The first one of equals.
    told.into_iter()
        .rev()
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .unwrap_or((0.0, ""))
}
