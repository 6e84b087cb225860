//! Facts and verdict to a report.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::args::By;
use super::cause::Cause;
use super::clock::Clock;
use super::correlate::Correlation;
use super::count::Seen;
use super::dialect::Dialect;
use super::line::Level;
use super::plan::Plan;
use super::summary::{Kind, Summary};
use super::verdict;
use super::words::{bar, beside, plural, share, span, top};
use super::zone;
use crate::plugin::{Finding, Metric, Report, State, Unit};

/// How many names a list in the JSON document holds.
pub(super) const LISTED: usize = 100;

/// How many minutes.
pub(super) const MINUTES: usize = 1440;

/// What was found out about one log.
#[derive(Debug, Clone)]
pub struct Log {
    /// Its path.
    pub path: PathBuf,
    /// What was read of it.
    pub seen: Seen,
    /// Whether earlier generations were read along.
    pub rotated: bool,
    /// Whether the run had to end before all was read.
    pub ended_early: bool,
    /// Whether there is anything new to remember.
    pub changed: bool,
    /// Whether it stopped being readable in the middle: what was counted of it must not be kept.
    pub torn: bool,
    /// Why it could not be read.
    pub error: Option<String>,
    /// The offset of its local time from UTC in seconds, where that is not this host's and was not given.
    pub offset: Option<i32>,
}

impl Log {
    /// One of which nothing is known yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            seen: Seen::default(),
            rotated: false,
            ended_early: false,
            changed: false,
            torn: false,
            error: None,
            offset: None,
        }
    }
}

/// All that a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What was asked.
    pub plan: &'a Plan,
    /// Whose words the logs are written in.
    pub dialect: Dialect,
    /// What `--explain` says.
    pub explained: &'a [String],
    /// The log's time.
    pub clock: &'a Clock,
    /// Where it was looked for.
    pub logs: &'a [Log],
    /// About the state.
    pub notes: &'a [String],
    /// What was counted.
    pub summary: &'a Summary,
    /// How far other logs go along with it, or why that cannot be said.
    pub correlations: &'a [anyhow::Result<Correlation>],
}

/// The report. A log that could not be read, or not to its end, is no reason to be silent about what was found in
/// the others, and no reason to say OK.
pub fn render(facts: &Facts<'_>, state: State) -> Report {
    let gap = facts.gap();
    let (state, summary) = match (&gap, state) {
        (Some(gap), State::Ok) => (State::Unknown, gap.clone()),
        (Some(gap), _) => (state, format!("{} - and {gap}", facts.headline())),
        (None, _) => (state, facts.headline()),
    };
    let mut report = Report::new(state, summary);
    report.metrics = facts.metrics();
    report.findings = facts.findings(state);
    facts.lines(&mut report);
    report
}

impl Facts<'_> {
    /// What was not seen.
    fn gap(&self) -> Option<String> {
        let error = self.logs.iter().find_map(|log| log.error.clone());
        let early = || {
            let log = self.logs.iter().find(|log| log.ended_early)?;
            Some(format!(
                "{} was not read to its end in time: the next run goes on there, or give a longer --deadline",
                log.path.display()
            ))
        };
        error.or_else(early)
    }

    fn headline(&self) -> String {
        let Self { plan, summary, .. } = self;
        let when = self.when();
        let found = self.found();
        if found.is_empty() {
            let wanted: Vec<_> = plan.counted.iter().map(Cause::name).collect();
            let wanted = match wanted.as_slice() {
                [.., _, _, _, _] => format!("none of {} causes", wanted.len()),
                _ => format!("no {}", wanted.join(" or ")),
            };
            let files = plural(self.logs.len() as u64, "file");
            let others = plural(self.others(), "other upstream error");
            let suspects = match summary.suspect {
                0 => String::new(),
                n => format!(", {}", plural(n, "suspect line")),
            };
            let others = if plan.only {
                String::new()
            } else {
                format!(", {others}")
            };
            return format!("{wanted} {when} ({files}{others}{suspects})");
        }
        let counts: Vec<_> = found
            .iter()
            .map(|cause| format!("{} of {cause}", summary.of(*cause)))
            .collect();
        let mut text = format!("{} {when}", counts.join(", "));
        // Writing to a String cannot fail.
        if let Some((minute, count)) = summary.peak {
            let _ = write!(text, ", peak {count} at {}", self.clock.short(minute));
        }
        if let Some((name, count)) = summary.upstreams.first() {
            let _ = write!(text, ", {} to {name}", share(*count, summary.count));
        }
        if let Some(first) = found.first() {
            let _ = write!(text, " ({})", first.meaning());
        }
        text
    }

    /// The counted causes that were found and those beyond limits of their own, the most frequent first.
    pub(super) fn found(&self) -> Vec<Cause> {
        let beyond = |cause: Cause| {
            let mut limits = self.plan.also.iter().filter(|also| also.cause == cause);
            limits.any(|also| also.judge(self.summary) != State::Ok)
        };
        let mut found: Vec<_> = Cause::ALL
            .into_iter()
            .filter(|&cause| {
                (self.plan.counted.has(cause) && self.summary.of(cause) > 0) || beyond(cause)
            })
            .collect();
        found.sort_by_key(|cause| std::cmp::Reverse(self.summary.of(*cause)));
        found
    }

    fn when(&self) -> String {
        let window = self.plan.window;
        if window.moves {
            format!("in the last {}", span(window.length()))
        } else {
            let second = |at| self.clock.second(at).replace('T', " ");
            format!(
                "from {} to {}",
                second(window.from + 1),
                second(window.to + 1)
            )
        }
    }

    /// Upstream errors beside the counted ones.
    fn others(&self) -> u64 {
        Cause::ALL
            .into_iter()
            .filter(|cause| !self.plan.counted.has(*cause) && *cause != Cause::ListenConflict)
            .map(|cause| self.summary.of(cause))
            .sum()
    }

    fn metrics(&self) -> Vec<Metric> {
        let Self { plan, summary, .. } = self;
        let limits = plan.thresholds;
        let peak = summary.peak.map_or(0, |(_, count)| count);
        let bytes: u64 = self.logs.iter().map(|log| log.seen.bytes).sum();
        let mut metrics = vec![
            Metric::count("count", summary.count).limits(limits.count.0, limits.count.1),
            Metric::count("per_minute_peak", peak).limits(limits.per_minute.0, limits.per_minute.1),
            Metric::count("connections", summary.connections),
        ];
        // What was not looked for is left out, not nought.
        metrics.extend(plan.wanted().iter().map(|cause| {
            let metric = Metric::count(cause.label(), summary.of(cause));
            match plan.also.iter().find(|also| also.cause == cause) {
                Some(also) => metric.limits(also.limits.0, also.limits.1),
                None => metric,
            }
        }));
        metrics.push(Metric::count("suspect", summary.suspect));
        metrics.push(Metric::count("unparsed", summary.unparsed));
        metrics.push(Metric::count("bytes_read", bytes).unit(Unit::Bytes));
        metrics
    }

    /// One for each counted cause that was found, the most frequent first.
    fn findings(&self, state: State) -> Vec<Finding> {
        let summary = self.summary;
        let of_its_own = |cause| {
            let also = self.plan.also.iter().filter(|also| also.cause == cause);
            also.map(|also| also.judge(summary)).reduce(verdict::worse)
        };
        self.found()
            .into_iter()
            .map(|cause| {
                let client = self
                    .dialect
                    .client_sees(cause)
                    .map_or_else(String::new, |status| format!("; clients get {status}"));
                Finding {
                    cause: cause.name(),
                    state: of_its_own(cause)
                        .filter(|_| !self.plan.counted.has(cause))
                        .unwrap_or(state),
                    text: format!("{} {cause}: {}{client}", summary.of(cause), cause.meaning()),
                    advice: self.dialect.advice(cause).to_owned(),
                }
            })
            .collect()
    }

    fn lines(&self, report: &mut Report) {
        let Self { summary, clock, .. } = self;
        if let Some((first, last)) = summary.span {
            let capped = if summary.connections_capped {
                "at least "
            } else {
                ""
            };
            // Only nginx numbers them.
            let connections = match summary.connections {
                0 => String::new(),
                n => format!(", {capped}{} affected", plural(n, "client connection")),
            };
            report.line(
                0,
                format!(
                    "first {}, last {}{connections}",
                    clock.second(first).replace('T', " "),
                    clock.second(last).replace('T', " "),
                ),
            );
        }
        for (name, kind) in [
            ("upstreams", Kind::Upstream),
            ("servers", Kind::Server),
            ("clients", Kind::Client),
            ("paths", Kind::Uri),
        ] {
            let list = summary.list(kind);
            if !list.is_empty() {
                let level = u8::from(matches!(kind, Kind::Client | Kind::Uri));
                report.line(level, format!("{name}: {}", top(list, summary.count, 5)));
                report.line(2, format!("all {name}: {}", top(list, summary.count, 50)));
            }
        }
        self.listed(report);
        self.other_causes(report);
        if summary.suspect > 0 {
            report.line(
                0,
                format!(
                    "{} not counted: written by a request whose path holds a line feed",
                    plural(summary.suspect, "suspect line")
                ),
            );
        }
        if summary.unparsed > 0 {
            let lines = plural(summary.unparsed, "line");
            report.line(1, format!("{lines} of failures could not be read"));
        }
        if !self.plan.by.contains(&By::Minute) {
            self.minutes(1, report);
        }
        for found in self.correlations {
            match found {
                Ok(found) => beside(found, report),
                Err(error) => report.line(0, format!("{error:#}")),
            }
        }
        for log in self.logs {
            self.about(log, report);
        }
        for note in self.notes.iter().chain(self.explained) {
            report.line(0, note.clone());
        }
    }

    /// One line for each minute with an event, and a bar.
    fn minutes(&self, level: u8, report: &mut Report) {
        let minutes = &self.summary.minutes;
        let most = self.summary.peak.map_or(1, |(_, count)| count.max(1));
        let skipped = minutes.len().saturating_sub(MINUTES);
        for (minute, count) in minutes.iter().skip(skipped) {
            let minute = self.clock.minute(*minute).replace('T', " ");
            report.line(level, format!("{minute} {count:>8} {}", bar(*count, most)));
        }
    }

    /// What `--by` asked for.
    fn listed(&self, report: &mut Report) {
        for by in &self.plan.by {
            let kind = match by {
                By::Upstream => Kind::Upstream,
                By::Server => Kind::Server,
                By::Client => Kind::Client,
                By::Uri => Kind::Uri,
                By::Minute => {
                    self.minutes(0, report);
                    continue;
                }
            };
            let list = self.summary.list(kind);
            let most = list.first().map_or(1, |(_, count)| *count);
            for (name, count) in list.iter().take(LISTED) {
                let share = share(*count, self.summary.count);
                let name = if name.is_empty() { "(no name)" } else { name };
                let bar = bar(*count, most);
                report.line(0, format!("{count:>8} {share:>14} {name} {bar}"));
            }
        }
    }

    fn other_causes(&self, report: &mut Report) {
        let mut others: Vec<_> = Cause::ALL
            .into_iter()
            .filter(|cause| !self.plan.counted.has(*cause) && self.summary.of(*cause) > 0)
            .collect();
        others.sort_by_key(|cause| std::cmp::Reverse(self.summary.of(*cause)));
        if others.is_empty() {
            return;
        }
        let words: Vec<_> = others
            .iter()
            .map(|cause| format!("{} {cause}", self.summary.of(*cause)))
            .collect();
        report.line(0, format!("beside: {}", words.join(", ")));
        for cause in others {
            let advice = self.dialect.advice(cause);
            let words = format!("{cause}: {}. {advice}", cause.meaning());
            report.line(1, words.trim_end().to_owned());
        }
    }

    fn about(&self, log: &Log, report: &mut Report) {
        let path = log.path.display();
        if let Some(error) = &log.error {
            report.line(0, format!("not read: {error}"));
            return;
        }
        let second = |at: Option<i64>| {
            at.map_or_else(
                || "-".to_owned(),
                |at| self.clock.second(at).replace('T', " "),
            )
        };
        let rotated = if log.rotated {
            ", earlier generations too"
        } else {
            ""
        };
        report.line(
            1,
            format!(
                "{path}: {} bytes read{rotated}, from {} to {}",
                log.seen.bytes,
                second(log.seen.first),
                second(log.seen.last)
            ),
        );
        if let Some(offset) = log.offset {
            report.line(
                0,
                format!(
                    "{path}: its newest line shows that its times are UTC{}, not this host's: --log-tz says it for sure",
                    zone::name(offset)
                ),
            );
        }
        let levels = log.seen.levels;
        let below = (Level::Low as u8) | (Level::Error as u8);
        if levels != 0 && levels & below == 0 {
            // nginx writes these with crit or worse, all others with error.
            let seen_at_crit = [
                Cause::BindInUse,
                Cause::NoFreePort,
                Cause::BindWrongAddress,
                Cause::Ipv6Unavailable,
                Cause::NoFileDescriptors,
                Cause::WorkerConnections,
                Cause::ListenConflict,
            ];
            let also = self.plan.also.iter().map(|also| also.cause);
            let mut asked = self.plan.counted.iter().chain(also);
            let hidden = asked.any(|cause| !seen_at_crit.contains(&cause));
            report.line(
                u8::from(!hidden),
                format!(
                    "{path}: no line below crit: where error_log is set to crit, refused, timeout and the like are not \
                     logged; to alert, no failed bind and connect either"
                ),
            );
        }
    }
}
