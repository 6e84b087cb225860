//! Logs that are renamed, copied, truncated, rewritten and compressed between two looks.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::{count, look};
use crate::support::growing_log::{BIND, GrowingLog, append, stamp};
use crate::support::plugin::{outcome, plugin};

#[test]
fn a_log_that_was_renamed_is_read_to_its_end() {
    let mut log = GrowingLog::new();
    log.binds(3, 300);
    assert_eq!(count(&look(&log)), Some(3.0));
    log.binds(2, 200);
    log.rename("error.log.1");
    log.binds(4, 100);
    let found = outcome(log.check().args(["--format", "json"]));
    let json = found.json();
    assert_eq!(json["details"]["causes"]["bind-in-use"], 9, "{json}");
    assert_eq!(json["details"]["files"][0]["rotated"], true);
    // A worker that has not reopened its log yet goes on writing to the old one.
    let late = log.line(90, BIND, "log3:8080");
    append(&log.at("error.log.1"), late.as_bytes());
    assert_eq!(count(&look(&log)), Some(10.0));
    assert_eq!(count(&look(&log)), Some(10.0));
}

#[test]
fn several_rotations_between_two_runs_lose_nothing() {
    for by in ["rename", "copytruncate", "dateext"] {
        let mut log = GrowingLog::new();
        log.binds(3, 300);
        assert_eq!(count(&look(&log)), Some(3.0), "{by}");
        log.binds(1, 250);
        let rotate = |log: &GrowingLog, oldest: &str, name: &str| {
            if log.at(name).exists() {
                std::fs::rename(log.at(name), log.at(oldest)).unwrap();
            }
            if by == "copytruncate" {
                log.copytruncate(name);
            } else {
                log.rename(name);
            }
        };
        let (first, second) = if by == "dateext" {
            ("error-20261122.log", "error-20261123.log")
        } else {
            ("error.log.1", "error.log.1")
        };
        rotate(&log, "error.log.2", first);
        log.binds(5, 200);
        rotate(&log, "error.log.2", second);
        log.binds(7, 100);
        assert_eq!(count(&look(&log)), Some(16.0), "{by}");
        assert_eq!(count(&look(&log)), Some(16.0), "{by}");
    }
}

#[test]
fn the_first_look_reads_what_was_rotated_within_the_window() {
    let mut log = GrowingLog::new();
    log.binds(3, 300);
    log.rename("error.log.1");
    log.binds(4, 100);
    let found = look(&log);
    assert_eq!(count(&found), Some(7.0));
    assert!(found.text.contains("first look"), "{}", found.text);
    assert_eq!(count(&look(&log)), Some(7.0));
}

#[test]
fn a_file_rewritten_to_the_same_size_is_another_file() {
    let mut log = GrowingLog::new();
    log.binds(3, 300);
    assert_eq!(count(&look(&log)), Some(3.0));
    let size = File::open(log.path()).unwrap().metadata().unwrap().len();
    let inode = std::fs::metadata(log.path()).unwrap().ino();
    std::fs::write(log.path(), "").unwrap();
    log.binds(3, 200);
    let after = std::fs::metadata(log.path()).unwrap();
    assert_eq!((after.len(), after.ino()), (size, inode));
    assert_eq!(count(&look(&log)), Some(6.0));
}

#[test]
fn half_a_last_line_waits_for_its_other_half() {
    let mut log = GrowingLog::new();
    log.binds(1, 300);
    let line = log.line(200, BIND, "log3:8080");
    let (half, rest) = line.split_at(70);
    log.append(half);
    assert_eq!(count(&look(&log)), Some(1.0));
    assert_eq!(count(&look(&log)), Some(1.0));
    log.append(rest);
    assert_eq!(count(&look(&log)), Some(2.0));
    assert_eq!(count(&look(&log)), Some(2.0));
}

#[test]
fn patterns_name_several_logs_and_no_generation_counts_twice() {
    let mut log = GrowingLog::new();
    log.binds(3, 100);
    log.rename("error.log.1");
    log.binds(4, 90);
    let line = log.line(80, BIND, "other:1");
    append(&log.at("shop-error.log"), line.as_bytes());
    let (pattern, state) = (log.at("*error.log*"), log.at("state"));
    let look = || {
        let mut command = plugin("check_nginx_upstream_bind");
        command.arg("-f").arg(&pattern);
        outcome(command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", &state))
    };
    assert_eq!(count(&look()), Some(8.0));
    let later = log.line(70, BIND, "new:1");
    append(&log.at("new-error.log"), later.as_bytes());
    assert_eq!(count(&look()), Some(9.0));
}

#[test]
fn another_log_whose_name_has_a_digit_is_none_of_the_generations() {
    for other in ["error-web1.log", "error_app2.log"] {
        let mut log = GrowingLog::new();
        log.binds(3, 100);
        append(&log.at(other), log.line(95, BIND, "other:1").as_bytes());
        let (pattern, state) = (log.at("error*.log"), log.at("state"));
        let look = |files: &[&Path]| {
            let mut command = plugin("check_nginx_upstream_bind");
            for file in files {
                command.arg("-f").arg(file);
            }
            outcome(command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", &state))
        };
        let named = [log.path(), log.at(other)];
        let ways = [
            &[named[0].as_path(), named[1].as_path()][..],
            &[pattern.as_path()],
        ];
        for way in ways {
            assert_eq!(count(&look(way)), Some(4.0), "{other}");
        }
        let line = log.line(90, BIND, "other:1");
        append(&log.at(other), line.repeat(2).as_bytes());
        for way in ways {
            assert_eq!(count(&look(way)), Some(6.0), "{other}");
        }
        log.rename("error.log.1");
        log.binds(1, 80);
        for way in ways {
            assert_eq!(count(&look(way)), Some(7.0), "{other}");
        }
        // Of the log alone.
        assert_eq!(count(&look(&ways[0][..1])), Some(4.0), "{other}");
    }
}

#[test]
fn what_is_named_without_a_pattern_is_read_by_itself_and_counts_once() {
    let mut log = GrowingLog::new();
    log.binds(3, 100);
    append(
        &log.at("error-8080.log"),
        log.line(95, BIND, "other:1").as_bytes(),
    );
    let other = log.at("error-8080.log");
    let look = |log: &GrowingLog| outcome(log.check().arg("-f").arg(&other));
    for _ in 0..3 {
        assert_eq!(count(&look(&log)), Some(4.0));
    }
    append(&other, log.line(90, BIND, "other:1").as_bytes());
    assert_eq!(count(&look(&log)), Some(5.0));
    log.rename("error.log.1");
    log.binds(1, 80);
    assert_eq!(count(&look(&log)), Some(6.0));
    let back = outcome(log.check().arg("-f").arg(&other).args(["--last", "5m"]));
    assert_eq!(count(&back), Some(6.0));
}

#[test]
fn compressed_generations_are_read_along() {
    let mut log = GrowingLog::new();
    log.binds(3, 300);
    log.rename("error.log.2");
    let gzip = |name: &str| {
        let done = Command::new("gzip").arg(log.at(name)).status().unwrap();
        assert!(done.success());
    };
    gzip("error.log.2");
    log.binds(5, 200);
    assert_eq!(count(&look(&log)), Some(8.0));
    assert_eq!(count(&look(&log)), Some(8.0));
    // Half of it was read before it was rotated and compressed.
    log.binds(2, 100);
    log.rename("error.log.1");
    let done = Command::new("gzip")
        .arg(log.at("error.log.1"))
        .status()
        .unwrap();
    assert!(done.success());
    log.binds(1, 50);
    for _ in 0..3 {
        assert_eq!(count(&look(&log)), Some(11.0));
    }
    let mut direct = plugin("check_nginx_upstream_bind");
    direct
        .arg("-f")
        .arg(log.at("error.log.1.gz"))
        .args(["--since", &stamp(250).replace('/', "-")]);
    assert_eq!(count(&outcome(&mut direct)), Some(7.0));
}

#[test]
fn between_renaming_and_making_the_new_log_it_answers_from_the_renamed_one() {
    let mut log = GrowingLog::new();
    log.binds(3, 100);
    assert_eq!(count(&look(&log)), Some(3.0));
    log.binds(2, 90);
    std::fs::rename(log.path(), log.at("error.log.1")).unwrap();
    for _ in 0..2 {
        let found = look(&log);
        assert_eq!(
            (found.code, count(&found)),
            (Some(2), Some(5.0)),
            "{}",
            found.text
        );
    }
    log.binds(4, 80);
    let found = look(&log);
    assert_eq!(count(&found), Some(9.0), "{}", found.text);
    std::fs::remove_file(log.path()).unwrap();
    std::fs::remove_file(log.at("error.log.1")).unwrap();
    let found = look(&log);
    assert_eq!(found.code, Some(3), "{}", found.text);
}
