//! What was found for failed probes, and what was not, in words and for the JSON document. No I/O.

use serde_json::{Value, json};

use super::journal::Journalled;
use super::wanted::{Line, Sought, Wanted};
use crate::plugin::clean::clean_cut;
use crate::plugin::{Metric, Report, State};

/// How many probes are told with their lines; with `-v` all.
const SHOWN: usize = 10;

/// How many of those without a line are named.
const NAMED: usize = 3;

/// What makes a probe's line one that can be found. The same as in `docs/check_http_retry.md`.
const HINT: [&str; 3] = [
    "what makes them findable, in nginx' http block:",
    "  log_format probes '$remote_addr:$remote_port [$time_local] $status $http_x_request_id \"$request\"';",
    "  access_log /var/log/nginx/probes.log probes;",
];

/// What became of a search.
#[derive(Debug)]
pub struct Findings {
    /// The logs that were searched.
    pub logs: Vec<String>,
    /// Those that could not be, and why.
    pub trouble: Vec<String>,
    /// How much was read of them.
    pub bytes: u64,
    /// Whether the run had to end before all was read.
    pub cut_short: bool,
    /// The probes and their lines.
    pub wanted: Wanted,
}

impl Findings {
    /// Adds it to the report of the run whose probes these are, in the order of the document's `failures`.
    pub fn tell(&self, left_out: u64, report: &mut Report) {
        self.lines(left_out, report);
        if let Some(failures) = report.details["failures"].as_array_mut() {
            for (entry, (_, lines)) in failures.iter_mut().zip(self.wanted.all()) {
                entry["log"] = logged(lines);
            }
        }
        report.details["find"] = self.numbers();
    }

    /// The report on the failed probes of a journal.
    pub fn report(&self, journal: &Journalled) -> Report {
        let (found, sent) = self.found();
        let state = if self.wanted.missing() == 0 && self.trouble.is_empty() && !self.cut_short {
            State::Ok
        } else {
            State::Warning
        };
        let failed = self.wanted.all().len() as u64 + journal.left_out;
        let text = format!(
            "{found} of {sent} failed probes found in {}; {failed} of {} probes in the journal failed",
            self.searched(),
            journal.probes
        );
        let mut report = Report::new(state, text);
        report.metrics = vec![
            Metric::count("attempts", journal.probes),
            Metric::count("failed", failed),
            Metric::count("found", found).max(sent as f64),
        ];
        self.lines(journal.left_out, &mut report);
        if journal.torn > 0 {
            report.line(
                0,
                format!("{} lines of the journal are no whole records", journal.torn),
            );
        }
        let failures: Vec<_> = self
            .wanted
            .all()
            .iter()
            .map(|(sought, lines)| {
                json!({
                    "at": sought.at,
                    "kind": sought.kind,
                    "status": sought.status,
                    "local": sought.client.map(|client| client.to_string()),
                    "request_id": sought.ids.first(),
                    "log": logged(lines),
                })
            })
            .collect();
        report.details = json!({
            "attempts": journal.probes,
            "failed": failed,
            "failures": failures,
            "failures_left_out": journal.left_out,
            "find": self.numbers(),
        });
        report
    }

    fn lines(&self, left_out: u64, report: &mut Report) {
        for why in &self.trouble {
            report.line(0, format!("--find: {why}"));
        }
        let with_lines = |(_, lines): &&(Sought, Vec<Line>)| !lines.is_empty();
        for (at, (sought, lines)) in self.wanted.all().iter().filter(with_lines).enumerate() {
            let verbosity = u8::from(at >= SHOWN);
            for line in lines {
                report.line(
                    verbosity,
                    format!(
                        "{}: by its {} in {}",
                        name(sought),
                        line.by.words(),
                        line.log
                    ),
                );
                report.line(verbosity, format!("  {}", line.text));
            }
        }
        let found = self.wanted.all().iter().filter(with_lines).count();
        if found > SHOWN {
            report.line(0, format!("({} more with -v)", found - SHOWN));
        }
        self.what_is_missing(report);
        if left_out > 0 {
            report.line(
                0,
                format!("({left_out} more failed probes were not kept, and not searched for)"),
            );
        }
        if self.cut_short {
            report.line(
                0,
                "--find: the run had to end before all was read: see --deadline",
            );
        }
    }

    fn what_is_missing(&self, report: &mut Report) {
        let without = |(_, lines): &&(Sought, Vec<Line>)| lines.is_empty();
        let (sent, unsent): (Vec<_>, Vec<_>) = self
            .wanted
            .all()
            .iter()
            .filter(without)
            .map(|(sought, _)| sought)
            .partition(|sought| sought.was_sent());
        if !unsent.is_empty() {
            report.line(
                0,
                format!(
                    "{} of {} failed before a request was on its way, so that no access log has them: {}",
                    unsent.len(),
                    self.wanted.all().len(),
                    listed(&unsent)
                ),
            );
        }
        if sent.is_empty() || self.logs.is_empty() {
            return;
        }
        report.line(
            0,
            format!(
                "{} of {} failed probes are in no line of {}: {}",
                sent.len(),
                self.wanted.all().len(),
                self.searched(),
                listed(&sent)
            ),
        );
        for hint in HINT {
            report.line(0, hint);
        }
    }

    /// How many have a line, of how many that should have one.
    fn found(&self) -> (u64, u64) {
        let all = self.wanted.all().iter();
        let sent = all.filter(|(sought, lines)| sought.was_sent() || !lines.is_empty());
        let sent = sent.count();
        ((sent - self.wanted.missing()) as u64, sent as u64)
    }

    fn searched(&self) -> String {
        clean_cut(self.logs.join(", "), 200)
    }

    fn numbers(&self) -> Value {
        let (found, sent) = self.found();
        json!({
            "logs": self.logs,
            "trouble": self.trouble,
            "bytes_read": self.bytes,
            "wanted": sent,
            "found": found,
        })
    }
}

fn logged(lines: &[Line]) -> Value {
    let entry = |line: &Line| json!({"file": line.log, "line": line.text, "by": line.by.name()});
    lines.iter().map(entry).collect()
}

/// A probe in a few words.
fn name(sought: &Sought) -> String {
    let status = sought.status.map(|status| format!(" {status}"));
    format!(
        "{} {}{}",
        sought.at,
        sought.kind,
        status.unwrap_or_default()
    )
}

fn listed(probes: &[&Sought]) -> String {
    let named: Vec<_> = probes
        .iter()
        .take(NAMED)
        .map(|sought| name(sought))
        .collect();
    let more = if probes.len() > NAMED { ", …" } else { "" };
    named.join(", ") + more
}
