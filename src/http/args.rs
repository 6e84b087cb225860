//! The options of `check_http_retry` and their help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Parser};

use super::argv;
use super::cookie_file::CookieArgs;
use super::evidence::EvidenceArgs;
use super::expect::ExpectArgs;
use super::extra_opts;
use super::find::FindArgs;
use super::jsonpath::JsonArgs;
use super::pace::PaceArgs;
use super::paths::PathArgs;
use super::protocol::ProtocolArgs;
use super::proxy::ProxyArgs;
use super::secrets::SecretArgs;
use super::source::SourceArgs;
pub use super::target::OnRedirect;
use super::verify::VerifyArgs;
use crate::plugin::journal::JournalArgs;
use crate::plugin::options::parse_duration;
use crate::plugin::{Arguments, Common, Limit, Range};

/// How long a probe may take where `-t` does not say, as in `check_http`.
pub const TIMEOUT: Duration = Duration::from_secs(10);

const ABOUT: &str = "Asks a web server again and again until it fails: check_http for failures that come and go

Takes the options of check_http and answers in its words, but sends 10 probes instead of one, each on a new \
connection, and says how many failed, at which rate, in which phase and from which client port.";

const EXAMPLES: &str = "Examples:
  check_http_retry -H www.example.org -S --sni -u /health
      10 probes over https; any failure gives its state, as check_http's would
  check_http_retry -H www.example.org -I 192.0.2.7 -S --sni --detect 1% \\
      --concurrency 4
      as many probes at this address as it takes to see a failure rate of 1 %
  check_http_retry -H www.example.org --duration 30s --rate 10/s \\
      --failures-critical 5%
      half a minute of 10 probes a second, CRITICAL when more than 5 % fail

Ranges are [@]START:END as everywhere in Nagios plugins, durations 10 (seconds),
500ms, 2m or 1h30m.
Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.";

/// The command line, as given.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "check_http_retry",
    version,
    about = ABOUT.split_once('\n').map_or(ABOUT, |(first, _)| first),
    long_about = ABOUT,
    after_help = EXAMPLES,
    override_usage = "check_http_retry (-H HOST | -I ADDRESS | ADDRESS [HOST]) [OPTIONS]"
)]
pub struct Args {
    /// The host name, for the Host header and, without -I, to connect to; HOST:PORT for a port in the header
    #[arg(short = 'H', long, value_name = "HOST", help_heading = "Server", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    pub hostname: Option<String>,

    /// The address or name to connect to, or the path of a Unix socket, instead of asking for the host name's
    #[arg(short = 'I', long = "IP-address", value_name = "ADDRESS", help_heading = "Server", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    pub ip_address: Option<String>,

    /// Address and host name, where -I and -H do not give them
    #[arg(value_name = "ADDRESS [HOST]", help_heading = "Server", num_args = 0..=2)]
    pub positional: Vec<String>,

    /// The port [default: 80, with -S 443]
    #[arg(
        short,
        long,
        value_name = "PORT",
        help_heading = "Server",
        allow_hyphen_values = true
    )]
    pub port: Option<u16>,

    /// Connect over IPv4
    #[arg(
        short = '4',
        long = "use-ipv4",
        help_heading = "Server",
        overrides_with = "ipv6"
    )]
    pub ipv4: bool,

    /// Connect over IPv6
    #[arg(
        short = '6',
        long = "use-ipv6",
        help_heading = "Server",
        overrides_with = "ipv4"
    )]
    pub ipv6: bool,

    /// Speak https; VERSION (1.2 or 1.3, attached: -S1.2) allows that one alone, with + also newer ones
    #[arg(short = 'S', long, value_name = "VERSION", help_heading = "Server", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub ssl: Option<String>,

    /// Tell the server the host name in the TLS handshake
    #[arg(long, help_heading = "Server")]
    pub sni: bool,

    /// Days that the certificate must be good for, with a comma the days for CRITICAL; sends no request
    #[arg(
        short = 'C',
        long,
        value_name = "DAYS[,DAYS]",
        help_heading = "Server",
        allow_hyphen_values = true
    )]
    pub certificate: Option<String>,

    /// With -C send the request as well
    #[arg(long, help_heading = "Server", requires = "certificate")]
    pub continue_after_certificate: bool,

    /// A PEM file with the certificate to show to the server
    #[arg(
        short = 'J',
        long,
        value_name = "FILE",
        help_heading = "Server",
        requires = "private_key"
    )]
    pub client_cert: Option<PathBuf>,

    /// A PEM file with its key
    #[arg(short = 'K', long, value_name = "FILE", help_heading = "Server")]
    pub private_key: Option<PathBuf>,

    /// The path to ask for
    #[arg(
        short,
        long,
        value_name = "PATH",
        default_value = "/",
        help_heading = "Request",
        allow_hyphen_values = true
    )]
    pub url: String,

    /// The method [default: GET, with -P POST]; CONNECT or CONNECT:METHOD with -S: -I and -p are a proxy's, -H is behind it
    #[arg(short = 'j', long, value_name = "METHOD", help_heading = "Request", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    pub method: Option<String>,

    /// A header, as in 'X-Name: value' (repeat)
    #[arg(
        short = 'k',
        long,
        value_name = "HEADER",
        help_heading = "Request",
        allow_hyphen_values = true
    )]
    pub header: Vec<String>,

    /// The User-Agent
    #[arg(
        short = 'A',
        long,
        value_name = "NAME",
        help_heading = "Request",
        allow_hyphen_values = true
    )]
    pub useragent: Option<String>,

    /// User and password of basic authentication; better in a file or the environment, see --authorization-file
    #[arg(
        short,
        long,
        value_name = "USER:PASSWORD",
        help_heading = "Request",
        allow_hyphen_values = true
    )]
    pub authorization: Option<String>,

    /// User and password for a proxy
    #[arg(
        short = 'b',
        long,
        value_name = "USER:PASSWORD",
        help_heading = "Request",
        allow_hyphen_values = true
    )]
    pub proxy_authorization: Option<String>,

    /// Data to send
    #[arg(
        short = 'P',
        long,
        value_name = "DATA",
        help_heading = "Request",
        allow_hyphen_values = true
    )]
    pub post: Option<String>,

    /// The type of the data to send [default: application/x-www-form-urlencoded]
    #[arg(
        short = 'T',
        long,
        value_name = "TYPE",
        help_heading = "Request",
        allow_hyphen_values = true
    )]
    pub content_type: Option<String>,

    /// Send a fresh X-Request-Id with each probe, to find it in the proxy's log (this is the default)
    #[arg(long, help_heading = "Request", overrides_with = "no_request_id")]
    pub request_id: bool,

    /// Send no X-Request-Id
    #[arg(long, help_heading = "Request", overrides_with = "request_id")]
    pub no_request_id: bool,

    /// What to make of a redirect; sticky stays with the address, stickyport with address and port, curl follows as curl does
    #[arg(
        short = 'f',
        long,
        value_name = "ACTION",
        value_enum,
        default_value_t = OnRedirect::Ok,
        help_heading = "Request",
        allow_hyphen_values = true
    )]
    pub onredirect: OnRedirect,

    /// The most redirects to follow in one probe
    #[arg(
        long,
        value_name = "N",
        default_value_t = 15,
        help_heading = "Request",
        allow_hyphen_values = true
    )]
    pub max_redirs: u32,

    /// Texts, divided by commas, of which the status line must hold one; switches the judging of the status off
    #[arg(
        short,
        long,
        value_name = "TEXT",
        help_heading = "Judging a probe",
        allow_hyphen_values = true
    )]
    pub expect: Option<String>,

    /// A text that the header must hold
    #[arg(
        short = 'd',
        long,
        value_name = "TEXT",
        help_heading = "Judging a probe",
        allow_hyphen_values = true
    )]
    pub header_string: Option<String>,

    /// A text that the page must hold
    #[arg(
        short,
        long,
        value_name = "TEXT",
        help_heading = "Judging a probe",
        allow_hyphen_values = true
    )]
    pub string: Option<String>,

    /// A POSIX extended regular expression that the page must match
    #[arg(
        short,
        long,
        alias = "ereg",
        value_name = "REGEX",
        help_heading = "Judging a probe",
        overrides_with = "eregi",
        allow_hyphen_values = true
    )]
    pub regex: Option<String>,

    /// The same, upper and lower case alike
    #[arg(
        short = 'R',
        long,
        value_name = "REGEX",
        help_heading = "Judging a probe",
        overrides_with = "regex",
        allow_hyphen_values = true
    )]
    pub eregi: Option<String>,

    /// Let the expression's . match line feeds, and ^ and $ only the ends of the page
    #[arg(short = 'l', long, help_heading = "Judging a probe")]
    pub linespan: bool,

    /// The page must not match the expression
    #[arg(long, help_heading = "Judging a probe")]
    pub invert_regex: bool,

    /// The least size, headers included, and with MIN:MAX the largest, in bytes
    #[arg(
        short = 'm',
        long,
        value_name = "MIN[:MAX]",
        help_heading = "Judging a probe",
        allow_hyphen_values = true
    )]
    pub pagesize: Option<String>,

    /// The most that the page may be older than the server's time: 10m, 10h, 10d or seconds
    #[arg(short = 'M', long, value_name = "AGE", help_heading = "Judging a probe", value_parser = parse_duration)]
    pub max_age: Option<Duration>,

    /// Do not wait for the page
    #[arg(short = 'N', long, help_heading = "Judging a probe")]
    pub no_body: bool,

    /// The time in seconds above which a probe is a WARNING
    #[arg(
        short,
        long,
        value_name = "RANGE",
        help_heading = "Judging a probe",
        allow_hyphen_values = true
    )]
    pub warning: Option<Range>,

    /// The time in seconds above which a probe is CRITICAL
    #[arg(
        short,
        long,
        value_name = "RANGE",
        help_heading = "Judging a probe",
        allow_hyphen_values = true
    )]
    pub critical: Option<Range>,

    /// The ways to the server.
    #[command(flatten)]
    pub paths: PathArgs,

    /// How many probes, and how fast.
    #[command(flatten)]
    pub pace: PaceArgs,

    /// The failed probes, in all or over any path, a count or a share with %, above which the state is WARNING
    #[arg(
        long,
        value_name = "RANGE",
        help_heading = "Judging the run",
        allow_hyphen_values = true
    )]
    pub failures_warning: Option<Limit>,

    /// The same for CRITICAL; without both, a run is as bad as its worst probe
    #[arg(
        long,
        value_name = "RANGE",
        help_heading = "Judging the run",
        allow_hyphen_values = true
    )]
    pub failures_critical: Option<Limit>,

    /// Let -w and -c, and the ranges for phases, judge this percentile of the times instead of each probe
    #[arg(long, value_name = "P", help_heading = "Judging the run", value_parser = parse_percentile)]
    pub percentile: Option<f64>,

    /// Performance data by phase as well, as in check_http
    #[arg(short = 'E', long, help_heading = "Common options", action = ArgAction::SetTrue)]
    pub extended_perfdata: bool,

    /// Show the page of the probe that the first line speaks of
    #[arg(short = 'B', long, help_heading = "Common options")]
    pub show_body: bool,

    /// Show the URL
    #[arg(
        short = 'L',
        long,
        help_heading = "Common options",
        overrides_with = "nohtml"
    )]
    pub link: bool,

    /// Undo an -L before it; there is no HTML in any output
    #[arg(
        short = 'n',
        long,
        help_heading = "Common options",
        overrides_with = "link"
    )]
    pub nohtml: bool,

    /// Where secrets are.
    #[command(flatten)]
    pub secrets: SecretArgs,

    /// What a page of JSON must hold.
    #[command(flatten)]
    pub json: JsonArgs,

    /// The proxy to go through.
    #[command(flatten)]
    pub route: ProxyArgs,

    /// What a probe is expected to be, beyond `check_http`'s means.
    #[command(flatten)]
    pub expected: ExpectArgs,

    /// Where to connect from.
    #[command(flatten)]
    pub source: SourceArgs,

    /// What is kept of failing probes.
    #[command(flatten)]
    pub evidence: EvidenceArgs,

    /// Options from a section of an ini file, as monitoring-plugins read them [default: check_http_retry or check_http]
    #[arg(long, value_name = "[SECTION][@FILE]", num_args = 0..=1, require_equals = true, help_heading = "Common options")]
    pub extra_opts: Option<Option<String>>,

    /// How HTTP is spoken.
    #[command(flatten)]
    pub protocol: ProtocolArgs,

    /// Where cookies are kept.
    #[command(flatten)]
    pub cookies: CookieArgs,

    /// Whether certificates are verified.
    #[command(flatten)]
    pub verify: VerifyArgs,

    /// Where probes are written down.
    #[command(flatten)]
    pub journal: JournalArgs,

    /// The logs in which failed probes are found.
    #[command(flatten)]
    pub find: FindArgs,

    #[command(flatten)]
    common: Common,
}

impl Args {
    /// Whether the options ask for https, by name or by needing it.
    pub fn https(&self) -> bool {
        let certificate = self.certificate.is_some() || self.client_cert.is_some();
        self.ssl.is_some() || certificate || self.verify.https()
    }
}

impl Arguments for Args {
    fn common(&self) -> &Common {
        &self.common
    }

    /// Who asks for more than the usual deadline allows, by `-t`, `-c` or `--duration`, and names no deadline, gets the
    /// time for it.
    fn limit(&self) -> Duration {
        if self.common.deadline.is_some() {
            return self.common.limit();
        }
        let probe = super::plan::timeout(self).unwrap_or_default() + Duration::from_secs(2);
        let burst = self
            .pace
            .duration
            .map_or(probe, |duration| duration + probe);
        self.common.limit().max(burst)
    }

    fn rewrite(argv: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
        Ok(argv::rewrite(extra_opts::expand(argv)?))
    }
}

fn parse_percentile(text: &str) -> Result<f64, String> {
    let number = text.trim_start_matches('p').parse().ok();
    number
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .ok_or_else(|| format!("'{text}': give a number above 0 and up to 100, as 95 or 99.9"))
}
