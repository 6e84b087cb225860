//! The labels of the performance data: each stands in a table of its plugin's page, with its unit.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::support::fault_server::{Act, FaultServer, kept_page};
use crate::support::growing_log::GrowingLog;
use crate::support::plugin::{outcome, plugin, project};

/// Label and unit of each row below the heading; a label with capitals stands for several.
fn told(plugin: &str) -> BTreeSet<(String, String)> {
    let page = project().join("docs").join(format!("{plugin}.md"));
    let text = fs::read_to_string(page).expect("the plugin has a page");
    let (_, section) = text
        .split_once("\n## Performance data\n")
        .expect("its page has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut told = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (labels, unit) = (cells.next().unwrap_or(""), cells.next().unwrap_or("?"));
        let labels = labels.split('`').skip(1).step_by(2);
        told.extend(labels.map(|label| (label.to_owned(), unit.to_owned())));
    }
    assert!(told.len() > 15, "{plugin}: {told:?}");
    told
}

/// Label and unit of all that a run prints.
fn printed(command: &mut Command) -> BTreeSet<(String, String)> {
    let json = outcome(command.args(["--format", "json"])).json();
    let word = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let metrics = json["perfdata"].as_array().expect("a list");
    metrics
        .iter()
        .map(|metric| (word(&metric["label"]), word(&metric["unit"])))
        .collect()
}

fn assert_told(plugin: &str, printed: &BTreeSet<(String, String)>) {
    let told = told(plugin);
    for (label, unit) in printed {
        let found = told.iter().any(|(known, of)| {
            of == unit
                && (known == label
                    || label.starts_with(known.trim_end_matches("NAME")) && known.ends_with("NAME"))
        });
        assert!(found, "{plugin}: {label} in '{unit}' is not in its page");
    }
}

/// Of those that are told, the ones that were not printed.
fn missing(plugin: &str, printed: &BTreeSet<(String, String)>) -> Vec<String> {
    let told = told(plugin).into_iter();
    told.filter(|row| !row.0.ends_with("NAME") && !printed.contains(row))
        .map(|row| row.0)
        .collect()
}

#[test]
fn the_page_of_check_http_retry_has_each_label_with_its_unit_and_no_other() {
    let server =
        FaultServer::start_tls(|_| Act::Keep(kept_page("500 Internal Server Error", "no")));
    let mut command = plugin("check_http_retry");
    command.args(["-4", "-H", "localhost", "-S", "-p", &server.port()]);
    command.args([
        "--via",
        "usual",
        "--via",
        "other=127.0.0.1",
        "--attempts",
        "3",
    ]);
    command.args(["-E", "--keepalive", "--until", "critical"]);
    let printed = printed(&mut command);
    assert_told("check_http_retry", &printed);
    assert_eq!(missing("check_http_retry", &printed), [""; 0]);
}

#[test]
fn the_page_of_check_nginx_upstream_bind_has_each_label_with_its_unit_and_no_other() {
    let mut log = GrowingLog::new();
    log.binds(1, 60);
    let printed = printed(&mut log.check());
    assert_told("check_nginx_upstream_bind", &printed);
    assert_eq!(missing("check_nginx_upstream_bind", &printed), [""; 0]);
}

#[test]
fn the_page_of_check_port_exhaustion_has_each_label_with_its_unit() {
    for protocol in ["tcp", "udp"] {
        let mut command = plugin("check_port_exhaustion");
        command.args(["--protocol", protocol, "--nat-limit", "55000"]);
        assert_told("check_port_exhaustion", &printed(&mut command));
    }
    // Which of the neighbours can be read depends on the host.
    let names = [
        "conntrack",
        "time_wait_buckets",
        "orphans",
        "tcp_memory",
        "udp_memory",
        "files",
        "open_files",
    ];
    let neighbours = names.map(|name| (format!("{name}_used"), String::new()));
    assert_told("check_port_exhaustion", &neighbours.into());
}
