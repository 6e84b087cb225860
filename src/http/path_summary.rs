//! What came over each path, in memory that does not grow with the probes.

use std::collections::BTreeMap;

use super::plan::Plan;
use super::probe::{Kind, Probe};
use crate::plugin::State;
use crate::stats::{Rate, Sample, wilson};

/// What came over one path.
#[derive(Debug)]
pub struct PathSummary {
    /// Probes that came to an end of their own.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// The failed ones by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// The share of failed ones; `None` without probes.
    pub rate: Option<Rate>,
    /// The median of the times, in seconds.
    pub p50: Option<f64>,
    /// The worst that any of its probes came to by itself.
    pub worst: State,
}

impl PathSummary {
    /// Ok, failing now and then, or failing always.
    pub fn verdict(&self) -> &'static str {
        match self.failed {
            0 => "ok",
            failed if failed == self.attempts => "down",
            _ => "intermittent",
        }
    }

    /// Whether every probe failed.
    pub fn is_down(&self) -> bool {
        self.failed > 0 && self.failed == self.attempts
    }

    /// How bad that is, by the ranges over the failed probes where there are any.
    pub fn state(&self, plan: &Plan) -> State {
        if plan.failures.any() && self.attempts > 0 {
            plan.failures
                .judge(self.failed as f64, self.attempts as f64)
        } else {
            self.worst
        }
    }
}

/// A path's summary in the making.
#[derive(Debug)]
pub struct PathTally {
    attempts: u64,
    failed: u64,
    kinds: BTreeMap<Kind, u64>,
    latency: Sample,
    worst: State,
}

impl Default for PathTally {
    fn default() -> Self {
        Self {
            attempts: 0,
            failed: 0,
            kinds: BTreeMap::new(),
            latency: Sample::default(),
            worst: State::Ok,
        }
    }
}

impl PathTally {
    /// Counts a probe; `timed` where its time says something.
    pub fn add(&mut self, probe: &Probe, timed: bool) {
        self.attempts += 1;
        if let Some(kind) = probe.kind {
            self.failed += 1;
            *self.kinds.entry(kind).or_default() += 1;
            if probe.state > self.worst {
                self.worst = probe.state;
            }
        }
        if timed {
            self.latency.add(probe.elapsed);
        }
    }

    /// The summary.
    pub fn close(self) -> PathSummary {
        PathSummary {
            attempts: self.attempts,
            failed: self.failed,
            kinds: self.kinds,
            rate: wilson(self.failed, self.attempts),
            p50: self.latency.percentiles([50.0]).map(|[p50]| p50),
            worst: self.worst,
        }
    }
}
