//! Every call that a run makes fails once in turn. What is checked is bad, so that an OK is a lie; and what was counted
//! or kept must be whole when nothing fails any more.
//!
//! The default is a sample; `PROXY_CHECKS_FAULTS=all` (`scripts/faults`) has each call fail with each error.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::fault_server::{Act, FaultServer, page};
use crate::support::growing_log::GrowingLog;
use crate::support::injection::{Disturbed, calls, disturbed, is_usable};
use crate::support::measured::{assert_clean, in_full, tell};
use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, outcome, plugin};
use crate::support::skip::skip;

/// What may go wrong, by call. Left out: `brk`, which does not say that it failed as other calls do, and what cannot fail in a
/// way that a program could notice (close, signals).
const ERRORS: &[(&str, &[&str])] = &[
    (
        "openat",
        &["EMFILE", "EACCES", "EIO", "ENFILE", "EINTR", "ENOMEM"],
    ),
    ("read", &["EIO", "EINTR"]),
    ("pread64", &["EIO", "EINTR"]),
    ("write", &["ENOSPC", "EIO", "EINTR", "EDQUOT"]),
    ("pwrite64", &["ENOSPC", "EIO", "EINTR"]),
    ("writev", &["ENOSPC", "EIO", "EINTR"]),
    ("fsync", &["EIO", "ENOSPC", "EINTR"]),
    ("fdatasync", &["EIO", "ENOSPC"]),
    ("rename", &["EIO", "ENOSPC", "EPERM"]),
    ("renameat2", &["EIO", "ENOSPC", "EPERM"]),
    ("unlink", &["EPERM", "EIO"]),
    ("unlinkat", &["EPERM", "EIO"]),
    ("linkat", &["EPERM", "ENOSPC"]),
    ("mkdir", &["ENOSPC", "EACCES"]),
    ("mkdirat", &["ENOSPC", "EACCES"]),
    ("fchmod", &["EPERM"]),
    ("ftruncate", &["EIO"]),
    ("statx", &["EIO", "EACCES", "ENOMEM"]),
    ("newfstatat", &["EIO", "EACCES"]),
    ("fstat", &["EIO"]),
    ("getdents64", &["EIO", "ENOMEM"]),
    ("readlink", &["EACCES"]),
    ("readlinkat", &["EACCES"]),
    ("lseek", &["EINVAL"]),
    ("flock", &["ENOLCK", "EINTR"]),
    ("ioctl", &["ENOTTY"]),
    (
        "socket",
        &["EMFILE", "ENOBUFS", "EPERM", "EACCES", "EAFNOSUPPORT"],
    ),
    ("socketpair", &["EMFILE"]),
    ("bind", &["EADDRINUSE", "EACCES"]),
    ("connect", &["EADDRNOTAVAIL", "EINTR", "EPERM", "EAGAIN"]),
    ("setsockopt", &["ENOPROTOOPT", "EPERM"]),
    ("getsockopt", &["ENOBUFS"]),
    ("getsockname", &["ENOBUFS"]),
    ("sendto", &["ENOBUFS", "EINTR", "EPERM", "ENOMEM"]),
    ("sendmsg", &["ENOBUFS", "EINTR"]),
    ("recvfrom", &["ENOMEM", "EINTR", "EIO", "ENOBUFS"]),
    ("recvmsg", &["ENOMEM", "EINTR"]),
    ("epoll_create1", &["EMFILE"]),
    ("eventfd2", &["EMFILE"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC"]),
    ("epoll_wait", &["EINTR"]),
    ("poll", &["EINTR"]),
    ("ppoll", &["EINTR"]),
    ("clone3", &["EAGAIN", "EPERM"]),
    ("mmap", &["ENOMEM"]),
    ("mprotect", &["ENOMEM"]),
    ("fcntl", &[]),
];

/// One fault: which call of this name fails, and how.
#[derive(Debug, Clone)]
struct Fault {
    call: String,
    number: usize,
    error: &'static str,
}

/// All faults of a run, or a sample of them: each call once, with one error after the other.
fn faults(command: &Command, note: &Path) -> Vec<Fault> {
    let all = in_full();
    let mut faults = Vec::new();
    for (call, (first, last)) in calls(command, note) {
        let known = ERRORS.iter().find(|(name, _)| *name == call);
        let errors = known.map_or(&[][..], |(_, errors)| errors);
        for number in first..=last {
            let turn = number % errors.len().max(1);
            // Hundreds of calls alike (the owners of sockets) tell no more than some of them.
            let rare = last - first < 24 || number % 11 == 0;
            let chosen = errors
                .iter()
                .enumerate()
                .filter(|(at, _)| all || (*at == turn && rare));
            faults.extend(chosen.map(|(_, error)| Fault {
                call: call.clone(),
                number,
                error,
            }));
        }
    }
    faults
}

/// Goes through all faults, some at a time, and tells of all that were not taken as they should be.
fn campaign(name: &str, faults: &[Fault], judge: impl Fn(&Fault) -> bool + Sync) {
    assert!(faults.len() > 20, "{name}: only {} faults", faults.len());
    let (next, hit) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let judged =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judge(fault)));
                    match judged {
                        Ok(happened) => {
                            hit.fetch_add(usize::from(happened), Ordering::SeqCst);
                        }
                        Err(panic) => {
                            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                            wrong
                                .lock()
                                .expect("no panic here")
                                .push(format!("{fault:?}: {text}"));
                        }
                    }
                }
            });
        }
    });
    let hit = hit.into_inner();
    let wrong = wrong.into_inner().expect("no panic here");
    tell(&format!(
        "{name}: {} faults, {hit} of them happened, {} taken wrongly",
        faults.len(),
        wrong.len()
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        hit * 10 > faults.len() * 8,
        "{name}: only {hit} of {} happened",
        faults.len()
    );
}

/// What holds for each run, whatever failed: an exit code, one clean line that says something, no OK.
fn assert_told(run: &Disturbed, right: &[i32]) {
    let (text, code) = (&run.outcome.text, run.outcome.code.unwrap_or(-1));
    let case = format!("{:?}", run.failed);
    // Where standard output itself cannot be written there is none.
    let mute = text.is_empty()
        && run
            .failed
            .iter()
            .any(|line| line.contains("write(1,") || line.contains("write resumed"));
    if !mute {
        assert_clean(&run.outcome, &case);
        if code == 3 {
            let (_, why) = text.split_once("UNKNOWN: ").unwrap_or_default();
            assert!(why.len() > 20, "{case}: no cause: {text}");
        }
    }
    assert!(
        right.contains(&code),
        "{case}: {code} is not one of {right:?}: {text}"
    );
}

/// Whether strace is there; the test is skipped where it is not.
fn usable() -> bool {
    let usable = is_usable();
    if !usable {
        skip("strace may not trace here");
    }
    usable
}

#[test]
fn no_fault_makes_the_log_check_say_ok_or_count_a_line_twice_or_never() {
    if !usable() {
        return;
    }
    // A rotated file, and three lines behind the state of an earlier run.
    let stage = || {
        let mut log = GrowingLog::new();
        log.binds(4, 120);
        log.rename("error.log.1");
        log.binds(3, 100);
        let seen = outcome(&mut log.check());
        assert_eq!(seen.metric("count"), Some(7.0), "{}", seen.text);
        log.binds(2, 60);
        log
    };
    let log = stage();
    let all = faults(&log.check(), &log.at("note"));
    campaign("check_nginx_upstream_bind", &all, |fault| {
        let mut log = stage();
        let run = disturbed(
            &log.check(),
            &log.at("note"),
            &fault.call,
            fault.error,
            fault.number,
        );
        assert_told(&run, &[2, 3]);
        if run.outcome.code == Some(2) && !run.outcome.text.is_empty() {
            assert_eq!(
                run.outcome.metric("count"),
                Some(9.0),
                "{:?}: {}",
                run.failed,
                run.outcome.text
            );
        }
        for (more, count) in [(0, 9.0), (3, 12.0), (0, 12.0)] {
            log.binds(more, 30);
            let after = outcome(&mut log.check());
            assert_eq!(
                after.metric("count"),
                Some(count),
                "{:?}: {}",
                run.failed,
                after.text
            );
            assert!(
                !after.text.contains("damaged"),
                "{:?}: {}",
                run.failed,
                after.text
            );
        }
        !run.failed.is_empty()
    });
}

#[test]
fn no_fault_makes_the_ports_check_say_ok_or_spoil_its_state() {
    if !usable() {
        return;
    }
    let netns = Netns::new("faults");
    let held = connections(&netns);
    let proc = two_processes(&held);
    let stage = || tempfile::tempdir().expect("a temporary folder");
    // Whatever is used is more than nothing, and less than all of it.
    let command = |folder: &tempfile::TempDir| {
        let mut command = plugin("check_port_exhaustion");
        command
            .args(["-c", "@0:100%", "--proc"])
            .arg(proc.path())
            .arg("--state-file")
            .arg(folder.path().join("state"));
        command
    };
    // What a thread starts begins in the thread's namespace.
    netns.within(|| {
        let folder = stage();
        let told = outcome(command(&stage()).arg("-v"));
        assert!(told.text.contains("live sockets: nginx"), "{}", told.text);
        let all = faults(&command(&folder), &folder.path().join("note"));
        campaign("check_port_exhaustion", &all, |fault| {
            let folder = stage();
            let note = folder.path().join("note");
            let run = disturbed(
                &command(&folder),
                &note,
                &fault.call,
                fault.error,
                fault.number,
            );
            assert_told(&run, &[2, 3]);
            let after = outcome(&mut command(&folder));
            assert_eq!(after.code, Some(2), "{:?}: {}", run.failed, after.text);
            assert!(
                !after.text.contains("damaged"),
                "{:?}: {}",
                run.failed,
                after.text
            );
            !run.failed.is_empty()
        });
    });
}

/// A few connections in a namespace, both ends of each.
fn connections(netns: &Netns) -> Vec<TcpStream> {
    netns.within(|| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let pair = |_| {
            let client = TcpStream::connect(address).expect("it listens");
            let (server, _) = listener.accept().expect("a client is there");
            [client, server]
        };
        (0..4).flat_map(pair).collect()
    })
}

/// A /proc where two processes hold these connections, and the rest is the kernel's. With those of the host as well, how
/// many calls a run makes would go by what else runs.
fn two_processes(held: &[TcpStream]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    let link = |to: PathBuf, at: PathBuf| symlink(to, at).expect("a new link");
    for name in ["self", "sys", "thread-self"] {
        link(Path::new("/proc").join(name), root.path().join(name));
    }
    for (pid, parent) in [(7, 1), (8, 7)] {
        let folder = root.path().join(pid.to_string());
        fs::create_dir_all(folder.join("fd")).expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
        write("comm", "nginx\n");
        write("stat", &format!("{pid} (nginx) S {parent} 7 7 0 -1"));
        write("limits", "Max open files  1024  524288  files\n");
        link("/usr/sbin/nginx".into(), folder.join("exe"));
        for (at, socket) in held.iter().enumerate() {
            let inode = rustix::fs::fstat(socket).expect("it is open").st_ino;
            let descriptor = folder.join("fd").join(at.to_string());
            link(format!("socket:[{inode}]").into(), descriptor);
        }
    }
    root
}

fn http(folder: &tempfile::TempDir, port: &str) -> Command {
    let at = |name: &str| folder.path().join(name);
    let mut command = plugin("check_http_retry");
    command
        .args([
            "-I",
            "127.0.0.1",
            "-p",
            port,
            "--attempts",
            "2",
            "-t",
            "2",
            "--deadline",
            "8",
            "-v",
        ])
        .arg("--journal")
        .arg(at("journal"))
        .arg("--cookie-jar")
        .arg(at("cookies"))
        .arg("--evidence")
        .arg(at("evidence"));
    command
}

fn assert_kept(folder: &tempfile::TempDir, after: &Outcome, case: &str) {
    let journal = fs::read_to_string(folder.path().join("journal")).unwrap_or_default();
    for line in journal.lines() {
        let record = serde_json::from_str::<serde_json::Value>(line);
        assert!(
            record.is_ok(),
            "{case}: {line:?} in the journal: {}",
            after.text
        );
    }
    let names = fs::read_dir(folder.path().join("evidence")).expect("the last run has made it");
    for entry in names.flatten() {
        let name = entry.file_name().into_string().expect("a name of ours");
        let har = entry.path().join("failed.har");
        if let Ok(text) = fs::read_to_string(&har) {
            assert!(
                serde_json::from_str::<serde_json::Value>(&text).is_ok(),
                "{case}: {name}"
            );
        }
    }
}

#[test]
fn no_fault_makes_a_failing_server_ok_or_spoils_what_is_kept_of_it() {
    if !usable() {
        return;
    }
    let server = FaultServer::start(|_| Act::Send(page("500 Internal Server Error", "x")));
    let stage = || tempfile::tempdir().expect("a temporary folder");
    let folder = stage();
    let all = faults(&http(&folder, &server.port()), &folder.path().join("note"));
    campaign("check_http_retry, a server that fails", &all, |fault| {
        let folder = stage();
        let command = http(&folder, &server.port());
        let note = folder.path().join("note");
        let run = disturbed(&command, &note, &fault.call, fault.error, fault.number);
        assert_told(&run, &[2, 3]);
        let after = outcome(&mut http(&folder, &server.port()));
        assert_eq!(after.code, Some(2), "{:?}: {}", run.failed, after.text);
        assert_kept(&folder, &after, &format!("{:?}", run.failed));
        !run.failed.is_empty()
    });
}

#[test]
fn no_fault_of_this_host_is_one_of_a_good_server() {
    if !usable() {
        return;
    }
    let server = FaultServer::start(|_| Act::Send(page("200 OK", "x")));
    let stage = || tempfile::tempdir().expect("a temporary folder");
    let folder = stage();
    let mut all = faults(&http(&folder, &server.port()), &folder.path().join("note"));
    // What a connection itself does cannot be told from what the other side or the way does.
    all.retain(|fault| !["recvfrom", "recvmsg", "read"].contains(&&*fault.call));
    campaign("check_http_retry, a good server", &all, |fault| {
        let folder = stage();
        let command = http(&folder, &server.port());
        let note = folder.path().join("note");
        let run = disturbed(&command, &note, &fault.call, fault.error, fault.number);
        assert_told(&run, &[0, 3]);
        let after = outcome(&mut http(&folder, &server.port()));
        assert_eq!(after.code, Some(0), "{:?}: {}", run.failed, after.text);
        !run.failed.is_empty()
    });
}
