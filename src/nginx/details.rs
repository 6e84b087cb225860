//! The JSON document's `details`.

use serde_json::{Map, Value, json};

use super::correlate::Correlation;
use super::report::{Facts, LISTED, MINUTES};
use super::summary::Kind;

impl Facts<'_> {
    /// As the interface has it.
    pub(super) fn details(&self) -> Value {
        let Self {
            plan,
            clock,
            summary,
            ..
        } = self;
        let second = |at: Option<i64>| at.map(|at| clock.second(at));
        let files: Vec<_> = self
            .logs
            .iter()
            .map(|log| {
                json!({
                    "path": log.path.display().to_string(),
                    "bytes_read": log.seen.bytes,
                    "from": second(log.seen.first),
                    "to": second(log.seen.last),
                    "rotated": log.rotated,
                })
            })
            .collect();
        let wanted = plan.wanted();
        let causes: Map<_, _> = wanted
            .iter()
            .map(|cause| (cause.name().to_owned(), json!(summary.of(cause))))
            .collect();
        let clients_get: Map<_, _> = self
            .found()
            .into_iter()
            .filter_map(|cause| {
                let status = self.dialect.client_sees(cause)?;
                Some((cause.name().to_owned(), json!(status)))
            })
            .collect();
        let skipped = summary.minutes.len().saturating_sub(MINUTES);
        let minute = |(minute, count): (&i64, &u64)| json!({"minute": clock.minute(*minute), "count": count});
        let list = |kind| {
            let named = |(name, count): &(String, u64)| json!({"name": name, "count": count});
            let list = summary.list(kind).iter().take(LISTED).map(named);
            list.collect::<Vec<_>>()
        };
        json!({
            "files": files,
            "window": {"from": clock.second(plan.window.from), "to": clock.second(plan.window.to)},
            "causes": causes,
            "clients_get": clients_get,
            "dialect": self.dialect.name(),
            "minutes": summary.minutes.iter().skip(skipped).map(minute).collect::<Vec<_>>(),
            "peak": summary.peak.map(|(at, count)| minute((&at, &count))),
            "upstreams": list(Kind::Upstream),
            "servers": list(Kind::Server),
            "clients": list(Kind::Client),
            "uris": list(Kind::Uri),
            "connections": summary.connections,
            "first": second(summary.span.map(|(first, _)| first)),
            "last": second(summary.span.map(|(_, last)| last)),
            "unparsed": summary.unparsed,
            "suspect": summary.suspect,
            "explain": self.explained,
            "correlation": self.correlations.iter().flatten().map(correlation).collect::<Vec<_>>(),
        })
    }
}

fn correlation(found: &Correlation) -> Value {
    let named = |(name, count): &(String, u64)| json!({"name": name, "count": count});
    let statuses: Map<_, _> = found
        .statuses
        .iter()
        .map(|(status, count)| (status.to_string(), json!(count)))
        .collect();
    json!({
        "path": found.path.display().to_string(),
        "minutes": found.minutes,
        "overlap": found.overlap,
        "expected": found.expected,
        "p_value": found.p_value,
        "common_minutes": found.common,
        "lag_minutes": found.best_lag.0,
        "lag_overlap": found.best_lag.1,
        "statuses": statuses,
        "what": found.what.iter().map(named).collect::<Vec<_>>(),
    })
}
