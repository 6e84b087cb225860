//! The `details` of the JSON document. Its names are a public interface. No I/O.

use serde_json::{Value, json};

use super::plan::Plan;
use super::pool::Use;
use super::probe::{Kind, Phases, Probe};
use super::report::WORDS_LIMIT;
use super::summary::Summary;
use crate::plugin::clean::clean_cut;
use crate::plugin::metric::number;
use crate::plugin::report::local_time;

/// All that is known of a run; times in seconds.
pub fn details(plan: &Plan, summary: &Summary, shown: Option<&Probe>) -> Value {
    let kinds: serde_json::Map<_, _> = summary
        .kinds
        .iter()
        .map(|(kind, count)| (kind.name().to_owned(), json!(count)))
        .collect();
    let statuses: serde_json::Map<_, _> = summary
        .statuses
        .iter()
        .map(|(status, count)| (status.to_string(), json!(count)))
        .collect();
    let phases: serde_json::Map<_, _> = Phases::NAMES
        .iter()
        .zip(&summary.phases)
        .filter_map(|(name, phase)| {
            let [p50, p95, max] = (*phase)?.map(number);
            Some((
                (*name).to_owned(),
                json!({"p50": p50, "p95": p95, "max": max}),
            ))
        })
        .collect();
    let comparison = summary.comparison.as_ref();
    let paths: Vec<_> = plan
        .paths
        .iter()
        .zip(&summary.paths)
        .enumerate()
        .map(|(at, (path, summary))| {
            let p_value = comparison.and_then(|found| found.each[at]);
            json!({
                "name": path.name,
                "address": path.address,
                "attempts": summary.attempts,
                "failed": summary.failed,
                "p_value": p_value.map(short),
                "verdict": summary.verdict(),
            })
        })
        .collect();
    json!({
        "attempts": summary.attempts,
        "failed": summary.failed,
        "failure_rate": summary.rate.map(|rate| json!({
            "estimate": number(rate.estimate),
            "low": number(rate.low),
            "high": number(rate.high),
            "confidence": 0.95,
        })),
        "kinds": kinds,
        "statuses": statuses,
        "latency": summary.latency.map(|l| json!({
            "min": number(l.min), "p50": number(l.p50), "p90": number(l.p90),
            "p95": number(l.p95), "p99": number(l.p99), "max": number(l.max),
        })),
        "phases": phases,
        "cpu_wait": {"excused": summary.excused, "max": number(summary.waited.as_secs_f64())},
        "connections": plan.pace.keepalive.then(|| connections(summary)),
        "paths": paths,
        "comparison": comparison.iter().flat_map(|found| &found.steps).map(|step| json!({
            "worse": step.worse.iter().map(|at| &plan.paths[*at].name).collect::<Vec<_>>(),
            "p_value": short(step.p_value),
            "attempts_enough": step.enough,
        })).collect::<Vec<_>>(),
        "failures": summary.failures.iter().map(|probe| failure(plan, summary, probe)).collect::<Vec<_>>(),
        "failures_left_out": summary.left_out,
        "evidence_notes": summary.evidence.notes.iter().map(|(_, note)| note).collect::<Vec<_>>(),
        "verdict": summary.verdict(),
        "certificates": shown.map_or(&[][..], |probe| &probe.chain).iter().map(|link| json!({
            "name": clean_cut(&link.name, 100),
            "issuer": clean_cut(&link.issuer, 100),
            "days_left": link.days,
        })).collect::<Vec<_>>(),
    })
}

/// What `--keepalive` made of connections.
fn connections(summary: &Summary) -> Value {
    let Use {
        opened,
        reused,
        closed,
        resent,
    } = summary.connections;
    json!({
        "opened": opened,
        "requests_on_reused": reused,
        "closed_in_between": closed,
        "sent_again": resent,
        "attempts_on_reused": summary.reused.attempts,
        "failed_on_reused": summary.reused.failed,
    })
}

/// A number with four digits that say something, however small it is.
fn short(number: f64) -> Value {
    let text = format!("{number:.3e}");
    json!(text.parse::<f64>().unwrap_or(number))
}

fn failure(plan: &Plan, summary: &Summary, probe: &Probe) -> Value {
    json!({
        "at": local_time(probe.at),
        "path": plan.paths[probe.path].name,
        "kind": probe.kind.map(Kind::name),
        "status": probe.status,
        "text": clean_cut(&probe.words, WORDS_LIMIT),
        "local": probe.local.map(|address| address.to_string()),
        "remote": probe.remote.map(|address| address.to_string()),
        "request_id": probe.request_id,
        "reused": plan.pace.keepalive.then_some(probe.reused),
        "seconds": number(probe.elapsed.as_secs_f64()),
        "evidence": summary.evidence.of(probe.number).map(|path| path.to_string_lossy()),
    })
}
