//! What other proxies say of the same failures. Their logs are small beside nginx' (or are logs of requests, most of
//! which are of no interest), so that every line is looked at.

mod apache;
mod envoy;
mod haproxy;

use serde::{Deserialize, Serialize};

use super::cause::Cause;
use super::clock::When;
use super::fields::Parties;
use super::line;
use super::wrapping::{Wrapping, is_of_syslog};

/// Whose words a log is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// The error log of nginx, and of what is made of it.
    Nginx,
    /// HAProxy's log, of events and of requests (httplog, tcplog).
    Haproxy,
    /// The error log of Apache with `mod_proxy`.
    Apache,
    /// An access log of Envoy with its response flags.
    Envoy,
}

/// Why an upstream failed, as another proxy than nginx tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told<'a> {
    /// Why.
    pub cause: Cause,
    /// Whom it concerns.
    pub parties: Parties<'a>,
    /// Where the line only sums up a request: how many tries that took, each of which may have been told before.
    pub sums_up: Option<u32>,
}

impl<'a> Told<'a> {
    /// That this upstream failed.
    fn new(cause: Cause, upstream: Option<&'a [u8]>) -> Self {
        Self {
            cause,
            parties: Parties {
                upstream,
                ..Parties::default()
            },
            sums_up: None,
        }
    }
}

impl Dialect {
    const ALL: [Self; 4] = [Self::Nginx, Self::Apache, Self::Envoy, Self::Haproxy];

    /// Its name for a person.
    pub fn proxy(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Apache => "Apache",
            Self::Envoy => "Envoy",
        }
    }

    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Apache => "apache",
            Self::Envoy => "envoy",
        }
    }

    /// What its programs are called.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => &["nginx", "openresty", "angie", "tengine"],
            Self::Haproxy => &["haproxy"],
            Self::Apache => &["apache2", "httpd"],
            Self::Envoy => &["envoy"],
        }
    }

    /// Whether a line is surely of this kind; `raw` is the line with what is around it.
    pub fn knows(self, raw: &[u8], text: &[u8]) -> bool {
        match self {
            Self::Nginx => line::has_header(text),
            Self::Haproxy => haproxy::knows(raw, text),
            Self::Apache => apache::time(text).is_some(),
            Self::Envoy => envoy::knows(text),
        }
    }

    /// What a line says of an upstream's failure. nginx' lines are read elsewhere.
    pub fn read(self, text: &[u8]) -> Option<Told<'_>> {
        match self {
            Self::Nginx => None,
            Self::Haproxy => haproxy::read(text),
            Self::Apache => apache::read(text),
            Self::Envoy => envoy::read(text),
        }
    }

    /// When a line was written: by its own time, or by that of what is around it.
    pub fn time(self, raw: &[u8], text: &[u8], wrapping: Wrapping) -> Option<When> {
        match self {
            Self::Nginx => When::of_stamp(text),
            Self::Apache => apache::time(text).or_else(|| wrapping.time(raw)),
            Self::Envoy => envoy::time(text).or_else(|| wrapping.time(raw)),
            // Its own time is when the request came.
            Self::Haproxy => wrapping.time(raw).or_else(|| haproxy::time(text)),
        }
    }

    /// How its lines begin, for who gave a log that has none of them.
    pub fn example(self) -> &'static str {
        match self {
            Self::Nginx => {
                "no line of it begins with a time, a level and a process, as in 2026/11/23 05:00:00 [error] 7#7:"
            }
            Self::Haproxy => {
                "no line of it is of a process haproxy, or has the time of a request as httplog writes it"
            }
            Self::Apache => {
                "no line of it begins with a time as in [Mon Nov 23 05:00:00.123456 2026]"
            }
            Self::Envoy => {
                "no line of it begins with a time and a request, as in [2026-11-23T05:00:00.123Z] \"GET / HTTP/1.1\" 503 UF"
            }
        }
    }

    /// What a client gets, where one server is all there is.
    pub fn client_sees(self, cause: Cause) -> Option<&'static str> {
        match (self, cause) {
            (Self::Nginx, _) => cause.client_sees(),
            // Apache connects all the same, from any address.
            (_, Cause::ListenConflict | Cause::OtherUpstream)
            | (Self::Apache, Cause::BindInUse | Cause::BindWrongAddress) => None,
            (Self::Haproxy | Self::Envoy, Cause::Timeout) => Some("503 or 504"),
            (Self::Haproxy | Self::Apache, Cause::ClosedEarly) | (Self::Apache, Cause::Reset) => {
                Some("502")
            }
            (Self::Apache, Cause::Timeout) => Some("502 or 503"),
            (Self::Apache, Cause::Resolver) => Some("500 or 502"),
            (Self::Apache, Cause::Tls) => Some("500"),
            _ => Some("503"),
        }
    }

    /// What to do about it.
    pub fn advice(self, cause: Cause) -> &'static str {
        let is_of_ports = matches!(cause, Cause::BindInUse | Cause::NoFreePort);
        match self {
            Self::Nginx => cause.advice(),
            Self::Haproxy if is_of_ports => {
                "keep connections open (http-reuse always, pool-max-conn); then more addresses in source, a wider \
                 ip_local_port_range, tcp_tw_reuse=1; of a source with a range each server has that range alone. \
                 Never tcp_tw_recycle. check_port_exhaustion shows how near the edge is"
            }
            Self::Apache if is_of_ports => {
                "keep connections open (no disablereuse=on, no SetEnv proxy-nokeepalive, a max= and ttl= of ProxyPass \
                 that fit the load); then tcp_tw_reuse=1, a wider ip_local_port_range, more addresses or ports for the \
                 upstream. Never tcp_tw_recycle. check_port_exhaustion shows how near the edge is"
            }
            Self::Envoy if is_of_ports => {
                "keep connections open (no max_requests_per_connection of 1, a longer idle_timeout, HTTP/2 to the \
                 upstream); then more addresses in upstream_bind_config, a wider ip_local_port_range, tcp_tw_reuse=1. \
                 Never tcp_tw_recycle. check_port_exhaustion shows how near the edge is"
            }
            _ => match cause {
                // What these say is of nginx' own directives.
                Cause::BindWrongAddress
                | Cause::NoFileDescriptors
                | Cause::WorkerConnections
                | Cause::NoLiveUpstreams
                | Cause::Tls
                | Cause::Resolver
                | Cause::Timeout => "",
                cause => cause.advice(),
            },
        }
    }
}

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// What is put around its lines.
    pub wrapping: Wrapping,
    /// Whose they are.
    pub dialect: Dialect,
}

impl Form {
    /// That of a log which begins like this; the dialect where it was given.
    pub fn of(head: &[u8], dialect: Option<Dialect>) -> Self {
        Self::of_known(head, dialect, None).unwrap_or(Self {
            wrapping: Wrapping::None,
            dialect: dialect.unwrap_or(Dialect::Nginx),
        })
    }

    /// The same of a log whose earlier lines were of a known form: what its beginning does not show is as it was. In a syslog
    /// file other programs' lines may stand first. `None` where nothing tells.
    pub fn of_known(head: &[u8], given: Option<Dialect>, known: Option<Self>) -> Option<Self> {
        let wrapping = Wrapping::of(head);
        let found = head.split(|byte| *byte == b'\n').find_map(|raw| {
            let text = wrapping.unwrap(raw);
            let is_of = |dialect: &Dialect| {
                given.is_none_or(|given| given == *dialect) && dialect.knows(raw, &text)
            };
            Dialect::ALL.into_iter().find(is_of)
        });
        if wrapping.is_none() && found.is_none() {
            let known = known.map(|known| Self {
                dialect: given.unwrap_or(known.dialect),
                ..known
            });
            let is_shared = || head.split(|byte| *byte == b'\n').any(is_of_syslog);
            return known.or_else(|| {
                is_shared().then_some(Self {
                    wrapping: Wrapping::Syslog,
                    dialect: given.unwrap_or(Dialect::Nginx),
                })
            });
        }
        let known = known.map(|known| known.dialect);
        let dialect = given.or(found).or(known).unwrap_or(Dialect::Nginx);
        Some(Self { wrapping, dialect })
    }

    /// The time of a line as it stands in the log, where it is surely one of this form.
    pub fn time(self, raw: &[u8]) -> Option<When> {
        let text = self.wrapping.unwrap(raw);
        let is_known = self.dialect.knows(raw, &text);
        is_known.then(|| self.dialect.time(raw, &text, self.wrapping))?
    }
}

/// The cause behind an errno as glibc or musl words it: other proxies print the text alone.
fn by_words(words: &[u8]) -> Option<Cause> {
    const WORDS: [(&str, Cause); 12] = [
        ("address already in use", Cause::BindInUse),
        ("address in use", Cause::BindInUse),
        ("cannot assign requested address", Cause::NoFreePort),
        ("address not available", Cause::NoFreePort),
        ("too many open files", Cause::NoFileDescriptors),
        ("no file descriptors available", Cause::NoFileDescriptors),
        ("connection refused", Cause::Refused),
        ("timed out", Cause::Timeout),
        ("timeout", Cause::Timeout),
        ("reset by peer", Cause::Reset),
        ("unreachable", Cause::Unreachable),
        ("no route to host", Cause::Unreachable),
    ];
    let plain: Vec<u8> = words
        .iter()
        .map(|byte| match byte {
            b'_' => b' ',
            byte => byte.to_ascii_lowercase(),
        })
        .collect();
    let found = WORDS
        .iter()
        .find(|(words, _)| memchr::memmem::find(&plain, words.as_bytes()).is_some());
    found.map(|(_, cause)| *cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialect_is_found_out_by_looking() {
        let nginx = "2026/11/23 05:00:00 [notice] 7#7: start worker processes\n";
        let apache = "[Mon Nov 23 05:00:00.199108 2026] [mpm_event:notice] [pid 7:tid 7] AH00489: Apache/2.4.71 configured\n";
        let envoy = "[2026-11-23T05:00:00.123Z] \"GET / HTTP/1.1\" 200 - 0 5 1 1 \"-\" \"curl\" \"id\" \"a\" \"192.0.2.1:80\"\n";
        let haproxy = "Nov 23 05:00:00 proxy1 haproxy[7]: Proxy f started.\n";
        let docker = "{\"log\":\"192.0.2.9:1 [23/Nov/2026:05:00:00.279] f b/s1 0/0/0/1/1 200 217 - - ---- 1/1/0/0/3 0/0 \\\"GET / HTTP/1.1\\\"\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-23T05:00:00.1Z\"}\n";
        for (text, wrapping, dialect) in [
            (nginx, Wrapping::None, Dialect::Nginx),
            (apache, Wrapping::None, Dialect::Apache),
            (envoy, Wrapping::None, Dialect::Envoy),
            (haproxy, Wrapping::Syslog, Dialect::Haproxy),
            (docker, Wrapping::Docker, Dialect::Haproxy),
        ] {
            let text = format!("something else\n{text}");
            let form = Form::of(text.as_bytes(), None);
            assert_eq!(form, Form { wrapping, dialect }, "{text}");
        }
        let given = Form::of(b"", Some(Dialect::Envoy));
        assert_eq!(given.dialect, Dialect::Envoy);
    }

    #[test]
    fn what_real_ones_wrote_is_read_by_its_causes() {
        for (log, dialect, expected) in [
            (
                &include_bytes!("../../../tests/fixtures/haproxy.log")[..],
                Dialect::Haproxy,
                &[
                    (Cause::BindInUse, 2),
                    (Cause::NoFreePort, 4),
                    (Cause::Timeout, 1),
                    (Cause::NoLiveUpstreams, 1),
                    (Cause::ClosedEarly, 1),
                    (Cause::OtherUpstream, 4),
                ][..],
            ),
            (
                include_bytes!("../../../tests/fixtures/apache_error.log"),
                Dialect::Apache,
                &[
                    (Cause::NoFreePort, 3),
                    (Cause::Refused, 1),
                    (Cause::Timeout, 1),
                    (Cause::ClosedEarly, 1),
                    (Cause::Resolver, 1),
                ],
            ),
        ] {
            let form = Form::of(log, None);
            assert_eq!(form.dialect, dialect);
            let lines = log
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty());
            let mut counts = std::collections::BTreeMap::new();
            for raw in lines {
                assert!(form.time(raw).is_some(), "{}", String::from_utf8_lossy(raw));
                if let Some(told) = dialect.read(&form.wrapping.unwrap(raw)) {
                    *counts.entry(told.cause).or_insert(0) += 1;
                }
            }
            assert!(
                counts
                    .iter()
                    .map(|(cause, n)| (*cause, *n))
                    .eq(expected.iter().copied()),
                "{counts:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_stumble(start in "(Server |Connect\\(\\) failed for backend |\\[|x \\[23/Nov/2026:05:00:00.1\\] a b/c )?", line: Vec<u8>, text in ".{0,60}") {
            let line = [start.as_bytes(), &line, text.as_bytes()].concat();
            for dialect in Dialect::ALL {
                let _ = (dialect.knows(&line, &line), dialect.read(&line));
                for wrapping in [Wrapping::None, Wrapping::Docker, Wrapping::Cri, Wrapping::Syslog] {
                    let _ = dialect.time(&line, &line, wrapping);
                }
            }
        }
    }
}
