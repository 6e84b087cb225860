//! A plugin run whose time and memory are known, as hostile as its surroundings may be.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use super::plugin::{Outcome, outcome};
use super::wrapped::wrapped;

/// What one run may take at the most, in KiB: twice what a busy one takes.
pub const MEMORY: u64 = 32 * 1024;

/// Whether the long form of these tests is wanted (`scripts/faults`).
pub fn in_full() -> bool {
    std::env::var("PROXY_CHECKS_FAULTS").is_ok_and(|word| word == "all")
}

/// Prints what was counted or measured, past the harness' capture, in the long form.
pub fn tell(figures: &str) {
    if in_full() {
        let _ = writeln!(std::io::stderr(), "\n  {figures}");
    }
}

/// A run, and what it took.
#[derive(Debug)]
pub struct Measured {
    /// What it printed, and how it ended.
    pub outcome: Outcome,
    /// From its start to its end.
    pub elapsed: Duration,
    /// Its largest resident set, in KiB.
    pub peak: u64,
}

/// Runs a command below GNU time: what the kernel says of a child of ours would include our own size, since the child
/// shares our memory up to its exec.
pub fn measured(command: &Command) -> Measured {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let note = folder.path().join("peak");
    let note_text = note.to_str().expect("a path of ours");
    let mut timed = wrapped(
        "/usr/bin/time",
        ["--quiet", "-f", "%M", "-o", note_text],
        command,
    );
    let begun = Instant::now();
    let outcome = outcome(&mut timed);
    let elapsed = begun.elapsed();
    let text = fs::read_to_string(&note).expect("GNU time writes what it measured");
    let peak = text.lines().last().and_then(|line| line.parse().ok());
    Measured {
        outcome,
        elapsed,
        peak: peak.unwrap_or_else(|| panic!("no number: {text:?}")),
    }
}

/// What holds for every output, whatever came from outside.
pub fn assert_clean(outcome: &Outcome, case: &str) {
    let text = &outcome.text;
    assert!(
        matches!(outcome.code, Some(0..=3)),
        "{case}: {:?}: {text}",
        outcome.code
    );
    assert!(text.ends_with('\n'), "{case}: {text:?}");
    assert!(!text.contains("panicked"), "{case}: {text}");
    let hidden = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(hidden), "{case}: {text:?}");
    // The one pipe of the whole output is before the performance data, and what is behind it is ours.
    assert!(text.matches('|').count() <= 1, "{case}: {text}");
    if text.contains('|') {
        let (_, perfdata) = outcome
            .first_line()
            .split_once('|')
            .unwrap_or_else(|| panic!("{case}: not on the first line: {text}"));
        for item in perfdata.split(' ') {
            let label = item.split_once("'=").map(|(label, _)| &label[1..]);
            let good = label.is_some_and(|label| {
                label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_')
            });
            assert!(good, "{case}: {item:?} in {perfdata}");
        }
    }
    let headline = outcome.headline();
    assert!(headline.len() < 1000, "{case}: {headline}");
}
