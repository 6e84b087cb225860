//! The incident: two real proxies before one backend, one of them out of client ports.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use serde_json::json;

use crate::support::incident::{BACKEND, Incident, Kind, PROXY};
use crate::support::netns::Netns;
use crate::support::nginx::Nginx;
use crate::support::plugin::outcome;

const PROXY0: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 6), 80);

/// A proxy with ports enough beside the one that runs out of them, and a way past both.
fn other_ways(incident: &Incident, proxy0: &Netns) -> Nginx {
    let (client, backend) = (&incident.client, &incident.backend);
    client.link("203.0.113.1/30", backend, "203.0.113.2/30");
    client.ip("route add 198.51.100.2/32 via 203.0.113.2");
    client.link("203.0.113.5/30", proxy0, "203.0.113.6/30");
    proxy0.link("203.0.113.9/30", backend, "203.0.113.10/30");
    proxy0.ip("route add 198.51.100.2/32 via 203.0.113.10");
    let http = format!(
        "server {{ listen {PROXY0}; server_name service1.example; location / {{ proxy_pass http://{BACKEND}; }} }}\n"
    );
    let folder = incident.folder().join("proxy0");
    Nginx::start(proxy0, &folder, "worker_processes 1;", &http, PROXY0, None)
}

#[test]
fn one_run_over_both_proxies_and_past_them_says_that_it_is_proxy1() {
    let incident = Incident::start(Kind::Bind);
    let proxy0 = Netns::new("proxy0");
    let nginx0 = other_ways(&incident, &proxy0);
    let run = |more: &[&str]| {
        let mut command = incident.check_http_retry();
        command.args(["-A", "prober", "--interval", "10ms"]);
        // Without an address it is the usual way, here that of -I: to proxy1.
        command.args(["--via", "proxy1", "--via", &format!("proxy0={PROXY0}")]);
        command.args(["--via", &format!("direct={BACKEND}")]);
        outcome(command.args(more))
    };
    let good = run(&["--attempts", "10"]);
    assert_eq!(good.code, Some(0), "{}", good.text);

    incident.squeeze();
    let phase = Duration::from_millis(300);
    let load = incident.oscillate(phase, phase);
    let document = run(&["--attempts", "80", "--format", "json"]).json();
    drop(load);
    // What proxy1 itself logged: 10 and 80 requests, and those of the 80 that failed.
    let logged = incident.requests_of("prober", 90);
    let failed = logged
        .iter()
        .filter(|request| request.status == 500)
        .count();
    assert_eq!(logged.len(), 90);
    assert!(failed > 5 && failed < 80, "{failed}");
    let summary = document["summary"].as_str().expect("text");
    assert_eq!(
        summary,
        format!(
            "HTTP CRITICAL: HTTP/1.1 500 Internal Server Error - {failed} of 80 via proxy1 ({}), \
             0 of 80 via proxy0 and direct: proxy1 intermittent, more than chance (p < 0.001)",
            PROXY.ip()
        )
    );
    let paths = &document["details"]["paths"];
    let counts = |at: usize| {
        json!([
            paths[at]["name"],
            paths[at]["attempts"],
            paths[at]["failed"]
        ])
    };
    assert_eq!(counts(0), json!(["proxy1", 80, failed]));
    assert_eq!(counts(1), json!(["proxy0", 80, 0]));
    assert_eq!(counts(2), json!(["direct", 80, 0]));
    let p = paths[0]["p_value"].as_f64().expect("a number");
    assert!(p < 0.001, "{document}");
    let failures = document["details"]["failures"].as_array().expect("a list");
    assert!(failures.iter().all(|failure| failure["path"] == "proxy1"));
    assert!(
        nginx0
            .requests()
            .iter()
            .all(|request| request.status == 200)
    );
}
