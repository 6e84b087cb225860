//! Where a request goes, and where a redirect leads from there. Knows nothing of sockets.

use std::net::{IpAddr, Ipv6Addr};

use clap::ValueEnum;

/// The longest path that a redirect may name.
const PATH_LIMIT: usize = 8 * 1024;

/// What to make of a redirect, by `check_http`'s words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnRedirect {
    /// It is a good answer.
    Ok,
    /// It is a WARNING.
    Warning,
    /// It is CRITICAL.
    Critical,
    /// It is UNKNOWN.
    Unknown,
    /// Go where it points.
    Follow,
    /// Go on with the path it names, at the same address.
    Sticky,
    /// Go on with the path it names, at the same address and port.
    Stickyport,
    /// Go where it points, as libcurl does it.
    Curl,
}

/// One place to send a request to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether it speaks https.
    pub https: bool,
    /// The name or address to connect to, without brackets; what starts with a slash is a socket in the file system.
    pub address: String,
    /// The name or address that `address` stands in for, on a path of its own.
    pub name: Option<String>,
    /// The port to connect to.
    pub port: u16,
    /// The host name for the Host header, without brackets; without one the request is one of HTTP/1.0.
    pub host: Option<String>,
    /// The port that the Host header names.
    pub host_port: u16,
    /// Path and query.
    pub path: String,
}

/// Where a redirect leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Led {
    /// What the `Location` names, wherever that is.
    pub named: Target,
    /// Where the next request goes.
    pub next: Target,
}

impl Target {
    /// Whether it is a socket in the file system.
    pub fn is_file(&self) -> bool {
        self.address.starts_with('/')
    }

    /// Whether names, passwords and tokens that are for the other one may be sent here: under the same name, and not in clear
    /// where they were to be encrypted.
    pub fn may_know_secrets_of(&self, other: &Self) -> bool {
        self.server_name().eq_ignore_ascii_case(other.server_name()) && (self.https || !other.https)
    }

    /// What follows the scheme, where the path is a whole URL, as a proxy may be asked for it: `host/path`.
    pub fn within_url(&self) -> Option<&str> {
        let (scheme, rest) = self.path.split_once("://")?;
        let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        (!scheme.is_empty() && scheme.bytes().all(named)).then_some(rest)
    }

    /// What the server is called: in the TLS handshake, in its certificate, in a URL.
    pub fn server_name(&self) -> &str {
        let name = self.host.as_ref().or(self.name.as_ref());
        name.unwrap_or(&self.address)
    }

    /// The same as a certificate has it: a zone is known on this host alone.
    pub fn certified_name(&self) -> &str {
        let name = self.server_name();
        match (name.split_once('%'), literal(name)) {
            (Some((address, _)), Some(_)) => address,
            _ => name,
        }
    }

    /// The scheme's name.
    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// The URL, in `check_http`'s form: always with the port.
    pub fn url(&self) -> String {
        format!(
            "{}://{}:{}{}",
            self.scheme(),
            bracketed(self.server_name()),
            self.port,
            self.path
        )
    }

    /// The value of the Host header.
    pub fn host_header(&self) -> Option<String> {
        let host = bracketed(self.host.as_ref()?);
        if self.host_port == default_port(self.https) {
            Some(host)
        } else {
            Some(format!("{host}:{}", self.host_port))
        }
    }

    /// Where this `Location` leads; `None` where that cannot be told or is neither http nor https. `pinned` has the address
    /// for all requests to this server, else one without a server leads to the one that is named here, as with `check_http`.
    pub fn redirected(&self, location: &str, action: OnRedirect, pinned: bool) -> Option<Led> {
        let stays = pinned || action == OnRedirect::Curl;
        let named = self.named_by(location, stays)?;
        let sticky = matches!(action, OnRedirect::Sticky | OnRedirect::Stickyport);
        let keeps_port = action == OnRedirect::Stickyport;
        let next = Self {
            address: if sticky {
                self.address.clone()
            } else {
                named.address.clone()
            },
            port: if keeps_port { self.port } else { named.port },
            host_port: if keeps_port && !stays {
                self.port
            } else {
                named.host_port
            },
            ..named.clone()
        };
        Some(Led { named, next })
    }

    /// What a `Location` names; with `stays`, one without a server is at this address.
    fn named_by(&self, location: &str, stays: bool) -> Option<Self> {
        let location = location.trim_ascii();
        let (https, rest) = match split_scheme(location) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some(_) => return None,
            None => (self.https, location),
        };
        let Some(rest) = rest.strip_prefix("//") else {
            // `https:/path` means nothing that two clients would agree on.
            let path = (rest.len() == location.len()).then(|| self.resolve(location))?;
            let path = usable(path)?;
            // The path of a socket is no host.
            if stays || (self.is_file() && self.host.is_none()) {
                return Some(Self {
                    path,
                    ..self.clone()
                });
            }
            return Some(Self::on(self.https, self.server_name(), self.port, path));
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = host_and_port(authority)?;
        let port = port.unwrap_or(default_port(https));
        let path = match path.split('#').next().unwrap_or_default() {
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        Some(Self::on(https, &host, port, usable(path)?))
    }

    /// A place by its name alone.
    fn on(https: bool, host: &str, port: u16, path: String) -> Self {
        Self {
            https,
            address: host.to_owned(),
            name: None,
            port,
            host: Some(host.to_owned()),
            host_port: port,
            path,
        }
    }

    /// A path or query as a reference to this one.
    fn resolve(&self, reference: &str) -> String {
        let reference = reference.split('#').next().unwrap_or_default();
        let path = self.path.split('?').next().unwrap_or_default();
        match reference.bytes().next() {
            None => self.path.clone(),
            Some(b'/') => reference.to_owned(),
            Some(b'?') => format!("{path}{reference}"),
            Some(_) => {
                let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
                format!("{folder}{reference}")
            }
        }
    }
}

/// The port of a scheme.
pub fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address; `None` where it is none of them.
pub fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None if text.matches(':').count() > 1 => (text, ""),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let harmless = |c: char| !c.is_control() && !c.is_whitespace() && !"/?#@\\[]".contains(c);
    if host.is_empty() || host.len() > 255 || !host.chars().all(harmless) {
        return None;
    }
    let port = match rest.strip_prefix(':') {
        Some("") | None => None,
        Some(digits) => Some(digits.parse().ok()?),
    };
    (rest.is_empty() || rest.starts_with(':')).then(|| (host.to_owned(), port))
}

/// The address that a text is, rather than a name: without its zone, the `%eth0` of an IPv6 address (RFC 4007, 11).
pub fn literal(text: &str) -> Option<IpAddr> {
    match text.split_once('%') {
        Some((address, zone)) if !zone.is_empty() => address.parse().map(Ipv6Addr::into).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    }
}

/// An IPv6 address in brackets, everything else as it is.
pub fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// The scheme that a reference starts with, and the rest behind its colon.
fn split_scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let letters = scheme
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    (letters && scheme.starts_with(|c: char| c.is_ascii_alphabetic())).then_some((scheme, rest))
}

fn usable(path: String) -> Option<String> {
    (path.len() <= PATH_LIMIT).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Target {
        Target {
            https: false,
            address: "192.0.2.1".to_owned(),
            name: None,
            port: 8080,
            host: Some("www.test".to_owned()),
            host_port: 8080,
            path: path.to_owned(),
        }
    }

    #[test]
    fn a_whole_url_is_one_from_its_beginning() {
        for (path, within) in [
            ("http://www.test/a", Some("www.test/a")),
            ("HTTPS://www.test", Some("www.test")),
            ("/login?next=http://o.test/p/q", None),
            ("/a://b", None),
            ("://b", None),
            ("/", None),
        ] {
            assert_eq!(target(path).within_url(), within, "{path}");
        }
    }

    #[test]
    fn a_redirect_leads_where_browsers_would_go() {
        for (from, location, url) in [
            ("/a/b?q", "/x", "http://www.test:8080/x"),
            ("/a/b?q=/z", "x", "http://www.test:8080/a/x"),
            ("/a/b?q", "?y", "http://www.test:8080/a/b?y"),
            ("/", "HTTP://o.test", "http://o.test:80/"),
            ("/", "https://o.test?x", "https://o.test:443/?x"),
            ("/", "https://o.test:8443/y#frag", "https://o.test:8443/y"),
            ("/", "//o.test/y", "http://o.test:80/y"),
            ("/", "http://u:p@[::1]:81/", "http://[::1]:81/"),
            ("/", "/x:y", "http://www.test:8080/x:y"),
        ] {
            let led = target(from).redirected(location, OnRedirect::Follow, false);
            assert_eq!(led.unwrap().next.url(), url, "{location}");
        }
        for location in [
            "ftp://x/",
            "mailto:x",
            "http:///x",
            "http://a b/",
            "http://x:99999/",
        ] {
            let led = target("/").redirected(location, OnRedirect::Follow, false);
            assert_eq!(led, None, "{location}");
        }
    }

    #[test]
    fn sticky_keeps_the_address_and_stickyport_the_port_as_well() {
        let go = |action| {
            target("/")
                .redirected("http://o.test:81/x", action, false)
                .unwrap()
                .next
        };
        let sticky = go(OnRedirect::Sticky);
        assert_eq!((&*sticky.address, sticky.port), ("192.0.2.1", 81));
        assert_eq!(sticky.host_header().unwrap(), "o.test:81");
        let port = go(OnRedirect::Stickyport);
        assert_eq!((&*port.address, port.port), ("192.0.2.1", 8080));
        assert_eq!(port.host_header().unwrap(), "o.test:8080");
        assert_eq!(go(OnRedirect::Follow).address, "o.test");
    }

    #[test]
    fn a_redirect_without_a_server_leads_to_the_one_that_is_named() {
        let host = |host: &str, host_port| Target {
            host: Some(host.to_owned()),
            host_port,
            ..target("/")
        };
        let none = Target {
            host: None,
            ..target("/")
        };
        let file = Target {
            address: "/run/x".to_owned(),
            ..none.clone()
        };
        let (follow, sticky) = (OnRedirect::Follow, OnRedirect::Sticky);
        for (from, action, pinned, address, header) in [
            (
                target("/"),
                follow,
                false,
                "www.test",
                Some("www.test:8080"),
            ),
            (
                host("www.test", 81),
                follow,
                false,
                "www.test",
                Some("www.test:8080"),
            ),
            (
                none.clone(),
                follow,
                false,
                "192.0.2.1",
                Some("192.0.2.1:8080"),
            ),
            (
                host("www.test", 81),
                sticky,
                false,
                "192.0.2.1",
                Some("www.test:8080"),
            ),
            (
                none.clone(),
                sticky,
                false,
                "192.0.2.1",
                Some("192.0.2.1:8080"),
            ),
            (
                host("www.test", 81),
                follow,
                true,
                "192.0.2.1",
                Some("www.test:81"),
            ),
            (
                host("www.test", 81),
                OnRedirect::Curl,
                false,
                "192.0.2.1",
                Some("www.test:81"),
            ),
            (none, OnRedirect::Curl, false, "192.0.2.1", None),
            (file.clone(), follow, false, "/run/x", None),
            (file, sticky, false, "/run/x", None),
        ] {
            let next = from.redirected("/x", action, pinned).unwrap().next;
            let found = (&*next.address, next.port, next.host_header());
            assert_eq!(
                found,
                (address, 8080, header.map(str::to_owned)),
                "{from:?} {action:?}"
            );
            assert_eq!(next.path, "/x");
        }
    }

    #[test]
    fn a_zone_belongs_to_an_address_and_to_no_certificate() {
        for (text, address, certified) in [
            ("fe80::1%eth0", Some("fe80::1"), "fe80::1"),
            ("fe80::1%eth0.5", Some("fe80::1"), "fe80::1"),
            ("fe80::1", Some("fe80::1"), "fe80::1"),
            ("192.0.2.1", Some("192.0.2.1"), "192.0.2.1"),
            ("fe80::1%", None, "fe80::1%"),
            ("192.0.2.1%eth0", None, "192.0.2.1%eth0"),
            ("a%b", None, "a%b"),
        ] {
            let address = address.map(|address| address.parse().unwrap());
            assert_eq!(literal(text), address, "{text}");
            let target = Target {
                host: Some(text.to_owned()),
                ..target("/")
            };
            assert_eq!(target.certified_name(), certified, "{text}");
        }
    }

    #[test]
    fn hosts_come_with_and_without_port_and_brackets() {
        for (text, host, port) in [
            ("a", "a", None),
            ("a:1", "a", Some(1)),
            ("[::1]:8080", "::1", Some(8080)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("fe80::1%eth0", "fe80::1%eth0", None),
            ("[fe80::1%eth0]:81", "fe80::1%eth0", Some(81)),
        ] {
            assert_eq!(host_and_port(text), Some((host.to_owned(), port)), "{text}");
        }
        for text in ["", ":80", "a:b", "[::1", "[::1]x", "a b", "a/b"] {
            assert_eq!(host_and_port(text), None, "{text}");
        }
    }
}
