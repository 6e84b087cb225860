//! check_nginx_upstream_bind: logs that grow, rotate and lie, and a real nginx that runs out of ports.

mod dialects;
mod journal;
mod real;
mod rotation;
mod state;
mod unreadable;
mod zones;

use std::fs::File;

use crate::support::growing_log::{BIND, GrowingLog, middle_of_this_minute, stamp};
use crate::support::plugin::{Outcome, outcome, plugin};

/// Runs the check on the log.
fn look(log: &GrowingLog) -> Outcome {
    outcome(&mut log.check())
}

fn count(outcome: &Outcome) -> Option<f64> {
    outcome.metric("count")
}

#[test]
fn the_report_names_count_peak_upstream_and_what_to_do() {
    let mut log = GrowingLog::new();
    log.binds(2, 400);
    log.binds(6, 200);
    let other = log.line(
        190,
        "connect() to 192.0.2.8:80 failed (99: x)",
        "192.0.2.8:80",
    );
    log.append(other);
    let refused = log.line(180, "connect() failed (111: x)", "192.0.2.8:80");
    log.append(refused);
    let found = look(&log);
    assert_eq!(found.code, Some(2), "{}", found.text);
    assert!(
        found.headline().starts_with(
            "NGINX CRITICAL: 8 of bind-in-use, 1 of no-free-port in the last 10 min, peak "
        ),
        "{}",
        found.headline()
    );
    assert!(
        found
            .headline()
            .contains(", 89 % to log3:8080 (bind before connect: no port left)")
    );
    for (label, value) in [
        ("count", 9.0),
        ("connections", 9.0),
        ("bind_in_use", 8.0),
        ("no_free_port", 1.0),
        ("refused", 1.0),
        ("suspect", 0.0),
        ("unparsed", 0.0),
    ] {
        assert_eq!(found.metric(label), Some(value), "{label}");
    }
    assert_eq!(
        found.metric("bytes_read"),
        Some(File::open(log.path()).unwrap().metadata().unwrap().len() as f64)
    );
    assert!(
        found.text.contains("keepalive in the upstream block"),
        "{}",
        found.text
    );
    assert!(
        found.text.contains("servers: shop.example 9 (100 %)"),
        "{}",
        found.text
    );
    assert!(found.text.contains("beside: 1 refused"), "{}", found.text);
}

#[test]
fn a_second_look_says_the_same_and_reads_nothing_twice() {
    let mut log = GrowingLog::new();
    log.binds(5, 300);
    let first = look(&log);
    let second = look(&log);
    assert_eq!((first.code, second.code), (Some(2), Some(2)));
    assert_eq!(first.headline(), second.headline());
    assert_eq!(second.metric("bytes_read"), Some(0.0));
    log.binds(2, 100);
    let third = look(&log);
    assert_eq!(count(&third), Some(7.0));
    let new = third.metric("bytes_read").unwrap();
    assert!(new > 0.0 && new < first.metric("bytes_read").unwrap());
}

#[test]
fn the_window_is_the_logs_own_time() {
    let mut log = GrowingLog::new();
    log.binds(3, 700);
    assert_eq!(count(&look(&log)), Some(0.0));
    log.binds(4, 590);
    assert_eq!(count(&look(&log)), Some(4.0));
    let mut longer = log.check();
    assert_eq!(count(&outcome(longer.args(["--last", "15m"]))), Some(7.0));
    let mut shorter = log.check();
    assert_eq!(count(&outcome(shorter.args(["--last", "60"]))), Some(0.0));
}

#[test]
fn limits_judge_the_count_and_the_worst_minute() {
    let mut log = GrowingLog::as_of(middle_of_this_minute());
    log.binds(10, 240);
    log.binds(5, 120);
    let code = |options: &[&str]| outcome(log.check().args(options)).code;
    for (options, expected) in [
        (&["-w", "15", "-c", "20"][..], 0),
        (&["-w", "14", "-c", "20"], 1),
        (&["-w", "5", "-c", "14"], 2),
        (&["-c", "@10:20"], 2),
        (
            &["--per-minute-warning", "9", "--per-minute-critical", "10"],
            1,
        ),
        (&["--per-minute-critical", "9"], 2),
        (&["--cause", "refused,timeout"], 0),
        (&["--cause", "bind-in-use", "-w", "100"], 0),
        (&["--cause", "nonsense"], 3),
        (&["-c", "x"], 3),
        (&["--last", "0"], 3),
    ] {
        assert_eq!(code(options), Some(expected), "{options:?}");
    }
}

#[test]
fn other_causes_have_limits_of_their_own_and_events_are_listed_as_asked() {
    let mut log = GrowingLog::new();
    for ago in [100, 110, 200] {
        let line = log.line(ago, "connect() failed (111: x)", "192.0.2.8:80");
        log.append(line);
    }
    let also = |limits: &str| outcome(log.check().args(["--also", limits]));
    assert_eq!(also("refused=3:5").code, Some(0));
    let found = also("refused=2:5");
    assert_eq!(found.code, Some(1), "{}", found.text);
    assert!(
        found
            .headline()
            .starts_with("NGINX WARNING: 3 of refused in the last 10 min (nobody listens there)"),
        "{}",
        found.headline()
    );
    assert!(
        found.first_line().contains("'refused'=3;2;5;0;"),
        "{}",
        found.text
    );
    assert_eq!(also("refused=1:2").code, Some(2));
    assert_eq!(also("refused=x").code, Some(3));
    log.binds(4, 150);
    let found = outcome(log.check().args(["--by", "uri,minute"]));
    assert!(
        found.text.contains("       4          100 % /cart ####"),
        "{}",
        found.text
    );
}

#[test]
fn a_level_that_hides_what_is_asked_for_is_told() {
    let mut log = GrowingLog::new();
    log.binds(2, 60);
    let hint = |options: &[&str]| {
        outcome(log.check().args(options))
            .text
            .contains("no line below crit")
    };
    assert!(!hint(&[]));
    assert!(hint(&["-v"]));
    assert!(hint(&["--cause", "refused"]));
    assert!(hint(&["--also", "timeout=5:50"]));
}

#[test]
fn nul_bytes_broken_utf8_and_lines_without_end_do_no_harm() {
    let mut log = GrowingLog::new();
    log.binds(1, 300);
    log.append(vec![0; 5000]);
    log.binds(1, 299);
    log.append(vec![b'x'; 1_500_000]);
    log.append("\n");
    log.binds(1, 298);
    log.append(b"\xff\xfe\x1b[2J caf\xe9\r\n");
    let line = log.line(297, BIND, "\u{202e}|evil=1:80");
    log.append(line);
    let found = look(&log);
    assert_eq!(count(&found), Some(4.0), "{}", found.text);
    assert_eq!(found.text.matches('|').count(), 1, "{}", found.text);
    assert_eq!(found.metric("unparsed"), Some(1.0));
    assert_eq!(count(&look(&log)), Some(4.0));
}

#[test]
fn a_line_that_a_request_wrote_is_a_suspect() {
    let mut log = GrowingLog::new();
    log.binds(1, 120);
    let forged = log.line(100, BIND, "192.0.2.1:1");
    log.append(format!(
        "{} [error] 7#7: *116 open() \"/srv/x\n{}\" failed (2: No such file or directory), client: 192.0.2.66, \
         server: a, request: \"GET /x%0a HTTP/1.1\", host: \"a\"\n",
        stamp(100),
        forged.trim_end()
    ));
    log.binds(1, 90);
    let found = look(&log);
    assert_eq!(
        (count(&found), found.metric("suspect")),
        (Some(2.0), Some(1.0)),
        "{}",
        found.text
    );
    assert!(
        found.text.contains("1 suspect line not counted"),
        "{}",
        found.text
    );
}

#[test]
fn an_empty_log_is_fine_and_so_is_one_without_failures() {
    let log = GrowingLog::new();
    let found = look(&log);
    assert_eq!(found.code, Some(0), "{}", found.text);
    assert_eq!(
        found.headline(),
        "NGINX OK: no bind-in-use or no-free-port in the last 10 min (1 file, 0 other upstream errors)"
    );
    log.append(format!(
        "{} [notice] 7#7: start worker processes\n",
        stamp(10)
    ));
    assert_eq!(look(&log).code, Some(0));
}

#[test]
fn a_look_back_takes_any_window_and_keeps_no_state() {
    let mut log = GrowingLog::as_of(middle_of_this_minute());
    log.binds(3, 50_000);
    log.binds(5, 40_000);
    log.rename("error.log.1");
    log.binds(7, 30_000);
    let at = |ago: i64| stamp(ago).replace('/', "-");
    let found = outcome(log.check().args([
        "--since",
        &at(45_000),
        "--before",
        &at(20_000),
        "--format",
        "json",
    ]));
    let json = found.json();
    assert_eq!(json["details"]["causes"]["bind-in-use"], 12, "{json}");
    assert_eq!(json["details"]["minutes"].as_array().unwrap().len(), 2);
    assert!(!log.at("state").exists());
}

#[test]
fn another_log_is_held_against_the_minutes_and_chance() {
    let now = middle_of_this_minute();
    let mut log = GrowingLog::as_of(now);
    let mut access = Vec::new();
    for minute in (1..200_i64).rev() {
        let burst = (62..77).contains(&minute);
        if burst {
            log.binds(3, minute * 60);
        }
        let at = jiff::Timestamp::from_second(now.as_second() - minute * 60).unwrap();
        let at = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
        let status = if burst || minute == 20 { 500 } else { 200 };
        access.push(format!(
            "192.0.2.1 - - [{at}] \"GET /cart/a/b HTTP/1.1\" {status} 1 \"-\" \"-\"\n"
        ));
    }
    std::fs::write(log.at("access.log"), access.concat()).unwrap();
    let mut command = log.check();
    command
        .args(["--last", "3h", "--correlate"])
        .arg(log.at("access.log"));
    command.arg("--correlate").arg(log.at("missing.log"));
    let found = outcome(&mut command);
    assert!(
        found
            .text
            .contains("it coincides: 15 of its 16 minutes with failures are among ours"),
        "{}",
        found.text
    );
    assert!(
        found.text.contains("clients got in these: 500 15 times")
            && found.text.contains("in the common minutes: /cart/a 15"),
        "{}",
        found.text
    );
    assert!(
        found.text.contains("--correlate: cannot read "),
        "{}",
        found.text
    );
    let json = outcome(command.args(["--format", "json"])).json();
    let correlation = &json["details"]["correlation"][0];
    assert_eq!(correlation["overlap"], 15, "{json}");
    assert_eq!(correlation["statuses"]["500"], 15, "{json}");
    assert_eq!(json["details"]["clients_get"]["bind-in-use"], "500");
    assert_eq!(json["details"]["dialect"], "nginx");
    assert!(correlation["p_value"].as_f64().unwrap() < 1e-6, "{json}");
}

#[test]
fn standard_input_is_read_to_its_end_and_nothing_is_kept() {
    let mut log = GrowingLog::new();
    log.binds(3, 60);
    for _ in 0..2 {
        let mut command = plugin("check_nginx_upstream_bind");
        command
            .args(["-f", "-"])
            .stdin(File::open(log.path()).unwrap());
        command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", log.at("state"));
        let found = outcome(&mut command);
        assert_eq!(
            (found.code, count(&found)),
            (Some(2), Some(3.0)),
            "{}",
            found.text
        );
    }
    assert!(!log.at("state").exists());
    let found = outcome(log.check().args(["-f", "-"]));
    assert_eq!(found.code, Some(3), "{}", found.text);
}

#[test]
fn what_docker_cri_and_syslog_put_around_a_line_is_taken_off() {
    // Their own time is so far off that it shows no zone.
    let wrappers: [fn(&str) -> String; 3] = [
        |line| {
            let line = line.replace('"', "\\\"");
            format!(
                "{{\"log\":\"{line}\\n\",\"stream\":\"stderr\",\"time\":\"2020-11-23T05:00:00.1Z\"}}\n"
            )
        },
        |line| format!("2020-11-23T05:00:00.123456789Z stderr F {line}\n"),
        |line| format!("Nov 23 05:00:00 proxy1 nginx: {line}\n"),
    ];
    for wrap in wrappers {
        let mut log = GrowingLog::new();
        for ago in [900, 300, 200] {
            let line = log.line(ago, BIND, "log3:8080");
            log.append(wrap(line.trim_end()));
        }
        let found = look(&log);
        assert_eq!(count(&found), Some(2.0), "{}", found.text);
        assert!(
            found.headline().contains("100 % to log3:8080"),
            "{}",
            found.headline()
        );
        let line = log.line(100, BIND, "log3:8080");
        log.append(wrap(line.trim_end()));
        log.rename("error.log.1");
        assert_eq!(count(&look(&log)), Some(3.0));
    }
}

#[test]
fn the_json_document_has_the_fields_that_are_promised() {
    let mut log = GrowingLog::new();
    log.binds(3, 120);
    let json = outcome(log.check().args(["--format", "json"])).json();
    let details = json["details"].as_object().unwrap();
    for field in [
        "files",
        "window",
        "causes",
        "minutes",
        "peak",
        "upstreams",
        "servers",
        "clients",
        "connections",
        "first",
        "last",
        "unparsed",
        "suspect",
        "correlation",
    ] {
        assert!(details.contains_key(field), "{field}: {json}");
    }
    assert_eq!(details["upstreams"][0]["name"], "log3:8080");
    assert_eq!(details["peak"]["count"], 3);
    assert_eq!(
        details["minutes"][0]["minute"].as_str().unwrap().len(),
        "2022-11-15T05:28".len()
    );
    assert_eq!(json["findings"][0]["cause"], "bind-in-use");
}
