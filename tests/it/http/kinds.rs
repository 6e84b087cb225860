//! Every way to fail, and its name.

use super::{Act, BAD, FaultServer, GOOD, always, every, outcome, page, plugin, run};
use crate::support::netns::Netns;
use crate::support::sockets::refusing;

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
    let (_nobody, place) = refusing();
    let free = place.port();
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
