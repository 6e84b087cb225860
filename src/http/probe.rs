//! What is known of one probe, as plain data.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::certificate::Link;
use super::evidence::Recording;
use super::pool::Use;
use crate::plugin::State;

/// One probe: a request with all its redirects, and what came of it.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Its number within the run, from 0 on.
    pub number: u64,
    /// When it began.
    pub at: Timestamp,
    /// Which of the plan's paths it took.
    pub path: usize,
    /// How long it took in all, up to its end or its failure.
    pub elapsed: Duration,
    /// How much of that at the most it waited for a CPU of this host.
    pub waited: Duration,
    /// Whether it would count as slow, had it not waited for a CPU.
    pub excused: bool,
    /// Where the time went.
    pub phases: Phases,
    /// How it is judged, by itself.
    pub state: State,
    /// Why it counts as failed; `None` for a good one.
    pub kind: Option<Kind>,
    /// `check_http`'s words for it. They hold text of the server as it came.
    pub words: String,
    /// Whether a reply came, so that size and time say something.
    pub replied: bool,
    /// The status of the last reply.
    pub status: Option<u16>,
    /// The bytes received in the last exchange, headers included, before they were unpacked.
    pub size: u64,
    /// This host's end of the last connection, known from the first packet on.
    pub local: Option<SocketAddr>,
    /// The server's end.
    pub remote: Option<SocketAddr>,
    /// Whether the last request went over a connection of an earlier one.
    pub reused: bool,
    /// What it made of connections.
    pub connections: Use,
    /// The `X-Request-Id` it sent.
    pub request_id: Option<String>,
    /// The `X-Request-Id` of the reply, where it is one that a log could hold.
    pub reply_id: Option<String>,
    /// The head of the last page, where it is to be shown.
    pub page: Vec<u8>,
    /// The beginning of what the server sent, of a failed probe, where it is to be shown.
    pub received: Vec<u8>,
    /// The certificates that the server showed, its own first, where they are looked at.
    pub chain: Vec<Link>,
    /// Status line and headers of the last reply, to be compared with others, where that is asked for.
    pub head: Vec<u8>,
    /// What was kept of it as evidence; taken out before the probe is counted.
    pub recording: Option<Arc<Recording>>,
}

impl Probe {
    /// Whether its time is one that a reply took, or that was waited for one in vain: not that of a refusal, which says
    /// nothing of how fast a server is.
    pub fn is_timed(&self) -> bool {
        let waited = matches!(self.kind, Some(Kind::Timeout | Kind::ConnectTimeout));
        self.replied || self.status.is_some() || self.size > 0 || waited
    }

    /// Whether the server wanted what this program does not have, as far as was known then.
    pub fn is_no_match(&self) -> bool {
        (self.kind, self.state) == (Some(Kind::Tls), State::Unknown)
    }

    /// What stands on the first line for it: with size and time where a reply came, as in `check_http`.
    pub fn headline(&self) -> String {
        if self.replied {
            format!(
                "{} - {} bytes in {:.3} second response time",
                self.words,
                self.size,
                self.elapsed.as_secs_f64()
            )
        } else {
            self.words.clone()
        }
    }
}

/// Why a probe failed. Counted, never propagated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The name has no address, or its server does not say.
    Dns,
    /// Nobody listens there.
    Refused,
    /// No way leads there.
    Unreachable,
    /// No answer to the connection's first packet.
    ConnectTimeout,
    /// No TLS session came about, or it broke.
    Tls,
    /// Connected, but not done in time.
    Timeout,
    /// The proxy opens no way to the server.
    Proxy,
    /// The connection was reset.
    Reset,
    /// The connection was closed without a reply.
    Closed,
    /// The reply ended before its announced length.
    Truncated,
    /// What came is no HTTP.
    Protocol,
    /// A status from 400 to 499.
    Http4xx,
    /// A status from 500 to 599.
    Http5xx,
    /// A redirect that leads nowhere, or that counts as bad.
    Redirect,
    /// The reply is not what `-e`, `-d`, `-s`, `-r` or `-m` ask for.
    Content,
    /// The certificate is over or soon will be.
    Certificate,
    /// Good, but over `-w` or `-c`.
    Slow,
}

impl Kind {
    /// The kind of a status that is not wanted.
    pub fn of_status(status: u16) -> Self {
        match status {
            400..=499 => Self::Http4xx,
            500..=599 => Self::Http5xx,
            _ => Self::Content,
        }
    }

    /// Its name, as in the JSON document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect-timeout",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Proxy => "proxy",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Truncated => "truncated",
            Self::Protocol => "protocol",
            Self::Http4xx => "http-4xx",
            Self::Http5xx => "http-5xx",
            Self::Redirect => "redirect",
            Self::Content => "content",
            Self::Certificate => "certificate",
            Self::Slow => "slow",
        }
    }
}

/// Where the time of a probe went, redirects added up. A phase that was not reached, or that there was no need for,
/// is `None`, and not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// Asking for the address of a name.
    pub dns: Option<Duration>,
    /// To the connection being made.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From then until the request was out; a part of `first_byte`.
    pub send: Option<Duration>,
    /// From the connection (or handshake) being made to the first byte of the reply.
    pub first_byte: Option<Duration>,
    /// From there to the last byte.
    pub transfer: Option<Duration>,
}

impl Phases {
    /// The phases that do not overlap, in their order, by the names of the JSON document.
    pub const NAMES: [&'static str; 5] = ["dns", "connect", "tls", "first_byte", "transfer"];

    /// The phases by [`Self::NAMES`].
    pub fn in_order(&self) -> [Option<Duration>; 5] {
        [
            self.dns,
            self.connect,
            self.tls,
            self.first_byte,
            self.transfer,
        ]
    }

    /// Adds those of a further exchange of the same probe.
    pub fn add(&mut self, other: &Self) {
        let sum = |one: Option<Duration>, two: Option<Duration>| match (one, two) {
            (Some(one), Some(two)) => Some(one + two),
            (one, two) => one.or(two),
        };
        self.dns = sum(self.dns, other.dns);
        self.connect = sum(self.connect, other.connect);
        self.tls = sum(self.tls, other.tls);
        self.send = sum(self.send, other.send);
        self.first_byte = sum(self.first_byte, other.first_byte);
        self.transfer = sum(self.transfer, other.transfer);
    }
}
