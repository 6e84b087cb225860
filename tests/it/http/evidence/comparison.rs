//! A failing probe beside a good one.

use super::super::run;
use super::{Act, BAD, FaultServer, GOOD, always, every, page, page_with};

#[test]
fn a_failing_and_a_good_probe_are_compared() {
    let server = FaultServer::start(|seen| {
        Act::Send(match seen.number % 4 {
            3 => page_with(
                BAD,
                "X-Upstream: 10.0.0.2\r\nRetry-After: 5\r\nVia: proxy1\r\n",
                "oops",
            ),
            _ => page_with(
                GOOD,
                "X-Upstream: 10.0.0.1\r\nETag: x\r\nVia: proxy1\r\nVary: *\r\n",
                "hello",
            ),
        })
    });
    let outcome = run(&server, "--attempts 8 -v");
    let text = &outcome.text;
    for words in [
        "  differs: status: HTTP/1.1 500 Internal Server Error, good HTTP/1.1 200 OK\n",
        "  differs: backend header x-upstream: '10.0.0.2', good '10.0.0.1'\n",
        "  differs: header retry-after: '5', good has none\n",
        "  differs: header vary: none, good '*'\n",
        "  differs: header content-length: '4', good '5'\n",
        "backend header via 'proxy1'",
        "backend header server 'fault'",
        "headers connection",
        "  same: server 127.0.0.1:",
    ] {
        assert!(text.contains(words), "no {words}: {text}");
    }
    // The one just before it.
    let good = &server.seen()[2];
    let id = good.header("x-request-id").unwrap();
    let from = format!("from {} to {}", good.peer, server.address);
    assert!(text.contains(&format!("{from} request id {id}:")), "{text}");
    let quiet = run(&server, "--attempts 4");
    assert!(!quiet.text.contains("differs"), "{}", quiet.text);
    let line = |text: &str| text.split(" - ").next().unwrap().to_owned();
    assert_eq!(line(&quiet.text), line(text));
}

#[test]
fn a_phase_that_was_not_reached_differs() {
    let server = FaultServer::start(|seen| match seen.number {
        1 => Act::SendAndReset(Vec::new()),
        _ => Act::Send(page(GOOD, "")),
    });
    let outcome = run(&server, "--attempts 2 -v");
    for words in [
        "  differs: status: no reply, good HTTP/1.1 200 OK\n",
        "  differs: first_byte: not reached, good ",
        "  differs: transfer: not reached, good ",
    ] {
        assert!(outcome.text.contains(words), "no {words}: {}", outcome.text);
    }
    assert!(!outcome.text.contains("content-length"), "{}", outcome.text);
}

#[test]
fn where_no_probe_was_good_there_is_nothing_to_compare_with() {
    let outcome = run(&always(page(BAD, "")), "--attempts 2 -v");
    let words = "there is no good probe to compare the failed one with";
    assert!(outcome.text.contains(words), "{}", outcome.text);
    let outcome = run(&FaultServer::start(every(9)), "--attempts 2 -v");
    assert!(!outcome.text.contains("compare"), "{}", outcome.text);
}

#[test]
fn a_server_cannot_forge_anything_through_the_comparison() {
    let server = FaultServer::start(|seen| {
        let headers = "X\x1b[2J|a=1: y\x1b[2J|time=0\r\nX-Long: ".to_owned();
        let headers = headers + &"z".repeat(10_000) + "\r\n";
        let status = if seen.number == 1 { BAD } else { GOOD };
        let headers = if seen.number == 1 { &*headers } else { "" };
        Act::Send(page_with(status, headers, ""))
    });
    let outcome = run(&server, "--attempts 2 -v");
    assert_eq!(outcome.text.matches('|').count(), 1, "{}", outcome.text);
    assert!(!outcome.text.contains('\x1b'), "{}", outcome.text);
    assert!(outcome.text.len() < 4000, "{}", outcome.text);
}
