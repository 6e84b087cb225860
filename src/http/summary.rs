//! Many probes in few numbers, in memory that does not grow with them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::compare::{Comparison, compare};
use super::evidence::Outcome;
use super::path_summary::{PathSummary, PathTally};
use super::plan::Plan;
use super::pool::Use;
use super::probe::{Kind, Phases, Probe};
use super::verdict::Verdict;
use crate::plugin::window::Ticks;
use crate::plugin::{End, State};
use crate::stats::{Rate, Sample, wilson};

/// How many failed probes are kept from the beginning of a run, and as many from its end.
const KEPT: usize = 50;

/// How many of each path are kept at each end, whatever the others fill.
const KEPT_OF_EACH: usize = 5;

/// Which of [`Phases::NAMES`] is the handshake.
const TLS: usize = 2;

/// What a run found.
#[derive(Debug)]
pub struct Summary {
    /// Probes that came to an end of their own.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// How many would be sent at most.
    pub planned: Option<u64>,
    /// The failed ones by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// All with a status, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// The share of failed ones; `None` without probes.
    pub rate: Option<Rate>,
    /// Times of the probes that got a reply or waited for one in vain.
    pub latency: Option<Latency>,
    /// Median, 95th percentile and maximum of each phase, by [`Phases::NAMES`].
    pub phases: [Option<[f64; 3]>; 5],
    /// The asked-for percentile of the times.
    pub percentile: Option<f64>,
    /// The same of each phase.
    pub phase_percentiles: [Option<f64>; 5],
    /// What came over each of the plan's paths.
    pub paths: Vec<PathSummary>,
    /// How they compare, where there are several.
    pub comparison: Option<Comparison>,
    /// The first of the worst.
    pub worst: Option<Probe>,
    /// The slowest of the good ones.
    pub slowest_good: Option<Probe>,
    /// What the last probe came to, in a few words.
    pub last: String,
    /// How many would count as slow, had they not waited for a CPU of this host.
    pub excused: u64,
    /// The longest that one waited for it.
    pub waited: Duration,
    /// When probes came to their end.
    pub ticks: Ticks,
    /// The first failed probes and the last ones; see `left_out`.
    pub failures: Vec<Probe>,
    /// How many failed probes between them are not kept.
    pub left_out: u64,
    /// Why this host had to stop.
    pub trouble: Option<String>,
    /// Why the run ended before it was complete.
    pub end: Option<End>,
    /// Probes that were under way when it ended.
    pub cut_off: u64,
    /// What became of the evidence.
    pub evidence: Outcome,
    /// What was made of connections.
    pub connections: Use,
    /// The probes whose last request went over a connection of an earlier one.
    pub reused: Part,
}

/// Some of the probes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Part {
    /// How many.
    pub attempts: u64,
    /// How many of them failed.
    pub failed: u64,
}

/// Percentiles in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// The shortest.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 95th.
    pub p95: f64,
    /// The 99th.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Summary {
    /// Ok, failing now and then, or failing always.
    pub fn verdict(&self) -> &'static str {
        match self.failed {
            0 => "ok",
            failed if failed == self.attempts => "down",
            _ => "intermittent",
        }
    }

    /// The probe that the first line speaks of: the worst failed one, or the slowest good one where none failed or what
    /// failed is tolerated.
    pub fn shown(&self, verdict: Verdict) -> Option<&Probe> {
        let (worst, good) = (self.worst.as_ref(), self.slowest_good.as_ref());
        if verdict.failures == State::Ok {
            good.or(worst)
        } else {
            worst.or(good)
        }
    }
}

/// A summary in the making.
#[derive(Debug)]
pub struct Tally {
    summary: Summary,
    latency: Sample,
    phases: [Sample; 5],
    /// The same times without what was waited for a CPU, where a percentile of them is judged.
    judged: (Sample, [Sample; 5]),
    paths: Vec<PathTally>,
    last_failures: VecDeque<Probe>,
    percentile: Option<f64>,
    /// Status and kind of the last probe.
    last: (Option<u16>, Option<Kind>),
}

impl Tally {
    /// An empty one.
    pub fn new(plan: &Plan) -> Self {
        Self {
            summary: Summary {
                attempts: 0,
                failed: 0,
                planned: plan.probes(),
                kinds: BTreeMap::new(),
                statuses: BTreeMap::new(),
                rate: None,
                latency: None,
                phases: [None; 5],
                percentile: None,
                phase_percentiles: [None; 5],
                paths: Vec::new(),
                comparison: None,
                worst: None,
                slowest_good: None,
                last: String::new(),
                excused: 0,
                waited: Duration::ZERO,
                ticks: Ticks::default(),
                failures: Vec::new(),
                left_out: 0,
                trouble: None,
                end: None,
                cut_off: 0,
                evidence: Outcome::default(),
                connections: Use::default(),
                reused: Part::default(),
            },
            latency: Sample::default(),
            phases: Default::default(),
            judged: Default::default(),
            paths: plan.paths.iter().map(|_| PathTally::default()).collect(),
            last_failures: VecDeque::new(),
            percentile: plan.percentile,
            last: (None, None),
        }
    }

    /// How many probes there were so far, and how many of them failed.
    pub fn so_far(&self) -> (u64, u64) {
        (self.summary.attempts, self.summary.failed)
    }

    /// Counts a probe.
    pub fn add(&mut self, probe: Probe) {
        let summary = &mut self.summary;
        let failed = probe.kind.is_some();
        summary.attempts += 1;
        self.last = (probe.status, probe.kind);
        summary.failed += u64::from(failed);
        summary.excused += u64::from(probe.excused);
        summary.waited = summary.waited.max(probe.waited);
        summary.ticks.count(Instant::now(), failed);
        summary.connections.add(probe.connections);
        summary.reused.attempts += u64::from(probe.reused);
        summary.reused.failed += u64::from(probe.reused && failed);
        if let Some(status) = probe.status {
            *summary.statuses.entry(status).or_default() += 1;
        }
        let timed = probe.kind.is_none() || probe.is_timed();
        if timed {
            self.latency.add(probe.elapsed);
            if self.percentile.is_some() {
                self.judged
                    .0
                    .add(probe.elapsed.saturating_sub(probe.waited));
            }
        }
        self.paths[probe.path].add(&probe, timed);
        for (sample, phase) in self.phases.iter_mut().zip(probe.phases.in_order()) {
            if let Some(duration) = phase {
                sample.add(duration);
            }
        }
        let judged = self.judged.1.iter_mut().zip(probe.phases.in_order());
        for (sample, phase) in judged.filter(|_| self.percentile.is_some()) {
            if let Some(duration) = phase {
                sample.add(duration.saturating_sub(probe.waited));
            }
        }
        match probe.kind {
            Some(kind) => self.add_failed(kind, probe),
            None => keep_larger(&mut summary.slowest_good, probe, |probe| probe.elapsed),
        }
    }

    #[cold]
    fn add_failed(&mut self, kind: Kind, probe: Probe) {
        let summary = &mut self.summary;
        *summary.kinds.entry(kind).or_default() += 1;
        keep_larger(&mut summary.worst, probe.clone(), badness);
        let few = |path| {
            let same = summary.failures.iter().filter(|kept| kept.path == path);
            same.count() < KEPT_OF_EACH
        };
        if summary.failures.len() < KEPT || few(probe.path) {
            summary.failures.push(probe);
            return;
        }
        if self.last_failures.len() == KEPT {
            self.last_failures.remove(self.dispensable());
            self.summary.left_out += 1;
        }
        self.last_failures.push_back(probe);
    }

    /// Which of the last failed probes goes first: the oldest one of a path that has others. A dead path must not push
    /// out what another one shows now and then.
    fn dispensable(&self) -> usize {
        let mut kept = vec![0_usize; self.paths.len()];
        for probe in &self.last_failures {
            kept[probe.path] += 1;
        }
        let mut last = self.last_failures.iter();
        last.position(|probe| kept[probe.path] > KEPT_OF_EACH)
            .unwrap_or(0)
    }

    /// Says why this host has to stop.
    pub fn trouble(&mut self, why: String) {
        self.summary.trouble = Some(why);
    }

    /// The summary.
    pub fn close(mut self, end: Option<End>, cut_off: u64) -> Summary {
        self.summary.last = self.last.0.map_or_else(
            || self.last.1.map_or("nothing yet", Kind::name).to_owned(),
            |status| status.to_string(),
        );
        let shaken = self.phases[TLS].percentiles([50.0]).is_some();
        if let Some(worst) = &mut self.summary.worst {
            // Others have made a session: then it is not for want of anything here that this one did not.
            if shaken && worst.is_no_match() {
                worst.state = State::Critical;
            }
        }
        let percentiles = self
            .latency
            .percentiles([0.0, 50.0, 90.0, 95.0, 99.0, 100.0]);
        let phase = |sample: &Sample| Some(sample.percentiles([self.percentile?])?[0]);
        let paths: Vec<_> = self.paths.into_iter().map(PathTally::close).collect();
        let counts: Vec<_> = paths
            .iter()
            .map(|path| (path.attempts, path.failed))
            .collect();
        let mut summary = Summary {
            comparison: compare(&counts),
            paths,
            phase_percentiles: self.judged.1.each_ref().map(phase),
            rate: wilson(self.summary.failed, self.summary.attempts),
            latency: percentiles.map(|[min, p50, p90, p95, p99, max]| Latency {
                min,
                p50,
                p90,
                p95,
                p99,
                max,
            }),
            phases: self
                .phases
                .map(|sample| sample.percentiles([50.0, 95.0, 100.0])),
            percentile: self
                .percentile
                .and_then(|percent| Some(self.judged.0.percentiles([percent])?[0])),
            end,
            cut_off,
            ..self.summary
        };
        summary.failures.extend(self.last_failures);
        // Those of a rare path may have come late.
        summary.failures.sort_by_key(|probe| probe.at);
        summary
    }
}

/// How bad a failed probe is. Of those that are only slow the slowest is the worst.
pub fn badness(probe: &Probe) -> (State, Option<Duration>) {
    let slow = probe.kind == Some(Kind::Slow);
    (probe.state, slow.then_some(probe.elapsed))
}

/// Keeps the one with the larger key, the first of equals.
fn keep_larger<K: PartialOrd>(kept: &mut Option<Probe>, probe: Probe, key: impl Fn(&Probe) -> K) {
    if kept.as_ref().is_none_or(|kept| key(&probe) > key(kept)) {
        *kept = Some(probe);
    }
}

/// The worst state that any probe has by itself.
pub fn worst_state(summary: &Summary) -> State {
    summary
        .worst
        .as_ref()
        .map_or(State::Ok, |probe| probe.state)
}

const _: () = assert!(Phases::NAMES.len() == 5);
