//! Nothing that a server, a name server, a log or a disk does makes a check lie, hang, grow or print what is not its own.

mod ends;
mod faults;
mod files;
mod load;
mod names;
mod redirects;
mod servers;
mod shims;
mod tls;

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::measured::{MEMORY, assert_clean, measured};
use crate::support::plugin::{Outcome, plugin};

/// When a run has to be over: a little before its deadline, at which it would be ended.
const LIMIT: Duration = Duration::from_millis(9500);

/// One way to be hostile, and what has to be said of it.
struct Case {
    name: &'static str,
    command: Command,
    /// The exit codes that are right.
    codes: &'static [i32],
    /// The kinds that are right; none for a good reply.
    kinds: &'static [&'static str],
    /// When it has to be over.
    limit: Duration,
    /// What has to be there until then.
    _server: Box<dyn std::any::Any + Send>,
}

/// A probe of a port on loopback, with as much said of it as can be.
fn probe(port: &str, arguments: &str) -> Command {
    let mut command = plugin("check_http_retry");
    command
        .args([
            "-I",
            "127.0.0.1",
            "-p",
            port,
            "-t",
            "0.7",
            "--deadline",
            "10",
            "-vvv",
        ])
        .args(arguments.split_whitespace());
    if !arguments.contains("--attempts") {
        command.args(["--attempts", "1"]);
    }
    command
}

/// Runs all cases, some at a time, and tells of all that are wrong.
fn judge(cases: Vec<Case>) {
    let wrong = Mutex::new(Vec::new());
    let left = Mutex::new(cases.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("no case panics here").next();
                    let Some(case) = next else { return };
                    if let Err(why) = judge_one(&case) {
                        wrong.lock().expect("no case panics here").push(why);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no case panics here");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn judge_one(case: &Case) -> Result<(), String> {
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let run = measured(&case.command);
        let text = &run.outcome.text;
        assert_clean(&run.outcome, case.name);
        assert!(
            run.peak <= MEMORY,
            "{}: {} KiB: {text}",
            case.name,
            run.peak
        );
        assert!(
            run.elapsed <= case.limit,
            "{}: {:?}: {text}",
            case.name,
            run.elapsed
        );
        let code = run.outcome.code.unwrap_or(-1);
        assert!(case.codes.contains(&code), "{}: {code}: {text}", case.name);
        for kind in kinds(&run.outcome) {
            assert!(
                case.kinds.contains(&&*kind),
                "{}: {kind} is none of {:?}: {text}",
                case.name,
                case.kinds
            );
        }
        let good = kinds(&run.outcome).is_empty();
        assert_eq!(code == 0, good, "{}: {text}", case.name);
    }));
    judged.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.unwrap_or_else(|| case.name.to_owned())
    })
}

/// The kinds of the failed probes, as the lines of `-vv` name them.
fn kinds(outcome: &Outcome) -> Vec<String> {
    let dated = outcome.text.lines().filter(|line| {
        let mut bytes = line.bytes();
        bytes.by_ref().take(4).all(|b| b.is_ascii_digit()) && bytes.next() == Some(b'-')
    });
    let words = dated.filter_map(|line| line.split(' ').nth(1));
    words.map(str::to_owned).collect()
}
