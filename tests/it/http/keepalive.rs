//! `--keepalive`: probes that go over connections of earlier ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Act, BAD, FaultServer, GOOD, Seen, always, command, outcome, page, plugin, run};
use crate::support::child;
use crate::support::fault_server::kept_page;
use crate::support::identity::Identity;
use crate::support::netns::Netns;
use crate::support::nginx::Nginx;
use crate::support::proxy::{Speech, TestProxy};

/// Tells how many requests came over each connection, this one included.
#[derive(Default)]
struct Connections(Mutex<BTreeMap<SocketAddr, usize>>);

impl Connections {
    fn count(&self, seen: &Seen) -> usize {
        let mut all = self.0.lock().unwrap();
        let count = all.entry(seen.peer).or_default();
        *count += 1;
        *count
    }
}

/// A server that keeps connections, and does something else with the n-th request of each.
fn but_for(n: usize, other: Act) -> FaultServer {
    let connections = Connections::default();
    FaultServer::start(move |seen| {
        if connections.count(seen) == n {
            other.clone()
        } else {
            Act::Keep(kept_page(GOOD, "hello\n"))
        }
    })
}

/// How many connections the requests came over.
fn peers(server: &FaultServer) -> usize {
    let seen = server.seen();
    let peers: BTreeSet<_> = seen.iter().map(|seen| seen.peer).collect();
    peers.len()
}

fn document(server: &FaultServer, arguments: &str) -> Value {
    run(server, &format!("--keepalive --format json {arguments}")).json()
}

#[test]
fn a_real_nginx_sees_as_many_requests_on_a_connection_as_it_allows() {
    let ns = Netns::new("keepalive");
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::self_signed("www.test");
    fs::write(folder.path().join("c.pem"), identity.pem()).unwrap();
    fs::write(folder.path().join("k.pem"), identity.key_pem()).unwrap();
    let http = "keepalive_requests 5;
        server { listen 127.0.0.1:80; listen 127.0.0.1:443 ssl http2;
            ssl_certificate c.pem; ssl_certificate_key k.pem;
            location / { return 200 'hello'; }
            location /there { return 302 /; } }";
    let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
    let nginx = Nginx::start(&ns, folder.path(), "", http, listen, None);
    let probe = |arguments: &str| {
        let mut command = ns.command(plugin("check_http_retry").get_program());
        command.args("-I 127.0.0.1 --keepalive --attempts 20 --format json -A".split(' '));
        command.arg(arguments.replace(' ', "_"));
        command.args(arguments.split(' ').filter(|word| !word.is_empty()));
        outcome(&mut command).json()
    };
    for (arguments, opened, requests) in [
        ("", 4, 20),
        ("-H www.test", 4, 20),
        ("-H www.test -S", 4, 20),
        ("-H www.test -S --http-version 2", 4, 20),
        ("-H www.test -S --http-version 2 -N", 4, 20),
        ("-H www.test -P a=b -k Expect:", 4, 20),
        ("-H www.test -j HEAD", 4, 20),
        ("-H www.test -u /there -f sticky", 8, 40),
        ("-H www.test -k Connection:close", 20, 20),
        ("-H www.test -S -C 0 --continue-after-certificate", 4, 20),
    ] {
        let json = probe(arguments);
        assert_eq!(json["exit_code"], 0, "{arguments}: {json}");
        assert_eq!(
            json["details"]["connections"],
            json!({
                "opened": opened,
                "requests_on_reused": requests - opened,
                "closed_in_between": 0,
                "sent_again": 0,
                "attempts_on_reused": 20 - opened * 20 / requests,
                "failed_on_reused": 0,
            }),
            "{arguments}"
        );
        let agent = arguments.replace(' ', "_");
        let seen = nginx.requests();
        let ports: BTreeSet<_> = seen
            .iter()
            .filter(|seen| seen.agent == agent || (agent.is_empty() && seen.agent == "-"))
            .map(|seen| seen.port)
            .collect();
        assert_eq!(ports.len(), opened, "{arguments}");
        if !arguments.is_empty() && opened == 4 {
            let phases = &json["details"]["phases"];
            assert!(phases["connect"].is_object(), "of the new ones: {phases}");
        }
    }
    let parallel = probe("-H www.test --concurrency 4");
    let opened = parallel["details"]["connections"]["opened"].as_u64();
    assert!(opened.is_some_and(|n| (4..=8).contains(&n)), "{parallel}");
}

#[test]
fn a_probe_on_a_reused_connection_has_no_phases_of_one() {
    let server = but_for(5, Act::Send(page(BAD, "")));
    let json = document(&server, "--attempts 5");
    let failure = &json["details"]["failures"][0];
    assert_eq!(failure["reused"], true, "{json}");
    assert_eq!(failure["local"], server.peers()[0].to_string());
    let journal = tempfile::tempdir().unwrap();
    let journal = journal.path().join("probes.jsonl");
    let server = but_for(3, Act::Send(page(BAD, "")));
    let outcome = outcome(
        command(&server, "--keepalive --attempts 3 -v")
            .arg("--journal")
            .arg(&journal),
    );
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let headline = outcome.headline();
    assert!(
        headline.ends_with("intermittent, 2 on reused connections"),
        "{headline}"
    );
    assert_eq!(outcome.metric("connections"), Some(1.0));
    assert_eq!(outcome.metric("reused"), Some(2.0));
    for words in [
        "probes that failed on new connections: 0 of 1, on reused ones: 1 of 2",
        "connections: 1 opened, 2 requests over one that was there\n",
        " on a reused connection ",
    ] {
        assert!(outcome.text.contains(words), "no {words}: {}", outcome.text);
    }
    let lines: Vec<Value> = fs::read_to_string(&journal)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["record"] == "probe")
        .collect();
    let reused: Vec<_> = lines.iter().map(|line| &line["reused"]).collect();
    assert_eq!(reused, [&json!(false), &json!(true), &json!(true)]);
    assert!(lines[0]["phases"]["connect"].is_number());
    assert!(lines[1]["phases"]["connect"].is_null());
    assert!(lines[1]["phases"]["first_byte"].is_number());
    assert_eq!(lines[0]["local"], lines[2]["local"]);
}

#[test]
fn a_connection_that_the_server_closed_in_between_is_no_failure() {
    let server =
        FaultServer::start(|_| Act::KeepFor(kept_page(GOOD, ""), Duration::from_millis(10)));
    let json = document(&server, "--attempts 4 --interval 150ms");
    assert_eq!(json["exit_code"], 0, "{json}");
    let connections = &json["details"]["connections"];
    assert_eq!(connections["opened"], 4, "{json}");
    assert_eq!(connections["closed_in_between"], 3, "{json}");
    assert_eq!(connections["sent_again"], 0, "{json}");
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn of_many_connections_each_that_was_closed_between_two_rounds_is_noticed() {
    let server =
        FaultServer::start(|_| Act::KeepFor(kept_page(GOOD, ""), Duration::from_millis(200)));
    // What must not be sent twice shows where one was not noticed.
    let words =
        "--keepalive -P a=b --attempts 150 --concurrency 150 --forever --every 2s --format json";
    let mut command = command(&server, words);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let rounds: Vec<_> = said.lines().take(2).map(Result::unwrap).collect();
    child::end(&mut child);
    for (round, line) in rounds.iter().enumerate() {
        let json: Value = serde_json::from_str(line).unwrap();
        assert_eq!(json["exit_code"], 0, "{json}");
        let connections = &json["details"]["connections"];
        assert_eq!(connections["closed_in_between"], 150 * round, "{json}");
        assert_eq!(connections["sent_again"], 0, "{json}");
    }
}

#[test]
fn a_request_that_met_the_end_of_its_connection_is_sent_once_more() {
    let late = page("408 Request Timeout", "");
    for (other, resent) in [
        (Act::Send(Vec::new()), 3),
        (Act::SendAndReset(Vec::new()), 3),
        (Act::Send(late), 3),
    ] {
        let server = but_for(2, other.clone());
        let json = document(&server, "--attempts 4");
        assert_eq!(json["exit_code"], 0, "{other:?}: {json}");
        assert_eq!(json["details"]["connections"]["sent_again"], resent);
        assert_eq!(json["details"]["statuses"], json!({"200": 4}), "{json}");
        assert_eq!(peers(&server), 4);
    }
    // What may have been done must not be done twice.
    let server = but_for(2, Act::Send(Vec::new()));
    let post = document(&server, "--attempts 2 -P a=b");
    assert_eq!(post["exit_code"], 2, "{post}");
    assert_eq!(post["details"]["kinds"], json!({"closed": 1}), "{post}");
    let text = post["details"]["failures"][0]["text"].as_str().unwrap();
    assert!(text.ends_with("(on a reused connection, and not for sending twice)"));
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn what_breaks_in_the_middle_of_a_reply_is_a_failure() {
    let half = || page(GOOD, "a page of some length")[..80].to_vec();
    for (other, kind) in [
        (Act::SendAndReset(half()), "reset"),
        (Act::Send(half()), "truncated"),
        (Act::Send(page(BAD, "")), "http-5xx"),
        (Act::SendAndStall(half()), "timeout"),
    ] {
        let server = but_for(3, other.clone());
        let json = document(&server, "--attempts 4 -t 1");
        assert_eq!(json["exit_code"], 2, "{other:?}: {json}");
        assert_eq!(json["details"]["kinds"], json!({kind: 1}), "{other:?}");
        let connections = &json["details"]["connections"];
        assert_eq!(connections["failed_on_reused"], 1, "{other:?}: {json}");
        assert_eq!(connections["sent_again"], 0, "{other:?}: {json}");
        // Nothing goes over it any more.
        assert_eq!(peers(&server), 2, "{other:?}");
        assert_eq!(server.seen().len(), 4);
    }
    // A new connection gets no second chance, and neither does the one behind a resent request.
    let dead = FaultServer::start(|_| Act::Send(Vec::new()));
    let json = document(&dead, "--attempts 2");
    assert_eq!(json["details"]["kinds"], json!({"closed": 2}), "{json}");
    assert_eq!(dead.seen().len(), 2);
}

#[test]
fn replies_that_end_with_the_connection_or_say_so_leave_nothing_to_reuse() {
    let endless = b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec();
    let old = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec();
    for reply in [endless, old, page(GOOD, "hello")] {
        let server = always(reply);
        let outcome = run(&server, "--keepalive --attempts 3");
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        assert!(
            outcome
                .headline()
                .ends_with("3 of 3 probes good, 0 on reused connections")
                && outcome
                    .text
                    .contains("no connection could be reused: the server"),
            "{}",
            outcome.text
        );
        let head = &server.seen()[0].head;
        assert!(head.contains("\r\nConnection: keep-alive\r\n"), "{head}");
    }
    // More than what was asked for is on it: the next reply would be somebody else's.
    let more = [kept_page(GOOD, "one"), kept_page(GOOD, "two")].concat();
    let server = FaultServer::start(move |_| Act::Keep(more.clone()));
    let json = document(&server, "--attempts 3");
    assert_eq!(json["exit_code"], 0, "{json}");
    assert_eq!(peers(&server), 3, "{json}");
}

#[test]
fn the_rounds_of_a_loop_go_over_the_same_connection() {
    let server = but_for(6, Act::Send(page(BAD, "oops")));
    let outcome = run(
        &server,
        "--keepalive --attempts 1 --until critical --every 10ms",
    );
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert_eq!((peers(&server), server.seen().len()), (1, 6));
    assert!(
        outcome.text.contains("on a reused connection|"),
        "{}",
        outcome.text
    );
}

#[test]
fn each_path_has_connections_of_its_own_and_no_more_than_probes_in_flight() {
    let (one, two) = (
        but_for(99, Act::Send(Vec::new())),
        but_for(99, Act::Send(Vec::new())),
    );
    let via = format!(
        "--via one=127.0.0.1:{} --via same=127.0.0.1:{} --via two=127.0.0.1:{}",
        one.port(),
        one.port(),
        two.port()
    );
    let json = document(&one, &format!("{via} --attempts 10 --concurrency 3"));
    assert_eq!(json["exit_code"], 0, "{json}");
    let (ones, twos) = (peers(&one), peers(&two));
    assert!(
        (2..=6).contains(&ones) && (1..=3).contains(&twos),
        "{ones}, {twos}"
    );
    let single = document(&one, &format!("{via} --attempts 10"));
    assert_eq!(single["details"]["connections"]["opened"], 3, "{single}");
}

#[test]
fn evidence_of_a_reused_connection_has_its_request_and_no_handshake() {
    for tls in [false, true] {
        let connections = Connections::default();
        let handler = move |seen: &Seen| match connections.count(seen) {
            3 => Act::Send(page(BAD, "oops")),
            _ => Act::Keep(kept_page(GOOD, "")),
        };
        let server = if tls {
            FaultServer::start_tls(handler)
        } else {
            FaultServer::start(handler)
        };
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(&server, "--keepalive --attempts 3 -k Cookie:secret=hush");
        command.args(tls.then_some("-S"));
        command.arg("--evidence").arg(folder.path().join("kept"));
        let outcome = outcome(&mut command);
        assert_eq!(outcome.code, Some(2), "{}", outcome.text);
        let entries = fs::read_dir(folder.path().join("kept")).unwrap();
        let entry = entries
            .map(|entry| entry.unwrap().path())
            .find(|path| path.is_dir())
            .unwrap();
        let text = |name: &str| fs::read_to_string(entry.join(name)).unwrap();
        let summary = text("summary.txt");
        assert!(summary.contains(", on a reused connection, "), "{summary}");
        let har: Value = serde_json::from_str(&text("failed.har")).unwrap();
        let timings = &har["log"]["entries"][0]["timings"];
        assert_eq!(timings["connect"], -1.0, "{timings}");
        assert_eq!(timings["ssl"], -1.0, "{timings}");
        assert!(timings["wait"].as_f64().unwrap() > 0.0, "{timings}");
        let sent = text("failed-1.sent");
        assert!(sent.starts_with("GET / HTTP/1.0\r\n"), "{sent}");
        if let Ok(packets) = fs::read(entry.join("failed.pcapng")) {
            let hush = memchr::memmem::find(&packets, b"hush");
            assert_eq!(hush, None, "a cookie in clear");
            assert!(
                summary.contains(if tls {
                    "packets, the handshake was before this probe"
                } else {
                    "packets, the connection is older than this probe"
                }),
                "{summary}"
            );
        }
    }
}

#[test]
fn what_sends_no_request_cannot_keep_a_connection() {
    let server = FaultServer::start_tls(|_| Act::Send(Vec::new()));
    let outcome = run(&server, "-S -C 10 --keepalive");
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    assert!(
        outcome.text.contains("--continue-after-certificate"),
        "{}",
        outcome.text
    );
}

#[test]
fn a_way_through_a_proxy_is_kept_as_well() {
    let kept = |_: &Seen| Act::Keep(kept_page(GOOD, "hello\n"));
    let (clear, encrypted) = (FaultServer::start(kept), FaultServer::start_tls(kept));
    let probe = |server: &FaultServer, proxy: String, more: &str| {
        document(
            server,
            &format!("-H www.test -x {proxy} --attempts 4 {more}"),
        )
    };
    let forwards = FaultServer::start(kept);
    let json = probe(&clear, format!("http://{}", forwards.address), "");
    assert_eq!(json["details"]["connections"]["opened"], 1, "{json}");
    let seen = forwards.seen();
    assert_eq!((seen.len(), peers(&forwards)), (4, 1));
    assert!(
        seen[3].head.starts_with("GET http://127.0.0.1:"),
        "{seen:?}"
    );
    assert!(clear.seen().is_empty());

    let tunnel = TestProxy::start(Speech::Connect, encrypted.address);
    let json = probe(&encrypted, format!("http://{}", tunnel.address), "-S");
    assert_eq!(json["exit_code"], 0, "{json}");
    assert_eq!((tunnel.asked().len(), encrypted.seen().len()), (1, 4));

    let socks = TestProxy::start(Speech::Socks5(None), clear.address);
    let json = probe(&clear, format!("socks5://{}", socks.address), "");
    assert_eq!(json["exit_code"], 0, "{json}");
    assert_eq!((socks.asked().len(), clear.seen().len()), (1, 4));
}
