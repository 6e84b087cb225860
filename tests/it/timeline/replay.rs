//! The incident itself, with a real nginx and a real Icinga that watches it: the ports come first, in both ways to fail.

use std::fs;
use std::time::Duration;

use super::{document, row, timeline};
use crate::support::icinga::Icinga;
use crate::support::incident::{Incident, Kind};
use crate::support::plugin::outcome;

const OBJECTS: &str = r#"
object FileLogger "debug" {
  severity = "debug"
  path = LogDir + "/debug.log"
}
object Host "web1" {
  check_command = "dummy"
  address = "192.0.2.2"
}
object Service "http" {
  host_name = "web1"
  check_command = "http_retry"
  max_check_attempts = 1
  check_interval = 1h
  retry_interval = 1h
  vars.http_retry_hostname = "service1.example"
  vars.http_retry_ip_address = "192.0.2.2"
  vars.http_retry_attempts = 2
}
"#;

#[test]
fn the_ports_come_first_when_bind_fails() {
    the_ports_come_first(Kind::Bind);
}

#[test]
fn the_ports_come_first_when_connect_fails() {
    the_ports_come_first(Kind::Connect);
}

fn the_ports_come_first(kind: Kind) {
    let incident = Incident::start(kind);
    let icinga = Icinga::start(&incident.client, OBJECTS);
    let (probes, ports) = (
        incident.folder().join("probes.jsonl"),
        incident.folder().join("ports.jsonl"),
    );
    let look = || {
        let mut http = incident.check_http_retry();
        let args = ["--attempts", "10", "--interval", "100ms", "--journal"];
        outcome(http.args(args).arg(&probes));
        let mut exhaustion = incident.check_port_exhaustion();
        outcome(exhaustion.args(["--mode", "both", "--journal"]).arg(&ports));
        icinga.check("web1!http")
    };
    let states: Vec<_> = (0..2)
        .flat_map(|_| {
            let well = look()["state"].clone();
            incident.squeeze();
            let failing = look()["state"].clone();
            incident.relax();
            std::thread::sleep(Duration::from_millis(1100)); // a bin without a failure
            [well, failing]
        })
        .collect();
    assert_eq!(states, [0.0, 2.0, 0.0, 2.0]);
    look();

    let debug = icinga.folder().join("log/debug.log");
    let mut command = timeline();
    command.arg("-e").arg(incident.nginx().error_log());
    command.arg("-a").arg(incident.nginx().access_log());
    command
        .arg("--nginx-conf")
        .arg(incident.nginx().error_log().with_file_name("nginx.conf"));
    command
        .arg("-i")
        .arg(&debug)
        .arg("-j")
        .arg(&probes)
        .arg("-j")
        .arg(&ports);
    let found = document(&mut command);
    for source in found["sources"].as_array().unwrap() {
        assert!(
            source["trouble"].is_null() && source["used"].as_u64().unwrap() > 0,
            "{source}"
        );
    }
    let lines = incident.nginx().error_lines(kind.error());
    assert_eq!(row(&found, "error", kind.cause())["total"], lines as f64);
    let requests = incident.nginx().requests();
    let failed = requests
        .iter()
        .filter(|request| request.status == kind.status())
        .count();
    assert_eq!(
        row(&found, "status", &kind.status().to_string())["total"],
        failed as f64
    );
    assert_eq!(
        row(&found, "check", "web1!http")["total"],
        2.0,
        "{}",
        fs::read_to_string(&debug).unwrap_or_default()
    );
    let tightest = found["lanes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["group"] == "ports")
        .expect("ports");
    assert_eq!(tightest["peak"]["value"], 100.0);
    let cause = &found["causes"][0];
    assert_eq!(cause["cause"], "client-ports", "{}", found["causes"]);
    assert!(
        cause["score"].as_f64().unwrap() > 0.8,
        "{}",
        found["causes"]
    );
    let said = cause["for"].to_string();
    assert!(
        said.contains("client ports were used up") && said.contains("coincides"),
        "{said}"
    );
    assert!(
        cause["next"][0]
            .as_str()
            .unwrap()
            .starts_with("check_port_exhaustion"),
        "{cause}"
    );
}
