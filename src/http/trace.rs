//! How far an exchange has come: filled on the way, so that it is known even when the exchange is cut off from outside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::evidence::Record;
use super::probe::Phases;
use super::wire::Tape;

/// What is known of an exchange, whether it came to its end or not.
#[derive(Debug)]
pub struct Trace {
    /// When it began.
    pub started: Instant,
    /// When the address was known, if it was asked for.
    pub resolved: Option<Instant>,
    /// When the connection was there.
    pub connected: Option<Instant>,
    /// When the handshake was over.
    pub secured: Option<Instant>,
    /// When it was given a connection of an earlier exchange instead.
    pub reused: Option<Instant>,
    /// Whether that connection was at its end before anything of the reply had come.
    pub gone: bool,
    /// When the last byte was there; the farewell does not count.
    pub done: Option<Instant>,
    /// What this thread had waited for a CPU until then, ever.
    pub waited: Option<Duration>,
    /// What it is doing.
    pub stage: Stage,
    /// This host's end.
    pub local: Option<SocketAddr>,
    /// The server's end.
    pub remote: Option<SocketAddr>,
    /// What came in.
    pub tape: Tape,
}

/// What an exchange is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Asking for an address.
    Resolving,
    /// Waiting for the connection.
    Connecting,
    /// Waiting for a proxy to let it through.
    Tunnelling,
    /// Shaking hands.
    Securing,
    /// Sending and receiving.
    Talking,
}

impl Trace {
    /// An exchange that begins now, with what is to be kept of it as evidence.
    pub fn begin(record: Option<Box<Record>>) -> Self {
        Self {
            started: Instant::now(),
            resolved: None,
            connected: None,
            secured: None,
            reused: None,
            gone: false,
            done: None,
            waited: None,
            stage: Stage::Resolving,
            local: None,
            remote: None,
            tape: Tape {
                record,
                ..Tape::default()
            },
        }
    }

    /// Goes over a connection that is there already, between these ends.
    pub fn reuses(
        &mut self,
        local: Option<SocketAddr>,
        remote: Option<SocketAddr>,
        encrypted: bool,
    ) {
        self.reused = Some(Instant::now());
        self.local = local;
        self.remote = remote;
        if let Some(record) = &mut self.tape.record {
            record.goes_on(local.zip(remote), encrypted);
        }
    }

    /// When a request could be sent.
    pub fn ready(&self) -> Option<Instant> {
        self.secured.or(self.connected).or(self.reused)
    }

    /// Where the time went.
    pub fn phases(&self) -> Phases {
        let between =
            |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let ready = self.ready();
        Phases {
            dns: between(Some(self.started), self.resolved),
            connect: between(self.resolved.or(Some(self.started)), self.connected),
            tls: between(self.connected, self.secured),
            send: between(ready, self.tape.last_write),
            first_byte: between(ready, self.tape.first_read),
            transfer: between(self.tape.first_read, self.done),
        }
    }
}
