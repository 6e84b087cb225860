//! A failing probe beside a good one: what differs, and what does not. No I/O.

use std::time::Duration;

use super::har;
use super::mask::Mask;
use crate::http::probe::{Phases, Probe};
use crate::plugin::clean::clean_cut;
use crate::plugin::report::local_time;

/// How much of a header's value is shown.
const VALUE: usize = 80;

/// The most header lines of each that are compared.
const HEADERS: usize = 100;

/// Headers in which proxies and backends name themselves.
const BACKENDS: [&str; 12] = [
    "server",
    "via",
    "x-served-by",
    "x-upstream",
    "x-upstream-addr",
    "x-backend",
    "x-backend-server",
    "x-server",
    "x-node",
    "x-cache",
    "x-varnish",
    "cf-ray",
];

/// Headers that differ from reply to reply by their nature.
const RESTLESS: [&str; 8] = [
    "date",
    "age",
    "x-request-id",
    "x-correlation-id",
    "x-trace-id",
    "traceparent",
    "etag",
    "cf-ray",
];

/// Phases are alike within this, or within twice the shorter one.
const ALIKE: Duration = Duration::from_millis(1);

/// What is said of two probes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What differs, one thing each.
    pub differs: Vec<String>,
    /// What does not.
    pub same: Vec<String>,
}

impl Comparison {
    fn say(&mut self, what: &str, failed: &str, good: &str) {
        if failed == good {
            self.same.push(format!("{what} {failed}"));
        } else {
            self.differs.push(format!("{what}: {failed}, good {good}"));
        }
    }
}

/// The lines for the report and for an entry.
pub fn lines(paths: &[String], failed: &Probe, good: &Probe, mask: Option<&Mask>) -> Vec<String> {
    let comparison = compare(paths, failed, good, mask);
    let mut lines = vec![format!(
        "compared with the good probe of {}{}{}:",
        local_time(good.at),
        from_to(good),
        good.request_id
            .as_ref()
            .map_or(String::new(), |id| format!(" request id {id}")),
    )];
    lines.extend(
        comparison
            .differs
            .iter()
            .map(|what| format!("  differs: {what}")),
    );
    if comparison.differs.is_empty() {
        lines.push("  differs: nothing".to_owned());
    }
    lines.push(format!("  same: {}", comparison.same.join(", ")));
    lines
}

fn from_to(probe: &Probe) -> String {
    match (probe.local, probe.remote) {
        (Some(local), Some(remote)) => format!(" from {local} to {remote}"),
        _ => String::new(),
    }
}

/// Holds them against each other.
pub fn compare(paths: &[String], failed: &Probe, good: &Probe, mask: Option<&Mask>) -> Comparison {
    let mut all = Comparison::default();
    if paths.len() > 1 {
        let path = |probe: &Probe| {
            let name = paths.get(probe.path).map_or("", String::as_str);
            clean_cut(name, VALUE)
        };
        all.say("path", &path(failed), &path(good));
    }
    let remote = |probe: &Probe| probe.remote.map_or("none".to_owned(), |a| a.to_string());
    all.say("server", &remote(failed), &remote(good));
    let (failed_line, failed_headers) = head(failed, mask);
    let (good_line, good_headers) = head(good, mask);
    let line = |line: &str| match line.trim() {
        "" => "no reply".to_owned(),
        line => clean_cut(line, VALUE),
    };
    all.say("status", &line(&failed_line), &line(&good_line));
    phases(&mut all, &failed.phases, &good.phases);
    if !failed.head.is_empty() {
        let size = |probe: &Probe| format!("{} bytes", probe.size);
        all.say("length", &size(failed), &size(good));
        headers(&mut all, &failed_headers, &good_headers);
    }
    all
}

fn head(probe: &Probe, mask: Option<&Mask>) -> (String, Vec<(String, String)>) {
    let mut head = probe.head.clone();
    if let Some(mask) = mask {
        let mut mask = mask.clone();
        mask.learn(&head);
        mask.apply(&mut head);
    }
    har::head(&head)
}

fn phases(all: &mut Comparison, failed: &Phases, good: &Phases) {
    let ms = |duration: Duration| format!("{:.2} ms", duration.as_secs_f64() * 1e3);
    let names = Phases::NAMES
        .iter()
        .zip(failed.in_order().into_iter().zip(good.in_order()));
    for (name, phases) in names {
        match phases {
            (Some(failed), Some(good)) => {
                let (short, long) = (failed.min(good), failed.max(good));
                if long <= (short * 2).max(short + ALIKE) {
                    all.same
                        .push(format!("{name} {} and {}", ms(failed), ms(good)));
                } else {
                    let text = format!("{name}: {}, good {}", ms(failed), ms(good));
                    all.differs.push(text);
                }
            }
            (None, Some(good)) => all
                .differs
                .push(format!("{name}: not reached, good {}", ms(good))),
            (Some(failed), None) => all
                .differs
                .push(format!("{name}: {}, good none", ms(failed))),
            (None, None) => {}
        }
    }
}

fn headers(all: &mut Comparison, failed: &[(String, String)], good: &[(String, String)]) {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in failed.iter().take(HEADERS).chain(good.iter().take(HEADERS)) {
        let name = name.to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut same = Vec::new();
    for name in names {
        let of = |headers: &[(String, String)]| {
            let values: Vec<_> = headers
                .iter()
                .filter(|(other, _)| other.eq_ignore_ascii_case(&name))
                .map(|(_, value)| clean_cut(value, VALUE))
                .collect();
            (!values.is_empty()).then(|| values.join(", "))
        };
        let backend = BACKENDS.contains(&&*name);
        let what = if backend { "backend header" } else { "header" };
        let shown = clean_cut(&name, VALUE);
        match (of(failed), of(good)) {
            (Some(failed), Some(good)) if failed == good && backend => {
                all.same.push(format!("{what} {shown} '{good}'"));
            }
            (Some(failed), Some(good)) if failed == good || RESTLESS.contains(&&*name) => {
                same.push(shown);
            }
            (Some(failed), Some(good)) => {
                let text = format!("{what} {shown}: '{failed}', good '{good}'");
                all.differs.push(text);
            }
            (Some(failed), None) => {
                all.differs
                    .push(format!("{what} {shown}: '{failed}', good has none"));
            }
            (None, Some(good)) => all
                .differs
                .push(format!("{what} {shown}: none, good '{good}'")),
            (None, None) => {}
        }
    }
    if !same.is_empty() {
        all.same.push(format!("headers {}", same.join(" ")));
    }
}
