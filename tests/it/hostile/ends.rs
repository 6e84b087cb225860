//! Runs that are ended at any moment, and clocks that jump.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::fault_server::{Act, FaultServer, page_with};
use crate::support::growing_log::GrowingLog;
use crate::support::identity::Identity;
use crate::support::measured::{in_full, tell};
use crate::support::plugin::{Outcome, check_output, outcome, plugin};
use crate::support::raw_server::{RawServer, wait_until_gone};

/// How often each is killed: 1000 times in the long form.
fn rounds() -> u64 {
    if in_full() { 1000 } else { 40 }
}

/// Moments from the start of a process on to behind its end, always the same ones.
struct Moments(u64);

impl Moments {
    fn next(&mut self, most: Duration) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        most.mul_f64((self.0 >> 33) as f64 / f64::from(u32::MAX >> 1))
    }
}

/// Starts a command and kills it at some moment. Returns whether it was still there.
fn killed(command: &mut Command, moment: Duration) -> bool {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    std::thread::sleep(moment);
    let there = matches!(child.try_wait(), Ok(None));
    let _ = child.kill();
    let _ = child.wait();
    there
}

#[test]
fn killed_at_any_moment_the_log_check_has_counted_each_line_once() {
    let mut log = GrowingLog::new();
    let (mut moments, mut lines, mut cut) = (Moments(1), 0, 0);
    for round in 0..rounds() {
        log.binds(2, 60);
        lines += 2;
        if round % 19 == 18 {
            log.rename(&format!("error.log.{}", 2000 - round));
        }
        cut += u64::from(killed(
            &mut log.check(),
            moments.next(Duration::from_millis(25)),
        ));
        // Now and then, since it mends what was left.
        if round % 8 == 7 {
            let found = outcome(log.check().args(["--last", "60m"]));
            assert_eq!(
                found.metric("count"),
                Some(f64::from(lines)),
                "round {round}: {}",
                found.text
            );
            assert!(!found.text.contains("damaged"), "{}", found.text);
        }
    }
    tell(&format!(
        "check_nginx_upstream_bind: {cut} of {} were killed before their end",
        rounds()
    ));
}

#[test]
fn a_log_that_is_rotated_fifty_times_in_its_window_is_counted_once() {
    let mut log = GrowingLog::new();
    for round in 1..=50 {
        log.binds(2, 60);
        log.rename(&format!("error.log.{}", 2000 - round));
        let found = outcome(&mut log.check());
        assert_eq!(
            found.metric("count"),
            Some(f64::from(2 * round)),
            "{}",
            found.text
        );
    }
}

#[test]
fn killed_at_any_moment_the_others_leave_whole_files_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let server = FaultServer::start(|seen| {
        let cookie = format!("Set-Cookie: n={}; Max-Age=600\r\n", seen.number);
        Act::Send(page_with("500 Internal Server Error", &cookie, "x"))
    });
    let http = || {
        let mut command = plugin("check_http_retry");
        command.args([
            "-I",
            "127.0.0.1",
            "-p",
            &server.port(),
            "--attempts",
            "3",
            "-v",
            "--journal",
        ]);
        command
            .arg(at("journal"))
            .arg("--cookie-jar")
            .arg(at("cookies"))
            .arg("--evidence")
            .arg(at("evidence"));
        command
    };
    let ports = || {
        let mut command = plugin("check_port_exhaustion");
        command
            .arg("--state-file")
            .arg(at("ports"))
            .arg("--journal")
            .arg(at("looks"));
        command
    };
    let (mut moments, mut cut) = (Moments(2), 0);
    for round in 0..rounds() {
        cut += u64::from(killed(&mut http(), moments.next(Duration::from_millis(40))));
        cut += u64::from(killed(
            &mut ports(),
            moments.next(Duration::from_millis(25)),
        ));
        if round % 10 == 9 {
            let found = outcome(&mut http());
            assert_eq!(found.code, Some(2), "{}", found.text);
            assert!(!found.text.contains("journal"), "{}", found.text);
            assert!(found.text.contains("evidence in"), "{}", found.text);
            let found = outcome(&mut ports());
            assert!(matches!(found.code, Some(0..=2)), "{}", found.text);
            assert!(
                !found.text.contains("damaged") && !found.text.contains("no state"),
                "{}",
                found.text
            );
        }
    }
    // A line that was cut off stands alone, and the one behind it is whole.
    for name in ["journal", "looks"] {
        let text = fs::read_to_string(at(name)).expect("a journal");
        let whole = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok();
        let broken = text.lines().filter(|line| !whole(line)).count() as u64;
        assert!(
            broken <= cut,
            "{name}: {broken} broken lines for {cut} kills"
        );
        assert!(text.lines().any(|line| whole(&line)), "{name}");
    }
    for entry in fs::read_dir(at("evidence")).expect("a folder").flatten() {
        let text = fs::read_to_string(entry.path().join("failed.har"));
        let half = entry.file_name().to_string_lossy().starts_with('.');
        let good = text.is_ok_and(|text| serde_json::from_str::<serde_json::Value>(&text).is_ok());
        assert!(
            good || half || entry.path().is_file(),
            "{}",
            entry.path().display()
        );
    }
    tell(&format!(
        "check_http_retry and check_port_exhaustion: {cut} of {} were killed before their end",
        2 * rounds()
    ));
}

#[test]
fn killed_at_any_moment_the_queue_of_results_stays_whole() {
    // Nobody answers there, so that all results wait.
    let server = RawServer::start(|stream, _| wait_until_gone(stream));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let queue = folder.path().join("queue");
    let authority = folder.path().join("ca");
    fs::write(&authority, Identity::authority().pem()).expect("a file");
    let mut log = GrowingLog::new();
    log.binds(1, 60);
    let mut moments = Moments(3);
    let mut seen = BTreeMap::new();
    for _ in 0..rounds() / 2 {
        let mut command = log.check();
        command
            .args([
                "--forever",
                "--every",
                "0.01",
                "--submit-service",
                "host!service",
                "--submit",
            ])
            .arg(format!("https://127.0.0.1:{}", server.port()))
            .arg("--submit-queue")
            .arg(&queue)
            .arg("--submit-ca")
            .arg(&authority)
            .env("PROXY_CHECKS_SUBMIT_PASSWORD", "x")
            .args(["--submit-user", "x"]);
        killed(&mut command, moments.next(Duration::from_millis(80)));
        let mut left = 0;
        // Each service has a folder of its own.
        let folders = fs::read_dir(&queue).into_iter().flatten().flatten();
        for entry in folders
            .flat_map(|folder| fs::read_dir(folder.path()))
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".result") || name.starts_with('.') {
                continue;
            }
            left += 1;
            let text = fs::read_to_string(entry.path()).expect("a result");
            let result = serde_json::from_str::<serde_json::Value>(&text);
            assert!(
                result.is_ok_and(|result| result["state"].is_u64()),
                "{name}: {text}"
            );
            seen.insert(name, text);
        }
        assert_eq!(left, seen.len(), "a result was lost");
    }
    tell(&format!(
        "the queue: {} results, all of them whole, behind {} kills",
        seen.len(),
        rounds() / 2
    ));
    assert!(!seen.is_empty());
}

/// Starts a plugin that hangs on purpose, asks it to end as Icinga does, and takes what it said.
fn terminated(command: &mut Command, wait: impl FnOnce()) -> (Outcome, Duration) {
    let child: Child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    wait();
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a number of a process");
    let asked = Instant::now();
    kill_process(pid, Signal::TERM).expect("it is there");
    let output = child.wait_with_output().expect("it is ours");
    (check_output(&output, command), asked.elapsed())
}

#[test]
fn sigterm_ends_a_run_with_a_report_long_before_sigkill_comes() {
    let (told, asked) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let server = RawServer::start(move |stream, _| {
        let _ = told.lock().expect("no panic here").send(());
        wait_until_gone(stream);
    });
    let mut http = plugin("check_http_retry");
    http.args([
        "-I",
        "127.0.0.1",
        "-p",
        &server.port(),
        "--attempts",
        "100",
        "-t",
        "30",
    ]);
    let (found, elapsed) = terminated(&mut http, || {
        asked
            .recv_timeout(Duration::from_secs(10))
            .expect("it connects");
    });
    assert_eq!(found.code, Some(3), "{}", found.text);
    assert!(found.text.contains("SIGTERM"), "{}", found.text);
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
}

#[test]
fn a_clock_that_jumps_by_hours_loses_no_line_and_counts_none_twice() {
    // What a run sees of a clock that jumped: a log with lines of the future or of long ago, behind or before others.
    // No whole quarters of an hour, which would be those of a log from another time zone.
    let hour = 3600 + 150;
    for (name, jumps) in [
        ("forth", vec![-5 * hour, 60, 60]),
        ("back", vec![60, 5 * hour, 60]),
        ("forth and back", vec![60, -5 * hour, 60]),
        ("back and forth", vec![60, 9 * hour, -9 * hour, 60]),
    ] {
        let mut log = GrowingLog::new();
        let mut now = 0.0;
        for ago in jumps {
            log.binds(3, ago);
            // Within the last ten minutes; what is to come is not yet.
            now += if (0..600).contains(&ago) { 3.0 } else { 0.0 };
            for _ in 0..2 {
                let found = outcome(&mut log.check());
                let counted = found.metric("count");
                assert_eq!(counted, Some(now), "{name}, {ago}: {}", found.text);
            }
        }
        log.binds(2, 30);
        let found = outcome(&mut log.check());
        assert_eq!(
            found.metric("count"),
            Some(now + 2.0),
            "{name}: {}",
            found.text
        );
    }
    // A state whose last line is hours from now, or hours ago.
    for shift in [6 * hour, -6 * hour] {
        let mut log = GrowingLog::new();
        log.binds(3, 60);
        let state = log.at("my.state");
        let look = |log: &GrowingLog| outcome(log.check().arg("--state-file").arg(&state));
        assert_eq!(look(&log).metric("count"), Some(3.0));
        let whole = fs::read_to_string(&state).expect("a state");
        let (first, data) = whole.split_once('\n').expect("a line above the data");
        let shifted = shifted(data, shift);
        assert_ne!(shifted, data, "no time is in the state: {data}");
        let sum = proxy_checks::plugin::state_file::seal(shifted.as_bytes());
        let (words, _) = first.rsplit_once(' ').expect("a checksum");
        let mut file = fs::File::create(&state).expect("a state");
        write!(file, "{words} {sum:016x}\n{shifted}").expect("a state");
        log.binds(1, 30);
        for _ in 0..2 {
            let found = look(&log);
            assert_eq!(found.metric("count"), Some(4.0), "{shift}: {}", found.text);
        }
    }
}

/// All numbers of a state that are seconds of these years, moved.
fn shifted(data: &str, by: i64) -> String {
    let mut text = String::new();
    let mut rest = data;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        text += &rest[..at];
        let end = rest[at..]
            .find(|c: char| !c.is_ascii_digit())
            .map_or(rest.len(), |n| at + n);
        match rest[at..end].parse::<i64>() {
            Ok(number) if (1_500_000_000..3_000_000_000).contains(&number) => {
                text += &(number + by).to_string();
            }
            _ => text += &rest[at..end],
        }
        rest = &rest[end..];
    }
    text + rest
}
