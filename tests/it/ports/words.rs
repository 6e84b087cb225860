//! The words: what is named first, what is listed, and what is said to be done.

use std::net::SocketAddr;

use serde_json::json;

use super::inputs::{A, TO, busy};
use super::{check, entry, namespace};
use crate::support::oracle::Scene;
use crate::support::sockets::Choice::{self, Connect};

#[test]
fn the_first_line_names_the_destination_and_its_share() {
    let scene = busy(98);
    let outcome = check(&scene.ns, &[]);
    assert_eq!(outcome.code, Some(2));
    assert_eq!(
        outcome.headline(),
        "PORTS CRITICAL: 192.0.2.3:80 from 192.0.2.1: 98 of 100 ports used (98 %), 2 free; leads with 98 of 108 sockets"
    );
    for (label, value) in [
        ("used_share", 98.0),
        ("used", 98.0),
        ("free", 2.0),
        ("capacity", 100.0),
        ("outgoing", 108.0),
        ("time_wait", 0.0),
    ] {
        assert_eq!(
            outcome.metric(label),
            Some(value),
            "{label} in {}",
            outcome.first_line()
        );
    }
    let inode = scene
        .ns
        .within(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    let told = format!("namespace {}: ports 20000-20099", inode.display());
    assert!(outcome.text.contains(&told), "{}", outcome.text);
}

#[test]
fn a_busy_server_without_outgoing_connections_is_fine() {
    let mut scene = Scene::new("server", "20000 20099");
    scene.listen("192.0.2.1:80");
    scene.listen("192.0.2.1:20080");
    scene.ns.set("ipv4/ip_local_port_range", "30000 39999");
    scene.connect("192.0.2.2", "192.0.2.1:80", 300, Connect);
    scene.connect("192.0.2.2", "192.0.2.1:20080", 300, Connect);
    scene.ns.set("ipv4/ip_local_port_range", "20000 20099");
    let outcome = check(&scene.ns, &[]);
    assert_eq!(outcome.code, Some(0));
    assert_eq!(
        outcome.headline(),
        "PORTS OK: no outgoing connections, 1 of 100 ports used (1.00 %), 99 free"
    );
}

#[test]
fn what_is_named_is_listed_even_with_no_socket_there() {
    let scene = busy(30);
    let told = check(
        &scene.ns,
        &[
            "--format=json",
            "--destination",
            "192.0.2.4:4711",
            "--destination",
            "[2001:db8::2]:443",
            "--destination",
            TO,
        ],
    );
    let told = namespace(&told);
    let list = &told["destinations"];
    for (source, destination, port, free) in [
        // A local destination is reached from itself; the plugin asks the routes.
        ("192.0.2.4", "192.0.2.4", 4711, 100),
        ("2001:db8::2", "2001:db8::2", 443, 100),
        ("192.0.2.1", "192.0.2.3", 80, 70),
    ] {
        let found = entry(
            list,
            &[
                ("source", json!(source)),
                ("destination", json!(destination)),
                ("port", json!(port)),
            ],
        );
        assert_eq!(found["free"], free, "{found}");
        assert_eq!(found["used"], 100 - free);
    }
    let others = list
        .as_array()
        .unwrap()
        .iter()
        .any(|entry| entry["destination"] == "192.0.2.4" && entry["port"] == 80);
    assert!(!others, "{list}");
    let told = check(
        &scene.ns,
        &[
            "--format=json",
            "--source=192.0.2.1",
            "--source=192.0.2.2",
            "--source=2001:db8::1",
            "--destination=[2001:db8::2]:443",
            "--destination=192.0.2.3:80",
        ],
    );
    assert_eq!(
        namespace(&told)["destinations"].as_array().unwrap().len(),
        3
    );
    assert_eq!(namespace(&told)["sources"].as_array().unwrap().len(), 3);
}

#[test]
fn long_lists_are_bounded_but_for_what_is_named() {
    let mut scene = Scene::new("long", "20000 20099");
    scene.listen("192.0.2.3:80");
    for port in 1000..1080 {
        let to = format!("192.0.2.4:{port}");
        scene.listen(&to);
        scene.connect(A, &to, 1, Connect);
    }
    let told = namespace(&check(&scene.ns, &["--format=json"]));
    assert_eq!(told["destinations"].as_array().unwrap().len(), 50);
    let many: Vec<_> = (1000..1080)
        .map(|port| format!("--destination=192.0.2.4:{port}"))
        .collect();
    let mut args = vec!["--format=json", "--source=192.0.2.1"];
    args.extend(many.iter().map(String::as_str));
    let told = namespace(&check(&scene.ns, &args));
    assert_eq!(told["destinations"].as_array().unwrap().len(), 80);
}

#[test]
fn explain_says_what_to_change() {
    let mut scene = busy(10);
    scene.time_wait(A, TO, 40, Connect);
    let outcome = check(&scene.ns, &["--explain"]);
    for part in [
        "keep connections to 192.0.2.3:80 open",
        "40 ports in TIME_WAIT",
        "ip_local_port_range",
        "Never net.ipv4.tcp_tw_recycle",
    ] {
        assert!(outcome.text.contains(part), "{part} in {}", outcome.text);
    }
}

#[test]
fn addresses_are_printed_so_that_they_can_be_given_back() {
    let mut scene = Scene::new("v6", "20000 20099");
    let to = "[2001:db8::2]:443";
    scene.listen(to);
    scene.connect("2001:db8::1", to, 60, Connect);
    let outcome = check(&scene.ns, &["--destination", to]);
    assert!(
        outcome
            .headline()
            .starts_with("PORTS WARNING: [2001:db8::2]:443 from 2001:db8::1: 60 of 100"),
        "{}",
        outcome.headline()
    );
    assert!(to.parse::<SocketAddr>().is_ok());
}

#[test]
fn the_owners_of_the_leading_connections_are_named_where_something_is_wrong() {
    let scene = busy(60);
    let wrong = check(&scene.ns, &[]);
    assert!(
        wrong
            .text
            .contains("connections to 192.0.2.3:80: 60 of 60 live sockets: "),
        "{}",
        wrong.text
    );
    let pid = std::process::id().to_string();
    assert!(wrong.text.contains(&pid), "{}", wrong.text);
    let calm = check(&scene.ns, &["-w", "90", "-c", "95"]);
    assert!(!calm.text.contains("live sockets"), "{}", calm.text);
    let asked = check(
        &scene.ns,
        &["-w", "90", "-c", "95", "--owners", "--format=json"],
    );
    let owners = &namespace(&asked)["owners"];
    assert_eq!(owners["sockets"], 60);
    assert_eq!(owners["processes"][0]["sockets"], 60);
}

#[test]
fn who_holds_bound_ports_is_named_where_these_are_most_of_those_that_are_gone() {
    let mut scene = Scene::new("claimed", "20000 20099");
    scene.listen(TO);
    scene.bind("192.0.2.1:0", 84, Choice::Bind);
    scene.connect(A, TO, 1, Connect);
    let outcome = check(&scene.ns, &["--explain"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let held = format!(
        "\nlisteners and bound sockets on these ports: 84 of 84 live sockets: {} (process",
        std::fs::read_to_string("/proc/self/comm").unwrap().trim()
    );
    for part in [
        &held,
        "free; 84 claimed by listeners and bound sockets",
        "\n1. 84 of the 100 ports are claimed by listeners and bound sockets: find who holds them",
    ] {
        assert!(outcome.text.contains(part), "{part} in {}", outcome.text);
    }
}
