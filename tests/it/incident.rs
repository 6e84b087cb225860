//! The three plugins on a real nginx that runs out of real client ports, held against what nginx itself logged.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::incident::{BACKEND, BASE, Incident, Kind, PORTS, SPARE};
use crate::support::plugin::{Outcome, outcome};

/// How long the crowd takes all ports, and how long it leaves some.
const PHASE: Duration = Duration::from_millis(300);

#[test]
fn the_replay_fails_and_recovers_on_command() {
    for kind in [Kind::Bind, Kind::Connect] {
        let incident = Incident::start(kind);
        assert_eq!((incident.status(), incident.ports_taken()), (200, BASE));
        for _ in 0..2 {
            incident.squeeze();
            assert_eq!(incident.ports_taken(), PORTS);
            let seen = [incident.status(), incident.status()];
            assert_eq!(seen, [kind.status(); 2]);
            incident.relax();
            // A probe that left its port in TIME_WAIT would use the spare ones up.
            for _ in 0..4 * SPARE {
                assert_eq!(incident.status(), 200);
            }
        }
        incident.calm();
        incident.wait_for_ports(BASE);
        assert_eq!((incident.status(), incident.ports_taken()), (200, BASE));
        let lines = incident.nginx().error_lines("[crit]");
        assert!(lines >= 4, "{lines}");
        assert_eq!(
            lines,
            incident.nginx().error_lines(kind.error()),
            "{kind:?} fails in one way"
        );
    }
}

#[test]
fn check_http_retry_counts_the_500s_that_nginx_logged_when_bind_fails() {
    check_http_retry_counts_what_nginx_logged(Kind::Bind);
}

#[test]
fn check_http_retry_counts_the_502s_that_nginx_logged_when_connect_fails() {
    check_http_retry_counts_what_nginx_logged(Kind::Connect);
}

fn check_http_retry_counts_what_nginx_logged(kind: Kind) {
    let incident = Incident::start(kind);
    incident.squeeze();
    let load = incident.oscillate(PHASE, PHASE);
    let mut command = incident.check_http_retry();
    command.args([
        "-A",
        "prober",
        "--attempts",
        "80",
        "--interval",
        "25ms",
        "--format",
        "json",
    ]);
    let result = outcome(&mut command);
    drop(load);

    let logged = incident.requests_of("prober", 80);
    let mut statuses = BTreeMap::<String, u64>::new();
    for request in &logged {
        *statuses.entry(request.status.to_string()).or_default() += 1;
    }
    let failed = statuses[&kind.status().to_string()];
    assert!(failed > 0 && failed < 80, "{statuses:?}");
    let document = result.json();
    let details = &document["details"];
    assert_eq!(
        (result.code, &document["state"]),
        (Some(2), &json!("CRITICAL")),
        "{document}"
    );
    assert_eq!(details["verdict"], "intermittent");
    assert_eq!(details["attempts"], 80);
    assert_eq!(details["failed"], failed);
    assert_eq!(details["statuses"], json!(statuses));
    assert_eq!(details["kinds"], json!({"http-5xx": failed}));

    // Each failure is to be found in the proxy's log: by its request id, and there with its client port.
    let failures = details["failures"].as_array().expect("a list");
    assert_eq!(failures.len() as u64, failed);
    for failure in failures {
        let line = logged.iter().find(|line| failure["request_id"] == *line.id);
        let line = line.unwrap_or_else(|| panic!("not in the access log: {failure}"));
        assert_eq!(line.status, kind.status());
        assert_eq!(failure["status"], line.status);
        assert_eq!(failure["local"], format!("192.0.2.1:{}", line.port));
    }
}

#[test]
fn check_http_retry_says_down_while_there_is_no_port_at_all() {
    let incident = Incident::start(Kind::Bind);
    incident.squeeze();
    let result = outcome(incident.check_http_retry().args(["--attempts", "5"]));
    assert_eq!(result.code, Some(2), "{}", result.text);
    let start = "HTTP CRITICAL: HTTP/1.1 500 Internal Server Error";
    assert!(result.text.starts_with(start), "{}", result.text);
    let document =
        outcome(
            incident
                .check_http_retry()
                .args(["--attempts", "5", "--format", "json"]),
        )
        .json();
    assert_eq!(document["details"]["verdict"], "down");
}

#[test]
fn check_port_exhaustion_names_the_destination_when_bind_fails() {
    let incident = Incident::start(Kind::Bind);
    assert_eq!(
        namespace(&incident)["bind_before_connect"],
        "yes",
        "seen by itself"
    );
    incident.squeeze();
    let namespace = exhausted(&incident);
    assert_eq!(
        namespace["bind_before_connect"], "yes",
        "by what was taken first: {namespace}"
    );
    let source = &namespace["sources"][0];
    assert_eq!(
        (&source["bind_used"], &source["bind_free"]),
        (&json!(PORTS), &json!(0)),
        "{source}"
    );
    let both = outcome(incident.check_port_exhaustion().args(["--mode", "both"]));
    assert!(both.text.contains("bind(0.0.0.0)"), "{}", both.text);
}

#[test]
fn check_port_exhaustion_names_the_destination_when_connect_fails() {
    let incident = Incident::start(Kind::Connect);
    assert_eq!(namespace(&incident)["bind_before_connect"], "no");
    incident.squeeze();
    let namespace = exhausted(&incident);
    assert_ne!(namespace["bind_before_connect"], "yes", "{namespace}");
}

/// The one namespace of the JSON document.
fn namespace(incident: &Incident) -> Value {
    let document = outcome(incident.check_port_exhaustion().args(["--format", "json"])).json();
    let namespaces = document["details"]["namespaces"]
        .as_array()
        .expect("a list");
    assert_eq!(namespaces.len(), 1);
    namespaces[0].clone()
}

/// With all ports taken: CRITICAL, and the backend leads in words and in JSON. Returns the namespace.
fn exhausted(incident: &Incident) -> Value {
    let result = outcome(&mut incident.check_port_exhaustion());
    assert_eq!(result.code, Some(2), "{}", result.text);
    assert!(
        result.headline().contains(&BACKEND.to_string()),
        "{}",
        result.text
    );

    let namespace = namespace(incident);
    assert_eq!(namespace["range"], json!([20_000, 20_255]));
    assert_eq!(namespace["capacity"], PORTS);
    let leader = &namespace["destinations"][0];
    assert_eq!(leader["source"], "198.51.100.1", "{leader}");
    assert_eq!(leader["destination"], "198.51.100.2");
    assert_eq!(leader["port"], 8080);
    assert_eq!(
        (&leader["used"], &leader["free"]),
        (&json!(PORTS), &json!(0))
    );
    assert_eq!(leader["time_wait"], BASE);
    assert_eq!(leader["established"], PORTS - BASE);
    namespace
}

#[test]
fn check_nginx_upstream_bind_counts_exactly_the_lines_when_bind_fails() {
    check_nginx_upstream_bind_counts_exactly_the_lines(Kind::Bind);
}

#[test]
fn check_nginx_upstream_bind_counts_exactly_the_lines_when_connect_fails() {
    check_nginx_upstream_bind_counts_exactly_the_lines(Kind::Connect);
}

fn check_nginx_upstream_bind_counts_exactly_the_lines(kind: Kind) {
    let incident = Incident::start(kind);
    let look = || {
        outcome(
            incident
                .check_nginx_upstream_bind()
                .args(["--format", "json"]),
        )
    };
    let quiet = look();
    assert_eq!(
        quiet.code,
        Some(0),
        "an empty log is a good one: {}",
        quiet.text
    );

    incident.squeeze();
    for _ in 0..25 {
        assert_eq!(incident.status(), kind.status());
    }
    let result = look();
    let lines = incident.nginx().error_lines(kind.error());
    assert!(lines > 25, "{lines}");
    assert_counted(&result, kind, lines);
    // It has read the log to its end; a second look has nothing new, and says the same.
    assert_counted(&look(), kind, lines);

    incident.status();
    assert_counted(&look(), kind, lines + 1);
}

fn assert_counted(result: &Outcome, kind: Kind, lines: usize) {
    let document = result.json();
    let details = &document["details"];
    assert_eq!(result.code, Some(2), "{document}");
    for cause in ["bind-in-use", "no-free-port"] {
        let count = details["causes"][cause].as_u64().unwrap_or(0);
        let expected = if cause == kind.cause() { lines } else { 0 };
        assert_eq!(count, expected as u64, "{cause}: {details}");
    }
    assert_eq!(
        details["upstreams"],
        json!([{"name": BACKEND.to_string(), "count": lines}])
    );
    assert_eq!(
        details["servers"],
        json!([{"name": "service1.example", "count": lines}])
    );
    assert_eq!(details["suspect"], 0);
}

#[test]
fn all_three_are_ok_again_when_the_crowd_has_gone() {
    for kind in [Kind::Bind, Kind::Connect] {
        let incident = Incident::start(kind);
        incident.squeeze();
        incident.calm();
        let http = outcome(&mut incident.check_http_retry());
        assert_eq!(http.code, Some(0), "{}", http.text);
        let ports = outcome(&mut incident.check_port_exhaustion());
        assert_eq!(ports.code, Some(0), "{}", ports.text);
        // The log still tells of it, until its window has moved on.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let log = outcome(incident.check_nginx_upstream_bind().args(["--last", "2s"]));
            if log.code == Some(0) {
                break;
            }
            assert_eq!(log.code, Some(2), "{}", log.text);
            assert!(Instant::now() < deadline, "{}", log.text);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
