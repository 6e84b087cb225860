//! The shipped graphs draw numbers that are there: every path in them is one that a real Icinga's GraphiteWriter sends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::icinga::Icinga;
use crate::support::icinga_web;
use crate::support::incident::{Incident, Kind};
use crate::support::plugin::project;
use crate::support::skip::skip;

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

/// Runs one of the scripts beside this file; what it printed.
fn run(command: &mut Command, input: &str) -> String {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin
        .write_all(input.as_bytes())
        .expect("it reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("a child of ours");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

#[test]
fn icinga_webs_module_takes_the_templates_and_graphite_draws_them() {
    let needed = [
        "/usr/bin/php",
        "/usr/bin/graphite-manage",
        "/usr/share/icingaweb2/modules/graphite",
    ];
    if let Some(missing) = needed.iter().find(|path| !Path::new(path).exists()) {
        return skip(&format!(
            "there is no {missing} (apt-get install --no-install-recommends icingaweb2-module-graphite graphite-web)"
        ));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let web = folder.path().join("web");
    icinga_web::configure(&web, &["ipl", "incubator", "graphite"], &[]);
    let scripts = project().join("tests/it/icinga/graphs");
    let mut module = Command::new("php");
    module
        .arg(scripts.join("curves.php"))
        .arg(project().join("graphs/graphite"))
        .env("ICINGAWEB_CONFIGDIR", &web);
    let curves = run(&mut module, "");
    let mut graphite = Command::new("/usr/bin/python3");
    graphite
        .arg(scripts.join("draw.py"))
        .arg(folder.path().join("graphite"));
    let drawn: Value = serde_json::from_str(&run(&mut graphite, &curves)).expect("JSON");

    // As they are written in the files: the module would cut a label short without a word.
    let curves: Value = serde_json::from_str(&curves).expect("JSON");
    let mut count = 0;
    for name in COMMANDS {
        let text = fs::read_to_string(project().join(format!("graphs/graphite/{name}.ini")))
            .expect("it is shipped");
        let labels = text.lines().filter_map(|line| {
            let (_, label) = line.strip_suffix("')\"")?.rsplit_once(" '")?;
            Some(label)
        });
        let mut expected: Vec<_> = labels.collect();
        let graphs = drawn[name]
            .as_object()
            .unwrap_or_else(|| panic!("no {name} in {drawn}"));
        let mut seen: Vec<_> = graphs
            .values()
            .flat_map(|graph| graph["labels"].as_array().expect("a list"))
            .map(|label| label.as_str().expect("text"))
            .collect();
        expected.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, expected, "{name}: {curves:#}");
        for (graph, drawn) in graphs {
            assert_eq!(drawn["picture"], "image/png", "{graph}");
            count += 1;
        }
    }
    assert!(count >= 8, "{drawn:#}");
}
