//! Web servers that mean harm.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::{Case, LIMIT, judge, kinds, probe};
use crate::support::measured::assert_clean;
use crate::support::plugin::outcome;
use crate::support::raw_server::{RawServer, read_request, reset_at_the_end, wait_until_gone};

/// What a server does behind a request.
#[derive(Debug, Clone)]
enum Harm {
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

fn case(
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
const BAD: &[i32] = &[2];
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

/// Of a few bytes each, 64 MiB come out.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    let zeros = vec![0; 1 << 20];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        gzip.write_all(&zeros).expect("memory");
        zlib.write_all(&zeros).expect("memory");
    }
    let gzip = gzip.finish().expect("memory");
    let mut again = GzEncoder::new(Vec::new(), Compression::best());
    again.write_all(&gzip).expect("memory");
    // A window of 4 MiB, and blocks that repeat a byte (RFC 8878, 3.1.1.2), 128 KiB each.
    let mut zstd = b"\x28\xb5\x2f\xfd\x00\x60".to_vec();
    for left in (0..512_u32).rev() {
        let header = (128 << 10 << 3) | (1 << 1) | u32::from(left == 0);
        zstd.extend(&header.to_le_bytes()[..3]);
        zstd.push(0);
    }
    // Made with brotli 1.0.9.
    let brotli = unhex(BROTLI);
    vec![
        ("gzip", gzip.clone()),
        ("gzip, gzip", again.finish().expect("memory")),
        ("deflate", zlib.finish().expect("memory")),
        ("zstd", zstd),
        ("br", brotli),
        ("gzip, gzip, gzip, gzip, gzip, gzip, gzip, gzip", gzip),
    ]
}

const BROTLI: &str = "cbffff3ff82700e2b14020f7fe8fffff7ff04f00c4611180eefd1fffffffe09f0088c30200ddfb3ffeffffc13f0110870500baf77ffcffff837f02200e0b0074effff8ffff07ff04401c1600e8defff1ffff0ffe0980382c00d0bdffe3ffff1ffc1300715800a07bff37";

fn unhex(text: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).expect("a hexadecimal digit");
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).expect("a byte"))
        .collect()
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

#[test]
fn a_small_reply_that_unpacks_into_a_large_page_stays_small() {
    let mut cases = Vec::new();
    for (encoding, packed) in bombs() {
        for arguments in ["-s never", "-r ^never$ -l", "--json-path $.a -B", ""] {
            let arguments = format!("--attempts 2 --enable-automatic-decompression {arguments}");
            let length = packed.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {length}\r\n\r\n"
            );
            let bytes = with(head.as_bytes(), &packed);
            cases.push(Case {
                codes: &[0, 2],
                ..case("a bomb", &arguments, Harm::Send(bytes), BAD, &["content"])
            });
        }
    }
    // Not packed, but as dear to read.
    let deep = with(HEAD, &with(b"\r\n", &vec![b'['; 2 << 20]));
    for arguments in ["--json-path $..a..b..c", "-r (a*)*b", "-r (\\[?){50}\\["] {
        cases.push(case(
            "deep JSON",
            arguments,
            Harm::Send(deep.clone()),
            &[0, 2],
            &["content"],
        ));
    }
    for case in &mut cases {
        if !case.kinds.is_empty() && case.codes.contains(&0) {
            case.kinds = ANY_CONTENT;
        }
    }
    judge(cases);
}

const ANY_CONTENT: &[&str] = &["content", "timeout"];

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
