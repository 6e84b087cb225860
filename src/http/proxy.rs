//! Proxies: which one a request goes through, and how. No I/O; `tunnel` speaks with them.

use anyhow::{Context, bail, ensure};
use hyper::header::HeaderValue;

use super::args::Args;
use super::exempt::Exempt;
use super::request::AGENT;
use super::secrets;
use super::target::{Target, bracketed, host_and_port};

/// The port of a proxy that names none, as with curl.
const PORT: u16 = 1080;

/// That of one that is spoken to over TLS.
const TLS_PORT: u16 = 443;

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
        help = "The proxy: http:// or https://[USER:PASSWORD@]HOST[:PORT], socks4:// or socks5://… (names are looked up here), socks4a:// or socks5h://… (by the proxy)"
    )]
    pub proxy: Option<String>,

    /// Where -x names none, take the proxy that http_proxy, https_proxy or all_proxy name, but for what no_proxy lists
    #[arg(long)]
    pub proxy_from_environment: bool,

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
    /// The same, with all that is said to it encrypted.
    Https,
    /// HTTP, tunnels alone: `-j CONNECT`.
    Connect,
    /// SOCKS 4, with names looked up by this host; it knows IPv4 alone.
    Socks4,
    /// SOCKS 4a, with names looked up by the proxy.
    Socks4Names,
    /// SOCKS 5, with names looked up by this host.
    Socks5,
    /// SOCKS 5, with names looked up by the proxy.
    Socks5Names,
}

/// The proxies of a run: which one it is depends on what a server speaks.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
}

impl Proxies {
    /// Each of them.
    pub fn each(&self) -> impl Iterator<Item = &Proxy> {
        self.http.iter().chain(&self.https)
    }

    /// Those that the options name, by `-x` or, as in `check_http`, by `-j CONNECT`, or where it is asked for the
    /// environment.
    pub fn from_args(args: &Args) -> anyhow::Result<Self> {
        let url = args.route.proxy.as_deref().filter(|url| !url.is_empty());
        if is_connect(args) {
            ensure!(
                url.is_none(),
                "-j CONNECT names a proxy by -I and -p: it cannot stand with -x"
            );
            return Ok(Self::all(Proxy::of_connect(args)?));
        }
        if let Some(url) = url {
            return Ok(Self::all(Proxy::parse("-x", url, args)?));
        }
        if !args.route.proxy_from_environment {
            return Ok(Self::default());
        }
        let named = |names: &[&str]| -> anyhow::Result<Option<Proxy>> {
            let Some((name, url)) = variable(names)? else {
                return Ok(None);
            };
            Proxy::parse(name, &url, args).map(Some)
        };
        Ok(Self {
            // Not HTTP_PROXY: where a web server runs it, that is the header `Proxy` of whoever asks. So do curl and
            // check_curl.
            http: named(&["http_proxy", "all_proxy", "ALL_PROXY"])?,
            https: named(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
        })
    }

    fn all(proxy: Proxy) -> Self {
        Self {
            http: Some(proxy.clone()),
            https: Some(proxy),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }

    /// The one that requests to this server go through.
    pub fn serving(&self, target: &Target) -> Option<&Proxy> {
        let proxy = if target.https {
            &self.https
        } else {
            &self.http
        };
        proxy.as_ref().filter(|proxy| proxy.serves(target))
    }
}

/// The first of these that the environment has, unless it is empty there: that is none.
fn variable<'a>(names: &[&'a str]) -> anyhow::Result<Option<(&'a str, String)>> {
    let found = names
        .iter()
        .find_map(|name| Some((*name, std::env::var_os(name)?)));
    let Some((name, value)) = found.filter(|(_, value)| !value.is_empty()) else {
        return Ok(None);
    };
    let value = value.into_string().ok();
    let value = value.with_context(|| format!("{name}: what is there is no UTF-8"))?;
    Ok(Some((name, value)))
}

impl Proxy {
    /// By its URL, which `origin` gave.
    fn parse(origin: &str, url: &str, args: &Args) -> anyhow::Result<Self> {
        // A password must not come up in an error.
        let shown = url.rsplit('@').next().unwrap_or_default();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let kind = match &*scheme.to_ascii_lowercase() {
            "http" => ProxyKind::Http,
            "https" => ProxyKind::Https,
            "socks" | "socks4" => ProxyKind::Socks4,
            "socks4a" => ProxyKind::Socks4Names,
            "socks5" => ProxyKind::Socks5,
            "socks5h" => ProxyKind::Socks5Names,
            _ => bail!(
                "{origin} {shown}: give http://, https://, socks4://, socks4a://, socks5:// or socks5h://; no other proxy \
                 is supported"
            ),
        };
        let rest = rest.trim_end_matches('/');
        let (pair, place) = match rest.rsplit_once('@') {
            Some((pair, place)) => (Some(unescaped(pair)), place),
            None => (secrets::proxy_pair(args)?, rest),
        };
        let (host, port) = host_and_port(place)
            .with_context(|| format!("{origin} {shown}: this is no HOST, nor HOST:PORT"))?;
        let port = port.unwrap_or(match kind {
            ProxyKind::Https => TLS_PORT,
            _ => PORT,
        });
        Self::new(kind, host, port, pair, args)
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
        if let (true, Some((user, password))) = (kind.is_socks(), &pair) {
            ensure!(
                (1..=SOCKS_LIMIT).contains(&user.len()) && password.len() <= SOCKS_LIMIT,
                "a user for SOCKS has 1 to 255 bytes, and a password no more than 255"
            );
            ensure!(
                !user.contains('\0'),
                "a user for SOCKS has no zero byte in its name"
            );
        }
        Ok(Self {
            kind,
            host,
            port,
            authorization: authorization.transpose()?,
            pair,
            agent: args.useragent.clone().unwrap_or_else(|| AGENT.to_owned()),
            exempt: match &args.route.noproxy {
                Some(list) => Exempt::of(list),
                None if args.route.proxy_from_environment => {
                    let list = variable(&["no_proxy", "NO_PROXY"])?;
                    Exempt::of(&list.unwrap_or_default().1)
                }
                None => Exempt::default(),
            },
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
        !matches!(self.kind, ProxyKind::Http | ProxyKind::Https) || target.https
    }

    /// Whether it has to be told the server's address rather than its name.
    pub fn wants_address(&self) -> bool {
        matches!(self.kind, ProxyKind::Socks4 | ProxyKind::Socks5)
    }

    /// Itself, as something to connect to.
    pub fn target(&self) -> Target {
        Target {
            https: self.kind == ProxyKind::Https,
            address: self.host.clone(),
            name: None,
            port: self.port,
            host: Some(self.host.clone()),
            host_port: self.port,
            path: String::new(),
        }
    }

    /// The target as such a proxy is asked for it: with the whole URL as its path.
    pub fn forwarded(&self, target: &Target) -> Target {
        let mut asked = target.clone();
        if target.within_url().is_none() {
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

impl ProxyKind {
    fn is_socks(self) -> bool {
        match self {
            Self::Http | Self::Https | Self::Connect => false,
            Self::Socks4 | Self::Socks4Names | Self::Socks5 | Self::Socks5Names => true,
        }
    }
}

/// Whether the method asks for a tunnel.
pub fn is_connect(args: &Args) -> bool {
    let method = args.method.as_deref().unwrap_or_default();
    method == "CONNECT" || method.starts_with("CONNECT:")
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
        let proxies = Proxies::from_args(&args)?;
        assert_eq!(proxies.http.is_some(), proxies.https.is_some());
        Ok(proxies.http)
    }

    #[test]
    fn a_proxy_is_read_as_curl_reads_it() {
        use ProxyKind::{Connect, Http, Https, Socks4, Socks4Names, Socks5, Socks5Names};
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
            ("-H a -x https://p", Https, "p", 443, None),
            ("-H a -x https://p:3129/", Https, "p", 3129, None),
            ("-H a -x socks://p", Socks4, "p", 1080, None),
            ("-H a -x socks4://u@p", Socks4, "p", 1080, Some(("u", ""))),
            ("-H a -x SOCKS4A://p", Socks4Names, "p", 1080, None),
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
            ("-H a -x ftp://p", "-x ftp://p: give http://"),
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
}
