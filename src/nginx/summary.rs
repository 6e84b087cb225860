//! What a window of the log holds.

use std::collections::BTreeMap;

use super::cause::{CAUSES, Cause, CauseSet};
use super::names::Names;
use super::slot::Slot;

/// How many kinds of names there are.
pub const KINDS: usize = 4;

/// What is listed by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `host:port` and the like.
    Upstream,
    /// As the line has it.
    Server,
    /// Addresses.
    Client,
    /// The first two steps of the request's path.
    Uri,
}

/// What a window holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Events by cause, all of them.
    pub causes: [u64; CAUSES],
    /// Events of the counted causes.
    pub count: u64,
    /// Counted events by the second at which their minute begins.
    pub minutes: BTreeMap<i64, u64>,
    /// The minute with the most; of equals the first.
    pub peak: Option<(i64, u64)>,
    /// Counted events by name, largest first.
    pub upstreams: Vec<(String, u64)>,
    /// The same for servers.
    pub servers: Vec<(String, u64)>,
    /// The same for clients.
    pub clients: Vec<(String, u64)>,
    /// The same for the beginnings of paths.
    pub uris: Vec<(String, u64)>,
    /// Distinct connections with a counted event.
    pub connections: u64,
    /// Whether there were more connections than can be told apart.
    pub connections_capped: bool,
    /// The first and the last counted event.
    pub span: Option<(i64, i64)>,
    /// Lines that a request wrote.
    pub suspect: u64,
    /// Lines that look like failures and cannot be read.
    pub unparsed: u64,
}

impl Summary {
    /// What these slots hold. Whether there were more connections than can be told apart is the tally's to say.
    pub fn over<'a>(
        within: impl Iterator<Item = &'a Slot>,
        names: &Names,
        counted: CauseSet,
    ) -> Self {
        let mut summary = Self::default();
        let mut who: [Vec<u64>; KINDS] = std::array::from_fn(|_| vec![0; names.len()]);
        for slot in within {
            let start = slot.start;
            let count: u64 = counted.iter().map(|cause| slot.causes[cause.index()]).sum();
            for (sum, n) in summary.causes.iter_mut().zip(slot.causes) {
                *sum += n;
            }
            summary.suspect += slot.suspect;
            summary.unparsed += slot.unparsed;
            if count == 0 {
                continue;
            }
            summary.count += count;
            *summary
                .minutes
                .entry(start - start.rem_euclid(60))
                .or_default() += count;
            if let Some((a, b)) = slot.span {
                let (a, b) = (start + i64::from(a), start + i64::from(b));
                let (first, last) = summary.span.unwrap_or((a, b));
                summary.span = Some((first.min(a), last.max(b)));
            }
            slot.who.each(|kind, name, count| {
                if let Some(sum) = who[kind].get_mut(name as usize) {
                    *sum += count;
                }
            });
            summary.connections += slot.connections.count() as u64;
        }
        for (&minute, &count) in &summary.minutes {
            if summary.peak.is_none_or(|(_, most)| count > most) {
                summary.peak = Some((minute, count));
            }
        }
        let [upstreams, servers, clients, uris] = who.map(|sums| ranked(names, &sums));
        Self {
            upstreams,
            servers,
            clients,
            uris,
            ..summary
        }
    }

    /// How many events had this cause.
    pub fn of(&self, cause: Cause) -> u64 {
        self.causes[cause.index()]
    }

    /// The list of a kind.
    pub fn list(&self, kind: Kind) -> &[(String, u64)] {
        match kind {
            Kind::Upstream => &self.upstreams,
            Kind::Server => &self.servers,
            Kind::Client => &self.clients,
            Kind::Uri => &self.uris,
        }
    }
}

/// The names that were counted, largest first.
fn ranked(names: &Names, sums: &[u64]) -> Vec<(String, u64)> {
    let mut list: Vec<_> = names
        .iter()
        .zip(sums)
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| (name.to_owned(), *count))
        .collect();
    list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    list
}
