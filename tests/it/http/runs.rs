//! The loop: pace, limits, endings, and what this host runs out of.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Condvar;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use super::{
    Act, BAD, FaultServer, GOOD, always, command, every, outcome, page, page_with, plugin, run,
};
use crate::support::measured::measured;
use crate::support::netns::Netns;
use crate::support::plugin::check_output;
use crate::support::raw_server::RawServer;

#[test]
fn good_probes_are_counted_behind_the_words_of_check_http() {
    let server = always(page(GOOD, "hello world\n"));
    let outcome = run(&server, "");
    assert_eq!(outcome.code, Some(0));
    let line = outcome.headline();
    assert!(
        line.starts_with("HTTP OK: HTTP/1.1 200 OK - 85 bytes in 0."),
        "{line}"
    );
    assert!(
        line.ends_with(" second response time, 10 of 10 probes good"),
        "{line}"
    );
    assert_eq!(outcome.metric("size"), Some(85.0));
    assert_eq!(outcome.metric("attempts"), Some(10.0));
    assert_eq!(outcome.metric("failed"), Some(0.0));
    assert_eq!(server.seen().len(), 10);
}

#[test]
fn concurrent_probes_are_in_flight_at_the_same_time() {
    let flying = std::sync::Arc::new((Mutex::new(0), Condvar::new()));
    let server = FaultServer::start(move |_| {
        let (count, changed) = &*flying;
        let mut count = count.lock().unwrap();
        *count += 1;
        changed.notify_all();
        let limit = Duration::from_secs(5);
        let (count, late) = changed
            .wait_timeout_while(count, limit, |count| *count < 6)
            .unwrap();
        drop(count);
        Act::Send(page(if late.timed_out() { BAD } else { GOOD }, ""))
    });
    let outcome = run(&server, "--attempts 6 --concurrency 6");
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
}

#[test]
fn the_pace_is_kept() {
    let server = always(page(GOOD, ""));
    let began = Instant::now();
    let outcome = run(&server, "--attempts 5 --interval 100ms");
    assert!(
        began.elapsed() >= Duration::from_millis(400),
        "{}",
        outcome.text
    );
    let outcome = run(&server, "--duration 0.5 --rate 20/s");
    let attempts = outcome.metric("attempts").unwrap();
    assert!((6.0..=10.0).contains(&attempts), "{}", outcome.text);
    assert_eq!(run(&server, "--detect 10%").metric("attempts"), Some(29.0));
}

#[test]
fn failure_limits_decide_where_they_are_given() {
    let server = || FaultServer::start(every(10));
    for (limits, code, words) in [
        ("--failures-critical 2", 0, "HTTP OK: HTTP/1.1 200 OK - "),
        ("--failures-critical 1", 2, "HTTP CRITICAL: HTTP/1.1 500 "),
        (
            "--failures-critical 20% --failures-warning 5%",
            1,
            "HTTP WARNING: HTTP/1.1 500 ",
        ),
        ("--failures-warning 10%", 0, "HTTP OK: HTTP/1.1 200 OK - "),
    ] {
        let outcome = run(&server(), &format!("--attempts 20 {limits}"));
        assert_eq!(outcome.code, Some(code), "{limits}: {}", outcome.text);
        assert!(
            outcome.text.starts_with(words),
            "{limits}: {}",
            outcome.text
        );
        assert!(
            outcome.headline().contains("2 of 20 probes failed"),
            "{limits}: {}",
            outcome.text
        );
    }
    // What is tolerated is not what the rest speaks of, either.
    let outcome = run(&server(), "--attempts 20 --failures-critical 2 -B");
    assert!(outcome.text.contains("\nhello world\n"), "{}", outcome.text);
    let size = outcome.metric("size").unwrap();
    let words = format!("HTTP OK: HTTP/1.1 200 OK - {size} bytes");
    assert!(outcome.text.starts_with(&words), "{}", outcome.text);
    let outcome = run(
        &server(),
        "--attempts 20 --failures-warning 5% --failures-critical 3",
    );
    assert!(
        outcome.first_line().contains(" 'failed'=2;1;3;0;20 "),
        "{}",
        outcome.text
    );
}

#[test]
fn a_percentile_is_judged_instead_of_each_probe() {
    let server = FaultServer::start(|seen| {
        let pause = Duration::from_millis(if seen.number == 3 { 30 } else { 0 });
        Act::Trickle(page(GOOD, ""), pause / 90)
    });
    let each = run(&server, "--attempts 10 -c 0.000001");
    assert_eq!(each.code, Some(2), "{}", each.text);
    let median = run(&server, "--attempts 10 -c 5 --percentile 50");
    assert_eq!(median.code, Some(0), "{}", median.text);
    let slow = run(
        &server,
        "--attempts 10 -w 0.000001 --percentile 95 --format json",
    );
    let json = slow.json();
    assert_eq!(slow.code, Some(1), "{json}");
    assert_eq!(json["details"]["failed"], 0, "{json}");
    assert_eq!(json["findings"][0]["cause"], "slow", "{json}");
}

#[test]
fn sigterm_in_the_middle_gives_the_whole_report_of_what_was_measured() {
    // The fifth request is never answered: the plugin is in the middle of it.
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Mutex::new(tell);
    let server = FaultServer::start(move |seen| {
        if seen.number < 4 {
            return every(4)(seen);
        }
        tell.lock().unwrap().send(()).unwrap();
        Act::SendAndStall(Vec::new())
    });
    let mut command = command(&server, "--attempts 100 -t 30");
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    told.recv_timeout(Duration::from_secs(10)).unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let outcome = check_output(&child.wait_with_output().unwrap(), &command);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let line = outcome.headline();
    assert!(line.contains("1 of 4 probes failed"), "{line}");
    assert!(
        line.ends_with("intermittent, ended early by SIGTERM"),
        "{line}"
    );
    assert_eq!(outcome.metric("failed"), Some(1.0));
}

#[test]
fn the_deadline_ends_a_long_run_and_a_probe_it_cuts_off_is_no_failure() {
    let server = FaultServer::start(|seen| match seen.number {
        0..3 => Act::Send(page(GOOD, "")),
        _ => Act::SendAndStall(Vec::new()),
    });
    let began = Instant::now();
    let outcome = run(&server, "--attempts 100 --deadline 1 -t 30");
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(
        outcome
            .headline()
            .ends_with("3 of 3 probes good, ended early by its deadline"),
        "{}",
        outcome.text
    );
    let nothing = run(&server, "--deadline 0.5 -t 30");
    assert_eq!(nothing.code, Some(3), "{}", nothing.text);
    assert!(
        nothing
            .text
            .starts_with("HTTP UNKNOWN: no probe came to an end before its deadline"),
        "{}",
        nothing.text
    );
}

#[test]
fn a_host_out_of_client_ports_is_unknown_and_says_so() {
    let ns = Netns::new("ports");
    ns.set("ipv4/ip_local_port_range", "40000 40003");
    let listener = ns.within(|| TcpListener::bind(("127.0.0.1", 8080)).unwrap());
    // Connections that stay open take the ports.
    let server = FaultServer::on(listener, None, |seen| match seen.number {
        0 | 1 => Act::Send(page(GOOD, "")),
        _ => Act::SendAndStall(Vec::new()),
    });
    let mut command = ns.command(plugin("check_http_retry").get_program());
    command.args("-I 127.0.0.1 -p 8080 --attempts 20 --concurrency 8 -t 5".split(' '));
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    let line = outcome.headline();
    assert!(line.contains("Cannot assign requested address"), "{line}");
    assert!(line.contains("this host has no client port"), "{line}");
    assert!(
        outcome.text.contains("check_port_exhaustion"),
        "{}",
        outcome.text
    );
    drop(server);
}

#[test]
fn a_host_out_of_file_descriptors_is_unknown_and_says_so() {
    let server = FaultServer::start(|_| Act::SendAndStall(Vec::new()));
    let mut command = command(&server, "--attempts 50 --concurrency 50 -t 5");
    // SAFETY: setrlimit is async-signal-safe and touches nothing of the parent.
    unsafe {
        command.pre_exec(|| {
            let limit = rustix::process::Rlimit {
                current: Some(24),
                maximum: Some(24),
            };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).map_err(Into::into)
        });
    }
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    assert!(
        outcome.headline().contains("no file descriptor left"),
        "{}",
        outcome.text
    );
}

#[test]
fn a_long_run_takes_no_more_memory_than_a_short_one() {
    let server = FaultServer::start(every(2));
    let mut command = command(&server, "--attempts 400 --concurrency 4 --format json");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let details = &json["details"];
    let failed = details["failed"].as_u64().unwrap();
    assert!(failed > 100, "{failed}");
    assert_eq!(details["failures"].as_array().unwrap().len(), 100);
    assert_eq!(details["failures_left_out"], failed - 100);
}

#[test]
fn until_ends_with_the_failing_probe_and_what_the_server_sent() {
    let server = FaultServer::start(|seen| {
        let bad = seen.number == 7;
        let headers = "X-Backend: intra1|x=1\r\n";
        Act::Send(page_with(
            if bad { BAD } else { GOOD },
            headers,
            "a page\nof two lines",
        ))
    });
    let outcome = run(&server, "--attempts 3 --until critical --every 10ms");
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let lines: Vec<_> = outcome.text.lines().collect();
    assert!(
        lines[0].contains(" HTTP OK: HTTP/1.1 200 OK"),
        "one dated line for the change: {}",
        outcome.text
    );
    assert!(
        lines[1].starts_with("HTTP CRITICAL: HTTP/1.1 500"),
        "{}",
        outcome.text
    );
    let failed = &server.seen()[7];
    let id = failed.header("x-request-id").unwrap();
    for words in [
        format!("from {} to {}", failed.peer, server.address),
        format!("request id {id}"),
        "first_byte ".to_owned(),
    ] {
        assert!(
            outcome.text.contains(&words),
            "no {words}: {}",
            outcome.text
        );
    }
    let from = lines
        .iter()
        .position(|line| *line == "< HTTP/1.1 500 Internal Server Error")
        .unwrap();
    assert!(
        lines[from..].contains(&"< X-Backend: intra1!x=1"),
        "{}",
        outcome.text
    );
    assert!(
        lines[..lines.len() - 2].ends_with(&["< a page", "< of two lines"]),
        "{}",
        outcome.text
    );
    assert!(
        lines[lines.len() - 2].starts_with("last hour: 1 of 9 probes failed (11.1 %")
            && lines[lines.len() - 1].starts_with("reached after 3 runs"),
        "{}",
        outcome.text
    );
}

#[test]
fn until_names_the_path_of_the_failing_probe_that_it_shows() {
    let good = always(page(GOOD, ""));
    let bad = always(page(BAD, "oops"));
    let via = format!(
        "--via one=127.0.0.1:{} --via two=127.0.0.1:{}",
        good.port(),
        bad.port()
    );
    let outcome = run(&good, &format!("{via} --attempts 2 --until critical"));
    let lines: Vec<_> = outcome.text.lines().collect();
    let reply = lines
        .iter()
        .position(|line| line.starts_with("< HTTP/1.1 500"));
    let shown = lines[reply.unwrap() - 1];
    assert!(
        shown.contains(" http-5xx ") && shown.ends_with(" via two"),
        "{}",
        outcome.text
    );
}

#[test]
fn until_shows_nothing_of_a_server_that_sent_nothing() {
    let server = FaultServer::start(|_| Act::SendAndReset(Vec::new()));
    let outcome = run(&server, "--attempts 1 --until critical");
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let shown = outcome.text.lines().filter(|line| line.starts_with('<'));
    assert_eq!(shown.count(), 0, "{}", outcome.text);
}

#[test]
fn ten_times_the_probes_take_no_more_memory() {
    let server = FaultServer::start(every(2));
    let peak = |attempts: u32| {
        let arguments = format!("--duration 60 --attempts {attempts} --concurrency 4 -s hello");
        let run = measured(&command(&server, &arguments));
        assert_eq!(run.outcome.code, Some(2), "{}", run.outcome.text);
        run.peak
    };
    let (few, many) = (peak(500), peak(5000));
    assert_eq!(server.seen().len(), 5500);
    assert!(few > 0 && many < few + 1024, "{few} kB, then {many} kB");
}

#[test]
fn a_loop_without_an_end_takes_no_more_memory_with_time() {
    let server = FaultServer::start(every(3));
    let mut command = command(
        &server,
        "--forever --attempts 200 --concurrency 4 --every 0 --format json",
    );
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let memory = || {
        let text = std::fs::read_to_string(&status).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap()
            .to_owned();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let mut documents =
        std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    for _ in 0..5 {
        documents.next().unwrap().unwrap();
    }
    let early = memory();
    for _ in 0..20 {
        documents.next().unwrap().unwrap();
    }
    let late = memory();
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    documents.for_each(drop);
    child.wait().unwrap();
    assert!(
        late < early + 2048,
        "{early} kB after 1000 probes, {late} kB after 5000"
    );
}

#[test]
fn a_terminal_sees_a_live_line_that_counts_on() {
    let server =
        FaultServer::start(|seen| Act::Send(page(if seen.number == 5 { BAD } else { GOOD }, "")));
    let probe = command(&server, "--attempts 2 --until critical --every 10ms");
    let words: Vec<_> = [probe.get_program()]
        .into_iter()
        .chain(probe.get_args())
        .collect();
    let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
    // script, of Debian's essential bsdutils, gives it a terminal.
    let mut terminal = std::process::Command::new("script");
    terminal
        .args(["-qec", &words.join(" "), "/dev/null"])
        .stdin(Stdio::null());
    let output = terminal.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for count in ["2 probes, ", "4 probes, "] {
        assert!(text.contains(count), "{text:?}");
    }
    assert!(text.contains("/s, 0 failed, last: 200"), "{text:?}");
    assert_eq!(output.status.code(), Some(2), "{text:?}");
}

#[test]
fn a_connection_that_is_closed_at_once_is_no_time_out_however_many_there_are() {
    let server = RawServer::start(|_, _| ());
    let port = server.address.port();
    let words =
        format!("-I 127.0.0.1 -p {port} -t 5 --attempts 1200 --concurrency 400 --format json");
    let json = outcome(plugin("check_http_retry").args(words.split(' '))).json();
    let kinds = json["details"]["kinds"].as_object().unwrap();
    let of = |kind: &str| kinds.get(kind).and_then(Value::as_u64).unwrap_or(0);
    assert_eq!(of("closed") + of("reset"), 1200, "{kinds:?}");
}
