//! Sorts of trouble, and what speaks of which: a line of nginx' error log, a probe that failed, the words of a check.

use memchr::memmem;

use crate::nginx::cause::Cause;

/// A sort of trouble. Most failures do not say theirs: a 500 is a 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sort {
    /// No client port was left.
    ClientPorts,
    /// Somebody who should listen does not: refused, unreachable, no answer to a SYN.
    DeadBackend,
    /// No more files may be open.
    FileDescriptors,
    /// nginx' `worker_connections`.
    WorkerConnections,
    /// An answer that comes late or never.
    SlowUpstream,
    /// An upstream that hangs up.
    UpstreamCloses,
    /// A certificate, or a TLS handshake.
    Certificate,
    /// Names that do not resolve, or resolve to what is not theirs.
    Dns,
    /// Addresses and blocks that cannot work as they stand.
    Configuration,
}

impl Sort {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ClientPorts,
        Self::DeadBackend,
        Self::FileDescriptors,
        Self::WorkerConnections,
        Self::SlowUpstream,
        Self::UpstreamCloses,
        Self::Certificate,
        Self::Dns,
        Self::Configuration,
    ];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientPorts => "client-ports",
            Self::DeadBackend => "dead-backend",
            Self::FileDescriptors => "file-descriptors",
            Self::WorkerConnections => "worker-connections",
            Self::SlowUpstream => "slow-upstream",
            Self::UpstreamCloses => "upstream-closes",
            Self::Certificate => "certificate",
            Self::Dns => "dns",
            Self::Configuration => "configuration",
        }
    }

    /// In words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::ClientPorts => "the proxy has no client port left for its upstreams",
            Self::DeadBackend => "a backend does not answer at all",
            Self::FileDescriptors => "a worker of the proxy may not open more files",
            Self::WorkerConnections => "the proxy's worker_connections are used up",
            Self::SlowUpstream => "an upstream answers late or never",
            Self::UpstreamCloses => "an upstream closes or resets the connection",
            Self::Certificate => "a certificate or a TLS handshake fails",
            Self::Dns => "a name does not resolve, or resolves to the wrong address",
            Self::Configuration => "the proxy's configuration names what cannot be reached",
        }
    }

    /// Of a cause in nginx' error log, and the line that says so. `None` for what follows from others.
    pub fn of_cause(cause: Cause, line: &[u8]) -> Option<Self> {
        Some(match cause {
            Cause::BindInUse | Cause::NoFreePort => Self::ClientPorts,
            Cause::NoFileDescriptors => Self::FileDescriptors,
            Cause::WorkerConnections => Self::WorkerConnections,
            Cause::Refused | Cause::Unreachable => Self::DeadBackend,
            // Nothing came back at all: neither a refusal nor a handshake.
            Cause::Timeout if memmem::find(line, b" while connecting to upstream").is_some() => {
                Self::DeadBackend
            }
            Cause::Timeout => Self::SlowUpstream,
            Cause::Reset | Cause::ClosedEarly => Self::UpstreamCloses,
            Cause::Tls => Self::Certificate,
            Cause::Resolver => Self::Dns,
            Cause::BindWrongAddress | Cause::Ipv6Unavailable | Cause::ListenConflict => {
                Self::Configuration
            }
            Cause::NoLiveUpstreams | Cause::OtherUpstream => return None,
        })
    }

    /// Of the kind of a probe that failed.
    pub fn of_kind(kind: &str) -> Option<Self> {
        Some(match kind {
            "dns" => Self::Dns,
            "refused" | "connect-timeout" => Self::DeadBackend,
            "tls" | "certificate" => Self::Certificate,
            "timeout" | "slow" => Self::SlowUpstream,
            "reset" | "closed" | "truncated" => Self::UpstreamCloses,
            _ => return None,
        })
    }

    /// Of what a check plugin said.
    pub fn of_words(words: &[u8]) -> Option<Self> {
        const WORDS: [(&[u8], Sort); 19] = [
            (b"ertificate", Sort::Certificate),
            (b"handshake", Sort::Certificate),
            (b"SSL ", Sort::Certificate),
            (b"Name or service not known", Sort::Dns),
            (b"ame resolution", Sort::Dns),
            (b"ould not resolve", Sort::Dns),
            (b"Unable to resolve", Sort::Dns),
            (b"nvalid hostname", Sort::Dns),
            (b"onnection refused", Sort::DeadBackend),
            (b"No route to host", Sort::DeadBackend),
            (b"etwork is unreachable", Sort::DeadBackend),
            (b"bind-in-use", Sort::ClientPorts),
            (b"no-free-port", Sort::ClientPorts),
            (b"oo many open files", Sort::FileDescriptors),
            (b"ocket timeout", Sort::SlowUpstream),
            (b"imed out", Sort::SlowUpstream),
            (b" 504 ", Sort::SlowUpstream),
            (b"onnection reset", Sort::UpstreamCloses),
            (b"losed the connection", Sort::UpstreamCloses),
        ];
        let found = WORDS
            .iter()
            .find(|(text, _)| memmem::find(words, text).is_some());
        found.map(|(_, sort)| *sort)
    }
}

/// Where an observation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Origin {
    /// nginx' error log.
    ErrorLog,
    /// nginx' access log.
    AccessLog,
    /// check_http_retry's journal.
    Probes,
    /// Icinga or Nagios.
    Checks,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ErrorLog, Self::AccessLog, Self::Probes, Self::Checks];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::ErrorLog => "error log",
            Self::AccessLog => "access log",
            Self::Probes => "probes",
            Self::Checks => "checks",
        }
    }

    /// How much its word counts: the error log says what failed, a check what it looked like from outside.
    pub fn weight(self) -> f64 {
        match self {
            Self::ErrorLog => 1.0,
            Self::Probes => 0.6,
            Self::AccessLog => 0.4,
            Self::Checks => 0.3,
        }
    }
}
