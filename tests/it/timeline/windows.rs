//! Windows with nothing in them, the hour that comes twice, and where a drawing has its times.

use std::fs;

use super::{BAD, document, example, of_example, row, timeline};
use crate::support::plugin::{outcome, plugin};

#[test]
fn a_window_without_a_line_says_of_when_the_lines_are() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let mut command = of_example(folder.path());
    command.args([
        "--since",
        "2026-11-24 05:00",
        "--before",
        "2026-11-24 06:00",
    ]);
    let found = document(&mut command);
    assert_eq!(found["summary"], "nothing that was read lies in the window");
    let notes = found["notes"].to_string();
    for note in [
        "error.log has no line in the window: what was read of it is of 2026-11-23T05:10:00+00:00 to 2026-11-23T05:41:20+00:00",
        "ports.jsonl has no line in the window",
    ] {
        assert!(notes.contains(note), "{note} not in {notes}");
    }
    // Where nothing failed there is nothing to settle.
    let text = outcome(command.args(["--format", "text"])).text;
    assert!(!text.contains("     > "), "{text}");
    for form in ["csv", "html", "svg"] {
        assert_eq!(outcome(command.args(["--format", form])).code, Some(0));
    }
    // An empty file is no trouble, and one bin no bins.
    fs::write(folder.path().join("empty.log"), "").unwrap();
    let mut command = timeline();
    command.current_dir(folder.path()).args(["-e", "empty.log"]);
    let text = outcome(&mut command).text;
    assert!(text.contains(", 1 bin of 1 s\n"), "{text}");
}

#[test]
fn a_line_with_a_time_of_its_own_does_not_end_the_reading() {
    let folder = tempfile::tempdir().unwrap();
    let at = |second: u32| format!("05:{:02}:{:02}", second / 60, second % 60);
    let window = [
        "--since",
        "2026-11-23 05:20",
        "--before",
        "2026-11-23 06:00",
    ];
    // The name of a user is a request's to choose.
    for (user, from, to) in [("[9999999999]", 1210, 1800), ("[1]", 2400, 3600)] {
        let line = |second: u32| {
            let status = if second / 60 == 30 { 500 } else { 200 };
            let of = |user, status| {
                format!(
                    "192.0.2.1 - {user} [23/Nov/2026:{} +0000] \"GET /a HTTP/1.1\" {status} 5 \"-\" \"curl\"\n",
                    at(second)
                )
            };
            let forged = of(user, 200).repeat(if (from..to).contains(&second) { 20 } else { 0 });
            of("-", status) + &forged
        };
        fs::write(
            folder.path().join("access.log"),
            (0..3600).map(line).collect::<String>(),
        )
        .unwrap();
        let mut command = timeline();
        command
            .current_dir(folder.path())
            .args(["-a", "access.log"])
            .args(window);
        assert_eq!(row(&document(&mut command), "status", "500")["total"], 60.0);
    }
    // A clock that was wrong for a moment, again and again.
    let line =
        |second: u32, event: &str| format!("2026/11/23 {} [error] 7#7: *1 {event}\n", at(second));
    let text: String = (0..3600)
        .map(|second| {
            let wrong = line(second, "nothing of interest").repeat(3)
                + &line(second, "nothing of interest").replace("/23 05:", "/23 09:").repeat(20);
            if second / 60 == 30 {
                line(second, "connect() failed (111: Connection refused) while connecting to upstream, client: 192.0.2.1")
            } else {
                wrong
            }
        })
        .collect();
    fs::write(folder.path().join("error.log"), text).unwrap();
    let mut command = timeline();
    command
        .current_dir(folder.path())
        .args(["-e", "error.log"])
        .args(window);
    assert_eq!(
        row(&document(&mut command), "error", "refused")["total"],
        60.0
    );
}

#[test]
fn the_hour_that_comes_twice_is_two_hours() {
    let folder = tempfile::tempdir().unwrap();
    let (mut access, mut errors) = (Vec::new(), Vec::new());
    // From 01:00 on, Vienna's clocks go from 02:59 back to 02:00.
    for minute in 0..240 {
        let (local, zone) = if minute < 120 {
            (60 + minute, "+0200")
        } else {
            (minute, "+0100")
        };
        let clock = format!("{:02}:{:02}:00", local / 60, local % 60);
        let status = if [90, 150].contains(&minute) {
            500
        } else {
            200
        };
        access.push(format!(
            "192.0.2.1 - - [25/Oct/2026:{clock} {zone}] \"GET / HTTP/1.1\" {status} 1 \"-\" \"-\"\n"
        ));
        errors.push(if status == 500 {
            format!(
                "2026/10/25 {clock} [error] 7#7: *1 connect() failed (111: Connection refused) while connecting to upstream, client: 192.0.2.1, server: a, request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.1:80/\", host: \"a\"\n"
            )
        } else {
            format!("2026/10/25 {clock} [notice] 7#7: a line\n")
        });
    }
    fs::write(folder.path().join("access.log"), access.concat()).unwrap();
    fs::write(folder.path().join("error.log"), errors.concat()).unwrap();
    let mut command = plugin("incident_timeline");
    command
        .current_dir(folder.path())
        .env("TZ", "Europe/Vienna");
    command.args(["-a", "access.log", "-e", "error.log"]);
    let found = document(&mut command);
    assert_eq!(found["window"]["bins"], 240);
    for (group, name) in [("status", "500"), ("error", "refused")] {
        let values = &row(&found, group, name)["values"];
        assert_eq!(
            (&values[90], &values[150]),
            (&1.0.into(), &1.0.into()),
            "{group}"
        );
    }
    let csv = outcome(command.args(["--format", "csv"])).text;
    for zone in ["+02:00", "+01:00"] {
        let line = format!("\n2026-10-25 02:30:00{zone},status,500,,1\n");
        assert!(csv.contains(&line), "{csv}");
    }
}

#[test]
fn a_mark_without_a_date_is_of_the_day_of_the_logs() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let mut command = of_example(folder.path());
    let found = document(command.args(["--mark", "05:25 deploy", "--mark", "07:00 later"]));
    assert_eq!(
        (&found["marks"][0]["at"], &found["marks"][0]["bin"]),
        (&"2026-11-23T05:25:00+00:00".into(), &25.into())
    );
    assert!(found["marks"][1]["bin"].is_null());
}

#[test]
fn tabs_in_a_form_are_written_as_nginx_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let line = |second: i64| {
        let status = if second % 10 == 0 { 502 } else { 200 };
        format!(
            "{}.5\t{status}\tb.example\t/q/r?s=1\n",
            1_795_410_000 + second
        )
    };
    let text: Vec<String> = (0..60).map(line).collect();
    fs::write(folder.path().join("tabs.log"), text.concat()).unwrap();
    let form = r"$msec\t$status\t$host\t$request_uri";
    let conf = format!("http {{ log_format tabs \"{form}\"; }}");
    fs::write(folder.path().join("nginx.conf"), conf).unwrap();
    for told in [["--log-format", form], ["--nginx-conf", "nginx.conf"]] {
        let mut command = timeline();
        command.current_dir(folder.path()).args(["-a", "tabs.log"]);
        let found = document(command.args(told));
        assert_eq!(row(&found, "status", "502")["total"], 6.0);
        assert_eq!(row(&found, "path", "/q/r")["total"], 6.0);
    }
}

#[test]
fn the_next_command_looks_at_the_window() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let found = document(&mut of_example(folder.path()));
    let next = found["causes"][0]["next"][1].as_str().unwrap();
    let words: Vec<&str> = next.split(' ').collect();
    assert_eq!(words[0], "check_nginx_upstream_bind");
    let mut command = plugin(words[0]);
    command
        .current_dir(folder.path())
        .env("TZ", "UTC")
        .args(&words[1..]);
    let told = outcome(&mut command);
    // It finds there what the timeline did.
    assert_eq!(told.code, Some(2), "{next}: {}", told.text);
    assert_eq!(told.metric("bind_in_use"), Some(15.0), "{}", told.text);
}

/// The numbers of an attribute of all elements that hold this.
fn numbers(svg: &str, holds: &str, attribute: &str) -> Vec<f64> {
    let start = format!(" {attribute}=\"");
    let elements = svg.lines().filter(|line| line.contains(holds));
    let values = elements.map(|line| {
        line.split(&start)
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
    });
    values.map(|value| value.parse().unwrap()).collect()
}

#[test]
fn a_drawing_has_its_bars_ticks_and_marks_where_their_times_are() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let mut command = of_example(folder.path());
    command.args(["--mark", "2026-11-23 05:25:30 deploy", "--format", "svg"]);
    let svg = outcome(&mut command).text;
    let (left, width) = (250.0, 800.0);
    let bin = |x: f64| (x - left) / width * 60.0;
    let bars = numbers(&svg, "fill=\"#b42318\"", "x");
    let is_at = |minute: u32| move |x: &&f64| (bin(**x) - f64::from(minute)).abs() < 0.1;
    for minute in 0..60 {
        let found = bars.iter().find(is_at(minute)).is_some();
        assert_eq!(found, BAD.contains(&minute), "minute {minute} in {bars:?}");
    }
    let mark = numbers(&svg, "width=\"1\" height=\"4", "x");
    assert!(
        mark.iter().any(|x| (bin(*x) - 25.5).abs() < 0.1),
        "{mark:?}"
    );
    assert!(svg.contains(">^ 05:25 deploy<"), "{svg}");
    for minute in [0, 10, 20, 30, 40, 50] {
        let x = numbers(&svg, &format!(">05:{minute:02}<"), "x");
        // The middle of five letters.
        assert!(
            (bin(x[0] + 17.5) - f64::from(minute)).abs() < 0.2,
            "05:{minute:02} at {x:?}"
        );
    }
}

#[test]
fn a_mark_without_a_date_is_of_the_first_day_and_stands_also_where_no_row_is() {
    let folder = tempfile::tempdir().unwrap();
    let now = jiff::Timestamp::now();
    let line = |ago: i64| {
        let at = now.as_second() - ago;
        let at = jiff::Timestamp::from_second(at).unwrap();
        let at = at.strftime("%Y/%m/%d %H:%M:%S");
        let said =
            "open() \"/x\" failed (2: No such file or directory), client: 192.0.2.1, server: a";
        format!("{at} [error] 7#7: *1 {said}\n")
    };
    // Two days and a half: the time of the mark comes twice or three times.
    let log = [line(216_000), line(0)].concat();
    fs::write(folder.path().join("error.log"), log).unwrap();
    let first = jiff::Timestamp::from_second(now.as_second() - 215_000).unwrap();
    let mark = first.strftime("%H:%M:%S deploy").to_string();
    let mut command = timeline();
    command
        .current_dir(folder.path())
        .args(["-e", "error.log", "--mark", &mark]);
    let drawn = outcome(command.args(["-o", "a.svg"]));
    assert_eq!(drawn.code, Some(0), "{}", drawn.text);
    let svg = fs::read_to_string(folder.path().join("a.svg")).unwrap();
    assert!(
        numbers(&svg, "<rect", "height")
            .iter()
            .all(|height| *height < 10_000.0),
        "{svg}"
    );
    let found = document(&mut command);
    let at = found["marks"][0]["at"].as_str().unwrap();
    assert_eq!(at, first.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string());
}
