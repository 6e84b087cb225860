//! Candidate causes, ranked by how much of what was seen they would explain, each with what speaks for it and against
//! it. Nothing here says *because*: two things that coincide may have a third one behind both.

use std::collections::BTreeMap;

use super::coincide::Coincidence;
use super::common::Common;
use super::facts::Facts;
use super::gauge::{CLIENT_PORTS, FILE_DESCRIPTORS, Gauge};
use super::grid::Lane;
use super::group::Group;
use super::next;
use super::series::{Bins, Series};
use super::shares::Dimension;
use super::sort::{Origin, Sort};
use super::strangers::{Stranger, strangers};
use super::words::{many, name, p_value, percent, times};
use crate::stats;

/// How many subjects are named.
const NAMED: usize = 3;

/// A candidate.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// `None` stands for what nothing that was read explains.
    pub sort: Option<Sort>,
    /// From nothing to one; all candidates together are one.
    pub score: f64,
    pub speaks_for: Vec<String>,
    pub speaks_against: Vec<String>,
    /// Commands that would settle it.
    pub next: Vec<String>,
}

impl Candidate {
    /// Its name in the report.
    pub fn name(&self) -> &'static str {
        self.sort.map_or("unknown", Sort::name)
    }

    /// In words.
    pub fn meaning(&self) -> &'static str {
        self.sort
            .map_or("nothing that was read says what", Sort::meaning)
    }
}

/// What is judged, put together once.
pub struct Case<'a> {
    pub facts: &'a Facts<'a>,
    pub lanes: &'a [Lane],
    pub series: &'a [Series],
    pub bins: Bins,
    pub common: &'a [Common],
    /// When it begins and ends, as RFC 3339.
    pub window: [String; 2],
}

/// All candidates that anything speaks for, the likeliest first, and the client ports in any case.
pub fn candidates(case: &Case<'_>) -> Vec<Candidate> {
    let judged = Judged::new(case);
    let mut found: Vec<Candidate> = Sort::ALL
        .into_iter()
        .map(|sort| judged.candidate(sort))
        .collect();
    found.push(judged.unknown());
    let sum: f64 = found.iter().map(|candidate| candidate.score).sum();
    if sum > 0.0 {
        for candidate in &mut found {
            candidate.score /= sum;
        }
    }
    found.retain(|candidate| candidate.score > 0.0 || candidate.sort == Some(Sort::ClientPorts));
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

/// What all candidates are measured by.
struct Judged<'a> {
    case: &'a Case<'a>,
    /// The bins in which somebody saw a failure, and those in which the error log is not alone with it.
    failing: Vec<bool>,
    seen: Vec<bool>,
    /// How many of the failing bins have a line near them that says what failed.
    explained: (usize, usize),
    /// How often each origin named each sort; dead backends that are none counted as what they are.
    named: BTreeMap<(Origin, Sort), u64>,
    /// Addresses that came late and never answered.
    strangers: Vec<Stranger<'a>>,
}

impl<'a> Judged<'a> {
    fn new(case: &'a Case<'a>) -> Self {
        let rows = |holds: &dyn Fn(&Lane) -> bool| {
            let mut row = vec![false; case.bins.count];
            for (lane, series) in case.lanes.iter().zip(case.series) {
                if holds(lane) {
                    row.iter_mut()
                        .zip(&series.raised)
                        .for_each(|(any, one)| *any |= one);
                }
            }
            row
        };
        let failing = rows(&|lane| lane.group == Group::Failure);
        let error_log = Origin::ErrorLog.name().as_bytes();
        let seen = rows(&|lane| lane.group == Group::Failure && &*lane.name != error_log);
        let sorted = rows(&|lane| lane.group == Group::Sort);
        let is_near =
            |at: usize| sorted[at.saturating_sub(1)..(at + 2).min(sorted.len())].contains(&true);
        let of = if seen.contains(&true) {
            &seen
        } else {
            &failing
        };
        let bins: Vec<usize> = (0..of.len()).filter(|at| of[*at]).collect();
        let explained = (bins.iter().filter(|at| is_near(**at)).count(), bins.len());
        let strangers = strangers(case.facts);
        let mut named: BTreeMap<_, _> = case
            .facts
            .named
            .iter()
            .map(|(key, named)| (*key, named.count))
            .collect();
        for (origin, sort) in case.facts.named.keys().copied().collect::<Vec<_>>() {
            if sort != Sort::DeadBackend {
                continue;
            }
            let subjects = &case.facts.named[&(origin, sort)].subjects;
            let strange: u64 = strangers
                .iter()
                .filter_map(|stranger| subjects.get(stranger.address))
                .sum();
            if strange > 0 {
                *named.entry((origin, sort)).or_default() -= strange;
                *named.entry((origin, Sort::Dns)).or_default() += strange;
            }
        }
        Self {
            case,
            failing,
            seen,
            explained,
            named,
            strangers,
        }
    }

    fn explained_share(&self) -> f64 {
        match self.explained {
            (_, 0) => 0.0,
            (near, all) => near as f64 / all as f64,
        }
    }

    /// How much of what the origins say is of this sort, each weighed, and that by how many of its failures say anything:
    /// of an access log only the 504s do.
    fn named_share(&self, sort: Sort) -> f64 {
        let (mut share, mut weights) = (0.0, 0.0);
        for origin in Origin::ALL {
            let total: u64 = Sort::ALL
                .into_iter()
                .filter_map(|sort| self.named.get(&(origin, sort)))
                .sum();
            if total > 0 {
                let ours = self.named.get(&(origin, sort)).copied().unwrap_or(0);
                let failures = self.case.facts.failures.get(&origin).copied();
                let told = total as f64 / failures.unwrap_or(0).max(total) as f64;
                share += origin.weight() * told * ours as f64 / total as f64;
                weights += origin.weight() * told;
            }
        }
        if weights > 0.0 { share / weights } else { 0.0 }
    }

    fn candidate(&self, sort: Sort) -> Candidate {
        let mut candidate = Candidate {
            sort: Some(sort),
            score: self.named_share(sort) * self.explained_share(),
            speaks_for: Vec::new(),
            speaks_against: Vec::new(),
            next: Vec::new(),
        };
        self.by_words(sort, &mut candidate);
        self.by_time(sort, &mut candidate);
        match sort {
            Sort::ClientPorts => self.by_gauge(&CLIENT_PORTS, &mut candidate),
            Sort::FileDescriptors => self.by_gauge(&FILE_DESCRIPTORS, &mut candidate),
            Sort::SlowUpstream => self.by_answers(&mut candidate),
            Sort::DeadBackend | Sort::Certificate | Sort::UpstreamCloses => {
                self.by_backend(sort, &mut candidate);
            }
            Sort::Dns => self.by_strangers(&mut candidate),
            Sort::WorkerConnections | Sort::Configuration => {}
        }
        let subject = self
            .subjects(sort)
            .first()
            .map(|(subject, _)| subject.clone());
        candidate.next =
            next::commands(sort, subject.as_deref(), self.case.facts, &self.case.window);
        candidate
    }

    /// What the lines say.
    fn by_words(&self, sort: Sort, candidate: &mut Candidate) {
        for origin in Origin::ALL {
            let total: u64 = Sort::ALL
                .into_iter()
                .filter_map(|sort| self.named.get(&(origin, sort)))
                .sum();
            let failures = self.case.facts.failures.get(&origin).copied().unwrap_or(0);
            let Some(ours) = self
                .named
                .get(&(origin, sort))
                .copied()
                .filter(|ours| *ours > 0)
            else {
                if total > 0 && origin == Origin::ErrorLog {
                    candidate.speaks_against.push(format!(
                        "none of the {total} failures in the error log is of this sort"
                    ));
                }
                continue;
            };
            candidate.speaks_for.push(format!(
                "{ours} of {failures} failures ({}) in the {} are of this sort{}",
                percent(ours, failures),
                origin.name(),
                self.whom(origin, sort)
            ));
            if total > ours {
                candidate.speaks_against.push(format!(
                    "{} in the {} name another one",
                    many(total - ours, "failure"),
                    origin.name()
                ));
            }
        }
    }

    /// `, all at 10.0.0.3:80`.
    fn whom(&self, origin: Origin, sort: Sort) -> String {
        let Some(named) = self.case.facts.named.get(&(origin, sort)) else {
            return String::new();
        };
        let mut subjects: Vec<_> = named.subjects.iter().collect();
        subjects.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        match &subjects[..] {
            [] => String::new(),
            [(one, _)] => format!(", all at {}", name(one)),
            several => {
                let shown: Vec<_> = several
                    .iter()
                    .take(NAMED)
                    .map(|(one, count)| format!("{} ({count})", name(one)))
                    .collect();
                format!(
                    ", at {}{}",
                    shown.join(", "),
                    if several.len() > NAMED { " ..." } else { "" }
                )
            }
        }
    }

    fn subjects(&self, sort: Sort) -> Vec<(Box<[u8]>, u64)> {
        let mut all: BTreeMap<&[u8], u64> = BTreeMap::new();
        for origin in Origin::ALL {
            if let Some(named) = self.case.facts.named.get(&(origin, sort)) {
                named
                    .subjects
                    .iter()
                    .for_each(|(subject, count)| *all.entry(subject).or_default() += count);
            }
        }
        let mut all: Vec<_> = all
            .into_iter()
            .map(|(subject, count)| (subject.into(), count))
            .collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }

    /// Whether it comes when users, probes and checks saw failures.
    fn by_time(&self, sort: Sort, candidate: &mut Candidate) {
        let own = self
            .case
            .lanes
            .iter()
            .zip(self.case.series)
            .find(|(lane, _)| lane.group == Group::Sort && &*lane.name == sort.name().as_bytes());
        let Some((_, series)) = own else { return };
        let Some(found) = Coincidence::of(&series.raised, &self.seen) else {
            return;
        };
        let words = format!(
            "coincides with failures seen elsewhere in {} of its {} ({:.1} by chance, {}; Fisher's exact test, {})",
            found.both,
            many(found.a_raised, "bin"),
            found.expected,
            times(found.times()),
            p_value(found.p_value)
        );
        if found.p_value < stats::SIGNIFICANT {
            candidate.speaks_for.push(words);
        } else if found.both == 0 {
            candidate.score *= 0.5;
            candidate
                .speaks_against
                .push("in none of its bins failures were seen elsewhere".to_owned());
        }
    }

    /// Whether something that can run out had run out.
    fn by_gauge(&self, gauge: &Gauge, candidate: &mut Candidate) {
        let lanes = self.case.lanes.iter().zip(self.case.series);
        gauge.weigh(lanes, &self.failing, candidate);
    }

    /// Whether answers came late when there were failures.
    fn by_answers(&self, candidate: &mut Candidate) {
        let lanes = self
            .case
            .lanes
            .iter()
            .zip(self.case.series)
            .filter(|(lane, _)| lane.group == Group::Time);
        let judged = lanes.filter_map(|(lane, series)| {
            Some((
                lane,
                series,
                Coincidence::of(&series.raised, &self.failing)?,
            ))
        });
        let Some((lane, series, found)) = judged.min_by(|a, b| a.2.p_value.total_cmp(&b.2.p_value))
        else {
            return;
        };
        if found.p_value >= stats::SIGNIFICANT {
            return;
        }
        let within = series.median_where(|at| self.failing[at]);
        let outside = series.median_where(|at| !self.failing[at]);
        if let Some((within, outside)) = within.zip(outside) {
            candidate.speaks_for.push(format!(
                "slow answers of {} coincide with failures: slowest {within:.2} s (median of failing bins) against {outside:.2} s ({}; Fisher's exact test, {})",
                name(&lane.name),
                times(found.times()),
                p_value(found.p_value)
            ));
            if self.named.is_empty() {
                candidate.score += 0.4;
            }
        }
    }

    /// Whether it is one backend, and the others are well.
    fn by_backend(&self, sort: Sort, candidate: &mut Candidate) {
        let places =
            self.case.common.iter().filter(|common| {
                matches!(common.dimension, Dimension::Backend | Dimension::Address)
            });
        let subjects = self.subjects(sort);
        for place in places.take(NAMED) {
            if self
                .strangers
                .iter()
                .any(|stranger| *stranger.address == *place.value)
            {
                continue;
            }
            // Most of what failed there failed like this.
            let is_subject = subjects
                .iter()
                .any(|(subject, count)| *subject == place.value && count * 2 >= place.with.failed);
            if candidate.score > 0.0 && is_subject {
                candidate.speaks_for.push(format!(
                    "{} of {} tries at {} failed, {} of {} elsewhere (Fisher's exact test, {})",
                    place.with.failed,
                    place.with.tried,
                    name(&place.value),
                    place.without.failed,
                    place.without.tried,
                    p_value(place.p_value)
                ));
            } else if sort == Sort::DeadBackend
                && self.named.is_empty()
                && place.with.failed * 10 >= place.with.tried * 9
            {
                candidate.score += 0.5;
                candidate.speaks_for.push(format!(
                    "{} of {} tries at {} failed, {} of {} elsewhere (Fisher's exact test, {}); no error log says how",
                    place.with.failed,
                    place.with.tried,
                    name(&place.value),
                    place.without.failed,
                    place.without.tried,
                    p_value(place.p_value)
                ));
            }
        }
    }

    /// Whether backends came that nobody knew before.
    fn by_strangers(&self, candidate: &mut Candidate) {
        for stranger in self.strangers.iter().take(NAMED) {
            candidate.speaks_for.push(format!(
                "{} was never tried in the first {} s and never answered ({} of {} tries failed), while {} tries went elsewhere: an address that a name should not have",
                name(stranger.address),
                stranger.share.first.unwrap_or(0) - stranger.others_since,
                stranger.share.failed,
                stranger.share.tried,
                stranger.others_tried
            ));
        }
        if !self.strangers.is_empty() {
            let words =
                "a server added to the configuration that does not run yet would look the same";
            candidate.speaks_against.push(words.to_owned());
        }
    }

    fn unknown(&self) -> Candidate {
        let (near, all) = self.explained;
        let nothing_named = self.named.values().sum::<u64>() == 0;
        let mut candidate = Candidate {
            sort: None,
            score: if all == 0 {
                0.0
            } else {
                1.0 - self.explained_share()
            },
            speaks_for: Vec::new(),
            speaks_against: Vec::new(),
            next: next::unknown(self.case.facts),
        };
        if nothing_named && all > 0 {
            candidate
                .speaks_for
                .push("no line that was read says why".to_owned());
        } else if near < all {
            candidate.speaks_for.push(format!(
                "in {} of {all} failing bins no line near them says why",
                all - near
            ));
        }
        if near > 0 {
            candidate.speaks_against.push(format!(
                "{near} of {all} failing bins have a line near them that says why"
            ));
        }
        candidate
    }
}
