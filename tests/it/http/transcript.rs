//! Every case of `tests/fixtures/check_http_cases` with the real `check_http`, the real `check_curl` and ours, side by
//! side on the same servers, at the ports that the cases name: in a network namespace of its own.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;

use super::beside::{differing_lines, differing_metrics};
use super::side_by_side::{CHECK_HTTP, expected, must_be_there, words};
use super::{Act, FaultServer, GOOD, Seen, outcome, page, page_with, plugin};
use crate::support::identity::{DAY, Identity};
use crate::support::netns::Netns;
use crate::support::plugin::project;

pub const CHECK_CURL: &str = "/usr/lib/nagios/plugins/check_curl";

/// What is different on purpose: the short name that the cases use, how `docs/check_http_retry.md` calls it in its
/// table, and whether at least the exit code is the same.
const DIFFERENCES: [(&str, &str, bool); 35] = [
    ("curl-words", "why there is no reply", true),
    ("curl-line", "odds and ends of check_curl", false),
    ("curl-request", "what is sent", true),
    ("curl-expect", "`-e` that matches", true),
    ("curl-max-redirs", "too many redirects", true),
    ("size", "the size of a reply, at times", true),
    ("sloppy", "sloppy headers", false),
    ("usage", "a wrong option", true),
    (
        "number",
        "`-w`, `-c`, `-m` that are no number or range",
        false,
    ),
    ("fraction", "`-t 1.5`", false),
    ("age", "`-M 5x`", false),
    ("port", "`-p 70000`", false),
    ("positional", "`-S 1.2`", false),
    ("link", "`-L`", true),
    ("verbose", "`-v`", true),
    ("v6", "`-H [v6]:port`", false),
    ("clean", "text of the server", true),
    ("reset", "a reply that is reset", true),
    (
        "cut-off",
        "reply shorter than announced, or chunks that are none",
        false,
    ),
    ("sigpipe", "the server closes in the handshake", false),
    (
        "old-tls",
        "TLS 1.0, 1.1, RSA key exchange, CBC ciphers, P-521",
        false,
    ),
    ("tls-1.3", "`-S1.3`", false),
    (
        "two-lines",
        "`-C` with `--continue-after-certificate`",
        false,
    ),
    ("no-location", "a redirect without `Location`", false),
    (
        "path",
        "`-u` without a leading slash, or with a blank",
        false,
    ),
    ("key", "a key that does not match (`-K`)", false),
    (
        "empty",
        "an empty value, as Icinga passes for a variable that is not set",
        false,
    ),
    ("left-over", "a third word without an option", false),
    ("no-colon", "`-k` without a colon", false),
    (
        "linespan",
        "`-l` behind `-r` or `-R`; `-r` behind `-R`",
        false,
    ),
    (
        "back-reference",
        r"a back-reference, as in `-r '(o)\1'`",
        false,
    ),
    ("interim", "interim replies (100, 103)", true),
    (
        "unchunk",
        "HEAD, or a 304, with `Transfer-Encoding: chunked`",
        false,
    ),
    ("scheme", "`-H http://www.example.org` beside `-I`", false),
    ("header-case", "the name of a header (`-k`)", false),
];

/// `hello world` and a line feed, as gzip packs it.
const PACKED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\x48\xcd\xc9\xc9\x57\x28\xcf\x2f\xca\x49\xe1\x02\x00\x2d\x3b\x08\xaf\x0c\x00\x00\x00";

#[test]
fn every_case_of_the_transcript_is_answered_as_by_check_http_and_check_curl() {
    for tool in [CHECK_HTTP, CHECK_CURL] {
        must_be_there(tool);
    }
    let folder = tempfile::tempdir().unwrap();
    let netns = Netns::new("words");
    // Where packets are lost, and nowhere else to go.
    netns.ip("link add hole type veth peer name lost");
    netns.ip("addr add 10.0.0.2/24 dev hole");
    netns.ip("link set hole up");
    netns.ip("link set lost up");
    netns.ip("neigh add 10.0.0.1 lladdr 02:00:00:00:00:09 dev hole");
    let text = std::fs::read_to_string(project().join("tests/fixtures/check_http_cases")).unwrap();
    let cases: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(Case::parse)
        .collect();
    let wrong: Vec<_> = netns.within(|| {
        let _servers = servers(folder.path());
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let worker = || {
                let mut wrong = Vec::new();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    wrong.extend(case.compare(folder.path()));
                }
                wrong
            };
            let workers: Vec<_> = (0..6).map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .flat_map(|worker| worker.join().unwrap())
                .collect()
        })
    });
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_deliberate_difference_is_in_the_docs_and_has_a_case() {
    let docs = std::fs::read_to_string(project().join("docs/check_http_retry.md")).unwrap();
    let cases = std::fs::read_to_string(project().join("tests/fixtures/check_http_cases")).unwrap();
    let used: BTreeSet<_> = cases
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split('\t').skip(1))
        .filter(|column| !["=", "-"].contains(column))
        .collect();
    let listed: BTreeSet<_> = DIFFERENCES.iter().map(|(name, _, _)| *name).collect();
    assert_eq!(used, listed);
    for (_, row, _) in DIFFERENCES {
        assert!(docs.contains(&format!("\n| {row} | ")), "no row {row}");
    }
}

/// A command line, and how it may differ from each of the two: `=` not at all, `-` not compared.
struct Case<'a> {
    line: &'a str,
    arguments: Vec<String>,
    http: &'a str,
    curl: &'a str,
}

impl<'a> Case<'a> {
    fn parse(text: &'a str) -> Self {
        let columns: Vec<_> = text.split('\t').collect();
        let [line, http, curl] = columns[..] else {
            panic!("{text}: three columns")
        };
        Self {
            line,
            arguments: unquoted(line),
            http,
            curl,
        }
    }

    fn compare(&self, folder: &Path) -> Vec<String> {
        let mut ours = plugin("check_http_retry");
        ours.args(&self.arguments)
            .args(["--attempts", "1"])
            .current_dir(folder);
        if !self.arguments.iter().any(|word| word == "--no-request-id") {
            ours.arg("--no-request-id");
        }
        let ours = outcome(&mut ours);
        let mut wrong = Vec::new();
        for (tool, allowed) in [(CHECK_HTTP, self.http), (CHECK_CURL, self.curl)] {
            if allowed == "-" {
                continue;
            }
            let theirs = Command::new(tool)
                .args(&self.arguments)
                .current_dir(folder)
                .env("LC_ALL", "C")
                .env("TZ", "UTC")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&theirs.stdout).into_owned();
            let line = text.lines().next().unwrap_or_default();
            let mine = self.measured(&words(ours.headline()));
            let wanted = self.measured(&expected(&words(line), ours.headline()));
            let codes = (ours.code, theirs.status.code());
            let same_code = codes.0 == codes.1;
            let beside: Vec<_> = [
                differing_metrics(line, ours.first_line(), !self.is_echo()),
                differing_lines(&text, &ours.text),
            ]
            .into_iter()
            .flatten()
            .collect();
            let same = mine == wanted && beside.is_empty();
            let right = match DIFFERENCES.iter().find(|(name, _, _)| *name == allowed) {
                // A difference that is none must not stay in the list.
                Some((_, _, needs_code)) => (!same_code && !needs_code) || (same_code && !same),
                None => same_code && same,
            };
            if !right {
                wrong.push(format!(
                    "{}\t{tool} {allowed} {codes:?}\n  ours   {mine}\n  theirs {wanted}\n  {}",
                    self.line,
                    beside.join("\n  ")
                ));
            }
        }
        wrong
    }

    fn is_echo(&self) -> bool {
        self.line.contains("/echo") || self.line.contains("http://www.test")
    }

    /// The size of an echo is that of the request, which names who sent it.
    fn measured(&self, words: &str) -> String {
        match words.find(" bytes in T") {
            Some(end) if self.is_echo() => {
                let start = words[..end].rfind(' ').map_or(0, |at| at + 1);
                format!("{}N{}", &words[..start], &words[end..])
            }
            _ => words.to_owned(),
        }
    }
}

/// Words as a shell takes them apart, with single quotes alone.
fn unquoted(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn answer(seen: &Seen) -> Act {
    let to = |location: &str| {
        let header = format!("Location: {location}\r\n");
        Act::Send(page_with("301 Moved Permanently", &header, "hello world\n"))
    };
    let dated = |date: &str| {
        Act::Send(page_with(
            GOOD,
            &format!("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n{date}"),
            "hello world\n",
        ))
    };
    match seen.path() {
        path if path.starts_with("/status/") => {
            let number = &path[8..];
            let bodiless = ["204", "304"].contains(&number);
            let words = match number {
                "200" => "OK",
                "404" => "Not Found",
                "500" => "Internal Server Error",
                _ => "Some Words",
            };
            Act::Send(page(&format!("{number} {words}"), if bodiless { "" } else { "hello world\n" }))
        }
        "/" if seen.head.starts_with("HEAD") => {
            Act::Send(b"HTTP/1.1 200 OK\r\nServer: lab \r\nContent-Length: 12\r\n\r\n".to_vec())
        }
        "/code999" => Act::Send(page("999 Foo", "")),
        "/badcode" => Act::Send(b"HTTP/1.1 abc Foo\r\n\r\n".to_vec()),
        "/garbage" => Act::Send(b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()),
        "/http10" => Act::Send(b"HTTP/1.0 200 OK\r\n\r\nhello".to_vec()),
        "/redir" => to("/target"),
        "/redir-abs" => to("http://127.0.0.1:8080/target"),
        "/redir-other" => to("http://127.0.0.1:8081/target"),
        "/redir-https" => to("https://127.0.0.1:8443/target"),
        "/redir-nxdom" => to("http://nosuch.invalid/"),
        "/loop" => to("/loop"),
        "/loop2" => to("/loop3"),
        "/loop3" => to("/loop2"),
        "/redir-noloc" => Act::Send(page("301 Moved Permanently", "hello world\n")),
        "/slow?0.3" => Act::Trickle(page(GOOD, ""), Duration::from_millis(5)),
        "/slow?5" => Act::SendAndStall(Vec::new()),
        "/empty" => Act::Send(Vec::new()),
        "/rst" => Act::SendAndReset(Vec::new()),
        "/trunc" => Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello".to_vec()),
        "/chunked" if seen.head.starts_with("HEAD") => {
            Act::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec())
        }
        "/interim" => Act::Send(
            [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", &page(GOOD, "hello world\n")[..]].concat(),
        ),
        "/latin" => Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nCaf\xe9 ist auf".to_vec()),
        "/lines" => Act::Send(page(GOOD, "hello\nworld\n")),
        "/folded" => Act::Send(page_with("302 Found", "Location:\r\n /target\r\n", "")),
        "/chunked" => Act::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n".to_vec()),
        "/old" => dated("Last-Modified: Sun, 06 Nov 1994 06:49:37 GMT\r\n"),
        "/wrong-day" => dated("Last-Modified: Mon, 06 Nov 1994 06:49:37 GMT\r\n"),
        "/auth" if seen.header("authorization") != Some("Basic dXNlcjpwYXNz") => {
            Act::Send(page("401 Unauthorized", "hello world\n"))
        }
        "/echo" => Act::Send(page(GOOD, &format!("{}{}", seen.head, seen.body))),
        "/packed" => Act::Send([page_with(GOOD, "Content-Encoding: gzip\r\n", "").strip_suffix(b"Content-Length: 0\r\nConnection: close\r\n\r\n").unwrap(), b"\r\n", PACKED].concat()),
        "/icy" => Act::Send(b"ICY 200 OK\r\nicy-name: x\r\n\r\nsound".to_vec()),
        "/http09" => Act::Send(b"<html>hello</html>\n".to_vec()),
        "/bad-header" => Act::Send(b"HTTP/1.1 200 OK\r\nBad header\r\nServer: x\r\n\r\nhello".to_vec()),
        "/bad-chunked" => Act::Send(b"HTTP/1.1 200 OK\r\nBad header\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n".to_vec()),
        "/more" => Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more".to_vec()),
        "/lf" => Act::Send(b"HTTP/1.0 200 OK\nServer: x\n\nhello".to_vec()),
        "/head-only" => Act::Send(b"HTTP/1.1 200 OK\r\nServer: x\r\n".to_vec()),
        "/target" => Act::Send(page(GOOD, "target page\n")),
        _ => Act::Send(page_with(GOOD, "Server: lab \r\n", "hello world\n")),
    }
}

/// Those that the cases name, by port.
fn servers(folder: &Path) -> Vec<FaultServer> {
    let (now, hour) = (SystemTime::now(), Duration::from_hours(1));
    let authority = Identity::authority();
    let signed = |until| Identity::signed("localhost", until, &authority);
    let shown = |until| Some(signed(until).server(&[&authority], None));
    let client = Identity::signed("client", now + 90 * DAY, &authority);
    std::fs::create_dir(folder.join("certs")).unwrap();
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("client.pem", client.pem()),
        ("client.key", client.key_pem()),
    ] {
        std::fs::write(folder.join("certs").join(name), text).unwrap();
    }
    for name in ["client_v1.pem", "client_v1.key"] {
        let fixture = project().join("tests/fixtures").join(name);
        std::fs::copy(fixture, folder.join("certs").join(name)).unwrap();
    }
    let start = |port: u16, tls: Option<Arc<ServerConfig>>| {
        FaultServer::on(TcpListener::bind(("::", port)).unwrap(), tls, answer)
    };
    let good = now + 89 * DAY + hour;
    vec![
        start(80, None),
        start(8080, None),
        start(8081, None),
        start(3128, None),
        start(443, shown(good)),
        start(8443, shown(good)),
        start(8444, shown(now + 5 * DAY - hour)),
        start(8445, shown(now - 8 * DAY)),
        start(
            8446,
            Some(Identity::self_signed("self.test").server(&[], None)),
        ),
        start(8447, shown(now + 4 * hour - hour / 2)),
        start(8449, Some(Identity::nameless().server(&[], None))),
        start(8448, Some(signed(good).server(&[], Some(&authority)))),
        start(8450, shown(now + hour / 2 + hour / 120)),
        start(
            8451,
            Some(authority.server_for_anybody_with_a_certificate()),
        ),
        FaultServer::on(TcpListener::bind(("::", 9999)).unwrap(), None, |_| {
            Act::SendAndStall(Vec::new())
        }),
    ]
}
