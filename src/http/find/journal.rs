//! The failed probes of a journal.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde::Deserialize;

use super::super::record::{OWN_HOST, RECORD};
use super::wanted::Sought;
use super::{PIPE, STDIN};
use crate::nginx::search::Search;
use crate::plugin::clean::clean_cut;

/// How many failed probes are kept: the last ones.
const MOST: usize = 10_000;

/// How much is kept of a text that somebody else may have written into the file.
const TEXT_LIMIT: usize = 100;

/// What of a record matters here. Fields that are not known are of a later version.
#[derive(Debug, Deserialize)]
struct Entry {
    record: String,
    at: String,
    kind: Option<String>,
    status: Option<u16>,
    local: Option<String>,
    request_id: Option<String>,
    reply_id: Option<String>,
    seconds: Option<f64>,
}

/// The failed probes, and what else there was.
#[derive(Debug, Default)]
pub struct Journalled {
    /// The last ones of those that failed.
    pub failures: VecDeque<Sought>,
    /// How many before them failed.
    pub left_out: u64,
    /// How many probes there are in all.
    pub probes: u64,
    /// Lines that are no records.
    pub torn: u64,
}

/// Reads journals, one behind the other.
pub fn read(paths: &[PathBuf], search: &mut Search) -> anyhow::Result<Journalled> {
    let mut all = Journalled::default();
    for path in paths {
        let mut lines = 0_u64;
        let torn = all.torn;
        let mut each = |line: &[u8]| {
            lines += u64::from(!line.trim_ascii().is_empty());
            all.take(line);
            ControlFlow::Continue(())
        };
        if path == Path::new(PIPE) {
            search
                .read_stream(std::io::stdin(), &mut each)
                .with_context(|| format!("cannot read {STDIN}"))?;
        } else {
            search.read_whole(path, &mut each)?;
        }
        if lines > 0 && all.torn - torn == lines {
            bail!("{} is no journal of check_http_retry", path.display());
        }
    }
    Ok(all)
}

impl Journalled {
    fn take(&mut self, line: &[u8]) {
        let Ok(record) = serde_json::from_slice::<Entry>(line) else {
            // Records of another plugin are none of ours, and no damage.
            let other = serde_json::from_slice::<serde_json::Value>(line);
            let known = other.is_ok_and(|value| value["record"].is_string());
            self.torn += u64::from(!known && !line.trim_ascii().is_empty());
            return;
        };
        let Some(kind) = record.kind.as_deref().filter(|kind| *kind != OWN_HOST) else {
            self.probes += u64::from(record.record == RECORD && record.kind.is_none());
            return;
        };
        if record.record != RECORD {
            return;
        }
        let kind = clean_cut(kind, TEXT_LIMIT);
        let Ok(at) = record.at.parse() else {
            self.torn += 1;
            return;
        };
        self.probes += 1;
        if self.failures.len() == MOST {
            self.failures.pop_front();
            self.left_out += 1;
        }
        self.failures.push_back(record.sought(at, kind));
    }
}

impl Entry {
    fn sought(self, at: Timestamp, kind: String) -> Sought {
        let began = at.as_second();
        // What is no time of a probe is none at all.
        let seconds = self
            .seconds
            .filter(|seconds| (0.0..86_400.0).contains(seconds));
        #[allow(clippy::cast_possible_truncation)] // less than a day
        let seconds = seconds.unwrap_or(0.0).ceil() as i64;
        let fits = |id: &String| id.len() <= TEXT_LIMIT;
        Sought {
            at: crate::plugin::report::local_time(at),
            began,
            ended: began + seconds + 1,
            kind,
            status: self.status,
            client: self.local.and_then(|local| local.parse().ok()),
            ids: [self.request_id, self.reply_id]
                .into_iter()
                .flatten()
                .filter(fits)
                .collect(),
        }
    }
}
