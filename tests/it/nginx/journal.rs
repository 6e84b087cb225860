//! `--journal-unit`: a real journal read by the real journalctl, and what either may do besides.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use super::count;
use crate::support::growing_log::{BIND, GrowingLog};
use crate::support::plugin::{Outcome, binary_folder, outcome};

/// systemd's own writer of journal files.
const WRITER: &str = "/lib/systemd/systemd-journal-remote";

/// Runs the check in a mount namespace of its own, once `before` has put things there.
fn look_where(log: &GrowingLog, before: &str, unit: &str) -> Outcome {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-e", "-c"])
        .arg(format!("{before}\nexec \"$@\""))
        .arg("sh")
        .arg(binary_folder().join("check_nginx_upstream_bind"))
        .args(["--journal-unit", unit])
        .current_dir(log.at(""))
        .env("NAGIOS_PLUGIN_STATE_DIRECTORY", log.at("state"));
    outcome(&mut command)
}

/// Writes these entries of nginx into a journal of the test's own, behind those that it holds.
fn write_journal(log: &GrowingLog, messages: &[String]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let machine = "0123456789abcdef0123456789abcdef";
    let mut entries = String::new();
    for (number, message) in messages.iter().enumerate() {
        let micros = now.as_micros() + number as u128;
        let _ = write!(
            entries,
            "__REALTIME_TIMESTAMP={micros}\n__MONOTONIC_TIMESTAMP={micros}\n_BOOT_ID={machine}\n\
             _MACHINE_ID={machine}\n_HOSTNAME=proxy1\n_UID=0\n_SYSTEMD_UNIT=nginx.service\nPRIORITY=3\n\
             MESSAGE={}\n\n",
            message.trim_end()
        );
    }
    fs::write(log.at("entries"), entries).unwrap();
    let journal = log.at("journal").join(machine);
    fs::create_dir_all(&journal).unwrap();
    let written = Command::new(WRITER)
        .arg("--output")
        .arg(journal.join("system.journal"))
        .arg(log.at("entries"))
        .stderr(Stdio::null())
        .status()
        .expect("systemd-journal-remote");
    assert!(written.success());
    fs::write(log.at("machine-id"), format!("{machine}\n")).unwrap();
}

/// Reads that journal as the host's own.
fn look(log: &GrowingLog, unit: &str) -> Outcome {
    let before = "mount -t tmpfs none /var/log
        mkdir /var/log/journal
        mount --bind journal /var/log/journal
        mount --bind machine-id /etc/machine-id";
    look_where(log, before, unit)
}

#[test]
fn each_entry_of_a_real_journal_is_counted_once() {
    let mut log = GrowingLog::new();
    let mut lines = |number: usize| -> Vec<_> {
        let line = |_| log.line(60, BIND, "log3:8080");
        (0..number).map(line).collect()
    };
    let (first, second) = (lines(3), lines(2));
    write_journal(&log, &first);
    for _ in 0..2 {
        let found = look(&log, "nginx");
        assert_eq!(count(&found), Some(3.0), "{}", found.text);
    }
    write_journal(&log, &second);
    for _ in 0..2 {
        let found = look(&log, "nginx.service");
        // Another name is another place to go on from.
        assert_eq!(count(&found), Some(5.0), "{}", found.text);
        let found = look(&log, "nginx");
        assert_eq!(count(&found), Some(5.0), "{}", found.text);
    }
}

#[test]
fn a_unit_that_the_journal_does_not_know_is_unknown_and_never_ok() {
    let mut log = GrowingLog::new();
    let line = log.line(60, BIND, "log3:8080");
    write_journal(&log, &[line]);
    for _ in 0..2 {
        let found = look(&log, "ngnix");
        assert_eq!(found.code, Some(3), "{}", found.text);
        assert!(
            found
                .headline()
                .contains("the journal has no entry of the unit ngnix"),
            "{}",
            found.text
        );
    }
}

#[test]
fn the_journal_is_read_from_where_the_last_run_stopped() {
    let mut log = GrowingLog::new();
    let entry = |number: u32, line: &str| {
        let line = line.trim_end();
        format!("__CURSOR=c{number}\nPRIORITY=3\nMESSAGE={line}\n_PID=7\n\n")
    };
    let lines: Vec<_> = (0..5).map(|_| log.line(60, BIND, "log3:8080")).collect();
    // It gives what stands behind the entry that is asked for, and writes down what it was asked.
    let script = "#!/bin/sh
        echo \"$@\" >> asked
        case \"$*\" in *after-cursor=c2*) cat new 2> /dev/null ;; *after-cursor*) exit 1 ;; *) cat old ;; esac\n";
    fs::create_dir(log.at("bin")).unwrap();
    fs::write(log.at("bin/journalctl"), script).unwrap();
    fs::set_permissions(log.at("bin/journalctl"), Permissions::from_mode(0o755)).unwrap();
    let old = entry(1, &lines[0]) + &entry(2, &lines[1]);
    fs::write(log.at("old"), old).unwrap();
    // Only where it usually lies is it looked for: there, for these runs alone.
    let look = || look_where(&log, "mount --bind bin /usr/local/bin", "nginx");
    let found = look();
    assert_eq!(count(&found), Some(2.0), "{}", found.text);
    fs::write(log.at("new"), "").unwrap();
    assert_eq!(count(&look()), Some(2.0));
    let new: String = (3..6).map(|n| entry(n, &lines[n as usize - 1])).collect();
    fs::write(log.at("new"), new).unwrap();
    let found = look();
    assert_eq!(count(&found), Some(5.0), "{}", found.text);
    // The fake knows nothing behind the fifth entry and fails.
    let found = look();
    assert!(
        found
            .headline()
            .contains("journalctl failed (exit status: 1)"),
        "{}",
        found.text
    );
    let asked = fs::read_to_string(log.at("asked")).unwrap();
    assert!(
        asked.starts_with("--no-pager --output=export --unit=nginx --since=@"),
        "{asked}"
    );
}
