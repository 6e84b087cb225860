//! Faults: the n-th call of some kind fails, once, as strace makes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::plugin::{Outcome, outcome};
use super::wrapped::wrapped;

/// Whether strace may do here what it is asked for.
pub fn is_usable() -> bool {
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=getppid",
        "true",
    ]);
    command.output().is_ok_and(|output| output.status.success())
}

/// The calls of a run, by name: the numbers of the first and of the last one that the plugin itself makes, behind those
/// of the dynamic linker.
pub fn calls(command: &Command, note: &Path) -> BTreeMap<String, (usize, usize)> {
    let arguments = ["-f", "-qq", "-o"].map(std::ffi::OsStr::new);
    let arguments = arguments.into_iter().chain([note.as_os_str()]);
    outcome(&mut wrapped("strace", arguments, command));
    let text = fs::read(note).expect("strace writes its note");
    let text = String::from_utf8_lossy(&text).into_owned();
    let main = text.split(' ').next().unwrap_or_default().to_owned();
    let (mut begun, mut calls) = (false, BTreeMap::<String, (usize, usize)>::new());
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        if thread != main || call.starts_with(['<', '+', '-']) {
            continue;
        }
        // The first thing that a plugin does is to look whether the three usual files are open.
        begun |= call.starts_with("fcntl(0, F_GETFD");
        let name = call.split('(').next().unwrap_or_default().to_owned();
        let (first, last) = calls.entry(name).or_insert((1, 0));
        *last += 1;
        if !begun {
            *first = *last + 1;
        }
    }
    calls.retain(|_, (first, last)| first <= last);
    calls
}

/// A run one of whose calls failed.
#[derive(Debug)]
pub struct Disturbed {
    /// What it printed, and how it ended.
    pub outcome: Outcome,
    /// The calls that failed, as strace tells them; none where the run did not get there.
    pub failed: Vec<String>,
}

/// Runs a command whose `number`-th call of this name fails with this error: in each thread that makes so many.
pub fn disturbed(
    command: &Command,
    note: &Path,
    call: &str,
    error: &str,
    number: usize,
) -> Disturbed {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:error={error}:when={number}");
    let note_text = note.to_str().expect("a path of ours");
    let arguments = [
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        note_text,
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    let outcome = outcome(&mut wrapped("strace", arguments, command));
    let text = fs::read(note).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let failed = text.lines().filter(|line| line.contains("(INJECTED)"));
    Disturbed {
        outcome,
        failed: failed.map(str::to_owned).collect(),
    }
}
