//! The options of `incident_timeline`.
#![allow(rustdoc::broken_intra_doc_links)] // help texts are no Markdown: [:SS] is no link

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use jiff::tz::TimeZone;

use crate::nginx::parse_zone;
use crate::plugin::options::{parse_duration, parse_positive_duration};

/// Lays the logs of an incident side by side, and says with figures what coincides
///
/// Reads what is there anyway: nginx' error and access logs, Icinga's and Nagios' logs, the journals of
/// check_http_retry and check_port_exhaustion; plain, .gz or .zst, of any size, with their rotated files where
/// --since is given. Leaves with 0 when the report is made, and with 3 when it could not be.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "incident_timeline",
    version,
    after_help = "Examples:
  incident_timeline -e /var/log/nginx/error.log -a /var/log/nginx/access.log
  incident_timeline --since 05:00 --before 06:30 -e error.log -a access.log \\
      -i /var/log/icinga2/debug.log -j /var/log/proxy-checks.jsonl \\
      -o report.html
  incident_timeline -a proxy0=p0/access.log -a proxy1=p1/access.log \\
      --nginx-conf nginx.conf --mark '05:10 deploy of service1'"
)]
pub struct Args {
    /// An error log of nginx; NAME=FILE says which proxy's it is; patterns; repeat for more
    #[arg(short, long, value_name = "[NAME=]FILE", help_heading = "Sources")]
    pub error_log: Vec<String>,

    /// An access log of nginx, in the form combined or as --log-format says; repeat for more
    #[arg(short, long, value_name = "[NAME=]FILE", help_heading = "Sources")]
    pub access_log: Vec<String>,

    /// A log of Icinga 2 (main, debug or compat) or of Nagios; repeat for more
    #[arg(
        short,
        long,
        visible_alias = "nagios-log",
        value_name = "[NAME=]FILE",
        help_heading = "Sources"
    )]
    pub icinga_log: Vec<String>,

    /// A journal of check_http_retry or check_port_exhaustion; repeat for more
    #[arg(short, long, value_name = "[NAME=]FILE", help_heading = "Sources")]
    pub journal: Vec<String>,

    /// The form of the access logs, as log_format has it, as in '$remote_addr [$time_local] "$request" $status'
    #[arg(long, value_name = "STRING", help_heading = "Sources")]
    pub log_format: Option<String>,

    /// A configuration of nginx (or what nginx -T prints) with the log_format of the access logs
    #[arg(long, value_name = "FILE", help_heading = "Sources")]
    pub nginx_conf: Option<PathBuf>,

    /// The time zone of logs that do not name theirs, as Europe/Vienna or +01:00, where it is not this host's
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, value_parser = parse_zone, help_heading = "Sources")]
    pub log_tz: Option<TimeZone>,

    /// From this time on (HH:MM[:SS], YYYY-MM-DD HH:MM[:SS], RFC 3339) [default: all that the files hold]
    #[arg(long, value_name = "TIME", help_heading = "Window")]
    pub since: Option<String>,

    /// Up to this time
    #[arg(long, value_name = "TIME", help_heading = "Window")]
    pub before: Option<String>,

    /// The width of one bin: 1s, 10s, 1m, 10m, 1h or 1d [default: 1s up to a quarter of an hour, then 1m]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration, help_heading = "Window")]
    pub step: Option<Duration>,

    /// A moment to show, as a deploy or a cron job: 'TIME TEXT'; repeat for more
    #[arg(long, value_name = "'TIME TEXT'", help_heading = "Window")]
    pub mark: Vec<String>,

    /// Write the report to this file, whose ending says the form: .html, .svg, .png, .json, .csv or .txt; repeat
    /// for more
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Vec<PathBuf>,

    /// The form on standard output [default: text, or one line where there is -o]
    #[arg(
        long,
        value_name = "FORM",
        value_enum,
        ignore_case = true,
        help_heading = "Output"
    )]
    pub format: Option<Form>,

    /// How many lanes of a kind are shown, the largest first
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100), help_heading = "Output")]
    pub top: u16,

    /// Reading ends by then, and what was read is reported
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration, help_heading = "Output")]
    pub deadline: Duration,

    /// Print this help; -h prints a shorter one
    #[arg(short, long, action = ArgAction::Help, help_heading = "Output")]
    help: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "Output")]
    version: Option<bool>,
}

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Sparklines and words, 80 columns wide.
    Text,
    /// One JSON document.
    Json,
    /// A line for each lane and bin.
    Csv,
    /// One page that needs nothing else.
    Html,
    /// The lanes as a drawing.
    Svg,
    /// The same as pixels.
    #[value(skip)]
    Png,
}
