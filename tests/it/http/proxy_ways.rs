//! Proxies that are spoken to over TLS, and those that the environment names.

use std::net::TcpListener;
use std::process::Command;
use std::time::SystemTime;

use super::proxies::probe;
use super::side_by_side::{CHECK_HTTP, must_be_there};
use super::transcript::CHECK_CURL;
use super::{Act, FaultServer, GOOD, always, every, outcome, page, plugin};
use crate::support::identity::{DAY, Identity};
use crate::support::proxy::{Speech, TestProxy, TlsFront};

#[test]
fn a_proxy_is_spoken_to_over_tls_where_its_url_says_so() {
    let authority = Identity::authority();
    let soon = SystemTime::now() + DAY;
    let shown = |name: &str| Identity::signed(name, soon, &authority).server(&[&authority], None);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let trusting = format!("-D --ca-cert {}", ca.display());

    // A page over https: TLS within TLS.
    let server = FaultServer::start_tls(every(4));
    let tunnel = TestProxy::start(Speech::Connect, server.address);
    let front = TlsFront::start(shown("localhost"), tunnel.address);
    let port = front.address.port();
    let way = format!("-x https://pu:pp@localhost:{port} -4 -H localhost -S");
    let outcome = probe(&format!("{way} --attempts 4"));
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert!(
        outcome.headline().contains("1 of 4 probes failed"),
        "{}",
        outcome.text
    );
    assert!(tunnel.asked()[3].starts_with("CONNECT localhost:443 "));
    assert!(tunnel.asked()[3].contains("\r\nProxy-Authorization: Basic cHU6cHA=\r\n"));
    // Its certificate has to be good where the server's has.
    let server = FaultServer::on(
        TcpListener::bind("127.0.0.1:0").unwrap(),
        Some(shown("www.test")),
        every(99),
    );
    let tunnel = TestProxy::start(Speech::Connect, server.address);
    let front = TlsFront::start(shown("localhost"), tunnel.address);
    let way = |host: &str| {
        format!(
            "-x https://{host}:{} -4 -H www.test --attempts 1 {trusting}",
            front.address.port()
        )
    };
    let good = probe(&way("localhost"));
    assert_eq!(good.code, Some(0), "{}", good.text);
    let bad = probe(&way("127.0.0.1"));
    assert_eq!(bad.code, Some(2), "{}", bad.text);
    let words = format!(
        "HTTP CRITICAL: proxy {}: Certificate verification failed: it is not for '127.0.0.1'",
        front.address
    );
    assert!(bad.text.starts_with(&words), "{}", bad.text);

    // A page over http: the proxy is asked for it.
    let forward = FaultServer::start_tls(|_| Act::Send(page(GOOD, "hello")));
    let outcome = probe(&format!(
        "-x https://localhost:{} -4 -H www.test -u /x -b pu:pp --attempts 2",
        forward.port()
    ));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    let seen = &forward.seen()[1];
    assert!(
        seen.head.starts_with("GET http://www.test/x HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.header("proxy-authorization"), Some("Basic cHU6cHA="));

    // One that does not speak TLS, one that refuses, one that breaks off, one without an end.
    let plain = always(page(GOOD, "hello"));
    let outcome = probe(&format!(
        "-x https://{} -H www.test --attempts 1",
        plain.address
    ));
    assert!(
        outcome.text.starts_with(&format!(
            "HTTP CRITICAL: proxy {}: Cannot make SSL connection.",
            plain.address
        )),
        "{}",
        outcome.text
    );
    for (act, words) in [
        (
            Act::Send(page("403 Forbidden", "no")),
            ": HTTP/1.1 403 Forbidden",
        ),
        (Act::Send(Vec::new()), ": it closed the connection"),
        (
            Act::SendForever(
                b"HTTP/1.1 200 OK\r\n".to_vec(),
                b"X: aaaaaaaaaaaaaa\r\n".to_vec(),
            ),
            ": its answer has no end",
        ),
    ] {
        let proxy = FaultServer::start_tls(move |_| act.clone());
        let outcome = probe(&format!(
            "-x https://{} -H www.test -S --attempts 1",
            proxy.address
        ));
        let words = format!(
            "HTTP CRITICAL: proxy {} opens no way to www.test:443{words}",
            proxy.address
        );
        assert!(outcome.text.starts_with(&words), "{}", outcome.text);
    }
}

#[test]
fn the_environment_names_a_proxy_where_that_is_asked_for() {
    let forward = always(page(GOOD, "hello"));
    let server = FaultServer::start_tls(every(99));
    let tunnel = TestProxy::start(Speech::Connect, server.address);
    let direct = always(page(GOOD, "hello"));
    let with = |arguments: &str, environment: &[(&str, &str)]| {
        let mut command = plugin("check_http_retry");
        for name in [
            "http_proxy",
            "https_proxy",
            "HTTPS_PROXY",
            "all_proxy",
            "ALL_PROXY",
            "no_proxy",
            "NO_PROXY",
        ] {
            command.env_remove(name);
        }
        command.args(arguments.split(' ')).args(["--attempts", "1"]);
        outcome(command.envs(environment.iter().copied()))
    };
    let forward_url = format!("http://{}", forward.address);
    let tunnel_url = format!("http://pu:pp@{}", tunnel.address);
    let there = format!("-I 127.0.0.1 -p {}", direct.port());
    // As with check_http, it does not count by itself.
    let outcome = with(
        &there,
        &[
            ("http_proxy", "http://127.0.0.1:1"),
            ("ALL_PROXY", "nonsense://"),
        ],
    );
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert_eq!(direct.seen().len(), 1);

    let asked = "--proxy-from-environment -H www.test";
    for (environment, arguments) in [
        (&[("http_proxy", &*forward_url)][..], ""),
        (&[("all_proxy", &*forward_url)], ""),
        (
            &[("http_proxy", ""), ("ALL_PROXY", "http://127.0.0.1:1")],
            " -x FORWARD",
        ),
        (
            &[
                ("http_proxy", &*forward_url),
                ("no_proxy", "other.test,.example"),
            ],
            "",
        ),
        (
            &[("http_proxy", &*forward_url), ("no_proxy", "www.test")],
            " --noproxy other.test",
        ),
        (&[("https_proxy", &*tunnel_url)], " -S"),
        (
            &[
                ("HTTPS_PROXY", &*tunnel_url),
                ("http_proxy", "http://127.0.0.1:1"),
            ],
            " -S",
        ),
    ] {
        let before = (forward.seen().len(), tunnel.asked().len());
        let arguments = format!("{asked}{}", arguments.replace("FORWARD", &forward_url));
        let outcome = with(&arguments, environment);
        assert_eq!(outcome.code, Some(0), "{environment:?} {}", outcome.text);
        let expected = if arguments.ends_with(" -S") {
            (before.0, before.1 + 1)
        } else {
            (before.0 + 1, before.1)
        };
        assert_eq!(
            (forward.seen().len(), tunnel.asked().len()),
            expected,
            "{environment:?}"
        );
    }
    assert!(tunnel.asked()[0].contains("Proxy-Authorization: Basic cHU6cHA="));
    // Exempt, not named for http, and one that is for whoever asks a web server.
    let asked = format!("--proxy-from-environment {there}");
    for environment in [
        &[("http_proxy", &*forward_url), ("no_proxy", "127.0.0.0/8")][..],
        &[("http_proxy", &*forward_url), ("NO_PROXY", "*")],
        &[("https_proxy", &*forward_url)],
        &[("HTTP_PROXY", &*forward_url)],
    ] {
        let before = direct.seen().len();
        let outcome = with(&asked, environment);
        assert_eq!(outcome.code, Some(0), "{environment:?} {}", outcome.text);
        assert_eq!(direct.seen().len(), before + 1, "{environment:?}");
    }
    let wrong = with(&asked, &[("http_proxy", "ftp://u:hush@p")]);
    assert_eq!(wrong.code, Some(3), "{}", wrong.text);
    assert!(
        wrong.text.contains("http_proxy p: give http://") && !wrong.text.contains("hush"),
        "{}",
        wrong.text
    );
}

#[test]
fn check_curl_takes_the_environments_proxy_and_check_http_does_not() {
    let forward = always(page(GOOD, "hello"));
    let direct = always(page(GOOD, "hello"));
    let arguments = ["-I", "127.0.0.1", "-p", &direct.port()];
    let url = format!("http://{}", forward.address);
    for (program, by_proxy) in [(CHECK_HTTP, 0), (CHECK_CURL, 1)] {
        must_be_there(program);
        let before = forward.seen().len();
        let mut command = Command::new(program);
        command.env_remove("no_proxy").env_remove("NO_PROXY");
        let output = command
            .args(arguments)
            .env("http_proxy", &url)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(forward.seen().len() - before, by_proxy, "{program}");
    }
}
