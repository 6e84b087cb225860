//! What a run does, parsed and consistent: nothing is validated later.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::header::HeaderValue;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use super::args::{Args, OnRedirect, TIMEOUT};
use super::certificate::DaysLeft;
use super::checks::{Checks, Size};
use super::cookie_file::Cookies;
use super::evidence::Evidence;
use super::expect::PhaseLimits;
use super::jsonpath;
use super::pace::Pace;
use super::page::PageUse;
use super::paths::{Path, Ways};
use super::pattern::Pattern;
use super::protocol::ProtocolArgs;
use super::proxy::{Proxies, is_connect};
use super::request::Template;
use super::resolve::fits;
use super::secrets;
use super::source::Source;
use super::target::{Target, default_port, host_and_port};
use super::tls::Met;
use super::verify::Trust;
use crate::plugin::options::Format;
use crate::plugin::{Arguments, Limit, Limits, State};

/// The settings of a run.
#[derive(Debug)]
pub struct Plan {
    /// The ways to send the request, taken in turn.
    pub paths: Vec<Path>,
    /// What these ways are.
    pub ways: Ways,
    /// How many more addresses there are than are taken.
    pub left_out: usize,
    /// The address family to keep to.
    pub family: Family,
    /// The TLS versions to offer, and whether to tell the host name.
    pub tls: Tls,
    /// What is sent.
    pub request: Template,
    /// Whether each probe gets an `X-Request-Id` of its own.
    pub request_id: bool,
    /// What to make of redirects.
    pub on_redirect: OnRedirect,
    /// The most redirects in one probe.
    pub max_redirects: u32,
    /// The limit of one probe, name resolution and redirects included. `None`: the run's deadline alone.
    pub timeout: Option<Duration>,
    /// How HTTP is spoken.
    pub protocol: ProtocolArgs,
    /// The cookies that go with it.
    pub cookies: Option<Cookies>,
    /// How bad it is to reach it.
    pub timeout_result: State,
    /// The proxies that requests go through.
    pub proxies: Proxies,
    /// The `Proxy-Authorization` for a server that is one, where no proxy is named.
    pub proxy_authorization: Option<HeaderValue>,
    /// Whether connections begin with a header of the PROXY protocol.
    pub announce: bool,
    /// Where connections leave this host.
    pub source: Source,
    /// How long the certificate must be good.
    pub certificate: Option<DaysLeft>,
    /// Whether a request is sent even where the certificate is looked at.
    pub ask: bool,
    /// How a probe is judged.
    pub checks: Checks,
    /// How much of a page is read and kept.
    pub page: PageUse,
    /// How many probes, and how fast.
    pub pace: Pace,
    /// Ranges over the failed probes; they decide where there is one.
    pub failures: Limits<Limit>,
    /// The percentile of the times that the time limits of `checks` are for, instead of each probe.
    pub percentile: Option<f64>,
    /// What is shown beside the result.
    pub show: Show,
    /// What is kept of failing probes.
    pub evidence: Evidence,
}

/// The address family to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Whatever the name has.
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// TLS settings.
#[derive(Debug)]
pub struct Tls {
    /// The versions to offer.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Whether the server is told the host name.
    pub sni: bool,
    /// The PEM files with the certificate to show and with its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whom to trust; `None`: whoever answers.
    pub trust: Option<Trust>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Whether that has ever been enough.
    pub met: Met,
}

/// What is shown beside the result.
#[derive(Debug, Clone, Copy)]
pub struct Show {
    /// Performance data by phase.
    pub phases: bool,
    /// The page.
    pub page: bool,
    /// The URL.
    pub url: bool,
    /// The failing probe with what came, at the end of a loop.
    pub exchange: bool,
    /// The details of the JSON document.
    pub details: bool,
}

impl Plan {
    /// Whether the certificates that a server shows matter.
    pub fn shows_chain(&self) -> bool {
        self.certificate.is_some() || self.tls.trust.is_some()
    }
}

impl TryFrom<&Args> for Plan {
    type Error = anyhow::Error;

    fn try_from(args: &Args) -> anyhow::Result<Self> {
        anyhow::ensure!(
            args.extra_opts.is_none(),
            "--extra-opts cannot be abbreviated"
        );
        anyhow::ensure!(
            !args.pace.keepalive || args.certificate.is_none() || args.continue_after_certificate,
            "--keepalive: -C alone sends no request, each probe needs a handshake of its own; \
             --continue-after-certificate sends one"
        );
        let request = Template::try_from(args)?;
        let proxies = Proxies::from_args(args)?;
        let target = target(args)?;
        anyhow::ensure!(
            args.route.proxy_from_environment || proxies.is_empty() || !target.is_file(),
            "-I {}: a socket in the file system is not behind a proxy",
            target.address
        );
        let proxy_authorization = if proxies.is_empty() {
            secrets::proxy_pair(args)?
                .map(|pair| secrets::basic("-b", &pair))
                .transpose()?
        } else {
            None
        };
        request.build(&target, None)?;
        let family = match (args.ipv4, args.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        };
        let source = Source::try_from(&args.source)?;
        // What a proxy connects to is the proxy's affair.
        let proxy = proxies.serving(&target);
        let fitting = |address: &_| proxy.is_some() || fits(family, &source, address);
        let (ways, paths) = args.paths.paths(&target, proxy, fitting)?;
        let given = request.secrets().chain(&proxy_authorization);
        Ok(Self {
            evidence: Evidence::new(args, given, &proxies),
            paths,
            ways,
            left_out: 0,
            family,
            tls: Tls {
                versions: tls_versions(args.ssl.as_deref().unwrap_or_default())?,
                // What is verified is shown by name: check_curl always tells it.
                sni: args.sni || args.verify.https(),
                identity: args.client_cert.clone().zip(args.private_key.clone()),
                trust: Trust::load(&args.verify)?,
                http2: args.protocol.offers_http2(),
                met: Met::default(),
            },
            request_id: !args.no_request_id && !request.has_request_id(),
            request,
            on_redirect: args.onredirect,
            max_redirects: args.max_redirs,
            timeout: timeout(args),
            protocol: args.protocol.clone(),
            cookies: Cookies::load(&args.cookies)?,
            timeout_result: args.expected.timeout_result.unwrap_or(State::Critical),
            proxies,
            proxy_authorization,
            announce: args.route.haproxy_protocol,
            source,
            certificate: args
                .certificate
                .as_deref()
                .map(DaysLeft::parse)
                .transpose()?,
            ask: args.certificate.is_none() || args.continue_after_certificate,
            checks: checks(args)?,
            page: PageUse::from(args),
            pace: Pace::from(&args.pace),
            failures: Limits {
                warning: args.failures_warning,
                critical: args.failures_critical,
            },
            percentile: args.percentile,
            show: Show {
                phases: args.extended_perfdata,
                page: args.show_body,
                url: args.link,
                exchange: args.common().until.is_some(),
                details: args.common().format == Format::Json,
            },
        })
    }
}

/// The limit of a probe.
pub(super) fn timeout(args: &Args) -> Option<Duration> {
    let timeout = args.common().timeout.unwrap_or(TIMEOUT);
    // As in check_http: who calls 30 s critical does not want 10 s to be the end. No -t at all: 0.
    let timeout = match args.critical.map(|range| range.end()) {
        Some(end) if end.is_finite() && end > timeout.as_secs_f64() => {
            Duration::from_secs_f64(end.min(86_400.0) + 1.0)
        }
        _ => timeout,
    };
    args.common().timeout.map_or(Some(timeout), |given| {
        (given > Duration::ZERO).then_some(timeout)
    })
}

fn target(args: &Args) -> anyhow::Result<Target> {
    // As in check_http: what stands alone is the address first and then the host name, where the options do not say.
    let mut alone = args.positional.iter().filter(|word| !word.is_empty());
    let ip_address = args.ip_address.as_ref().or_else(|| alone.next());
    let hostname = args.hostname.as_ref().or_else(|| alone.next());
    if let Some(word) = alone.next() {
        bail!("'{word}' is one name too many: -I and -H have given address and host name");
    }
    let (host, host_port) = match hostname {
        Some(text) => {
            let (host, port) = host_and_port(text)
                .with_context(|| format!("-H {text}: this is no host name, nor HOST:PORT"))?;
            (Some(host), port)
        }
        None => (None, None),
    };
    let address = match (ip_address, &host) {
        (Some(path), _) if path.starts_with('/') => path.clone(),
        (Some(text), _) => match host_and_port(text) {
            Some((address, None)) => address,
            Some(_) => bail!("-I {text}: give the port with -p"),
            None => bail!("-I {text}: this is no address, nor a host name"),
        },
        (None, Some(host)) => host.clone(),
        (None, None) => {
            bail!("no server is named: give a host name (-H) or an address (-I), see --help")
        }
    };
    let https = args.https();
    if let (true, Some(host)) = (is_connect(args), &host) {
        // -I and -p are the proxy's.
        let port = host_port.unwrap_or(default_port(true));
        return Ok(Target {
            https: true,
            address: host.clone(),
            name: None,
            port,
            host: Some(host.clone()),
            host_port: port,
            path: args.url.clone(),
        });
    }
    let port = args.port.or(host_port).unwrap_or(default_port(https));
    Ok(Target {
        https,
        address,
        name: None,
        port,
        host,
        host_port: host_port.unwrap_or(port),
        path: args.url.clone(),
    })
}

fn checks(args: &Args) -> anyhow::Result<Checks> {
    let expression = match (&args.regex, &args.eregi) {
        (Some(regex), _) => Some((regex, false)),
        (None, Some(eregi)) => Some((eregi, true)),
        (None, None) => None,
    };
    let regex = expression
        .map(|(text, ignore_case)| Pattern::compile(text, ignore_case, args.linespan))
        .transpose()?;
    let limits = Limits {
        warning: args.warning,
        critical: args.critical,
    };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Ok(Checks {
        expect: given(&args.expect),
        expect_last: args.expected.expect_last || args.onredirect == OnRedirect::Curl,
        statuses: args.expected.status.clone(),
        header: given(&args.header_string),
        string: given(&args.string),
        regex,
        invert_regex: args.invert_regex,
        json: jsonpath::compile(&args.json)?,
        state_regex: args.expected.state_regex.unwrap_or(State::Critical),
        max_age: args.max_age,
        size: args.pagesize.as_deref().map(parse_size).transpose()?,
        time: if args.percentile.is_some() {
            Limits {
                warning: None,
                critical: None,
            }
        } else {
            limits
        },
        run_time: limits,
        phases: if args.percentile.is_some() {
            PhaseLimits::NONE
        } else {
            args.expected.phases()
        },
        run_phases: args.expected.phases(),
    })
}

fn parse_size(text: &str) -> anyhow::Result<Size> {
    let (min, max) = match text.split_once(':') {
        Some((min, max)) => (min, Some(max)),
        None => (text, None),
    };
    let number = |word: &str| {
        word.parse()
            .ok()
            .with_context(|| format!("-m {text}: give MIN or MIN:MAX, in bytes"))
    };
    Ok(Size {
        min: number(min)?,
        max: max.map(number).transpose()?.unwrap_or(0),
    })
}

/// The versions behind `-S`, without and with the `+` for newer ones.
fn tls_versions(text: &str) -> anyhow::Result<Vec<&'static SupportedProtocolVersion>> {
    match text {
        "" | "1.2+" | "1.1+" | "1.0+" | "1+" | "2+" | "3+" => Ok(vec![&TLS12, &TLS13]),
        "1.2" => Ok(vec![&TLS12]),
        "1.3" | "1.3+" => Ok(vec![&TLS13]),
        "1" | "1.0" | "1.1" | "2" | "3" => {
            let name = match text {
                "2" | "3" => "SSL",
                _ => "TLS",
            };
            bail!(
                "-S{text}: this program speaks TLS 1.2 and 1.3 and not {name} {text}; \
                 use check_http for so old a server, or -S{text}+ to allow newer versions"
            )
        }
        _ => bail!("-S{text}: give 1.2 or 1.3, with + to allow newer versions as well"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::options;

    fn plan(line: &str) -> anyhow::Result<Plan> {
        let words = ["check_http_retry"].into_iter().chain(line.split(' '));
        let args: Args =
            options::parse("HTTP", words.map(Into::into)).map_err(anyhow::Error::msg)?;
        Plan::try_from(&args)
    }

    #[test]
    fn addresses_and_ports_come_from_where_check_http_takes_them() {
        for (line, address, port, host) in [
            ("-H a.test", "a.test", 80, Some("a.test")),
            ("-H a.test -S", "a.test", 443, Some("a.test")),
            ("-H a.test:81", "a.test", 81, Some("a.test:81")),
            ("-H a.test -p 81", "a.test", 81, Some("a.test:81")),
            ("-H a.test:1234 -p 81", "a.test", 81, Some("a.test:1234")),
            ("-I 192.0.2.1", "192.0.2.1", 80, None),
            ("-H [::1]:8080", "::1", 8080, Some("[::1]:8080")),
            ("-I ::1 -H a", "::1", 80, Some("a")),
            ("-H a.test -S1.2+ -p 80", "a.test", 80, Some("a.test:80")),
        ] {
            let plan = plan(line).unwrap();
            let target = &plan.paths[0].target;
            assert_eq!((&*target.address, target.port), (address, port), "{line}");
            assert_eq!(target.host_header().as_deref(), host, "{line}");
        }
    }

    /// Who calls a minute critical does not want to be told after 50 s that nothing is known.
    #[test]
    fn a_probe_that_may_take_long_has_the_time_for_it() {
        for (line, limit, whole) in [
            ("-H a", Some(10), 50),
            ("-H a -t 70", Some(70), 72),
            ("-H a -c 60", Some(61), 63),
            ("-H a -c 60 --deadline 20", Some(61), 20),
            ("-H a -c 60 --duration 30", Some(61), 93),
            ("-H a -t 0", None, 50),
        ] {
            let words = ["check_http_retry"].into_iter().chain(line.split(' '));
            let args: Args = options::parse("HTTP", words.map(Into::into)).unwrap();
            assert_eq!(timeout(&args), limit.map(Duration::from_secs), "{line}");
            assert_eq!(args.limit(), Duration::from_secs(whole), "{line}");
        }
    }

    #[test]
    fn the_number_of_probes_follows_from_what_is_asked() {
        for (line, attempts) in [
            ("-H a", Some(10)),
            ("-H a --attempts 3", Some(3)),
            ("-H a --detect 1%", Some(299)),
            ("-H a --duration 5", None),
            ("-H a --duration 5 --attempts 7", Some(7)),
        ] {
            assert_eq!(plan(line).unwrap().pace.attempts, attempts, "{line}");
        }
        assert_eq!(
            plan("-H a --rate 50/s").unwrap().pace.interval,
            Duration::from_millis(20)
        );
    }

    #[test]
    fn the_time_out_is_that_of_check_http() {
        for (line, seconds) in [
            ("-H a", Some(10)),
            ("-H a -t 5", Some(5)),
            ("-H a -c 30", Some(31)),
            ("-H a -c 3", Some(10)),
            ("-H a -t 0", None),
        ] {
            let timeout = plan(line).unwrap().timeout;
            assert_eq!(timeout, seconds.map(Duration::from_secs), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (line, word) in [
            ("-u /", "no server is named"),
            ("-H a/b", "no host name"),
            ("-I 1.2.3.4:80", "port with -p"),
            ("-H a -S1", "TLS 1"),
            ("-H a -S9", "1.2 or 1.3"),
            ("-H a -r (", "regular expression"),
            ("-H a -k nocolon", "-k nocolon"),
            ("-H a -m :10", "-m :10"),
            ("-H a -j B@D", "-j B@D"),
            ("-H a -p 70000", "70000"),
            ("-H a --attempts 0", "0"),
            ("-H a --detect 0%", "0%"),
            ("-H a --attempts 5 --detect 1%", "cannot stand"),
            ("-H a -w abc", "abc"),
        ] {
            let error = format!("{:#}", plan(line).expect_err(line));
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
