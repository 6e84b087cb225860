//! Connections that end early, by half or with a reset.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::super::{Case, LIMIT, judge, kinds, probe};
use super::{BAD, GOOD};
use crate::support::measured::assert_clean;
use crate::support::plugin::outcome;
use crate::support::raw_server::{RawServer, read_request, reset_at_the_end, wait_until_gone};

#[test]
fn half_closed_connections_are_told_from_whole_ones() {
    fn early(stream: &TcpStream, how: Shutdown, before: bool, bytes: &[u8]) {
        if !before {
            let _ = read_request(stream);
        }
        let mut writer = stream;
        let _ = writer.write_all(bytes);
        let _ = stream.shutdown(how);
        wait_until_gone(stream);
    }
    let whole: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let half: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok";
    let mut cases = Vec::new();
    for (name, how, before, bytes, codes, kinds) in [
        (
            "silent and closed before the request",
            Shutdown::Write,
            true,
            &b""[..],
            BAD,
            &["closed"][..],
        ),
        (
            "closed behind the request",
            Shutdown::Write,
            false,
            b"",
            BAD,
            &["closed"],
        ),
        (
            "half a reply",
            Shutdown::Write,
            false,
            half,
            BAD,
            &["truncated"],
        ),
        (
            "a reply and half closed",
            Shutdown::Write,
            false,
            whole,
            GOOD,
            &[],
        ),
        (
            "a reply before the request",
            Shutdown::Write,
            true,
            whole,
            GOOD,
            &[],
        ),
        (
            "deaf before the request",
            Shutdown::Read,
            true,
            whole,
            GOOD,
            &[],
        ),
    ] {
        let server = RawServer::start(move |stream, _| early(stream, how, before, bytes));
        cases.push(Case {
            name,
            command: probe(&server.port(), ""),
            codes,
            kinds,
            limit: LIMIT,
            _server: Box::new(server),
        });
    }
    judge(cases);
}

#[test]
fn a_reset_behind_any_byte_of_a_reply_is_a_failure_unless_all_of_it_came() {
    for (reply, header_bytes) in [
        (&b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 12\r\n\r\nhello world\n"[..], 49),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n1;x=y\r\no\r\n0\r\nX: y\r\n\r\n", 47),
    ] {
        let server = RawServer::start(move |mut stream, number| {
            let _ = read_request(stream);
            let _ = stream.write_all(&reply[..number.min(reply.len())]);
            // A reset overtakes what is not read yet. Both orders are tried: this one by giving the client time.
            if number % 2 == 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            reset_at_the_end(stream);
        });
        let attempts = reply.len();
        let mut command = probe(&server.port(), &format!("--attempts {attempts} --concurrency 4"));
        let text = outcome(&mut command);
        assert_clean(&text, "resets");
        let failed = text.metric("failed");
        assert_eq!(failed, Some(attempts as f64), "{header_bytes}: {}", text.text);
        for kind in kinds(&text) {
            // A reset behind `H` is not yet one of a web server.
            assert!(["reset", "closed", "truncated", "protocol"].contains(&&*kind), "{kind}: {}", text.text);
        }
        // The one with all bytes is good; what follows it cannot hurt.
        let last = outcome(&mut probe(&server.port(), "--attempts 4"));
        assert!(last.metric("failed").is_some_and(|failed| failed <= 2.0), "{}", last.text);
    }
}
