//! Logs, states and folders that somebody else has had his hands on.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::growing_log::GrowingLog;
use crate::support::measured::{MEMORY, assert_clean, in_full, measured, tell};
use crate::support::plugin::{outcome, plugin};
use crate::support::raw_server::{RawServer, read_request};

/// What nobody may read or write by way of a plugin.
const SECRET: &str = "root:$6$secret:19000:0:99999:7:::\n";

const NOBODY: Option<u32> = Some(65_534);

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a FIFO");
}

#[test]
fn what_is_no_log_is_unknown_at_once_and_nothing_of_it_is_shown() {
    let log = GrowingLog::new();
    fifo(&log.at("fifo"));
    fs::write(log.at("secret"), SECRET).expect("a file");
    symlink(log.at("secret"), log.at("planted")).expect("a link");
    lchown(log.at("planted"), NOBODY, NOBODY).expect("the tests run as root");
    symlink("/dev/zero", log.at("zero")).expect("a link");
    symlink("round", log.at("round")).expect("a link");
    let _socket = std::os::unix::net::UnixListener::bind(log.at("socket")).expect("a socket");
    let ours = log
        .at("")
        .into_os_string()
        .into_string()
        .expect("a path of ours");
    for path in [
        "fifo",
        "secret",
        "planted",
        "zero",
        "round",
        "socket",
        ".",
        "/dev/zero",
        "/dev/full",
        "/dev/tty",
        "/proc/kmsg",
        "/proc/self/mem",
        "/proc/self/environ",
        "/proc/1/root",
        "/sys/kernel/notes",
        "/dev/stdin",
    ] {
        let mut command = plugin("check_nginx_upstream_bind");
        command.args([
            "--state-file",
            &format!("{ours}/state"),
            "-t",
            "3",
            "--deadline",
            "5",
            "-vv",
            "-f",
        ]);
        command.arg(log.at(path));
        let begun = Instant::now();
        let found = outcome(&mut command);
        assert_clean(&found, path);
        assert_eq!(found.code, Some(3), "{path}: {}", found.text);
        assert!(!found.text.contains("$6$"), "{path}: {}", found.text);
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{path}: {:?}",
            begun.elapsed()
        );
        // The same beside a log that is one: it is said, and changes nothing.
        if path != "." {
            let mut command = log.check();
            command
                .arg("--correlate")
                .arg(log.at(path))
                .args(["--deadline", "5"]);
            let beside = outcome(&mut command);
            assert_clean(&beside, path);
            assert_eq!(beside.code, Some(0), "{path}: {}", beside.text);
            assert!(!beside.text.contains("$6$"), "{path}: {}", beside.text);
        }
    }
}

#[test]
fn a_log_that_is_swapped_for_a_link_at_any_moment_leads_nowhere_else() {
    let mut log = GrowingLog::new();
    // What must not be read looks like a log, so that it would show.
    let line = log.line(60, crate::support::growing_log::BIND, "secret:1");
    fs::write(log.at("secret"), line.repeat(5)).expect("a file");
    fs::set_permissions(log.at("secret"), fs::Permissions::from_mode(0o600)).expect("it is ours");
    lchown(log.path(), NOBODY, NOBODY).expect("the tests run as root");
    symlink(log.at("secret"), log.at("link")).expect("a link");
    lchown(log.at("link"), NOBODY, NOBODY).expect("the tests run as root");
    fs::rename(log.path(), log.at("plain")).expect("a file");
    let over = AtomicBool::new(false);
    let (here, evil, plain) = (log.path(), log.at("link"), log.at("plain"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                for from in [&evil, &plain] {
                    let next = here.with_extension("next");
                    let _ = fs::hard_link(from, &next);
                    let _ = fs::rename(&next, &here);
                }
            }
        });
        for _ in 0..60 {
            let found = outcome(log.check().args(["--last", "1h", "-vv"]));
            let said = !found.text.contains("secret:1");
            if !said {
                over.store(true, Ordering::SeqCst);
            }
            assert!(said, "{}", found.text);
        }
        over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn planted_links_and_files_of_others_are_neither_read_nor_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let server = RawServer::start(|mut stream, _| {
        let _ = read_request(stream);
        let reply = "HTTP/1.1 500 Oops\r\nSet-Cookie: a=b; Max-Age=99\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(reply.as_bytes());
    });
    let log = GrowingLog::new();
    let uses = |path: &Path, option: &str, binary: &str| {
        let mut command = plugin(binary);
        match binary {
            "check_http_retry" => {
                command.args(["-I", "127.0.0.1", "-p", &server.port(), "--attempts", "2"])
            }
            "check_nginx_upstream_bind" => command.arg("-f").arg(log.path()),
            _ => &mut command,
        };
        command.arg(option).arg(path);
        command
    };
    for (option, binary, is_folder) in [
        ("--state-file", "check_nginx_upstream_bind", false),
        ("--state-file", "check_port_exhaustion", false),
        ("--journal", "check_http_retry", false),
        ("--journal", "check_port_exhaustion", false),
        ("--cookie-jar", "check_http_retry", false),
        ("--evidence", "check_http_retry", true),
    ] {
        for way in [
            "a link",
            "a link of another",
            "a hard link",
            "a FIFO",
            "a folder",
            "a file of another",
            "a link instead of a folder",
        ] {
            let case = format!("{option} of {binary}: {way}");
            let victim = at("victim");
            let _ = fs::remove_dir_all(&victim);
            let _ = fs::remove_file(&victim);
            fs::write(&victim, SECRET).expect("a file");
            fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).expect("it is ours");
            let before = fs::metadata(&victim).expect("it is there");
            let room = at("room");
            let _ = fs::remove_dir_all(&room);
            let _ = fs::remove_file(&room);
            fs::create_dir(&room).expect("a folder");
            let mut path = room.join("it");
            match way {
                "a link" => symlink(&victim, &path).expect("a link"),
                "a link of another" => {
                    symlink(&victim, &path).expect("a link");
                    lchown(&path, NOBODY, NOBODY).expect("the tests run as root");
                }
                "a hard link" => fs::hard_link(&victim, &path).expect("one file system"),
                "a FIFO" => fifo(&path),
                "a folder" => fs::create_dir(&path).expect("a folder"),
                "a file of another" => {
                    fs::write(&path, SECRET).expect("a file");
                    lchown(&path, NOBODY, NOBODY).expect("the tests run as root");
                }
                _ => {
                    fs::create_dir(at("elsewhere"))
                        .or_else(|error| {
                            if at("elsewhere").is_dir() {
                                Ok(())
                            } else {
                                Err(error)
                            }
                        })
                        .expect("a folder");
                    fs::set_permissions(at("elsewhere"), fs::Permissions::from_mode(0o777))
                        .expect("it is ours");
                    symlink(at("elsewhere"), &path).expect("a link");
                    if !is_folder {
                        path = path.join("it");
                    }
                }
            }
            let begun = Instant::now();
            let found = outcome(uses(&path, option, binary).args(["--deadline", "6"]));
            assert_clean(&found, &case);
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{case}: {:?}",
                begun.elapsed()
            );
            assert!(!found.text.contains("$6$"), "{case}: {}", found.text);
            let after = fs::metadata(&victim).expect("it is there");
            let same = |a: &fs::Metadata, b: &fs::Metadata| {
                (a.ino(), a.mode(), a.uid(), a.mtime_nsec())
                    == (b.ino(), b.mode(), b.uid(), b.mtime_nsec())
            };
            assert!(same(&before, &after), "{case}");
            assert_eq!(
                fs::read_to_string(&victim).expect("it is ours"),
                SECRET,
                "{case}"
            );
            if way == "a file of another" && !is_folder && option != "--cookie-jar" {
                assert_eq!(
                    fs::read_to_string(&path).unwrap_or_default(),
                    SECRET,
                    "{case}: {}",
                    found.text
                );
            }
        }
    }
}

#[test]
fn states_that_are_made_to_overflow_are_set_aside_or_harmless() {
    let mut log = GrowingLog::new();
    log.binds(3, 100);
    let state = log.at("my.state");
    let look = || measured(log.check().arg("--state-file").arg(&state));
    let first = look();
    assert_eq!(
        first.outcome.metric("count"),
        Some(3.0),
        "{}",
        first.outcome.text
    );
    let whole = fs::read_to_string(&state).expect("a state");
    let (_, data) = whole.split_once('\n').expect("a line above the data");
    // Each number of it as large, as small and as strange as can be, with a checksum that is right.
    let mut numbers = Vec::new();
    let mut at = 0;
    while let Some(begin) = data[at..]
        .find(|c: char| c.is_ascii_digit())
        .map(|n| at + n)
    {
        let end = data[begin..]
            .find(|c: char| !c.is_ascii_digit())
            .map_or(data.len(), |n| begin + n);
        numbers.push(begin..end);
        at = end;
    }
    assert!(numbers.len() > 8, "{data}");
    let mut tried = 0;
    for range in &numbers {
        for number in [
            "18446744073709551615",
            "9223372036854775807",
            "-9223372036854775808",
            "-1",
            "1e308",
            "99999999999",
            "0",
        ] {
            let forged = format!("{}{number}{}", &data[..range.start], &data[range.end..]);
            fs::write(&state, sealed(&whole, &forged)).expect("a state");
            let found = look();
            let case = format!("{number} at {}: {}", range.start, found.outcome.text);
            assert_clean(&found.outcome, &case);
            assert!(!found.outcome.text.contains("internal error"), "{case}");
            // It is sealed, so that it may say what it wants of the past. What follows is counted all the same.
            assert!(matches!(found.outcome.code, Some(0..=2)), "{case}");
            assert!(found.peak <= MEMORY, "{} KiB: {case}", found.peak);
            tried += 1;
        }
    }
    assert!(tried > 50);
    // Deep, wide, and larger than any.
    for forged in [
        "[".repeat(500_000),
        format!(
            "{{\"settings\":\"x\",\"places\":{{}},\"tally\":{}1{}}}",
            "[".repeat(200),
            "]".repeat(200)
        ),
        format!("{{\"settings\":\"{}\"}}", "x".repeat(3_000_000)),
        String::new(),
        "null".to_owned(),
    ] {
        fs::write(&state, sealed(&whole, &forged)).expect("a state");
        let found = look();
        assert_clean(&found.outcome, "forged");
        assert_eq!(
            found.outcome.metric("count"),
            Some(3.0),
            "{}",
            found.outcome.text
        );
        assert!(found.peak <= MEMORY, "{} KiB", found.peak);
    }
    let huge = File::create(&state).expect("a file");
    huge.set_len(1 << 40).expect("a hole");
    huge.write_at(whole.as_bytes(), 0).expect("a file");
    let found = look();
    assert_eq!(
        found.outcome.metric("count"),
        Some(3.0),
        "{}",
        found.outcome.text
    );
    assert!(
        found.peak <= MEMORY,
        "{} KiB: {}",
        found.peak,
        found.outcome.text
    );
}

/// A state with other data, and the checksum that belongs to it.
fn sealed(whole: &str, data: &str) -> String {
    let first = whole.lines().next().expect("a first line");
    let (words, _) = first.rsplit_once(' ').expect("a checksum at its end");
    let sum = proxy_checks::plugin::state_file::seal(data.as_bytes());
    format!("{words} {sum:016x}\n{data}")
}

#[test]
fn a_line_of_a_gibibyte_costs_no_memory_and_hides_no_other_line() {
    let mut log = GrowingLog::new();
    log.binds(2, 120);
    // A hole of NUL bytes, and the same size of what is there.
    let length = fs::metadata(log.path()).expect("a log").len();
    let file = File::options().write(true).open(log.path()).expect("a log");
    file.set_len(length + (1 << 30)).expect("a hole");
    drop(file);
    log.append("\n");
    log.binds(2, 90);
    let run = measured(&log.check());
    assert_eq!(
        run.outcome.metric("count"),
        Some(4.0),
        "{}",
        run.outcome.text
    );
    assert!(run.peak <= MEMORY, "{} KiB", run.peak);
    let size = if in_full() { 1 << 30 } else { 64 << 20 };
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..size / piece.len() {
        log.append(&piece);
    }
    log.append("\n");
    log.binds(3, 60);
    let run = measured(&log.check());
    tell(&format!(
        "a line of {} MiB: {:?}, {} KiB",
        size >> 20,
        run.elapsed,
        run.peak
    ));
    assert_eq!(
        run.outcome.metric("count"),
        Some(7.0),
        "{}",
        run.outcome.text
    );
    assert!(run.peak <= MEMORY, "{} KiB", run.peak);
    let run = measured(log.check().arg("--correlate").arg(log.path()).args(["-vv"]));
    assert!(run.peak <= MEMORY, "{} KiB", run.peak);
}
