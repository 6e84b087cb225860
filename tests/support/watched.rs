//! Watches what a program asks the kernel for, with strace.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::plugin::{Outcome, check_output};

/// The calls that reach beyond the process: programs, files, sockets, other processes, namespaces.
const WATCHED: &str = "execve,execveat,fork,vfork,clone,clone3,open,openat,openat2,creat,unlink,unlinkat,rename,renameat,\
renameat2,link,linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,mknod,mknodat,chmod,fchmodat,chown,fchownat,truncate,mount,\
umount2,setns,unshare,chroot,ptrace,kill,tkill,tgkill,socket,connect,bind,listen,sendto,sendmsg,sendmmsg,bpf,init_module";

/// One call.
#[derive(Debug)]
pub struct Call {
    /// Which.
    pub name: String,
    /// Its arguments, as strace writes them: file descriptors with what they are.
    pub arguments: String,
}

impl Call {
    /// The file that it names: the first string, below the folder that an open one before it is.
    pub fn path(&self) -> Option<PathBuf> {
        let (before, rest) = self.arguments.split_once('"')?;
        let (path, _) = rest.split_once('"')?;
        let folder = before
            .rsplit_once('<')
            .and_then(|(_, rest)| rest.split_once('>'));
        let folder = folder.map_or(Path::new("/"), |(folder, _)| Path::new(folder));
        Some(folder.join(path))
    }

    /// Whether it opens a file to change it.
    pub fn writes(&self) -> bool {
        ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"]
            .iter()
            .any(|flag| self.arguments.contains(flag))
    }

    /// The address that it goes to: `127.0.0.1:80`, `[::1]:80` or the path of a socket.
    pub fn address(&self) -> Option<String> {
        let between = |start: &str, end: &str| {
            let (_, rest) = self.arguments.split_once(start)?;
            rest.split_once(end).map(|(value, _)| value.to_owned())
        };
        if let Some(path) = between("sun_path=\"", "\"") {
            return Some(path);
        }
        let port = between("_port=htons(", ")")?;
        let v4 = between("sin_addr=inet_addr(\"", "\"").map(|host| format!("{host}:{port}"));
        let v6 = || between("inet_pton(AF_INET6, \"", "\"").map(|host| format!("[{host}]:{port}"));
        v4.or_else(v6)
    }
}

/// Whether processes can be watched here; why not.
pub fn possible() -> Result<(), String> {
    let tried = Command::new("strace")
        .args(["-qq", "-e", "trace=none", "true"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "strace: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("strace: {error}")),
    }
}

/// Runs a command to its end. Returns what it said, and its calls and those of all its threads and children; of a child
/// that became one of the `helpers` no call after that.
pub fn watch(command: &Command, helpers: &[&str]) -> (Outcome, Vec<Call>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("calls");
    let mut strace = Command::new("strace");
    strace
        .args([
            "-f",
            "-qq",
            "-y",
            "-s",
            "4096",
            "-e",
            &format!("trace={WATCHED}"),
            "-o",
        ])
        .arg(&log)
        // Cargo's, which would have libraries looked for in its own folders.
        .args(["-E", "LD_LIBRARY_PATH"]);
    for (name, value) in command.get_envs() {
        let mut setting = name.to_owned();
        if let Some(value) = value {
            setting.push("=");
            setting.push(value);
        }
        strace.arg("-E").arg(setting);
    }
    strace
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null());
    let output = strace.output().expect("strace starts");
    let outcome = check_output(&output, command);
    let text = std::fs::read_to_string(&log).expect("strace has written");
    let mut others = HashSet::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((process, rest)) = line.split_once(' ') else {
            continue;
        };
        // Signals, and the ends of calls that began on a line of their own.
        let rest = rest.trim_start();
        let Some((name, arguments)) = rest
            .split_once('(')
            .filter(|_| !rest.starts_with(['<', '-', '+']))
        else {
            continue;
        };
        if others.contains(process) {
            continue;
        }
        let call = Call {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        let path = call.path().unwrap_or_default();
        if name.starts_with("execve") && helpers.iter().any(|helper| path == Path::new(helper)) {
            others.insert(process.to_owned());
        }
        calls.push(call);
    }
    (outcome, calls)
}
