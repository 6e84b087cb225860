//! The shipped example of a cluster, with a real master, satellite and agent: the agent where the ports run out.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::support::icinga::Icinga;
use crate::support::icinga::setup::{Node, shipped};
use crate::support::incident::{Incident, Kind, PROXY};

use super::shipped::{is_hard_critical, is_ok, mail, ten_times_as_fast};

const MASTER: &str = "master1.example";
const SATELLITE: &str = "satellite1.example";
const AGENT: &str = "proxy1.example";

/// Where the satellite is: on the network that the proxy is on.
const SATELLITE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A shipped `zones.conf` with addresses where there is nobody to look names up.
fn zones(name: &str) -> String {
    let host = |name: &str| format!("host = \"{name}\"");
    shipped(&format!("zones/{name}.conf"))
        .replace(&host(MASTER), &host("127.0.0.1"))
        .replace(&host(SATELLITE), &host(&SATELLITE_ADDRESS.to_string()))
}

fn master(incident: &Incident) -> Node {
    let node = Node::of_cluster(MASTER, Ipv4Addr::LOCALHOST, &zones("master")).objects(&mail());
    let node = ["commands.conf", "http_intermittent.conf"]
        .iter()
        .fold(node, |node, name| {
            node.file(&format!("zones.d/global-templates/{name}"), &shipped(name))
        });
    let fast = ["templates.conf", "services.conf", "dependencies.conf"];
    let node = fast.iter().fold(node, |node, name| {
        let path = format!("zones.d/global-templates/{name}");
        node.file(&path, &ten_times_as_fast(name))
    });
    let log = incident.nginx().error_log();
    node.file(
        "zones.d/satellite/proxies.conf",
        &shipped("zones.d/satellite/proxies.conf"),
    )
    .file(
        "zones.d/satellite/test.conf",
        &format!(
            "template Host \"test\" default {{ vars.nginx_upstream_bind_file = \"{}\" }}\n",
            log.display()
        ),
    )
}

fn checked_by(service: &Value) -> &str {
    let source = &service["last_check_result"]["check_source"];
    source.as_str().unwrap_or_default()
}

#[test]
fn the_checks_of_a_cluster_run_on_the_proxies_and_a_lost_satellite_or_agent_comes_back() {
    let incident = Incident::start(Kind::Connect);
    let master = Icinga::start_node(&incident.client, &master(&incident));
    let node = Node::of_cluster(SATELLITE, SATELLITE_ADDRESS, &zones("satellite"));
    let mut satellite = Icinga::start_node(&incident.client, &node.signed_by(master.folder()));
    let node = Node::of_cluster(AGENT, *PROXY.ip(), &zones("agent"));
    let mut agent = Icinga::start_node(&incident.proxy, &node.signed_by(master.folder()));

    let service = |name: &str| format!("{AGENT}!{name}");
    let (http, ports, log) = (
        service("http-service1"),
        service("client-ports"),
        service("nginx-upstream"),
    );
    let connection = service("agent");
    // The master only gets results: of the URLs from the satellite, of the rest from the proxy itself.
    for (name, source) in [
        (&http, SATELLITE),
        (&ports, AGENT),
        (&log, AGENT),
        (&connection, SATELLITE),
    ] {
        master.wait_for(name, "OK by the right one", |service| {
            is_ok(service) && checked_by(service) == source
        });
    }

    incident.squeeze();
    for name in [&http, &ports, &log] {
        master.wait_for(name, "critical for good", is_hard_critical);
    }
    let attributes = master.service(&ports);
    assert_eq!(
        attributes["last_check_result"]["scheduling_source"],
        SATELLITE
    );

    // Without its satellite the master hears nothing; after that it does again.
    satellite.shut_down();
    incident.calm();
    assert!(is_hard_critical(&master.service(&http)));
    satellite.boot();
    for name in [&http, &ports] {
        master.wait_for(name, "OK again", is_ok);
    }

    agent.shut_down();
    master.wait_for(&connection, "lost", |service| service["state"] == 2);
    agent.boot();
    master.wait_for(&connection, "back", is_ok);
    incident.squeeze();
    master.wait_for(&ports, "critical for good", is_hard_critical);
}
