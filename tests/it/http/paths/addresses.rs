//! `--all-addresses`, with a name server of our own in a network namespace.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::{FaultServer, every, outcome};
use crate::support::identity::{DAY, Identity};
use crate::support::names::Names;
use crate::support::netns::Netns;
use crate::support::plugin::binary_folder;

const NAME: &str = "service1.example";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn command(netns: &Netns, arguments: &str) -> Command {
    let mut command = netns.command(binary_folder().join("check_http_retry"));
    command.args(arguments.split(' '));
    command
}

/// A server in the namespace that fails every n-th time.
fn serve(netns: &Netns, address: &str, n: usize) -> FaultServer {
    let place = SocketAddr::new(ip(address), 80);
    let listener = netns.within(|| TcpListener::bind(place)).unwrap();
    FaultServer::on(listener, None, every(n))
}

fn names_of(document: &Value) -> Vec<&str> {
    let paths = document["details"]["paths"].as_array().unwrap();
    paths
        .iter()
        .map(|path| path["name"].as_str().unwrap())
        .collect()
}

#[test]
fn every_address_of_a_name_is_a_path_and_a_dead_one_is_named() {
    let netns = Netns::new("addresses");
    let addresses = ["127.0.1.10", "127.0.1.9", "127.0.1.11", "::1"].map(ip);
    let names = Names::start(&netns, NAME, &addresses);
    let servers = ["127.0.1.9", "127.0.1.10", "::1"].map(|address| serve(&netns, address, 999));
    let run = |more: &str| {
        let line = format!("-H {NAME} --all-addresses --attempts 6 {more}");
        outcome(&mut command(&netns, line.trim()))
    };
    let outcome = run("-v");
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert_eq!(
        outcome.headline(),
        "HTTP CRITICAL: connect to address 127.0.1.11 and port 80: Connection refused - 6 of 6 via 127.0.1.11, \
         0 of 6 via 127.0.1.9, 127.0.1.10 and ::1: 127.0.1.11 down, more than chance (p < 0.001)"
    );
    for line in [
        "[CRITICAL] 127.0.1.11 is down: all 6 probes over it failed (6 refused), over the others 0 of 18\n",
        "take the address out of the name's records\n",
    ] {
        assert!(outcome.text.contains(line), "no {line}: {}", outcome.text);
    }
    for server in &servers {
        assert_eq!(server.seen().len(), 6);
        assert_eq!(server.seen()[0].header("host"), Some(NAME));
    }
    assert_eq!(outcome.metric("failed_127_0_1_11"), Some(6.0));
    assert_eq!(outcome.metric("failed___1"), Some(0.0));
    // Once for the run, not for each probe.
    assert_eq!(names.asked(), 1);

    for (family, expected) in [
        ("-4", &["127.0.1.9", "127.0.1.10", "127.0.1.11"][..]),
        ("-6", &["::1"]),
        ("", &["127.0.1.9", "127.0.1.10", "127.0.1.11", "::1"]),
        ("--local-address ::1", &["::1"]),
    ] {
        let document = run(&format!("--format json {family}")).json();
        assert_eq!(names_of(&document), expected, "{family}");
    }
}

#[test]
fn a_name_that_cannot_be_looked_up_is_a_failure_as_ever() {
    let netns = Netns::new("nowhere");
    let names = Names::start(&netns, NAME, &[ip("127.0.1.1")]);
    let run = |host: &str, more: &str| {
        let line = format!("-H {host} --all-addresses --attempts 2 --format json {more}");
        outcome(&mut command(&netns, line.trim())).json()
    };
    for (host, more) in [("other.example", ""), (NAME, "-6")] {
        let document = run(host, more);
        assert_eq!(document["state"], "CRITICAL", "{document}");
        assert_eq!(document["details"]["kinds"]["dns"], 2, "{document}");
        assert_eq!(names_of(&document), [host]);
    }
    names.change(&[]);
    assert_eq!(run(NAME, "")["details"]["kinds"]["dns"], 2);
    names.fall_silent();
    let begun = Instant::now();
    let document = run(NAME, "-t 500ms");
    assert_eq!(document["details"]["kinds"]["dns"], 2, "{document}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn all_of_many_addresses_are_paths() {
    let netns = Netns::new("many");
    let many: Vec<IpAddr> = (1..=20).map(|n| ip(&format!("127.0.2.{n}"))).collect();
    let _names = Names::start(&netns, NAME, &many);
    let line = format!("-H {NAME} --all-addresses --attempts 1 --format json");
    let document = outcome(&mut command(&netns, &line)).json();
    let expected: Vec<_> = many.iter().map(ToString::to_string).collect();
    assert_eq!(names_of(&document), expected);
    // Nobody is there: all alike.
    let summary = document["summary"].as_str().unwrap();
    let end = "1 of 1 via 127.0.2.1, 127.0.2.2, 127.0.2.3 and 17 more: all 20 down";
    assert!(summary.ends_with(end), "{summary}");
    assert_eq!(document["findings"].as_array().unwrap().len(), 9);
    let line = line.replace(" --format json", "");
    let text = outcome(&mut command(&netns, &line)).text;
    assert!(
        text.contains("\n12 more paths fail: -v lists them\n"),
        "{text}"
    );
}

#[test]
fn addresses_that_change_are_found_by_the_next_round() {
    let netns = Netns::new("changing");
    let addresses = ["127.0.1.1", "127.0.1.2"].map(ip);
    let names = Names::start(&netns, NAME, &addresses);
    let servers = [
        serve(&netns, "127.0.1.1", usize::MAX),
        serve(&netns, "127.0.1.2", usize::MAX),
        serve(&netns, "127.0.1.3", 1),
    ];
    let mut command = command(
        &netns,
        "-H service1.example --all-addresses --attempts 5 --until critical --every 50ms --deadline 40s",
    );
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(
        first.ends_with(" 10 of 10 probes good over 2 paths"),
        "{first}"
    );
    names.change(&["127.0.1.2", "127.0.1.3"].map(ip));
    let second = lines.next().unwrap().unwrap();
    assert!(
        second.contains(" - 5 of 5 via 127.0.1.3, 0 of 5 via 127.0.1.2: 127.0.1.3 down, more than chance (p 0.0079)|"),
        "{second}"
    );
    assert!(
        second.contains(" 'failed_127_0_1_3'=5;") && !second.contains("127_0_1_1"),
        "{second}"
    );
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert_eq!(servers[2].seen().len(), 5);
}

#[test]
fn every_address_is_told_the_name_in_the_handshake_with_and_without_a_host() {
    let netns = Netns::new("secure");
    let addresses = ["127.0.1.1", "127.0.1.2"].map(ip);
    let _names = Names::start(&netns, NAME, &addresses);
    let folder = tempfile::tempdir().unwrap();
    let authority = Identity::authority();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let identity = Identity::signed(NAME, SystemTime::now() + 30 * DAY, &authority);
    let servers = addresses.map(|address| {
        let place = SocketAddr::new(address, 443);
        let listener = netns.within(|| TcpListener::bind(place)).unwrap();
        FaultServer::on(listener, Some(identity.server_for(NAME)), every(999))
    });
    let ca = ca.to_str().unwrap();
    for name in ["-H service1.example", "-I service1.example"] {
        let line = format!("{name} --all-addresses -D --ca-cert {ca} --attempts 3");
        let outcome = outcome(&mut command(&netns, &line));
        assert_eq!(outcome.code, Some(0), "{line}: {}", outcome.text);
        let end = " 6 of 6 probes good over 2 paths";
        assert!(outcome.headline().ends_with(end), "{}", outcome.text);
    }
    for server in &servers {
        assert_eq!(server.seen().len(), 6);
        let hosts: Vec<_> = server
            .seen()
            .iter()
            .map(|seen| seen.header("host").map(str::to_owned))
            .collect();
        assert_eq!(hosts[0].as_deref(), Some(NAME));
        // As with check_http: without -H there is none.
        assert_eq!(hosts[5], None);
    }
}
