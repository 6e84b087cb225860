//! A report: state, words and numbers, and how they look as text and as JSON.

use std::fmt::Write;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::clean::{clean, cut};
use super::options::{Common, Format};
use super::window::Ticks;
use super::{Metric, Names, Run, State, munin, openmetrics};

/// The longest line of text. Icinga Web shows 1000 characters of an output in its lists.
const LINE_LIMIT: usize = 2000;

/// The longest text, in bytes: what a pipe holds, so that no plugin ever waits for its reader.
const TEXT_LIMIT: usize = 60 * 1024;

/// A cause that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Its name, in kebab case; part of the JSON interface.
    pub cause: &'static str,
    /// How bad it is.
    pub state: State,
    /// What was seen, with its numbers.
    pub text: String,
    /// What to do about it.
    pub advice: String,
}

/// What one round of a loop tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is counted, as in "probes".
    pub noun: &'static str,
    /// How many.
    pub tried: u64,
    /// How many of them failed.
    pub failed: u64,
    /// What came last, in a few words.
    pub last: String,
    /// When the results came.
    pub ticks: Ticks,
}

/// What a plugin has to say. Any text in it is cleaned when it is printed; nothing has to be cleaned before.
#[derive(Debug, Clone)]
pub struct Report {
    /// The state, which decides the exit code.
    pub state: State,
    /// The first line behind `NAME STATE: `.
    pub summary: String,
    /// The performance data; the same set in every run.
    pub metrics: Vec<Metric>,
    /// What was found, worst first. Shown below the first line.
    pub findings: Vec<Finding>,
    /// The number of `-v` from which on they are shown.
    pub findings_from: u8,
    /// What becomes of the report itself, as in `--submit`: findings that are always shown.
    pub notices: Vec<Finding>,
    /// Further lines, each with the number of `-v` from which on it is shown.
    pub lines: Vec<(u8, String)>,
    /// What a live line adds up over the rounds of a loop, where the plugin counts.
    pub progress: Option<Progress>,
    /// What the plugin's page in the documentation names under `details`.
    pub details: Value,
}

impl Report {
    /// A report with a first line only.
    pub fn new(state: State, summary: impl Into<String>) -> Self {
        Self {
            state,
            summary: summary.into(),
            metrics: Vec::new(),
            findings: Vec::new(),
            findings_from: 0,
            notices: Vec::new(),
            lines: Vec::new(),
            progress: None,
            details: json!({}),
        }
    }

    /// The report of a plugin that could not measure.
    pub fn unknown(error: &anyhow::Error) -> Self {
        Self::new(State::Unknown, format!("{error:#}"))
    }

    /// Adds a line that is shown from this number of `-v` on.
    pub fn line(&mut self, verbosity: u8, text: impl Into<String>) {
        self.lines.push((verbosity, text.into()));
    }

    /// The first line without performance data.
    pub fn headline(&self, name: &str) -> String {
        cut(
            clean(format!("{name} {}: {}", self.state, self.summary)),
            LINE_LIMIT,
        )
    }

    /// The whole report, as asked for, with a line feed at its end. `run` gives the times for the JSON form.
    pub fn render(&self, names: Names, options: &Common, run: Option<&Run>) -> String {
        match options.format {
            Format::Text => self.text(names.name, options.verbose),
            Format::Json => self.json(names, run),
            Format::Openmetrics => openmetrics::render(self, names, options.series.as_deref()),
            Format::Munin => munin::values(self, names, options.series.as_deref()),
            Format::MuninConfig => munin::config(self, names, options.series.as_deref()),
        }
    }

    /// The text form: first line and performance data, findings, details.
    pub fn text(&self, name: &str, verbosity: u8) -> String {
        let mut text = self.first_line(name);
        text.push('\n');
        let mut left_out = 0;
        for line in self.long_lines(verbosity) {
            if text.len() + line.len() < TEXT_LIMIT {
                text.push_str(&line);
                text.push('\n');
            } else {
                left_out += 1;
            }
        }
        if left_out > 0 {
            let _ = writeln!(text, "({left_out} more lines left out)");
        }
        text
    }

    fn long_lines(&self, verbosity: u8) -> impl Iterator<Item = String> {
        let shown = verbosity >= self.findings_from;
        let findings = self.findings.iter().filter(move |_| shown);
        let findings = findings.chain(&self.notices).flat_map(|finding| {
            let advice = (!finding.advice.is_empty()).then(|| format!("  {}", finding.advice));
            [
                Some(format!("[{}] {}", finding.state, finding.text)),
                advice,
            ]
        });
        let lines = self
            .lines
            .iter()
            .filter(move |(from, _)| *from <= verbosity)
            .map(|(_, line)| Some(line.clone()));
        findings
            .chain(lines)
            .flatten()
            .map(|line| cut(clean(line), LINE_LIMIT))
    }

    /// Text and performance data through the nagiosplugin crate; its "NAME is STATE: " is replaced by the
    /// "NAME STATE: " that check_http prints.
    fn first_line(&self, name: &str) -> String {
        let mut resource = nagiosplugin::Resource::new(name).with_fixed_state(self.state);
        for metric in self.metrics.iter().filter(|metric| metric.is_known()) {
            resource.push_result(nagiosplugin::CheckResult::new().with_perf_data(metric));
        }
        let (_, rendered) = resource.nagios_result();
        let headline = self.headline(name);
        match rendered.split_once('|') {
            Some((_, perfdata)) => format!("{}|{perfdata}", headline.trim_end()),
            None => headline,
        }
    }

    /// The JSON form: one document in one line.
    pub fn json(&self, names: Names, run: Option<&Run>) -> String {
        let finished = Timestamp::now();
        let started = run.map_or(finished, Run::started);
        let findings: Vec<_> = self
            .findings
            .iter()
            .chain(&self.notices)
            .map(|f| json!({"cause": f.cause, "state": f.state.to_string(), "text": clean(&f.text), "advice": clean(&f.advice)}))
            .collect();
        let metrics = self.metrics.iter().filter(|metric| metric.is_known());
        let mut details = self.details.clone();
        clean_strings(&mut details);
        let document = json!({
            "plugin": names.binary,
            "version": env!("CARGO_PKG_VERSION"),
            "state": self.state.to_string(),
            "exit_code": self.state.exit_code(),
            "summary": self.headline(names.name),
            "started": local_time(started),
            "finished": local_time(finished),
            "perfdata": metrics.map(Metric::to_json).collect::<Vec<_>>(),
            "findings": findings,
            "details": details,
        });
        format!("{document}\n")
    }
}

/// The zone of this host. With a name given in `TZ` the whole database would be looked through for it, and without
/// one for that of `/etc/localtime`, which takes longer than all else in a short run: that file alone does.
pub fn local_zone() -> TimeZone {
    let named = std::env::var_os("TZ").is_some_and(|zone| !zone.is_empty());
    let file = || {
        std::fs::read("/etc/localtime")
            .ok()
            .filter(|bytes| !bytes.is_empty())
    };
    let read = if named { None } else { file() };
    read.and_then(|bytes| TimeZone::tzif("local", &bytes).ok())
        .unwrap_or_else(TimeZone::system)
}

/// RFC 3339 with milliseconds and the offset of the local time zone.
pub fn local_time(time: Timestamp) -> String {
    static ZONE: LazyLock<TimeZone> = LazyLock::new(local_zone);
    time.to_zoned(ZONE.clone())
        .strftime("%Y-%m-%dT%H:%M:%S%.3f%:z")
        .to_string()
}

/// A document may be printed on a terminal as well, and its strings end in web pages.
fn clean_strings(value: &mut Value) {
    match value {
        Value::String(text) => *text = clean(&text),
        Value::Array(items) => items.iter_mut().for_each(clean_strings),
        Value::Object(fields) => fields.values_mut().for_each(clean_strings),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{Range, Unit};

    #[test]
    fn the_first_line_has_state_words_and_numbers() {
        let mut report = Report::new(State::Warning, "3 of 20 probes failed");
        report.metrics.push(
            Metric::seconds("time", 0.0123).limits(Some(Range::up_to(0.5)), "1:".parse().ok()),
        );
        report.metrics.push(Metric::new("unknown", f64::NAN));
        report
            .metrics
            .push(Metric::new("size", 615.0).unit(Unit::Bytes).min(0.0));
        report.line(0, "always");
        report.line(2, "with -vv");
        let first =
            "HTTP WARNING: 3 of 20 probes failed|'time'=0.0123s;0.5;1:;0; 'size'=615B;;;0;\n";
        assert_eq!(report.text("HTTP", 0), format!("{first}always\n"));
        assert_eq!(report.text("HTTP", 2), format!("{first}always\nwith -vv\n"));
    }

    #[test]
    fn findings_may_wait_to_be_asked_for() {
        let mut report = Report::new(State::Critical, "down");
        report.findings_from = 1;
        report.findings.push(Finding {
            cause: "down",
            state: State::Critical,
            text: "all of it".to_owned(),
            advice: "mend it".to_owned(),
        });
        assert_eq!(report.text("HTTP", 0), "HTTP CRITICAL: down\n");
        let long = "HTTP CRITICAL: down\n[CRITICAL] all of it\n  mend it\n";
        assert_eq!(report.text("HTTP", 1), long);
    }

    #[test]
    fn outside_text_cannot_forge_performance_data_or_lines() {
        let mut report = Report::new(State::Ok, "HTTP/1.1 200 |time=0s\r\nHTTP OK: forged");
        report.metrics.push(Metric::count("a'b=c|d", 1));
        report.line(0, "x|y=1\nz");
        let text = report.text("HTTP", 0);
        assert_eq!(text.matches('|').count(), 1, "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("|'a_b_c_d'=1;;;0;\n"), "{text}");
    }

    #[test]
    fn an_endless_report_is_cut_and_says_so() {
        let mut report = Report::new(State::Ok, "x".repeat(10_000));
        (0..10_000).for_each(|n| report.line(0, format!("line {n} {}", "y".repeat(100))));
        let text = report.text("HTTP", 0);
        assert!(text.len() < 64 * 1024 && text.ends_with(" more lines left out)\n"));
        assert!(text.lines().next().unwrap().chars().count() == LINE_LIMIT);
    }
}
