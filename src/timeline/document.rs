//! The report as one document: what all its forms show. The field names are a public interface.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::civil::DateTime;
use serde::Serialize;

use super::causes::{self, Case};
use super::common;
use super::facts::Facts;
use super::grid::{Grid, Lane};
use super::pairs::{Pair, pairs};
use super::series::{Bins, Series};
use super::summary::summary;
use super::words::name;
use crate::nginx::clock::Clock;
use crate::plugin::clean::clean_cut;

/// How many services are listed.
const SERVICES: usize = 50;
/// On how many days a mark is looked for.
const MOST_DAYS: usize = 3;
/// How many lines all bins together show, and how much of each.
const LINES: usize = 12_000;
const LINE: usize = 400;

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Document {
    pub tool: &'static str,
    pub version: &'static str,
    pub generated: String,
    pub summary: String,
    pub window: Window,
    pub sources: Vec<Source>,
    pub marks: Vec<Mark>,
    pub first: Option<First>,
    pub lanes: Vec<Row>,
    pub causes: Vec<Cause>,
    pub coincidences: Vec<Pair>,
    pub services: Vec<Service>,
    pub common: Vec<Common>,
    pub notes: Vec<String>,
}

/// Which time it is of.
#[derive(Debug, Serialize)]
pub struct Window {
    pub from: String,
    pub to: String,
    /// Of the first bin, in seconds since 1970, and how wide each is.
    pub start: i64,
    pub step: i64,
    pub bins: usize,
    /// When each bin begins, as the local clock showed it; with the zone behind it where that changes meanwhile.
    pub labels: Vec<String>,
}

impl Window {
    /// The zone of its labels, as `+01:00`, where they have one in common.
    pub fn zone(&self) -> Option<&str> {
        let label = self.labels.first()?;
        (label.len() == 19).then(|| self.from.get(19..))?
    }
}

/// What was read of one file.
#[derive(Debug, Serialize)]
pub struct Source {
    pub path: String,
    pub name: Option<String>,
    pub kind: &'static str,
    pub bytes: u64,
    pub lines: u64,
    pub used: u64,
    pub unparsed: u64,
    pub suspect: u64,
    pub from: Option<String>,
    pub to: Option<String>,
    pub trouble: Option<String>,
}

/// A moment that the user gave.
#[derive(Debug, Serialize)]
pub struct Mark {
    pub at: String,
    pub text: String,
    /// Its bin; null outside of the window.
    pub bin: Option<usize>,
    /// Where it is, in bins from the begin of the first one.
    #[serde(skip)]
    pub place: f64,
}

/// The first failure.
#[derive(Debug, Serialize)]
pub struct First {
    pub at: String,
    pub group: &'static str,
    pub name: String,
    pub line: String,
}

/// A row of the picture.
#[derive(Debug, Serialize)]
pub struct Row {
    pub group: &'static str,
    pub title: &'static str,
    pub name: String,
    pub unit: &'static str,
    /// Whether its values are failures, so that any is one too many.
    pub failure: bool,
    /// The sum of all bins, or the largest of what is measured.
    pub total: f64,
    pub first: Option<String>,
    pub peak: Option<Peak>,
    /// In how many bins it stands out.
    pub raised: usize,
    pub values: Vec<Option<f64>>,
    /// The first lines of a bin, by its place.
    pub lines: BTreeMap<usize, Vec<String>>,
}

impl Row {
    /// What stands above its group: the title, with the unit of its figures.
    pub fn heading(&self) -> String {
        match self.unit {
            "" => self.title.to_owned(),
            unit => format!("{} ({unit})", self.title),
        }
    }
}

/// The largest value.
#[derive(Debug, Serialize)]
pub struct Peak {
    pub at: String,
    pub bin: usize,
    pub value: f64,
}

/// A candidate cause.
#[derive(Debug, Serialize)]
pub struct Cause {
    #[serde(rename = "cause")]
    pub name: &'static str,
    pub meaning: &'static str,
    pub score: f64,
    #[serde(rename = "for")]
    pub speaks_for: Vec<String>,
    #[serde(rename = "against")]
    pub speaks_against: Vec<String>,
    pub next: Vec<String>,
}

/// A service with its tries.
#[derive(Debug, Serialize)]
pub struct Service {
    pub origin: &'static str,
    pub name: String,
    pub tried: u64,
    pub failed: u64,
}

/// What failures have in common.
#[derive(Debug, Serialize)]
pub struct Common {
    pub origin: &'static str,
    pub dimension: &'static str,
    pub value: String,
    pub tried: u64,
    pub failed: u64,
    pub tried_without: u64,
    pub failed_without: u64,
    pub p_value: f64,
    /// Services that go through it, of those that failed and of those that stayed well.
    pub failing_services: [usize; 2],
    pub well_services: [usize; 2],
    pub parts_them: bool,
}

/// Puts the report together.
pub fn document(mut facts: Facts<'_>, clock: &Clock, now: i64) -> Document {
    let plan = facts.plan;
    let span = facts.grid.span().unwrap_or((now, now));
    let grid = std::mem::replace(&mut facts.grid, Grid::new(None));
    let (step, all) = grid.finish(plan.top);
    let first_bin = span.0.div_euclid(step);
    let bins = Bins {
        first: first_bin,
        // At most some thousands: the grid sees to it.
        count: usize::try_from(span.1.div_euclid(step) - first_bin + 1).unwrap_or(1),
        step,
    };
    let series: Vec<Series> = all.iter().map(|lane| Series::of(lane, bins)).collect();
    let found = common::common(&facts.shares);
    let case = Case {
        facts: &facts,
        lanes: &all,
        series: &series,
        bins,
        common: &found,
        window: [
            clock.rfc3339(bins.start(0)),
            clock.rfc3339(bins.start(bins.count)),
        ],
    };
    let causes: Vec<Cause> = causes::candidates(&case)
        .into_iter()
        .map(|candidate| Cause {
            name: candidate.name(),
            meaning: candidate.meaning(),
            score: round(candidate.score, 1e4),
            speaks_for: candidate.speaks_for,
            speaks_against: candidate.speaks_against,
            next: candidate.next,
        })
        .collect();
    let shown: Vec<(&Lane, &Series)> = all
        .iter()
        .zip(&series)
        .filter(|(lane, _)| !lane.group.is_hidden())
        .collect();
    let coincidences = pairs(&shown, &facts, bins);
    let per_bin = (LINES / bins.count).max(3);
    let mut room = vec![per_bin; bins.count];
    let lanes: Vec<Row> = shown
        .iter()
        .map(|(lane, series)| row(lane, series, bins, clock, &mut room))
        .collect();
    let time = |at: i64| clock.rfc3339(at);
    let mut document = Document {
        tool: "incident_timeline",
        version: env!("CARGO_PKG_VERSION"),
        generated: time(now),
        summary: String::new(),
        window: Window {
            from: time(plan.since.unwrap_or(span.0)),
            to: time(plan.before.unwrap_or(span.1)),
            start: bins.start(0),
            step,
            bins: bins.count,
            labels: labels(bins, clock),
        },
        sources: facts
            .sources
            .iter()
            .map(|source| shown_source(source, clock))
            .collect(),
        marks: plan
            .marks
            .iter()
            .map(|mark| shown_mark(mark, bins, clock))
            .collect(),
        first: facts.first.as_ref().map(|first| First {
            at: time(first.at),
            group: first.group.name(),
            name: name(&first.name),
            line: clean_cut(&first.line, LINE),
        }),
        lanes,
        causes,
        coincidences,
        services: common::services(&facts.shares)
            .into_iter()
            .take(SERVICES)
            .map(|service| Service {
                origin: service.origin.name(),
                name: name(&service.name),
                tried: service.share.tried,
                failed: service.share.failed,
            })
            .collect(),
        common: found.iter().map(shown_common).collect(),
        notes: notes(&facts, clock),
    };
    document.summary = summary(&document, &facts, clock);
    document
}

fn shown_mark(mark: &super::plan::Mark, bins: Bins, clock: &Clock) -> Mark {
    let at = moment(mark, bins, clock);
    Mark {
        at: clock.rfc3339(at),
        text: clean_cut(&mark.text, 200),
        bin: bins.index(at),
        place: (at - bins.start(0)) as f64 / bins.step as f64,
    }
}

/// When a mark is: a time without a date is of the first day on which it lies in the window, if there is one.
fn moment(mark: &super::plan::Mark, bins: Bins, clock: &Clock) -> i64 {
    let Some(time) = mark.time else {
        return mark.at;
    };
    let (first, last) = (bins.start(0), bins.start(bins.count));
    let days = clock.civil(first).date().series(1.day());
    let moments = days
        .map_while(|day| clock.at(DateTime::from_parts(day, time)))
        .take_while(|at| *at < last);
    moments
        .take(MOST_DAYS)
        .find(|at| bins.index(*at).is_some())
        .unwrap_or(mark.at)
}

/// When each bin begins. Where the clocks are changed meanwhile one time can be two.
fn labels(bins: Bins, clock: &Clock) -> Vec<String> {
    let labels =
        (0..bins.count).map(|index| clock.rfc3339(bins.start(index)).replacen('T', " ", 1));
    let mut labels: Vec<String> = labels.collect();
    let zone = |label: &str| label.get(19..).map(str::to_owned);
    if labels
        .windows(2)
        .all(|pair| zone(&pair[0]) == zone(&pair[1]))
    {
        for label in &mut labels {
            label.truncate(19);
        }
    }
    labels
}

pub fn round(value: f64, to: f64) -> f64 {
    (value * to).round() / to
}

fn shown_source(source: &super::facts::Source, clock: &Clock) -> Source {
    Source {
        path: clean_cut(&source.path, 300),
        name: source.name.as_ref().map(|text| name(text.as_bytes())),
        kind: source.kind,
        bytes: source.bytes,
        lines: source.lines,
        used: source.used,
        unparsed: source.unparsed,
        suspect: source.suspect,
        from: source.span.map(|(first, _)| clock.rfc3339(first)),
        to: source.span.map(|(_, last)| clock.rfc3339(last)),
        trouble: source.trouble.as_ref().map(|text| clean_cut(text, 300)),
    }
}

fn shown_common(found: &common::Common) -> Common {
    Common {
        origin: found.origin.name(),
        dimension: found.dimension.name(),
        value: name(&found.value),
        tried: found.with.tried,
        failed: found.with.failed,
        tried_without: found.without.tried,
        failed_without: found.without.failed,
        p_value: found.p_value,
        failing_services: [found.failing.0, found.failing.1],
        well_services: [found.well.0, found.well.1],
        parts_them: found.parts_them(),
    }
}

fn row(lane: &Lane, series: &Series, bins: Bins, clock: &Clock, room: &mut [usize]) -> Row {
    let mut lines = BTreeMap::new();
    for (bin, cell) in &lane.cells {
        let Some(index) = usize::try_from(bin - bins.first)
            .ok()
            .filter(|index| *index < bins.count)
        else {
            continue;
        };
        let shown: Vec<String> = cell
            .lines
            .iter()
            .take(room[index])
            .map(|line| clean_cut(line, LINE))
            .collect();
        room[index] -= shown.len();
        if !shown.is_empty() {
            lines.insert(index, shown);
        }
    }
    Row {
        group: lane.group.name(),
        title: lane.group.title(),
        name: name(&lane.name),
        unit: lane.group.unit(),
        failure: lane.group.is_failure(),
        total: round(lane.total, 1e3),
        first: lane.first.map(|at| clock.rfc3339(at)),
        peak: series.peak().map(|(bin, value)| Peak {
            at: clock.rfc3339(bins.start(bin)),
            bin,
            value: round(value, 1e3),
        }),
        raised: series.count(),
        values: series
            .values
            .iter()
            .map(|value| value.map(|value| round(value, 1e3)))
            .collect(),
        lines,
    }
}

fn notes(facts: &Facts<'_>, clock: &Clock) -> Vec<String> {
    let mut notes = Vec::new();
    for source in facts.sources.iter().filter(|source| source.used == 0) {
        if let Some((first, last)) = source.beside {
            notes.push(format!(
                "{} has no line in the window: what was read of it is of {} to {}",
                clean_cut(&source.path, 300),
                clock.rfc3339(first),
                clock.rfc3339(last)
            ));
        }
    }
    let suspect: u64 = facts.sources.iter().map(|source| source.suspect).sum();
    if suspect > 0 {
        notes.push(format!("{suspect} lines of the error logs look as if a request had written them, and are not counted"));
    }
    if facts.shares.lost > 0 {
        notes.push("there are more names than are kept apart: the shares of services are those of the first 20000 pairs".to_owned());
    }
    if let Some((used, limit, what)) = &facts.tightest {
        notes.push(format!(
            "{}: {used} of {limit} ports in use at the tightest moment",
            name(what.as_bytes())
        ));
    }
    notes.push(
        "coincides is not causes: two things that come together may have a third one behind both"
            .to_owned(),
    );
    notes
}

/// `1 s`, `1 min`, `1 h`, `10 days`.
pub fn width(step: i64) -> String {
    match step {
        86_400 => "1 day".to_owned(),
        step if step > 86_400 => format!("{} days", step / 86_400),
        step if step >= 3600 => format!("{} h", step / 3600),
        step if step >= 60 => format!("{} min", step / 60),
        step => format!("{step} s"),
    }
}
