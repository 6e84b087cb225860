//! Through proxies: those that do what they should, and those that do not.

use std::net::SocketAddr;

use super::side_by_side::{CHECK_HTTP, compare, must_be_there};
use super::{Act, FaultServer, GOOD, Outcome, Seen, always, every, outcome, page, plugin};
use crate::support::proxy::{Speech, TestProxy};

pub fn probe(arguments: &str) -> Outcome {
    let words = arguments.split(' ').filter(|word| !word.is_empty());
    outcome(plugin("check_http_retry").args(words))
}

/// What is sent without a page of its own on a connection that asks for a tunnel.
fn answers(act: Act) -> FaultServer {
    FaultServer::start(move |_| act.clone())
}

#[test]
fn connect_leads_through_a_proxy_as_in_check_http() {
    let server = FaultServer::start_tls(every(4));
    let proxy = TestProxy::start(Speech::Connect, server.address);
    let place = format!("-I 127.0.0.1 -p {} -S -b pu:pp", proxy.address.port());
    let outcome = probe(&format!(
        "{place} -H www.test -u /x -j CONNECT --attempts 4"
    ));
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert!(
        outcome.headline().contains("1 of 4 probes failed"),
        "{}",
        outcome.text
    );
    let asked = proxy.asked();
    assert_eq!(asked.len(), 4);
    assert!(
        asked[0].starts_with(
            "CONNECT www.test:443 HTTP/1.1\r\nHost: www.test:443\r\nUser-Agent: check_http_retry/v"
        ),
        "{}",
        asked[0]
    );
    assert!(
        asked[0].contains("\r\nProxy-Authorization: Basic cHU6cHA=\r\n"),
        "{}",
        asked[0]
    );
    let seen = &server.seen()[0];
    assert!(
        seen.head.starts_with("GET /x HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.header("host"), Some("www.test"));
    // That is the proxy's business, not the server's.
    assert_eq!(seen.header("proxy-authorization"), None);

    let head = probe(&format!(
        "{place} -H www.test:8443 -j CONNECT:HEAD --attempts 1"
    ));
    assert!(head.text.contains("HTTP/1.1 200 OK"), "{}", head.text);
    assert!(proxy.asked()[4].starts_with("CONNECT www.test:8443 "));
    let seen = &server.seen()[4];
    assert!(
        seen.head.starts_with("HEAD / HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.header("host"), Some("www.test:8443"));
    let url = probe(&format!(
        "{place} -H www.test -u https://www.test/y -j CONNECT --attempts 1"
    ));
    assert_eq!(url.code, Some(0), "{}", url.text);
    assert!(
        server.seen()[5]
            .head
            .starts_with("GET https://www.test/y HTTP/1.1\r\n")
    );
    let alone = probe("-H www.test -S -j CONNECT");
    assert_eq!(alone.code, Some(3), "{}", alone.text);
}

#[test]
fn a_proxy_by_its_url_forwards_http_and_tunnels_https() {
    let https = FaultServer::start_tls(|_| Act::Send(page(GOOD, "hello")));
    let tunnel = TestProxy::start(Speech::Connect, https.address);
    let x = format!("-x http://pu:pp@{} --attempts 1", tunnel.address);
    let outcome = probe(&format!("{x} -H www.test -S -s hello"));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(tunnel.asked()[0].starts_with("CONNECT www.test:443 "));
    assert!(tunnel.asked()[0].contains("\r\nProxy-Authorization: Basic cHU6cHA=\r\n"));
    assert_eq!(https.seen()[0].header("proxy-authorization"), None);
    // An address of its own is where the tunnel leads; names are for the server.
    probe(&format!("{x} -H www.test -I 192.0.2.7 -p 8443 -S"));
    assert!(tunnel.asked()[1].starts_with("CONNECT 192.0.2.7:8443 "));
    probe(&format!("{x} -I 2001:db8::1 -S"));
    assert!(tunnel.asked()[2].starts_with("CONNECT [2001:db8::1]:443 "));

    let forward = always(page(GOOD, "hello"));
    let x = format!("-x http://{} -b pu:pp --attempts 1", forward.address);
    for (arguments, line, host) in [
        ("-H www.test", "GET http://www.test/ HTTP/1.1", "www.test"),
        (
            "-H www.test:8080 -u /a?b",
            "GET http://www.test:8080/a?b HTTP/1.1",
            "www.test:8080",
        ),
        (
            "-H www.test -I 192.0.2.7",
            "GET http://192.0.2.7/ HTTP/1.1",
            "www.test",
        ),
        (
            "-H www.test -u http://other.test/",
            "GET http://other.test/ HTTP/1.1",
            "www.test",
        ),
    ] {
        let before = forward.seen().len();
        let outcome = probe(&format!("{x} {arguments}"));
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        let seen = &forward.seen()[before];
        assert_eq!(seen.head.lines().next(), Some(line), "{arguments}");
        assert_eq!(seen.header("host"), Some(host), "{arguments}");
        assert_eq!(seen.header("proxy-authorization"), Some("Basic cHU6cHA="));
    }
    // Exempt: straight to the server.
    let direct = always(page(GOOD, "hello"));
    let before = forward.seen().len();
    let outcome = probe(&format!(
        "{x} -I 127.0.0.1 -p {} --noproxy 127.0.0.0/8",
        direct.port()
    ));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert_eq!(forward.seen().len(), before);
    assert_eq!(direct.seen()[0].header("proxy-authorization"), None);
    assert_eq!(probe("-I /run/x -x http://p").code, Some(3));
}

#[test]
fn socks_leads_to_names_and_addresses() {
    let server = FaultServer::start(every(99));
    let user = Some(("u".to_owned(), "p:w".to_owned()));
    for (speech, scheme, arguments, place) in [
        (
            Speech::Socks4,
            "socks4a://",
            "-H www.test -p 81",
            "www.test 81 ",
        ),
        (
            Speech::Socks4,
            "socks4a://u@",
            "-I 192.0.2.7",
            "192.0.2.7 80 u",
        ),
        (
            Speech::Socks4,
            "socks4://",
            "-H localhost -b u:p",
            "127.0.0.1 80 u",
        ),
        (
            Speech::Socks5(None),
            "socks5h://",
            "-H www.test -p 81",
            "www.test 81",
        ),
        (
            Speech::Socks5(None),
            "socks5://",
            "-H localhost -4 -p 81",
            "127.0.0.1 81",
        ),
        (
            Speech::Socks5(None),
            "socks5h://",
            "-I 2001:db8::1",
            "2001:db8::1 80",
        ),
        (
            Speech::Socks5(user.clone()),
            "socks5h://u:p%3Aw@",
            "-H www.test",
            "www.test 80",
        ),
        (
            Speech::Socks5(user.clone()),
            "socks5h://",
            "-b u:p:w -H www.test",
            "www.test 80",
        ),
    ] {
        let proxy = TestProxy::start(speech, server.address);
        let outcome = probe(&format!(
            "-x {scheme}{} {arguments} --attempts 3",
            proxy.address
        ));
        assert_eq!(outcome.code, Some(0), "{arguments}: {}", outcome.text);
        assert_eq!(proxy.asked(), [place; 3]);
    }
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.header("proxy-authorization").is_none())
    );
    let encrypted = FaultServer::start_tls(every(99));
    let proxy = TestProxy::start(Speech::Socks5(None), encrypted.address);
    let outcome = probe(&format!(
        "-x socks5h://{} -H www.test -S --attempts 3",
        proxy.address
    ));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    let wants_user = TestProxy::start(Speech::Socks5(user), server.address);
    for (pair, words) in [
        ("", "it wants a user and a password"),
        ("-b u:x", "it does not take this user"),
    ] {
        let outcome = probe(&format!(
            "-x socks5h://{} -H www.test {pair} --attempts 1",
            wants_user.address
        ));
        assert_eq!(outcome.code, Some(2), "{}", outcome.text);
        assert!(outcome.text.contains(words), "{}", outcome.text);
    }
    for (code, words) in [
        (91, "rejected, or the server cannot be reached"),
        (93, "it wants an identd"),
        (7, "error 7"),
    ] {
        let proxy = TestProxy::start(Speech::Socks4Error(code), server.address);
        let outcome = probe(&format!(
            "-x socks4a://{} -H www.test --attempts 1",
            proxy.address
        ));
        let words = format!(
            "HTTP CRITICAL: proxy {} opens no way to www.test:80: {words}",
            proxy.address
        );
        assert!(outcome.text.starts_with(&words), "{}", outcome.text);
    }
    for speech in [Speech::Socks4, Speech::Connect] {
        let proxy = TestProxy::start(speech, server.address);
        let outcome = probe(&format!(
            "-x socks4://{} -I ::1 --attempts 1 -t 1",
            proxy.address
        ));
        assert!(
            outcome.text.contains("SOCKS 4 knows IPv4 alone"),
            "{}",
            outcome.text
        );
    }
    for (code, kind, words) in [
        (2, "proxy", "its rules do not allow it"),
        (4, "unreachable", "Host is unreachable"),
        (5, "refused", "Connection refused"),
        (99, "proxy", "error 99"),
    ] {
        let proxy = TestProxy::start(Speech::Socks5Error(code), server.address);
        let json = probe(&format!(
            "-x socks5h://{} -H www.test --attempts 1 --format json",
            proxy.address
        ))
        .json();
        let failure = &json["details"]["failures"][0];
        assert_eq!(failure["kind"], kind, "{json}");
        let text = format!(
            "proxy {} opens no way to www.test:80: {words}",
            proxy.address
        );
        assert_eq!(failure["text"], text, "{json}");
    }
}

#[test]
fn a_proxy_that_refuses_lies_or_breaks_off_is_named() {
    let established = "HTTP/1.1 200 OK\r\n\r\n";
    let endless = Act::SendForever(
        b"HTTP/1.1 200 OK\r\n".to_vec(),
        b"X: aaaaaaaaaaaaaaaaaaaaaaa\r\n".to_vec(),
    );
    for (act, kind, words) in [
        (
            Act::Send(page("403 Forbidden", "no")),
            "proxy",
            ": HTTP/1.1 403 Forbidden",
        ),
        (
            Act::Send(page("407 Proxy Authentication Required", "")),
            "proxy",
            ": HTTP/1.1 407 Proxy Auth",
        ),
        (Act::Send(b"SSH-2.0-x\r\n".to_vec()), "proxy", ": SSH-2.0-x"),
        (
            Act::Send(b"FOO 200 OK\r\n\r\n".to_vec()),
            "proxy",
            ": FOO 200 OK",
        ),
        (Act::Send(Vec::new()), "proxy", ": it closed the connection"),
        (
            Act::SendAndReset(Vec::new()),
            "proxy",
            ": Connection reset by peer",
        ),
        (endless, "proxy", ": its answer has no end"),
        (
            Act::SendAndStall(Vec::new()),
            "timeout",
            "Socket timeout after 0.5 seconds",
        ),
        // It says yes, and then talks itself.
        (
            Act::Send(format!("{established}HTTP/1.1 200 OK\r\n\r\n").into_bytes()),
            "tls",
            "Cannot make SSL connection.",
        ),
        (
            Act::Send(established.into()),
            "tls",
            "Cannot make SSL connection.",
        ),
    ] {
        let proxy = answers(act.clone());
        for way in [
            format!("-I 127.0.0.1 -p {} -j CONNECT", proxy.port()),
            format!("-x http://{}", proxy.address),
        ] {
            let line = format!("{way} -H www.test -S --attempts 1 -t 0.5 --format json");
            let outcome = probe(&line);
            assert_eq!(outcome.code, Some(2), "{act:?} {}", outcome.text);
            let json = outcome.json();
            let failure = &json["details"]["failures"][0];
            assert_eq!(failure["kind"], kind, "{act:?} {json}");
            let text = failure["text"].as_str().unwrap();
            assert!(text.contains(words), "{act:?} {text}");
            let named = text.starts_with(&format!(
                "proxy {} opens no way to www.test:443: ",
                proxy.address
            ));
            assert_eq!(named, kind == "proxy", "{text}");
        }
    }
    for (scheme, raw) in [
        ("socks5h", &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]),
        ("socks5h", b"\x05\x01"),
        ("socks5h", b"\x05"),
        ("socks5h", b"\x05\x00\x04\x00\x00\x01"),
        ("socks4a", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("socks4a", b"\x00\x5a\x00"),
    ] {
        // Waits for what looks like a request: SOCKS is shorter, so that it has to be let go by the time-out.
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let liar = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::Write::write_all(&mut stream, raw).unwrap();
        });
        let outcome = probe(&format!(
            "-x {scheme}://{address} -H www.test --attempts 1 -t 2"
        ));
        assert_eq!(outcome.code, Some(2), "{}", outcome.text);
        liar.join().unwrap();
    }
    let nobody = probe("-x http://127.0.0.1:1 -H www.test --attempts 1");
    assert!(nobody.text.starts_with("HTTP CRITICAL: proxy 127.0.0.1:1: connect to address 127.0.0.1 and port 1: Connection refused"), "{}", nobody.text);
}

#[test]
fn a_header_of_the_proxy_protocol_names_the_clients_end() {
    let answer = |seen: &Seen| {
        let (from, to) = seen.head.split_once("\r\n").unwrap_or_default();
        let words: Vec<_> = from.split(' ').collect();
        let port = seen.peer.port().to_string();
        let good = words.len() == 6
            && words[..4] == ["PROXY", "TCP4", "127.0.0.1", "127.0.0.1"]
            && words[4] == port
            && to.starts_with("GET / HTTP/1.");
        Act::Send(page(if good { GOOD } else { "400 Bad Request" }, ""))
    };
    let server = FaultServer::start(answer);
    let line = format!(
        "-I 127.0.0.1 -p {} --haproxy-protocol --attempts 2",
        server.port()
    );
    let outcome = probe(&line);
    assert_eq!(
        outcome.code,
        Some(0),
        "{} {:?}",
        outcome.text,
        server.seen()
    );
}

#[test]
fn through_a_proxy_it_says_and_does_what_check_http_does() {
    must_be_there(CHECK_HTTP);
    let answer = |seen: &Seen| {
        let status = if seen.path().ends_with("/500") {
            "500 Oops"
        } else {
            GOOD
        };
        Act::Send(page(status, "hello world\n"))
    };
    let forward = FaultServer::start(answer);
    let server = FaultServer::start_tls(answer);
    let tunnel = TestProxy::start(Speech::Connect, server.address);
    let (forward, tunnel) = (forward.port(), tunnel.address.port().to_string());
    for (port, arguments) in [
        (&forward, "-H www.test -u http://www.test/x"),
        (&forward, "-H www.test -u http://www.test/500 -b pu:pp"),
        (&tunnel, "-H localhost -u /status/200 -S -j CONNECT"),
        (
            &tunnel,
            "-H localhost -u https://localhost/status/200 -S -j CONNECT",
        ),
        (&tunnel, "-H localhost -u /status/200 -S -j CONNECT:HEAD"),
        (&tunnel, "-H localhost -u /500 -S --sni -j CONNECT -b pu:pp"),
        (&tunnel, "-H localhost -C 14 -S -j CONNECT"),
        (&forward, "-H localhost -j GET:HEAD"),
    ] {
        let words = ["-I", "127.0.0.1", "-p", port]
            .into_iter()
            .chain(arguments.split(' '));
        compare(CHECK_HTTP, &words.map(str::to_owned).collect::<Vec<_>>());
    }
}
