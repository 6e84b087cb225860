//! The shipped services under a real Icinga 2, on the incident: ten times as fast, and apart from that as they are.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::support::icinga::Icinga;
use crate::support::icinga::setup::{Node, shipped};
use crate::support::incident::{Incident, Kind};

/// What a tenth of a minute is, in seconds: the interval of an ordinary check in these tests.
const MINUTE: f64 = 6.0;

/// How long the loop of a check goes on, in seconds of these tests.
const DURATION: f64 = 4.5;

/// A shipped file with every duration divided by ten.
pub fn ten_times_as_fast(name: &str) -> String {
    let text = shipped(name);
    let lines = text.lines().map(|line| {
        let scaled = line.rsplit_once(" = ").and_then(|(key, value)| {
            let at = value.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = value[..at].parse().ok()?;
            let tenth = match &value[at..] {
                "s" => 100,
                "m" => 6000,
                "h" => 360_000,
                _ => return None,
            };
            Some(format!("{key} = {}ms", number * tenth))
        });
        scaled.unwrap_or_else(|| line.to_owned()) + "\n"
    });
    lines.collect()
}

/// A node alone with the shipped services, which look at this incident's log and keep their state with the node.
pub fn fast_node(incident: &Incident) -> Node {
    let node = Node::alone()
        .shipped("http_intermittent.conf")
        .shipped("hosts.conf")
        .objects(&mail())
        .objects(&on_log(incident, "SpoolDir + \"/log.state\""));
    let fast = [
        "templates.conf",
        "services.conf",
        "dependencies.conf",
        "notifications.conf",
    ];
    fast.iter().fold(node, |node, name| {
        node.file(&format!("conf.d/{name}"), &ten_times_as_fast(name))
    })
}

/// Has all hosts' log be the incident's, and its state in the file of this expression.
pub fn on_log(incident: &Incident, state_file: &str) -> String {
    format!(
        "template Host \"test\" default {{
  vars.nginx_upstream_bind_file = \"{}\"
  vars.nginx_upstream_bind_state_file = {state_file}
}}
",
        incident.nginx().error_log().display()
    )
}

/// What notifications.conf takes from Icinga's own example configuration, with a command that keeps what it would send.
pub fn mail() -> String {
    r#"
object UserGroup "icingaadmins" { }
object User "admin" { groups = [ "icingaadmins" ] }
object NotificationCommand "mail-service-notification" {
  command = [ "/bin/sh", "-c", "echo \"$$0 $$1\" >> " + SpoolDir + "/pages", "$service.name$", "$notification.type$" ]
}
"#
    .to_owned()
}

pub fn is_ok(service: &Value) -> bool {
    service["state"] == 0 && service["last_check_result"].is_object()
}

pub fn is_hard_critical(service: &Value) -> bool {
    (&service["state"], &service["state_type"]) == (&json!(2), &json!(1))
}

/// When the proxy said for the first time that it had no port left, in seconds of the Unix epoch.
fn time_of_the_first_500(incident: &Incident) -> f64 {
    let deadline = Instant::now() + Duration::from_mins(1);
    while incident.nginx().error_lines(Kind::Bind.error()) == 0 {
        assert!(Instant::now() < deadline, "nobody got a 500");
        std::thread::sleep(Duration::from_millis(5));
    }
    now()
}

/// How much later than planned the check began and its result was worked on, in seconds: that delay is the machine's, and
/// not ten times as fast as in real time.
fn lateness(service: &Value) -> f64 {
    let result = &service["last_check_result"];
    let time = |value: &Value| value.as_f64().expect("a time");
    let began = time(&result["execution_start"]);
    let change = time(&service["last_hard_state_change"]);
    (began - time(&result["schedule_start"])) + (change - began - DURATION)
}

fn now() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("a clock after 1970").as_secs_f64()
}

#[test]
fn the_shipped_services_are_critical_within_a_check_interval_where_check_http_stays_ok() {
    let incident = Incident::start(Kind::Bind);
    // As Icinga's documentation has it: once a minute, twice as often after a failure, the third one counts.
    let usual = r#"
object Service "check_http" {
  host_name = "proxy1"
  check_command = "http"
  check_interval = 6s
  retry_interval = 3s
  max_check_attempts = 3
  vars.http_vhost = "service1.example"
  vars.http_uri = "/"
}
"#;
    let icinga = Icinga::start_node(&incident.client, &fast_node(&incident).objects(usual));
    let (ours, theirs) = ("proxy1!http-service1", "proxy1!check_http");
    let all = [ours, "proxy1!intermittent-service1", theirs];
    for name in all {
        icinga.wait_for(name, "OK", is_ok);
    }

    // The period is no multiple of the retry interval, so that no two attempts of check_http in a row fall into failures;
    // of those ten times a second some do, also on a busy machine.
    let spare = Duration::from_secs(4);
    let load = incident.oscillate(spare, Duration::from_millis(600));
    let first_500 = time_of_the_first_500(&incident);
    let found = icinga.wait_for(ours, "critical for good", is_hard_critical);
    let after = found["last_hard_state_change"].as_f64().expect("a time") - first_500;
    let late = lateness(&found);
    assert!(
        after > 0.0 && after < MINUTE + late,
        "{after} s after the first 500, of which the machine was late by {late} s: {found}"
    );
    let output = found["last_check_result"]["output"].as_str().expect("text");
    assert!(
        output.starts_with("HTTP CRITICAL: HTTP/1.1 500 Internal Server Error - "),
        "{output}"
    );
    icinga.wait_for(all[1], "critical for good", is_hard_critical);

    // Three more minutes of the usual check.
    let until = first_500 + 3.0 * MINUTE;
    let mut soft = 0;
    let usual = icinga.wait_for(theirs, "checked for so long", |service| {
        assert!(!is_hard_critical(service), "{service}");
        soft += usize::from(service["state"] != 0);
        service["last_check"]
            .as_f64()
            .is_some_and(|last| last > until)
    });
    assert_eq!(usual["last_hard_state"], 0, "{usual}");
    drop(load);
    let mut out = std::io::stdout();
    let _ = writeln!(
        out,
        "after the first 500, in tenths of real time: http-service1 CRITICAL after {after:.1} s: {output}\n\
         check_http {} after {:.1} s{}",
        usual["last_check_result"]["output"],
        now() - first_500,
        if soft > 0 {
            ", with a soft state on the way"
        } else {
            ""
        },
    );
}

#[test]
fn exhausted_ports_page_once_and_not_for_every_url() {
    // Icinga runs where the ports run out, and its own connections need some: only connect() shares them.
    let incident = Incident::start(Kind::Connect);
    let icinga = Icinga::start_node(&incident.proxy, &fast_node(&incident));
    let pages = || fs::read_to_string(icinga.folder().join("spool/pages")).unwrap_or_default();
    let ports = "proxy1!client-ports";
    let symptoms = [
        "http-service1",
        "http-service2",
        "intermittent-service1",
        "nginx-upstream",
    ];
    let symptoms = symptoms.map(|name| format!("proxy1!{name}"));
    for name in symptoms.iter().map(String::as_str).chain([ports]) {
        icinga.wait_for(name, "OK", is_ok);
    }
    assert_eq!(pages(), "");

    // The base of TIME_WAIT is gone after a minute: what is given back is taken again, for as long as this lasts.
    let squeeze = incident.oscillate(Duration::ZERO, Duration::from_mins(5));
    for name in symptoms.iter().map(String::as_str).chain([ports]) {
        icinga.wait_for(name, "critical for good", is_hard_critical);
    }
    icinga.wait_for(ports, "paged for", |_| !pages().is_empty());
    // Each is looked at once more, so that each would have had the time to page.
    for name in &symptoms {
        icinga.check(name);
        icinga.wait_for(name, "out of reach", |service| {
            service["last_reachable"] == false
        });
    }
    assert_eq!(pages(), "client-ports PROBLEM\n");

    drop(squeeze);
    incident.calm();
    icinga.wait_for(ports, "OK", is_ok);
    for name in &symptoms[..3] {
        icinga.wait_for(name, "OK", is_ok);
    }
    icinga.wait_for(ports, "said to be well", |_| {
        pages().contains("client-ports RECOVERY\n")
    });
    let pages = pages();
    assert!(
        !pages.contains("http-") && !pages.contains("intermittent-"),
        "{pages}"
    );
}

#[test]
fn the_services_that_there_were_go_on_with_the_loop() {
    let incident = Incident::start(Kind::Bind);
    // As a site may have it, and the same with the other command.
    let service = |name: &str, command: &str, more: &str| {
        format!(
            r#"
object Service "{name}" {{
  host_name = "proxy1"
  check_command = "{command}"
  enable_active_checks = false
  max_check_attempts = 1
  vars.http_vhost = "service1.example"
  vars.http_uri = "/"
  vars.http_port = 80
  vars.http_string = "All is well."
  vars.http_expect = "200,302"
  vars.http_warn_time = 5
  vars.http_critical_time = 8.5
  vars.http_header = "X-One: 1"
  vars.http_useragent = "{command}"
  vars.http_onredirect = "follow"
  vars.http_timeout = 9
  vars.http_linespan = true
  vars.http_expect_body_regex = "title.*well"
  vars.http_pagesize = "10:5000"
  vars.http_ipv4 = true
{more}}}
"#
        )
    };
    let loops = "  vars.http_retry_attempts = 7\n  vars.http_retry_interval = 10ms\n";
    let objects = service("before", "http", "") + &service("after", "http_intermittent", loops);
    let icinga = Icinga::start_node(&incident.client, &fast_node(&incident).objects(&objects));
    let words = |name: &str| {
        let service = icinga.check(name);
        assert_eq!(service["state"], 0, "{service}");
        super::command(&service)
    };
    let before = words("proxy1!before");
    let mut after = words("proxy1!after");
    for word in ["--attempts", "7", "--interval", "0.010000"] {
        assert_eq!(after.remove(word), Some(1), "{word}");
    }
    // The agent is named after the command, and Icinga puts the variable of an argument where it stood.
    assert_eq!(
        after.remove("http_intermittent"),
        before.get("http").copied()
    );
    assert_eq!(incident.requests_of("http_intermittent", 7).len(), 7);
    assert_eq!(after.len() + 1, before.len(), "{before:?} {after:?}");

    incident.squeeze();
    for name in ["proxy1!before", "proxy1!after"] {
        assert!(is_hard_critical(&icinga.check(name)));
    }
}
