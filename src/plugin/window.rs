//! What a loop has tried within the last hour and the last day, counted exactly and in bounded memory.
//!
//! Events are counted by the second in which their results came, on a clock that nobody sets: a window holds at most one
//! slot for each of its seconds, whatever the rate. It is exact to that second: what lies on its far edge leaves it with
//! the whole second.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::metric::{number, percent};
use super::{Metric, Report, State};
use crate::stats::wilson;

/// The windows: name, what it is called in a sentence, seconds.
const WIDTHS: [(&str, &str, u64); 2] = [("1h", "last hour", 3600), ("1d", "last day", 86_400)];

/// How many seconds a round keeps apart: no window reaches further back.
const LONGEST: usize = 86_401;

/// From when on seconds are counted, by all alike.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What came to an end within one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// Since [`EPOCH`].
    second: u64,
    tried: u64,
    failed: u64,
}

/// When the results of one round came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ticks(VecDeque<Slot>);

impl Ticks {
    /// Counts a result that came at this moment, which is no earlier than the last one.
    pub fn count(&mut self, at: Instant, failed: bool) {
        add(
            &mut self.0,
            Slot {
                second: second_of(at),
                tried: 1,
                failed: failed.into(),
            },
        );
        if self.0.len() > LONGEST {
            self.0.pop_front();
        }
    }
}

/// All windows of a loop.
#[derive(Debug)]
pub struct Windows {
    begun: Instant,
    noun: &'static str,
    all: [Window; WIDTHS.len()],
}

#[derive(Debug, Default)]
struct Window {
    /// Seconds with something in them, the oldest first.
    slots: VecDeque<Slot>,
    tried: u64,
    failed: u64,
}

impl Windows {
    /// Those of a loop that begins now.
    pub fn begin(now: Instant) -> Self {
        LazyLock::force(&EPOCH);
        Self {
            begun: now,
            noun: "runs",
            all: Default::default(),
        }
    }

    /// Takes in a round that ended now. Of a plugin that does not count, the round itself is what was tried.
    pub fn take(&mut self, report: &Report, now: Instant) {
        let second = second_of(now);
        match &report.progress {
            Some(progress) => {
                self.noun = progress.noun;
                progress.ticks.0.iter().for_each(|slot| self.add(*slot));
            }
            None => self.add(Slot {
                second,
                tried: 1,
                failed: u64::from(report.state != State::Ok),
            }),
        }
        self.forget(second);
    }

    fn add(&mut self, slot: Slot) {
        for window in &mut self.all {
            window.add(slot);
        }
        self.forget(slot.second);
    }

    fn forget(&mut self, now: u64) {
        for (window, (_, _, width)) in self.all.iter_mut().zip(WIDTHS) {
            window.forget_before((now + 1).saturating_sub(width));
        }
    }

    /// Adds what they hold to the report.
    pub fn tell(&self, report: &mut Report, now: Instant) {
        let elapsed = now.saturating_duration_since(self.begun).as_secs_f64();
        let mut list = Vec::with_capacity(WIDTHS.len());
        for (window, (name, words, width)) in self.all.iter().zip(WIDTHS) {
            let Window { tried, failed, .. } = *window;
            let seconds = elapsed.min(width as f64);
            let rate = wilson(failed, tried);
            report
                .metrics
                .push(Metric::count(format!("attempts_{name}"), tried));
            report
                .metrics
                .push(Metric::count(format!("failed_{name}"), failed).max(tried as f64));
            let estimate = rate.map_or(f64::NAN, |rate| rate.estimate * 100.0);
            report
                .metrics
                .push(Metric::percent(format!("failure_rate_{name}"), estimate));
            list.push(json!({
                "name": name,
                "seconds": number(seconds),
                "attempts": tried,
                "failed": failed,
                "rate": rate.map_or(Value::Null, |rate| json!({
                    "estimate": number(rate.estimate),
                    "low": number(rate.low),
                    "high": number(rate.high),
                    "confidence": 0.95,
                })),
            }));
            let Some(rate) = rate else { continue };
            // A loop that is younger than the window before has said all there is to say by that.
            let says_more = list.len() == 1 || elapsed > WIDTHS[list.len() - 2].2 as f64;
            report.line(
                u8::from(!says_more),
                format!(
                    "{words}: {failed} of {tried} {} failed ({} %, 95 % interval {}-{} %)",
                    self.noun,
                    percent(rate.estimate),
                    percent(rate.low),
                    percent(rate.high)
                ),
            );
        }
        if report.details.is_object() {
            report.details["windows"] = list.into();
        }
    }

    /// What failed in the last hour, where the loop is older than that.
    pub fn last_hour(&self, now: Instant) -> Option<u64> {
        let (_, _, width) = WIDTHS[0];
        let old = now.saturating_duration_since(self.begun) >= Duration::from_secs(width);
        old.then(|| self.all[0].failed)
    }
}

impl Window {
    fn add(&mut self, new: Slot) {
        self.tried += new.tried;
        self.failed += new.failed;
        add(&mut self.slots, new);
    }

    fn forget_before(&mut self, second: u64) {
        while let Some(old) = self.slots.front().filter(|slot| slot.second < second) {
            self.tried -= old.tried;
            self.failed -= old.failed;
            self.slots.pop_front();
        }
    }
}

fn second_of(at: Instant) -> u64 {
    at.saturating_duration_since(*EPOCH).as_secs()
}

/// Adds a slot behind the others, or to the last one of the same second.
fn add(slots: &mut VecDeque<Slot>, new: Slot) {
    match slots.back_mut() {
        Some(last) if last.second >= new.second => {
            last.tried += new.tried;
            last.failed += new.failed;
        }
        _ => slots.push_back(new),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plugin::Progress;

    fn round(ticks: Ticks) -> Report {
        let mut report = Report::new(State::Ok, "");
        report.progress = Some(Progress {
            noun: "probes",
            tried: 0,
            failed: 0,
            last: String::new(),
            ticks,
        });
        report
    }

    fn told(windows: &Windows, now: Instant) -> Vec<(u64, u64)> {
        let mut report = Report::new(State::Ok, "");
        windows.tell(&mut report, now);
        let list = report.details["windows"].as_array().unwrap();
        let count = |window: &Value, name: &str| window[name].as_u64().unwrap();
        list.iter()
            .map(|window| (count(window, "attempts"), count(window, "failed")))
            .collect()
    }

    #[test]
    fn what_is_older_than_a_window_leaves_it() {
        let begun = *EPOCH;
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut windows = Windows::begin(begun);
        let mut ticks = Ticks::default();
        ticks.count(at(10), true);
        ticks.count(at(10), false);
        ticks.count(at(3000), false);
        windows.take(&round(ticks), at(3000));
        assert_eq!(told(&windows, at(3000)), [(3, 1), (3, 1)]);
        assert_eq!(windows.last_hour(at(3000)), None);
        windows.take(&round(Ticks::default()), at(3609));
        assert_eq!(told(&windows, at(3609)), [(3, 1), (3, 1)]);
        windows.take(&round(Ticks::default()), at(3610));
        assert_eq!(told(&windows, at(3610)), [(1, 0), (3, 1)]);
        assert_eq!(windows.last_hour(at(3610)), Some(0));
        windows.take(&round(Ticks::default()), at(86_409));
        assert_eq!(told(&windows, at(86_409)), [(0, 0), (3, 1)]);
        windows.take(&round(Ticks::default()), at(86_410));
        assert_eq!(told(&windows, at(86_410)), [(0, 0), (1, 0)]);
    }

    #[test]
    fn a_day_of_hundreds_a_second_takes_no_more_than_a_slot_for_each_second() {
        let begun = *EPOCH;
        let mut windows = Windows::begin(begun);
        let mut ticks = Ticks::default();
        let mut now = begun;
        // Two days at 20 a second, of which every 1000th fails.
        for n in 0..2 * 86_400 * 20_u64 {
            now = begun + Duration::from_millis(n * 50);
            ticks.count(now, n % 1000 == 999);
            if n % 200 == 199 {
                windows.take(&round(std::mem::take(&mut ticks)), now);
            }
        }
        assert_eq!(told(&windows, now), [(72_000, 72), (1_728_000, 1728)]);
        let [hour, day] = &windows.all;
        assert_eq!((hour.slots.len(), day.slots.len()), (3600, 86_400));
    }

    #[test]
    fn a_plugin_that_does_not_count_has_its_runs_counted() {
        let begun = *EPOCH;
        let mut windows = Windows::begin(begun);
        for state in [State::Ok, State::Critical, State::Ok, State::Unknown] {
            windows.take(&Report::new(state, ""), begun);
        }
        let mut report = Report::new(State::Ok, "fine");
        windows.tell(&mut report, begun);
        let text = report.text("X", 0);
        assert!(text.contains("'attempts_1h'=4;;;0; 'failed_1h'=2;;;0;4 'failure_rate_1h'=50%;;;0;100 'attempts_1d'=4"), "{text}");
        assert!(
            text.contains("\nlast hour: 2 of 4 runs failed (50 %, 95 % interval 15-85 %)\n"),
            "{text}"
        );
        assert!(!text.contains("last day"), "{text}");
    }

    proptest! {
        #[test]
        fn a_window_holds_what_a_list_of_all_would(
            steps in prop::collection::vec((0_u64..4_000_000, any::<bool>(), any::<bool>()), 1..200),
        ) {
            let begun = *EPOCH;
            let mut windows = Windows::begin(begun);
            let (mut now, mut all, mut ticks) = (0, Vec::new(), Ticks::default());
            for (step, failed, ends) in steps {
                now += step;
                let at = begun + Duration::from_millis(now);
                ticks.count(at, failed);
                all.push((now, failed));
                if !ends {
                    continue;
                }
                windows.take(&round(std::mem::take(&mut ticks)), at);
                for (told, (_, _, width)) in told(&windows, at).into_iter().zip(WIDTHS) {
                    let within = all.iter().filter(|(then, _)| now / 1000 - then / 1000 < width);
                    let count = within.fold((0, 0), |(n, bad), (_, failed)| (n + 1, bad + u64::from(*failed)));
                    prop_assert_eq!(told, count);
                }
            }
        }
    }
}
