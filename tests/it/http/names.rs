//! Names, with a name server that answers: `check_http` and ours side by side in a network namespace.

use std::net::{IpAddr, TcpListener};

use super::beside::{differing_lines, differing_metrics};
use super::side_by_side::{CHECK_HTTP, expected, must_be_there, words};
use super::{Act, FaultServer, GOOD, Seen, outcome, page, page_with};
use crate::support::names::{Answer, Names};
use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, binary_folder};

fn addresses(list: &[&str]) -> Answer {
    let parse = |text: &&str| text.parse::<IpAddr>().unwrap();
    Answer::Addresses(list.iter().map(parse).collect())
}

struct Scene {
    netns: Netns,
    _names: Names,
    _servers: Vec<FaultServer>,
}

impl Scene {
    fn new() -> Self {
        let netns = Netns::new("names");
        let names = [
            ("www.test", addresses(&["127.0.0.2"])),
            ("both.test", addresses(&["127.0.0.2", "::1"])),
            ("six.test", addresses(&["::1"])),
            ("moved.test", addresses(&["127.0.0.3"])),
            // Nobody listens at the first one.
            ("half.test", addresses(&["127.0.0.9", "127.0.0.2"])),
            ("nobody.test", addresses(&["127.0.0.8", "127.0.0.9"])),
            ("empty.test", addresses(&[])),
            (
                "half-four.test",
                Answer::Half(vec!["127.0.0.2".parse().unwrap()]),
            ),
            ("half-six.test", Answer::Half(vec!["::1".parse().unwrap()])),
            ("broken.test", Answer::Failure),
            ("silent.test", Answer::Silence),
        ];
        let names = Names::of(&netns, &names);
        let answer = |address: &str, seen: &Seen| match seen.path() {
            "/relative" => leads_to("/there"),
            "/self" => leads_to("/self"),
            "/port" => leads_to("http://www.test:81/port"),
            "/moved-port" => leads_to("http://moved.test:81/there"),
            "/moved" => leads_to("http://moved.test:8080/there"),
            "/lost" => leads_to("http://nosuch.test:8080/there"),
            "/there" => {
                let host = seen.header("host").unwrap_or_default();
                let text = format!("here is {host} at={address}\n");
                Act::Send(page(GOOD, &text))
            }
            _ => Act::Send(page(GOOD, "hello world\n")),
        };
        let servers = netns.within(|| {
            ["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"]
                .map(|address| {
                    let listener = TcpListener::bind((address, 8080)).unwrap();
                    FaultServer::on(listener, None, move |seen: &Seen| answer(address, seen))
                })
                .into()
        });
        Self {
            netns,
            _names: names,
            _servers: servers,
        }
    }

    fn ours(&self, arguments: &str) -> Outcome {
        let mut command = self.netns.command(binary_folder().join("check_http_retry"));
        outcome(command.args(arguments.split(' ')))
    }
}

#[test]
fn names_are_looked_up_and_told_as_by_check_http() {
    must_be_there(CHECK_HTTP);
    let scene = Scene::new();
    for arguments in [
        "-H www.test -p 8080 -E",
        "-H www.test:8080 -s goodbye",
        "-I www.test -p 8080",
        "-I www.test -H other.test -p 8080 -u /there -s other.test",
        "-H both.test -p 8080",
        "-H both.test -p 8080 -4",
        "-H both.test -p 8080 -6",
        "-H six.test -p 8080",
        "-H six.test -p 8080 -6",
        "-H six.test -p 8080 -4",
        "-H www.test -p 8080 -6",
        "-H six-in-hosts.test -p 8080",
        "-H six-in-hosts.test -p 8080 -4",
        "-H six-in-hosts.test -p 8080 -6",
        "-H half-four.test -p 8080 -4",
        "-H half-six.test -p 8080 -6",
        "-H half.test -p 8080",
        "-H nobody.test -p 8080",
        "-H nosuch.test -p 8080",
        "-H empty.test -p 8080",
        "-H broken.test -p 8080",
        "-H www.test -p 8080 -u /moved -f follow -s moved.test",
        "-H www.test -p 8080 -u /moved -f sticky -s moved.test",
        "-H www.test -p 8080 -u /moved -f stickyport -s moved.test",
        "-H www.test -p 8080 -u /moved-port -f stickyport -s moved.test:8080",
        "-H www.test -p 8080 -u /port -f stickyport",
        "-H www.test -I 127.0.0.3 -p 8080 -u /relative -f follow -s at=127.0.0.2",
        "-H www.test -I 127.0.0.3 -p 8080 -u /relative -f sticky -s at=127.0.0.3",
        "-H www.test -I 127.0.0.3 -p 8080 -u /relative -f stickyport -s at=127.0.0.3",
        "-H www.test:81 -I 127.0.0.3 -p 8080 -u /relative -f sticky -s www.test:8080",
        "-I 127.0.0.3 -p 8080 -u /relative -f follow -s 127.0.0.3:8080",
        "-I 127.0.0.3 -p 8080 -u /relative -f sticky -s 127.0.0.3:8080",
        "-H www.test -p 8080 -u /self -f follow",
        "-H www.test -p 8080 -u /self -f sticky",
        "-H www.test -I 127.0.0.3 -p 8080 -u /self -f follow",
        "-H www.test -I 127.0.0.3 -p 8080 -u /self -f sticky",
        "-H www.test -I 127.0.0.3 -p 8080 -u /self -f stickyport",
        "-I 127.0.0.3 -p 8080 -u /self -f follow",
        "-I 127.0.0.3 -p 8080 -u /self -f sticky",
        "-H www.test -p 8080 -u /lost -f follow",
        "-H www.test -p 8080 -u /lost -f sticky",
    ] {
        let output = scene
            .netns
            .command(CHECK_HTTP)
            .args(arguments.split(' '))
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let theirs = String::from_utf8_lossy(&output.stdout);
        let line = theirs.lines().next().unwrap_or_default();
        let ours = scene.ours(&format!("{arguments} --attempts 1"));
        assert_eq!(
            ours.code,
            output.status.code(),
            "{arguments}: {} {theirs}",
            ours.text
        );
        // Which of its addresses it was is ours to say.
        let theirs_named = words(line).replace("address nobody.test", "address 127.0.0.9");
        let wanted = expected(&theirs_named, ours.headline());
        assert_eq!(words(ours.headline()), wanted, "{arguments}");
        assert_eq!(
            differing_metrics(line, ours.first_line(), true),
            None,
            "{arguments}"
        );
        assert_eq!(differing_lines(&theirs, &ours.text), None, "{arguments}");
    }
}

#[test]
fn an_address_of_a_single_link_takes_its_zone() {
    must_be_there(CHECK_HTTP);
    let netns = Netns::new("zone");
    netns.ip("link add v0 type veth peer name v1");
    for change in [
        "addr add fe80::9/64 dev v0 nodad",
        "link set v0 up",
        "link set v1 up",
    ] {
        netns.ip(change);
    }
    let listener = netns.within(|| TcpListener::bind(("fe80::9%v0", 8080)).unwrap());
    let server = FaultServer::on(listener, None, |_: &Seen| Act::Send(page(GOOD, "hello")));
    let run = |program: &str, arguments: &str| {
        let mut command = netns.command(program);
        let output = command
            .args(arguments.split(' '))
            .env("LC_ALL", "C")
            .output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let ours = binary_folder()
        .join("check_http_retry")
        .display()
        .to_string();
    for arguments in [
        "-H fe80::9%v0 -p 8080",
        "-I fe80::9%v0 -p 8080",
        "-H www.test -I fe80::9%v0 -p 8080 -6",
        "-H fe80::9%v0 -p 8081",
        "-H fe80::9%v0 -p 8080 -4",
        "-H fe80::9%nosuch -p 8080",
    ] {
        let (code, theirs) = run(CHECK_HTTP, arguments);
        let found = run(&ours, &format!("{arguments} --attempts 1"));
        assert_eq!(found.0, code, "{arguments}: {} {theirs}", found.1);
        let line = theirs.lines().next().unwrap_or_default();
        let headline = found.1.split('|').next().unwrap_or_default();
        assert_eq!(
            words(headline),
            expected(&words(line), headline),
            "{arguments}"
        );
    }
    let seen = server.seen();
    assert_eq!(seen[0].header("host"), Some("fe80::9%v0:8080"));
    assert_eq!(seen[1].header("host"), Some("[fe80::9%v0]:8080"));
    let ways = "-H www.test --via one=fe80::9%v0 --via two=[fe80::9%v0]:8080 -p 8080 --attempts 2";
    let (code, text) = run(&ours, ways);
    assert_eq!(code, Some(0), "{text}");
}

/// Many a name server leaves questions for the family that it has no records of without an answer.
#[test]
fn the_family_that_is_not_wanted_is_not_asked_for() {
    let scene = Scene::new();
    for arguments in [
        "-H half-four.test -4",
        "-H half-four.test --local-address 127.0.0.1",
        "-H half-four.test -4 --all-addresses",
        "-H half-four.test --local-address 127.0.0.1 --all-addresses",
        "-H half-six.test -6",
        "-H half-six.test -6 --all-addresses",
    ] {
        // The system's resolver waits for 5 s, twice.
        let found = scene.ours(&format!("{arguments} -p 8080 -t 4 --attempts 1"));
        assert_eq!(found.code, Some(0), "{arguments}: {}", found.text);
    }
}

#[test]
fn a_name_that_nobody_knows_is_a_failure_of_the_kind_dns() {
    let scene = Scene::new();
    for (name, words) in [
        ("nosuch.test", "nosuch.test: Name or service not known"),
        (
            "broken.test",
            "broken.test: Temporary failure in name resolution",
        ),
        ("silent.test", "Socket timeout after 0.3 seconds"),
    ] {
        let json = scene
            .ours(&format!("-H {name} -t 0.3 --attempts 2 --format json"))
            .json();
        assert_eq!(json["details"]["kinds"]["dns"], 2, "{json}");
        let summary = json["summary"].as_str().unwrap();
        assert!(
            summary.starts_with(&format!("HTTP CRITICAL: {words} - ")),
            "{json}"
        );
    }
    // The look-up is a phase of its own, and the second address is asked where the first one refuses.
    let json = scene
        .ours("-H half.test -p 8080 --attempts 3 --format json")
        .json();
    assert_eq!(json["details"]["failed"], 0, "{json}");
    assert!(
        json["details"]["phases"]["dns"]["p50"].as_f64().unwrap() > 0.0,
        "{json}"
    );
}

/// That this host cannot speak one family says nothing about a server that has both.
#[test]
fn a_server_that_refuses_is_to_blame_where_this_host_has_no_ipv6() {
    let netns = Netns::new("one-family");
    let both = addresses(&["127.0.0.9", "2001:db8::1"]);
    let six = addresses(&["2001:db8::1"]);
    let _names = Names::of(&netns, &[("both.test", both), ("six.test", six)]);
    let run = |name: &str| {
        let mut command = netns.command(binary_folder().join("check_http_retry"));
        outcome(command.args(["-H", name, "-p", "8080", "--attempts", "3"]))
    };
    for disabled in ["0", "1"] {
        netns.set("ipv6/conf/all/disable_ipv6", disabled);
        let found = run("both.test");
        assert_eq!(found.code, Some(2), "{}", found.text);
        assert!(
            found.headline().starts_with(
                "HTTP CRITICAL: connect to address 127.0.0.9 and port 8080: Connection refused - 3 of 3 probes failed"
            ),
            "{}",
            found.text
        );
    }
    let found = run("six.test");
    assert_eq!(found.code, Some(3), "{}", found.text);
    assert!(
        found
            .text
            .contains("this host has no IPv6 address to go there from"),
        "{}",
        found.text
    );
}

/// A look-up that is given up goes on until the resolver gives up, too. Nobody else has to wait for that.
#[test]
fn a_name_server_that_was_silent_for_a_moment_fails_no_later_probe() {
    let netns = Netns::new("moment");
    let names = Names::start(&netns, "www.test", &["127.0.0.2".parse().unwrap()]);
    let listener = netns.within(|| TcpListener::bind(("127.0.0.2", 8080)).unwrap());
    let _server = FaultServer::on(listener, None, |_: &Seen| Act::Send(page(GOOD, "hello")));
    names.fall_silent();
    let mut command = netns.command(binary_folder().join("check_http_retry"));
    let line = "-H www.test -p 8080 -t 0.3 --attempts 10 --interval 0.3 --format json";
    command.args(line.split(' '));
    let found = std::thread::scope(|scope| {
        let run = scope.spawn(|| outcome(&mut command));
        // The first probe has been without an answer when the second one asks.
        while names.unheard() < 2 && !run.is_finished() {
            std::thread::yield_now();
        }
        names.speak_again();
        run.join().unwrap()
    });
    let failed = found.json()["details"]["failed"].as_u64().unwrap();
    assert!((1..=6).contains(&failed), "{}", found.text);
}

fn leads_to(place: &str) -> Act {
    let location = format!("Location: {place}\r\n");
    Act::Send(page_with("302 Found", &location, ""))
}
