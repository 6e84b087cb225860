//! The incident in containers: looked for by hand in a monitoring container, read from docker's own log, and watched
//! with the least privileges.

use std::fs;
use std::process::Output;

use super::{LEAST, NOBODY, PORTS, Scene};
use crate::docs::shown;
use crate::support::docker::{Container, Docker};
use crate::support::plugin::outcome;

impl<'a> Scene<'a> {
    /// A container as it is used for monitoring: on the users' network, with the plugins in it and something that runs.
    fn monitoring(&self) -> Container<'a> {
        let network = format!("--network={}", self.network.name);
        let words = [
            "plugins",
            "/check_port_exhaustion",
            "--forever",
            "--every=1h",
        ];
        self.docker
            .container(&[&LEAST[..], &[&network], &words].concat())
    }

    /// What finds the failure: one request after the other, each of which costs the proxy a port.
    fn until_critical(&self) -> Vec<String> {
        let words = [
            "/check_http_retry",
            "--until=critical",
            "--every=20ms",
            "--attempts=1",
            "-H",
            "service1.example",
        ];
        let mut words: Vec<_> = words.map(str::to_owned).into();
        words.extend(["-I".to_owned(), self.proxy.address()]);
        words
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_loop_in_a_container_waits_for_the_failure_on_a_terminal_and_in_a_pipe() {
    let Some(docker) = Docker::here() else {
        return;
    };
    for terminal in [true, false] {
        let scene = Scene::start(&docker);
        let monitoring = scene.monitoring();
        let words = scene.until_critical();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let exec = if terminal {
            vec!["exec", "--tty", &monitoring.id]
        } else {
            vec!["exec", &monitoring.id]
        };
        let output = docker
            .command(&[&exec[..], &words].concat())
            .output()
            .expect("docker");
        let text = text(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        // On a terminal there is a live line, written over again and again.
        assert_eq!(text.contains("\r\x1b[K["), terminal, "{text:?}");
        // Docker does not say how wide it is here, so it is taken for an ordinary one.
        let lines = text
            .split(['\r', '\n'])
            .map(|line| line.trim_start_matches("\x1b[K"));
        let widest = lines.map(|line| line.chars().count()).max();
        assert_eq!(
            widest.is_some_and(|widest| widest <= 80),
            terminal,
            "{text}"
        );
        assert!(text.contains(" HTTP OK: HTTP/1.1 200 OK - "), "{text}");
        assert!(
            text.contains("HTTP CRITICAL: HTTP/1.1 502 Bad Gateway - "),
            "{text}"
        );
        let runs = text
            .rsplit("reached after ")
            .next()
            .and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
        // One request was that of the scene, which waits for the proxy to answer.
        assert_eq!(runs, Some(PORTS), "{text}");
    }
}

#[test]
fn the_cause_is_read_from_the_file_that_docker_keeps_of_a_real_nginx_container() {
    let Some(docker) = Docker::here() else {
        return;
    };
    let scene = Scene::start(&docker);
    scene.exhaust();
    for _ in 0..4 {
        assert_eq!(scene.request().expect("the proxy answers"), 502);
    }
    let log = scene.proxy.log();
    let mount = format!("--volume={}:/log:ro", log.display());
    let words = ["--file=/log"];
    let plugin = "check_nginx_upstream_bind";

    // The log is root's. Root needs no capability to read it; others do not get at it.
    let alone = [
        "--network=none",
        &mount,
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
    ];
    let found = scene.plugin(&alone, plugin, &words);
    assert_eq!(found.code, Some(2), "{}", found.text);
    assert!(
        found
            .headline()
            .starts_with("NGINX CRITICAL: 5 of no-free-port in the last 10 min, "),
        "{}",
        found.text
    );
    assert_eq!(found.metric("no_free_port"), Some(5.0), "{}", found.text);
    let refused = scene.plugin(&[&alone[..], &[NOBODY]].concat(), plugin, &words);
    assert_eq!(refused.code, Some(3), "{}", refused.text);
    let help = "may not read /log: it belongs to 0, group 0, mode 0640: give user 65534 that group (docker run --group-add 0)";
    assert!(refused.headline().ends_with(help), "{}", refused.text);
    let given = ["--group-add=0", NOBODY];
    let found = scene.plugin(&[&alone[..], &given].concat(), plugin, &words);
    assert_eq!(
        (found.code, found.metric("count")),
        (Some(2), Some(5.0)),
        "{}",
        found.text
    );

    // One that may read it needs nothing else, not even a place for its state.
    fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("it is ours");
    let found = scene.plugin(
        &[&LEAST[..], &["--network=none", &mount]].concat(),
        plugin,
        &words,
    );
    assert_eq!(
        (found.code, found.metric("count")),
        (Some(2), Some(5.0)),
        "{}",
        found.text
    );
    let state = [
        "--tmpfs=/state",
        "--env=NAGIOS_PLUGIN_STATE_DIRECTORY=/state",
    ];
    let found = scene.plugin(
        &[&LEAST[..], &["--network=none", &mount], &state].concat(),
        plugin,
        &words,
    );
    assert_eq!(
        (found.code, found.metric("count")),
        (Some(2), Some(5.0)),
        "{}",
        found.text
    );
}

#[test]
fn the_commands_of_the_page_find_the_failure_and_its_cause() {
    let Some(docker) = Docker::here() else {
        return;
    };
    let scene = Scene::start(&docker);
    let monitoring = scene.monitoring();
    let there = format!("{} /check_", monitoring.id);
    let exec = shown(
        "containers.md",
        "docker exec ",
        &[
            ("icinga2 /usr/lib/nagios/plugins/check_", &there),
            ("192.0.2.2", &scene.proxy.address()),
        ],
    );
    // As from a terminal.
    let mut script = docker.client("script");
    script.args(["--quiet", "--return", "--command", &exec, "/dev/null"]);
    let output = script.output().expect("script");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("502 Bad Gateway"), "{said}");

    let look = shown(
        "containers.md",
        "docker run ",
        &[
            (" proxy)", &format!(" {})", scene.proxy.id)),
            ("proxy-checks check_", "plugins /check_"),
        ],
    );
    let mut shell = docker.client("sh");
    let found = outcome(shell.args(["-c", &look]));
    assert_eq!(found.code, Some(2), "{}", found.text);
    assert!(
        found.headline().contains(" of no-free-port "),
        "{}",
        found.text
    );
}

#[test]
fn names_are_looked_up_in_an_image_with_nothing_but_the_plugin() {
    let Some(docker) = Docker::here() else {
        return;
    };
    let scene = Scene::start(&docker);
    let host = format!("--add-host=service1.example:{}", scene.proxy.address());
    let network = format!("--network={}", scene.network.name);
    let words = ["-H", "service1.example", "--attempts=1"];
    let found = scene.plugin(
        &[&LEAST[..], &[&network, &host]].concat(),
        "check_http_retry",
        &words,
    );
    assert_eq!(found.code, Some(0), "{}", found.text);
    // By docker's own name server.
    let found = scene.plugin(
        &[&LEAST[..], &[&network]].concat(),
        "check_http_retry",
        &["-H", &scene.proxy.id[..12], "--attempts=1"],
    );
    assert_eq!(found.code, Some(0), "{}", found.text);
}
