//! `--evidence`: what is kept of failing probes, what it shows and what it does not.

mod comparison;
mod folder;
mod har;
mod packets;
mod secrets;

use std::fs;
use std::path::{Path, PathBuf};

use super::{
    Act, BAD, FaultServer, GOOD, Seen, always, command, every, outcome, page, page_with, plugin,
};
use crate::support::plugin::Outcome;
use crate::support::sockets::refusing;

/// A folder to keep evidence in.
struct Kept(tempfile::TempDir);

impl Kept {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The folder that `--evidence` names: it is not there before.
    fn path(&self) -> PathBuf {
        self.0.path().join("evidence")
    }

    /// Runs the plugin against a server, keeping evidence there.
    fn run(&self, server: &FaultServer, arguments: &str) -> Outcome {
        run_at(server, &self.path(), arguments)
    }

    /// The entries, the oldest first.
    fn entries(&self) -> Vec<PathBuf> {
        let mut entries: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap() != ".lock")
            .collect();
        entries.sort();
        entries
    }

    /// The only entry.
    fn entry(&self) -> PathBuf {
        let entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries[0].clone()
    }
}

fn run_at(server: &FaultServer, folder: &Path, arguments: &str) -> Outcome {
    outcome(command(server, arguments).arg("--evidence").arg(folder))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn each_failing_probe_is_kept_with_a_good_one_beside_it() {
    let server = FaultServer::start(every(3));
    let kept = Kept::new();
    let arguments = "-H www.test -u /x --attempts 6 --format json";
    let outcome = kept.run(&server, arguments);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let json = outcome.json();
    let entries = kept.entries();
    assert_eq!(entries.len(), 2, "{entries:?}");
    let failures = json["details"]["failures"].as_array().unwrap();
    for (failure, entry) in failures.iter().zip(&entries) {
        assert_eq!(failure["evidence"], entry.to_str().unwrap());
        let id = failure["request_id"].as_str().unwrap();
        assert!(entry.to_str().unwrap().ends_with(id), "{entry:?} {id}");
        let expected = [
            "failed-1.received",
            "failed-1.sent",
            "failed.har",
            "failed.pcapng",
            "good-1.received",
            "good-1.sent",
            "good.har",
            "good.pcapng",
            "summary.txt",
        ];
        assert_eq!(names(entry), expected);
        let seen = server.seen();
        let seen = seen.iter().find(|s| s.header("x-request-id") == Some(id));
        assert_eq!(text(entry.join("failed-1.sent")), seen.unwrap().head);
        let received = text(entry.join("failed-1.received"));
        assert_eq!(received.into_bytes(), page(BAD, "hello world\n"));
        let received = text(entry.join("good-1.received"));
        assert_eq!(received.into_bytes(), page(GOOD, "hello world\n"));
        let summary = text(entry.join("summary.txt"));
        for words in ["http-5xx HTTP/1.1 500", id, "good HTTP/1.1 200 OK"] {
            assert!(summary.contains(words), "no {words}: {summary}");
        }
    }
    let summary = json["summary"].as_str().unwrap();
    let newest = format!(", evidence in {}", entries[1].display());
    assert!(summary.ends_with(&newest), "{summary}");
}

#[test]
fn nothing_is_kept_of_good_probes_alone() {
    let server = always(page(GOOD, ""));
    let kept = Kept::new();
    let outcome = kept.run(&server, "--attempts 5");
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(!outcome.text.contains("evidence"), "{}", outcome.text);
    assert!(kept.entries().is_empty());
}

#[test]
fn a_failure_before_the_first_good_probe_gets_the_one_behind_it() {
    let server =
        FaultServer::start(|seen| Act::Send(page(if seen.number == 0 { BAD } else { GOOD }, "x")));
    let kept = Kept::new();
    let outcome = kept.run(&server, "--attempts 3 -v");
    assert!(kept.entry().join("good.har").exists());
    let second = &server.seen()[1];
    let id = second.header("x-request-id").unwrap();
    let words = format!("request id {id}:");
    assert!(outcome.text.contains(&words), "{}", outcome.text);
}

#[test]
fn the_rounds_of_a_loop_know_the_good_probes_before_them() {
    let server = FaultServer::start(every(5));
    let kept = Kept::new();
    let arguments = "--attempts 1 --until critical --every 10ms -v";
    let outcome = kept.run(&server, arguments);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let entry = kept.entry();
    let sent = text(entry.join("good-1.sent"));
    assert_eq!(sent, server.seen()[3].head);
    assert!(entry.join("good.pcapng").exists());
    assert!(
        outcome.text.contains("compared with the good probe of "),
        "{}",
        outcome.text
    );
}

#[test]
fn a_redirect_is_a_further_exchange() {
    let server = FaultServer::start(|seen| {
        Act::Send(match seen.path() {
            "/" => page_with("302 Found", "Location: /next\r\n", "over there"),
            _ => page(BAD, "no"),
        })
    });
    let kept = Kept::new();
    kept.run(&server, "-H www.test -f sticky --attempts 1");
    let entry = kept.entry();
    let expected = [
        "failed-1.received",
        "failed-1.sent",
        "failed-2.received",
        "failed-2.sent",
        "failed.har",
        "failed.pcapng",
        "summary.txt",
    ];
    assert_eq!(names(&entry), expected);
    assert!(text(entry.join("failed-2.sent")).starts_with("GET /next HTTP/1.1\r\n"));
}

#[test]
fn what_is_long_is_cut_and_the_entry_says_so() {
    let long = "x".repeat(300_000);
    let server = FaultServer::start(move |_| Act::Send(page(BAD, &long)));
    let kept = Kept::new();
    kept.run(&server, "--attempts 1");
    let entry = kept.entry();
    assert_eq!(text(entry.join("failed-1.received")).len(), 65_536);
    let summary = text(entry.join("summary.txt"));
    let words = "failed-1.received: the first 65536 of 300096 bytes";
    assert!(summary.contains(words), "{summary}");
}

#[test]
fn what_stands_before_http_on_the_connection_is_kept_as_well() {
    use crate::support::proxy::{Speech, TestProxy};
    let server = FaultServer::start_tls(every(1));
    let proxy = TestProxy::start(Speech::Connect, server.address);
    let kept = Kept::new();
    let proxy_url = format!("http://{}", proxy.address);
    let mut command = plugin("check_http_retry");
    command.args(["-H", "www.test", "-S", "--attempts", "1", "-x", &proxy_url]);
    outcome(command.arg("--evidence").arg(kept.path()));
    let entry = kept.entry();
    let sent = text(entry.join("failed-1.sent"));
    assert!(
        sent.starts_with("CONNECT www.test:443 HTTP/1.1\r\n"),
        "{sent}"
    );
    assert!(sent.contains("\r\n\r\nGET / HTTP/1.1\r\n"), "{sent}");
    let received = text(entry.join("failed-1.received"));
    let begin = "HTTP/1.0 200 Connection established\r\nVia: test\r\n\r\nHTTP/1.1 500 ";
    assert!(received.starts_with(begin), "{received}");
}

#[test]
fn a_probe_without_a_reply_is_kept_as_far_as_it_came() {
    let (_nobody, place) = refusing();
    let port = place.port().to_string();
    let kept = Kept::new();
    let mut refused = plugin("check_http_retry");
    refused.args(["-I", "127.0.0.1", "-p", &port, "--attempts", "1"]);
    let refused = outcome(refused.arg("--evidence").arg(kept.path()));
    assert_eq!(refused.code, Some(2), "{}", refused.text);
    let entry = kept.entry();
    assert_eq!(text(entry.join("failed-1.sent")), "");

    let server = FaultServer::start(|_| Act::SendAndStall(b"HTTP/1.1 200 OK\r\nA: b\r\n".to_vec()));
    let kept = Kept::new();
    kept.run(&server, "--attempts 1 -t 0.2");
    let received = text(kept.entry().join("failed-1.received"));
    assert_eq!(received, "HTTP/1.1 200 OK\r\nA: b\r\n");

    let path = kept.0.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let serving = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(&page(BAD, "x")).unwrap();
    });
    let kept = Kept::new();
    let mut file = plugin("check_http_retry");
    file.arg("-I").arg(&path).args(["--attempts", "1"]);
    let file = outcome(file.arg("--evidence").arg(kept.path()));
    assert_eq!(file.code, Some(2), "{}", file.text);
    serving.join().unwrap();
    let summary = text(kept.entry().join("summary.txt"));
    let words = "no packets: there was no connection over a network";
    assert!(summary.contains(words), "{summary}");
}
