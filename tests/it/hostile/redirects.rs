//! Servers that send a check elsewhere: round and round between http and https, and to addresses that are none of theirs.

use std::net::TcpListener;
use std::sync::OnceLock;

use super::{kinds, probe};
use crate::support::fault_server::{Act, FaultServer, Seen, page, page_with};
use crate::support::measured::assert_clean;
use crate::support::plugin::outcome;

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
