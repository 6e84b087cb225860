//! `check_http_retry` against a server that misbehaves, and side by side with the real `check_http`.

mod side_by_side;

use std::collections::HashSet;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::support::fault_server::{Act, FaultServer, Seen, page, page_with};
use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, check_output, outcome, plugin};

const GOOD: &str = "200 OK";
const BAD: &str = "500 Internal Server Error";

fn command(server: &FaultServer, arguments: &str) -> Command {
    let mut command = plugin("check_http_retry");
    command
        .args(["-I", "127.0.0.1", "-p", &server.port()])
        .args(arguments.split(' ').filter(|word| !word.is_empty()));
    command
}

fn run(server: &FaultServer, arguments: &str) -> Outcome {
    outcome(&mut command(server, arguments))
}

fn always(bytes: impl Into<Vec<u8>>) -> FaultServer {
    let bytes = bytes.into();
    FaultServer::start(move |_| Act::Send(bytes.clone()))
}

/// Fails every n-th request with a 500.
fn every(n: usize) -> impl Fn(&Seen) -> Act + Send + Sync + 'static {
    move |seen| {
        let status = if seen.number % n == n - 1 { BAD } else { GOOD };
        Act::Send(page(status, "hello world\n"))
    }
}

#[test]
fn good_probes_are_counted_behind_the_words_of_check_http() {
    let server = always(page(GOOD, "hello world\n"));
    let outcome = run(&server, "");
    assert_eq!(outcome.code, Some(0));
    let line = outcome.headline();
    assert!(
        line.starts_with("HTTP OK: HTTP/1.1 200 OK - 85 bytes in 0."),
        "{line}"
    );
    assert!(
        line.ends_with(" second response time, 10 of 10 probes good"),
        "{line}"
    );
    assert_eq!(outcome.metric("size"), Some(85.0));
    assert_eq!(outcome.metric("attempts"), Some(10.0));
    assert_eq!(outcome.metric("failed"), Some(0.0));
    assert_eq!(server.seen().len(), 10);
}

#[test]
fn failures_that_come_and_go_are_told_from_a_server_that_is_down() {
    let outcome = run(&FaultServer::start(every(4)), "--attempts 12 --format json");
    let json = outcome.json();
    assert_eq!(outcome.code, Some(2));
    assert_eq!(
        json["summary"],
        "HTTP CRITICAL: HTTP/1.1 500 Internal Server Error - 3 of 12 probes failed \
         (25 %, 95 % interval 8.9-53.2 %), intermittent"
    );
    let details = &json["details"];
    assert_eq!(details["verdict"], "intermittent");
    assert_eq!(details["failed"], 3);
    assert_eq!(details["kinds"]["http-5xx"], 3);
    assert_eq!(details["statuses"]["200"], 9);
    assert_eq!(json["findings"][0]["cause"], "intermittent-failure");
    let advice = json["findings"][0]["advice"].as_str().unwrap();
    assert!(advice.contains("check_port_exhaustion"), "{advice}");

    let outcome = run(&always(page(BAD, "")), "--attempts 3");
    assert!(outcome.headline().ends_with(", down"), "{}", outcome.text);
    assert_eq!(outcome.code, Some(2));
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn every_kind_of_failure_has_its_name() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello".to_vec();
    let cases: [(&str, Act, &str, i32, &str); 14] = [
        (
            "",
            Act::Send(page(BAD, "")),
            "http-5xx",
            2,
            "HTTP/1.1 500 Internal Server Error",
        ),
        (
            "",
            Act::Send(page("404 Not Found", "")),
            "http-4xx",
            1,
            "HTTP/1.1 404 Not Found",
        ),
        (
            "",
            Act::Send(Vec::new()),
            "closed",
            2,
            "No data received from host",
        ),
        (
            "",
            Act::SendAndReset(Vec::new()),
            "reset",
            2,
            "No data received from host: Connection reset by peer",
        ),
        (
            "",
            Act::Send(half.clone()),
            "truncated",
            2,
            "HTTP/1.1 200 OK - the reply was cut off after 46 bytes: the connection was closed",
        ),
        (
            "",
            Act::SendAndReset(half.clone()),
            "reset",
            2,
            "HTTP/1.1 200 OK - the reply was cut off after 46 bytes: Connection reset by peer",
        ),
        (
            "-t 0.3",
            Act::SendAndStall(Vec::new()),
            "timeout",
            2,
            "Socket timeout after 0.3 seconds",
        ),
        (
            "-t 0.3",
            Act::SendAndStall(half),
            "timeout",
            2,
            "Socket timeout after 0.3 seconds",
        ),
        (
            "-s nope",
            Act::Send(page(GOOD, "hello")),
            "content",
            2,
            "HTTP/1.1 200 OK - string 'nope' not found",
        ),
        (
            "-e 201",
            Act::Send(page(GOOD, "")),
            "content",
            2,
            "Invalid HTTP response received from host on port",
        ),
        (
            "-w @0:9",
            Act::Send(page(GOOD, "")),
            "slow",
            1,
            "HTTP/1.1 200 OK",
        ),
        (
            "",
            Act::Send(b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()),
            "protocol",
            2,
            "Invalid HTTP response received from host on port",
        ),
        (
            "-S",
            Act::Send(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            "tls",
            2,
            "Cannot make SSL connection.",
        ),
        (
            "-f critical",
            Act::Send(page("302 Found", "")),
            "redirect",
            2,
            "HTTP/1.1 302 Found",
        ),
    ];
    for (arguments, act, kind, code, words) in cases {
        let server = FaultServer::start({
            let act = act.clone();
            move |_| act.clone()
        });
        let outcome = run(&server, &format!("{arguments} --attempts 1 --format json"));
        let failure = &outcome.json()["details"]["failures"][0];
        let case = format!("{arguments} {act:?}: {}", outcome.text);
        assert_eq!(failure["kind"], kind, "{case}");
        assert_eq!(outcome.code, Some(code), "{case}");
        assert!(
            failure["text"].as_str().unwrap().starts_with(words),
            "{case}"
        );
        // Also where there was no reply, and where the TLS handshake failed.
        assert_eq!(failure["local"], server.peers()[0].to_string(), "{case}");
        assert_eq!(failure["remote"], server.address.to_string(), "{case}");
    }
}

#[test]
fn nobody_there_is_told_by_how_nobody_answers() {
    let free = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let probe = |arguments: &str| {
        let mut command = plugin("check_http_retry");
        command
            .args(arguments.split(' '))
            .args(["--attempts", "2", "--format", "json"]);
        outcome(&mut command)
    };
    let refused = probe(&format!("-I 127.0.0.1 -p {free}"));
    let json = refused.json();
    assert_eq!(refused.code, Some(2));
    assert_eq!(json["details"]["kinds"]["refused"], 2);
    let words =
        format!("HTTP CRITICAL: connect to address 127.0.0.1 and port {free}: Connection refused");
    assert!(
        json["summary"].as_str().unwrap().starts_with(&words),
        "{json}"
    );
    // Not reached is not zero.
    assert!(
        json["details"]["phases"].get("first_byte").is_none(),
        "{json}"
    );
    assert!(json["details"]["latency"].is_null(), "{json}");

    let unknown = probe("-H name.invalid");
    assert_eq!(unknown.code, Some(2));
    assert_eq!(
        unknown.json()["details"]["kinds"]["dns"],
        2,
        "{}",
        unknown.text
    );
    let family = probe(&format!("-I 127.0.0.1 -6 -p {free}"));
    let text = family.json()["summary"].to_string();
    assert!(
        text.contains("Address family for hostname not supported"),
        "{text}"
    );
}

#[test]
fn a_server_that_drops_packets_is_a_connect_timeout_and_a_missing_route_unreachable() {
    let ns = Netns::new("hole");
    ns.ip("link add hole type veth peer name lost");
    ns.ip("addr add 192.0.2.1/24 dev hole");
    ns.ip("link set hole up");
    ns.ip("link set lost up");
    let probe = |address: &str| {
        let mut command = ns.command(plugin("check_http_retry").get_program());
        command.args([
            "-I",
            address,
            "-t",
            "0.3",
            "--attempts",
            "1",
            "--format",
            "json",
        ]);
        outcome(&mut command).json()
    };
    // The other end drops what is not for its own hardware address.
    ns.ip("neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev hole");
    let dropped = probe("192.0.2.9");
    assert_eq!(
        dropped["details"]["kinds"]["connect-timeout"], 1,
        "{dropped}"
    );
    let local = dropped["details"]["failures"][0]["local"].as_str().unwrap();
    assert!(local.starts_with("192.0.2.1:"), "{local}");
    let unreachable = probe("198.51.100.1");
    assert_eq!(
        unreachable["details"]["kinds"]["unreachable"], 1,
        "{unreachable}"
    );
}

#[test]
fn https_is_spoken_without_looking_at_the_certificate() {
    let server = FaultServer::start_tls(every(5));
    let outcome = run(&server, "-S --format json -E");
    let json = outcome.json();
    assert_eq!(outcome.code, Some(2));
    assert_eq!(json["details"]["failed"], 2, "{json}");
    assert!(json["details"]["phases"]["tls"]["p50"].as_f64().unwrap() > 0.0);
    let labels: Vec<_> = json["perfdata"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["label"].as_str().unwrap())
        .collect();
    assert_eq!(
        labels[..7],
        [
            "time",
            "size",
            "time_connect",
            "time_ssl",
            "time_headers",
            "time_firstbyte",
            "time_transfer"
        ]
    );
    for version in ["-S1.2", "-S1.3", "-S1.2+", "--ssl=1.1+"] {
        assert_eq!(
            run(&server, &format!("{version} --attempts 1")).code,
            Some(0),
            "{version}"
        );
    }
    let old = run(&server, "-S1.1");
    assert_eq!(old.code, Some(3));
    assert!(
        old.text.starts_with("HTTP UNKNOWN: -S1.1: "),
        "{}",
        old.text
    );
}

#[test]
fn client_ports_and_request_ids_are_those_that_the_server_saw() {
    let server = FaultServer::start(every(2));
    let json = run(&server, "--attempts 20 --concurrency 3 --format json").json();
    let seen = server.seen();
    let ids: HashSet<_> = seen
        .iter()
        .map(|seen| seen.header("x-request-id").unwrap())
        .collect();
    assert_eq!(ids.len(), 20, "each probe has its own");
    let failures = json["details"]["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 10);
    for failure in failures {
        let id = failure["request_id"].as_str().unwrap();
        let of_server = seen
            .iter()
            .find(|seen| seen.header("x-request-id") == Some(id))
            .unwrap();
        assert_eq!(of_server.number % 2, 1, "this one was failed");
        assert_eq!(failure["local"], of_server.peer.to_string());
    }
    let again = run(&server, "--attempts 1 --no-request-id");
    assert_eq!(again.code, Some(0));
    assert_eq!(server.seen()[20].header("x-request-id"), None);
    let mut own = command(&server, "--attempts 1");
    outcome(own.args(["-k", "X-Request-ID: mine"]));
    assert_eq!(server.seen()[21].header("x-request-id"), Some("mine"));
}

#[test]
fn the_request_is_that_of_check_http() {
    let server = always(page(GOOD, ""));
    let first_head = |arguments: &[&str]| {
        let before = server.seen().len();
        let mut command = command(&server, "--attempts 1 --no-request-id");
        let outcome = outcome(command.args(arguments));
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.text);
        server.seen()[before].head.clone()
    };
    let agent = concat!(
        "check_http_retry/v",
        env!("CARGO_PKG_VERSION"),
        " (proxy-checks)"
    );
    let port = server.port();
    for (arguments, head) in [
        (&[][..], format!("GET / HTTP/1.0\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n")),
        (&["-H", "www.test", "-u", "/a b?c"], format!("GET /a%20b?c HTTP/1.1\r\nUser-Agent: {agent}\r\nConnection: close\r\nHost: www.test:{port}\r\n\r\n")),
        (&["-H", "www.test:1234", "-A", "me", "-j", "DELETE"], "DELETE / HTTP/1.1\r\nConnection: close\r\nHost: www.test:1234\r\nUser-Agent: me\r\n\r\n".to_owned()),
        (&["-k", "Host: other", "-k", "X-A: 1", "-k", "X-A: 2", "-a", "user:pass"], format!("GET / HTTP/1.0\r\nUser-Agent: {agent}\r\nConnection: close\r\nHost: other\r\nX-A: 1\r\nX-A: 2\r\nAuthorization: Basic dXNlcjpwYXNz\r\n\r\n")),
        (&["-P", "a=1", "-T", "text/plain"], format!("POST / HTTP/1.0\r\nUser-Agent: {agent}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n")),
        (&["-u", "http://www.test/x", "-H", "www.test:80"], format!("GET http://www.test/x HTTP/1.1\r\nUser-Agent: {agent}\r\nConnection: close\r\nHost: www.test\r\n\r\n")),
    ] {
        assert_eq!(first_head(arguments), head, "{arguments:?}");
    }
}

#[test]
fn sloppy_replies_are_read_as_check_http_reads_them() {
    for (raw, code, words) in [
        ("HTTP/1.0 200 OK\n\nhello", 0, "HTTP/1.0 200 OK"),
        ("HTTP/1.1 200 OK\r\nServer: x\r\n", 0, "HTTP/1.1 200 OK"),
        ("HTTP/1.1 200 OK\r\nServer: x", 0, "HTTP/1.1 200 OK"),
        ("HTTP/1.1 500 Oops", 2, "HTTP/1.1 500 Oops"),
        (
            "HTTP/1.1 200 OK\r\nBad header\r\n\r\nhello",
            0,
            "HTTP/1.1 200 OK",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
            0,
            "HTTP/1.1 200 OK",
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhello", 0, "HTTP/1.1 200 OK"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            0,
            "HTTP/1.1 200 OK",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            0,
            "HTTP/1.1 200 OK",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
            2,
            "HTTP/1.1 200 OK - the reply was cut off",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            2,
            "HTTP/1.1 200 OK - the reply was cut off",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
            0,
            "HTTP/1.1 200 OK",
        ),
        (
            "HTTP/1.1 abc Foo\r\n\r\n",
            2,
            "Invalid Status Line (HTTP/1.1 abc Foo)",
        ),
        (
            "HTTP/1.1 999 Foo\r\n\r\n",
            2,
            "Invalid Status (HTTP/1.1 999 Foo)",
        ),
        ("HTTP/1.1 200\r\n\r\n", 0, "HTTP/1.1 200"),
        (
            "ICY 200 OK\r\n\r\n",
            2,
            "Invalid HTTP response received from host on port",
        ),
        (
            "hello",
            2,
            "Invalid HTTP response received from host on port",
        ),
        (
            "\r\n",
            2,
            "Invalid HTTP response received from host on port",
        ),
    ] {
        let outcome = run(&always(raw), "--attempts 1");
        assert_eq!(outcome.code, Some(code), "{raw:?}: {}", outcome.text);
        let (_, text) = outcome.headline().split_once(": ").unwrap();
        assert!(text.starts_with(words), "{raw:?}: {}", outcome.text);
    }
    let outcome = run(
        &always("HTTP/1.1 200 OK\r\nBad header\r\n\r\nhello"),
        "-s hello --attempts 1",
    );
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
}

#[test]
fn more_headers_than_hyper_takes_are_no_failure() {
    let headers: Vec<_> = (0..300).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let headers = headers.concat();
    let server = always(page_with(GOOD, &headers, "hello"));
    let outcome = run(&server, "--attempts 1 -s hello -d X-299");
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
}

#[test]
fn server_text_cannot_forge_perfdata_or_steer_the_terminal() {
    let line =
        b"HTTP/1.1 200 OK|time=0s;;; \x1b[2J\x07 <b>x\xff\r\nContent-Length: 0\r\n\r\n".to_vec();
    let outcome = run(&always(line), "--attempts 1");
    let first = outcome.first_line();
    assert_eq!(first.matches('|').count(), 1, "{first}");
    assert!(first.chars().all(|c| !c.is_control()), "{first:?}");
    let long = format!("HTTP/1.1 500 {}\r\n\r\n", "x".repeat(100_000));
    let outcome = run(&always(long), "--attempts 3 -vv");
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.headline().len() < 500, "{}", outcome.headline());
    assert!(
        outcome.headline().ends_with("down"),
        "{}",
        outcome.headline()
    );
}

#[test]
fn endless_replies_end_with_the_probe() {
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let endless_head = Act::SendForever(
        head.clone(),
        b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".to_vec(),
    );
    let body = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let endless_body = Act::SendForever(body.clone(), vec![b'x'; 65_536]);
    let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let endless_chunks = Act::SendForever(chunks, b"1\r\nx\r\n".to_vec());
    let loris = Act::Trickle(page(GOOD, "slow"), Duration::from_millis(20));
    for act in [endless_head, endless_body, endless_chunks, loris] {
        let server = FaultServer::start(move |_| act.clone());
        let began = Instant::now();
        let outcome = run(&server, "--attempts 1 -t 0.5 -s never");
        assert_eq!(outcome.code, Some(2), "{}", outcome.text);
        assert!(began.elapsed() < Duration::from_secs(3), "{}", outcome.text);
    }
}

#[test]
fn concurrent_probes_are_in_flight_at_the_same_time() {
    let flying = std::sync::Arc::new((Mutex::new(0), Condvar::new()));
    let server = FaultServer::start(move |_| {
        let (count, changed) = &*flying;
        let mut count = count.lock().unwrap();
        *count += 1;
        changed.notify_all();
        let limit = Duration::from_secs(5);
        let (count, late) = changed
            .wait_timeout_while(count, limit, |count| *count < 6)
            .unwrap();
        drop(count);
        Act::Send(page(if late.timed_out() { BAD } else { GOOD }, ""))
    });
    let outcome = run(&server, "--attempts 6 --concurrency 6");
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
}

#[test]
fn the_pace_is_kept() {
    let server = always(page(GOOD, ""));
    let began = Instant::now();
    let outcome = run(&server, "--attempts 5 --interval 100ms");
    assert!(
        began.elapsed() >= Duration::from_millis(400),
        "{}",
        outcome.text
    );
    let outcome = run(&server, "--duration 0.5 --rate 20/s");
    let attempts = outcome.metric("attempts").unwrap();
    assert!((6.0..=10.0).contains(&attempts), "{}", outcome.text);
    assert_eq!(run(&server, "--detect 10%").metric("attempts"), Some(29.0));
}

#[test]
fn failure_limits_decide_where_they_are_given() {
    let server = || FaultServer::start(every(10));
    for (limits, code, words) in [
        ("--failures-critical 2", 0, "HTTP OK: HTTP/1.1 200 OK - "),
        ("--failures-critical 1", 2, "HTTP CRITICAL: HTTP/1.1 500 "),
        (
            "--failures-critical 20% --failures-warning 5%",
            1,
            "HTTP WARNING: HTTP/1.1 500 ",
        ),
        ("--failures-warning 10%", 0, "HTTP OK: HTTP/1.1 200 OK - "),
    ] {
        let outcome = run(&server(), &format!("--attempts 20 {limits}"));
        assert_eq!(outcome.code, Some(code), "{limits}: {}", outcome.text);
        assert!(
            outcome.text.starts_with(words),
            "{limits}: {}",
            outcome.text
        );
        assert!(
            outcome.headline().contains("2 of 20 probes failed"),
            "{limits}: {}",
            outcome.text
        );
    }
    let outcome = run(
        &server(),
        "--attempts 20 --failures-warning 5% --failures-critical 3",
    );
    assert!(
        outcome.first_line().contains(" 'failed'=2;1;3;0;20 "),
        "{}",
        outcome.text
    );
}

#[test]
fn a_percentile_is_judged_instead_of_each_probe() {
    let server = FaultServer::start(|seen| {
        let pause = Duration::from_millis(if seen.number == 3 { 30 } else { 0 });
        Act::Trickle(page(GOOD, ""), pause / 90)
    });
    let each = run(&server, "--attempts 10 -c 0.000001");
    assert_eq!(each.code, Some(2), "{}", each.text);
    let median = run(&server, "--attempts 10 -c 5 --percentile 50");
    assert_eq!(median.code, Some(0), "{}", median.text);
    let slow = run(
        &server,
        "--attempts 10 -w 0.000001 --percentile 95 --format json",
    );
    let json = slow.json();
    assert_eq!(slow.code, Some(1), "{json}");
    assert_eq!(json["details"]["failed"], 0, "{json}");
    assert_eq!(json["findings"][0]["cause"], "slow", "{json}");
}

#[test]
fn redirects_are_followed_within_a_probe() {
    let server = FaultServer::start(|seen| {
        let to = |location: &str| {
            Act::Send(page_with(
                "302 Found",
                &format!("Location: {location}\r\n"),
                "",
            ))
        };
        match seen.path() {
            "/a" => to("b"),
            "/b" => to("/good"),
            "/loop" => to("/loop"),
            "/ping" => to("/pong"),
            "/pong" => to("/ping"),
            "/ftp" => to("ftp://127.0.0.1/"),
            "/none" => Act::Send(page("302 Found", "")),
            "/stall" => to("/silence"),
            "/silence" => Act::SendAndStall(Vec::new()),
            "/bad" => to("/missing"),
            "/missing" => Act::Send(page("404 Not Found", "")),
            _ => Act::Send(page(GOOD, "hello")),
        }
    });
    for (path, code, words) in [
        ("/a", 0, "HTTP OK: HTTP/1.1 200 OK - "),
        (
            "/loop",
            2,
            "HTTP CRITICAL: redirection creates an infinite loop - http://127.0.0.1:",
        ),
        (
            "/ping",
            1,
            "HTTP WARNING: maximum redirection depth 15 exceeded - http://127.0.0.1:",
        ),
        (
            "/ftp",
            3,
            "HTTP UNKNOWN: Could not parse redirect location - HTTP/1.1 302 Found",
        ),
        (
            "/none",
            3,
            "HTTP UNKNOWN: Could not find redirect location - HTTP/1.1 302 Found",
        ),
        (
            "/stall",
            2,
            "HTTP CRITICAL: Socket timeout after 0.5 seconds",
        ),
        ("/bad", 1, "HTTP WARNING: HTTP/1.1 404 Not Found"),
    ] {
        let outcome = run(&server, &format!("-f follow --attempts 1 -t 0.5 -u {path}"));
        assert_eq!(outcome.code, Some(code), "{path}: {}", outcome.text);
        assert!(outcome.text.starts_with(words), "{path}: {}", outcome.text);
    }
    assert_eq!(run(&server, "-f ok -u /a --attempts 1").code, Some(0));
    assert_eq!(
        run(&server, "-f sticky -u /a --attempts 1 -s hello").code,
        Some(0)
    );
}

#[test]
fn sigterm_in_the_middle_gives_the_whole_report_of_what_was_measured() {
    // The fifth request is never answered: the plugin is in the middle of it.
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Mutex::new(tell);
    let server = FaultServer::start(move |seen| {
        if seen.number < 4 {
            return every(4)(seen);
        }
        tell.lock().unwrap().send(()).unwrap();
        Act::SendAndStall(Vec::new())
    });
    let mut command = command(&server, "--attempts 100 -t 30");
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    told.recv_timeout(Duration::from_secs(10)).unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let outcome = check_output(&child.wait_with_output().unwrap(), &command);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let line = outcome.headline();
    assert!(line.contains("1 of 4 probes failed"), "{line}");
    assert!(
        line.ends_with("intermittent, ended early by SIGTERM"),
        "{line}"
    );
    assert_eq!(outcome.metric("failed"), Some(1.0));
}

#[test]
fn the_deadline_ends_a_long_run_and_a_probe_it_cuts_off_is_no_failure() {
    let server = FaultServer::start(|seen| match seen.number {
        0..3 => Act::Send(page(GOOD, "")),
        _ => Act::SendAndStall(Vec::new()),
    });
    let began = Instant::now();
    let outcome = run(&server, "--attempts 100 --deadline 1 -t 30");
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(
        outcome
            .headline()
            .ends_with("3 of 3 probes good, ended early by its deadline"),
        "{}",
        outcome.text
    );
    let nothing = run(&server, "--deadline 0.5 -t 30");
    assert_eq!(nothing.code, Some(3), "{}", nothing.text);
    assert!(
        nothing
            .text
            .starts_with("HTTP UNKNOWN: no probe came to an end before its deadline"),
        "{}",
        nothing.text
    );
}

#[test]
fn a_host_out_of_client_ports_is_unknown_and_says_so() {
    let ns = Netns::new("ports");
    ns.set("ipv4/ip_local_port_range", "40000 40003");
    let listener = ns.within(|| TcpListener::bind(("127.0.0.1", 8080)).unwrap());
    // Connections that stay open take the ports.
    let server = FaultServer::on(listener, None, |seen| match seen.number {
        0 | 1 => Act::Send(page(GOOD, "")),
        _ => Act::SendAndStall(Vec::new()),
    });
    let mut command = ns.command(plugin("check_http_retry").get_program());
    command.args("-I 127.0.0.1 -p 8080 --attempts 20 --concurrency 8 -t 5".split(' '));
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    let line = outcome.headline();
    assert!(line.contains("Cannot assign requested address"), "{line}");
    assert!(line.contains("this host has no client port"), "{line}");
    assert!(
        outcome.text.contains("check_port_exhaustion"),
        "{}",
        outcome.text
    );
    drop(server);
}

#[test]
fn a_host_out_of_file_descriptors_is_unknown_and_says_so() {
    let server = FaultServer::start(|_| Act::SendAndStall(Vec::new()));
    let mut command = command(&server, "--attempts 50 --concurrency 50 -t 5");
    // SAFETY: setrlimit is async-signal-safe and touches nothing of the parent.
    unsafe {
        command.pre_exec(|| {
            let limit = rustix::process::Rlimit {
                current: Some(24),
                maximum: Some(24),
            };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).map_err(Into::into)
        });
    }
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    assert!(
        outcome.headline().contains("no file descriptor left"),
        "{}",
        outcome.text
    );
}

#[test]
fn a_long_run_takes_no_more_memory_than_a_short_one() {
    let server = FaultServer::start(every(2));
    let mut command = command(&server, "--duration 1 --concurrency 4 --format json");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let details = &json["details"];
    let failed = details["failed"].as_u64().unwrap();
    assert!(failed > 100, "{failed}");
    assert_eq!(details["failures"].as_array().unwrap().len(), 100);
    assert_eq!(details["failures_left_out"], failed - 100);
}

#[test]
fn a_certificate_is_judged_by_the_days_it_is_good() {
    // The one that the server makes ends in the year 4096.
    let server = FaultServer::start_tls(every(1));
    let port = server.port();
    let probe = |arguments: &str| {
        let mut command = plugin("check_http_retry");
        command.args(["-I", "127.0.0.1", "-p", &port, "--attempts", "2"]);
        outcome(command.args(arguments.split(' ')))
    };
    let good = probe("-C 14");
    assert_eq!(good.code, Some(0), "{}", good.text);
    let line = good.headline();
    assert!(
        line.starts_with("HTTP OK: Certificate 'rcgen self signed cert' will expire on "),
        "{line}"
    );
    assert!(line.ends_with(" 4096 +0000, 2 of 2 probes good"), "{line}");
    assert!(server.seen().is_empty(), "no request is sent");
    let soon = probe("-C 2000000 --format json");
    assert_eq!(soon.code, Some(1), "{}", soon.text);
    assert_eq!(soon.json()["details"]["kinds"]["certificate"], 2);
    assert_eq!(probe("-C 2000000,1000000").code, Some(2));
    assert_eq!(probe("-C 2000000,700000").code, Some(1));
    let both = probe("-C 14 --continue-after-certificate");
    assert_eq!(both.code, Some(2), "{}", both.text);
    assert!(
        both.headline()
            .contains(" - HTTP/1.1 500 Internal Server Error - 2 of 2 probes failed"),
        "{}",
        both.text
    );
    for (arguments, words) in [
        ("-C abc", "HTTP UNKNOWN: -C abc: give days"),
        (
            "-J /nonexistent -K /nonexistent",
            "HTTP UNKNOWN: -J /nonexistent: cannot read a certificate",
        ),
        ("-J /nonexistent", "HTTP UNKNOWN: missing --private-key"),
    ] {
        let outcome = probe(arguments);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text);
        assert!(outcome.text.starts_with(words), "{}", outcome.text);
    }
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_wants_one() {
    let folder = tempfile::tempdir().unwrap();
    let (server, certificate, key) = FaultServer::start_mutual_tls(every(99));
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = write("certificate.pem", &certificate);
    let key = write("key.pem", &key);
    let with = run(&server, &format!("-J {certificate} -K {key} --attempts 2"));
    assert_eq!(with.code, Some(0), "{}", with.text);
    let without = run(&server, "-S --attempts 2 --format json");
    let json = without.json();
    assert_eq!(without.code, Some(2), "{json}");
    assert_eq!(json["details"]["kinds"]["tls"], 2, "{json}");
    assert!(
        json["summary"]
            .as_str()
            .unwrap()
            .contains("Cannot make SSL connection."),
        "{json}"
    );
}

#[test]
fn a_socket_in_the_file_system_is_asked_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 1024];
        let length = stream.read(&mut request).unwrap();
        std::io::Write::write_all(&mut stream, &page(GOOD, "hello")).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let probe = || {
        let mut command = plugin("check_http_retry");
        let path = path.to_str().unwrap();
        outcome(command.args(["-I", path, "-H", "x", "--attempts", "1", "-s", "hello"]))
    };
    let there = probe();
    assert_eq!(there.code, Some(0), "{}", there.text);
    assert!(server.join().unwrap().starts_with("GET / HTTP/1.1\r\n"));
    let gone = probe();
    assert_eq!(gone.code, Some(2), "{}", gone.text);
    let words = format!(
        "HTTP CRITICAL: connect to file socket {}: Connection refused",
        path.display()
    );
    assert!(gone.text.starts_with(&words), "{}", gone.text);
}

#[test]
fn the_page_is_shown_as_harmless_lines() {
    let server = always(page(GOOD, "one\r\ntwo|x=1\n\x1b[2J<b>three"));
    let outcome = run(&server, "-B -L --attempts 1");
    let lines: Vec<_> = outcome.text.lines().skip(1).collect();
    let url = format!("http://127.0.0.1:{}/", server.port());
    assert_eq!(lines, [&*url, "one", "two!x=1", "\\x1b[2J< b>three"]);
}
