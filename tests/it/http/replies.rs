//! What servers send: sloppy, hostile, without an end.

use std::time::Duration;
use std::time::Instant;

use super::{Act, FaultServer, GOOD, always, page, page_with, run};

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
        // The two sums that follow would be larger than 64 bits.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\nBad header\r\n\r\nhello",
            2,
            "HTTP/1.1 200 OK - the reply was cut off",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nhello",
            2,
            "HTTP/1.1 200 OK - the reply was cut off",
        ),
        // Cut off before its page began.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n",
            2,
            "HTTP/1.1 200 OK - the reply was cut off",
        ),
        // What has no page may say how long it would be.
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nBad header\r\n\r\n",
            0,
            "HTTP/1.1 304 Not Modified",
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
fn the_page_is_shown_as_harmless_lines() {
    let server = always(page(GOOD, "one\r\ntwo|x=1\n\x1b[2J<b>three"));
    let outcome = run(&server, "-B -L --attempts 1");
    let lines: Vec<_> = outcome.text.lines().skip(1).collect();
    let url = format!("http://127.0.0.1:{}/", server.port());
    assert_eq!(lines, [&*url, "one", "two!x=1", "\\x1b[2J< b>three"]);
}
