//! Options from a file.

use std::process::Command;

use super::side_by_side::{CHECK_HTTP, must_be_there};
use super::{FaultServer, GOOD, always, every, outcome, page, plugin};

#[test]
fn options_come_from_a_section_of_a_file() {
    let server = FaultServer::start(every(99));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plugins.ini");
    let port = server.port();
    let text = format!(
        "# for all\n[check_http]\nIP-address = 127.0.0.1\np={port}\n\n[site]\nIP-address=127.0.0.1\nport={port}\n\
         url=/site\nhostname = www.test\n; the end\n[flags]\nextended-perfdata=\nattempts=2\n[empty]\n"
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let at = |section: &str| format!("--extra-opts={section}@{file}");
    let paths = |arguments: &[&str], variable: (&str, &str), count: usize| {
        let before = server.seen().len();
        let mut command = plugin("check_http_retry");
        command
            .args(arguments)
            .arg("--attempts=1")
            .env(variable.0, variable.1);
        let outcome = outcome(&mut command);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.text);
        let seen = server.seen()[before..].to_vec();
        assert_eq!(seen.len(), count);
        seen[0].path().to_owned()
    };
    let none = ("X", "");
    assert_eq!(paths(&[&at("site")], none, 1), "/site");
    assert_eq!(
        paths(
            &["--extra-opts", &format!("site@{file}"), "-u", "/own"],
            none,
            1
        ),
        "/own"
    );
    assert_eq!(paths(&["-u", "/own", &at("site")], none, 1), "/own");
    assert_eq!(paths(&[&at("")], none, 1), "/");
    assert_eq!(paths(&[&at("flags"), &at("site")], none, 1), "/site");
    let folder = folder.path().to_str().unwrap();
    assert_eq!(
        paths(
            &["--extra-opts=site"],
            ("NAGIOS_CONFIG_PATH", &format!("/nonexistent:{folder}")),
            1
        ),
        "/site"
    );
    assert_eq!(
        paths(&["--extra-opts", "-u", "/own"], ("MP_CONFIG_FILE", file), 1),
        "/own"
    );
    for (argument, words) in [
        (at("nosuch"), "there is no section 'nosuch' in"),
        (at("empty"), "there is no section 'empty' in"),
        (
            "--extra-opts=x@/nonexistent".to_owned(),
            "cannot read /nonexistent: No such file",
        ),
        (
            "--extra-opt=x@/nonexistent".to_owned(),
            "--extra-opts cannot be abbreviated",
        ),
    ] {
        let outcome = outcome(plugin("check_http_retry").args([&*argument, "-I", "127.0.0.1"]));
        assert_eq!(outcome.code, Some(3), "{}", outcome.text);
        assert!(
            outcome.text.contains(words) && outcome.text.lines().count() == 1,
            "{}",
            outcome.text
        );
    }
}

#[test]
fn the_same_file_means_the_same_to_check_http() {
    must_be_there(CHECK_HTTP);
    let server = always(page(GOOD, "hello"));
    let port = server.port();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.ini");
    for (text, locator) in [
        (
            format!("[site]\nIP-address=127.0.0.1\nport = {port}\nstring=hello\n"),
            "site",
        ),
        (
            format!("[site]\nIP-address=127.0.0.1\nport={port}\nstring= no hello # here\n"),
            "site",
        ),
        (
            format!("[check_http]\nIP-address=127.0.0.1\nport={port}\n"),
            "",
        ),
        (
            format!(
                "  [ site ]\n\tIP-address = 127.0.0.1\nport={port}\nshow-body=\n[site]\nstring=nope\n"
            ),
            "site",
        ),
        (
            format!("[other]\nIP-address=127.0.0.1\nport={port}\n"),
            "site",
        ),
        (
            format!("port={port}\n[site]\nIP-address=127.0.0.1\n"),
            "site",
        ),
        (
            format!("[site]\nIP-address=127.0.0.1\nport={port}\nssl\n"),
            "site",
        ),
    ] {
        std::fs::write(&file, &text).unwrap();
        let argument = format!("--extra-opts={locator}@{}", file.display());
        let theirs = Command::new(CHECK_HTTP).arg(&argument).output().unwrap();
        let ours = outcome(plugin("check_http_retry").args([&*argument, "--attempts=1"]));
        assert_eq!(
            ours.code,
            theirs.status.code(),
            "{text}: {} {theirs:?}",
            ours.text
        );
    }
}
