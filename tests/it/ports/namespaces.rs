//! Which namespace is looked at, and what is said when it cannot be.

use std::process::Command;

use serde_json::json;

use super::{entry, namespace};
use crate::support::oracle::Scene;
use crate::support::plugin::{Outcome, binary_folder, copy_program, outcome, plugin};
use crate::support::sockets::Choice::{Bind, Connect};

const A: &str = "192.0.2.1";
const TO: &str = "192.0.2.3:80";

/// Runs the plugin where the tests run.
fn check(args: &[&str]) -> Outcome {
    outcome(plugin("check_port_exhaustion").args(args))
}

/// A namespace with this many of 100 ports used towards one destination.
fn busy(count: usize) -> Scene {
    let mut scene = Scene::new("space", "20000 20099");
    scene.listen(TO);
    scene.connect(A, TO, count, Connect);
    scene
}

#[test]
fn a_namespace_is_found_by_name_by_path_and_by_process() {
    let scene = busy(60);
    let mut sleeper = scene.ns.command("sleep").arg("60").spawn().unwrap();
    let pid = format!("pid:{}", inside(&scene, sleeper.id()));
    let path = format!("path:{}", scene.ns.path());
    for target in [scene.ns.name(), &path, &pid] {
        let outcome = check(&["--netns", target]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.text);
        let start = format!(
            "PORTS WARNING: {TO} from {A}: 60 of 100 ports used (60 %), 40 free; leads with 60 of 60 sockets (namespace {} net:[",
            target.trim_start_matches("path:")
        );
        assert!(outcome.headline().starts_with(&start), "{}", outcome.text);
        // The settings are those of that namespace, not of the one the check runs in.
        let json = check(&["--netns", target, "--format=json"]);
        assert_eq!(namespace(&json)["range"], json!([20_000, 20_099]));
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

/// `ip netns exec` becomes the program; waits until it has joined.
fn inside(scene: &Scene, pid: u32) -> u32 {
    use std::os::unix::fs::MetadataExt;
    let there = std::fs::metadata(scene.ns.path()).unwrap().ino();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|own| own.ino() != there) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    pid
}

#[test]
fn all_finds_each_namespace_once_and_puts_the_worst_first() {
    let (calm, worst) = (busy(5), busy(95));
    let outcome = check(&["--netns", "all", "-v", "-w", "50", "-c", "90"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    // Other tests have namespaces at the same time, and one of these may be worse.
    assert!(
        outcome.headline().contains(", the worst of "),
        "{}",
        outcome.text
    );
    for scene in [&calm, &worst] {
        let lines = outcome
            .text
            .lines()
            .filter(|line| line.starts_with(&format!("namespace {} net:[", scene.ns.name())));
        assert_eq!(lines.count(), 1, "{}", outcome.text);
    }
    let document = check(&["--netns", "all", "--format=json"]).json();
    let spaces = document["details"]["namespaces"].as_array().unwrap();
    let place = |scene: &Scene| {
        spaces
            .iter()
            .position(|space| space["name"].as_str().unwrap().starts_with(scene.ns.name()))
            .unwrap()
    };
    assert!(place(&worst) < place(&calm));
    let mut names: Vec<_> = spaces
        .iter()
        .map(|space| {
            let name = space["name"].as_str().unwrap();
            name[name.find("net:[").unwrap()..].to_owned()
        })
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "each once");
    // The destination asked for is listed with the address that the routes of each namespace give.
    let asked = check(&[
        "--netns",
        calm.ns.name(),
        "--netns",
        worst.ns.name(),
        "--destination",
        TO,
        "--format=json",
    ]);
    for space in asked.json()["details"]["namespaces"].as_array().unwrap() {
        entry(&space["destinations"], &[("port", json!(80))]);
    }
}

/// `ip netns add` leaves it down, and an interface that was never up has no address.
#[test]
fn a_namespace_without_loopback_is_seen_though_its_ports_cannot_be_tried() {
    let mut scene = busy(0);
    scene.connect(A, TO, 99, Bind);
    scene.ns.ip("addr del 127.0.0.1/8 dev lo");
    scene.ns.ip("link set lo down");
    let name = scene.ns.name();
    let why = format!("\nnote: --active not possible in {name} net:[");
    let help =
        "the loopback interface is down (ip link set lo up): cannot connect to 127.0.0.1:9: ";
    // Of all namespaces others may be worse, and one that another test has just taken down cannot be seen.
    for netns in [name, "all"] {
        let outcome = check(&["--netns", netns, "--active", "-v"]);
        assert_eq!(outcome.code, Some(2), "{}", outcome.text);
        let note = outcome
            .text
            .lines()
            .find(|line| line.starts_with(why.trim()));
        assert!(
            note.is_some_and(|note| note.contains(help)),
            "{}",
            outcome.text
        );
    }
    let told = namespace(&check(&["--netns", name, "--active", "--format=json"]));
    let without = namespace(&check(&["--netns", name, "--format=json"]));
    assert_eq!(told["destinations"], without["destinations"]);
    assert_eq!(told["destinations"][0]["used"], 99);
}

#[test]
fn nobody_else_may_look_into_a_namespace_and_is_told_how_to() {
    let scene = busy(60);
    let mut sleeper = scene.ns.command("sleep").arg("60").spawn().unwrap();
    let pid = inside(&scene, sleeper.id());
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let binary = folder.path().join("check_port_exhaustion");
    copy_program(binary_folder().join("check_port_exhaustion"), &binary);
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        outcome(command.arg(&binary).args(args))
    };
    let named = as_nobody(&["--netns", scene.ns.name()]);
    assert_eq!(named.code, Some(3), "{}", named.text);
    assert!(named.text.contains("CAP_SYS_ADMIN"), "{}", named.text);
    let target = format!("pid:{pid}");
    let process = as_nobody(&["--netns", &target]);
    assert_eq!(process.code, Some(3), "{}", process.text);
    assert!(process.text.contains("CAP_SYS_PTRACE"), "{}", process.text);
    let all = as_nobody(&["--netns", "all"]);
    assert!(all.text.contains("may not be seen"), "{}", all.text);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn what_is_gone_is_unknown_with_the_line_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join("left");
    std::fs::write(&left, "").unwrap();
    let left = format!("path:{}", left.display());
    for (target, part) in [
        ("no-such-namespace", "ip netns list"),
        ("pid:4194304", "--pid host"),
        (&left, "its namespace is gone"),
        (
            "container:0123456789ab",
            "no process in /proc belongs to a container",
        ),
        ("container:web", "hexadecimal"),
        ("a/b", "path:FILE"),
    ] {
        let outcome = check(&["--netns", target]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text);
        assert!(outcome.text.contains(part), "{target}: {}", outcome.text);
        assert_eq!(outcome.text.lines().count(), 1, "{}", outcome.text);
    }
}
