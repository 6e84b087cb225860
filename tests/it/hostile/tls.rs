//! TLS servers that mean harm: before, in and behind the handshake, and above it with HTTP/2.

mod http2;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Case, LIMIT, judge, kinds, probe};
use crate::support::fault_server::{Act, FaultServer, page};
use crate::support::identity::Identity;
use crate::support::measured::assert_clean;
use crate::support::plugin::outcome;
use crate::support::raw_server::{RawServer, read_request, reset_at_the_end, wait_until_gone};

type Session<'a> = StreamOwned<ServerConnection, &'a TcpStream>;

fn session<'a>(config: &Arc<ServerConfig>, stream: &'a TcpStream) -> Session<'a> {
    let connection = ServerConnection::new(Arc::clone(config)).expect("the settings are good");
    StreamOwned::new(connection, stream)
}

fn case(
    name: &'static str,
    arguments: &str,
    codes: &'static [i32],
    kinds: &'static [&'static str],
    serve: impl Fn(&TcpStream, usize) + Send + Sync + 'static,
) -> Case {
    let server = RawServer::start(serve);
    Case {
        name,
        command: probe(&server.port(), &format!("-S {arguments}")),
        codes,
        kinds,
        limit: LIMIT,
        _server: Box::new(server),
    }
}

/// Behind the client's first words these bytes, and closed.
fn says(name: &'static str, bytes: Vec<u8>, kinds: &'static [&'static str]) -> Case {
    case(name, "", &[2], kinds, move |mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        wait_until_gone(stream);
    })
}

#[test]
fn a_handshake_that_goes_wrong_is_a_failure_of_tls_and_never_waited_for_beyond_its_limit() {
    let mut cases = vec![
        case("silence", "", &[2], &["timeout"], |stream, _| {
            wait_until_gone(stream);
        }),
        case("a slow alert", "", &[2], &["timeout"], |mut stream, _| {
            for byte in b"\x16\x03\x03\x40\x00".iter().chain(&[0; 200]) {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(40));
            }
        }),
        case(
            "endless warnings",
            "",
            &[2],
            &["tls", "timeout"],
            |mut stream, _| {
                while stream
                    .write_all(&b"\x15\x03\x03\x00\x02\x01\x5a".repeat(500))
                    .is_ok()
                {}
            },
        ),
        case(
            "endless requests to begin anew",
            "",
            &[2],
            &["tls", "timeout"],
            |mut stream, _| {
                while stream
                    .write_all(&b"\x16\x03\x03\x00\x04\x00\x00\x00\x00".repeat(500))
                    .is_ok()
                {}
            },
        ),
        case(
            "endless change of ciphers",
            "",
            &[2],
            &["tls", "timeout"],
            |mut stream, _| {
                while stream
                    .write_all(&b"\x14\x03\x03\x00\x01\x01".repeat(500))
                    .is_ok()
                {}
            },
        ),
        case(
            "an endless greeting",
            "",
            &[2],
            &["tls", "timeout"],
            |mut stream, _| {
                let mut record = b"\x16\x03\x03\x40\x00".to_vec();
                // A message of 16 MiB begins here.
                record.extend(b"\x02\xff\xff\xff");
                record.resize(5 + 0x4000, 0);
                while stream.write_all(&record).is_ok() {}
            },
        ),
        case(
            "empty records",
            "",
            &[2],
            &["tls", "timeout"],
            |mut stream, _| {
                while stream
                    .write_all(&b"\x16\x03\x03\x00\x00".repeat(500))
                    .is_ok()
                {}
            },
        ),
        says(
            "a record longer than any",
            b"\x16\x03\x03\xff\xff".repeat(9000),
            &["tls"],
        ),
        says(
            "a record of another time",
            b"\x80\x2e\x01\x00\x02".to_vec(),
            &["tls"],
        ),
        says(
            "HTTP",
            b"HTTP/1.1 400 Bad Request\r\n\r\n|x=1\x1b[2J".to_vec(),
            &["tls"],
        ),
        says(
            "half a record",
            b"\x16\x03\x03\x00\x40\x02".to_vec(),
            &["tls", "closed", "truncated"],
        ),
        says("nothing", Vec::new(), &["tls", "closed"]),
    ];
    for alert in 0..=255 {
        if alert % 5 == 0 || [40, 42, 45, 46, 48, 70, 80, 90, 112, 116, 120].contains(&alert) {
            let name = "an alert";
            // Two of them may say that it is this side that knows too little of TLS.
            let mut case = says(name, vec![0x15, 3, 3, 0, 2, 2, alert], &["tls"]);
            case.codes = if [40, 70].contains(&alert) {
                &[3]
            } else {
                &[2]
            };
            cases.push(case);
        }
    }
    judge(cases);
}

#[test]
fn what_a_certificate_says_cannot_leave_its_line() {
    let mut cases = Vec::new();
    for name in [
        "|time=0s;;;;\r\nHTTP OK: all is well",
        "\u{1b}[2J\u{1b}]0;title\u{7}",
        "a\0b.example",
        "\u{202e}elpmaxe\u{2066}",
        "<img src=x onerror=alert(1)>",
        &*"x".repeat(20_000),
    ] {
        let config = Identity::called(name).server(&[], None);
        for arguments in [
            "-C 1",
            "-C 99999",
            "-D",
            "-D -C 30 --continue-after-certificate",
            "",
        ] {
            let config = Arc::clone(&config);
            let case = case(
                "a certificate",
                arguments,
                &[0, 1, 2],
                &["certificate", "tls"],
                move |stream, _| {
                    let mut session = session(&config, stream);
                    if read_request(&mut session).is_ok() {
                        let _ = session.write_all(&page("200 OK", "x"));
                        session.conn.send_close_notify();
                        let _ = session.flush();
                    }
                    wait_until_gone(stream);
                },
            );
            cases.push(case);
        }
    }
    let (quiet, loud): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| {
        !case
            .command
            .get_args()
            .any(|word| word == "-D" || word == "99999")
    });
    judge(loud);
    for case in quiet {
        let outcome = outcome(&mut { case.command });
        assert_clean(&outcome, "a certificate");
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    }
}

#[test]
fn a_session_that_breaks_is_no_good_reply() {
    let config = Identity::self_signed("localhost").server(&[], None);
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    let endless = b"HTTP/1.1 200 OK\r\n\r\n";
    let session_of = |config: &Arc<ServerConfig>| {
        let config = Arc::clone(config);
        move |stream: &TcpStream, bytes: &[u8], farewell: bool| {
            let mut session = session(&config, stream);
            let _ = read_request(&mut session);
            let _ = session.write_all(bytes);
            let _ = session.flush();
            if farewell {
                session.conn.send_close_notify();
                let _ = session.flush();
            }
        }
    };
    let (one, two, three, four) = (
        session_of(&config),
        session_of(&config),
        session_of(&config),
        session_of(&config),
    );
    judge(vec![
        case(
            "a farewell in the body, and the connection stays",
            "",
            &[2],
            &["truncated"],
            move |stream, _| {
                one(stream, half, true);
                wait_until_gone(stream);
            },
        ),
        case("no farewell", "", &[2], &["truncated"], move |stream, _| {
            two(stream, half, false);
        }),
        case(
            "garbage behind a good record",
            "",
            &[2],
            &["tls", "truncated"],
            move |mut stream, _| {
                three(stream, half, false);
                let _ = stream.write_all(b"\x17\x03\x03\x00\x20................................");
                wait_until_gone(stream);
            },
        ),
        case(
            "clear text behind a good record",
            "",
            &[2],
            &["tls", "truncated", "protocol"],
            move |mut stream, _| {
                four(stream, endless, false);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n|x=1\r\n");
                wait_until_gone(stream);
            },
        ),
    ]);
}

#[test]
fn a_reset_behind_any_byte_of_an_encrypted_reply_is_a_failure() {
    let server = FaultServer::start_tls(|_| Act::Send(page("200 OK", "hello world\n")));
    let behind = server.address;
    // A handshake and a reply of this server are a little more.
    let (bytes, step) = (900, 7);
    let relay = RawServer::start(move |client, number| {
        let Ok(server) = TcpStream::connect(behind) else {
            return;
        };
        let mut left = number * step;
        std::thread::scope(|scope| {
            let server = &server;
            scope.spawn(move || {
                let _ = std::io::copy(&mut { client }, &mut { server });
                let _ = server.shutdown(std::net::Shutdown::Both);
            });
            let mut buffer = [0; 2048];
            while left > 0 {
                let Ok(count @ 1..) = ({ server }).read(&mut buffer) else {
                    break;
                };
                let sent = count.min(left);
                if ({ client }).write_all(&buffer[..sent]).is_err() {
                    break;
                }
                left -= sent;
            }
            if number % 2 == 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            reset_at_the_end(client);
            let _ = server.shutdown(std::net::Shutdown::Both);
            // Reading of the other thread ends, and the connection with the last of its users.
            let _ = client.shutdown(std::net::Shutdown::Read);
        });
    });
    let attempts = bytes / step;
    let mut command = probe(
        &relay.port(),
        &format!("-S --attempts {attempts} --concurrency 4 -t 3 --deadline 20"),
    );
    let text = outcome(&mut command);
    assert_clean(&text, "resets");
    assert_eq!(
        text.metric("failed"),
        Some(attempts as f64),
        "{}",
        text.text
    );
    for kind in kinds(&text) {
        let right = ["reset", "closed", "truncated", "tls"].contains(&&*kind);
        assert!(right, "{kind}: {}", text.text);
    }
}

#[test]
fn a_server_that_asks_to_begin_anew_within_a_session_is_refused_and_not_followed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let identity = Identity::self_signed("localhost");
    let (certificate, key) = (folder.path().join("cert"), folder.path().join("key"));
    std::fs::write(&certificate, identity.pem()).expect("a file");
    std::fs::write(&key, identity.key_pem()).expect("a file");
    let mut server = Command::new("openssl")
        .args([
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-tls1_2",
            "-naccept",
            "1",
        ])
        .arg("-cert")
        .arg(&certificate)
        .arg("-key")
        .arg(&key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is there");
    let mut said = std::io::BufReader::new(server.stdout.take().expect("a pipe"));
    let wait_for = |said: &mut dyn std::io::BufRead, word: &str| {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            let read = said.read_line(&mut line).expect("openssl says lines");
            assert!(read > 0, "openssl is gone without {word}");
        }
        line
    };
    let accepts = wait_for(&mut said, "ACCEPT");
    let port = accepts
        .trim()
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    let command = probe(&port, "-S --attempts 1");
    let client = std::thread::spawn(move || outcome(&mut { command }));
    // What it was asked for shows that the session is there.
    wait_for(&mut said, "GET / HTTP/1");
    let mut orders = server.stdin.take().expect("a pipe");
    let _ = orders.write_all(b"R\n");
    let text = client.join().expect("the probe comes back");
    drop(orders);
    let _ = server.kill();
    let _ = server.wait();
    assert_clean(&text, "renegotiation");
    assert_eq!(text.code, Some(2), "{}", text.text);
    for kind in kinds(&text) {
        assert!(
            ["tls", "timeout", "closed"].contains(&&*kind),
            "{}",
            text.text
        );
    }
}
