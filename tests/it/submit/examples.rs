//! The examples in `watch/` do what they say, with the options that there are.

use std::fs;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::lab::{Lab, SERVICE, Site};
use crate::docs::shown;
use crate::support::netns::Netns;
use crate::support::plugin::{binary_folder, project, search_path};

fn example(name: &str) -> String {
    fs::read_to_string(project().join("watch").join(name)).expect("it is shipped")
}

/// The command line of the unit, with what systemd puts in.
fn of_unit(put_in: &[(&str, &str)]) -> Vec<String> {
    let unit = example("check-http-retry@.service").replace("\\\n", "");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let mut line = line.expect("a command").to_owned();
    for (name, value) in put_in {
        assert!(line.contains(name), "{name}");
        line = line.replace(name, value);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    assert_eq!(
        words.next().as_deref(),
        Some("/usr/lib/nagios/plugins/check_http_retry")
    );
    words.collect()
}

/// That of the container.
fn of_container(put_in: &[(&str, &str)]) -> Vec<String> {
    let compose = example("compose.yaml");
    let words = compose
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- --"));
    let mut words: Vec<_> = words.map(|word| format!("--{word}")).collect();
    for (start, value) in put_in {
        let word = words.iter_mut().find(|word| word.starts_with(start));
        let word = word.unwrap_or_else(|| panic!("{start}"));
        (*value).clone_into(word);
    }
    words
}

#[test]
fn the_examples_watch_and_send_what_they_see() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    let site = Site::numbered(&netns);
    let password = lab.folder.path().join("password");
    fs::write(&password, "hush").expect("a file");
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let (authority, password, queue) =
        (text(&lab.authority()), text(&password), text(&lab.queue()));
    let url = "https://icinga.test:5665";
    let what = format!("-I 127.0.0.1 -p {}", site.port());
    let unit = of_unit(&[
        ("$WATCH", &what),
        ("${ICINGA}", url),
        ("${SERVICE}", SERVICE),
        ("/etc/proxy-checks/ca.crt", &authority),
        ("%d/password", &password),
        ("/var/lib/proxy-checks", &queue),
        ("proxy-checks ", "sender "),
    ]);
    let container = of_container(&[
        ("--hostname=", "--IP-address=127.0.0.1"),
        ("--ssl", &format!("--port={}", site.port())),
        ("--sni", "--sni"),
        ("--submit=", &format!("--submit={url}")),
        ("--submit-service=", &format!("--submit-service={SERVICE}")),
        ("--submit-ca=", &format!("--submit-ca={authority}")),
        ("--submit-user=", "--submit-user=sender"),
        (
            "--submit-password-file=",
            &format!("--submit-password-file={password}"),
        ),
        ("--submit-queue=", &format!("--submit-queue={queue}")),
    ]);
    for (words, start) in [
        (unit, "HTTP OK: HTTP/1.1 200 n"),
        (container, "HTTP OK: HTTP/1.1 200 n"),
    ] {
        let run = || {
            let before = site.seen();
            let mut command = netns.command(binary_folder().join("check_http_retry"));
            let child = command
                .args(&words)
                // The name of its certificate is nobody's here.
                .args(["--submit-address", "127.0.0.1"])
                .stdout(Stdio::piped())
                .spawn()
                .expect("a plugin");
            super::until("probes", || site.seen() > before + 1);
            kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
            let output = child.wait_with_output().expect("a child of ours");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
            said
        };
        // The end of a loop waits three seconds for Icinga: on a machine that is busy beyond that, once more.
        let mut said = run();
        for _ in 0..5 {
            if lab.waiting().is_empty() {
                break;
            }
            lab.send_rest();
            said = run();
        }
        assert!(
            said.contains(start) && !said.contains("submitted"),
            "{words:?}: {said}"
        );
        assert!(lab.waiting().is_empty(), "{said}");
        let service = lab.icinga.service(SERVICE);
        let result = service["last_check_result"]["output"]
            .as_str()
            .unwrap_or_default();
        let first = said.lines().rev().find(|line| line.starts_with("HTTP OK"));
        assert_eq!(
            result.lines().next(),
            first.and_then(|line| line.split('|').next())
        );
    }
}

#[test]
fn the_loop_of_the_page_reaches_icinga() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    let site = Site::numbered(&netns);
    let password = lab.folder.path().join("password");
    fs::write(&password, "hush").expect("a file");
    let authority = lab.authority();
    let here = [
        ("-S --sni", &*format!("-I 127.0.0.1 -p {}", site.port())),
        (
            "--duration 55s --interval 1s",
            "--duration 1s --interval 100ms",
        ),
        ("--every 1m", "--every 2s"),
        // The name of its certificate is nobody's here.
        (
            "https://icinga.example.org:5665",
            "https://icinga.test:5665 --submit-address 127.0.0.1",
        ),
        ("proxy1!watched-service1", SERVICE),
        ("/etc/proxy-checks/ca.crt", &authority.to_string_lossy()),
        ("--submit-user proxy-checks", "--submit-user sender"),
        ("/etc/proxy-checks/password", &password.to_string_lossy()),
    ];
    let line = shown("icinga.md", "check_http_retry ", &here);
    let mut shell = netns.command("sh");
    shell
        .args(["-c", &format!("exec {line}")])
        .env("PATH", search_path())
        .env("NAGIOS_PLUGIN_STATE_DIRECTORY", lab.folder.path());
    let child = shell.stdout(Stdio::piped()).spawn().expect("a shell");
    super::until("a result of the second round", || lab.latest() > 10);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let output = child.wait_with_output().expect("a child of ours");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    lab.send_rest();
    assert!(lab.waiting().is_empty(), "{said}");
}
