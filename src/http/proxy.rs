//! Proxies: which one a request goes through, and how. No I/O; `tunnel` speaks with them.

use std::net::IpAddr;

use anyhow::{Context, bail, ensure};
use hyper::header::HeaderValue;

use super::args::Args;
use super::request::AGENT;
use super::secrets;
use super::target::{Target, bracketed, host_and_port};

/// The port of a proxy that names none, as with curl.
const PORT: u16 = 1080;

/// The longest user name or password that SOCKS can carry.
const SOCKS_LIMIT: usize = 255;

/// Its options.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Proxy")]
pub struct ProxyArgs {
    /// The proxy's URL.
    #[arg(
        short = 'x',
        long,
        value_name = "URL",
        help = "The proxy: http://[USER:PASSWORD@]HOST[:PORT], socks5://… (names are looked up here) or socks5h://… (by the proxy)"
    )]
    pub proxy: Option<String>,

    /// Hosts, domains, addresses and subnets, divided by commas, to connect to without it; * for all
    #[arg(long, value_name = "LIST")]
    pub noproxy: Option<String>,

    /// Begin each connection with a header of the PROXY protocol, version 1
    #[arg(long)]
    pub haproxy_protocol: bool,
}

/// A proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The `Proxy-Authorization` for it.
    pub authorization: Option<HeaderValue>,
    /// User and password.
    pub pair: Option<(String, String)>,
    /// The `User-Agent` for it.
    pub agent: String,
    exempt: Exempt,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP: it forwards requests over http, and opens tunnels for https.
    Http,
    /// HTTP, tunnels alone: `-j CONNECT`.
    Connect,
    /// SOCKS 5, with names looked up by this host.
    Socks5,
    /// SOCKS 5, with names looked up by the proxy.
    Socks5Names,
}

impl Proxy {
    /// The proxy that the options name, by `-x` or, as in `check_http`, by `-j CONNECT`.
    pub fn from_args(args: &Args) -> anyhow::Result<Option<Self>> {
        let url = args.route.proxy.as_deref().filter(|url| !url.is_empty());
        if is_connect(args) {
            ensure!(
                url.is_none(),
                "-j CONNECT names a proxy by -I and -p: it cannot stand with -x"
            );
            return Self::of_connect(args).map(Some);
        }
        let Some(url) = url else {
            return Ok(None);
        };
        // A password must not come up in an error.
        let shown = url.rsplit('@').next().unwrap_or_default();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let kind = match &*scheme.to_ascii_lowercase() {
            "http" => ProxyKind::Http,
            "socks5" => ProxyKind::Socks5,
            "socks5h" => ProxyKind::Socks5Names,
            _ => bail!(
                "-x {shown}: give http://, socks5:// or socks5h://; no other proxy is supported"
            ),
        };
        let rest = rest.trim_end_matches('/');
        let (pair, place) = match rest.rsplit_once('@') {
            Some((pair, place)) => (Some(unescaped(pair)), place),
            None => (secrets::proxy_pair(args)?, rest),
        };
        let (host, port) = host_and_port(place)
            .with_context(|| format!("-x {shown}: this is no HOST, nor HOST:PORT"))?;
        Self::new(kind, host, port.unwrap_or(PORT), pair, args).map(Some)
    }

    fn of_connect(args: &Args) -> anyhow::Result<Self> {
        let place = args
            .ip_address
            .as_ref()
            .filter(|_| args.https() && args.hostname.is_some());
        let host = place.context(
            "-j CONNECT: this takes -I (the proxy), -p (its port), -H (the server behind it) and -S; or name the proxy with -x",
        )?;
        let (host, _) = host_and_port(host)
            .with_context(|| format!("-I {host}: this is no proxy's address"))?;
        let pair = secrets::proxy_pair(args)?;
        Self::new(
            ProxyKind::Connect,
            host,
            args.port.unwrap_or(443),
            pair,
            args,
        )
    }

    fn new(
        kind: ProxyKind,
        host: String,
        port: u16,
        pair: Option<String>,
        args: &Args,
    ) -> anyhow::Result<Self> {
        let authorization = pair
            .as_ref()
            .map(|pair| secrets::basic("the proxy's user and password", pair));
        let pair = pair.map(|pair| match pair.split_once(':') {
            Some((user, password)) => (user.to_owned(), password.to_owned()),
            None => (pair, String::new()),
        });
        if let (ProxyKind::Socks5 | ProxyKind::Socks5Names, Some((user, password))) = (kind, &pair)
        {
            ensure!(
                (1..=SOCKS_LIMIT).contains(&user.len()) && password.len() <= SOCKS_LIMIT,
                "a user for SOCKS has 1 to 255 bytes, and a password no more than 255"
            );
        }
        Ok(Self {
            kind,
            host,
            port,
            authorization: authorization.transpose()?,
            pair,
            agent: args.useragent.clone().unwrap_or_else(|| AGENT.to_owned()),
            exempt: Exempt::of(args.route.noproxy.as_deref().unwrap_or_default()),
        })
    }

    /// Whether requests to this server go through it.
    pub fn serves(&self, target: &Target) -> bool {
        let names = [
            Some(&target.address),
            target.host.as_ref(),
            target.name.as_ref(),
        ];
        !target.is_file()
            && !names
                .into_iter()
                .flatten()
                .any(|name| self.exempt.has(name))
    }

    /// Whether it is asked for a tunnel, and not for the page.
    pub fn tunnels(&self, target: &Target) -> bool {
        self.kind != ProxyKind::Http || target.https
    }

    /// Whether it has to be told the server's address rather than its name.
    pub fn wants_address(&self) -> bool {
        self.kind == ProxyKind::Socks5
    }

    /// The target as such a proxy is asked for it: with the whole URL as its path.
    pub fn forwarded(&self, target: &Target) -> Target {
        let mut asked = target.clone();
        if !target.path.contains("://") {
            let port = match target.port {
                80 => String::new(),
                port => format!(":{port}"),
            };
            let slash = if target.path.starts_with('/') {
                ""
            } else {
                "/"
            };
            asked.path = format!(
                "http://{}{port}{slash}{}",
                bracketed(&target.address),
                target.path
            );
        }
        asked
    }

    /// Its name in a report.
    pub fn name(&self) -> String {
        format!("proxy {}:{}", bracketed(&self.host), self.port)
    }
}

/// Whether the method asks for a tunnel.
pub fn is_connect(args: &Args) -> bool {
    let method = args.method.as_deref().unwrap_or_default();
    method == "CONNECT" || method.starts_with("CONNECT:")
}

/// What is connected to without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exempt(Vec<Item>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    All,
    /// A name and all below it, in lower case.
    Domain(String),
    /// An address, and how many of its bits count.
    Net(IpAddr, u32),
}

impl Exempt {
    fn of(list: &str) -> Self {
        let words = list.split([',', ' ']).filter(|word| !word.is_empty());
        Self(words.map(item).collect())
    }

    fn has(&self, name: &str) -> bool {
        let address: Option<IpAddr> = name.parse().ok();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.0.iter().any(|item| match (item, address) {
            (Item::All, _) => true,
            (Item::Domain(domain), _) => name
                .strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            (Item::Net(net, bits), Some(address)) => same_net(*net, address, *bits),
            (Item::Net(..), None) => false,
        })
    }
}

fn item(word: &str) -> Item {
    if word == "*" {
        return Item::All;
    }
    let (net, bits) = word.split_once('/').unwrap_or((word, "128"));
    let net = net.trim_start_matches('[').trim_end_matches(']');
    match (net.parse(), bits.parse()) {
        (Ok(net), Ok(bits)) => Item::Net(net, bits),
        _ => Item::Domain(word.trim_matches('.').to_ascii_lowercase()),
    }
}

fn same_net(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    let (difference, width) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits() ^ other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits(), 128),
        _ => return false,
    };
    // More bits than an address has ask for all of it.
    let rest = width - bits.min(width);
    rest == 128 || difference >> rest == 0
}

/// Undoes %40 and the like.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text
            .get(at + 1..at + 3)
            .filter(|hex| bytes[at] == b'%' && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::options;

    fn proxy(line: &str) -> anyhow::Result<Option<Proxy>> {
        let words = ["check_http_retry"].into_iter().chain(line.split(' '));
        let args: Args =
            options::parse("HTTP", words.map(Into::into)).map_err(anyhow::Error::msg)?;
        Proxy::from_args(&args)
    }

    #[test]
    fn a_proxy_is_read_as_curl_reads_it() {
        use ProxyKind::{Connect, Http, Socks5, Socks5Names};
        for (line, kind, host, port, user) in [
            ("-H a -x http://p:3128", Http, "p", 3128, None),
            ("-H a -x p", Http, "p", 1080, None),
            (
                "-H a -x HTTP://u:p%40ss@[::1]:8080/",
                Http,
                "::1",
                8080,
                Some(("u", "p@ss")),
            ),
            (
                "-H a -x http://p -b u:p:w",
                Http,
                "p",
                1080,
                Some(("u", "p:w")),
            ),
            ("-H a -x socks5://p:9050", Socks5, "p", 9050, None),
            (
                "-H a -x socks5h://u@p",
                Socks5Names,
                "p",
                1080,
                Some(("u", "")),
            ),
            ("-I p -p 3128 -H a -S -j CONNECT", Connect, "p", 3128, None),
            ("-I p -H a -S -j CONNECT:HEAD", Connect, "p", 443, None),
        ] {
            let proxy = proxy(line).unwrap().unwrap();
            assert_eq!(
                (proxy.kind, &*proxy.host, proxy.port),
                (kind, host, port),
                "{line}"
            );
            let pair = proxy
                .pair
                .as_ref()
                .map(|(user, password)| (&**user, &**password));
            assert_eq!(pair, user, "{line}");
            assert_eq!(proxy.authorization.is_some(), user.is_some(), "{line}");
        }
        for (line, words) in [
            ("-H a -x https://p", "-x https://p: give http://"),
            ("-H a -x http://u:hush@a/b", "-x a/b: this is no HOST"),
            ("-H a -x socks5://:hush@p", "1 to 255 bytes"),
            ("-H a -j CONNECT", "-j CONNECT: this takes -I"),
            ("-I p -H a -S -j CONNECT -x q", "cannot stand with -x"),
        ] {
            let error = format!("{:#}", proxy(line).unwrap_err());
            assert!(
                error.contains(words) && !error.contains("hush"),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn what_is_exempt_is_so_by_name_domain_address_or_subnet() {
        for (list, yes, no) in [
            (
                "a.test, .b.test",
                &["a.test", "x.A.test", "b.test", "x.b.test"][..],
                &["xa.test", "c.test"][..],
            ),
            (
                "192.0.2.1,192.168.0.0/16",
                &["192.0.2.1", "192.168.7.7"],
                &["192.0.2.2", "192.169.0.1", "::1", "a"],
            ),
            (
                "::1,[2001:db8::]/32",
                &["::1", "2001:db8::7"],
                &["::2", "2001:db9::"],
            ),
            ("0.0.0.0/0", &["192.0.2.1"], &["::1", "a"]),
            ("*", &["a", "::1"], &[]),
            ("", &[], &["a", ""]),
        ] {
            let exempt = Exempt::of(list);
            assert!(yes.iter().all(|name| exempt.has(name)), "{list}");
            assert!(!no.iter().any(|name| exempt.has(name)), "{list}");
        }
    }
}
