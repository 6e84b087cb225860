//! Name servers that lie, hang and change their minds.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use super::kinds;
use crate::support::fault_server::{Act, FaultServer, page};
use crate::support::measured::assert_clean;
use crate::support::names::{Answer, Names};
use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, binary_folder, outcome};

fn probe(netns: &Netns, name: &str, arguments: &str) -> (Outcome, Duration) {
    let mut command = netns.command(binary_folder().join("check_http_retry"));
    command
        .args([
            "-H",
            name,
            "-p",
            "8080",
            "-t",
            "1",
            "--deadline",
            "6",
            "-vvv",
        ])
        .args(arguments.split(' '));
    let begun = Instant::now();
    let outcome = outcome(&mut command);
    assert_clean(&outcome, name);
    (outcome, begun.elapsed())
}

/// What stands behind a question's number: flags, counts, the question itself, records.
fn reply(flags: [u8; 2], counts: [u8; 8], rest: &[u8]) -> Answer {
    Answer::Bytes([&flags[..], &counts, rest].concat())
}

#[test]
fn answers_that_are_no_answers_are_failures_of_the_name_and_cost_no_more_than_the_limit() {
    let netns = Netns::new("liars");
    let good = [0x81, 0x80];
    let question = b"\x04evil\x04test\x00\x00\x01\x00\x01";
    let record = |name: &[u8], kind: u8, data: &[u8]| {
        let length = u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes();
        [question, name, &[0, kind, 0, 1, 0, 0, 0, 0], &length, data].concat()
    };
    let one = [0, 1, 0, 1, 0, 0, 0, 0];
    // A name that leads to itself, one that leads beyond the end, an address of five bytes, a chain of names.
    let names = [
        ("short.test", Answer::Bytes(vec![0x81])),
        ("empty.test", Answer::Bytes(Vec::new())),
        ("noise.test", Answer::Bytes(vec![0xff; 500])),
        (
            "loop.test",
            reply(good, one, &record(&[0xc0, 27], 1, &[127, 0, 0, 1])),
        ),
        (
            "beyond.test",
            reply(good, one, &record(&[0xff, 0xff], 1, &[127, 0, 0, 1])),
        ),
        (
            "five.test",
            reply(good, one, &record(&[0xc0, 12], 1, &[127, 0, 0, 1, 2])),
        ),
        (
            "many.test",
            reply(good, [0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], question),
        ),
        (
            "cut.test",
            reply([0x83, 0x80], [0, 1, 0, 0, 0, 0, 0, 0], question),
        ),
        (
            "alias.test",
            reply(good, one, &record(&[0xc0, 12], 5, &[0xc0, 12])),
        ),
        ("broken.test", Answer::Failure),
        ("silent.test", Answer::Silence),
        ("nobody.test", Answer::Addresses(Vec::new())),
    ];
    let _names = Names::of(&netns, &names);
    std::thread::scope(|scope| {
        let runs: Vec<_> = names
            .iter()
            .map(|(name, _)| (name, scope.spawn(|| probe(&netns, name, "--attempts 2"))))
            .collect();
        for (name, run) in runs {
            let (outcome, elapsed) = run.join().expect("the probe comes back");
            assert_eq!(outcome.code, Some(2), "{name}: {}", outcome.text);
            assert_eq!(kinds(&outcome), ["dns", "dns"], "{name}: {}", outcome.text);
            assert!(elapsed < Duration::from_secs(6), "{name}: {elapsed:?}");
        }
    });
}

#[test]
fn a_name_that_leads_elsewhere_between_two_probes_is_followed_and_told() {
    let netns = Netns::new("rebind");
    let address = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let names = Names::start(&netns, "evil.test", &[address(2)]);
    let servers: Vec<_> = [2, 3]
        .into_iter()
        .map(|last| {
            let listener = netns
                .within(|| TcpListener::bind((address(last), 8080)))
                .expect("a port of this namespace");
            FaultServer::on(listener, None, move |_| {
                let status = if last == 2 {
                    "200 OK"
                } else {
                    "500 Internal Server Error"
                };
                Act::Send(page(status, ""))
            })
        })
        .collect();
    let (first, _) = probe(&netns, "evil.test", "--attempts 2");
    assert_eq!(first.code, Some(0), "{}", first.text);
    let (outcome, _) = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            probe(
                &netns,
                "evil.test",
                "--attempts 1000 --duration 2 --interval 0.05",
            )
        });
        let until = Instant::now() + Duration::from_secs(5);
        while servers[0].seen().len() < 6 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        names.change(&[address(3)]);
        run.join().expect("the probe comes back")
    });
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert!(
        outcome.text.contains("to 127.0.0.3:8080"),
        "{}",
        outcome.text
    );
    assert!(
        kinds(&outcome).iter().all(|kind| kind == "http-5xx"),
        "{}",
        outcome.text
    );
    // A thousand addresses, none of which answers: a probe takes no longer for them.
    let crowd: Vec<_> = (0..100)
        .map(|last| IpAddr::V4(Ipv4Addr::new(127, 9, 9, last)))
        .collect();
    names.change(&crowd);
    let (outcome, elapsed) = probe(&netns, "evil.test", "--attempts 2");
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert!(elapsed < Duration::from_secs(6), "{elapsed:?}");
}
