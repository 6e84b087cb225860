//! The folder: what is made in it, what is removed from it, and what is left alone.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{BAD, FaultServer, GOOD, Kept, always, command, every, names, outcome, page, run_at};
use crate::support::plugin::{binary_folder, check_output, plugin};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn nobody_else_may_read_it_whatever_the_umask() {
    for umask in ["000", "077", "777"] {
        let server = always(page(BAD, ""));
        let kept = Kept::new();
        fs::create_dir(kept.path()).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask $1; shift; exec \"$@\"", "sh", umask]);
        shell.arg(binary_folder().join("check_http_retry"));
        shell.args(["-I", "127.0.0.1", "-p", &server.port(), "--attempts", "1"]);
        outcome(shell.arg("--evidence").arg(kept.path()));
        let entry = kept.entry();
        assert_eq!(mode(&entry), 0o700, "{umask}");
        for name in names(&entry) {
            assert_eq!(mode(&entry.join(&name)), 0o600, "{umask} {name}");
        }
    }
    let kept = Kept::new();
    let deep = kept.path().join("a/b");
    run_at(&always(page(BAD, "")), &deep, "--attempts 1");
    assert_eq!(mode(&deep), 0o700);
}

#[test]
fn the_oldest_go_first_by_number() {
    let server = always(page(BAD, ""));
    let kept = Kept::new();
    kept.run(&server, "--attempts 2");
    let first = kept.entries();
    let outcome = kept.run(&server, "--attempts 3 --evidence-keep 4 --format json");
    let entries = kept.entries();
    assert_eq!(entries.len(), 4, "{entries:?}");
    assert_eq!(entries[0], first[1]);
    let json = outcome.json();
    let failures = json["details"]["failures"].as_array().unwrap();
    assert_eq!(failures[0]["evidence"], entries[1].to_str().unwrap());
    // What is there no more is not named.
    let json = kept
        .run(&server, "--attempts 3 --evidence-keep 1 --format json")
        .json();
    let failures = json["details"]["failures"].as_array().unwrap();
    assert!(failures[0]["evidence"].is_null(), "{json}");
    assert_eq!(failures[2]["evidence"], kept.entry().to_str().unwrap());
}

#[test]
fn the_oldest_go_first_by_size_and_by_age() {
    let server = always(page(BAD, &"x".repeat(60_000)));
    let kept = Kept::new();
    kept.run(&server, "--attempts 12 --evidence-keep 1MB");
    let size = |path: &Path| -> u64 {
        let sizes = names(path)
            .into_iter()
            .map(|name| fs::metadata(path.join(name)).unwrap().len());
        sizes.sum()
    };
    let entries = kept.entries();
    let sum: u64 = entries.iter().map(|path| size(path)).sum();
    assert!((600_000..=1_000_000).contains(&sum), "{sum} in {entries:?}");
    // One of a year ago; the good run that follows makes no evidence, and removes this all the same.
    let old = kept.path().join("20200101T000000.000Z_x_1");
    fs::rename(&entries[0], &old).unwrap();
    kept.run(&always(page(GOOD, "")), "--attempts 1");
    assert!(!old.exists());
    assert_eq!(kept.entries(), entries[1..]);
}

#[test]
fn only_what_it_made_is_ever_removed() {
    let server = always(page(BAD, ""));
    let kept = Kept::new();
    kept.run(&server, "--attempts 1");
    let folder = kept.path();
    let made = kept.entry();
    let name = |n: u32| folder.join(format!("20200101T00000{n}.000Z_x_{n}"));
    // One that somebody put a note into.
    fs::rename(&made, name(0)).unwrap();
    fs::write(name(0).join("notes"), "keep").unwrap();
    // One without the mark, one that is a file, one that is a link to something precious, one with a link inside.
    fs::create_dir(name(1)).unwrap();
    fs::write(name(1).join("failed.har"), "mine").unwrap();
    fs::write(name(2), "a file").unwrap();
    let precious = kept.0.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::copy(name(0).join("summary.txt"), precious.join("summary.txt")).unwrap();
    symlink(&precious, name(3)).unwrap();
    fs::create_dir(name(4)).unwrap();
    fs::copy(name(0).join("summary.txt"), name(4).join("summary.txt")).unwrap();
    symlink(precious.join("summary.txt"), name(4).join("good.har")).unwrap();
    // And what has other names.
    fs::write(folder.join("README"), "").unwrap();
    fs::create_dir(folder.join("2020")).unwrap();
    fs::write(folder.join("2020/summary.txt"), "").unwrap();
    symlink(&precious, folder.join(".new-20200101T000005.000Z_x_5")).unwrap();
    let before = names(&folder);
    kept.run(&server, "--attempts 2 --evidence-keep 1,1d");
    let after = names(&folder);
    let left: Vec<_> = after.iter().filter(|name| before.contains(name)).collect();
    assert_eq!(left, before.iter().collect::<Vec<_>>());
    assert_eq!(after.len(), before.len() + 1, "{after:?}");
    assert_eq!(names(&precious), ["summary.txt"]);
    assert_eq!(fs::read_to_string(name(0).join("notes")).unwrap(), "keep");
}

#[test]
fn what_a_run_that_was_killed_left_half_made_is_removed() {
    let server = always(page(BAD, ""));
    let kept = Kept::new();
    kept.run(&server, "--attempts 1");
    let entry = kept.entry();
    for prefix in [".new-", ".old-"] {
        let half = kept
            .path()
            .join(format!("{prefix}20200101T000000.000Z_x_0"));
        fs::create_dir(&half).unwrap();
        fs::copy(entry.join("failed.har"), half.join("failed.har")).unwrap();
    }
    kept.run(&server, "--attempts 1");
    let names = names(&kept.path());
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        !names.iter().any(|name| name.contains("20200101")),
        "{names:?}"
    );
}

#[test]
fn runs_at_the_same_time_do_not_get_in_each_others_way() {
    let server = FaultServer::start(every(2));
    let kept = Kept::new();
    let mut children: Vec<_> = (0..6)
        .map(|_| {
            let mut command = command(&server, "--attempts 10 --evidence-keep 1000 --format json");
            command.arg("--evidence").arg(kept.path());
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            let child = command.spawn().unwrap();
            (command, child)
        })
        .collect();
    let mut failed = 0;
    for (command, child) in children.drain(..) {
        let outcome = check_output(&child.wait_with_output().unwrap(), &command);
        let json = outcome.json();
        for failure in json["details"]["failures"].as_array().unwrap() {
            let path = failure["evidence"]
                .as_str()
                .unwrap_or_else(|| panic!("{json:#}"));
            assert!(Path::new(path).join("failed.har").exists(), "{path}");
            failed += 1;
        }
    }
    assert!(failed >= 25, "{failed}");
    assert_eq!(kept.entries().len(), failed);
}

#[test]
fn a_folder_that_others_can_change_is_refused_and_the_verdict_stands() {
    let server = always(page(BAD, ""));
    let refused = |path: &Path, words: &str| {
        let outcome = run_at(&server, path, "--attempts 2");
        assert_eq!(outcome.code, Some(2), "{}", outcome.text);
        assert!(
            outcome.text.starts_with("HTTP CRITICAL: HTTP/1.1 500"),
            "{}",
            outcome.text
        );
        assert!(!outcome.headline().contains("evidence"), "{}", outcome.text);
        let line = outcome
            .text
            .lines()
            .find(|line| line.starts_with("--evidence: "));
        let line = line.unwrap_or_else(|| panic!("no line: {}", outcome.text));
        assert!(
            line.contains("no evidence of 2 of 2 failed probes: "),
            "{line}"
        );
        assert!(line.contains(words), "{line}");
    };
    let kept = Kept::new();
    let path = kept.path();
    fs::create_dir(&path).unwrap();
    for bits in [0o777, 0o770, 0o702] {
        chmod(&path, bits);
        refused(&path, "others may write to");
    }
    chmod(&path, 0o755);
    std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
    refused(&path, "belongs to user 12345, and this check runs as 0");
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    let link = kept.0.path().join("link");
    symlink(&path, &link).unwrap();
    refused(&link, "or a link to one");
    refused(&link.join(""), "or a link to one");
    let file = kept.0.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&file, "cannot make");
    chmod(kept.0.path(), 0o777);
    refused(&path, "others may change");
    chmod(kept.0.path(), 0o700);
    // A link in the place of the lock.
    let target = kept.0.path().join("target");
    symlink(&target, path.join(".lock")).unwrap();
    refused(&path, "cannot lock");
    assert!(!target.exists());
    assert_eq!(names(&path), [".lock"]);
}

#[test]
fn a_full_disk_costs_the_evidence_and_not_the_verdict() {
    let server = always(page(BAD, &"x".repeat(50_000)));
    let kept = Kept::new();
    fs::create_dir(kept.path()).unwrap();
    let script = "mount -t tmpfs -o size=64k,mode=700 none \"$1\" && shift && \"$@\"; code=$?; \
                  find \"${@: -1}\" -mindepth 1 ! -name .lock; exit $code";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "bash", "-c", script, "bash"])
        .arg(kept.path())
        .arg(binary_folder().join("check_http_retry"))
        .args([
            "-I",
            "127.0.0.1",
            "-p",
            &server.port(),
            "--attempts",
            "2",
            "--evidence",
        ])
        .arg(kept.path());
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let words = "--evidence: no evidence of 2 of 2 failed probes: cannot make ";
    let line = outcome.text.lines().find(|line| line.starts_with(words));
    assert!(
        line.is_some_and(|line| line.contains("No space left on device")),
        "{}",
        outcome.text
    );
    // Nothing half made is left.
    let last = outcome.text.lines().last().unwrap();
    assert!(!last.starts_with('/'), "{}", outcome.text);
}

#[test]
fn a_folder_that_does_not_answer_costs_the_evidence_and_not_the_verdict() {
    let server = always(page(BAD, ""));
    let kept = Kept::new();
    kept.run(&server, "--attempts 1");
    // Whoever waits for this lock waits as for a file system that hangs.
    let lock = fs::File::open(kept.path().join(".lock")).unwrap();
    lock.lock().unwrap();
    let outcome = kept.run(&server, "--attempts 2 --deadline 2");
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let words =
        "--evidence: no evidence of 2 of 2 failed probes: there was no time left to write it";
    assert!(outcome.text.contains(words), "{}", outcome.text);
    assert_eq!(kept.entries().len(), 1);
}

#[test]
fn a_run_that_is_ended_writes_what_it_has() {
    use std::io::Read;
    let server = FaultServer::start(every(3));
    let kept = Kept::new();
    let mut command = command(&server, "--duration 30 --interval 20ms");
    command.arg("--evidence").arg(kept.path());
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    while server.seen().len() < 10 {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{text}");
    assert!(
        text.contains(", ended early by SIGTERM, evidence in "),
        "{text}"
    );
    assert!(kept.entries().len() >= 3, "{text}");
}

#[test]
fn what_is_to_be_kept_is_said_clearly_or_not_at_all() {
    for (keep, words) in [
        ("x", "give a number, a size (100MB) or an age (7d)"),
        ("0", "give 1 to 10000 entries"),
        ("1KB", "give 1MB or more"),
        ("1,2", "is the second of its kind"),
    ] {
        let mut command = plugin("check_http_retry");
        let outcome = outcome(command.args(["-I", "127.0.0.1", "--evidence-keep", keep]));
        assert_eq!(outcome.code, Some(3), "{}", outcome.text);
        assert!(outcome.text.contains(words), "{}", outcome.text);
    }
}
