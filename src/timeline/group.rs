//! The kinds of rows that the picture has.

/// What kind of row it is. The order is that of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Replies of 500 and more by status.
    Status,
    /// Failed requests by service.
    Service,
    /// Failed requests by the first two steps of the path.
    Path,
    /// Failed tries by backend.
    Backend,
    /// Lines of nginx' error log by cause.
    Error,
    /// Results that are not OK, by host and service.
    Check,
    /// Runs of check plugins that did not end with 0.
    Run,
    /// What Icinga itself calls critical.
    Daemon,
    /// Failed probes of check_http_retry.
    Probe,
    /// Client ports in use, in percent of what there is.
    Ports,
    /// Other limits, in percent.
    Limit,
    /// The slowest answer, in seconds.
    Time,
    /// All requests.
    Requests,
    /// What the error log says of services, paths and backends: shown where no access log does.
    ToldService,
    ToldPath,
    ToldBackend,
    /// Never shown: all failures that were seen, and those that name a sort of trouble.
    Failure,
    Sort,
}

impl Group {
    /// Those that are shown, in order.
    pub const SHOWN: [Self; 13] = [
        Self::Status,
        Self::Service,
        Self::Path,
        Self::Backend,
        Self::Error,
        Self::Check,
        Self::Run,
        Self::Daemon,
        Self::Probe,
        Self::Ports,
        Self::Limit,
        Self::Time,
        Self::Requests,
    ];

    /// A heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Status => "replies by status",
            Self::Service => "failures per service",
            Self::Path => "failures per path",
            Self::Backend => "failures per backend",
            Self::Error => "error log by cause",
            Self::Check => "check results not OK",
            Self::Run => "check runs not OK",
            Self::Daemon => "Icinga's own trouble",
            Self::Probe => "failed probes",
            Self::Ports => "client ports in use",
            Self::Limit => "other limits in use",
            Self::Time => "slowest answers",
            Self::Requests => "all requests",
            _ => "",
        }
    }

    /// Its word in the JSON document and in CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Service => "service",
            Self::Path => "path",
            Self::Backend => "backend",
            Self::Error => "error",
            Self::Check => "check",
            Self::Run => "run",
            Self::Daemon => "daemon",
            Self::Probe => "probe",
            Self::Ports => "ports",
            Self::Limit => "limit",
            Self::Time => "time",
            Self::Requests => "requests",
            _ => "",
        }
    }

    /// What its values are; empty for counts.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Ports | Self::Limit => "%",
            Self::Time => "s",
            _ => "",
        }
    }

    /// Whether its values are measured, so that the largest of a bin counts, and not their sum.
    pub fn is_measured(self) -> bool {
        !self.unit().is_empty()
    }

    /// Whether its counts are failures.
    pub fn is_failure(self) -> bool {
        !self.is_measured() && !self.is_hidden() && self != Self::Requests
    }

    /// Whether it is no row of the picture.
    pub fn is_hidden(self) -> bool {
        !Self::SHOWN.contains(&self)
    }
}
