//! How a run ends: by itself, by its deadline, by a signal, by a reader that does not read; and loops, by the state that they
//! wait for.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{at_work, minimal};
use crate::support::plugin::{Outcome, check_output, outcome};

#[test]
fn an_error_is_one_unknown_line() {
    let outcome = outcome(&mut minimal(&["--misbehave", "fail"]));
    assert_eq!(
        (outcome.code, outcome.text.as_str()),
        (Some(3), "COUNT UNKNOWN: cannot count: no fingers\n")
    );
}

#[test]
fn the_deadline_ends_a_run_with_what_it_has() {
    let outcome = outcome(&mut minimal(&["--to", "1000000", "--deadline", "300ms"]));
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.metric("reached").unwrap() >= 1.0, "{outcome:?}");
    assert!(
        outcome.text.ends_with("\nended early by its deadline\n"),
        "{outcome:?}"
    );
}

#[test]
fn a_check_that_hangs_is_ended_by_its_deadline_with_one_line() {
    let begun = Instant::now();
    let outcome = outcome(&mut minimal(&[
        "--misbehave",
        "hang",
        "--deadline",
        "500ms",
    ]));
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!((outcome.code, outcome.text.lines().count()), (Some(3), 1));
    assert!(
        outcome.text.starts_with("COUNT UNKNOWN: no result within"),
        "{outcome:?}"
    );
}

/// Starts it, waits until it has caught its signals, sends one and collects the result.
fn signalled(mut command: Command, signal: Signal) -> Outcome {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until_it_catches_signals(&mut child);
    kill_process(Pid::from_child(&child), signal).unwrap();
    check_output(&child.wait_with_output().unwrap(), &command)
}

fn wait_until_it_catches_signals(child: &mut Child) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        // SIGINT is signal 2 and SIGTERM 15: bits 1 and 14.
        if caught & (1 << 1) != 0 && caught & (1 << 14) != 0 {
            return;
        }
        assert!(
            Instant::now() < until && child.try_wait().unwrap().is_none(),
            "it never caught its signals"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_signal_ends_a_run_with_a_complete_report() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let outcome = signalled(minimal(&["--to", "1000000"]), signal);
        assert_eq!(outcome.code, Some(0));
        assert!(outcome.metric("reached").is_some(), "{outcome:?}");
        assert!(
            outcome
                .text
                .ends_with(&format!("\nended early by {name}\n")),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_signal_ends_each_plugins_loop_with_a_report() {
    for mut command in at_work() {
        command.args(["--forever", "--every", "1h"]);
        let outcome = signalled(command, Signal::TERM);
        assert!(outcome.code.is_some_and(|code| code <= 3), "{outcome:?}");
        let last = outcome.text.lines().last().unwrap();
        assert!(last.starts_with("ended by SIGTERM after "), "{outcome:?}");
    }
}

#[test]
fn a_check_that_does_not_heed_a_signal_is_ended_before_icinga_would_kill_it() {
    let begun = Instant::now();
    let outcome = signalled(minimal(&["--misbehave", "hang"]), Signal::TERM);
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(outcome.code, Some(3));
    assert!(
        outcome.text.starts_with("COUNT UNKNOWN: SIGTERM came"),
        "{outcome:?}"
    );
}

#[test]
fn a_reader_that_never_reads_does_not_hold_a_plugin_up_for_ever() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    fill(&writer);
    let mut command = minimal(&["-w", "1", "--deadline", "1s"]);
    let mut child = command.stdout(writer).spawn().unwrap();
    assert_eq!(
        child.wait().unwrap().code(),
        Some(1),
        "the result's own code"
    );
    drop(reader);
}

fn fill(pipe: &impl std::os::fd::AsFd) {
    let flags = rustix::fs::fcntl_getfl(pipe).unwrap();
    rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(pipe, &[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(pipe, flags).unwrap();
}

#[test]
fn until_runs_on_to_the_state_and_leaves_with_it() {
    let outcome = outcome(&mut minimal(&[
        "--until", "WARNING", "--every", "10ms", "-w", "1",
    ]));
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome
            .first_line()
            .starts_with("COUNT WARNING: counted 3 of 3|'reached'=3;1;"),
        "{outcome:?}"
    );
    assert!(
        outcome.text.contains("reached after 1 run in "),
        "{outcome:?}"
    );
}

#[test]
fn until_tells_each_change_with_its_time_and_sums_up_when_interrupted() {
    let mut command = minimal(&["--until", "critical", "--every", "20ms", "-v"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first dated line says that the first run is over.
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0];
    stdout.read_exact(&mut first).unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut text = String::from_utf8(first.to_vec()).unwrap();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    let lines: Vec<_> = text.lines().collect();
    let (time, line) = lines[0].split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{text}");
    assert_eq!(line, "COUNT OK: counted 3 of 3");
    assert!(lines[1].starts_with("COUNT OK: counted"), "{text}");
    assert!(
        lines.last().unwrap().starts_with("ended by SIGINT after "),
        "{text}"
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains("COUNT OK"))
            .count(),
        2,
        "no line without a change: {text}"
    );
}

#[test]
fn forever_with_json_is_a_document_a_line() {
    let outcome = outcome(&mut minimal(&[
        "--forever",
        "--every",
        "10ms",
        "--format",
        "json",
        "--deadline",
        "500ms",
    ]));
    assert_eq!(outcome.code, Some(0));
    let documents: Vec<serde_json::Value> = outcome
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(documents.len() >= 2, "{outcome:?}");
    assert!(
        documents
            .iter()
            .all(|document| document["plugin"] == "minimal_check")
    );
}
