//! Options, surroundings and words.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{check, check_without_netlink, entry, namespace};
use crate::support::netns::Netns;
use crate::support::oracle::Scene;
use crate::support::plugin::{binary_folder, outcome, plugin};
use crate::support::sockets::Choice::{Bind, Connect};

const A: &str = "192.0.2.1";
const TO: &str = "192.0.2.3:80";
const TO2: &str = "192.0.2.4:80";

/// A namespace with 100 ports, so many of them connected to one destination, and ten to another.
fn busy(count: usize) -> Scene {
    let mut scene = Scene::new("inputs", "20000 20099");
    scene.listen(TO);
    scene.listen(TO2);
    scene.connect(A, TO, count, Connect);
    scene.connect(A, TO2, 10, Connect);
    scene
}

/// A folder that looks like /proc as far as the settings go.
fn fake_proc(settings: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("sys/net/ipv4");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, value) in settings {
        std::fs::write(folder.join(name), value).unwrap();
    }
    root
}

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
fn nobody_may_look_at_the_own_namespace() {
    let scene = busy(60);
    // Nobody may not enter the folder of the build.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("check");
    std::fs::copy(binary_folder().join("check_port_exhaustion"), &copy).unwrap();
    let mut command = scene.ns.command("setpriv");
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--no-new-privs",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ])
        .arg(&copy)
        .arg("--format=json");
    let as_nobody = outcome(&mut command);
    let as_root = check(&scene.ns, &["--format=json"]);
    assert_eq!(as_nobody.code, Some(1));
    let without_limits = |outcome| {
        let mut told = namespace(outcome);
        // The number of open files changes from run to run.
        told["limits"] = Value::Null;
        // Only root sees who owns the sockets.
        told["owners"] = Value::Null;
        told
    };
    assert_eq!(without_limits(&as_nobody), without_limits(&as_root));
}

#[test]
fn where_netlink_is_refused_proc_says_the_same() {
    let mut scene = Scene::new("proc", "20000 20099");
    scene.listen(TO);
    scene.listen("192.0.2.1:20098");
    scene.connect(A, TO, 60, Connect);
    scene.listen("[2001:db8::2]:443");
    scene.connect("2001:db8::1", "[2001:db8::2]:443", 20, Connect);
    scene.connect_mapped("192.0.2.3:80", 10);
    scene.time_wait("192.0.2.2", TO, 5, Connect);
    let by_netlink = check(&scene.ns, &["--format=json"]);
    let by_proc = check_without_netlink(&scene, &["--format=json"]);
    let mut netlink = namespace(&by_netlink);
    let mut proc = namespace(&by_proc);
    // What /proc/net/tcp cannot tell: the timers, and so the rate; and who shares his port, so that less is certain.
    for list in [&mut netlink, &mut proc].map(|told| told["destinations"].as_array_mut().unwrap()) {
        for told in list {
            for key in ["closed_per_second", "seconds_left", "free_min"] {
                told[key] = Value::Null;
            }
        }
    }
    // Without netlink, of a port with two destinations one owner is looked for.
    for told in [&mut netlink, &mut proc] {
        (told["limits"], told["owners"]) = (Value::Null, Value::Null);
    }
    assert_eq!(netlink, proc);
    let text = check_without_netlink(&scene, &[]).text;
    assert!(
        text.contains("netlink sock_diag is not to be had"),
        "{text}"
    );
}

#[test]
fn settings_come_from_the_proc_that_is_given() {
    let ns = Netns::new("fake");
    let root = fake_proc(&[
        ("ip_local_port_range", "40000\t40499\n"),
        ("ip_local_reserved_ports", "40000-40009\n"),
        ("tcp_tw_reuse", "2\n"),
        ("tcp_timestamps", "1\n"),
    ]);
    let told = namespace(&check(
        &ns,
        &["--format=json", "--proc", root.path().to_str().unwrap()],
    ));
    assert_eq!(
        (&told["range"], &told["reserved"], &told["capacity"]),
        (&json!([40000, 40499]), &json!(10), &json!(490))
    );
}

#[test]
fn without_proc_the_range_has_to_be_given() {
    let ns = Netns::new("noproc");
    let outcome = check(&ns, &["--proc", "/nowhere"]);
    assert_eq!(outcome.code, Some(3));
    assert!(outcome.text.contains("--port-range"), "{}", outcome.text);
    let outcome = check(&ns, &["--proc", "/nowhere", "--port-range", "1024-65535"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert_eq!(outcome.metric("capacity"), Some(64512.0));
    assert!(
        outcome
            .text
            .contains("note: /nowhere/sys/net/ipv4/tcp_tw_reuse"),
        "{}",
        outcome.text
    );
    let root = fake_proc(&[("ip_local_port_range", "hello\n")]);
    let outcome = check(&ns, &["--proc", root.path().to_str().unwrap()]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
}

#[test]
fn a_proc_that_is_not_mounted_is_named() {
    let bare = |args: &[&str]| {
        // In a mount namespace of its own.
        let mut command = Command::new("unshare");
        let script = "umount --lazy /proc && exec \"$@\"";
        command
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(binary_folder().join("check_port_exhaustion"))
            .args(args);
        outcome(&mut command)
    };
    for (args, part) in [
        (&[][..], "mount /proc"),
        (&["--netns=self"], "mount /proc"),
        (&["--netns=all"], "mount"),
        (&["--netns=pid:1"], "/proc is no /proc: mount it"),
        (
            &["--netns=container:0123456789ab"],
            "/proc is no /proc: mount it",
        ),
        (&["--protocol=udp"], "--port-range"),
    ] {
        let told = bare(args);
        assert_eq!(told.code, Some(3), "{args:?}: {}", told.text);
        assert!(told.text.contains(part), "{args:?}: {}", told.text);
        assert_eq!(told.text.lines().count(), 1, "{}", told.text);
    }
    let told = bare(&["--port-range=1024-65535", "--limits-warning=100"]);
    assert!(
        told.text.contains("namespace own, number unknown"),
        "{}",
        told.text
    );
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
