//! What the plugins ask the kernel for in their usual runs, and that it is nothing else: no shell, no program but one
//! that is named, no file and no connection that was not asked for.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::fault_server::{Act, FaultServer, page};
use crate::support::growing_log::GrowingLog;
use crate::support::plugin::plugin;
use crate::support::skip::skip;
use crate::support::watched::{self, Call};

/// What every program opens, linked with the C library or not, the local time zone, and how long it waited for a CPU.
const START: [&str; 7] = [
    "/etc/ld.so",
    "/lib",
    "/usr/lib",
    "/usr/share/zoneinfo",
    "/etc/localtime",
    "/proc/self/maps",
    "/proc/thread-self/schedstat",
];

/// What the C library opens and asks to look a name up.
const NAMES: [&str; 7] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/var/run/nscd/socket",
];

/// What a run may do beside starting.
#[derive(Debug, Default)]
struct Allowed<'a> {
    /// Files and folders that it may read.
    reads: Vec<&'a str>,
    /// Folders that it may change.
    changes: Vec<&'a str>,
    /// Where it may connect to.
    connects: Vec<&'a str>,
    /// The families of its sockets.
    sockets: Vec<&'a str>,
    /// Programs that it may start, by their whole path.
    starts: Vec<&'a str>,
}

impl Allowed<'_> {
    /// What a call does that is not allowed.
    fn excess(&self, program: &Path, call: &Call) -> Option<String> {
        let path = call.path().unwrap_or_default();
        let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
        let begins = |texts: &[&str]| {
            let path = path.to_string_lossy();
            texts.iter().any(|text| path.starts_with(text))
        };
        let fine = match &*call.name {
            "execve" => path == program || self.starts.iter().any(|start| path == Path::new(start)),
            // A thread shares its memory; a child that is about to become another program is seen as that.
            "clone" | "clone3" => call.arguments.contains("CLONE_VM"),
            "vfork" => !self.starts.is_empty(),
            "open" | "openat" | "openat2" if call.writes() => below(&self.changes),
            "open" | "openat" | "openat2" => {
                begins(&START)
                    || begins(&self.reads)
                    || below(&self.changes)
                    || path == Path::new("/dev/null")
            }
            "unlink" | "unlinkat" | "rename" | "renameat" | "renameat2" | "mkdir" | "mkdirat"
            | "fchmodat" => below(&self.changes),
            "socket" => self
                .sockets
                .iter()
                .any(|family| call.arguments.starts_with(family)),
            // Bound to an address of this host, or to nothing: the kernel's port.
            "connect" | "bind" | "sendto" | "sendmsg" | "sendmmsg" => call
                .address()
                .is_none_or(|address| self.connects.iter().any(|to| *to == address)),
            _ => false,
        };
        (!fine).then(|| format!("{}({}", call.name, call.arguments))
    }

    /// Runs it, and returns how it ended.
    fn holds(&self, command: &Command) -> Option<i32> {
        let (outcome, calls) = watched::watch(command, &self.starts);
        let program = Path::new(command.get_program());
        let started = calls.iter().any(|call| call.name == "execve");
        assert!(
            started,
            "strace saw nothing of {command:?}: {}",
            outcome.text
        );
        let excess: Vec<_> = calls
            .iter()
            .filter_map(|call| self.excess(program, call))
            .collect();
        assert!(
            excess.is_empty(),
            "{command:?} did more than it may: {excess:#?}\n{}",
            outcome.text
        );
        outcome.code
    }
}

/// Whether calls can be watched here.
fn can_watch() -> bool {
    watched::possible().inspect_err(|why| skip(why)).is_ok()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name is text")
}

#[test]
fn the_watch_sees_a_shell_a_file_and_a_connection() {
    if !can_watch() {
        return;
    }
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "/bin/cat < /etc/passwd > /dev/null; : > /tmp/proxy-checks-watched; rm /tmp/proxy-checks-watched"]);
    let (_, calls) = watched::watch(&command, &[]);
    let allowed = Allowed::default();
    let excess: Vec<_> = calls
        .iter()
        .filter_map(|call| allowed.excess(Path::new("/bin/sh"), call))
        .collect();
    for seen in ["/bin/cat", "/etc/passwd", "/tmp/proxy-checks-watched"] {
        assert!(
            excess.iter().any(|call| call.contains(seen)),
            "{seen} was not seen: {excess:#?}"
        );
    }
}

#[test]
fn check_http_retry_connects_where_it_is_told_and_nowhere_else() {
    if !can_watch() {
        return;
    }
    let server = FaultServer::start(|_| Act::Send(page("200 OK", "well")));
    let broken = FaultServer::start(|_| Act::Send(page("500 Internal Server Error", "no")));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = text(folder.path());
    let (here, there) = (
        format!("127.0.0.1:{}", server.port()),
        format!("127.0.0.1:{}", broken.port()),
    );
    let inet = "AF_INET, SOCK_STREAM";

    let mut by_address = plugin("check_http_retry");
    by_address.args(["-I", "127.0.0.1", "-p", &server.port(), "--attempts", "3"]);
    let allowed = Allowed {
        connects: vec![&here],
        sockets: vec![inet],
        ..Allowed::default()
    };
    assert_eq!(allowed.holds(&by_address), Some(0));

    // The user's own settings for proxies and TLS libraries count for nothing.
    let mut misled = plugin("check_http_retry");
    misled
        .args(["-I", "127.0.0.1", "-p", &server.port(), "--attempts", "1"])
        .envs([
            ("http_proxy", "http://127.0.0.1:9"),
            ("SSLKEYLOGFILE", "/tmp/proxy-checks-keys"),
        ])
        .envs([
            ("SSL_CERT_FILE", "/tmp/proxy-checks-certificates"),
            ("HOME", "/tmp/proxy-checks-home"),
        ]);
    assert_eq!(allowed.holds(&misled), Some(0));

    let mut by_name = plugin("check_http_retry");
    by_name.args([
        "-H",
        "localhost",
        "-4",
        "-p",
        &server.port(),
        "--attempts",
        "2",
    ]);
    let allowed = Allowed {
        reads: NAMES.to_vec(),
        connects: [&*here].into_iter().chain(NAMES).collect(),
        sockets: vec![
            inet,
            "AF_UNIX",
            "AF_INET, SOCK_DGRAM",
            "AF_INET6, SOCK_DGRAM",
            "AF_NETLINK",
        ],
        ..Allowed::default()
    };
    assert_eq!(allowed.holds(&by_name), Some(0));

    let mut kept = plugin("check_http_retry");
    let (evidence, journal) = (format!("{folder}/evidence"), format!("{folder}/journal"));
    kept.args([
        "-I",
        "127.0.0.1",
        "-p",
        &broken.port(),
        "--attempts",
        "3",
        "-v",
    ])
    .args(["--evidence", &evidence, "--journal", &journal]);
    let allowed = Allowed {
        changes: vec![folder],
        connects: vec![&there],
        // Packets, and the names of the interfaces that they came by; the latter sends nothing.
        sockets: vec![inet, "AF_PACKET", "AF_INET, SOCK_DGRAM"],
        ..Allowed::default()
    };
    assert_eq!(allowed.holds(&kept), Some(2));
}

#[test]
fn check_port_exhaustion_asks_the_kernel_and_nobody_else() {
    if !can_watch() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = text(folder.path());
    let state = format!("{folder}/state");
    for words in [&[][..], &["--mode", "both", "-v", "--explain"]] {
        let mut command = plugin("check_port_exhaustion");
        command.args(["--state-file", &state]).args(words);
        let allowed = Allowed {
            reads: vec!["/proc", "/sys/fs/cgroup"],
            changes: vec![folder],
            sockets: vec!["AF_NETLINK"],
            ..Allowed::default()
        };
        assert!(allowed.holds(&command).is_some_and(|code| code < 3));
    }
}

#[test]
fn check_nginx_upstream_bind_reads_its_log_and_starts_journalctl_by_its_path_alone() {
    if !can_watch() {
        return;
    }
    let mut log = GrowingLog::new();
    log.binds(3, 30);
    let folder = log.at("");
    let allowed = Allowed {
        changes: vec![text(&folder)],
        ..Allowed::default()
    };
    assert_eq!(allowed.holds(&log.check()), Some(2));
    assert_eq!(allowed.holds(&log.check()), Some(2));

    let journalctl = "/usr/bin/journalctl";
    if !Path::new(journalctl).exists() {
        return skip("there is no journalctl");
    }
    // One in the path is not looked for: it may be anybody's.
    let other = log.at("journalctl");
    std::fs::write(&other, "#!/bin/sh\nexit 1\n").expect("a file");
    std::fs::set_permissions(&other, Permissions::from_mode(0o755)).expect("a file of ours");
    let mut command = plugin("check_nginx_upstream_bind");
    command
        .args(["--journal-unit", "nginx", "--state-file"])
        .arg(log.at("journal-state"))
        .env("PATH", &folder);
    let allowed = Allowed {
        starts: vec![journalctl],
        sockets: vec!["AF_UNIX, SOCK_SEQPACKET"],
        ..allowed
    };
    assert!(allowed.holds(&command).is_some());
}
