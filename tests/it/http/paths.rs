//! Several paths to one server: which is taken when, and what is said of them.

mod addresses;
mod incident;
mod numbers;
mod redirects;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Act, FaultServer, GOOD, Outcome, always, every, outcome, page, plugin};
use crate::support::sockets::refusing;

/// The words of a probe of `service1.example`, which no resolver knows: each path has an address.
fn probe(arguments: &str) -> Outcome {
    let words = arguments.split(' ').filter(|word| !word.is_empty());
    outcome(
        plugin("check_http_retry")
            .args(["-H", "service1.example"])
            .args(words),
    )
}

fn good() -> FaultServer {
    always(page(GOOD, "hello\n"))
}

#[test]
fn each_round_takes_each_path_once_and_in_an_order_of_its_own() {
    let servers = [good(), good(), good()];
    let [a, b, c] = servers.each_ref().map(|server| server.address);
    let outcome = probe(&format!(
        "--via a={a} --via b={b} --via c={c} --attempts 40 --concurrency 4"
    ));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    let headline = outcome.headline();
    assert!(
        headline.ends_with(", 120 of 120 probes good over 3 paths"),
        "{headline}"
    );
    // The last sixteen digits of a request id count the probes.
    let mut path_of = BTreeMap::new();
    for (path, server) in servers.iter().enumerate() {
        let seen = server.seen();
        assert_eq!(seen.len(), 40);
        for request in seen {
            assert_eq!(request.header("host"), Some("service1.example"));
            let id = request.header("x-request-id").unwrap();
            let number = u64::from_str_radix(&id[16..], 16).unwrap();
            path_of.insert(number, path);
        }
    }
    let order: Vec<_> = path_of.into_values().collect();
    let rounds: BTreeSet<_> = order.chunks(3).collect();
    for round in &rounds {
        assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 3, "{round:?}");
    }
    assert!(rounds.len() > 3, "always the same order: {rounds:?}");
}

#[test]
fn numbers_of_probes_are_for_each_path_and_paces_for_all_together() {
    let (one, other) = (good(), good());
    for (pace, probes) in [
        ("", 20),
        ("--attempts 3", 6),
        ("--detect 20%", 28),
        ("--detect 20% --rate 1000/s --concurrency 8", 28),
    ] {
        let vias = format!("--via a={} --via b={}", one.address, other.address);
        let outcome = probe(&format!("{vias} {pace}"));
        assert_eq!(
            outcome.metric("attempts"),
            Some(f64::from(probes)),
            "{pace}"
        );
    }
    let (before, vias) = (
        one.seen().len(),
        format!("--via a={} --via b={}", one.address, other.address),
    );
    let outcome = probe(&format!("{vias} --duration 400ms --rate 50/s"));
    let sent = outcome.metric("attempts").unwrap();
    assert!((16.0..=21.0).contains(&sent), "{}", outcome.text);
    let over_one = one.seen().len() - before;
    assert!((8..=11).contains(&over_one), "{over_one}");
}

#[test]
fn the_first_line_says_which_path_fails_and_whether_chance_explains_it() {
    let (proxy0, proxy1, direct) = (good(), FaultServer::start(every(4)), good());
    let [a, b, c] = [&proxy0, &proxy1, &direct].map(|server| server.address);
    let vias = format!(
        "--via proxy0={a} --via proxy1={b} --via direct -I 127.0.0.1 -p {}",
        c.port()
    );
    let outcome = probe(&format!("{vias} --attempts 40 -v"));
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert_eq!(
        outcome.headline(),
        format!(
            "HTTP CRITICAL: HTTP/1.1 500 Internal Server Error - 10 of 40 via proxy1 ({b}), 0 of 40 via proxy0 and direct: \
             proxy1 intermittent, more than chance (p < 0.001)"
        )
    );
    for line in [
        format!(
            "[CRITICAL] proxy1 ({b}) fails now and then: 10 of 40 probes over it failed (25 %, 95 % interval 14.2-40.2 %): 10 http-5xx; over the others 0 of 80\n"
        ),
        "\nproxy1 against those that fail less: p < 0.001 (Fisher's exact test, ".to_owned(),
        " via proxy1\n".to_owned(),
    ] {
        assert!(outcome.text.contains(&line), "no {line}: {}", outcome.text);
    }
    let table: Vec<Vec<&str>> = outcome
        .text
        .lines()
        .skip_while(|line| !line.starts_with("path "))
        .take(4)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        table[2][..6],
        ["proxy1", &b.to_string(), "40", "10", "25", "%"]
    );
    assert!(table[2].ends_with(&["10", "http-5xx"]), "{table:?}");
    assert_eq!(table[3][..4], ["direct", "127.0.0.1", "40", "0"]);

    let document = probe(&format!("{vias} --attempts 40 --format json")).json();
    let details = &document["details"];
    let paths = details["paths"].as_array().unwrap();
    let short: Vec<Value> = paths
        .iter()
        .map(|path| {
            json!([
                path["name"],
                path["address"],
                path["attempts"],
                path["failed"]
            ])
        })
        .collect();
    assert_eq!(
        json!(short),
        json!([
            ["proxy0", a.to_string(), 40, 0],
            ["proxy1", b.to_string(), 40, 10],
            ["direct", "127.0.0.1", 40, 0],
        ])
    );
    let p = paths[1]["p_value"].as_f64().unwrap();
    assert!(p > 0.0 && p < 1e-4, "{details}");
    assert_eq!(details["comparison"][0]["worse"], json!(["proxy1"]));
    let failures = details["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 10);
    assert!(failures.iter().all(|failure| failure["path"] == "proxy1"));
}

#[test]
fn too_few_probes_are_said_to_be_and_how_many_would_do() {
    let (proxy0, proxy1) = (good(), FaultServer::start(every(4)));
    let vias = format!(
        "--via proxy0={} --via proxy1={}",
        proxy0.address, proxy1.address
    );
    let outcome = probe(&format!("{vias} --attempts 4"));
    let (_, verdict) = outcome.headline().split_once(" via proxy0: ").unwrap();
    let (start, number) = verdict.split_once("(p 1): ").unwrap();
    assert_eq!(start, "proxy1 intermittent, but it may be chance ");
    let enough: u32 = number.split(' ').next().unwrap().parse().unwrap();
    assert!((20..60).contains(&enough), "{verdict}");
    // Every fourth of them fails, neither more nor less: so that many tell for sure.
    let outcome = probe(&format!("{vias} --attempts {enough}"));
    let told = outcome
        .headline()
        .contains("intermittent, more than chance");
    assert!(told, "{}", outcome.text);
}

#[test]
fn a_dead_path_is_told_from_one_that_fails_now_and_then() {
    let (_nobody, dead) = refusing();
    let (flaky, fine) = (FaultServer::start(every(5)), good());
    let outcome = probe(&format!(
        "--via dead={dead} --via flaky={} --via fine={} --attempts 60 --format json",
        flaky.address, fine.address
    ));
    let document = outcome.json();
    let summary = document["summary"].as_str().unwrap();
    let verdict = "0 of 60 via fine: dead down, more than chance (p < 0.001); flaky intermittent, more than chance (p < 0.001)";
    assert!(summary.ends_with(verdict), "{summary}");
    let findings = document["findings"].as_array().unwrap();
    let causes: Vec<_> = findings.iter().map(|finding| &finding["cause"]).collect();
    assert_eq!(
        causes,
        ["intermittent-failure", "path-down", "path-intermittent"]
    );
    let down = findings[1]["text"].as_str().unwrap();
    assert!(
        down.contains(
            "is down: all 60 probes over it failed (60 refused), over the others 12 of 120"
        ),
        "{down}"
    );
    let verdicts: Vec<_> = document["details"]["paths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| &path["verdict"])
        .collect();
    assert_eq!(verdicts, ["down", "intermittent", "ok"]);
    // The dead one's failures have not pushed out the other's.
    let failures = document["details"]["failures"].as_array().unwrap();
    let of_flaky = failures.iter().filter(|f| f["path"] == "flaky").count();
    assert!(of_flaky >= 10, "{of_flaky}");

    let outcome = probe(&format!("--via one={dead} --attempts 3"));
    let end =
        format!(" 3 of 3 probes failed (100 %, 95 % interval 36.8-100 %) via one ({dead}), down");
    assert!(outcome.headline().ends_with(&end), "{}", outcome.text);

    let (_nobody, other) = refusing();
    let outcome = probe(&format!("--via one={dead} --via two={other} --attempts 5"));
    let end = format!("5 of 5 via one ({dead}) and two ({other}): both down");
    assert!(outcome.headline().ends_with(&end), "{}", outcome.text);
}

#[test]
fn a_share_of_failures_is_judged_for_each_path() {
    let servers = [FaultServer::start(every(10)), good(), good(), good()];
    let vias: Vec<_> = servers
        .iter()
        .enumerate()
        .map(|(at, server)| format!("--via p{at}={}", server.address))
        .collect();
    // 2 of 80 are 2.5 %, 2 of 20 are 10 %.
    for (limits, code) in [
        ("--failures-critical 5%", 2),
        ("--failures-warning 5% --failures-critical 20%", 1),
        ("--failures-critical 20%", 0),
        ("--failures-critical 1", 2),
    ] {
        let outcome = probe(&format!("{} --attempts 20 {limits}", vias.join(" ")));
        assert_eq!(outcome.code, Some(code), "{limits}: {}", outcome.text);
    }
}

#[test]
fn what_makes_no_sense_is_unknown_and_said() {
    let many: Vec<_> = (0..65).map(|n| format!("--via p{n}")).collect();
    for (arguments, words) in [
        ("--via =192.0.2.1", "a path has a name"),
        ("--via a=", "'' is no ADDRESS"),
        (
            "--via a=b:c:d:70000",
            "'b:c:d:70000' is no ADDRESS, nor ADDRESS:PORT",
        ),
        ("--via a=192.0.2.1:70000", "is no ADDRESS, nor ADDRESS:PORT"),
        ("--via a=192.0.2.1:0", "there is no port 0"),
        (
            "--via a=http://192.0.2.1/",
            "is no ADDRESS, nor ADDRESS:PORT",
        ),
        (
            "--via a=/run/web.sock",
            "a socket in the file system cannot be a path",
        ),
        ("--via a=::1 -4", "-4, -6 or --local-address do not allow"),
        (
            "--via a=127.0.0.1 -6",
            "-4, -6 or --local-address do not allow",
        ),
        (
            "--via a=::1 --local-address 127.0.0.1",
            "--local-address do not allow",
        ),
        (
            "--via a=127.0.0.1 --via a=127.0.0.2",
            "there is a path of this name already",
        ),
        (
            "--via a=127.0.0.1 -I /run/web.sock",
            "-I /run/web.sock is a socket",
        ),
        (
            "--all-addresses -I /run/web.sock",
            "-I /run/web.sock is a socket",
        ),
        ("--all-addresses -I 192.0.2.1", "192.0.2.1 is one address"),
        (
            "--all-addresses -x http://192.0.2.1:3128",
            "proxy 192.0.2.1:3128 looks up service1.example by itself",
        ),
        (
            "--all-addresses -x socks5h://192.0.2.1",
            "looks up service1.example by itself",
        ),
        ("--all-addresses --via a=127.0.0.1", "cannot stand with"),
        (&many.join(" "), "65 paths are more than the 64"),
    ] {
        let outcome = probe(arguments);
        assert_eq!(outcome.code, Some(3), "{arguments}: {}", outcome.text);
        assert!(
            outcome.text.contains(words),
            "{arguments}: {}",
            outcome.text
        );
        assert!(
            outcome.text.starts_with("HTTP UNKNOWN: "),
            "{}",
            outcome.text
        );
    }
    let outcome = outcome(plugin("check_http_retry").args(["--via", "a=127.0.0.1"]));
    assert!(
        outcome.text.contains("no server is named"),
        "{}",
        outcome.text
    );
}

#[test]
fn a_path_may_be_a_name_an_ipv6_address_or_behind_a_proxy() {
    use crate::support::proxy::{Speech, TestProxy};
    let listener = std::net::TcpListener::bind(("::1", 0)).unwrap();
    let six = FaultServer::on(listener, None, every(99));
    let four = good();
    let outcome = probe(&format!(
        "--via four=localhost:{} --via six=[::1]:{} --attempts 2 -v",
        four.port(),
        six.port()
    ));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert_eq!((four.seen().len(), six.seen().len()), (2, 2));
    assert_eq!(six.seen()[0].header("host"), Some("service1.example"));
    let row = format!("\nsix   [::1]:{} ", six.port());
    assert!(outcome.text.contains(&row), "{}", outcome.text);

    // A proxy is asked for each address, as it is for the one of -I.
    let server = good();
    let proxy = TestProxy::start(Speech::Socks5(None), server.address);
    let outcome = probe(&format!(
        "-x socks5h://{} --via one=192.0.2.1 --via two=192.0.2.2:81 --attempts 1",
        proxy.address
    ));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    let mut asked = proxy.asked();
    asked.sort();
    assert_eq!(asked, ["192.0.2.1 80", "192.0.2.2 81"]);
}

#[test]
fn a_run_that_is_cut_short_says_what_it_knows_of_each_path() {
    let fine = good();
    let stalled = FaultServer::start(|_| Act::SendAndStall(Vec::new()));
    let outcome = probe(&format!(
        "--via fine={} --via stalled={} --attempts 100 -t 300ms --deadline 2s",
        fine.address, stalled.address
    ));
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let headline = outcome.headline();
    assert!(
        headline.contains("0 of ") && headline.contains(" via fine: stalled down"),
        "{headline}"
    );
    assert!(
        headline.ends_with(", ended early by its deadline"),
        "{headline}"
    );
    let (over_fine, failed) = (fine.seen().len(), outcome.metric("failed_stalled").unwrap());
    assert!(over_fine <= 12 && failed >= 4.0, "{over_fine} {failed}");
}
