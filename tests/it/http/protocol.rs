//! Versions of HTTP, and pages that come packed or in chunks.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Act, FaultServer, GOOD, always, command, every, outcome, page, run};
use crate::support::identity::Identity;
use crate::support::plugin::plugin;
use crate::support::proxy::{Speech, TestProxy, TlsFront};

#[test]
fn the_version_of_http_is_the_one_that_is_asked_for() {
    let server = always(page(GOOD, ""));
    let host = format!("Host: 127.0.0.1:{}", server.port());
    for (arguments, version, named) in [
        ("", "HTTP/1.0", false),
        ("--http-version 1.0", "HTTP/1.0", true),
        ("--http-version 1.1", "HTTP/1.1", true),
        ("--http-version 2", "HTTP/1.1", true),
    ] {
        let before = server.seen().len();
        let outcome = run(&server, &format!("{arguments} --attempts 1"));
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        let head = &server.seen()[before].head;
        assert!(head.starts_with(&format!("GET / {version}\r\n")), "{head}");
        assert_eq!(head.contains(&host), named, "{head}");
    }
    let wrong = run(&server, "--http-version 3");
    assert_eq!(wrong.code, Some(3));
    assert!(wrong.text.contains("give 1.0, 1.1 or 2"), "{}", wrong.text);
    // A server that does not have it is spoken to as it can.
    let old = FaultServer::start_tls(every(99));
    let outcome = run(&old, "-S --http-version 2 --attempts 1");
    assert!(
        outcome.text.starts_with("HTTP OK: HTTP/1.1 200 OK"),
        "{}",
        outcome.text
    );
}

/// Speaks HTTP/2 on one connection after the other: the path is the status; the page is what came.
pub(super) fn http2_server() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let mut config = Identity::self_signed("localhost").server(&[], None);
    Arc::get_mut(&mut config).unwrap().alpn_protocols = vec![b"h2".to_vec()];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // It ends with the tests.
    std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(config);
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    continue;
                };
                while let Some(Ok((request, mut reply))) = connection.accept().await {
                    let (parts, mut body) = request.into_parts();
                    if parts.uri.path() == "/reset" {
                        reply.send_reset(h2::Reason::INTERNAL_ERROR);
                        continue;
                    }
                    let mut page = format!("{} {}\n", parts.method, parts.uri).into_bytes();
                    for (name, value) in &parts.headers {
                        writeln!(page, "{name}: {}", value.to_str().unwrap()).unwrap();
                    }
                    if !body.is_end_stream() {
                        page.extend(body.data().await.unwrap().unwrap());
                    }
                    let status = parts.uri.path()[1..].parse().unwrap_or(200_u16);
                    let head = hyper::Response::builder()
                        .status(status)
                        .header("X-Kind", "two")
                        .body(())
                        .unwrap();
                    let mut sending = reply.send_response(head, false).unwrap();
                    sending.send_data(page.into(), true).unwrap();
                }
            }
        });
    });
    port
}

/// The check that speaks HTTP/2 to that server.
pub(super) fn http2_probe(port: u16) -> Command {
    let mut command = plugin("check_http_retry");
    command.args(["-I", "127.0.0.1", "-p", &port.to_string(), "-H", "www.test"]);
    command.args(["-S", "--http-version", "2"]);
    command
}

#[test]
fn http_2_is_spoken_where_the_server_has_it() {
    let port = http2_server();
    let probe = |arguments: &str| {
        let mut command = http2_probe(port);
        command.args(["--attempts", "3", "--format", "json"]);
        outcome(command.args(arguments.split(' ').filter(|word| !word.is_empty())))
    };
    let good = probe("-d x-kind:");
    let json = good.json();
    assert_eq!(good.code, Some(0), "{json}");
    assert!(
        json["summary"]
            .as_str()
            .unwrap()
            .starts_with("HTTP OK: HTTP/2 200"),
        "{json}"
    );
    assert_eq!(json["details"]["statuses"]["200"], 3, "{json}");
    let address = format!("GET https://www.test:{port}/x");
    for (arguments, text) in [
        ("-u /x", &*address),
        ("-u /x -j DELETE", "DELETE https://"),
        ("-P a=b", "a=b"),
        ("-k X-One:1", "x-one: 1"),
        ("-P a=b", "content-type: application/x-www-form-urlencoded"),
    ] {
        let mut command = http2_probe(port);
        command
            .args(arguments.split(' '))
            .args(["-s", text, "--attempts", "1"]);
        let outcome = outcome(&mut command);
        assert_eq!(outcome.code, Some(0), "{arguments}: {}", outcome.text);
    }
    let bad = probe("-u /500");
    assert_eq!(bad.code, Some(2), "{}", bad.text);
    assert_eq!(
        bad.json()["details"]["kinds"]["http-5xx"],
        3,
        "{}",
        bad.text
    );
    let reset = probe("-u /reset");
    assert_eq!(reset.code, Some(2), "{}", reset.text);
    assert_eq!(
        reset.json()["details"]["kinds"]["reset"],
        3,
        "{}",
        reset.text
    );
}

#[test]
fn http_2_goes_through_a_tunnel() {
    let server = SocketAddr::from(([127, 0, 0, 1], http2_server()));
    let proxy = TestProxy::start(Speech::Connect, server);
    let front = TlsFront::start(
        Identity::self_signed("localhost").server(&[], None),
        proxy.address,
    );
    let socks = TestProxy::start(Speech::Socks5(None), server);
    for way in [
        format!("-x http://{}", proxy.address),
        format!("-x https://{}", front.address),
        format!("-x socks5h://{}", socks.address),
        format!("-I 127.0.0.1 -p {} -j CONNECT", proxy.address.port()),
    ] {
        let mut command = plugin("check_http_retry");
        command.args([
            "-H",
            "www.test",
            "-S",
            "--http-version",
            "2",
            "-k",
            "X-One: 1",
        ]);
        command.args(["-b", "pu:pp", "-u", "/x", "-B", "--attempts", "2"]);
        let outcome = outcome(command.args(way.split(' ')));
        assert_eq!(outcome.code, Some(0), "{way}: {}", outcome.text);
        for text in [
            "HTTP OK: HTTP/2 200",
            "\nGET https://www.test/x\n",
            "\nx-one: 1\n",
        ] {
            assert!(outcome.text.contains(text), "{way}: {}", outcome.text);
        }
        assert!(
            !outcome.text.contains("proxy-authorization"),
            "{way}: {}",
            outcome.text
        );
    }
    assert!(proxy.asked()[0].starts_with("CONNECT www.test:443 HTTP/1.1\r\n"));
}

#[test]
fn a_packed_page_is_looked_into_where_that_is_asked_for() {
    let pack = |text: &[u8]| {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(text).unwrap();
        packer.finish().unwrap()
    };
    let reply = |encoding: &str, page: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n",
            page.len()
        );
        [head.as_bytes(), page].concat()
    };
    let packed = pack(b"hello world");
    let size = reply("gzip", &packed).len() as f64;
    let server = always(reply("gzip", &packed));
    let with = run(
        &server,
        "--enable-automatic-decompression -s world --attempts 1",
    );
    assert_eq!(with.code, Some(0), "{}", with.text);
    assert_eq!(with.metric("size"), Some(size));
    assert_eq!(
        server.seen()[0].header("accept-encoding"),
        Some("deflate, gzip, br, zstd")
    );
    let without = run(&server, "-s world --attempts 1");
    assert_eq!(without.code, Some(2), "{}", without.text);

    let mut json = br#"{"status": "up", "queue": 7}"#.to_vec();
    json.resize(100_000, b' ');
    let server = always(reply("gzip", &pack(&json)));
    for (arguments, code, words) in [
        (
            "--json-path $.status=up --json-critical $.queue=10",
            0,
            "HTTP OK",
        ),
        (
            "--json-path $.status=down",
            2,
            "JSON $.status is \"up\", not down",
        ),
        ("--json-warning $.queue=5", 1, "JSON $.queue is 7"),
    ] {
        let arguments = format!("--enable-automatic-decompression {arguments} --attempts 1");
        let outcome = run(&server, &arguments);
        assert_eq!(outcome.code, Some(code), "{}", outcome.text);
        assert!(outcome.headline().contains(words), "{}", outcome.text);
    }

    let broken = always(reply("gzip", b"hello"));
    let outcome = run(
        &broken,
        "--enable-automatic-decompression --attempts 1 --format json",
    );
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert_eq!(outcome.json()["details"]["kinds"]["content"], 1);
    assert!(
        outcome
            .text
            .contains("the page cannot be unpacked: as gzip: "),
        "{}",
        outcome.text
    );
}

#[test]
fn a_page_that_unpacks_without_an_end_is_bounded() {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    let block = vec![b'x'; 1 << 20];
    for _ in 0..256 {
        bomb.write_all(&block).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    );
    let server = always([head.into_bytes(), bomb].concat());
    let mut command = command(
        &server,
        "--enable-automatic-decompression -s never --attempts 1",
    );
    // 256 MiB come out of it; it must do with less.
    let limit = rustix::process::Rlimit {
        current: Some(200 << 20),
        maximum: Some(200 << 20),
    };
    // SAFETY: setrlimit is async-signal-safe and touches nothing of the parent.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
            rustix::process::setrlimit(rustix::process::Resource::As, limit).map_err(Into::into)
        });
    }
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert!(
        outcome
            .text
            .contains("(the first 8388608 bytes were searched)"),
        "{}",
        outcome.text
    );
}

#[test]
fn chunks_are_taken_apart_behind_headers_that_are_not_well_formed() {
    let chunks = "HTTP/1.1 200 OK\r\nBad header\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n";
    let whole = FaultServer::start(move |_| Act::Send(format!("{chunks}0\r\n\r\n").into_bytes()));
    let outcome = run(&whole, "--attempts 1 -s helloworld");
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let mut with_blank = command(&whole, "--attempts 1");
    let found = super::outcome(with_blank.args(["-s", "hello world"]));
    assert_eq!(found.code, Some(0), "{}", found.text);
    let cut = run(&always(chunks), "--attempts 1 --format json");
    assert_eq!(
        cut.json()["details"]["kinds"]["truncated"],
        1,
        "{}",
        cut.text
    );
}
