//! Calls that do less than they were asked for, and a clock that is moved: between two runs, and within one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::fault_server::{Act, FaultServer, page, page_with};
use crate::support::growing_log::GrowingLog;
use crate::support::measured::{assert_clean, in_full, tell};
use crate::support::plugin::{Outcome, outcome, plugin};
use crate::support::shim::Shim;

/// Hours, and no whole quarters of an hour, which would be those of a log from another time zone.
const FAR: i64 = 5 * (3600 + 150);

fn rounds() -> u64 {
    if in_full() { 200 } else { 12 }
}

fn http(server: &FaultServer, folder: &tempfile::TempDir) -> Command {
    let mut command = plugin("check_http_retry");
    let at = |name: &str| folder.path().join(name);
    command
        .args(["-I", "127.0.0.1", "-p", &server.port(), "-v"])
        .args(["--attempts", "3", "--journal"])
        .arg(at("journal"))
        .arg("--cookie-jar")
        .arg(at("cookies"))
        .arg("--evidence")
        .arg(at("evidence"));
    command
}

fn failing() -> FaultServer {
    FaultServer::start(|seen| {
        let cookie = format!("Set-Cookie: n={}; Max-Age=600\r\n", seen.number);
        Act::Send(page_with(
            "500 Internal Server Error",
            &cookie,
            &"x".repeat(3000),
        ))
    })
}

fn assert_whole(folder: &tempfile::TempDir) {
    let journal = fs::read_to_string(folder.path().join("journal")).expect("a journal");
    assert!(!journal.is_empty());
    for line in journal.lines() {
        let record = serde_json::from_str::<serde_json::Value>(line);
        assert!(record.is_ok(), "{line:?} in the journal");
    }
    let mut notes = 0;
    for entry in fs::read_dir(folder.path().join("evidence"))
        .expect("a folder")
        .flatten()
    {
        if let Ok(text) = fs::read_to_string(entry.path().join("failed.har")) {
            let har = serde_json::from_str::<serde_json::Value>(&text);
            assert!(har.is_ok(), "{}", entry.path().display());
            notes += 1;
        }
    }
    assert!(notes > 0);
}

#[test]
fn files_that_are_read_and_written_a_few_bytes_at_a_time_are_the_same_files() {
    let shim = Shim::new();
    let server = failing();
    let mut changes = 0;
    for row in 1..=rounds() {
        let mut log = GrowingLog::new();
        let mut count = 0;
        for step in 0..4 {
            log.binds(40, 60);
            count += 40;
            if step == 2 {
                log.rename("error.log.1");
                log.binds(3, 30);
                count += 3;
            }
            let found = outcome(shim.shortened(&mut log.check(), row * 4 + step));
            changes += shim.changes();
            assert_eq!(
                found.metric("count"),
                Some(f64::from(count)),
                "{row}: {}",
                found.text
            );
            assert!(!found.text.contains("damaged"), "{}", found.text);
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        for _ in 0..2 {
            let found = outcome(shim.shortened(&mut http(&server, &folder), row));
            changes += shim.changes();
            assert_clean(&found, "short");
            assert_eq!(found.code, Some(2), "{row}: {}", found.text);
            assert!(!found.text.contains("journal"), "{row}: {}", found.text);
        }
        assert_whole(&folder);
        let cookies = fs::read_to_string(folder.path().join("cookies")).expect("cookies");
        assert!(
            cookies.trim_end().ends_with("\tn\t5") || row > 1,
            "{cookies}"
        );
        let state = folder.path().join("ports");
        for _ in 0..2 {
            let mut ports = plugin("check_port_exhaustion");
            ports.arg("--state-file").arg(&state);
            let found = outcome(shim.shortened(&mut ports, row));
            changes += shim.changes();
            assert!(matches!(found.code, Some(0..=2)), "{row}: {}", found.text);
            let bad = ["damaged", "no state"]
                .iter()
                .any(|word| found.text.contains(word));
            assert!(!bad, "{row}: {}", found.text);
        }
    }
    tell(&format!(
        "{changes} reads and writes were cut short in {} rounds",
        rounds()
    ));
    assert!(changes > 500, "{changes}");
}

#[test]
fn a_host_whose_clock_is_moved_by_hours_and_back_counts_each_new_line_once() {
    let shim = Shim::new();
    for far in [FAR, -FAR] {
        let mut log = GrowingLog::new();
        let looked = |log: &mut GrowingLog, lines: usize, off: i64, right: f64| {
            // nginx and the check have one clock.
            log.binds(lines, 30 - off);
            for _ in 0..2 {
                let found = outcome(shim.moved(&mut log.check(), off, 0));
                assert!(off == 0 || shim.changes() > 0);
                assert_clean(&found, "a clock");
                assert_eq!(
                    found.metric("count"),
                    Some(right),
                    "{far} {off}: {}",
                    found.text
                );
            }
        };
        looked(&mut log, 3, 0, 3.0);
        looked(&mut log, 0, far, 0.0);
        looked(&mut log, 0, 0, 3.0);
        looked(&mut log, 4, far, 4.0);
        looked(&mut log, 2, far, 6.0);
        // Ahead of time a window has passed, and what was in it is found again in the log.
        looked(&mut log, 2, 0, 5.0);
        looked(&mut log, 1, 0, 6.0);
    }
}

#[test]
fn what_a_clock_days_behind_took_for_lines_yet_to_come_is_counted_once_it_is_right() {
    let shim = Shim::new();
    let mut log = GrowingLog::new();
    log.binds(3, 60);
    for (off, right) in [(-3 * 86_400, 0.0), (0, 3.0), (0, 3.0)] {
        let found = outcome(shim.moved(&mut log.check(), off, 0));
        let counted = found.metric("count");
        assert_eq!(counted, Some(right), "{off}: {}", found.text);
    }
}

/// Whether all times of the performance data are such as a run on loopback can have.
fn assert_sound_times(found: &Outcome, case: &str) {
    let (_, perfdata) = found.first_line().split_once('|').unwrap_or_default();
    for item in perfdata.split(' ') {
        let value = item.split_once('=').map_or("", |(_, value)| value);
        let value = value.split(';').next().unwrap_or_default();
        if let Some(seconds) = value.strip_suffix('s') {
            let seconds: f64 = seconds.parse().expect("a number");
            assert!((0.0..60.0).contains(&seconds), "{case}: {item}");
        }
    }
}

#[test]
fn a_clock_that_is_moved_within_a_run_changes_no_verdict_and_no_measured_time() {
    let shim = Shim::new();
    let (good, bad) = (
        FaultServer::start(|_| Act::Send(page("200 OK", "x"))),
        failing(),
    );
    let most = if in_full() { 200 } else { 12 };
    let mut tried = 0;
    for far in [FAR, -FAR] {
        for looks in 0..most {
            let case = format!("{far} s from look {looks} on");
            let folder = tempfile::tempdir().expect("a temporary folder");
            for (server, code) in [(&good, 0), (&bad, 2)] {
                let mut command = http(server, &folder);
                command.args(["-w", "20", "-c", "30"]);
                let found = outcome(shim.moved(&mut command, far, looks));
                tried += shim.changes().min(1);
                assert_clean(&found, &case);
                assert_eq!(found.code, Some(code), "{case}: {}", found.text);
                assert_sound_times(&found, &case);
            }
            assert_whole(&folder);
            let mut ports = plugin("check_port_exhaustion");
            ports.arg("--state-file").arg(folder.path().join("ports"));
            for _ in 0..2 {
                let found = outcome(shim.moved(&mut ports, far, looks));
                tried += shim.changes().min(1);
                assert_clean(&found, &case);
                assert!(matches!(found.code, Some(0..=2)), "{case}: {}", found.text);
                assert!(!found.text.contains("damaged"), "{case}: {}", found.text);
            }
            let mut log = GrowingLog::new();
            log.binds(3, 60);
            let within = outcome(shim.moved(&mut log.check(), far, looks));
            let count = within.metric("count");
            assert!(
                [Some(0.0), Some(3.0)].contains(&count),
                "{case}: {}",
                within.text
            );
            for (more, sum) in [(0, 3.0), (2, 5.0), (0, 5.0)] {
                log.binds(more, 30);
                let after = outcome(&mut log.check());
                assert_eq!(after.metric("count"), Some(sum), "{case}: {}", after.text);
            }
        }
    }
    tell(&format!("the clock was moved within {tried} runs"));
    assert!(tried > 20, "{tried}");
}

#[test]
fn with_forever_rounds_go_on_at_their_pace_when_the_clock_is_moved() {
    let shim = Shim::new();
    let server = FaultServer::start(|_| Act::Send(page("200 OK", "x")));
    for far in [FAR, -FAR] {
        let mut command = plugin("check_http_retry");
        command
            .args(["-I", "127.0.0.1", "-p", &server.port(), "--attempts", "1"])
            .args(["--forever", "--every", "0.05", "--format", "json"])
            .stdout(Stdio::piped());
        let mut child = shim
            .moved(&mut command, far, 20)
            .spawn()
            .expect("it starts");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        let begun = Instant::now();
        let mut good = 0;
        for line in said.lines() {
            let line = line.expect("a document");
            let json: serde_json::Value = serde_json::from_str(&line).expect("a document");
            assert_eq!(json["state"], "OK", "{line}");
            good += 1;
            if good == 40 || begun.elapsed() > Duration::from_mins(1) {
                break;
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        assert!(shim.changes() > 0 && good == 40, "{far}: {good} rounds");
    }
}
