//! What is there to look with: users without rights, no netlink, another `/proc` or none.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use super::inputs::{A, TO, busy, fake_proc};
use super::{check, check_without_netlink, namespace};
use crate::support::netns::Netns;
use crate::support::oracle::Scene;
use crate::support::plugin::{binary_folder, copy_program, outcome};
use crate::support::sockets::Choice::Connect;

#[test]
fn nobody_may_look_at_the_own_namespace() {
    let scene = busy(60);
    // Nobody may not enter the folder of the build.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("check");
    copy_program(binary_folder().join("check_port_exhaustion"), &copy);
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
