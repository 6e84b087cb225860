//! Cookies: which ones a server may set, and which ones a request takes along (RFC 6265, as libcurl keeps it). No I/O;
//! `cookie_file` reads and stores them.

use std::cmp::Reverse;

use cookie::Cookie as Parsed;

/// The most cookies that are kept; the oldest ones go first.
const MOST: usize = 1000;

/// The most that one reply may set.
const MOST_PER_REPLY: usize = 50;

/// The longest name and value, together.
const LONGEST: usize = 4096;

/// The longest path.
const LONGEST_PATH: usize = 1024;

/// The longest line of cookies that a request takes along.
const LONGEST_LINE: usize = 8190;

/// A cookie, and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// The host, in lower case and without a dot in front.
    pub domain: String,
    /// Whether hosts below it get it as well.
    pub subdomains: bool,
    /// The path below which it is sent.
    pub path: String,
    /// Whether it is for https alone.
    pub secure: bool,
    /// Whether scripts must not see it: nothing to this program, kept for others that read the file.
    pub http_only: bool,
    /// When it ends, in seconds since 1970; `None`: with the session, which lasts as long as the file does.
    pub expires: Option<i64>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Who sets cookies, or gets them.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The host's name or address, without brackets and port.
    pub host: &'a str,
    /// The path that is asked for, without the query.
    pub path: &'a str,
    /// Whether it speaks https.
    pub https: bool,
}

/// All cookies, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct Jar {
    cookies: Vec<Cookie>,
    changed: bool,
}

impl Cookie {
    fn is_over(&self, now: i64) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    fn is_for(&self, site: Site<'_>) -> bool {
        let host = site.host.to_ascii_lowercase();
        let host_fits = host == self.domain || (self.subdomains && is_below(&host, &self.domain));
        host_fits && (site.is_safe() || !self.secure) && is_within(site.path, &self.path)
    }

    fn replaces(&self, other: &Self) -> bool {
        (&self.name, &self.domain, &self.path) == (&other.name, &other.domain, &other.path)
    }

    /// One that a server wants to set, if it may.
    #[cold]
    fn set_by(site: Site<'_>, text: &str, now: i64) -> Option<Self> {
        let parsed = Parsed::parse(text).ok()?;
        let host = site.host.to_ascii_lowercase();
        let domain = parsed.domain().map(str::to_ascii_lowercase);
        let (domain, subdomains) = match domain {
            None => (host, false),
            // An address has nothing below it, and neither should a top-level domain.
            Some(domain) if domain == host => {
                let wide = domain.contains('.') && !is_address(&host);
                (domain, wide)
            }
            Some(domain) if domain.contains('.') && is_below(&host, &domain) => (domain, true),
            Some(_) => return None,
        };
        let given = parsed.path().filter(|path| path.starts_with('/'));
        let cookie = Self {
            domain,
            subdomains,
            path: given.map_or_else(|| folder(site.path), str::to_owned),
            secure: parsed.secure().unwrap_or(false),
            http_only: parsed.http_only().unwrap_or(false),
            expires: match (parsed.max_age(), parsed.expires_datetime()) {
                (Some(age), _) if age.is_zero() => Some(0),
                (Some(age), _) => Some(now.saturating_add(age.whole_seconds())),
                (None, Some(time)) => Some(time.unix_timestamp()),
                (None, None) => None,
            },
            name: parsed.name().to_owned(),
            value: parsed.value().to_owned(),
        };
        (cookie.is_sound() && cookie.keeps_its_word() && (site.is_safe() || !cookie.secure))
            .then_some(cookie)
    }

    /// Whether it can stand in a file and in a request.
    pub fn is_sound(&self) -> bool {
        let texts = [&self.domain, &self.path, &self.name, &self.value];
        let steers = texts
            .iter()
            .any(|text| text.contains(|c: char| c.is_ascii_control()));
        let divides = self.name.contains(['=', ';']) || self.value.contains(';');
        let empty = self.domain.is_empty() || self.name.is_empty();
        let long = self.name.len() + self.value.len() > LONGEST || self.path.len() > LONGEST_PATH;
        // Its line would begin so, and be a comment.
        let comment = self.domain.starts_with('#');
        !(steers || divides || empty || long || comment)
    }

    /// Whether it is what its name promises.
    fn keeps_its_word(&self) -> bool {
        let named = |prefix: &str| {
            let start = self.name.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if named("__Host-") {
            self.secure && !self.subdomains && self.path == "/"
        } else {
            self.secure || !named("__Secure-")
        }
    }
}

impl Site<'_> {
    /// Whether nobody on the way can read along.
    fn is_safe(&self) -> bool {
        self.https
            || ["localhost", "127.0.0.1", "::1"]
                .iter()
                .any(|name| self.host.eq_ignore_ascii_case(name))
    }
}

impl Jar {
    /// With these, the oldest first.
    pub fn of(cookies: Vec<Cookie>) -> Self {
        let mut jar = Self::default();
        for cookie in cookies {
            jar.put(cookie);
        }
        jar.changed = false;
        jar
    }

    /// All of them.
    pub fn cookies(&self) -> &[Cookie] {
        &self.cookies
    }

    /// Whether it holds other cookies than at its beginning.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// What a request takes along: longer paths first, then older ones.
    pub fn line(&mut self, site: Site<'_>, now: i64) -> Option<String> {
        self.drop_old(now);
        let mut fitting: Vec<_> = self.cookies.iter().filter(|c| c.is_for(site)).collect();
        fitting.sort_by_key(|cookie| {
            Reverse((cookie.path.len(), cookie.domain.len(), cookie.name.len()))
        });
        let mut line = String::new();
        for cookie in fitting {
            let length = cookie.name.len() + cookie.value.len() + 3;
            if line.len() + length > LONGEST_LINE {
                break;
            }
            if !line.is_empty() {
                line += "; ";
            }
            line += &cookie.name;
            line.push('=');
            line += &cookie.value;
        }
        (!line.is_empty()).then_some(line)
    }

    /// Takes what the `Set-Cookie` headers of a reply say, as far as its sender may say it.
    pub fn take(&mut self, headers: impl Iterator<Item: AsRef<[u8]>>, site: Site<'_>, now: i64) {
        for header in headers.take(MOST_PER_REPLY) {
            let text = std::str::from_utf8(header.as_ref()).ok();
            let Some(cookie) = text.and_then(|text| Cookie::set_by(site, text, now)) else {
                continue;
            };
            // What came over https is not for everybody on the way to change.
            let guarded = self.cookies.iter().any(|old| {
                old.secure
                    && old.name == cookie.name
                    && (old.domain == cookie.domain
                        || is_below(&old.domain, &cookie.domain)
                        || is_below(&cookie.domain, &old.domain))
                    && is_within(&cookie.path, &old.path)
            });
            if site.is_safe() || !guarded {
                self.put(cookie);
            }
        }
        self.drop_old(now);
    }

    /// Puts one in the place of that which it replaces, or behind all others.
    fn put(&mut self, cookie: Cookie) {
        match self.cookies.iter_mut().find(|old| cookie.replaces(old)) {
            Some(old) if *old == cookie => return,
            Some(old) => *old = cookie,
            None => self.cookies.push(cookie),
        }
        if self.cookies.len() > MOST {
            self.cookies.remove(0);
        }
        self.changed = true;
    }

    fn drop_old(&mut self, now: i64) {
        let before = self.cookies.len();
        self.cookies.retain(|cookie| !cookie.is_over(now));
        self.changed |= self.cookies.len() != before;
    }
}

/// Whether a host is below a domain, as `www.example.org` is below `example.org`.
fn is_below(host: &str, domain: &str) -> bool {
    let above = host.strip_suffix(domain);
    above.is_some_and(|above| above.ends_with('.')) && !is_address(host)
}

fn is_address(host: &str) -> bool {
    super::target::literal(host).is_some()
}

/// Whether a path is this one or below it.
fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || folder.ends_with('/') || rest.starts_with('/'))
}

/// The folder of a path, without the slash behind it.
fn folder(path: &str) -> String {
    match path.rfind('/') {
        Some(0) | None => "/".to_owned(),
        Some(_) if !path.starts_with('/') => "/".to_owned(),
        Some(at) => path[..at].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn site(url: &str) -> Site<'_> {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        Site {
            host,
            path,
            https: scheme == "https",
        }
    }

    fn jar(url: &str, headers: &[&str]) -> Jar {
        let mut jar = Jar::default();
        jar.take(headers.iter().map(|text| text.as_bytes()), site(url), NOW);
        jar
    }

    #[test]
    fn a_cookie_goes_where_it_belongs_and_nowhere_else() {
        for (header, yes, no) in [
            (
                "a=1",
                &["http://www.test/", "https://WWW.test/x/y"][..],
                &["http://test/", "http://a.www.test/", "http://wwww.test/"][..],
            ),
            (
                "a=1; Domain=.a.test",
                &["http://a.test/", "http://b.a.test/"],
                &["http://ba.test/", "http://test/"],
            ),
            (
                "a=1; Path=/sub",
                &["http://www.test/sub", "http://www.test/sub/x"],
                &["http://www.test/", "http://www.test/subway"],
            ),
            ("a=1; secure", &["https://www.test/"], &["http://www.test/"]),
        ] {
            let from = if header.contains("a.test") {
                "https://www.a.test/"
            } else {
                "https://www.test/"
            };
            let mut jar = jar(from, &[header]);
            for url in yes {
                assert_eq!(
                    jar.line(site(url), NOW).as_deref(),
                    Some("a=1"),
                    "{header} {url}"
                );
            }
            for url in no {
                assert_eq!(jar.line(site(url), NOW), None, "{header} {url}");
            }
        }
    }

    #[test]
    fn a_server_sets_cookies_for_itself_and_those_above_it_alone() {
        for (url, header, kept) in [
            ("http://www.a.test/", "a=1; Domain=a.test", true),
            ("http://www.a.test/", "a=1; Domain=other.test", false),
            ("http://www.a.test/", "a=1; Domain=test", false),
            ("http://www.a.test/", "a=1; Domain=b.www.a.test", false),
            ("http://192.0.2.1/", "a=1; Domain=0.2.1", false),
            ("http://192.0.2.1/", "a=1; Domain=192.0.2.1", true),
            ("http://www.test/", "a=1; Secure", false),
            ("http://localhost/", "a=1; Secure", true),
            ("https://www.test/", "__Secure-a=1", false),
            ("https://www.test/", "__Secure-a=1; Secure", true),
            ("https://www.test/x/y", "__Host-a=1; Secure", false),
            ("https://www.test/x/y", "__host-a=1; Secure; Path=/", true),
            ("http://www.test/", "a", false),
            ("http://www.test/", "=1", false),
            ("http://www.test/", "a=b\tc", false),
            ("http://www.test/", "a=1; Max-Age=0", false),
            ("http://www.test/", "a=1; Max-Age=-5", false),
            (
                "http://www.test/",
                "a=1; Expires=Wed, 09 Jun 2021 10:18:14 GMT",
                false,
            ),
            (
                "http://www.test/",
                "a=1; Max-Age=5; Expires=Wed, 09 Jun 2021 10:18:14 GMT",
                true,
            ),
            (
                "http://www.test/",
                "a=1; Max-Age=99999999999999999999",
                true,
            ),
        ] {
            assert_eq!(
                jar(url, &[header]).cookies().len() == 1,
                kept,
                "{url} {header}"
            );
        }
        let long = format!("a={}", "x".repeat(LONGEST));
        assert!(jar("http://www.test/", &[&long]).cookies().is_empty());
        let many: Vec<_> = (0..99).map(|n| format!("a{n}=1")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(
            jar("http://www.test/", &many).cookies().len(),
            MOST_PER_REPLY
        );
    }

    #[test]
    fn what_is_set_again_takes_the_place_of_what_was_there() {
        let mut jar = jar(
            "http://www.test/",
            &["a=1", "b=2", "long=3", "deep=4; Path=/x"],
        );
        jar.take([&b"a=9"[..]].into_iter(), site("http://www.test/"), NOW);
        let line = jar.line(site("http://www.test/x"), NOW);
        assert_eq!(line.as_deref(), Some("deep=4; long=3; a=9; b=2"));
        jar.take(
            [&b"a=; Max-Age=0"[..]].into_iter(),
            site("http://www.test/"),
            NOW,
        );
        assert_eq!(
            jar.line(site("http://www.test/"), NOW).as_deref(),
            Some("long=3; b=2")
        );
    }

    #[test]
    fn nobody_on_the_way_changes_what_came_over_https() {
        let mut jar = jar("https://www.test/", &["a=1; Secure"]);
        jar.take([&b"a=evil"[..]].into_iter(), site("http://www.test/"), NOW);
        assert_eq!(
            jar.line(site("https://www.test/"), NOW).as_deref(),
            Some("a=1")
        );
        assert_eq!(jar.line(site("http://www.test/"), NOW), None);
    }

    #[test]
    fn a_cookie_ends_when_it_should() {
        let mut jar = jar("http://www.test/", &["a=1; Max-Age=10", "b=2"]);
        let line = |jar: &mut Jar, later| jar.line(site("http://www.test/"), NOW + later);
        assert_eq!(line(&mut jar, 9).as_deref(), Some("a=1; b=2"));
        assert_eq!(line(&mut jar, 10).as_deref(), Some("b=2"));
    }

    #[test]
    fn memory_is_bounded_whatever_servers_set() {
        let mut jar = Jar::default();
        for n in 0..MOST + 5 {
            let header = format!("a{n}=1");
            jar.take(
                [header.as_bytes()].into_iter(),
                site("http://www.test/"),
                NOW,
            );
        }
        assert_eq!(jar.cookies().len(), MOST);
        let line = jar.line(site("http://www.test/"), NOW).unwrap();
        assert!(line.len() <= LONGEST_LINE);
    }
}
