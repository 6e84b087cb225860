//! Logs that are missing, barred, or none at all.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::growing_log::GrowingLog;
use crate::support::plugin::{binary_folder, copy_program, outcome, plugin};

#[test]
fn what_is_no_readable_error_log_is_unknown() {
    let log = GrowingLog::new();
    let unknown = |path: &std::path::Path, words: &str| {
        let mut command = plugin("check_nginx_upstream_bind");
        command.arg("-f").arg(path);
        let found = outcome(command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", log.at("state")));
        assert_eq!(found.code, Some(3), "{}", found.text);
        assert!(found.text.contains(words), "{words}: {}", found.text);
    };
    unknown(&log.at("missing.log"), "there is no ");
    unknown(&log.at("missing*.log"), "no file is there for ");
    unknown(&log.at(""), "is a directory");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        log.at("fifo"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    unknown(&log.at("fifo"), "is no regular file");
    unknown(std::path::Path::new("/dev/null"), "is no regular file");
    std::fs::write(
        log.at("access.log"),
        "192.0.2.1 - - [23/Nov/2026:05:00:00 +0000] \"GET / HTTP/1.1\" 200 5\n",
    )
    .unwrap();
    unknown(&log.at("access.log"), "is no nginx error log");
}

#[test]
fn standard_input_is_unpacked_and_a_last_line_counts_without_its_end() {
    let mut log = GrowingLog::new();
    log.binds(3, 60);
    let text = std::fs::read(log.path()).unwrap();
    let text = text.strip_suffix(b"\n").unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text).unwrap();
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let zstd = ruzstd::encoding::compress_to_vec(text, level);
    let look = |bytes: &[u8]| {
        std::fs::write(log.at("input"), bytes).unwrap();
        let mut command = plugin("check_nginx_upstream_bind");
        command.args(["-f", "-"]);
        command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", log.at("state"));
        outcome(command.stdin(File::open(log.at("input")).unwrap()))
    };
    for bytes in [text, &gzip.finish().unwrap(), &zstd] {
        let found = look(bytes);
        assert_eq!(found.code, Some(2), "{}", found.text);
        assert_eq!(found.metric("count"), Some(3.0), "{}", found.text);
    }
    let cut_off = &zstd[..zstd.len() - 5];
    for bytes in [cut_off, b"no log, and no end of a line"] {
        let found = look(bytes);
        assert_eq!(found.code, Some(3), "{}", found.text);
        assert!(found.text.contains("standard input"), "{}", found.text);
    }
    assert_eq!(look(b"").code, Some(0));
}

#[test]
fn one_unreadable_log_is_no_reason_to_be_silent_about_another() {
    let mut log = GrowingLog::new();
    let with_missing = |log: &GrowingLog| outcome(log.check().arg("-f").arg(log.at("missing.log")));
    assert_eq!(with_missing(&log).code, Some(3));
    log.binds(1, 60);
    let found = with_missing(&log);
    assert_eq!(found.code, Some(2), "{}", found.text);
    assert!(found.headline().contains("there is no "), "{}", found.text);
}

#[test]
fn who_may_not_read_the_log_is_told_what_would_help() {
    let mut log = GrowingLog::new();
    log.binds(1, 60);
    std::fs::set_permissions(log.at(""), Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(log.path(), Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(log.path(), Some(0), Some(4)).unwrap();
    // A copy, since nobody may not look into the folder of the binaries.
    let copy = log.at("check");
    copy_program(binary_folder().join("check_nginx_upstream_bind"), &copy);
    std::fs::create_dir(log.at("state")).unwrap();
    std::os::unix::fs::chown(log.at("state"), Some(65534), Some(65534)).unwrap();
    let as_nobody = |logs: &std::path::Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(&copy).arg("-f").arg(logs);
        outcome(command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", log.at("state")))
    };
    let found = as_nobody(&log.path());
    assert_eq!(found.code, Some(3), "{}", found.text);
    assert!(found.text.contains("may not read "), "{}", found.text);
    assert!(
        found
            .text
            .contains("group adm, mode 0640: make nobody a member of adm"),
        "{}",
        found.text
    );
    // The same of a folder that a pattern leads into.
    let folder = log.at("barred");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(log.path(), folder.join("error.log")).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::chown(&folder, Some(0), Some(4)).unwrap();
    let found = as_nobody(&folder.join("*.log"));
    assert_eq!(found.code, Some(3), "{}", found.text);
    let help = "barred: it belongs to root, group adm, mode 0750: make nobody a member of adm";
    assert!(found.text.contains(help), "{}", found.text);
}
