//! What to change: the counted causes beside the ports of this host as they are now, where the proxy runs on it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use super::cause::{Cause, CauseSet};
use super::dialect::Dialect;
use super::summary::Summary;
use crate::plugin::{Report, Run};
use crate::ports;

/// How many processes are looked through.
const PROCESSES: usize = 1 << 17;

/// In how many network namespaces other than ours a proxy's ports are looked at.
const NAMESPACES: usize = 16;

/// Where proxies run, as far as it can be seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// In this network namespace.
    beside: bool,
    /// There is one of which it cannot be seen where.
    unseen: bool,
    /// A process in each other namespace.
    elsewhere: Vec<u32>,
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
    let found = find(Path::new("/proc"), dialect);
    if found == Found::default() {
        return vec![format!(
            "ports: no {name} runs here, its ports cannot be seen: {elsewhere}"
        )];
    }
    let mut lines = Vec::new();
    if found.unseen && !found.beside {
        lines.push(format!(
            "ports: in which network namespace {name} runs may not be seen (that takes root); this is of the check's own"
        ));
    }
    let own = (found.beside || found.elsewhere.is_empty()).then_some(None);
    let mut failed = None;
    let mut worst: Option<(u64, Option<u32>, Report)> = None;
    // Of several the log may be of any: the one with the most connections to the upstream is the likeliest.
    for process in own.into_iter().chain(found.elsewhere.into_iter().map(Some)) {
        match ports::explain_towards(upstream, process, run) {
            Ok(report) => {
                let open = of_upstream(&report);
                if worst.as_ref().is_none_or(|(most, ..)| open > *most) {
                    worst = Some((open, process, report));
                }
            }
            Err(error) => failed = Some(error),
        }
    }
    if let Some((_, process, report)) = worst {
        let place = process.map_or_else(String::new, |pid| {
            format!(" in the network namespace of process {pid}")
        });
        lines.push(format!("ports now{place}: {}", report.summary));
        let told = report.lines.into_iter().filter(|(level, _)| *level == 0);
        lines.extend(told.map(|(_, line)| format!("  {line}")));
    } else if let Some(error) = failed {
        lines.push(format!("ports: {error:#}; {elsewhere}"));
    }
    lines
}

/// An upstream's address as `connect()` takes it.
fn address(name: &str) -> Option<SocketAddr> {
    name.parse()
        .ok()
        .filter(|address: &SocketAddr| address.port() > 0)
}

/// How many connections to the upstream a look saw.
fn of_upstream(report: &Report) -> u64 {
    let count = |state: &str| {
        let place = format!("/namespaces/0/destinations/0/{state}");
        report.details.pointer(&place).and_then(Value::as_u64)
    };
    ["established", "time_wait"]
        .into_iter()
        .filter_map(count)
        .sum()
}

/// Where proxies of this kind run.
fn find(proc: &Path, dialect: Dialect) -> Found {
    let own = namespace(&proc.join("self"));
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut found = Found::default();
    let mut known = BTreeSet::new();
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
            None => found.unseen = true,
            namespace if namespace == own => found.beside = true,
            Some(namespace) => {
                if known.len() < NAMESPACES && known.insert(namespace) {
                    found.elsewhere.push(pid);
                }
            }
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
    fn proxies_are_found_by_their_program_once_in_each_namespace() {
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
        assert_eq!(find(), Found::default());
        process("20", "nginx", None);
        process("21", "nginx", Some("theirs"));
        process("22", "nginx", Some("theirs"));
        let mut found = find();
        found.elsewhere.retain(|pid| ![21, 22].contains(pid));
        assert!(found.unseen && !found.beside && found.elsewhere.is_empty());
        assert_eq!(find().elsewhere.len(), 1);
        process("23", "nginx", Some("ours"));
        assert!(find().beside);
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
