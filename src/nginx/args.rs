//! The options of `check_nginx_upstream_bind`.
#![allow(rustdoc::broken_intra_doc_links)] // help texts are no Markdown: [:SS] is no link

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use super::cause::Cause;
use super::dialect::Dialect;
use super::verdict::Also;
use crate::plugin::options::parse_positive_duration;
use crate::plugin::{Arguments, Common, Range};

/// Counts, minute by minute, why nginx could not reach its upstreams
///
/// Reads what is new in nginx' error logs, keeps the minutes in a state file, and judges those of the last ten
/// minutes of the log's own time, so that a second look says the same as the first. Causes are told apart by the
/// number in "failed (98:", never by its text. Rotated logs are followed, by rename and by copytruncate.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "check_nginx_upstream_bind",
    version,
    after_help = "Examples:
  check_nginx_upstream_bind -f /var/log/nginx/error.log
  check_nginx_upstream_bind -f '/var/log/nginx/*error.log' \\
      --cause bind-in-use,no-free-port,no-file-descriptors -w 0 -c 100
  check_nginx_upstream_bind -f /var/log/nginx/error.log \\
      --since 05:00 --before 06:30 -vv"
)]
pub struct Args {
    /// An error log of nginx, a pattern for several, or - for standard input; repeat for more [default: /var/log/nginx/error.log]
    #[arg(short, long, value_name = "FILE")]
    pub file: Vec<PathBuf>,

    /// What this unit of systemd's wrote to the journal, as nginx, besides or instead of files
    #[arg(long, value_name = "UNIT")]
    pub journal_unit: Option<String>,

    /// Whose words the logs are written in: auto finds out by looking
    #[arg(long, value_name = "PROXY", value_enum, default_value_t = Wording::Auto)]
    pub dialect: Wording,

    /// The causes that count for the state
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "bind-in-use,no-free-port",
        value_parser = str::parse::<Cause>
    )]
    pub cause: Vec<Cause>,

    /// Count these and the causes of --also alone, nothing beside them: a huge log is read in two thirds of the time
    #[arg(long)]
    pub only: bool,

    /// The window: so much of the log's own time, up to now
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_positive_duration)]
    pub last: Duration,

    /// Look back instead: from this time on (HH:MM, YYYY-MM-DD HH:MM[:SS], RFC 3339), keeping no state
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Look back instead: up to this time
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,

    /// The time zone in which nginx writes, as Europe/Vienna or +01:00, where it is not this host's
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, value_parser = parse_zone)]
    pub log_tz: Option<TimeZone>,

    /// Where the minutes are kept between two runs [default: one file per user and set of options, below
    /// $NAGIOS_PLUGIN_STATE_DIRECTORY, /var/lib/monitoring-plugins or /var/tmp]
    #[arg(long, value_name = "PATH")]
    pub state_file: Option<PathBuf>,

    /// WARNING when the count in the window is outside of this range
    #[arg(
        short,
        long,
        value_name = "RANGE",
        allow_hyphen_values = true,
        help_heading = "Thresholds"
    )]
    pub warning: Option<Range>,

    /// CRITICAL when it is outside of this one [default, where no threshold is given: 0, so any is CRITICAL]
    #[arg(
        short,
        long,
        value_name = "RANGE",
        allow_hyphen_values = true,
        help_heading = "Thresholds"
    )]
    pub critical: Option<Range>,

    /// WARNING when the count of the worst minute is outside of this range
    #[arg(
        long,
        value_name = "RANGE",
        allow_hyphen_values = true,
        help_heading = "Thresholds"
    )]
    pub per_minute_warning: Option<Range>,

    /// CRITICAL when it is outside of this one
    #[arg(
        long,
        value_name = "RANGE",
        allow_hyphen_values = true,
        help_heading = "Thresholds"
    )]
    pub per_minute_critical: Option<Range>,

    /// Another cause with limits of its own: CAUSE=W:C is WARNING above W events in the window, CRITICAL above C;
    /// repeat for more
    #[arg(long, value_name = "CAUSE=W[:C]", help_heading = "Thresholds")]
    pub also: Vec<Also>,

    /// Another log (of nginx' access, of Icinga 2, of Nagios, or FILE=TEXT for lines with this text): do its failures
    /// fall into the same minutes? Repeat for more
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub correlate: Vec<String>,

    /// List the counted events by upstream, server, client, uri or minute
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        value_delimiter = ',',
        help_heading = "Output"
    )]
    pub by: Vec<By>,

    /// Say what to change, by what was counted and, where this runs beside the proxy, by its ports as they are now
    #[arg(long, help_heading = "Output")]
    pub explain: bool,

    #[command(flatten)]
    common: Common,
}

/// What counted events can be listed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// `host:port`.
    Upstream,
    /// The server as the line has it.
    Server,
    /// The client's address.
    Client,
    /// The first two steps of the request's path.
    Uri,
    /// The log's own minutes.
    Minute,
}

/// Whose words a log is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wording {
    /// Found out by looking.
    Auto,
    /// An error log of nginx.
    Nginx,
    /// HAProxy's log.
    Haproxy,
    /// An error log of Apache with mod_proxy.
    Apache,
    /// An access log of Envoy, best with %RESPONSE_CODE_DETAILS%.
    Envoy,
}

impl Wording {
    /// The dialect that was given.
    pub fn known(self) -> Option<Dialect> {
        match self {
            Self::Auto => None,
            Self::Nginx => Some(Dialect::Nginx),
            Self::Haproxy => Some(Dialect::Haproxy),
            Self::Apache => Some(Dialect::Apache),
            Self::Envoy => Some(Dialect::Envoy),
        }
    }
}

/// A zone by its name, or by its offset.
pub fn parse_zone(text: &str) -> Result<TimeZone, String> {
    let by_offset = || {
        strtime::parse("%:z", text)
            .ok()?
            .offset()
            .map(TimeZone::fixed)
    };
    TimeZone::get(text).ok().or_else(by_offset).ok_or_else(|| {
        format!("'{text}' is no time zone: give a name as in Europe/Vienna, or +01:00")
    })
}

impl Arguments for Args {
    fn common(&self) -> &Common {
        &self.common
    }
}
