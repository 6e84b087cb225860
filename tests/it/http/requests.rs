//! What is sent, and where to: requests, redirects, certificates, sockets.

use std::collections::HashSet;
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use super::side_by_side::{CHECK_HTTP, must_be_there};
use super::{
    Act, FaultServer, GOOD, Seen, always, command, every, outcome, page, page_with, plugin, run,
};

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
fn the_wait_for_the_reply_was_missing_in_the_time_of_the_transfer() {
    must_be_there(CHECK_HTTP);
    let late = |_: &Seen| {
        std::thread::sleep(Duration::from_millis(100));
        Act::Send(page(GOOD, "hello"))
    };
    for (server, scheme) in [
        (FaultServer::start(late), "-4"),
        (FaultServer::start_tls(late), "-S"),
    ] {
        let mut ours = plugin("check_http_retry");
        ours.args(["--attempts", "1"]);
        for mut tool in [Command::new(CHECK_HTTP), ours] {
            let text = outcome(tool.args(["-I", "127.0.0.1", "-p", &server.port(), "-E", scheme]));
            let line = text.first_line().replace('\'', "");
            let seconds = |label: &str| -> f64 {
                let (_, behind) = line.split_once(label).unwrap();
                behind.split('s').next().unwrap().parse().unwrap()
            };
            assert!(
                seconds(" time_transfer=") >= seconds(" time_firstbyte="),
                "{line}"
            );
        }
    }
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

/// Icinga passes `-P ''` for a variable that is empty, and servers answer 411 to a POST without a length.
#[test]
fn a_post_of_nothing_says_so_until_it_becomes_a_get() {
    let server = FaultServer::start(|seen| {
        let told = [seen.header("content-length"), seen.header("content-type")];
        let form = Some("application/x-www-form-urlencoded");
        Act::Send(match (seen.path(), told) {
            ("/", [Some("0"), kind]) if kind == form => page(GOOD, ""),
            ("/to-get", [Some("0"), _]) => page_with("302 Found", "Location: /get\r\n", ""),
            ("/get", [None, None]) => page(GOOD, ""),
            _ => page("411 Length Required", ""),
        })
    });
    for line in [
        "-P|",
        "-j|POST|-P|",
        "-H|www.test|-P|",
        "-P||-u|/to-get|-f|curl",
    ] {
        let mut command = plugin("check_http_retry");
        command.args(["-I", "127.0.0.1", "-p", &server.port(), "--attempts", "1"]);
        let found = outcome(command.args(line.split('|')));
        assert_eq!(found.code, Some(0), "{line}: {}", found.text);
    }
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
        line.starts_with("HTTP OK: Certificate 'localhost' will expire on "),
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
