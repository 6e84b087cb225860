//! Connections at rest between two requests: `--keepalive`.
//!
//! There are never more to one server than probes in flight: a new one is made only when all are in use.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;

use super::http2::Session;
use super::plan::Plan;
use super::target::Target;
use super::wire::Stream;

/// How many servers one probe may meet, redirects included, with a connection to each of them kept.
const SERVERS: usize = 4;

/// What carries a request.
#[derive(Debug)]
pub enum Carrier {
    /// A connection on which nothing is under way.
    Stream(Stream),
    /// One that speaks HTTP/2, whose two ends remember what was said.
    Session(Box<Session>),
}

impl Carrier {
    /// The certificates that the server showed, its own first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Stream(stream) => stream.certificates(),
            Self::Session(session) => session.certificates(),
        }
    }

    /// Whether what goes over it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        !matches!(self, Self::Stream(Stream::Tcp(_) | Stream::Unix(_)))
    }

    /// Whether it can take one more request, as far as this host knows.
    async fn is_usable(&mut self) -> bool {
        match self {
            Self::Stream(stream) => stream.is_quiet().await,
            Self::Session(session) => session.is_open().await,
        }
    }
}

/// A carrier, and where it leads.
#[derive(Debug)]
pub struct Idle {
    /// What carries the next request.
    pub carrier: Carrier,
    /// This host's end.
    pub local: Option<SocketAddr>,
    /// The server's end.
    pub remote: Option<SocketAddr>,
    /// The name of the path.
    path: String,
    /// Whom it was opened for.
    target: Target,
}

impl Idle {
    /// Whether a request over this path to that target may go over it: the same place, and for TLS the same name.
    fn serves(&self, path: &str, target: &Target) -> bool {
        let ours = &self.target;
        (ours.https, ours.port, &ours.address) == (target.https, target.port, &target.address)
            && ours.host == target.host
            && ours.name == target.name
            && self.path == path
    }
}

/// The connections of a run and, in a loop, of the runs behind it.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    /// The one that rests for the longest time comes first.
    idle: Arc<Mutex<Vec<Idle>>>,
}

impl Pool {
    /// The latest one that can take a request, and how many were found closed on the way to it.
    pub async fn take(&self, path: &str, target: &Target) -> (Option<Idle>, u32) {
        let mut closed = 0;
        while let Some(mut idle) = self.latest(path, target) {
            if idle.carrier.is_usable().await {
                return (Some(idle), closed);
            }
            closed += 1;
        }
        (None, closed)
    }

    fn latest(&self, path: &str, target: &Target) -> Option<Idle> {
        let mut idle = self.lock();
        let at = idle.iter().rposition(|idle| idle.serves(path, target))?;
        Some(idle.remove(at))
    }

    /// Keeps a connection that an exchange is done with.
    pub fn put(
        &self,
        plan: &Plan,
        (path, target): (&str, &Target),
        carrier: Carrier,
        (local, remote): (Option<SocketAddr>, Option<SocketAddr>),
    ) {
        let most = SERVERS * plan.paths.len() * plan.pace.concurrency;
        let mut idle = self.lock();
        if idle.len() >= most {
            idle.remove(0);
        }
        idle.push(Idle {
            carrier,
            local,
            remote,
            path: path.to_owned(),
            target: target.clone(),
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a probe, or a run, made of connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// How many were made.
    pub opened: u64,
    /// How many requests went over one that was there.
    pub reused: u64,
    /// How many were closed by the server while nothing was under way.
    pub closed: u64,
    /// How many more were gone when a request had been sent, which was sent again on a new one.
    pub resent: u64,
}

impl Use {
    /// Adds that of a further probe.
    pub fn add(&mut self, other: Self) {
        self.opened += other.opened;
        self.reused += other.reused;
        self.closed += other.closed;
        self.resent += other.resent;
    }
}
