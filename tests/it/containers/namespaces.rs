//! Each way in which a container, or the host, can look at the network namespace of another; and what is said where it
//! looks at the wrong one, or may not.

use super::{LEAST, NOBODY, PORTS, RANGE, Scene};
use crate::support::docker::Docker;
use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, outcome, plugin};

/// A container with no network but loopback.
const ALONE: &str = "--network=none";
/// The host's processes, mounted.
const HOST_PROC: &str = "--volume=/proc:/host/proc:ro";
/// Read there.
const PROC: &str = "--proc=/host/proc";

impl Scene<'_> {
    fn ports(&self, options: &[&str], words: &[&str]) -> Outcome {
        self.plugin(options, "check_port_exhaustion", words)
    }

    /// The least privileges, and these options.
    fn least(&self, options: &[&str], words: &[&str]) -> Outcome {
        self.ports(&[&LEAST[..], options].concat(), words)
    }
}

/// That all of the proxy's ports were seen to be used.
fn assert_seen(outcome: &Outcome) {
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let ports = format!(": {PORTS} of {PORTS} ports used (100 %), 0 free");
    let headline = outcome.headline();
    assert!(
        headline.starts_with("PORTS CRITICAL: ") && headline.contains(&ports),
        "{}",
        outcome.text
    );
}

fn assert_unknown(outcome: &Outcome, help: &[&str]) {
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    assert_eq!(outcome.text.lines().count(), 1, "{}", outcome.text);
    for part in help {
        assert!(outcome.text.contains(part), "no {part}: {}", outcome.text);
    }
}

#[test]
fn a_container_on_the_proxys_network_sees_its_last_port_without_any_privilege() {
    let Some(docker) = Docker::here() else {
        return;
    };
    let scene = Scene::start(&docker);
    scene.exhaust();
    let joined = scene.least(&[&scene.proxy.network()], &["-v"]);
    assert_seen(&joined);
    // Which namespace that was: the number is the one that the host knows.
    let file = format!("/proc/{}/ns/net", scene.proxy.pid());
    let number = std::fs::read_link(file).expect("a process of ours");
    assert!(
        joined
            .text
            .contains(&format!("namespace {}", number.display())),
        "{}",
        joined.text
    );
    // No better way to look was missing: there is a forecast.
    assert!(
        joined
            .metric("closed_per_second")
            .is_some_and(|rate| rate > 0.0),
        "{}",
        joined.text
    );

    docker.netns.set("ipv4/ip_local_port_range", "30000 30199");
    let host = scene.least(&["--network=host"], &[]);
    assert_eq!(
        (host.code, host.metric("capacity")),
        (Some(0), Some(200.0)),
        "{}",
        host.text
    );
}

#[test]
fn a_container_that_measures_itself_is_told_so() {
    let Some(docker) = Docker::here() else {
        return;
    };
    let scene = Scene::start(&docker);
    scene.exhaust();
    for network in [ALONE, &format!("--network={}", scene.network.name)] {
        let own = scene.least(&[network], &[]);
        assert_eq!(own.code, Some(0), "{}", own.text);
        assert!(
            own.text
                .contains("\nnote: this is the network namespace of this container (or "),
            "{}",
            own.text
        );
    }
    // The host's /proc/net is a link to the reader's own, and its /proc/sys shows the reader's settings.
    let own = scene.least(&[ALONE, HOST_PROC], &[PROC]);
    assert_eq!(own.code, Some(0), "{}", own.text);
    let note = "\nnote: the sockets and settings are those of this process's own network namespace, whatever /host/proc \
                belongs to: ";
    assert!(own.text.contains(note), "{}", own.text);
}

#[test]
fn the_proxys_connections_are_read_from_its_process_without_privileges_where_the_range_is_told() {
    let Some(docker) = Docker::here() else {
        return;
    };
    let scene = Scene::start(&docker);
    scene.exhaust();
    let process = format!("--netns=pid:{}", scene.proxy.pid());
    let container = format!("--netns=container:{}", &scene.proxy.id[..12]);
    let range = format!("--port-range={}", RANGE.replace(' ', "-"));
    // There its first process is the proxy's.
    let shared = format!("--pid=container:{}", scene.proxy.id);
    for (options, words) in [
        ([&*shared, ALONE], vec!["--netns=pid:1"]),
        (["--pid=host", ALONE], vec![&*process]),
        ([HOST_PROC, ALONE], vec![&*process, PROC]),
        ([HOST_PROC, ALONE], vec![&*container, PROC]),
    ] {
        // The settings that can be read are the reader's own: better none.
        let unknown = scene.least(&options, &words);
        assert_unknown(&unknown, &["CAP_SYS_PTRACE", "--port-range LOW-HIGH"]);
        let seen = scene.least(&options, &[&words[..], &[&range]].concat());
        assert_seen(&seen);
        let name = words[0].trim_start_matches("--netns=");
        assert!(
            seen.headline().contains(&format!("(namespace {name})")),
            "{}",
            seen.text
        );
        let seen = scene.least(&options, &[&words[..], &[&range, "-v"]].concat());
        assert!(
            seen.text.contains("so that there is no forecast"),
            "{}",
            seen.text
        );
    }
    let all = scene.least(&[HOST_PROC, ALONE], &[PROC, "--netns=all"]);
    assert!(
        all.text
            .contains("may not be seen: that needs root with CAP_SYS_PTRACE"),
        "{}",
        all.text
    );
}

#[test]
fn the_proxys_namespace_is_joined_with_sys_admin_by_process_by_container_and_by_file() {
    let Some(docker) = Docker::here() else {
        return;
    };
    let scene = Scene::start(&docker);
    scene.exhaust();
    let process = format!("--netns=pid:{}", scene.proxy.pid());
    let container = format!("--netns=container:{}", &scene.proxy.id[..12]);
    let file = format!("--volume=/proc/{}/ns/net:/proxy:ro", scene.proxy.pid());
    // Where docker keeps them as a rule.
    let files = format!(
        "--volume={}:/run/docker/netns:ro",
        docker.namespaces().display()
    );
    let admin = "--cap-add=SYS_ADMIN";
    let shared = format!("--pid=container:{}", scene.proxy.id);
    for (options, words) in [
        (vec![ALONE, &shared], vec!["--netns=pid:1"]),
        (vec![ALONE, "--pid=host"], vec![&*process]),
        (vec![ALONE, "--pid=host"], vec![&*container]),
        (vec![ALONE, HOST_PROC], vec![&*container, PROC]),
        (
            vec![ALONE, &file, "--cap-drop=ALL", "--read-only"],
            vec!["--netns=path:/proxy"],
        ),
        (
            vec![ALONE, &files, "--cap-drop=ALL", "--read-only"],
            vec!["--netns=all"],
        ),
    ] {
        let joined = scene.ports(&[&options[..], &[admin]].concat(), &words);
        assert_seen(&joined);
        assert!(joined.headline().contains(" net:["), "{}", joined.text);
    }
    // Without the capability, and with one that a user who is not root does not get.
    let refused = scene.ports(&[ALONE, &file], &["--netns=path:/proxy"]);
    assert_unknown(
        &refused,
        &[
            "cannot join",
            "needs root with CAP_SYS_ADMIN (docker run --cap-add SYS_ADMIN)",
        ],
    );
    let refused = scene.ports(&[ALONE, &file, admin, NOBODY], &["--netns=path:/proxy"]);
    assert_unknown(&refused, &["cannot join", "needs root with CAP_SYS_ADMIN"]);
    let refused = scene.ports(&[ALONE, "--pid=host", admin, NOBODY], &[&process]);
    assert_unknown(&refused, &["cannot open", "needs root with CAP_SYS_PTRACE"]);

    // A process of the host has more capabilities than a container, and asks for one more.
    let netns = Netns::new("daemon");
    let mut daemon = netns.command("sleep").arg("60").spawn().expect("sleep");
    let process = format!("--netns=pid:{}", daemon.id());
    let refused = scene.ports(&[ALONE, "--pid=host", admin], &[&process]);
    let joined = scene.ports(
        &[ALONE, "--pid=host", admin, "--cap-add=SYS_PTRACE"],
        &[&process],
    );
    daemon.kill().expect("a child of ours");
    daemon.wait().expect("a child of ours");
    assert_unknown(
        &refused,
        &["cannot open", "--cap-add SYS_PTRACE --cap-add SYS_ADMIN"],
    );
    assert_eq!(joined.code, Some(0), "{}", joined.text);
}

#[test]
fn the_host_finds_a_container_by_its_id_and_all_of_them_with_the_worst_first() {
    let Some(docker) = Docker::here() else {
        return;
    };
    let scene = Scene::start(&docker);
    scene.exhaust();
    let check = |target: &str| outcome(plugin("check_port_exhaustion").args(["--netns", target]));
    for digits in [12, 64] {
        let name = format!("container:{}", &scene.proxy.id[..digits]);
        let seen = check(&name);
        assert_seen(&seen);
        assert!(
            seen.headline()
                .contains(&format!("(namespace {name} net:[")),
            "{}",
            seen.text
        );
    }
    let all = check("all");
    // Other tests have namespaces at the same time, and one of these may be as bad.
    assert_eq!(all.code, Some(2), "{}", all.text);
    assert!(all.headline().contains(", the worst of "), "{}", all.text);

    let id = scene.proxy.id.clone();
    drop(scene);
    assert_unknown(
        &check(&format!("container:{id}")),
        &["no process in /proc belongs to a container"],
    );
}
