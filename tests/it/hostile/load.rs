//! Checks on a host that has little time for them, and checks that run for a day.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::fault_server::{Act, FaultServer, page};
use crate::support::growing_log::GrowingLog;
use crate::support::measured::{MEMORY, assert_clean, in_full, measured, tell};
use crate::support::plugin::{outcome, plugin};
use crate::support::wrapped::wrapped;

/// Keeps a CPU busy until it is dropped.
struct Hog(std::process::Child);

impl Hog {
    fn on(cpu: &str) -> Self {
        let child = Command::new("taskset")
            .args(["-c", cpu, "sh", "-c", "while :; do :; done"])
            .spawn()
            .expect("util-linux is there");
        Self(child)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last CPU that this process may use.
fn a_cpu() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("proc is there");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = line.expect("it is said").trim().to_owned();
    list.rsplit([',', '-'])
        .next()
        .expect("there is one")
        .to_owned()
}

/// What waits behind everybody else on a CPU that somebody keeps busy.
fn starved(command: &Command, cpu: &str) -> Command {
    wrapped("taskset", ["-c", cpu, "nice", "-n", "19"], command)
}

#[test]
fn a_probe_that_waited_for_a_cpu_is_not_a_slow_server_and_a_slow_server_is_one_all_the_same() {
    let quick = FaultServer::start(|_| Act::Send(page("200 OK", "x")));
    let slow = FaultServer::start(|_| {
        std::thread::sleep(Duration::from_secs(1));
        Act::Send(page("200 OK", "x"))
    });
    let cpu = a_cpu();
    let _hog = Hog::on(&cpu);
    let probe = |server: &FaultServer, more: &str| {
        let mut command = plugin("check_http_retry");
        command
            .args([
                "-I",
                "127.0.0.1",
                "-p",
                &server.port(),
                "--format",
                "json",
                "--deadline",
                "40",
                "-t",
                "2",
            ])
            .args(more.split(' '));
        command
    };
    let starved_run =
        |server: &FaultServer, more: &str| outcome(&mut starved(&probe(server, more), &cpu)).json();
    let json = starved_run(&quick, "--attempts 20 -c 0.02");
    let (failed, excused) = (
        &json["details"]["failed"],
        &json["details"]["cpu_wait"]["excused"],
    );
    let waited = json["details"]["cpu_wait"]["max"]
        .as_f64()
        .unwrap_or_else(|| panic!("{json}"));
    tell(&format!(
        "starved: {failed} slow, {excused} excused, up to {waited} s"
    ));
    // Without the rule nearly all of those would be slow.
    assert!(excused.as_u64().is_some_and(|n| n >= 2), "{json}");
    assert!(failed.as_u64().is_some_and(|n| n <= 3), "{json}");
    let json = starved_run(&quick, "--attempts 5 -c 0.5 --percentile 90");
    assert_eq!(json["state"], "OK", "{json}");
    // Whoever is slow by itself is slow here, too.
    let json = starved_run(&slow, "--attempts 3 -c 0.25");
    assert_eq!(json["details"]["kinds"]["slow"], 3, "{json}");
    assert_eq!(json["state"], "CRITICAL", "{json}");
}

#[test]
fn two_hundred_checks_at_once_are_done_in_time_and_raise_no_false_alarm() {
    let server = FaultServer::start(|_| Act::Send(page("200 OK", "hello")));
    let mut log = GrowingLog::new();
    log.binds(1, 3000);
    let number = if in_full() { 200 } else { 100 };
    let slowest = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..number {
            let (server, log, slowest) = (&server, &log, &slowest);
            scope.spawn(move || {
                let mut command = match n % 4 {
                    0 => {
                        let mut command = log.check();
                        command
                            .arg("--state-file")
                            .arg(log.at(&format!("{n}.state")));
                        command
                    }
                    1 => {
                        let mut command = plugin("check_port_exhaustion");
                        command
                            .arg("--state-file")
                            .arg(log.at(&format!("{n}.ports")));
                        command
                    }
                    _ => {
                        let mut command = plugin("check_http_retry");
                        command.args([
                            "-I",
                            "127.0.0.1",
                            "-p",
                            &server.port(),
                            "-w",
                            "3",
                            "-c",
                            "5",
                            "-s",
                            "hello",
                        ]);
                        command
                    }
                };
                let begun = Instant::now();
                let found = outcome(command.args(["--deadline", "50"]));
                assert_clean(&found, "a crowd");
                assert_eq!(found.code, Some(0), "{}", found.text);
                let took = usize::try_from(begun.elapsed().as_millis()).expect("some seconds");
                slowest.fetch_max(took, Ordering::SeqCst);
            });
        }
    });
    tell(&format!(
        "{number} checks at once: all OK in {:?}, the slowest in {} ms",
        begun.elapsed(),
        slowest.into_inner()
    ));
}

/// Memory in KiB and descriptors of a process.
fn size_of(pid: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let files = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    (memory.unwrap_or(0), files)
}

#[test]
fn a_day_of_forever_neither_grows_nor_leaks() {
    // A day of one round every half minute has 2880.
    let rounds = if in_full() { 2880 } else { 60 };
    let server = FaultServer::start(|seen| {
        let status = if seen.number % 7 == 0 {
            "500 Oops"
        } else {
            "200 OK"
        };
        Act::Send(page(status, "x"))
    });
    let mut log = GrowingLog::new();
    log.binds(5, 60);
    let mut http = plugin("check_http_retry");
    http.args([
        "-I",
        "127.0.0.1",
        "-p",
        &server.port(),
        "--attempts",
        "5",
        "--evidence",
    ])
    .arg(log.at("evidence"))
    .args(["--evidence-keep", "10"])
    .arg("--journal")
    .arg(log.at("journal"));
    let mut ports = plugin("check_port_exhaustion");
    ports.arg("--state-file").arg(log.at("ports"));
    let nginx = log.check();
    std::thread::scope(|scope| {
        for mut command in [http, ports, nginx] {
            scope.spawn(move || {
                command.args(["--forever", "--every", "0.001", "--format", "json"]);
                let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
                let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
                let (mut sizes, mut line, mut round) = (Vec::new(), Vec::new(), 0);
                let begun = Instant::now();
                while round < rounds && begun.elapsed() < Duration::from_mins(10) {
                    line.clear();
                    let read = said.read_until(b'\n', &mut line).expect("a document");
                    assert!(read > 0, "it ended");
                    // A document may have several lines; it begins with a brace in the first column.
                    round += usize::from(line.first() == Some(&b'{'));
                    if line.first() == Some(&b'{') {
                        sizes.push(size_of(child.id()));
                    }
                }
                let elapsed = begun.elapsed();
                let _ = child.kill();
                let _ = child.wait();
                let program = command.get_program().to_string_lossy().into_owned();
                let name = program.rsplit('/').next().unwrap_or_default();
                // A look may fall into the middle of a round, which has some sockets open; a leak would show in each of them.
                let least = |part: &[(u64, usize)]| {
                    let memory = part.iter().map(|size| size.0).min();
                    let files = part.iter().map(|size| size.1).min();
                    (memory.unwrap_or(0), files.unwrap_or(0))
                };
                let fifths: Vec<_> = sizes.chunks(rounds / 5).map(least).collect();
                tell(&format!(
                    "{name}: {round} rounds in {elapsed:?}, KiB and descriptors {fifths:?}"
                ));
                let (early, late) = (fifths[1], fifths[4]);
                assert!(late.0 <= early.0 + 1024, "{name}: {fifths:?}");
                assert!(late.1 <= early.1 + 4, "{name}: {fifths:?}");
            });
        }
    });
}

#[test]
fn a_log_of_100_gigabytes_is_answered_from_its_end() {
    let mut log = GrowingLog::new();
    log.binds(2, 7200);
    let file = fs::File::options()
        .write(true)
        .open(log.path())
        .expect("a log");
    file.set_len(100_000_000_000).expect("a hole");
    drop(file);
    log.append("\n");
    log.binds(3, 60);
    let first = measured(&log.check());
    assert_eq!(
        first.outcome.metric("count"),
        Some(3.0),
        "{}",
        first.outcome.text
    );
    // As much again between two looks.
    let file = fs::File::options()
        .write(true)
        .open(log.path())
        .expect("a log");
    file.set_len(200_000_000_000).expect("a hole");
    drop(file);
    log.append("\n");
    log.binds(4, 30);
    let second = measured(&log.check());
    assert_eq!(
        second.outcome.metric("count"),
        Some(7.0),
        "{}",
        second.outcome.text
    );
    for run in [&first, &second] {
        tell(&format!(
            "a log of 100 GB: {:?}, {} KiB",
            run.elapsed, run.peak
        ));
        assert!(run.peak <= MEMORY, "{} KiB", run.peak);
        assert!(run.elapsed < Duration::from_secs(20), "{:?}", run.elapsed);
    }
}
