//! Options, and what comes of them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{check, entry, namespace};
use crate::support::oracle::Scene;
use crate::support::plugin::{binary_folder, outcome, plugin};
use crate::support::sockets::Choice::{Bind, Connect};

pub(super) const A: &str = "192.0.2.1";
pub(super) const TO: &str = "192.0.2.3:80";
const TO2: &str = "192.0.2.4:80";

/// A namespace with 100 ports, so many of them connected to one destination, and ten to another.
pub(super) fn busy(count: usize) -> Scene {
    let mut scene = Scene::new("inputs", "20000 20099");
    scene.listen(TO);
    scene.listen(TO2);
    scene.connect(A, TO, count, Connect);
    scene.connect(A, TO2, 10, Connect);
    scene
}

/// A folder that looks like /proc as far as the settings go.
pub(super) fn fake_proc(settings: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("sys/net/ipv4");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, value) in settings {
        std::fs::write(folder.join(name), value).unwrap();
    }
    root
}

#[test]
fn the_thresholds_are_percentages_with_or_without_the_sign() {
    let scene = busy(60);
    for (args, code) in [
        (&[][..], 1),
        (&["-c", "59"], 2),
        (&["-c", "59%"], 2),
        (&["-w", "60"], 0),
        (&["-w", "60%", "-c", "60%"], 0),
        (&["-w", "@0:10"], 0),
        (&["-c", "70:"], 2),
    ] {
        let outcome = check(&scene.ns, args);
        assert_eq!(outcome.code, Some(code), "{args:?}: {}", outcome.text);
    }
    let causes = check(&scene.ns, &["--format", "json"]).json()["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (finding["cause"].clone(), finding["state"].clone()))
        .collect::<Vec<_>>();
    assert_eq!(
        causes,
        [
            (json!("connect-ports"), json!("WARNING")),
            (json!("half-used"), json!("WARNING"))
        ]
    );
}

#[test]
fn bind_counts_where_somebody_binds_or_when_asked_for() {
    let mut scene = busy(20);
    scene.connect("192.0.2.2", TO, 35, Bind);
    let auto = check(&scene.ns, &["--format", "json"]);
    assert_eq!(namespace(&auto)["bind_before_connect"], "yes");
    assert_eq!(auto.code, Some(1), "{}", auto.text);
    let causes = auto.json()["findings"].clone();
    entry(&causes, &[("cause", json!("bind-ports"))]);
    // What was bound is closed to connect() as well: 35 beside its own 20.
    let told = namespace(&auto);
    let to = entry(
        &told["destinations"],
        &[("source", json!(A)), ("destination", json!("192.0.2.3"))],
    );
    assert_eq!(to["used"], 55);
    assert_eq!(
        check(&scene.ns, &["--mode", "connect", "-w", "55"]).code,
        Some(0)
    );
    assert_eq!(
        check(&scene.ns, &["--mode", "bind", "-w", "54", "-c", "66"]).code,
        Some(1)
    );
}

#[test]
fn time_wait_tells_the_rate_of_closing() {
    // The rate is that of the last 5 s: on a machine that needs longer than that, once more.
    let told = (0..5).find_map(|_| {
        let mut scene = Scene::new("rate", "20000 20999");
        scene.listen(TO);
        let begun = Instant::now();
        scene.time_wait(A, TO, 100, Connect);
        let told = entry(
            &namespace(&check(&scene.ns, &["--format=json"]))["destinations"],
            &[("port", json!(80))],
        );
        (begun.elapsed() < Duration::from_secs(5)).then_some(told)
    });
    let told = told.expect("5 s are enough to close 100 connections and look");
    assert_eq!(told["time_wait"], 100);
    assert_eq!(told["closed_per_second"], 20);
    assert_eq!(told["limit_per_second"], 16.666_667);
    // 900 ports for 20 a second, and the first hundred come back only after a minute.
    let left = told["seconds_left"].as_f64().unwrap();
    assert!((44.0..46.0).contains(&left), "{told}");
}

#[test]
fn a_sample_reports_the_peak() {
    let scene = busy(30);
    let outcome = check(&scene.ns, &["--sample", "1200ms"]);
    assert_eq!(outcome.code, Some(0));
    let (_, sampled) = outcome.headline().split_once("(peak of ").unwrap();
    let (_, seconds) = sampled.split_once(" looks in ").unwrap();
    // Longer where the machine is busy.
    let seconds: u32 = seconds.strip_suffix(" s)").unwrap().parse().unwrap();
    assert!(seconds >= 1, "{}", outcome.headline());
}

#[test]
fn a_burst_that_is_shorter_than_a_second_is_in_the_sample() {
    let mut scene = busy(5);
    let binary = binary_folder().join("check_port_exhaustion");
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let mut command = scene.ns.command(binary);
    command
        .args(["--sample", "3s", "--journal"])
        .arg(&journal)
        .stdout(std::process::Stdio::piped());
    let sampling = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !std::fs::metadata(&journal).is_ok_and(|journal| journal.len() > 0) {
        assert!(Instant::now() < deadline, "it never looked");
        std::thread::sleep(Duration::from_millis(5));
    }
    scene.connect(A, TO, 55, Connect);
    std::thread::sleep(Duration::from_millis(700));
    // Every second one goes, and then half of the rest: 60, 30, 15.
    scene.thin_out();
    scene.thin_out();
    let output = sampling.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(": 60 of 100 ports used (60 %), 40 free"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1), "{text}");
}

#[test]
fn nonsense_is_refused_with_3_and_a_line_that_helps() {
    for args in [
        &["--destination", "here"][..],
        &["--destination", "192.0.2.1"],
        &["--destination", "192.0.2.1:0"],
        &["--destination", "2001:db8::1:80"],
        &["--source", "eth0"],
        &["--source", "192.0.2.1", "--destination", "[2001:db8::1]:80"],
        &["--port-range", "10-5"],
        &["--port-range", "0-70000"],
        &["--mode", "maybe"],
        &["--sample", "0"],
        &["-w", "20:10"],
        &["-c", "many"],
        &["--nonsense"],
        &["and", "more"],
    ] {
        let outcome = outcome(plugin("check_port_exhaustion").args(args));
        assert_eq!(outcome.code, Some(3), "{args:?}: {}", outcome.text);
        assert!(
            outcome.text.starts_with("PORTS UNKNOWN: "),
            "{args:?}: {}",
            outcome.text
        );
    }
}

#[test]
fn the_neighbours_are_listed_and_named_when_full() {
    let mut scene = Scene::new("limits", "20000 20099");
    scene.listen(TO);
    scene.ns.set("ipv4/tcp_max_tw_buckets", "5");
    scene.time_wait(A, TO, 20, Connect);
    let outcome = check(&scene.ns, &["--format=json"]);
    let limits = namespace(&outcome)["limits"].clone();
    let full = entry(&limits, &[("name", json!("time_wait_buckets"))]);
    assert_eq!((&full["used"], &full["limit"]), (&json!(5), &json!(5)));
    entry(&limits, &[("name", json!("files"))]);
    let text = check(&scene.ns, &[]).text;
    assert!(text.contains("tcp_max_tw_buckets is reached"), "{text}");
}

#[test]
fn a_nat_gateways_limit_is_judged_for_each_destination() {
    let scene = busy(30);
    for (limit, code) in [("100", 0), ("50", 1), ("31", 2)] {
        let outcome = check(&scene.ns, &["--nat-limit", limit]);
        assert_eq!(outcome.code, Some(code), "{}", outcome.text);
        assert_eq!(outcome.metric("nat_used"), Some(30.0));
        assert_eq!(outcome.text.contains("NAT gateway: 30 of "), code > 0);
    }
    assert_eq!(check(&scene.ns, &["--nat-limit", "0"]).code, Some(3));
}

#[test]
fn a_limit_that_looks_alike_and_is_near_is_a_finding() {
    let root = fake_proc(&[
        ("ip_local_port_range", "20000 20099"),
        ("tcp_tw_reuse", "2"),
        ("tcp_timestamps", "1"),
        ("ip_local_reserved_ports", ""),
    ]);
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("sys/net/netfilter/nf_conntrack_count", "95");
    write("sys/net/netfilter/nf_conntrack_max", "100");
    let drops = |count: u32| {
        let text = format!("entries insert_failed drop\n00000001 {count:08x} 00000000\n");
        write("net/stat/nf_conntrack", &text);
    };
    drops(5);
    let scene = busy(10);
    let proc = format!("--proc={}", root.path().display());
    let near = check(&scene.ns, &[&proc]);
    assert_eq!(near.code, Some(1), "{}", near.text);
    assert!(
        near.headline()
            .contains("; connection tracking entries (nf_conntrack_max): 95 of 100 used (95 %)"),
        "{}",
        near.text
    );
    assert_eq!(near.metric("conntrack_used"), Some(95.0));
    let state = format!("--state-file={}", root.path().join("own/state").display());
    let args = [
        &proc,
        "--limits-warning=99",
        "--limits-critical=100",
        &state,
    ];
    for (count, code, since) in [(5, 0, 0.0), (25, 1, 20.0), (25, 0, 0.0), (3, 0, 0.0)] {
        drops(count);
        let outcome = check(&scene.ns, &args);
        assert_eq!(outcome.code, Some(code), "{count}: {}", outcome.text);
        let told = outcome.metric("conntrack_insert_failed");
        // A counter that went back tells nothing.
        assert_eq!(
            told,
            (count > 3).then_some(since),
            "{count}: {}",
            outcome.text
        );
    }
}

#[test]
fn what_looked_bound_is_remembered_between_runs() {
    let mut scene = Scene::new("recall", "20000 20099");
    scene.listen(TO);
    let folder = tempfile::tempdir().unwrap();
    let state = format!("--state-file={}", folder.path().join("own/state").display());
    scene.connect(A, TO, 40, Bind);
    let look = |args: &[&str]| {
        let told = check(&scene.ns, args);
        namespace(&told)["bind_before_connect"].clone()
    };
    assert_eq!(look(&["--format=json", &state]), "yes");
    scene.connect(A, TO, 60, Bind);
    let look = |args: &[&str]| {
        let told = check(&scene.ns, args);
        namespace(&told)["bind_before_connect"].clone()
    };
    assert_eq!(
        look(&["--format=json"]),
        "unknown",
        "all are taken and live"
    );
    assert_eq!(look(&["--format=json", &state]), "yes");
}

#[test]
fn trying_the_ports_leaves_nothing_behind_and_says_what_it_cost() {
    let mut scene = busy(0);
    scene.connect(A, TO, 30, Bind);
    let sockets = || {
        let mut told = namespace(&check(&scene.ns, &["--format=json"]));
        (told["sockets"].take(), told["destinations"].take())
    };
    let before = sockets();
    let tried = check(&scene.ns, &["--active"]);
    assert!(
        tried
            .text
            .contains("--active tried 30 ports on loopback in "),
        "{}",
        tried.text
    );
    assert!(
        tried.text.contains("s: 30 are closed by bind()"),
        "{}",
        tried.text
    );
    assert_eq!(sockets(), before);
    let told = namespace(&check(&scene.ns, &["--active", "--format=json"]));
    assert_eq!(told["bind_before_connect"], "yes");
    let refused = check(&scene.ns, &["--active", "--sample=1s"]);
    assert_eq!(refused.code, Some(3), "{}", refused.text);
}
