//! What a window of the log holds.

use std::collections::BTreeMap;

use super::cause::{CAUSES, Cause};

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
