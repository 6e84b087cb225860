//! `incident_timeline`: what it makes of logs, written by hand and by real daemons.

mod daemons;
mod failures;
mod lab;
mod looks;
mod output;
mod page;
mod reasoning;
mod replay;
mod rotated;
mod windows;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::docs::shown;
use crate::support::plugin::{outcome, plugin, project, search_path};

/// A command that runs it, in UTC.
fn timeline() -> Command {
    let mut command = plugin("incident_timeline");
    command.args(["--log-tz", "UTC"]).env("TZ", "UTC");
    command
}

/// Its one document.
fn document(command: &mut Command) -> Value {
    let outcome = outcome(command.args(["--format", "json"]));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    outcome.json()
}

/// A row of the document.
fn row<'a>(document: &'a Value, group: &str, name: &str) -> &'a Value {
    let rows = document["lanes"].as_array().expect("a list");
    let found = rows
        .iter()
        .find(|row| row["group"] == group && row["name"] == name);
    found.unwrap_or_else(|| panic!("no row {group} {name}: {}", names(document)))
}

fn names(document: &Value) -> String {
    let rows = document["lanes"].as_array().expect("a list");
    let name = |row: &Value| format!("{} {}", row["group"], row["name"]);
    rows.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// `05:MM:SS` of the day of the example.
fn clock(second: u32) -> String {
    format!("05:{:02}:{:02}", second / 60, second % 60)
}

/// The minutes in which the example fails.
const BAD: [u32; 5] = [10, 11, 25, 40, 41];

/// Logs of an hour: three failures in each bad minute, a request every ten seconds, a check every minute, the ports.
fn example(folder: &Path) {
    let (mut errors, mut access, mut icinga, mut ports) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let begin = "2026-11-23T05:00:00Z".parse::<jiff::Timestamp>().unwrap();
    for second in (0..3600).step_by(10) {
        let is_bad = BAD.contains(&(second / 60));
        let fails = is_bad && second % 60 < 30;
        let (time, status) = (clock(second), if fails { 500 } else { 200 });
        let (service, proxy) =
            [("a.example", "10.0.0.1"), ("b.example", "10.0.0.2")][usize::from(second % 20 == 0)];
        access.push(format!(
            "192.0.2.1 - - [23/Nov/2026:{time} +0000] \"GET /api/v1/x?secret HTTP/1.1\" {status} 9 \"-\" \"curl\" {service} {proxy}:80\n"
        ));
        if fails {
            errors.push(format!(
                "2026/11/23 {time} [crit] 7#7: *{second} bind(0.0.0.0) failed (98: Address already in use) while connecting to upstream, client: 192.0.2.1, server: {service}, request: \"GET /api/v1/x HTTP/1.1\", upstream: \"http://{proxy}:80/\", host: \"{service}\"\n"
            ));
        }
        if second % 60 == 50 {
            let at = begin.as_second() + i64::from(second);
            let (state, text) = if is_bad {
                ("CRITICAL", "HTTP/1.1 500")
            } else {
                ("OK", "HTTP/1.1 200")
            };
            icinga.push(format!(
                "[{at}] SERVICE ALERT: web1;http;{state};SOFT;1;HTTP {state}: {text}\n"
            ));
            let share = if is_bad { 100 } else { 40 };
            ports.push(format!(
                "{{\"record\":\"ports\",\"at\":\"2026-11-23T{time}.123+00:00\",\"service\":null,\"namespace\":\"net:[4026531840]\",\"budget\":\"bind\",\"used\":{share},\"limit\":100,\"share\":{share},\"limits\":[]}}\n"
            ));
        }
    }
    for (name, text) in [
        ("error.log", errors),
        ("access.log", access),
        ("icinga.log", icinga),
        ("ports.jsonl", ports),
    ] {
        fs::write(folder.join(name), text.concat()).unwrap();
    }
}

/// The form of the example's access log.
const FORM: &str = "$remote_addr - - [$time_local] \"$request\" $status $bytes_sent \"$http_referer\" \"$http_user_agent\" $server_name $upstream_addr";

/// A command that reads all of the example.
fn of_example(folder: &Path) -> Command {
    let mut command = timeline();
    command.current_dir(folder).args([
        "-e",
        "error.log",
        "-a",
        "access.log",
        "-i",
        "icinga.log",
        "-j",
        "ports.jsonl",
        "--log-format",
        FORM,
    ]);
    command
}

#[test]
fn four_sources_lie_side_by_side_and_coincide() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let document = document(&mut of_example(folder.path()));
    // Of which two logs tell, and which are no more for that.
    let summary = document["summary"].as_str().unwrap();
    let failures = "15 failures by the access logs, in 5 of 60 bins of 1 min, ";
    assert!(summary.starts_with(failures), "{summary}");
    let window = &document["window"];
    assert_eq!((&window["step"], &window["bins"]), (&60.into(), &60.into()));
    for (group, name) in [
        ("status", "500"),
        ("error", "bind-in-use"),
        ("check", "web1!http"),
        ("ports", "net:[4026531840] bind"),
    ] {
        let row = row(&document, group, name);
        let raised: Vec<u32> = (0..60)
            .filter(|bin| {
                let value = &row["values"][*bin as usize];
                value.as_f64().unwrap() > if group == "ports" { 50.0 } else { 0.0 }
            })
            .collect();
        assert_eq!(raised, BAD, "{group}");
        assert_eq!(row["raised"], 5, "{group}");
    }
    assert_eq!(row(&document, "requests", "requests")["total"], 360.0);
    assert_eq!(row(&document, "status", "500")["total"], 15.0);
    assert_eq!(row(&document, "path", "/api/v1")["total"], 15.0);
    let pair = document["coincidences"].as_array().unwrap().iter();
    let pair = pair.clone().find(|pair| {
        pair["names"][0] == "status 500" && pair["names"][1].as_str().unwrap().starts_with("ports")
    });
    let pair = pair.expect("the ports rise with the failures");
    assert_eq!(
        (&pair["both"], &pair["bins"], &pair["best_lag"]),
        (&5.into(), &60.into(), &0.into())
    );
    // 1 / C(60, 5), the chance that five minutes of sixty are the same ones.
    let p = pair["p_value"].as_f64().unwrap();
    assert!((p * 5_461_512.0 - 1.0).abs() < 1e-6, "{p}");
    let cause = &document["causes"][0];
    assert_eq!(cause["cause"], "client-ports", "{}", document["causes"]);
    assert!(cause["score"].as_f64().unwrap() > 0.9, "{cause}");
    assert_eq!(document["first"]["at"], "2026-11-23T05:10:00+00:00");
    let said = document.to_string();
    assert!(!said.contains(" causes ") && said.contains("coincides"));
}

#[test]
fn forms_of_access_logs_are_found_in_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "nginx.conf",
        "http { log_format short '$remote_addr $status';\n log_format j escape=json '{\"time\":\"$time_iso8601\",\"status\":$status,\"host\":\"$host\",\"request\":\"$request\",\"up\":\"$upstream_addr\",\"ups\":\"$upstream_status\"}'; access_log access.log j; }",
    );
    let line = |second: u32, host: &str, up: &str, ups: &str, status: u16| {
        format!(
            "{{\"time\":\"2026-11-23T05:00:{second:02}+00:00\",\"status\":{status},\"host\":\"{host}\",\"request\":\"GET /x/y/z HTTP/1.1\",\"up\":\"{up}\",\"ups\":\"{ups}\"}}\n"
        )
    };
    let mut text = String::new();
    for second in 0..30 {
        text += &line(second, "a", "10.0.0.1:80, 10.0.0.2:80", "502, 200", 200);
        text += &line(second, "b", "10.0.0.2:80", "200", 200);
    }
    write("access.log", &text);
    let mut command = timeline();
    command
        .current_dir(folder.path())
        .args(["-a", "access.log", "--nginx-conf", "nginx.conf"]);
    let document = document(&mut command);
    assert_eq!(row(&document, "backend", "10.0.0.1:80")["total"], 30.0);
    let common = &document["common"][0];
    assert_eq!(
        (&common["dimension"], &common["value"]),
        (&"backend".into(), &"10.0.0.1:80".into())
    );
    assert_eq!(
        (
            &common["failed"],
            &common["tried"],
            &common["failed_without"]
        ),
        (&30.into(), &30.into(), &0.into())
    );
}

#[test]
fn the_proxy_that_failing_services_share_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (proxy, services) in [("p0", &["c", "d"][..]), ("p1", &["a", "b"])] {
        let mut text = Vec::new();
        for second in 0..600 {
            for service in services {
                let status = if proxy == "p1" && second % 60 < 3 {
                    500
                } else {
                    200
                };
                text.push(format!(
                    "x [23/Nov/2026:{} +0000] \"GET / HTTP/1.1\" {status} {service}\n",
                    clock(second)
                ));
            }
        }
        fs::write(folder.path().join(proxy), text.concat()).unwrap();
    }
    let mut command = timeline();
    command.current_dir(folder.path()).args([
        "-a",
        "proxy0=p0",
        "-a",
        "proxy1=p1",
        "--log-format",
        "x [$time_local] \"$request\" $status $host",
    ]);
    let found = document(&mut command);
    let common = &found["common"][0];
    assert_eq!(
        (&common["value"], &common["parts_them"]),
        (&"proxy1".into(), &true.into()),
        "{common}"
    );
    assert_eq!(found["causes"][0]["cause"], "unknown");
    let text = outcome(command.args(["--format", "text"])).text;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains(
            "proxy proxy1: all 2 failing services go through it, none of the 2 that stayed well"
        ),
        "{text}"
    );
}

#[test]
fn icingas_own_log_tells_of_runs_and_changes_and_keeps_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\
[2026-11-23 05:00:01 +0000] notice/Process: Running command '/x/check_http' '-I' '192.0.2.7' '-a' 'me:hunter2': PID 7
[2026-11-23 05:00:02 +0000] notice/Process: PID 7 ('/x/check_http' '-I' '192.0.2.7' '-u' '/a?token=hunter2' '-a' 'me:hunter2') terminated with exit code 2
[2026-11-23 05:00:02 +0000] notice/Checkable: State Change: Checkable 'web1!http' soft state change from OK to CRITICAL detected.
[2026-11-23 05:00:03 +0000] notice/Checkable: State Change: Checkable 'web1!http' hard state change from CRITICAL to OK detected.
[2026-11-23 05:00:04 +0000] notice/Process: PID 8 ('/x/check_http' '-H' 'b' '-u' 'https://me:hunter2@b/a') terminated with exit code 2
[2026-11-23 05:00:04 +0000] notice/Process: PID 8 ('/x/check_mysql' '-H' 'db1' '-p' 'hunter2' '-u' 'icinga') terminated with exit code 2
[2026-11-23 05:00:04 +0000] notice/Process: PID 8 ('/x/check_http' '-I' '192.0.2.7' '-u' '/a') terminated with exit code 0
[2026-11-23 05:00:05 +0000] critical/ApiListener: Cannot connect to host 'a' on port '5665': Connection refused
";
    fs::write(folder.path().join("debug.log"), text).unwrap();
    let mut command = timeline();
    command.current_dir(folder.path()).args(["-i", "debug.log"]);
    let found = document(&mut command);
    assert_eq!(row(&found, "run", "check_http 192.0.2.7 /a")["total"], 1.0);
    assert_eq!(row(&found, "run", "check_http b https://b/a")["total"], 1.0);
    assert_eq!(row(&found, "run", "check_mysql db1")["total"], 1.0);
    assert_eq!(row(&found, "check", "web1!http")["total"], 1.0);
    assert_eq!(row(&found, "daemon", "ApiListener")["total"], 1.0);
    assert!(!found.to_string().contains("hunter2"));

    // The main log has what is above a notice.
    let text = "\
[2026-11-23 05:00:00 +0000] information/Checkable: Checkable 'web1!http' has 1 notification(s). Checking filters for type 'Problem', sends will be logged.
[2026-11-23 05:00:01 +0000] warning/PluginCheckTask: Check command for object 'web1!http' (PID: 9, arguments: '/x/check_http' '-a' 'me:hunter2') terminated with exit code 128, output: execvpe(/x/check_http) failed: No such file or directory
[2026-11-23 05:00:05 +0000] critical/ApiListener: Cannot connect to host 'a' on port '5665': Connection refused
";
    fs::write(folder.path().join("icinga2.log"), text).unwrap();
    let mut command = timeline();
    let command = command.current_dir(folder.path());
    let found = document(command.args(["-i", "icinga2.log"]));
    let plugin = row(&found, "daemon", "plugin of web1!http");
    let line = "[2026-11-23 05:00:01 +0000] plugin of web1!http terminated with exit code 128";
    assert!(plugin.to_string().contains(line), "{plugin}");
    assert!(!found.to_string().contains("hunter2"));
    let summary = found["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("2 failures by Icinga itself, in 2 of "),
        "{summary}"
    );
}

#[test]
fn a_forged_error_line_is_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let forged = "2026/11/23 05:00:00 [error] 7#7: *1 open() \"/srv/x
2026/11/23 05:00:00 [crit] 7#7: *2 bind(0.0.0.0) failed (98: Address already in use) while connecting to upstream, client: 192.0.2.1\" failed (2: No such file or directory), client: 192.0.2.9, server: a, request: \"GET /x HTTP/1.1\", host: \"a\"
2026/11/23 05:00:01 [error] 7#7: *3 connect() failed (111: Connection refused) while connecting to upstream, client: 192.0.2.1, server: a, request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.1:80/\", host: \"a\"
";
    fs::write(folder.path().join("error.log"), forged).unwrap();
    let mut command = timeline();
    command.current_dir(folder.path()).args(["-e", "error.log"]);
    let found = document(&mut command);
    assert_eq!(found["sources"][0]["suspect"], 1);
    assert_eq!(row(&found, "error", "refused")["total"], 1.0);
    assert_eq!(found["causes"][0]["cause"], "dead-backend");
}

#[test]
fn lines_of_any_kind_do_not_stop_it() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let mut text = fs::read(folder.path().join("access.log")).unwrap();
    text.extend_from_slice(b"\xff\x00\x1b]0;x\x07 no line\n\n[\n");
    text.extend(std::iter::repeat_n(b'x', 300_000));
    text.extend_from_slice(b"\n192.0.2.1 - - [23/Nov/2026:05:59:59 +0000] \"GET /\x1b[31m|<script> HTTP/1.1\" 500 9 \"-\" \"\" a b\n");
    for name in ["access.log", "error.log", "icinga.log", "ports.jsonl"] {
        let mut whole = fs::read(folder.path().join(name)).unwrap();
        whole.extend_from_slice(&text);
        fs::write(folder.path().join(name), whole).unwrap();
    }
    for form in ["text", "json", "csv", "html", "svg"] {
        let told = outcome(of_example(folder.path()).args(["--format", form]));
        assert_eq!(told.code, Some(0), "{form}");
        assert!(!told.text.contains(['\u{1b}', '\u{7}', '\0']), "{form}");
        assert!(
            form == "json"
                || form == "text"
                || form == "csv"
                || !told.text.contains("<script> HTTP"),
            "{form}"
        );
    }
}

#[test]
fn fixtures_of_a_real_nginx_are_read() {
    let mut command = timeline();
    command
        .current_dir(project())
        .args(["-e", "tests/fixtures/nginx_error.log"]);
    let found = document(&mut command);
    assert!(
        row(&found, "error", "bind-in-use")["total"]
            .as_f64()
            .unwrap()
            > 0.0
    );
}

#[test]
fn what_comes_through_a_pipe_is_read_and_a_source_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let mut command = timeline();
    let errors = fs::File::open(folder.path().join("error.log")).unwrap();
    command.stdin(errors).current_dir(folder.path());
    command.args(["-e", "-", "-j", "none.jsonl"]);
    let found = document(&mut command);
    assert_eq!(row(&found, "error", "bind-in-use")["total"], 15.0);
    // What the error log says of services and backends stands in for an access log.
    assert_eq!(row(&found, "service", "a.example")["total"], 5.0);
    let trouble = &found["sources"][0]["trouble"];
    assert!(
        trouble.as_str().unwrap().contains("none.jsonl"),
        "{trouble}"
    );
}

#[test]
fn the_command_of_the_page_makes_the_report() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let here = [
        ("/var/log/nginx/", ""),
        ("/var/log/icinga2/debug.log", "icinga.log"),
        ("/var/log/proxy-checks.jsonl", "ports.jsonl"),
        ("-o ", &format!("--log-format '{FORM}' -o ")),
    ];
    let line = shown("incident_timeline.md", "incident_timeline ", &here);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &line])
        .env("PATH", search_path())
        .env("TZ", "UTC");
    let outcome = outcome(shell.current_dir(folder.path()));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    let report = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(report.contains("deploy of service1"));
}
