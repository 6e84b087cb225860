//! Servers that send a check elsewhere: round and round between http and https, to addresses that are none of theirs, to
//! what is no web server at all, and on without an end.

use std::io::Write;
use std::net::TcpListener;
use std::sync::OnceLock;

use super::servers::{BAD, Harm, case};
use super::{Case, LIMIT, judge, kinds, probe};
use crate::support::fault_server::{Act, FaultServer, Seen, page, page_with};
use crate::support::measured::assert_clean;
use crate::support::plugin::outcome;
use crate::support::raw_server::{RawServer, read_request};

static PLAIN: OnceLock<String> = OnceLock::new();
static SECURE: OnceLock<String> = OnceLock::new();

/// To the other scheme: to the same place, or to one that was not there before.
fn away(seen: &Seen, other: &OnceLock<String>, scheme: &str) -> Act {
    let port = other.get().map_or("1", String::as_str);
    let path = match seen.path() {
        "/round" => "/round".to_owned(),
        path => format!("{path}x"),
    };
    let to = format!("Location: {scheme}://127.0.0.1:{port}{path}\r\n");
    Act::Send(page_with("302 Found", &to, ""))
}

#[test]
fn a_way_that_goes_round_between_http_and_https_comes_to_an_end() {
    let plain = FaultServer::start(|seen| away(seen, &SECURE, "https"));
    let secure = FaultServer::start_tls(|seen| away(seen, &PLAIN, "http"));
    PLAIN.set(plain.port()).expect("nobody else sets it");
    SECURE.set(secure.port()).expect("nobody else sets it");
    for (server, tls) in [(&plain, ""), (&secure, "-S ")] {
        for path in ["/round", "/x"] {
            let arguments = format!("{tls}-f follow -u {path}");
            let found = outcome(&mut probe(&server.port(), &arguments));
            assert_clean(&found, &arguments);
            // As check_http has it.
            assert_eq!(found.code, Some(1), "{arguments}: {}", found.text);
            assert_eq!(kinds(&found), ["redirect"], "{arguments}: {}", found.text);
        }
    }
    assert!(plain.seen().len() > 10 && secure.seen().len() > 10);
}

#[test]
fn a_redirect_to_an_address_within_is_followed_and_told_but_not_where_it_was_to_stay() {
    let within = TcpListener::bind(("127.0.0.2", 0)).expect("loopback has a free port");
    let within = FaultServer::on(within, None, |_| Act::Send(page("500 Inner", "x")));
    let to = format!("Location: http://{}/secret\r\n", within.address);
    let server = FaultServer::start(move |seen| match seen.path() {
        "/secret" => Act::Send(page("200 OK", "")),
        _ => Act::Send(page_with("302 Found", &to, "")),
    });
    // Private addresses are what checks are for: it goes there, asks without what was meant for the first server, and says
    // where it was.
    let arguments = "-f follow -a user:hunter2hunter2 -k X-Key:key";
    let found = outcome(&mut probe(&server.port(), arguments));
    assert_clean(&found, arguments);
    assert_eq!(found.code, Some(2), "{}", found.text);
    assert!(
        found.text.contains(&within.address.to_string()),
        "{}",
        found.text
    );
    assert_eq!(within.seen().len(), 1);
    assert_eq!(within.seen()[0].header("authorization"), None);
    for action in ["sticky", "stickyport", "ok"] {
        let found = outcome(&mut probe(&server.port(), &format!("-f {action}")));
        assert_clean(&found, action);
        assert_eq!(within.seen().len(), 1, "{action}: {}", found.text);
    }
}

#[test]
fn redirects_lead_to_web_servers_alone_and_come_to_an_end() {
    let to = |location: &str| {
        Harm::Send(
            format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
                .into_bytes(),
        )
    };
    let mut cases = Vec::new();
    for location in [
        "file:///etc/passwd",
        "file:/etc/passwd",
        "FILE://localhost/etc/passwd",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1:25/_HELO",
        "javascript:alert(1)",
        "data:text/html,x",
        "unix:///run/docker.sock",
        "http:///run/docker.sock",
        "http://%2Frun%2Fdocker.sock/",
        "//%2frun%2fdocker.sock/x",
        "http://[::1",
        "http://:80/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:-1/",
        "http://a b/",
        "\\\\127.0.0.1\\share",
        "http://\x01/",
        "https:/x",
    ] {
        for arguments in ["-f follow", "-f curl"] {
            cases.push(Case {
                codes: &[0, 2, 3],
                kinds: &["redirect", "dns", "content", "closed", "protocol"],
                ..case("a redirect to nowhere", arguments, to(location), BAD, &[])
            });
        }
    }
    for case in &mut cases {
        // It is the last reply for curl, and then a good one.
        let curl = case.command.get_args().any(|word| word == "curl");
        case.codes = if curl { &[0, 2, 3] } else { &[2, 3] };
    }
    for (name, location) in [
        ("a loop to itself", "/"),
        ("a longer and longer way", "x/"),
        ("more and more of a query", "?x"),
        (
            "a path without an end",
            &*format!("/{}", "x".repeat(100_000)),
        ),
    ] {
        cases.push(Case {
            codes: &[1, 2, 3],
            ..case(
                name,
                "-f follow",
                to(location),
                BAD,
                &["redirect", "content"],
            )
        });
    }
    // Each reply leads on to a new place.
    let server = RawServer::start(|mut stream, number| {
        let _ = read_request(stream);
        let reply =
            format!("HTTP/1.1 302 Found\r\nLocation: /{number}\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(reply.as_bytes());
    });
    cases.push(Case {
        name: "a way without an end",
        command: probe(&server.port(), "-f follow --max-redirs 1000000"),
        codes: BAD,
        kinds: &["timeout"],
        limit: LIMIT,
        _server: Box::new(server),
    });
    let mut good = cases;
    let (curl, follow): (Vec<_>, Vec<_>) = good
        .drain(..)
        .partition(|case| case.command.get_args().any(|word| word == "curl"));
    judge(follow);
    for case in curl {
        let outcome = outcome(&mut { case.command });
        assert_clean(&outcome, case.name);
        assert!(
            case.codes.contains(&outcome.code.unwrap_or(-1)),
            "{}",
            outcome.text
        );
        assert!(!outcome.text.contains("root:"), "{}", outcome.text);
    }
}
