//! Plan, summary and verdict to a report. No I/O.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::checks::Size;
use super::details::details;
use super::paths::Ways;
use super::plan::Plan;
use super::probe::{Kind, Phases, Probe};
use super::shown::{chain, compared, evidence, shown_things};
use super::summary::Summary;
use super::verdict::{self, Verdict};
use super::{by_path, path_numbers, reused};
use crate::plugin::clean::clean_cut;
use crate::plugin::metric::{percent, plain};
use crate::plugin::report::local_time;
use crate::plugin::{Finding, Metric, Progress, Report, State, Unit};
use crate::stats::Rate;

/// How much of a server's words is shown: a status line may be as long as a header block.
pub const WORDS_LIMIT: usize = 300;

/// How many failed probes are shown with `-v`; with `-vv` all that were kept.
const SHOWN: usize = 10;

/// How many of each path, whatever the others fill.
const SHOWN_OF_EACH: usize = 3;

/// Puts it into words and numbers.
pub fn render(plan: &Plan, summary: &Summary, verdict: Verdict) -> Report {
    let mut report = Report::new(verdict.state, first_line(plan, summary, verdict));
    let shown = summary.shown(verdict);
    report.metrics = metrics(plan, summary, shown);
    report.findings = findings(plan, summary, verdict);
    // Of a single probe, the first line has said it all.
    let single = plan.pace.attempts == Some(1) && summary.trouble.is_none();
    report.findings_from = u8::from(single && !plan.show.exchange);
    if plan.show.details {
        report.details = details(plan, summary, shown);
    }
    shown_things(&mut report, plan, shown);
    chain(&mut report, shown);
    if plan.show.exchange {
        evidence(&mut report, plan, summary);
    }
    report.progress = Some(Progress {
        noun: "probes",
        tried: summary.attempts,
        failed: summary.failed,
        last: summary.last.clone(),
        ticks: summary.ticks.clone(),
    });
    lines(&mut report, plan, summary);
    compared(&mut report, plan, summary);
    report
}

fn first_line(plan: &Plan, summary: &Summary, verdict: Verdict) -> String {
    let mut parts = Vec::new();
    if let Some(trouble) = &summary.trouble {
        parts.push(clean_cut(trouble, WORDS_LIMIT));
    }
    if summary.attempts == 0 {
        if summary.trouble.is_none() {
            parts.push(nothing_measured(plan, summary));
        }
        return parts.join(" - ");
    }
    let single = plan.probes() == Some(1) && summary.attempts == 1;
    if let Some(probe) = summary.shown(verdict) {
        let good = probe.kind.is_none_or(|kind| kind == Kind::Slow);
        parts.push(clean_cut(
            if single || good {
                probe.headline()
            } else {
                probe.words.clone()
            },
            WORDS_LIMIT,
        ));
    }
    parts.extend(slow(plan, summary));
    let mut line = parts.join(" - ");
    if !single {
        // check_http ends its words on a certificate with a full stop.
        line.truncate(line.trim_end_matches('.').len());
        // Writing to a String cannot fail.
        let _ = match summary.failed {
            0 => write!(line, ", {}", good(plan, summary)),
            _ if plan.paths.len() > 1 => write!(line, " - {}", by_path::headline(plan, summary)),
            _ => write!(
                line,
                " - {}{}, {}",
                failed_of(summary),
                by_path::only(plan),
                summary.verdict()
            ),
        };
    }
    line += &reused::headline(plan, summary);
    if let Some(end) = summary.end {
        let _ = write!(line, ", ended early by {}", end.words());
    }
    if let Some(path) = summary.evidence.newest() {
        let path = path.as_os_str().as_bytes();
        let _ = write!(line, ", evidence in {}", clean_cut(path, WORDS_LIMIT));
    }
    line
}

fn nothing_measured(plan: &Plan, summary: &Summary) -> String {
    let end = summary.end.map_or("its end", |end| end.words());
    let limit = plan.timeout.map_or(String::new(), |limit| {
        format!(" (each may take {} s, see -t)", plain(limit.as_secs_f64()))
    });
    format!(
        "no probe came to an end before {end}: {} under way{limit}",
        summary.cut_off
    )
}

/// `200 of 200 probes good over 3 paths`
fn good(plan: &Plan, summary: &Summary) -> String {
    let good = format!("{0} of {0} probes good", summary.attempts);
    match plan.paths.len() {
        1 => good,
        paths => format!("{good} over {paths} paths"),
    }
}

/// ` (1.5 %, 95 % interval 0.5-4.3 %)`
pub(super) fn rate_text(rate: &Rate) -> String {
    format!(
        " ({} %, 95 % interval {}-{} %)",
        percent(rate.estimate),
        percent(rate.low),
        percent(rate.high)
    )
}

/// `3 of 200 probes failed (1.5 %, 95 % interval 0.5-4.3 %)`
fn failed_of(summary: &Summary) -> String {
    let rate = summary.rate.as_ref().map_or(String::new(), rate_text);
    format!(
        "{} of {} probes failed{rate}",
        summary.failed, summary.attempts
    )
}

fn metrics(plan: &Plan, summary: &Summary, probe: Option<&Probe>) -> Vec<Metric> {
    let limits = plan.checks.run_time;
    let seconds =
        |label: String, value: Option<f64>| Metric::seconds(label, value.unwrap_or(f64::NAN));
    let timed = probe.filter(|probe| probe.is_timed());
    let mut time = seconds(
        "time".to_owned(),
        timed.map(|probe| probe.elapsed.as_secs_f64()),
    );
    if let Some(timeout) = plan.timeout {
        time = time.max(timeout.as_secs_f64());
    }
    let bytes = probe.map(|probe| probe.size).filter(|size| *size > 0);
    let size = Metric::new("size", bytes.map_or(f64::NAN, |size| size as f64))
        .unit(Unit::Bytes)
        .limits(plan.checks.size.and_then(Size::as_range), None)
        .min(0.0);
    let mut metrics = vec![time.limits(limits.warning, limits.critical), size];
    if plan.show.phases {
        metrics.extend(extended(plan, probe));
    }
    let attempts = summary.attempts as f64;
    metrics.push(Metric::count("attempts", summary.attempts));
    metrics.push(
        Metric::count("failed", summary.failed)
            .limits(
                plan.failures.warning.map(|limit| limit.as_count(attempts)),
                plan.failures.critical.map(|limit| limit.as_count(attempts)),
            )
            .max(attempts),
    );
    let rate = summary.rate.map_or(f64::NAN, |rate| rate.estimate * 100.0);
    metrics.push(Metric::percent("failure_rate", rate));
    let latency = summary.latency;
    for (label, value) in [
        ("time_p50", latency.map(|latency| latency.p50)),
        ("time_p95", latency.map(|latency| latency.p95)),
        ("time_p99", latency.map(|latency| latency.p99)),
        ("time_max", latency.map(|latency| latency.max)),
    ] {
        metrics.push(seconds(label.to_owned(), value));
    }
    let limits = plan.checks.run_phases.in_order();
    for ((name, phase), limits) in Phases::NAMES.iter().zip(&summary.phases).zip(limits) {
        let metric = seconds(format!("{name}_p95"), phase.map(|[_, p95, _]| p95));
        metrics.push(metric.limits(limits.warning, limits.critical));
    }
    metrics.extend(reused::metrics(plan, summary));
    if plan.ways != Ways::One {
        metrics.extend(path_numbers::metrics(plan, summary));
    }
    metrics
}

/// What `-E` adds, by the labels of `check_http`: the phases of the probe that the first line speaks of.
fn extended(plan: &Plan, probe: Option<&Probe>) -> Vec<Metric> {
    let phases = probe.map(|probe| probe.phases).unwrap_or_default();
    let connect = phases
        .connect
        .map(|connect| connect + phases.dns.unwrap_or(Duration::ZERO));
    let wait = phases.first_byte.zip(phases.send);
    let wait = wait.map(|(first, send)| first.saturating_sub(send));
    // There it begins with the request on its way, not with the reply's first byte.
    let transfer = wait.zip(phases.transfer).map(|(wait, rest)| wait + rest);
    [
        ("time_connect", connect),
        ("time_ssl", phases.tls),
        ("time_headers", phases.send),
        ("time_firstbyte", wait),
        ("time_transfer", transfer),
    ]
    .into_iter()
    .map(|(label, duration)| {
        let seconds = duration.map_or(f64::NAN, |duration| duration.as_secs_f64());
        let metric = Metric::new(label, seconds).unit(Unit::Seconds);
        match plan.timeout {
            Some(timeout) => metric.max(timeout.as_secs_f64()),
            None => metric,
        }
    })
    .collect()
}

fn findings(plan: &Plan, summary: &Summary, verdict: Verdict) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(trouble) = &summary.trouble {
        findings.push(Finding {
            cause: "own-host",
            state: State::Unknown,
            text: format!(
                "this host could not go on after {} probes: {trouble}",
                summary.attempts
            ),
            advice: "this says nothing about the server: free what is short here and run it again"
                .to_owned(),
        });
    }
    if summary.failed > 0 {
        findings.push(Finding {
            cause: match summary.verdict() {
                "down" => "down",
                _ => "intermittent-failure",
            },
            state: verdict.failures,
            text: failures_text(summary),
            advice: advice(summary).to_owned(),
        });
    }
    if plan.paths.len() > 1 {
        findings.extend(by_path::findings(plan, summary));
    }
    if let (Some(text), Some(state)) = (slow(plan, summary), verdict.percentile) {
        findings.push(Finding {
            cause: "slow",
            state,
            text,
            advice: "the phases (-v) tell the network, the proxy and the backend apart".to_owned(),
        });
    }
    findings
}

/// What of the asked-for percentile is outside of its range: `p95 of the times 0.31 s, of the first byte 0.2 s`.
fn slow(plan: &Plan, summary: &Summary) -> Option<String> {
    let percent = plan.percentile?;
    let beyond: Vec<_> = verdict::beyond(plan, summary)
        .map(|(name, seconds, _)| format!("of the {name} {} s", plain(seconds)))
        .collect();
    (!beyond.is_empty()).then(|| format!("p{} {}", plain(percent), beyond.join(", ")))
}

#[cold]
fn failures_text(summary: &Summary) -> String {
    let kinds: Vec<_> = summary
        .kinds
        .iter()
        .map(|(kind, count)| {
            let example = summary
                .failures
                .iter()
                .find(|probe| probe.kind == Some(*kind));
            let words = example.map_or(String::new(), |probe| {
                format!(" ({})", clean_cut(&probe.words, 100))
            });
            format!("{count} {}{words}", kind.name())
        })
        .collect();
    let first = summary.failures.first().map(|probe| local_time(probe.at));
    let last = summary.failures.last().map(|probe| local_time(probe.at));
    let when = match (first, last) {
        (Some(first), Some(last)) if first != last => format!(", first {first}, last {last}"),
        (Some(first), _) => format!(", at {first}"),
        _ => String::new(),
    };
    format!("{}: {}{when}", failed_of(summary), kinds.join(", "))
}

/// What to do about the kind that came most.
#[cold]
fn advice(summary: &Summary) -> &'static str {
    let most = summary.kinds.iter().max_by_key(|(_, count)| **count);
    let intermittent = summary.verdict() == "intermittent";
    match most.map(|(kind, _)| *kind) {
        Some(Kind::Http5xx) if intermittent => {
            "a proxy that now and then finds no client port to its backend answers just so: run check_port_exhaustion \
             and check_nginx_upstream_bind on it, and look for the request ids in its log"
        }
        Some(Kind::Http5xx) => "look into the error log of the proxy and of the backend",
        Some(Kind::Dns) => "ask each of the name servers in /etc/resolv.conf for the name",
        Some(Kind::Refused) => "nobody listens at that address and port, or a firewall rejects it",
        Some(Kind::Unreachable) => "look at the routes to that address",
        Some(Kind::ConnectTimeout) => {
            "packets are dropped on the way, or the server's queue of new connections is full (nstat -az TcpExtListenDrops)"
        }
        Some(Kind::Tls) => {
            "compare with openssl s_client -connect; a plain http port answers like this as well"
        }
        Some(Kind::Certificate) => "renew the certificate, and reload the server that shows it",
        Some(Kind::Timeout | Kind::Slow) => {
            "the phases (-v) tell the network, the proxy and the backend apart"
        }
        Some(Kind::Proxy) => {
            "look into the proxy's log, and whether its rules allow the server and its port"
        }
        Some(Kind::Reset | Kind::Closed | Kind::Truncated) => {
            "the connection broke at the server or on the way: search its log for the client ports (-v)"
        }
        _ => "",
    }
}

fn lines(report: &mut Report, plan: &Plan, summary: &Summary) {
    let waited = plain((summary.waited.as_secs_f64() * 1e3).round() / 1e3);
    if summary.excused > 0 {
        report.line(
            0,
            format!(
                "{} of {} probes are not counted as slow: they waited for a CPU of this host, one of them {waited} s",
                summary.excused, summary.attempts
            ),
        );
    } else if plan.percentile.is_some() && waited != "0" {
        report.line(
            1,
            format!("the percentile is judged without what probes waited for a CPU of this host, up to {waited} s"),
        );
    }
    if let Some(Rate { high, .. }) = summary.rate.filter(|_| summary.failed == 0) {
        report.line(
            u8::from(summary.attempts == 1),
            format!(
                "no failure in {} probes rules out a failure rate above {} % (with 95 % confidence){}",
                summary.attempts,
                percent(high),
                by_path::ruled_out(plan, summary)
            ),
        );
    }
    reused::lines(report, plan, summary);
    if plan.ways != Ways::One {
        path_numbers::lines(report, plan, summary);
    }
    if let Some(l) = &summary.latency {
        report.line(
            1,
            format!(
                "times: min {} p50 {} p90 {} p95 {} p99 {} max {} ms",
                millis(l.min),
                millis(l.p50),
                millis(l.p90),
                millis(l.p95),
                millis(l.p99),
                millis(l.max)
            ),
        );
    }
    for (name, phase) in Phases::NAMES.iter().zip(&summary.phases) {
        if let Some([p50, p95, max]) = phase {
            report.line(
                1,
                format!(
                    "{name}: p50 {} p95 {} max {} ms",
                    millis(*p50),
                    millis(*p95),
                    millis(*max)
                ),
            );
        }
    }
    let mut of_path = vec![0; plan.paths.len()];
    for (at, probe) in summary.failures.iter().enumerate() {
        of_path[probe.path] += 1;
        let first = at < SHOWN || of_path[probe.path] <= SHOWN_OF_EACH;
        let line = by_path::with_path(plan, probe, failure_line(probe));
        report.line(if first { 1 } else { 2 }, line);
    }
    if summary.left_out > 0 {
        report.line(
            2,
            format!(
                "({} failed probes in between are not kept)",
                summary.left_out
            ),
        );
    }
}

/// Seconds as milliseconds, with three digits that say something: `0.21`, `3.45`, `12.3`, `812`, `30012`.
pub(super) fn millis(seconds: f64) -> String {
    let millis = seconds * 1e3;
    let digits = match millis {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{millis:.digits$}")
}

/// `2026-01-02T03:04:05.678+00:00 http-5xx HTTP/1.1 500 Oops - from 192.0.2.4:51236 to … 4.21 ms (dns 0.21, …)`
pub(super) fn failure_line(probe: &Probe) -> String {
    let mut line = format!(
        "{} {} {}",
        local_time(probe.at),
        probe.kind.map_or("", Kind::name),
        clean_cut(&probe.words, WORDS_LIMIT)
    );
    let phases: Vec<_> = Phases::NAMES
        .iter()
        .zip(probe.phases.in_order())
        .filter_map(|(name, phase)| Some(format!("{name} {}", millis(phase?.as_secs_f64()))))
        .collect();
    let _ = write!(line, " -");
    if let Some(local) = probe.local {
        let _ = write!(line, " from {local}");
    }
    if let Some(remote) = probe.remote {
        let _ = write!(line, " to {remote}");
    }
    if let Some(id) = &probe.request_id {
        let _ = write!(line, " request id {id}");
    }
    if probe.reused {
        line.push_str(" on a reused connection");
    }
    let _ = write!(line, " {} ms", millis(probe.elapsed.as_secs_f64()));
    if !phases.is_empty() {
        let _ = write!(line, " ({})", phases.join(", "));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_keep_the_digits_that_say_something() {
        for (seconds, text) in [
            (0.000_004, "0.00"),
            (0.000_213, "0.21"),
            (0.009_99, "9.99"),
            (0.009_999, "10.0"),
            (0.012_34, "12.3"),
            (0.099_96, "100"),
            (0.812, "812"),
            (30.012, "30012"),
        ] {
            assert_eq!(millis(seconds), text, "{seconds}");
        }
    }
}
