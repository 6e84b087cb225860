//! What to change: the counted causes beside the ports of this host as they are now, where the proxy runs on it.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::cause::{Cause, CauseSet};
use super::dialect::Dialect;
use super::tally::Summary;
use crate::plugin::Run;
use crate::ports;

/// How many processes are looked through.
const PROCESSES: usize = 1 << 17;

/// Where the proxy runs, as far as it can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proxy {
    /// In this network namespace, or it may not be seen in which.
    Beside { namespace_seen: bool },
    /// In that of this process.
    In(u32),
    /// Not here.
    Elsewhere,
}

/// What `--explain` says, a line each.
pub fn explain(summary: &Summary, counted: CauseSet, dialect: Dialect, run: &Run) -> Vec<String> {
    let name = dialect.proxy();
    let of_ports = [Cause::BindInUse, Cause::NoFreePort];
    let count: u64 = of_ports.iter().map(|cause| summary.of(*cause)).sum();
    if count == 0 || !of_ports.iter().any(|cause| counted.has(*cause)) {
        return vec![format!(
            "ports: {name} told of none that it lacked in the window; check_port_exhaustion --explain shows how near they are"
        )];
    }
    let leading = summary.upstreams.iter().find_map(|(name, _)| address(name));
    let Some(upstream) = leading else {
        return vec![format!(
            "ports: no upstream is named by its address: on {name}'s host check_port_exhaustion --explain shows which takes most"
        )];
    };
    let elsewhere = format!(
        "on {name}'s host, or with --netns for its container, check_port_exhaustion --destination {upstream} --explain \
         shows range, reuse and what this upstream takes"
    );
    let (process, doubt) = match find(Path::new("/proc"), dialect) {
        Proxy::Elsewhere => {
            return vec![format!(
                "ports: no {name} runs here, its ports cannot be seen: {elsewhere}"
            )];
        }
        Proxy::In(pid) => (Some(pid), None),
        Proxy::Beside { namespace_seen } => {
            let doubt = format!(
                "ports: in which network namespace {name} runs may not be seen (that takes root); this is of the check's own"
            );
            (None, (!namespace_seen).then_some(doubt))
        }
    };
    let mut lines: Vec<_> = doubt.into_iter().collect();
    match ports::explain_towards(upstream, process, run) {
        Ok(report) => {
            let place = process.map_or_else(String::new, |pid| {
                format!(" in the network namespace of process {pid}")
            });
            lines.push(format!("ports now{place}: {}", report.summary));
            let told = report.lines.into_iter().filter(|(level, _)| *level == 0);
            lines.extend(told.map(|(_, line)| format!("  {line}")));
        }
        Err(error) => lines.push(format!("ports: {error:#}; {elsewhere}")),
    }
    lines
}

/// An upstream's address as `connect()` takes it.
fn address(name: &str) -> Option<SocketAddr> {
    name.parse()
        .ok()
        .filter(|address: &SocketAddr| address.port() > 0)
}

/// Where a proxy of this kind runs: rather in this network namespace than in another one.
fn find(proc: &Path, dialect: Dialect) -> Proxy {
    let own = namespace(&proc.join("self"));
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut found = Proxy::Elsewhere;
    for process in processes.take(PROCESSES) {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|pid| pid.parse().ok())
        else {
            continue;
        };
        let folder = process.path();
        if !is_of(dialect, &folder) {
            continue;
        }
        match namespace(&folder) {
            Some(namespace) if Some(namespace) == own => {
                return Proxy::Beside {
                    namespace_seen: true,
                };
            }
            Some(_) => found = Proxy::In(pid),
            None if found == Proxy::Elsewhere => {
                found = Proxy::Beside {
                    namespace_seen: false,
                };
            }
            None => {}
        }
    }
    found
}

/// Whether a process is one of a proxy's, by the name of its program.
fn is_of(dialect: Dialect, folder: &Path) -> bool {
    let mut name = String::new();
    let file = File::open(folder.join("comm"));
    let read = file.and_then(|file| file.take(64).read_to_string(&mut name));
    read.is_ok() && dialect.programs().contains(&name.trim_end())
}

fn namespace(folder: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(folder.join("ns/net")).ok()?;
    Some((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_found_by_its_program_and_rather_here_than_elsewhere() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: &str, name: &str, namespace: Option<&str>| {
            let folder = proc.path().join(pid);
            fs::create_dir_all(folder.join("ns")).unwrap();
            fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
            if let Some(namespace) = namespace {
                let file = proc.path().join(namespace);
                fs::write(&file, "").unwrap();
                std::os::unix::fs::symlink(file, folder.join("ns/net")).unwrap();
            }
        };
        process("self", "check", Some("ours"));
        process("17", "envoy", Some("ours"));
        let find = || find(proc.path(), Dialect::Nginx);
        assert_eq!(find(), Proxy::Elsewhere);
        process("20", "nginx", None);
        let unseen = Proxy::Beside {
            namespace_seen: false,
        };
        assert_eq!(find(), unseen);
        process("21", "nginx", Some("theirs"));
        assert_eq!(find(), Proxy::In(21));
        process("22", "nginx", Some("ours"));
        let seen = Proxy::Beside {
            namespace_seen: true,
        };
        assert_eq!(find(), seen);
    }

    #[test]
    fn only_addresses_are_looked_up() {
        assert!(address("127.0.0.1:9002").is_some() && address("[2001:db8::1]:80").is_some());
        for name in [
            "log3:8080",
            "unix:/run/x",
            "b/s1",
            "127.0.0.1",
            "1.2.3.4:0",
            "",
        ] {
            assert!(address(name).is_none(), "{name}");
        }
    }
}
