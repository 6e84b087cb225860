//! The options of `check_port_exhaustion`.
#![allow(rustdoc::broken_intra_doc_links)] // help texts are no Markdown: [v6] is no link

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::netns::Target;
use super::port_set::PortRange;
use super::socket::Protocol;
use crate::plugin::journal::JournalArgs;
use crate::plugin::options::parse_positive_duration;
use crate::plugin::{Arguments, Common, Limit, Range};

/// How many more connections this host can open before the kernel says no.
///
/// A client port can be used once for each destination: what counts is the busiest pair of local address and
/// remote address and port. TIME_WAIT holds a port for 60 s after this side closed first.
#[derive(Debug, Clone, Parser)]
#[command(name = "check_port_exhaustion", version, after_help = EXAMPLES)]
pub struct Args {
    /// Range for the worst share of the ports used, in percent
    #[arg(
        short,
        long,
        value_name = "RANGE",
        default_value = "50%",
        allow_hyphen_values = true,
        help_heading = "Thresholds"
    )]
    pub warning: Limit,

    /// Range for the worst share of the ports used, in percent
    #[arg(
        short,
        long,
        value_name = "RANGE",
        default_value = "80%",
        allow_hyphen_values = true,
        help_heading = "Thresholds"
    )]
    pub critical: Limit,

    /// Range for the seconds until the ports of a destination, or of who binds first, are used up at the present rate, as in 300:
    #[arg(
        long,
        value_name = "RANGE",
        allow_hyphen_values = true,
        help_heading = "Thresholds"
    )]
    pub seconds_left_warning: Option<Range>,

    /// Range for the seconds until the ports of a destination, or of who binds first, are used up at the present rate, as in 60:
    #[arg(
        long,
        value_name = "RANGE",
        allow_hyphen_values = true,
        help_heading = "Thresholds"
    )]
    pub seconds_left_critical: Option<Range>,

    /// Range for the share used of the other limits (connection tracking, files, memory), in percent
    #[arg(
        long,
        value_name = "RANGE",
        default_value = "90%",
        allow_hyphen_values = true,
        help_heading = "Thresholds"
    )]
    pub limits_warning: Limit,

    /// Range for the share used of the other limits (connection tracking, files, memory), in percent
    #[arg(
        long,
        value_name = "RANGE",
        default_value = "98%",
        allow_hyphen_values = true,
        help_heading = "Thresholds"
    )]
    pub limits_critical: Limit,

    /// How many connections to one destination a NAT gateway in the way allows, as in 55000; judged by -w and -c
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Thresholds")]
    pub nat_limit: Option<u32>,

    /// Which budget counts: connect, bind, both; auto: connect, and bind where sockets look bound before connecting
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Mode::Auto, ignore_case = true, help_heading = "Thresholds")]
    pub mode: Mode,

    /// Whose ports: tcp, or udp, where a port is taken whatever its destination and nothing foretells but --sample
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Protocol::Tcp, ignore_case = true, help_heading = "What to look at")]
    pub protocol: Protocol,

    /// Look at this destination alone, an IPv6 address in brackets; can be repeated
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_destination, help_heading = "What to look at")]
    pub destination: Vec<SocketAddr>,

    /// Look at this local address alone; can be repeated, each source goes with each destination
    #[arg(long, value_name = "ADDR", value_parser = parse_source, help_heading = "What to look at")]
    pub source: Vec<IpAddr>,

    /// The network namespace: self, all, a name of ip netns, pid:N, path:FILE or container:ID; can be repeated
    #[arg(long, value_name = "NAMESPACE", help_heading = "What to look at")]
    pub netns: Vec<Target>,

    /// Look again and again for this long and report the peak
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration, help_heading = "What to look at")]
    pub sample: Option<Duration>,

    /// Settle what cannot be seen by trying the ports one by one on loopback; needs Linux 6.3
    #[arg(long, conflicts_with = "sample", help_heading = "What to look at")]
    pub active: bool,

    /// The range of client ports, instead of the kernel's ip_local_port_range
    #[arg(long, value_name = "LOW-HIGH", help_heading = "What to look at")]
    pub port_range: Option<PortRange>,

    /// Where /proc is, for the kernel's settings and the processes
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/proc",
        help_heading = "What to look at"
    )]
    pub proc: PathBuf,

    /// Say what to change, by what was measured here
    #[arg(long, help_heading = "What to print")]
    pub explain: bool,

    /// Name the processes that hold the leading destination's connections, also where the state is OK
    #[arg(long, help_heading = "What to print")]
    pub owners: bool,

    /// Where counters and evidence are kept between two runs [default: below $NAGIOS_PLUGIN_STATE_DIRECTORY where that
    /// is set, else nowhere]
    #[arg(long, value_name = "PATH", help_heading = "What to look at")]
    pub state_file: Option<PathBuf>,

    /// Where looks are written down.
    #[command(flatten)]
    pub journal: JournalArgs,

    #[command(flatten)]
    common: Common,
}

const EXAMPLES: &str = "\
Examples:
  check_port_exhaustion
      the busiest destination: WARNING from 50 % of its ports on, CRITICAL from 80
  check_port_exhaustion --destination 192.0.2.10:8080 -w 60 -c 90 --explain
      one upstream, and what to do about it
  check_port_exhaustion --mode bind --source 0.0.0.0
      what an nginx with 'proxy_bind' has left where it binds before it connects
  check_port_exhaustion --protocol udp --sample 10s --seconds-left-critical 60:
      a DNS or QUIC proxy, and when it will be full";

/// Which of the two budgets decides the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// connect() always, bind() where there are signs of it.
    Auto,
    /// Ports for connect().
    Connect,
    /// Ports for bind() before connect().
    Bind,
    /// Both.
    Both,
}

impl Arguments for Args {
    fn common(&self) -> &Common {
        &self.common
    }
}

fn parse_destination(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        format!("'{text}' is no ADDR:PORT: give an address and a port, as in 192.0.2.10:8080 or [2001:db8::1]:443")
    })?;
    let usable = address.port() != 0 && !address.ip().to_canonical().is_unspecified();
    usable
        .then(|| SocketAddr::new(address.ip().to_canonical(), address.port()))
        .ok_or_else(|| format!("'{text}' is no destination: nobody can connect there"))
}

fn parse_source(text: &str) -> Result<IpAddr, String> {
    text.parse::<IpAddr>()
        .map(|address| address.to_canonical())
        .map_err(|_| {
            format!("'{text}' is no address: give one of this host, as in 192.0.2.1 or 2001:db8::1")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written_everywhere() {
        for (text, shown) in [
            ("192.0.2.10:8080", "192.0.2.10:8080"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
        ] {
            assert_eq!(parse_destination(text).unwrap().to_string(), shown);
        }
        for text in [
            "",
            "192.0.2.10",
            "host:80",
            "192.0.2.1:0",
            "0.0.0.0:80",
            "2001:db8::1:443",
            "1.2.3.4:70000",
        ] {
            assert!(parse_destination(text).is_err(), "{text} was taken");
        }
        assert_eq!(
            parse_source("::ffff:192.0.2.1").unwrap().to_string(),
            "192.0.2.1"
        );
        assert!(parse_source("eth0").is_err() && parse_source("192.0.2.1:80").is_err());
    }
}
