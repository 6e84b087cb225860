//! Redirects, TLS and certificates over each path.

use std::net::TcpListener;
use std::time::SystemTime;

use super::super::page_with;
use super::{Act, FaultServer, GOOD, every, good, outcome, page, plugin, probe};
use crate::support::identity::{DAY, Identity};

fn redirect(to: String) -> FaultServer {
    let header = move || format!("Location: {to}\r\n");
    FaultServer::start(move |seen| {
        Act::Send(if seen.path() == "/" {
            page_with("302 Found", &header(), "")
        } else {
            page(GOOD, "")
        })
    })
}

#[test]
fn a_redirect_to_the_same_server_stays_on_its_path() {
    for location in [
        "http://service1.example/next",
        "//SERVICE1.example/next",
        "/next",
    ] {
        let (one, other) = (redirect(location.to_owned()), redirect(location.to_owned()));
        for follow in ["follow", "sticky", "stickyport", "curl"] {
            let before = (one.seen().len(), other.seen().len());
            let outcome = probe(&format!(
                "--via one={} --via other={} -f {follow} --attempts 3",
                one.address, other.address
            ));
            assert_eq!(
                outcome.code,
                Some(0),
                "{location} {follow}: {}",
                outcome.text
            );
            // Two requests for each probe.
            let sent = (one.seen().len() - before.0, other.seen().len() - before.1);
            assert_eq!(sent, (6, 6), "{location} {follow}");
        }
        let last = one.seen().pop().unwrap();
        let host = last.header("host").map(str::to_ascii_lowercase);
        assert_eq!(host.as_deref(), Some("service1.example"));
        assert_eq!(last.path(), "/next");
    }
}

#[test]
fn a_redirect_to_another_port_of_it_stays_at_the_paths_address() {
    let secure = FaultServer::start_tls(|_| Act::Send(page(GOOD, "")));
    let location = format!("https://service1.example:{}/next", secure.port());
    let plain = redirect(location);
    let outcome = probe(&format!(
        "--via one={} -f follow --attempts 2",
        plain.address
    ));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert_eq!(secure.seen().len(), 2);
    let host = format!("service1.example:{}", secure.port());
    assert_eq!(secure.seen()[0].header("host"), Some(&*host));
}

#[test]
fn a_redirect_to_another_server_goes_there() {
    let elsewhere = good();
    let plain = redirect(format!("http://localhost:{}/next", elsewhere.port()));
    let other = redirect(format!("http://localhost:{}/next", elsewhere.port()));
    let outcome = probe(&format!(
        "--via one={} --via two={} -f follow --attempts 2",
        plain.address, other.address
    ));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert_eq!(elsewhere.seen().len(), 4);
}

#[test]
fn every_path_is_told_the_name_and_has_to_prove_it() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Identity::authority();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let until = SystemTime::now() + 30 * DAY;
    let start = |identity: &Identity, name: &str| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        FaultServer::on(listener, Some(identity.server_for(name)), every(99))
    };
    let ours = Identity::signed("service1.example", until, &authority);
    let old = Identity::signed("service1.example", SystemTime::now() - DAY, &authority);
    let other = Identity::signed("www.other", until, &authority);
    // Each of them hangs up on who does not ask for service1.example.
    let [one, two, expired, stranger] =
        [&ours, &ours, &old, &other].map(|identity| start(identity, "service1.example"));
    let run = |more: &[String]| {
        let mut command = plugin("check_http_retry");
        command.args([
            "-H",
            "service1.example",
            "-D",
            "--attempts",
            "3",
            "--ca-cert",
        ]);
        command
            .arg(&ca)
            .args(more.iter().flat_map(|via| ["--via", via]));
        outcome(&mut command)
    };
    let good = [
        format!("one={}", one.address),
        format!("two={}", two.address),
    ];
    let outcome = run(&good);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert_eq!((one.seen().len(), two.seen().len()), (3, 3));

    let all = [
        &good[..],
        &[
            format!("expired={}", expired.address),
            format!("stranger={}", stranger.address),
        ],
    ]
    .concat();
    let outcome = run(&all);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert!(
        outcome
            .headline()
            .contains("0 of 3 via one and two: expired and stranger down"),
        "{}",
        outcome.text
    );
    for name in ["expired", "stranger"] {
        let line = outcome
            .text
            .lines()
            .find(|line| line.contains(&format!("] {name} ")));
        assert!(
            line.unwrap().contains("(3 certificate)"),
            "{}",
            outcome.text
        );
    }
}
