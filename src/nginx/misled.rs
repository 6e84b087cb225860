//! What has led a look astray: lines that a request wrote, a clock that was wrong for a while, what stands first in a log.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::cause::{Cause, CauseSet};
use super::clock::Clock;
use super::dialect::Dialect;
use super::look::look;
use super::plan::{Plan, Window};
use super::verdict::Thresholds;

/// 2026-11-24T12:00:00Z, the time of these looks.
const NOW: i64 = 1_795_521_600;

fn clock() -> Clock {
    Clock::new(TimeZone::UTC, Timestamp::from_second(NOW).unwrap())
}

fn plan(path: &Path, window: Window) -> Plan {
    let counted: CauseSet = [Cause::BindInUse].into_iter().collect();
    Plan {
        files: vec![path.to_owned()],
        dialect: None,
        counted,
        only: false,
        window,
        thresholds: Thresholds::new((None, None), (None, None)),
        also: Vec::new(),
        by: Vec::new(),
        correlate: Vec::new(),
        journal_unit: None,
        zone: Some("UTC".to_owned()),
        state_file: Some(path.with_file_name("state")),
    }
}

/// The window of each run, so long that it holds all that is written here.
fn moving() -> Window {
    Window {
        from: NOW - 86_400,
        to: NOW,
        moves: true,
    }
}

/// What a look finds, or what stops it; what it learned is kept.
fn found(plan: &Plan) -> Result<u64, String> {
    let (logs, mut memory) =
        look(plan, &clock(), &|| false).map_err(|error| format!("{error:#}"))?;
    if let Some(error) = logs.iter().find_map(|log| log.error.clone()) {
        return Err(error);
    }
    let Window { from, to, .. } = plan.window;
    let count = memory.tally.summary(from, to, plan.counted).count;
    if plan.window.moves {
        memory.keep();
    }
    Ok(count)
}

/// What a look back finds.
fn found_back(path: &Path, from: i64, to: i64) -> u64 {
    let moves = false;
    found(&plan(path, Window { from, to, moves })).unwrap()
}

fn stamp(second: i64) -> String {
    clock().second(second).replace('-', "/").replace('T', " ")
}

fn bind(second: i64) -> String {
    format!(
        "{} [crit] 7#7: *1 bind(0.0.0.0) failed (98: x) while connecting to upstream, client: 192.0.2.1, server: a\n",
        stamp(second)
    )
}

fn missing(second: i64) -> String {
    format!(
        "{} [error] 7#7: *1 open() \"/srv/x\" failed (2: x), client: 192.0.2.1, server: a, request: \"GET /x HTTP/1.1\"\n",
        stamp(second)
    )
}

/// The two lines that a request with a line feed in its path makes, the second one with a time of its choice.
fn forged(second: i64, time: i64) -> String {
    format!(
        "{} [error] 7#7: *1 open() \"/srv/{}\n{} [error] 1#1: *1 x\" failed (2: x), client: 192.0.2.1, server: a\n",
        stamp(second),
        "p".repeat(700),
        stamp(time)
    )
}

/// A log of an hour up to now, a failure in each second of its half-hour, made of lines for each second.
fn hour(lines: impl Fn(i64) -> String) -> String {
    let begin = NOW - 3600;
    (0..3600)
        .map(|second| {
            let at = begin + second;
            let failure = if second / 60 == 30 {
                bind(at)
            } else {
                String::new()
            };
            missing(at) + &lines(at - begin) + &failure
        })
        .collect()
}

#[test]
fn a_line_with_a_later_time_does_not_end_a_look_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("error.log");
    let begin = NOW - 86_400;
    let at = |second| missing(begin + second);
    let back = || found_back(&path, begin - 1, begin + 3600);
    // The last line of what is read at once, by a clock that was an hour ahead.
    let before: String = (0..600).map(at).collect::<String>().repeat(3);
    let cut = (128 * 1024 / at(0).len()) * at(0).len();
    let late = at(9000);
    let mut text = before[..cut - late.len()].to_owned() + &late + &before[cut..];
    text += &(0..9).map(|n| bind(begin + 600 + n)).collect::<String>();
    fs::write(&path, &text).unwrap();
    assert_eq!(back(), 9);
    // A clock that was ahead for half a megabyte.
    let ahead = at(9000).repeat(500 * 1024 / late.len());
    fs::write(&path, ahead + &bind(begin + 600)).unwrap();
    assert_eq!(back(), 1);
    // Requests that wrote most of what is there.
    let later = NOW - 10;
    let text = hour(|second| match second {
        1200..1800 => forged(NOW - 3600 + second, later).repeat(3),
        _ => String::new(),
    });
    fs::write(&path, text).unwrap();
    assert_eq!(found_back(&path, NOW - 3000, NOW - 900), 60);
}

#[test]
fn a_look_back_ends_where_all_lines_are_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("error.log");
    let begin = NOW - 86_400;
    let text: String = (0..40_000).map(|second| missing(begin + second)).collect();
    for form in [
        text.clone(),
        text.replace("2026/11/2", "2026-11-24T05:00:00Z stderr F 2026/11/2"),
    ] {
        fs::write(&path, &form).unwrap();
        let window = Window {
            from: begin,
            to: begin + 600,
            moves: false,
        };
        let (logs, _) = look(&plan(&path, window), &clock(), &|| false).unwrap();
        let read = logs[0].seen.bytes;
        assert!(read < form.len() as u64 / 2, "{read} of {}", form.len());
    }
}

#[test]
fn a_line_with_an_old_time_does_not_hide_what_stands_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("error.log");
    let old = NOW - 200 * 86_400;
    let text = hour(|second| match second {
        2400.. => forged(NOW - 3600 + second, old).repeat(2),
        _ => String::new(),
    });
    fs::write(&path, &text).unwrap();
    assert_eq!(found_back(&path, NOW - 2400, NOW), 60);
    assert_eq!(
        found(&plan(
            &path,
            Window {
                from: NOW - 2400,
                ..moving()
            }
        )),
        Ok(60)
    );
    // The same of a clock that was wrong for a moment, again and again.
    let text = hour(|second| match second {
        2400.. => missing(old) + &missing(old),
        _ => String::new(),
    });
    fs::write(&path, &text).unwrap();
    assert_eq!(found_back(&path, NOW - 2400, NOW), 60);
}

#[test]
fn what_other_programs_wrote_first_does_not_hide_a_log_that_is_known() {
    let kernel = "Nov 24 11:00:00 proxy1 kernel: [12345.678901] a line of some length about nothing in particular\n";
    let nginx = format!("Nov 24 11:00:00 proxy1 nginx: {}", bind(NOW - 60));
    let haproxy =
        "Nov 24 11:00:00 proxy1 haproxy[7]: Connect() failed for backend b: no free ports.\n";
    for (line, cause, dialect) in [
        (&nginx[..], Cause::BindInUse, None),
        (haproxy, Cause::NoFreePort, None),
        (haproxy, Cause::NoFreePort, Some(Dialect::Haproxy)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("syslog");
        let plan = Plan {
            counted: [cause].into_iter().collect(),
            dialect,
            ..plan(&path, moving())
        };
        fs::write(&path, line).unwrap();
        assert_eq!(found(&plan), Ok(1));
        fs::rename(&path, folder.path().join("syslog.1")).unwrap();
        // Without any of its lines it says nothing.
        fs::write(&path, kernel.repeat(400)).unwrap();
        assert_eq!(found(&plan), Ok(1));
        fs::write(&path, kernel.repeat(400) + &line.repeat(50)).unwrap();
        assert_eq!(found(&plan), Ok(51));
        let mut text = fs::read_to_string(&path).unwrap();
        text += &line.repeat(50);
        fs::write(&path, text).unwrap();
        assert_eq!(found(&plan), Ok(101));
    }
    // Where nothing was around the lines of nginx, none of these are taken for its own.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("error.log");
    fs::write(&path, bind(NOW - 60)).unwrap();
    assert_eq!(found(&plan(&path, moving())), Ok(1));
    fs::rename(&path, folder.path().join("error.log.1")).unwrap();
    fs::write(&path, kernel.repeat(4000)).unwrap();
    let told = found(&plan(&path, moving())).unwrap_err();
    assert!(told.contains("is no nginx error log"), "{told}");
}

#[test]
fn in_a_syslog_other_programs_may_stand_first_for_as_long_as_they_like() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("syslog");
    let nginx = bind(NOW - 60);
    let haproxy = "Connect() failed for backend b: no free ports.\n";
    let traditional = |tag: &str, text: &str| format!("Nov 24 11:59:00 proxy1 {tag}: {text}");
    let iso = |tag: &str, text: &str| format!("2026-11-24T11:59:00.1+00:00 proxy1 {tag}: {text}");
    let rfc5424 =
        |tag: &str, text: &str| format!("<131>1 2026-11-24T11:59:00Z proxy1 {tag} 7 - - {text}");
    let wraps: [fn(&str, &str) -> String; 3] = [traditional, iso, rfc5424];
    for wrap in wraps {
        for (tag, text, cause, dialect) in [
            ("nginx", &nginx[..], Cause::BindInUse, None),
            (
                "haproxy",
                haproxy,
                Cause::NoFreePort,
                Some(Dialect::Haproxy),
            ),
        ] {
            let first = wrap(
                "kernel",
                &format!("a line{}\n", " of some length".repeat(9)),
            );
            fs::write(&path, first.repeat(4000) + &wrap(tag, text).repeat(50)).unwrap();
            let plan = |window| Plan {
                counted: [cause].into_iter().collect(),
                dialect,
                ..plan(&path, window)
            };
            assert_eq!(found(&plan(moving())), Ok(50), "{}", wrap(tag, ""));
            let back = Window {
                from: NOW - 3600,
                to: NOW,
                moves: false,
            };
            assert_eq!(found(&plan(back)), Ok(50), "{}", wrap(tag, ""));
            fs::remove_file(folder.path().join("state")).unwrap();
            // Nothing of it yet: nobody knows whether it is this log that it writes to.
            fs::write(&path, first.repeat(4000)).unwrap();
            let told = found(&plan(moving())).unwrap_err();
            assert!(told.contains("among those of syslog"), "{told}");
        }
    }
}

#[test]
fn an_error_log_behind_an_access_log_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c-json.log");
    let access =
        "192.0.2.1 - - [24/Nov/2026:11:00:00 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"curl\"\n";
    let docker = |line: &str, stream: &str| {
        let text = line.trim_end().replace('"', "\\\"");
        format!(
            "{{\"log\":\"{text}\\n\",\"stream\":\"{stream}\",\"time\":\"2026-11-24T11:00:00.1Z\"}}\n"
        )
    };
    let cri = |line: &str, stream: &str| format!("2026-11-24T11:00:00.1Z {stream} F {line}");
    let plain = |line: &str, _: &str| line.to_owned();
    let wraps: [fn(&str, &str) -> String; 3] = [docker, cri, plain];
    for wrap in wraps {
        let text =
            wrap(access, "stdout").repeat(4000) + &wrap(&bind(NOW - 60), "stderr").repeat(50);
        fs::write(&path, text).unwrap();
        let _ = fs::remove_file(folder.path().join("state"));
        assert_eq!(found(&plan(&path, moving())), Ok(50));
    }
    // An access log alone is none of these.
    fs::write(&path, access.repeat(4000)).unwrap();
    let _ = fs::remove_file(folder.path().join("state"));
    assert!(found(&plan(&path, moving())).is_err());
}
