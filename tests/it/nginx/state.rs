//! What is kept between two looks: damaged, held by another run, impossible to keep.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{count, look};
use crate::support::growing_log::{BIND, GrowingLog, stamp};
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

#[test]
fn killed_at_any_moment_it_counts_every_line_once_and_keeps_a_whole_state() {
    let mut log = GrowingLog::new();
    let (mut lines, mut moment, mut generation) = (0, 1_u64, 0);
    for round in 0..80 {
        log.binds(3, 60);
        lines += 3;
        if round % 9 == 8 {
            generation += 1;
            log.rename(&format!("error-202611230{generation}.log"));
        }
        let mut child = log.check().stdout(Stdio::null()).spawn().unwrap();
        // Any moment from the start of the process on to behind its end.
        moment = moment
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(Duration::from_micros((moment >> 33) % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
        if round % 20 == 19 {
            let found = outcome(&mut log.check());
            assert_eq!(
                found.metric("count"),
                Some(f64::from(lines)),
                "{}",
                found.text
            );
            assert!(!found.text.contains("damaged"), "{}", found.text);
        }
    }
}

#[test]
fn a_full_or_read_only_disk_costs_the_state_and_not_the_answer() {
    let mut log = GrowingLog::new();
    log.binds(3, 120);
    let more: String = (0..2).map(|_| log.line(60, BIND, "log3:8080")).collect();
    std::fs::write(log.at("more"), more).unwrap();
    std::fs::create_dir(log.at("small")).unwrap();
    let check = crate::support::plugin::binary_folder().join("check_nginx_upstream_bind");
    // A mount namespace of its own: nothing is left behind.
    let script = r#"
        mount -t tmpfs -o size=32k,mode=0700 tmpfs small
        run() { "$0" -f "$PWD/error.log" --state-file small/state > "$1" 2>&1; }
        run first
        dd if=/dev/zero of=small/filler bs=1k 2> /dev/null
        cat more >> error.log
        run full
        run full_again
        mount -o remount,ro small
        run read_only
        mount -o remount,rw small
        rm small/filler
        run last
        run very_last"#;
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(&check)
        .current_dir(log.at(""))
        .env("LC_ALL", "C")
        .status()
        .unwrap();
    assert!(!status.success(), "the last run is CRITICAL");
    for (name, count, says) in [
        ("first", 3, "first look"),
        ("full", 5, "could not be stored"),
        ("full_again", 5, "could not be stored"),
        ("read_only", 5, "no state is kept"),
        ("last", 5, ""),
        ("very_last", 5, ""),
    ] {
        let text = std::fs::read_to_string(log.at(name)).unwrap();
        assert!(
            text.starts_with(&format!("NGINX CRITICAL: {count} of ")),
            "{name}: {text}"
        );
        assert!(text.contains(says), "{name}: {text}");
        assert!(!text.contains("damaged"), "{name}: {text}");
    }
    let text = std::fs::read_to_string(log.at("very_last")).unwrap();
    assert!(text.contains("'bytes_read'=0B"), "{text}");
}
