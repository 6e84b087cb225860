//! `--journal`: what is in it, who may write to it at once, and what is left of it when a run is killed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{BAD, FaultServer, GOOD, always, command, every, outcome, page, page_with};
use crate::support::plugin::binary_folder;
use crate::support::skip::skip;

/// How often runs are killed.
const KILLS: usize = 100;

fn journalling(server: &FaultServer, path: &Path, arguments: &str) -> Command {
    let mut command = command(server, arguments);
    command.arg("--journal").arg(path);
    command
}

/// The records of a journal, and how many lines of it are none.
fn records(path: &Path) -> (Vec<Value>, usize) {
    let text = fs::read(path).unwrap_or_default();
    let mut records = Vec::new();
    let mut torn = 0;
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<Value>(line) {
            Ok(record) if record["record"] == "probe" => records.push(record),
            _ => torn += 1,
        }
    }
    (records, torn)
}

/// The journal with its earlier files, oldest first.
fn all_files(path: &Path) -> Vec<PathBuf> {
    let earlier = (1..=4)
        .rev()
        .map(|n| PathBuf::from(format!("{}.{n}", path.display())));
    let all = earlier.chain([path.to_owned()]);
    all.filter(|path| path.exists()).collect()
}

#[test]
fn each_probe_is_a_line_with_the_fields_of_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let server = FaultServer::start(|seen| {
        let status = if seen.number == 1 { BAD } else { GOOD };
        super::Act::Send(page_with(status, "X-Request-Id: reply-0123\r\n", "hello"))
    });
    let mut command = journalling(
        &server,
        &path,
        "--attempts 3 -u /a?token=hush -k Authorization:hush --format json",
    );
    let document = outcome(&mut command).json();
    let (records, torn) = records(&path);
    assert_eq!((records.len(), torn), (3, 0));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let url = format!("http://127.0.0.1:{}/a", server.port());
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record["url"], url.as_str());
        assert_eq!(record["host"], "127.0.0.1");
        assert_eq!(record["reply_id"], "reply-0123");
        assert_eq!(record["local"], server.peers()[at].to_string().as_str());
        let sent = server.seen()[at].header("x-request-id").unwrap().to_owned();
        assert_eq!(record["request_id"], sent.as_str());
        assert!(record["phases"]["connect"].is_number() && record["phases"]["tls"].is_null());
        let failed = at == 1;
        assert_eq!(record["kind"].is_string(), failed, "{record}");
        assert_eq!(record["state"], if failed { "CRITICAL" } else { "OK" });
        assert_eq!(record["status"], if failed { 500 } else { 200 });
    }
    assert!(!fs::read_to_string(&path).unwrap().contains("hush"));
    // What both have is the same.
    let failure = &document["details"]["failures"][0];
    for name in [
        "at",
        "path",
        "kind",
        "status",
        "text",
        "local",
        "remote",
        "request_id",
        "seconds",
    ] {
        assert!(!failure[name].is_null(), "{name}");
        assert_eq!(failure[name], records[1][name], "{name}");
    }
    assert_eq!(document["details"]["journal"]["written"], 3);
}

#[test]
fn the_words_of_a_server_cannot_break_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let server = always(&b"HTTP/1.1 500 \x1b[2J\xff\x00\"}|a=1\x0b\r\n\r\n"[..]);
    outcome(&mut journalling(&server, &path, "--attempts 2"));
    let (records, torn) = records(&path);
    assert_eq!((records.len(), torn), (2, 0));
    let text = records[0]["text"].as_str().unwrap();
    assert!(
        text.contains("\\x1b[2J") && !text.contains(['\u{1b}', '|']),
        "{text}"
    );
}

#[test]
fn why_this_host_had_to_stop_is_a_record_of_its_own_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let server = always(page(GOOD, ""));
    let mut command = journalling(&server, &path, "--local-address 192.0.2.77 --attempts 2");
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    let (records, _) = records(&path);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["kind"], "own-host");
    assert_eq!(records[0]["state"], "UNKNOWN");
}

#[test]
fn a_journal_that_cannot_be_written_changes_nothing_but_one_line() {
    let server = always(page(GOOD, ""));
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    let target = folder.path().join("target");
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    for (path, why) in [
        (link, "it is a link, which is not followed"),
        (
            folder.path().join("no/journal"),
            "No such file or directory",
        ),
        (folder.path().to_owned(), "Is a directory"),
        (PathBuf::from("/dev/full"), "is no regular file"),
    ] {
        let outcome = outcome(&mut journalling(&server, &path, "--attempts 2"));
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        let said = outcome.text.lines().filter(|line| line.contains(why));
        let said: Vec<_> = said.collect();
        assert_eq!(said.len(), 1, "{why}: {}", outcome.text);
        assert!(
            said[0].contains("lacks 2 of 2 records of this run"),
            "{}",
            said[0]
        );
    }
    assert_eq!(fs::read_to_string(target).unwrap(), "precious");
}

#[test]
fn a_full_disk_loses_records_and_leaves_whole_lines() {
    let server = always(page(GOOD, ""));
    let folder = tempfile::tempdir().unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=16k tmpfs {0} && \"$@\"; code=$?; cat {0}/journal > {0}.seen; exit $code",
        folder.path().display()
    );
    let journal = folder.path().join("journal");
    let plugin = journalling(&server, &journal, "--attempts 100");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &mount, "sh"])
        .arg(plugin.get_program())
        .args(plugin.get_args())
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    if String::from_utf8_lossy(&output.stderr).contains("mount") {
        skip("no file system can be mounted here");
        return;
    }
    let outcome = crate::support::plugin::check_output(&output, &command);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    let line = outcome.text.lines().find(|line| line.contains("lacks"));
    let line = line.unwrap_or_else(|| panic!("{}", outcome.text));
    assert!(line.contains("of 100 records of this run: "), "{line}");
    assert!(
        line.contains("No space left") || line.contains("disk is full"),
        "{line}"
    );
    let seen = PathBuf::from(format!("{}.seen", folder.path().display()));
    let (records, torn) = records(&seen);
    fs::remove_file(seen).unwrap();
    assert!(
        records.len() > 10 && records.len() < 100,
        "{}",
        records.len()
    );
    assert_eq!(torn, 0);
}

#[test]
fn runs_at_once_lose_nothing_while_the_journal_is_rotated() {
    let server = always(page(GOOD, ""));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    // 900 records of some 400 bytes are 360 kB; files of 100 kB make that four, of the five that are kept.
    let start = || {
        let arguments = "--attempts 300 --concurrency 4 --journal-size 500K";
        let mut command = journalling(&server, &path, arguments);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let runs: Vec<_> = (0..3).map(|_| start()).collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    let files = all_files(&path);
    assert!(files.len() > 2, "{files:?}");
    let mut ids = BTreeSet::new();
    for file in &files {
        let (records, torn) = records(file);
        assert_eq!(torn, 0);
        ids.extend(records.iter().map(|r| r["request_id"].to_string()));
        assert!(fs::metadata(file).unwrap().len() <= 100_000);
    }
    assert_eq!(ids.len(), 900);
}

/// A loop that writes all the time.
fn looping(server: &FaultServer, path: &Path) -> Child {
    let arguments = "--attempts 20 --concurrency 4 --forever --every 0 --journal-size 2M";
    let mut command = journalling(server, path, arguments);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn total(path: &Path) -> u64 {
    let sizes = all_files(path)
        .into_iter()
        .map(|file| fs::metadata(file).map_or(0, |m| m.len()));
    sizes.sum()
}

#[test]
fn a_run_that_is_killed_loses_its_last_line_at_most_whoever_else_writes() {
    let server = FaultServer::start(every(3));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut steady = looping(&server, &path);
    // A sequence that looks like chance, and is the same in every run.
    let mut chance = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..KILLS {
        let mut run = looping(&server, &path);
        let before = total(&path);
        let begun = Instant::now();
        while total(&path) == before && begun.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        // The moment is to be any: there is no event to wait for.
        std::thread::sleep(Duration::from_micros(chance % 30_000));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    let before = total(&path);
    let begun = Instant::now();
    while total(&path) == before && begun.elapsed() < Duration::from_secs(20) {
        std::thread::yield_now();
    }
    steady.kill().unwrap();
    steady.wait().unwrap();
    let mut whole = BTreeSet::new();
    let (mut lines, mut torn) = (0, 0);
    for file in all_files(&path) {
        let (records, broken) = records(&file);
        lines += records.len();
        torn += broken;
        whole.extend(records.iter().map(|r| r["request_id"].to_string()));
    }
    assert!(torn <= KILLS + 1, "{torn} of {lines} lines are torn");
    assert!(lines > KILLS, "{lines} lines");
    assert_eq!(whole.len(), lines, "a record is there twice");
}

#[test]
fn the_journal_is_taken_by_the_binary_that_icinga_runs() {
    let help = Command::new(binary_folder().join("check_http_retry"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for option in [
        "--journal <FILE>",
        "--journal-size <SIZE>",
        "--find <FILE>",
        "--failures-from <FILE>",
    ] {
        assert!(help.contains(option), "{option}");
    }
}
