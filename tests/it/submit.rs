//! `--submit` against a real Icinga 2: the shipped passive service, a user with the rights that the docs name, and
//! everything that can go wrong on the way.

mod examples;
mod lab;
mod refusals;

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::fault_server::{Act, FaultServer, page};
use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, outcome, plugin};
use lab::{Lab, SERVICE, Site, numbers, until};

#[test]
fn a_single_result_arrives_with_all_that_belongs_to_it() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    let site = Site::start(&netns, |number| page(&format!("500 n{number}"), "oops|x=1"));
    let outcome = lab.submitted(
        lab.plugin(&site, &["--attempts", "3", "-v"])
            .arg("--submit-ttl=90"),
    );
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(
        outcome.text.contains(&format!(
            "\nsubmitted to https://icinga.test:5665 as {SERVICE}: 1 result\n"
        )),
        "{outcome:?}"
    );
    let attributes = lab.icinga.service(SERVICE);
    let result = &attributes["last_check_result"];
    assert_eq!(attributes["state"], 2, "{attributes}");
    assert_eq!(attributes["state_type"], 1, "{attributes}");
    let output = result["output"].as_str().expect("text");
    assert_eq!(output.lines().next(), Some(outcome.headline()), "{output}");
    assert!(
        output.contains("\n[CRITICAL] 3 of 3 probes failed"),
        "{output}"
    );
    assert!(
        !output.contains('|') && !output.contains("submitted"),
        "{output}"
    );
    let host = rustix::system::uname();
    assert_eq!(
        result["check_source"],
        host.nodename().to_string_lossy().as_ref()
    );
    assert_eq!(result["ttl"], 90.0, "{result}");
    assert_eq!(result["active"], false);
    let took =
        result["execution_end"].as_f64().unwrap() - result["execution_start"].as_f64().unwrap();
    assert!(took > 0.0 && took < 30.0, "{result}");

    let perfdata = lab.icinga.perfdata(SERVICE);
    assert_eq!(perfdata["failed"]["value"], 3, "{perfdata:?}");
    assert_eq!(perfdata["time"]["unit"], "seconds", "{perfdata:?}");
    let stored = result["performance_data"].as_array().expect("a list");
    let printed = outcome
        .first_line()
        .split_once('|')
        .expect("performance data")
        .1;
    let stored: Vec<_> = stored.iter().filter_map(|item| item.as_str()).collect();
    assert_eq!(stored.join(" "), printed.replace('\'', ""));
    assert!(lab.waiting().is_empty());
}

#[test]
fn every_plugin_submits() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    for (name, words, start) in [
        ("check_port_exhaustion", &[][..], "PORTS OK: "),
        (
            "check_nginx_upstream_bind",
            &["-f", "/nowhere"],
            "NGINX UNKNOWN: ",
        ),
    ] {
        let outcome = lab.submitted(lab.submitting(name).args(words));
        assert!(outcome.text.starts_with(start), "{outcome:?}");
        let attributes = lab.icinga.service(SERVICE);
        let output = attributes["last_check_result"]["output"].as_str();
        assert_eq!(
            output.and_then(|text| text.lines().next()),
            Some(outcome.headline())
        );
    }
}

#[test]
fn the_first_failing_probe_of_a_round_is_there_long_before_its_end() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    let site = Site::start(&netns, |number| match number {
        3 => page("500 Oops", ""),
        _ => page("200 OK", ""),
    });
    let mut loops = lab.watch(
        &site,
        &["--attempts", "30", "--interval", "1s", "--forever"],
    );
    let attributes = lab.icinga.wait_for(SERVICE, "critical", |service| {
        service["last_check_result"].is_object() && service["state"] == 2
    });
    assert!(site.seen() < 30, "the round was over");
    let output = attributes["last_check_result"]["output"].as_str().unwrap();
    assert!(
        output.starts_with("HTTP CRITICAL: HTTP/1.1 500 Oops - ")
            && output.contains(" - 1 of 4 probes failed so far, the run goes on\n")
            && output.contains(" http-5xx HTTP/1.1 500 Oops - from 127.0.0.1:"),
        "{output}"
    );
    assert_eq!(
        attributes["last_check_result"]["performance_data"],
        json!([])
    );
    let outcome = loops.end(Signal::TERM);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    // The round that the signal cut short is a result, too.
    lab.send_rest();
    let written = lab.written();
    let cut_short = |line: &String| line.contains(", ended early by SIGTERM");
    assert!(written.iter().any(cut_short), "{written:?}");
}

#[test]
fn nothing_is_lost_or_repeated_over_a_restart_of_icinga() {
    let netns = Netns::new("submit");
    let mut lab = Lab::start(&netns);
    let site = Site::numbered(&netns);
    let mut loops = lab.watch(&site, &["--attempts", "1", "--forever", "--every", "50ms"]);
    until("results", || lab.latest() > 20);
    lab.shut_down();
    let before = site.seen();
    until("more", || site.seen() > before + 20);
    lab.icinga.boot();
    let (outcome, _) = end_and_compare(lab, &site, &mut loops);
    assert!(
        outcome
            .text
            .contains(" not submitted to https://icinga.test:5665 as web!watched-site: ")
            && outcome
                .text
                .contains(" submitted to https://icinga.test:5665 as web!watched-site again: "),
        "{outcome:?}"
    );
}

#[test]
fn nothing_is_lost_or_repeated_over_a_cut_network() {
    let (near, far) = (Netns::new("submit"), Netns::new("submit"));
    near.link("192.0.2.2/24", &far, "192.0.2.1/24");
    let lab = Lab::start_at(&far, "192.0.2.1".parse().unwrap()).seen_from(&near);
    let site = Site::numbered(&near);
    let mut loops = lab.watch(&site, &["--attempts", "1", "--forever", "--every", "50ms"]);
    until("results", || lab.latest() > 20);
    // Requests still get there, and nothing comes back: neither side is told.
    far.ip("route add blackhole 192.0.2.2/32");
    let before = site.seen();
    // For longer than a request may take.
    until("more", || site.seen() > before + 250);
    far.ip("route del blackhole 192.0.2.2/32");
    end_and_compare(lab, &site, &mut loops);
}

#[test]
fn a_result_whose_connection_broke_is_not_sent_a_second_time() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    let proxy = lab.cutting_proxy(5666);
    let lab = lab.through(5666);
    let site = Site::numbered(&netns);
    let mut loops = lab.watch(&site, &["--attempts", "1", "--forever", "--every", "100ms"]);
    until("results", || lab.latest() > 5);
    for _ in 0..3 {
        proxy.cut(1);
        until("a cut", || proxy.left() == 0);
        let before = lab.latest();
        until("going on", || lab.latest() > before + 5);
    }
    end_and_compare(lab, &site, &mut loops);
}

#[test]
fn a_plugin_that_is_killed_leaves_its_results_to_the_next_one() {
    let netns = Netns::new("submit");
    let mut lab = Lab::start(&netns);
    let site = Site::numbered(&netns);
    let words = ["--attempts", "1", "--forever", "--every", "50ms"];
    // Killed while it is sending, too: what was under way may have arrived.
    for _ in 0..3 {
        let mut loops = lab.watch(&site, &words);
        let before = site.seen();
        until("more", || site.seen() > before + 10);
        loops.kill();
    }
    lab.shut_down();
    let mut loops = lab.watch(&site, &words);
    let before = site.seen();
    until("more", || site.seen() > before + 10);
    loops.kill();
    assert!(lab.waiting().len() > 5);
    lab.icinga.boot();
    let mut loops = lab.watch(&site, &words);
    until("catching up", || lab.latest() + 5 > site.seen());
    loops.end(Signal::TERM);
    lab.send_rest();
    let numbers = numbers(&lab.written());
    assert!(numbers.is_sorted_by(|one, two| one < two), "{numbers:?}");
    // A request that was under way when its plugin ended is no result.
    let (count, seen) = (numbers.len(), site.seen());
    assert!(count + 5 >= seen, "{count} of {seen}: {numbers:?}");
}

#[test]
fn two_with_one_queue_deliver_each_result_once() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    let site = Site::numbered(&netns);
    let words = ["--attempts", "1", "--forever", "--every", "100ms"];
    let mut first = lab.watch(&site, &words);
    until("results", || lab.latest() > 0);
    let mut second = lab.watch(&site, &words);
    let before = lab.latest();
    until("results of both", || lab.latest() > before + 20);
    let outcome = first.end(Signal::TERM);
    assert!(!outcome.text.contains("another process"), "{outcome:?}");
    let before = lab.latest();
    until("the other one going on", || lab.latest() > before + 10);
    let outcome = second.end(Signal::TERM);
    assert!(
        outcome.text.contains(" another process sends what is in "),
        "{outcome:?}"
    );
    lab.send_rest();
    // Two that measure at the same time may overtake each other on their way into the queue.
    let mut numbers = numbers(&lab.written());
    let (count, seen) = (numbers.len(), site.seen());
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "{numbers:?}");
    assert!(count + 2 >= seen, "{count} of {seen}: {numbers:?}");
}

#[test]
fn results_that_waited_follow_an_own_check_of_icinga() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    let site = Site::numbered(&netns);
    let proxy = lab.cutting_proxy(5666);
    let lab = lab.through(5666);
    let mut loops = lab.watch(&site, &["--attempts", "1", "--forever", "--every", "200ms"]);
    until("results", || lab.latest() > 3);
    proxy.cut(u32::MAX);
    let before = site.seen();
    until("more", || site.seen() > before + 15);
    // It was silent for too long, as far as Icinga knows.
    let attributes = lab.icinga.check(SERVICE);
    assert_eq!(attributes["state"], 3, "{attributes}");
    proxy.cut(0);
    let (_, written) = end_and_compare(lab, &site, &mut loops);
    let late = written.iter().filter(|line| line.contains("(measured at "));
    assert!(late.count() > 5, "{written:?}");
}

#[test]
fn a_loop_ends_in_time_with_an_icinga_that_is_silent_and_leaves_the_rest_in_the_queue() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    let site = Site::numbered(&netns);
    // Takes connections and says nothing.
    let silent =
        netns.within(|| std::net::TcpListener::bind(("127.0.0.1", 5667)).expect("a free port"));
    let lab = lab.through(5667);
    let mut loops = lab.watch(&site, &["--attempts", "1", "--forever", "--every", "50ms"]);
    // The loop goes on whatever becomes of its results.
    until("rounds", || site.seen() > 100);
    let begun = std::time::Instant::now();
    let outcome = loops.end(Signal::TERM);
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        outcome
            .text
            .contains("\n[UNKNOWN] not submitted to https://icinga.test:5667 as web!watched-site"),
        "{outcome:?}"
    );
    assert!(lab.waiting().len() >= 100, "{:?}", lab.waiting());
    drop(silent);
}

#[test]
fn a_round_that_was_cut_off_before_it_knew_anything_is_no_result() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    // Nobody takes results there: they would wait.
    let lab = lab.through(5667);
    let listener = netns.within(|| TcpListener::bind(("127.0.0.1", 8081)).expect("a free port"));
    let server = FaultServer::on(listener, None, |_| Act::SendAndStall(Vec::new()));
    let mut command = lab.submitting("check_http_retry");
    let line = "-I 127.0.0.1 -p 8081 -t 30 --attempts 1 --forever";
    command.args(line.split(' ')).stdout(Stdio::piped());
    let child = command.spawn().expect("a plugin");
    until("a request", || !server.seen().is_empty());
    let pid = rustix::process::Pid::from_raw(child.id().try_into().expect("a pid"));
    rustix::process::kill_process(pid.expect("a pid"), Signal::TERM).expect("it runs");
    let output = child.wait_with_output().expect("an end");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("no probe came to an end"), "{text}");
    assert_eq!(lab.waiting(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn what_never_comes_out_of_a_file_does_not_hold_a_check_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fifo = folder.path().join("password");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a FIFO");
    let mut command = plugin("check_http_retry");
    let line = "-I 127.0.0.1 -p 1 --attempts 1 --deadline 1 --submit https://icinga.test --submit-service a!b \
                --submit-user u --submit-password-file";
    let outcome = outcome(command.args(line.split_whitespace()).arg(&fifo));
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    assert_eq!(outcome.text.lines().count(), 1, "{}", outcome.text);
}

/// What a slow start takes is not there for measuring: the result is out by the deadline all the same.
#[test]
fn a_password_that_comes_late_costs_no_result() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fifo = folder.path().join("password");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a FIFO");
    let mut command = plugin("check_http_retry");
    // Of these 12 s the last one is for the report.
    let line = "-I 127.0.0.1 -p 1 --duration 60s --interval 0.1 --deadline 12 --submit https://icinga.test:5665 \
                --submit-address 127.0.0.1 --submit-service a!b --submit-user u \
                --submit-ca /etc/ssl/certs/ca-certificates.crt --submit-password-file";
    command
        .args(line.split_whitespace())
        .arg(&fifo)
        .env("NAGIOS_PLUGIN_STATE_DIRECTORY", folder.path());
    let outcome = std::thread::scope(|scope| {
        let run = scope.spawn(|| outcome(&mut command));
        std::thread::sleep(Duration::from_secs(2));
        std::fs::write(&fifo, "hush\n").expect("somebody reads it");
        run.join().expect("it ends")
    });
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert!(
        outcome.headline().contains("ended early by its deadline"),
        "{}",
        outcome.text
    );
}

#[test]
fn an_address_stands_for_a_name_alone() {
    let mut command = plugin("check_http_retry");
    let line = "-I 127.0.0.1 -p 1 --submit https://127.0.0.9:5665 --submit-address 127.0.0.1 --submit-service a!b \
                --submit-user u";
    let command = command.env("PROXY_CHECKS_SUBMIT_PASSWORD", "hush");
    let outcome = outcome(command.args(line.split_whitespace()));
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    assert!(
        outcome
            .text
            .contains("the URL of --submit has an address already"),
        "{}",
        outcome.text
    );
}

/// Ends a loop once it is up to date, and checks that Icinga processed each of its results once and in order. Returns
/// what the loop said and what Icinga wrote down.
fn end_and_compare(lab: Lab, site: &Site, loops: &mut lab::Loop) -> (Outcome, Vec<String>) {
    until("catching up", || lab.latest() + 5 > site.seen());
    let outcome = loops.end(Signal::TERM);
    lab.send_rest();
    assert!(lab.waiting().is_empty(), "{outcome:?}");
    let written = lab.written();
    let numbers = numbers(&written);
    // A request that was under way when the signal came is no result.
    let (count, seen) = (numbers.len(), site.seen());
    assert!(count + 1 >= seen, "{count} of {seen}: {numbers:?}");
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    (outcome, written)
}
