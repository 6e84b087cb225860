//! The shipped graphs draw numbers that are there: every path in them is one that a real Icinga's GraphiteWriter sends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use crate::support::icinga::Icinga;
use crate::support::incident::{Incident, Kind};
use crate::support::plugin::project;

use super::COMMANDS;
use super::shipped::fast_node;

/// `command.perfdata.label.value`, as the templates of Icinga Web's graphite module name them.
fn paths_of_the_templates() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for name in COMMANDS {
        let file = project().join(format!("graphs/graphite/{name}.ini"));
        let text = fs::read_to_string(file).expect("it is shipped");
        let values = text.lines().filter_map(|line| {
            let (_, path) = line.split_once(" = \"$service_name_template$.")?;
            path.strip_suffix('"')
        });
        paths.extend(values.map(|path| format!("{name}.{path}")));
    }
    paths
}

/// The same for the targets of the dashboard.
fn paths_of_the_dashboard() -> BTreeSet<String> {
    let text = fs::read_to_string(project().join("graphs/grafana.json")).expect("it is shipped");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("a list");
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("a list"));
    let paths = targets.map(|target| {
        let target = target["target"].as_str().expect("text");
        let start = "aliasByNode($prefix.$host.services.*.";
        let path = target
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(", 3, 6)"));
        let path = path.unwrap_or_else(|| panic!("{target}"));
        path.replace("{http_retry,http_intermittent}", "http_retry")
    });
    paths.collect()
}

#[test]
fn every_path_in_the_graphs_is_one_that_icinga_sends() {
    let incident = Incident::start(Kind::Connect);
    let listener = incident.proxy.within(|| TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let writer = format!(
        "object GraphiteWriter \"graphite\" {{\n  host = \"127.0.0.1\"\n  port = {port}\n}}\n"
    );
    let _icinga = Icinga::start_node(&incident.proxy, &fast_node(&incident).objects(&writer));
    let (carbon, _) = listener.accept().expect("Icinga connects");
    carbon
        .set_read_timeout(Some(Duration::from_mins(1)))
        .expect("a time-out");

    let wanted = paths_of_the_templates();
    assert_eq!(wanted, paths_of_the_dashboard());
    let mut missing = wanted;
    // `icinga2.proxy1.services.SERVICE.COMMAND.perfdata.LABEL.value NUMBER TIME`, the dots of a name as underscores.
    for line in BufReader::new(carbon).lines() {
        let line = line.unwrap_or_else(|error| panic!("never sent: {missing:?}: {error}"));
        let path = line.split(' ').next().unwrap_or_default();
        if let Some(path) = path.strip_prefix("icinga2.proxy1.services.") {
            missing.remove(path.split_once('.').map_or("", |(_, path)| path));
        }
        if missing.is_empty() {
            break;
        }
    }
    assert_eq!(missing, BTreeSet::new(), "Icinga ended");
}
