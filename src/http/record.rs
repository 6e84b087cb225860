//! One probe as a line of the journal. The names are those of the JSON document's `failures`, and a public interface.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::paths::Path;
use super::plan::Plan;
use super::probe::{Kind, Phases, Probe};
use super::report::WORDS_LIMIT;
use crate::plugin::State;
use crate::plugin::clean::clean_cut;
use crate::plugin::journal::Journal;
use crate::plugin::metric::number;
use crate::plugin::report::local_time;

/// What the records of this plugin are called.
pub const RECORD: &str = "probe";

/// The kind of a record that says why this host had to stop: it is no probe, and nothing about the server.
pub const OWN_HOST: &str = "own-host";

/// How much of a URL is written down.
const URL_LIMIT: usize = 500;

/// What writes down the probes of one run.
#[derive(Debug)]
pub struct Recorder {
    journal: Journal,
    /// What the user calls the series.
    service: Option<String>,
}

/// One line. What is not known is null, a phase that was not reached is not there.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    record: &'static str,
    at: String,
    service: Option<&'a str>,
    host: &'a str,
    url: String,
    path: &'a str,
    kind: Option<&'static str>,
    status: Option<u16>,
    state: String,
    text: String,
    local: Option<String>,
    remote: Option<String>,
    request_id: Option<&'a str>,
    reply_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reused: Option<bool>,
    seconds: Value,
    bytes: Option<u64>,
    #[serde(serialize_with = "reached")]
    phases: Phases,
}

impl Recorder {
    /// One for this run.
    pub fn new(journal: Journal, service: Option<String>) -> Self {
        Self { journal, service }
    }

    /// Writes down a probe.
    pub fn probe(&mut self, plan: &Plan, probe: &Probe) {
        let record = Entry {
            kind: probe.kind.map(Kind::name),
            status: probe.status,
            state: probe.state.to_string(),
            text: clean_cut(&probe.words, WORDS_LIMIT),
            local: probe.local.map(|address| address.to_string()),
            remote: probe.remote.map(|address| address.to_string()),
            request_id: probe.request_id.as_deref(),
            reply_id: probe.reply_id.as_deref(),
            reused: plan.pace.keepalive.then_some(probe.reused),
            seconds: number(probe.elapsed.as_secs_f64()),
            bytes: Some(probe.size),
            phases: probe.phases,
            ..Entry::begin(self.service.as_deref(), &plan.paths[probe.path], probe.at)
        };
        self.journal.append(&record);
    }

    /// Writes down why this host had to stop.
    pub fn trouble(&mut self, plan: &Plan, why: &str) {
        let Some(path) = plan.paths.first() else {
            return;
        };
        let record = Entry {
            kind: Some(OWN_HOST),
            text: clean_cut(why, WORDS_LIMIT),
            ..Entry::begin(self.service.as_deref(), path, Timestamp::now())
        };
        self.journal.append(&record);
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }
}

impl<'a> Entry<'a> {
    /// Where and when, and nothing known of how it went.
    fn begin(service: Option<&'a str>, path: &'a Path, at: Timestamp) -> Self {
        let target = &path.target;
        Self {
            record: RECORD,
            at: local_time(at),
            service,
            host: target.host.as_ref().unwrap_or(&target.address),
            url: without_query(&target.url()),
            path: &path.name,
            kind: None,
            status: None,
            state: State::Unknown.to_string(),
            text: String::new(),
            local: None,
            remote: None,
            request_id: None,
            reply_id: None,
            reused: None,
            seconds: Value::Null,
            bytes: None,
            phases: Phases::default(),
        }
    }
}

/// A query may hold what nobody else is to read; the name of a user and his password are in no URL of ours.
fn without_query(url: &str) -> String {
    clean_cut(url.split(['?', '#']).next().unwrap_or_default(), URL_LIMIT)
}

/// The phases that were reached, by their names, in seconds.
fn reached<S: Serializer>(phases: &Phases, serializer: S) -> Result<S::Ok, S::Error> {
    let reached = Phases::NAMES.iter().zip(phases.in_order());
    let reached = reached.filter_map(|(name, phase)| Some((name, number(phase?.as_secs_f64()))));
    serializer.collect_map(reached)
}
