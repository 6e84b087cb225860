//! One look at one namespace as a line of the journal. The names are those of the JSON document where it has the same,
//! and a public interface.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::details::{destination, source};
use super::report::leader;
use super::socket::{Protocol, State as SocketState};
use super::verdict::Worst;
use super::watch::Seen;
use crate::plugin::journal::Journal;
use crate::plugin::metric::number;
use crate::plugin::report::local_time;

/// What the records of this plugin are called.
const RECORD: &str = "ports";

/// How many local addresses a record lists, the tightest first.
const SOURCES: usize = 10;

/// What writes down the looks of one run.
#[derive(Debug)]
pub struct Recorder {
    journal: Journal,
    /// What the user calls the series.
    service: Option<String>,
}

impl Recorder {
    /// One for this run.
    pub fn new(journal: Journal, service: Option<String>) -> Self {
        Self { journal, service }
    }

    /// Writes down a look that was just taken.
    pub fn look(&mut self, seen: &Seen) {
        self.journal
            .append(&record(seen, Timestamp::now(), self.service.as_deref()));
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }
}

fn record(seen: &Seen, at: Timestamp, service: Option<&str>) -> Value {
    let (headroom, verdict) = (&seen.headroom, &seen.verdict);
    let (used, free) = verdict.worst.used_and_free();
    let sockets: Map<_, _> = SocketState::ALL
        .into_iter()
        .map(|state| (state, seen.look.census.states[state.index()]))
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| (state.name().to_owned(), count.into()))
        .collect();
    let rates = headroom.destinations.iter();
    let closed_per_second: f64 = match seen.look.protocol {
        Protocol::Tcp => rates.map(|d| d.forecast.closed_per_second).sum(),
        // Not known.
        Protocol::Udp => f64::NAN,
    };
    let limits = seen.look.limits.iter();
    let limits: Vec<_> = limits
        .map(|limit| json!({"name": limit.name, "used": limit.used, "limit": limit.limit}))
        .collect();
    let leader = leader(headroom).map(|(to, sockets)| {
        json!({"destination": to.ip().to_string(), "port": to.port(), "sockets": sockets})
    });
    json!({
        "record": RECORD,
        "at": local_time(at),
        "service": service,
        "namespace": seen.look.namespace,
        "protocol": seen.look.protocol.name(),
        "state": seen.state().to_string(),
        "budget": budget(&verdict.worst),
        "used": used,
        "free": free,
        "limit": used + free,
        "share": number(verdict.share),
        "sockets": sockets,
        "time_wait": seen.look.census.states[SocketState::TimeWait.index()],
        "closed_per_second": number(closed_per_second),
        "bind_before_connect": headroom.bind_before_connect.name(),
        "tightest": headroom.destinations.first().map(destination),
        "leader": leader,
        "sources": headroom.sources.iter().take(SOURCES).map(source).collect::<Vec<_>>(),
        "limits": limits,
    })
}

/// Which budget `used`, `free` and `limit` are of.
fn budget(worst: &Worst) -> &'static str {
    match worst {
        Worst::Connect(_) => "connect",
        Worst::Bind(_) => "bind",
        Worst::Unbound(_) => "unbound",
        Worst::Nat { .. } => "nat",
        Worst::Nobody { .. } => "none",
    }
}
