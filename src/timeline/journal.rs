//! Journals of check_http_retry and check_port_exhaustion: each probe, each look at the ports.

use jiff::Timestamp;
use serde::Deserialize;

use super::facts::{Facts, Source};
use super::group::Group;
use super::shares::Dimension;
use super::sort::{Origin, Sort};

/// What of a record is of interest here; `docs/journal.md` has all.
#[derive(Debug, Deserialize)]
struct Record {
    #[serde(rename = "record")]
    sort: String,
    at: String,
    service: Option<String>,
    host: Option<String>,
    path: Option<String>,
    kind: Option<String>,
    remote: Option<String>,
    seconds: Option<f64>,
    namespace: Option<String>,
    budget: Option<String>,
    used: Option<u64>,
    limit: Option<u64>,
    share: Option<f64>,
    #[serde(default)]
    limits: Vec<Limit>,
}

#[derive(Debug, Deserialize)]
struct Limit {
    name: String,
    used: Option<f64>,
    #[serde(rename = "limit")]
    most: Option<f64>,
}

/// How many neighbours of one record are taken.
const LIMITS: usize = 32;

/// Takes a line in.
pub fn line(line: &[u8], facts: &mut Facts<'_>, source: &mut Source) {
    let record = serde_json::from_slice::<Record>(line).ok();
    let Some((record, at)) = record.and_then(|record| {
        let at: Timestamp = record.at.parse().ok()?;
        Some((record, at.as_second()))
    }) else {
        source.unparsed += 1;
        return;
    };
    if !facts.plan.holds(at) {
        source.leave_line(at);
        return;
    }
    source.use_line(at);
    facts.grid.reach(at);
    match record.sort.as_str() {
        "probe" => probe(at, &record, line, facts),
        "ports" => ports(at, &record, facts),
        // Records may be added.
        _ => {}
    }
}

fn probe(at: i64, record: &Record, line: &[u8], facts: &mut Facts<'_>) {
    // This host could not go on, which says nothing about the server.
    if record.kind.as_deref() == Some("own-host") {
        return;
    }
    let name = record.service.as_ref().or(record.host.as_ref());
    let name = name.map_or("(probe)", String::as_str);
    let failed = record.kind.is_some();
    let of = |dimension| (Origin::Probes, dimension);
    facts
        .shares
        .add(at, failed, of(Dimension::Service), name.as_bytes(), b"");
    for (dimension, value) in [
        (Dimension::Address, &record.remote),
        (Dimension::Route, &record.path),
    ] {
        if let Some(value) = value {
            facts
                .shares
                .add(at, failed, of(dimension), name.as_bytes(), value.as_bytes());
        }
    }
    if let Some(seconds) = record
        .seconds
        .filter(|seconds| (0.0..1e6).contains(seconds))
    {
        facts.grid.add(
            at,
            Group::Time,
            format!("probe {name}").as_bytes(),
            seconds,
            None,
        );
    }
    if let Some(kind) = &record.kind {
        let what = format!("{name} {kind}");
        facts.failure(at, Group::Probe, what.as_bytes(), line);
        let subject = record.remote.as_ref().or(record.host.as_ref());
        facts.blame(
            at,
            Origin::Probes,
            Sort::of_kind(kind),
            subject.map(String::as_bytes),
        );
    }
}

fn ports(at: i64, record: &Record, facts: &mut Facts<'_>) {
    let whose = record.service.as_ref().or(record.namespace.as_ref());
    let whose = whose.map_or("ports", String::as_str);
    let budget = record.budget.as_deref().unwrap_or("none");
    if let Some(share) = record
        .share
        .filter(|share| share.is_finite() && *share >= 0.0)
    {
        let name = format!("{whose} {budget}");
        facts
            .grid
            .add(at, Group::Ports, name.as_bytes(), share, None);
        if let (Some(used), Some(limit)) = (record.used, record.limit) {
            let tighter = |(old_used, old_limit, _): &(u64, u64, String)| {
                u128::from(used) * u128::from(*old_limit)
                    > u128::from(*old_used) * u128::from(limit)
            };
            if facts.tightest.as_ref().is_none_or(tighter) {
                facts.tightest = Some((used, limit, name));
            }
        }
    }
    for limit in record.limits.iter().take(LIMITS) {
        if let (Some(used), Some(most)) = (limit.used, limit.most)
            && most > 0.0
            && used >= 0.0
        {
            let name = format!("{whose} {}", limit.name);
            facts
                .grid
                .add(at, Group::Limit, name.as_bytes(), used / most * 100.0, None);
        }
    }
}
