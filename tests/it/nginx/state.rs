//! What is kept between two looks: damaged, held by another run, impossible to keep.

use std::fs::File;

use super::{count, look};
use crate::support::growing_log::{GrowingLog, stamp};
use crate::support::plugin::outcome;

#[test]
fn a_damaged_state_is_set_aside_and_the_window_read_again() {
    let mut log = GrowingLog::new();
    log.binds(3, 100);
    let state = log.at("my.state");
    let look = || outcome(log.check().arg("--state-file").arg(&state));
    assert_eq!(count(&look()), Some(3.0));
    let whole = std::fs::read(&state).unwrap();
    for damage in [
        whole[..whole.len() - 5].to_vec(),
        vec![0; 100],
        b"{}".to_vec(),
    ] {
        std::fs::write(&state, damage).unwrap();
        let found = look();
        assert_eq!(count(&found), Some(3.0), "{}", found.text);
        assert!(found.text.contains("set aside as "), "{}", found.text);
        let next = look();
        assert!(!next.text.contains("set aside"), "{}", next.text);
        assert_eq!(next.metric("bytes_read"), Some(0.0));
    }
}

#[test]
fn without_a_state_that_can_be_kept_it_answers_all_the_same() {
    let mut log = GrowingLog::new();
    log.binds(3, 100);
    std::fs::write(log.at("file"), "").unwrap();
    for path in [log.at("file/state"), "/proc/state".into()] {
        for _ in 0..2 {
            let found = outcome(log.check().arg("--state-file").arg(&path));
            assert_eq!(
                (found.code, count(&found)),
                (Some(2), Some(3.0)),
                "{}",
                found.text
            );
            assert!(found.text.contains("no state is kept"), "{}", found.text);
        }
    }
}

#[test]
fn a_run_beside_another_one_reads_the_state_and_answers() {
    let mut log = GrowingLog::new();
    log.binds(3, 100);
    let state = log.at("my.state");
    let look = || outcome(log.check().arg("--state-file").arg(&state));
    assert_eq!(count(&look()), Some(3.0));
    let other_run = File::open(log.at("my.state.lock")).unwrap();
    other_run.lock().unwrap();
    let more = format!(
        "{}{}",
        stamp(50),
        &std::fs::read_to_string(log.path()).unwrap()[19..]
            .lines()
            .next()
            .unwrap()
    );
    log.append(more + "\n");
    for _ in 0..2 {
        let found = look();
        assert_eq!(count(&found), Some(4.0), "{}", found.text);
        assert!(
            found.text.contains("another run holds the state file"),
            "{}",
            found.text
        );
    }
    drop(other_run);
    assert_eq!(count(&look()), Some(4.0));
}

#[test]
fn many_runs_at_once_count_every_line_once() {
    let mut log = GrowingLog::new();
    log.binds(500, 100);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| count(&look(&log)))).collect();
        for run in runs {
            assert_eq!(run.join().unwrap(), Some(500.0));
        }
    });
    assert_eq!(count(&look(&log)), Some(500.0));
}

#[test]
fn a_state_kept_with_other_options_does_not_answer_another_question() {
    let mut log = GrowingLog::new();
    log.binds(3, 700);
    log.binds(2, 100);
    let state = log.at("my.state");
    let look = |last: &str| {
        outcome(
            log.check()
                .arg("--state-file")
                .arg(&state)
                .args(["--last", last]),
        )
    };
    assert_eq!(count(&look("10m")), Some(2.0));
    assert_eq!(count(&look("20m")), Some(5.0));
    assert_eq!(count(&look("10m")), Some(2.0));
}
