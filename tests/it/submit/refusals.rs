//! What does not go through, and what the plugin says about it. The state of the check stays what it was.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::json;

use super::lab::{Lab, SERVICE, Site, until};
use crate::support::fault_server::{Act, FaultServer, page, page_with};
use crate::support::identity::{DAY, Identity};
use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, example, outcome, plugin};

/// Lines of a run that said OK and could not submit it.
fn trouble(command: &mut Command) -> (String, String) {
    let outcome = outcome(command);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let mut lines = outcome.text.lines().skip(1);
    let text = lines.next().unwrap_or_default().to_owned();
    assert!(
        text.starts_with("[UNKNOWN] not submitted to https://"),
        "{outcome:?}"
    );
    assert!(text.contains(" (1 result waits in /"), "{outcome:?}");
    let advice = lines.next().unwrap_or_default().trim().to_owned();
    (text, advice)
}

#[test]
fn each_refusal_of_icinga_is_one_line_and_says_what_to_do() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    let site = Site::start(&netns, |_| page("200 OK", ""));
    let permission = "the ApiUser needs permissions = [ { permission = \"actions/process-check-result\"; filter = {{ \
                      host.name == \"web\" && service.name == \"";
    for (words, password, text, advice) in [
        (
            &["--submit-user", "sender"][..],
            "wrong",
            "Icinga knows no such user, or not this password (401)",
            "compare --submit-password-file with: object ApiUser \"sender\" {",
        ),
        (
            &["--submit-user", "nobody"],
            "hush",
            "Icinga knows no such user, or not this password (401)",
            "ApiUser \"nobody\"",
        ),
        (
            &["--submit-user", "looker"],
            "hush",
            // Or 403, by version.
            "(40",
            permission,
        ),
        (
            &["--submit-service", "web!nothing"],
            "hush",
            "Icinga has no service web!nothing (404)",
            "make the service, see icinga2-conf/passive.conf",
        ),
        // It is there, but not for this user.
        (
            &["--submit-service", "web!other"],
            "hush",
            "(40",
            "permission = \"actions/process-check-result\"",
        ),
        (
            &["--submit-service", "web!active"],
            "hush",
            "passive checks of web!active are disabled (403)",
            "set enable_passive_checks = true",
        ),
        (
            &["--submit", "https://localhost:5665"],
            "hush",
            "certificate",
            "the certificate is not for 'localhost': give --submit https://NODENAME:PORT",
        ),
        (
            &["--submit", "https://icinga.test:5999"],
            "hush",
            "nobody listens there (connection refused)",
            "",
        ),
    ] {
        let begun = Instant::now();
        // Each has a queue of its own: what waits would be told as well.
        let queue = tempfile::tempdir().expect("a folder");
        let mut command = lab.plugin(&site, &["--attempts", "1"]);
        command
            .args(words)
            .args(["--submit-queue".as_ref(), queue.path().as_os_str()])
            .env("PROXY_CHECKS_SUBMIT_PASSWORD", password);
        let (told, advised) = trouble(&mut command);
        assert!(told.contains(text), "{words:?}: {told}");
        assert!(advised.contains(advice), "{words:?}: {advised}");
        assert!(!told.contains("hush") && !advised.contains("hush"));
        // What lasts is not waited for.
        assert!(
            advice.is_empty() || begun.elapsed() < Duration::from_secs(4),
            "{words:?}"
        );
    }
    // One who may send and not ask.
    let mut command = lab.plugin(&site, &["--attempts", "1", "--submit-user", "blind"]);
    let outcome = lab.submitted(&mut command);
    assert!(!outcome.text.contains("not submitted"), "{outcome:?}");
    assert_eq!(lab.icinga.service(SERVICE)["state"], 0);
}

#[test]
fn another_authority_is_not_trusted_and_a_client_certificate_does_for_a_password() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    let site = Site::start(&netns, |_| page("200 OK", ""));
    let other = lab.folder.path().join("other.pem");
    fs::write(&other, Identity::authority().pem()).expect("a file");
    let mut command = lab.plugin(&site, &["--attempts", "1"]);
    let (_, advice) = trouble(command.args(["--submit-ca".as_ref(), other.as_os_str()]));
    assert!(
        advice.starts_with("the certificate is not of the authority in --submit-ca"),
        "{advice}"
    );

    let certs = lab.icinga.folder().join("lib/certs");
    let mut command = lab.bare("check_port_exhaustion");
    command
        .args(["--submit-ca".as_ref(), lab.authority().as_os_str()])
        .args([
            "--submit-cert".as_ref(),
            certs.join("icinga.test.crt").as_os_str(),
        ])
        .args([
            "--submit-key".as_ref(),
            certs.join("icinga.test.key").as_os_str(),
        ])
        .arg("-v");
    let outcome = lab.submitted(&mut command);
    assert!(
        outcome
            .text
            .contains("\nsubmitted to https://icinga.test:5665 as "),
        "{outcome:?}"
    );
}

#[test]
fn a_password_comes_from_a_file_and_is_never_printed() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    let file = lab.folder.path().join("password");
    fs::write(&file, "hush\n").expect("a file");
    let mut command = lab.submitting("check_port_exhaustion");
    command
        .env_remove("PROXY_CHECKS_SUBMIT_PASSWORD")
        .args(["--submit-password-file".as_ref(), file.as_os_str()])
        .args(["-vvv", "--format", "json"]);
    let outcome = lab.submitted(&mut command);
    assert_eq!(outcome.json()["findings"], json!([]), "{outcome:?}");
    assert!(!outcome.text.contains("hush"));
    assert_eq!(
        lab.icinga.service(SERVICE)["last_check_result"]["active"],
        false
    );
}

#[test]
fn what_is_missing_or_wrong_on_the_command_line_is_one_unknown_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path.to_str().expect("text").to_owned()
    };
    let authority = Identity::authority();
    let client = Identity::signed("client", SystemTime::now() + DAY, &authority);
    let ca = file("ca.pem", &authority.pem());
    let (cert, key) = (
        file("cert.pem", &client.pem()),
        file("key.pem", &client.key_pem()),
    );
    let (empty, broken) = (
        file("empty", ""),
        file("broken", "-----BEGIN CERTIFICATE-----\nx\n"),
    );
    let other_key = file("other.key", &authority.key_pem());
    let nowhere = folder.path().join("nowhere");
    let nowhere = nowhere.to_str().expect("text");
    let url = &["--submit", "https://icinga:5665"][..];
    let service = &["--submit-service", "web!x"][..];
    let with_ca = &["--submit-ca", &ca][..];
    let user = &["--submit-user", "me"][..];
    for (words, text) in [
        (&[url][..], "missing --submit-service"),
        (&[service], "missing --submit"),
        (
            &[&["--submit", "http://icinga:5665"], service],
            "Icinga's API speaks https alone",
        ),
        (
            &[&["--submit", "https://me:hush@icinga"], service],
            "no user and password in the URL",
        ),
        (
            &[&["--submit", "icinga"], service],
            "is no URL: give https://HOST:PORT",
        ),
        (&[url, &["--submit-service", "web"]], "give HOST!SERVICE"),
        (
            &[url, service],
            "give --submit-user and its password, or --submit-cert and --submit-key",
        ),
        (
            &[url, service, user],
            "give --submit-password-file, or the password in PROXY_CHECKS_SUBMIT_PASSWORD",
        ),
        (
            &[url, service, user, &["--submit-password-file", nowhere]],
            "/nowhere: No such file",
        ),
        (
            &[url, service, user, &["--submit-password-file", &empty]],
            "is empty",
        ),
        (
            &[url, service, &["--submit-cert", &cert]],
            "missing --submit-key",
        ),
        (
            &[
                url,
                service,
                &["--submit-cert", &cert, "--submit-key", &key],
            ],
            "give --submit-ca FILE. Icinga's API has an authority of its own: /var/lib/icinga2/certs/ca.crt",
        ),
        (
            &[
                url,
                service,
                &[
                    "--submit-ca",
                    &empty,
                    "--submit-cert",
                    &cert,
                    "--submit-key",
                    &key,
                ],
            ],
            "no certificate is in it",
        ),
        (
            &[
                url,
                service,
                &[
                    "--submit-ca",
                    &broken,
                    "--submit-cert",
                    &cert,
                    "--submit-key",
                    &key,
                ],
            ],
            "cannot read a certificate",
        ),
        (
            &[
                url,
                service,
                with_ca,
                &["--submit-cert", &cert, "--submit-key", &other_key],
            ],
            "cannot be used with the key in",
        ),
        (
            &[
                url,
                service,
                with_ca,
                &[
                    "--submit-cert",
                    &cert,
                    "--submit-key",
                    &key,
                    "--submit-queue",
                    &ca,
                ],
            ],
            "--submit-queue: cannot make ",
        ),
    ] {
        let words: Vec<_> = words.iter().flat_map(|words| words.iter()).collect();
        for mut command in [plugin("check_port_exhaustion"), example("minimal_check")] {
            let outcome = outcome(
                command
                    .args(&words)
                    .env_remove("PROXY_CHECKS_SUBMIT_PASSWORD"),
            );
            assert_eq!(outcome.code, Some(3), "{words:?}: {outcome:?}");
            assert_eq!(outcome.text.lines().count(), 1, "{outcome:?}");
            assert!(outcome.text.contains(text), "{words:?}: {outcome:?}");
            assert!(!outcome.text.contains("hush"), "{outcome:?}");
        }
    }
}

/// A plugin that submits to something that is no Icinga, and what it says.
fn against(server: &FaultServer, authority: &Identity) -> (Outcome, Duration) {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    fs::File::create(&ca)
        .and_then(|mut file| file.write_all(authority.pem().as_bytes()))
        .expect("a file");
    let mut command = example("minimal_check");
    command
        .args(["--submit", &format!("https://localhost:{}", server.port())])
        .args(["--submit-service", SERVICE, "--submit-user", "me"])
        .args(["--submit-ca".as_ref(), ca.as_os_str()])
        .args(["--submit-queue".as_ref(), folder.path().as_os_str()])
        .env("PROXY_CHECKS_SUBMIT_PASSWORD", "hush");
    // The example may have had to be built first.
    let begun = Instant::now();
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.headline(), "COUNT OK: counted 3 of 3");
    (outcome, begun.elapsed())
}

#[test]
fn a_server_that_is_no_icinga_steers_nothing() {
    let authority = Identity::authority();
    let shown = Identity::signed("localhost", SystemTime::now() + DAY, &authority);
    let evil = "\u{1b}[2J|a=1\nCOUNT OK: forged<script>";
    let result = |code: u16| json!({"results": [{"code": code, "status": evil}]}).to_string();
    for (act, text) in [
        (
            Act::Send(page("200 OK", &"x".repeat(3 << 20))),
            "the reply is longer than 64 KiB",
        ),
        (
            Act::SendForever(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 1 << 16]),
            "the reply is longer than 64 KiB",
        ),
        (
            Act::SendForever(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-Y: z\r\n".to_vec()),
            "not submitted",
        ),
        (
            Act::SendAndStall(b"HTTP/1.1 200 OK\r\n".to_vec()),
            "not submitted",
        ),
        (Act::SendAndReset(Vec::new()), "not submitted"),
        (Act::Send(b"SSH-2.0-x\r\n".to_vec()), "not submitted"),
        (
            Act::Send(page_with(
                "302 Found",
                "Location: https://localhost:1/\r\n",
                "",
            )),
            "something sends elsewhere (302), which is not followed",
        ),
        (
            Act::Send(page("403 Forbidden", &result(403))),
            "the user may not do that (403: \\x1b[2J!a=1\\nCOUNT OK: forged< script>)",
        ),
        (
            Act::Send(page("500 Oops", evil)),
            "Icinga says 500: \\x1b[2J!a=1\\nCOUNT OK: forged< script>",
        ),
        (Act::Send(page("418 Teapot", "")), "it says 418"),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let server = FaultServer::on(listener, Some(shown.server(&[], None)), move |_| {
            act.clone()
        });
        let (outcome, took) = against(&server, &authority);
        assert!(
            outcome
                .text
                .contains("[UNKNOWN] not submitted to https://localhost:"),
            "{outcome:?}"
        );
        assert!(outcome.text.contains(text), "{outcome:?}");
        assert!(
            !outcome.text.contains(['\u{1b}']) && outcome.text.matches('|').count() == 1,
            "{outcome:?}"
        );
        assert!(took < Duration::from_secs(20), "{took:?}");
        for seen in server.seen() {
            assert!(seen.path().starts_with("/v1/"), "{seen:?}");
        }
    }
    // It says nothing in TLS at all.
    let server = FaultServer::start(|_| Act::Send(b"HTTP/1.1 400 no\r\n\r\n".to_vec()));
    let (outcome, _) = against(&server, &authority);
    assert!(
        outcome
            .text
            .contains("\n  that is no TLS: look what answers at that port\n"),
        "{outcome:?}"
    );
}

#[test]
fn a_full_queue_drops_the_oldest_good_results_and_icinga_is_told() {
    let netns = Netns::new("submit");
    let mut lab = Lab::start(&netns);
    lab.shut_down();
    // The second one is bad, and stays.
    let site = Site::start(&netns, |number| match number {
        1 => page("500 bad", ""),
        _ => page(&format!("200 n{number}"), ""),
    });
    let mut loops = lab.watch(
        &site,
        &[
            "--attempts",
            "1",
            "--forever",
            "--every",
            "50ms",
            "--submit-queue-limit",
            "10",
        ],
    );
    until("rounds", || site.seen() > 40);
    assert!(lab.waiting().len() <= 10);
    lab.icinga.boot();
    until("catching up", || lab.latest() + 5 > site.seen());
    let outcome = loops.end(Signal::TERM);
    lab.send_rest();
    assert!(
        outcome
            .text
            .contains(" the queue of results is full: the oldest ones are dropped, OK ones first"),
        "{outcome:?}"
    );
    assert!(
        outcome
            .text
            .contains(" results were dropped: the queue was full or damaged"),
        "{outcome:?}"
    );
    let written = lab.written();
    assert!(
        written.iter().any(|line| line.contains("500 bad")),
        "{written:?}"
    );
    assert!(
        written
            .iter()
            .any(|line| line.contains(" results before this one were dropped: ")),
        "{written:?}"
    );
}

#[test]
fn a_place_that_cannot_be_written_is_told_and_results_go_all_the_same() {
    let netns = Netns::new("submit");
    let lab = Lab::start(&netns);
    // A file is no folder; without --submit-queue the default place is no promise.
    let file = lab.folder.path().join("file");
    fs::write(&file, "").expect("a file");
    let mut command =
        netns.command(crate::support::plugin::binary_folder().join("check_port_exhaustion"));
    command
        .args([
            "--submit",
            "https://icinga.test:5665",
            "--submit-address",
            "127.0.0.1",
        ])
        .args(["--submit-service", SERVICE, "--submit-user", "sender", "-v"])
        .args(["--submit-ca".as_ref(), lab.authority().as_os_str()])
        .env("PROXY_CHECKS_SUBMIT_PASSWORD", "hush")
        .env("NAGIOS_PLUGIN_STATE_DIRECTORY", &file);
    // Nothing of a run is left to the next one: on a machine that is busy for longer than a run waits another one does it.
    let mut runs = std::iter::repeat_with(|| outcome(&mut command)).take(8);
    let outcome = runs.find(|outcome| {
        assert!(
            outcome
                .text
                .contains("[UNKNOWN] results that wait are kept in memory alone: cannot make "),
            "{outcome:?}"
        );
        outcome
            .text
            .contains("\nsubmitted to https://icinga.test:5665 as ")
    });
    assert!(outcome.is_some(), "none was submitted");
}
