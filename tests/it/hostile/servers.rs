//! Web servers that mean harm.

mod bombs;
mod cut_off;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::{Case, LIMIT, judge, probe};
use crate::support::raw_server::{RawServer, read_request, wait_until_gone};

/// What a server does behind a request.
#[derive(Debug, Clone)]
pub(super) enum Harm {
    /// These bytes, and closed.
    Send(Vec<u8>),
    /// These bytes, then nothing.
    Stall(Vec<u8>),
    /// These, then these without an end.
    Forever(Vec<u8>, Vec<u8>),
    /// These one by one, slowly.
    Trickle(Vec<u8>),
}

impl Harm {
    fn serve(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        read_request(stream)?;
        match self {
            Self::Send(bytes) => stream.write_all(bytes)?,
            Self::Stall(bytes) => {
                stream.write_all(bytes)?;
                wait_until_gone(stream);
            }
            Self::Forever(bytes, again) => {
                stream.write_all(bytes)?;
                loop {
                    stream.write_all(again)?;
                }
            }
            Self::Trickle(bytes) => {
                for byte in bytes {
                    stream.write_all(&[*byte])?;
                    std::thread::sleep(Duration::from_millis(40));
                }
            }
        }
        // What lies unread in this side's buffer would make a reset of the close.
        stream.shutdown(Shutdown::Write)?;
        wait_until_gone(stream);
        Ok(())
    }
}

pub(super) fn case(
    name: &'static str,
    arguments: &str,
    harm: Harm,
    codes: &'static [i32],
    kinds: &'static [&'static str],
) -> Case {
    let server = RawServer::start(move |stream, _| drop(harm.serve(stream)));
    Case {
        name,
        command: probe(&server.port(), arguments),
        codes,
        kinds,
        limit: LIMIT,
        _server: Box::new(server),
    }
}

const GOOD: &[i32] = &[0];
pub(super) const BAD: &[i32] = &[2];
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn with(head: &[u8], rest: &[u8]) -> Vec<u8> {
    [head, rest].concat()
}

#[test]
fn a_server_that_never_comes_to_an_end_is_given_up_in_time_and_little_memory() {
    use Harm::{Forever, Stall, Trickle};
    let slow = &["timeout"];
    let mut cases = vec![
        case("nothing", "", Stall(Vec::new()), BAD, slow),
        case("a byte", "", Stall(b"H".to_vec()), BAD, slow),
        case(
            "half a status line",
            "",
            Stall(b"HTTP/1.1 2".to_vec()),
            BAD,
            slow,
        ),
        case("half a header", "", Stall(with(HEAD, b"Serv")), BAD, slow),
        case(
            "no empty line",
            "",
            Stall(with(HEAD, b"Server: x\r\n")),
            BAD,
            slow,
        ),
        case(
            "half a body",
            "",
            Stall(with(HEAD, b"Content-Length: 9\r\n\r\nhalf")),
            BAD,
            slow,
        ),
        case(
            "half a chunk size",
            "",
            Stall(with(CHUNKED, b"1")),
            BAD,
            slow,
        ),
        case(
            "half a chunk",
            "",
            Stall(with(CHUNKED, b"9\r\nhalf")),
            BAD,
            slow,
        ),
        case(
            "no last chunk",
            "",
            Stall(with(CHUNKED, b"1\r\nx\r\n")),
            BAD,
            slow,
        ),
        case(
            "half a trailer",
            "",
            Stall(with(CHUNKED, b"0\r\nX: y")),
            BAD,
            slow,
        ),
        case(
            "no end is announced",
            "",
            Stall(with(HEAD, b"\r\nbody")),
            BAD,
            slow,
        ),
        case(
            "a slow status line",
            "",
            Trickle(HEAD.repeat(20)),
            BAD,
            slow,
        ),
        case(
            "slow headers",
            "",
            Trickle(with(HEAD, &b"X: y\r\n".repeat(50))),
            BAD,
            slow,
        ),
        case(
            "a slow body",
            "",
            Trickle(with(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 200])),
            BAD,
            slow,
        ),
        case(
            "slow chunks",
            "",
            Trickle(with(CHUNKED, &b"1\r\nx\r\n".repeat(50))),
            BAD,
            slow,
        ),
        case(
            "a flood of 100 Continue",
            "",
            Forever(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100)),
            BAD,
            &["timeout", "protocol"],
        ),
        case(
            "a flood of early hints with links",
            "",
            Forever(
                Vec::new(),
                b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n".repeat(100),
            ),
            BAD,
            &["timeout", "protocol"],
        ),
    ];
    // The end of what may be a header block is reached, and what came is read as far as it goes: as check_http does.
    let filler = b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(100);
    for (name, head, again) in [
        ("endless header lines", HEAD.to_vec(), filler.clone()),
        ("an endless header", with(HEAD, b"X: "), vec![b'x'; 4096]),
        (
            "an endless status line",
            b"HTTP/1.1 200 ".to_vec(),
            vec![b'x'; 4096],
        ),
        (
            "an endless folded header",
            with(HEAD, b"X: y\r\n"),
            b" fold\r\n".repeat(500),
        ),
        ("endless NUL", HEAD.to_vec(), vec![0; 4096]),
        ("endless line feeds", Vec::new(), vec![b'\n'; 4096]),
    ] {
        cases.push(Case {
            codes: &[0, 2],
            ..case(
                name,
                "",
                Forever(head, again),
                BAD,
                &["timeout", "protocol", "truncated"],
            )
        });
    }
    for arguments in [
        "",
        "-s never --attempts 2",
        "-r ne(ver|ither)+$ -l",
        "-B",
        "-m 1000",
    ] {
        let body = with(HEAD, b"\r\n");
        for (name, head, again) in [
            ("an endless body", body, vec![b'x'; 65_536]),
            (
                "an endless body of lines",
                with(HEAD, b"\r\n"),
                b"x|y=1\n".repeat(4096),
            ),
            (
                "endless chunks",
                CHUNKED.to_vec(),
                b"1\r\nx\r\n".repeat(4096),
            ),
            (
                "endless large chunks",
                CHUNKED.to_vec(),
                with(b"4000\r\n", &with(&[b'x'; 0x4000], b"\r\n")),
            ),
            (
                "an endless chunk extension",
                with(CHUNKED, b"1;"),
                vec![b'x'; 4096],
            ),
            ("an endless chunk size", CHUNKED.to_vec(), vec![b'0'; 4096]),
            ("endless trailers", with(CHUNKED, b"0\r\n"), filler.clone()),
        ] {
            cases.push(case(
                name,
                arguments,
                Forever(head, again),
                BAD,
                &["timeout", "protocol", "truncated", "content"],
            ));
        }
    }
    judge(cases);
}

#[test]
fn replies_that_contradict_themselves_have_the_right_kind() {
    use Harm::Send;
    let send = |name, arguments: &str, bytes: &[u8], codes, kinds| {
        case(name, arguments, Send(bytes.to_vec()), codes, kinds)
    };
    let cut: &[&str] = &["truncated", "protocol"];
    let many = with(
        HEAD,
        &with(&b"X: y\r\n".repeat(30_000), b"Content-Length: 0\r\n\r\n"),
    );
    let large = with(
        HEAD,
        &with(
            &with(b"X: ", &vec![b'y'; 200_000]),
            b"\r\nContent-Length: 0\r\n\r\n",
        ),
    );
    let cookies = with(
        HEAD,
        &with(
            &b"Set-Cookie: a=b; Path=/\r\n".repeat(5000),
            b"Content-Length: 0\r\n\r\n",
        ),
    );
    let chunk = |rest: &[u8]| with(CHUNKED, rest);
    judge(vec![
        send("many headers", "", &many, GOOD, &[]),
        send("a large header", "", &large, GOOD, &[]),
        send("many cookies", "", &cookies, GOOD, &[]),
        send("2^64 - 1 bytes announced", "", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nx", BAD, cut),
        send("2^63 bytes announced", "", b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nx", BAD, cut),
        send("a chunk of 2^64 - 1", "", &chunk(b"ffffffffffffffff\r\nx"), BAD, cut),
        send("a chunk of 2^64", "", &chunk(b"10000000000000000\r\nx"), BAD, cut),
        send("a negative chunk", "", &chunk(b"-1\r\nx\r\n0\r\n\r\n"), BAD, cut),
        send("a chunk without a size", "", &chunk(b"\r\nx\r\n0\r\n\r\n"), BAD, cut),
        send("a chunk that is longer than told", "", &chunk(b"1\r\nxxxx\r\n0\r\n\r\n"), BAD, cut),
        send("a NUL in a chunk size", "", &chunk(b"1\0\r\nx\r\n0\r\n\r\n"), BAD, cut),
        send("chunks without an end", "", &chunk(b"1\r\nx\r\n"), BAD, cut),
        send("two lengths", "", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\nx", &[0, 2], cut),
        send("nothing but 1xx", "", &b"HTTP/1.1 100 Continue\r\n\r\n".repeat(5000), BAD, &["protocol", "closed", "truncated", "content"]),
        send("a thousand 1xx and a reply", "", &with(&b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(1000), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), GOOD, &[]),
        send("101", "", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\x00\x01", &[0, 1, 2], &["content", "protocol", "closed", "truncated"]),
        send("HTTP/2 in clear", "", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", BAD, &["protocol"]),
        send("a TLS alert in clear", "", b"\x15\x03\x03\x00\x02\x02\x28", BAD, &["protocol"]),
        send("status 1000", "", b"HTTP/1.1 1000 OK\r\n\r\n", BAD, &["protocol", "content"]),
        send("status 000", "", b"HTTP/1.1 000 OK\r\n\r\n", BAD, &["protocol", "content"]),
        send("status -200", "", b"HTTP/1.1 -200 OK\r\n\r\n", BAD, &["protocol", "content"]),
        send("random bytes", "", &noise(100_000), BAD, &["protocol"]),
    ]);
}

#[test]
fn what_a_server_says_cannot_leave_its_line() {
    let evil: &[&[u8]] = &[
        b"|time=0s;;;; 'x'=1",
        b"\x1b[2J\x1b[H\x1b[31mOK",
        b"\x1b]0;title\x07",
        b"\x1b]52;c;ZWNobyBoaQ==\x07",
        b"\x1b]8;;http://evil.example\x1b\\here\x1b]8;;\x1b\\",
        b"\x9b2J \xc2\x9b2J \xc2\x85",
        b"a\0b\x08\x08\x7f",
        b"\xff\xfe\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80",
        "\u{202e}KO \u{2066}x\u{2069} \u{200f}\u{2028}\u{2029}\u{feff}".as_bytes(),
        b"<script>alert(1)</script> $USER1$ `id` $(id)",
        b"\rHTTP OK: all is well\r",
        b"\x0b\x0c HTTP OK",
    ];
    let mut cases = Vec::new();
    for text in evil {
        for status in ["200", "500", "302", "abc"] {
            let mut reply = format!("HTTP/1.1 {status} ").into_bytes();
            for (before, after) in [
                ("", "\r\nLocation: http://x/"),
                ("", "\r\nServer: "),
                ("", "\r\nX-Request-Id: "),
                ("", "\r\nSet-Cookie: a="),
                ("", "\r\n\r\n"),
            ] {
                reply.extend(before.bytes());
                reply.extend(*text);
                reply.extend(after.bytes());
            }
            reply.extend(*text);
            cases.push(Case {
                codes: &[0, 1, 2, 3],
                kinds: &["http-5xx", "protocol", "content", "redirect"],
                ..case(
                    "evil text",
                    "-B -s never -d nowhere --attempts 1",
                    Harm::Send(reply.clone()),
                    BAD,
                    &[],
                )
            });
            if status == "302" {
                cases.push(Case {
                    codes: &[0, 1, 2, 3],
                    kinds: &["dns", "redirect", "protocol", "timeout", "content"],
                    ..case(
                        "evil redirect",
                        "-f follow -L --attempts 1",
                        Harm::Send(reply),
                        BAD,
                        &[],
                    )
                });
            }
        }
    }
    for case in &mut cases {
        case.limit = LIMIT;
    }
    let all = cases.len();
    assert!(all > 50, "{all}");
    judge(cases);
}

/// Bytes that mean nothing, always the same ones.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}
