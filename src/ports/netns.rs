//! Which network namespaces to look at, and how to look from inside of them.
//!
//! A thread moves into a namespace (`setns`), looks, and ends. Sockets over netlink and the settings below `/proc/sys/net`
//! are always those of the thread that asks, whichever `/proc` it reads; only `/proc/PID/net` shows another's.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, anyhow, bail, ensure};
use rustix::fs::fstatfs;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::sysctl::read_small;

/// Where `ip netns` and docker keep the names of namespaces.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];
/// What `statfs` calls a namespace's file (`NSFS_MAGIC`); a name whose namespace is gone is an empty file.
const NSFS: u64 = 0x6e73_6673;
/// The most namespaces at a time: each holds a file open, and 1024 are allowed as a rule.
const MOST: usize = 500;
/// The most processes that are looked through.
const MOST_PROCESSES: usize = 1 << 17;

/// What `--netns` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// That of this process.
    Own,
    /// Each one on the host.
    All,
    /// One of `ip netns`, or of docker.
    Name(String),
    /// That of a process.
    Pid(u32),
    /// That of a file, as in `/proc/1/ns/net`.
    Path(PathBuf),
    /// That of a container, by the first digits of its id.
    Container(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, value) = text.split_once(':').unwrap_or(("", text));
        match (kind, value) {
            ("", "self") => Ok(Self::Own),
            ("", "all") => Ok(Self::All),
            ("", name)
                if !name.is_empty() && !name.contains('/') && name != "." && name != ".." =>
            {
                Ok(Self::Name(name.to_owned()))
            }
            ("pid", pid) => match pid.parse() {
                Ok(pid) if pid > 0 => Ok(Self::Pid(pid)),
                _ => Err(format!("'{pid}' is no process id")),
            },
            ("path", path) if !path.is_empty() => Ok(Self::Path(path.into())),
            ("container", id)
                if (4..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                Ok(Self::Container(id.to_ascii_lowercase()))
            }
            ("container", id) => Err(format!(
                "'{id}' is no container id: give 4 to 64 hexadecimal digits of it, as 'docker ps' prints them"
            )),
            _ => Err(format!(
                "'{text}' is no network namespace: give self, all, a name of 'ip netns list', pid:N, path:FILE or container:ID"
            )),
        }
    }
}

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    /// What it is called in the report; empty for the own one, where that was not asked for.
    pub label: String,
    /// Its file; none for the own one.
    file: Option<File>,
    /// A process in it, where it was named by that.
    pub pid: Option<u32>,
}

impl Namespace {
    fn own() -> Self {
        Self {
            label: String::new(),
            file: None,
            pid: None,
        }
    }

    /// Does something in it: here where it is the own one, else in a thread that moves into it.
    pub fn within<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let Some(file) = &self.file else {
            return work();
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|error| refused(&self.label, "join", &error.into()))?;
                work()
            });
            thread
                .context("cannot start a thread")?
                .join()
                .unwrap_or_else(|_| Err(anyhow!("the look at {} failed", self.label)))
        })
    }
}

/// What stands in the way, and what helps.
fn refused(label: &str, what: &str, error: &io::Error) -> anyhow::Error {
    let help = match (what, error.kind()) {
        ("join", ErrorKind::PermissionDenied) => {
            "joining a network namespace needs root with CAP_SYS_ADMIN (docker run --cap-add SYS_ADMIN)"
        }
        (_, ErrorKind::PermissionDenied) => {
            "another process's namespace needs root with CAP_SYS_PTRACE (docker run --pid host --cap-add SYS_PTRACE \
             --cap-add SYS_ADMIN); its connections alone can be read with --netns pid:N --port-range LOW-HIGH"
        }
        (_, ErrorKind::NotFound) => {
            "it is gone, or it was never here; --netns all -v lists those that are"
        }
        _ => "it is no network namespace",
    };
    anyhow::Error::new(Refused {
        kind: error.kind(),
        label: label.to_owned(),
        unopened: None,
        text: format!("cannot {what} the network namespace {label}: {error}; {help}"),
    })
}

/// Why a namespace cannot be entered.
#[derive(Debug)]
pub struct Refused {
    /// What the kernel said.
    pub kind: ErrorKind,
    /// What it is called.
    pub label: String,
    /// A process in it, where it is the right to open that is missing: its tables may be read by everybody all the same.
    pub unopened: Option<u32>,
    text: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

/// The number that tells a namespace from the others, as in `net:[4026531840]`.
fn number(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn open(path: &Path, label: &str, pid: Option<u32>) -> anyhow::Result<Namespace> {
    let file = File::open(path).map_err(|error| refused(label, "open", &error))?;
    let system = fstatfs(&file).with_context(|| format!("cannot look at {}", path.display()))?;
    ensure!(
        u64::try_from(system.f_type).is_ok_and(|kind| kind == NSFS),
        "{} is no network namespace: {}",
        path.display(),
        if file.metadata().is_ok_and(|m| m.len() == 0) {
            "its namespace is gone (or is not mounted here: mount the folder with rslave propagation)"
        } else {
            "give a file like /proc/1/ns/net"
        }
    );
    Ok(Namespace {
        label: label.to_owned(),
        file: Some(file),
        pid,
    })
}

/// Opens what was named, each namespace once, and says what of it cannot be seen.
pub fn find(targets: &[Target], proc: &Path) -> anyhow::Result<(Vec<Namespace>, Vec<String>)> {
    let mut found = Found::default();
    let mut notes = Vec::new();
    for target in targets {
        match target {
            Target::Own => found.add_own(proc, "self"),
            Target::All => add_all(proc, &mut found, &mut notes)?,
            Target::Name(name) => found.add(named(name)?),
            Target::Pid(pid) => found.add(of_process(proc, *pid, &format!("pid:{pid}"))?),
            Target::Path(path) => found.add(open(path, &path.to_string_lossy(), None)?),
            Target::Container(id) => {
                let pid = process_of_container(proc, id)?;
                found.add(of_process(proc, pid, &format!("container:{id}"))?);
            }
        }
    }
    if targets.is_empty() {
        found.spaces.push(Namespace::own());
    }
    if found.too_many > 0 {
        notes.push(format!(
            "{} more network namespaces than {MOST} are not looked at",
            found.too_many
        ));
    }
    Ok((found.spaces, notes))
}

#[derive(Default)]
struct Found {
    spaces: Vec<Namespace>,
    numbers: BTreeSet<(u64, u64)>,
    too_many: usize,
}

impl Found {
    fn add(&mut self, space: Namespace) {
        let known = space
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .is_some_and(|metadata| !self.numbers.insert(number(&metadata)));
        if known {
            return;
        }
        if self.spaces.len() < MOST {
            self.spaces.push(space);
        } else {
            self.too_many += 1;
        }
    }

    fn add_own(&mut self, proc: &Path, label: &str) {
        let own = std::fs::metadata(proc.join("thread-self/ns/net"));
        if own.is_ok_and(|metadata| !self.numbers.insert(number(&metadata))) {
            return;
        }
        self.spaces.push(Namespace {
            label: label.to_owned(),
            ..Namespace::own()
        });
    }
}

fn named(name: &str) -> anyhow::Result<Namespace> {
    let path = NAMED
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .with_context(|| {
            format!(
                "there is no network namespace {name} in {}: 'ip netns list' shows which there are; in a container, mount \
                 the folder",
                NAMED.join(" or ")
            )
        })?;
    open(&path, name, None)
}

fn of_process(proc: &Path, pid: u32, label: &str) -> anyhow::Result<Namespace> {
    let folder = proc.join(pid.to_string());
    ensure!(folder.exists() || is_mounted(proc), "{}", unmounted(proc));
    ensure!(
        folder.exists(),
        "there is no process {pid} in {}: it has ended, or this is another pid namespace (docker run --pid host)",
        proc.display()
    );
    let mut opened = open(&folder.join("ns/net"), label, Some(pid));
    if let Err(error) = &mut opened
        && let Some(refused) = error.downcast_mut::<Refused>()
        && refused.kind == ErrorKind::PermissionDenied
    {
        refused.unopened = Some(pid);
    }
    opened
}

/// Whether there is a `/proc` at all.
fn is_mounted(proc: &Path) -> bool {
    std::fs::symlink_metadata(proc.join("self")).is_ok()
}

fn unmounted(proc: &Path) -> String {
    format!(
        "{} is no /proc: mount it (docker run -v /proc:/host/proc:ro), or say where it is with --proc",
        proc.display()
    )
}

fn add_all(proc: &Path, found: &mut Found, notes: &mut Vec<String>) -> anyhow::Result<()> {
    for folder in NAMED.iter().map(Path::new) {
        // No such folder: nobody has named a namespace.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // One that has gone in the meantime, or a name that was left behind.
            if let Ok(space) = open(&entry.path(), &name, None) {
                found.add(space);
            }
        }
    }
    found.add_own(proc, "self");
    let mut hidden = 0;
    for pid in processes(proc)? {
        let path = proc.join(pid.to_string()).join("ns/net");
        match std::fs::metadata(&path) {
            Ok(metadata) if !found.numbers.contains(&number(&metadata)) => {
                let comm = read_small(&proc.join(pid.to_string()).join("comm")).unwrap_or_default();
                let label = format!("pid:{pid} ({})", comm.trim());
                if let Ok(space) = open(&path, &label, Some(pid)) {
                    found.add(space);
                }
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => hidden += 1,
            _ => {}
        }
    }
    if hidden > 0 {
        notes.push(format!(
            "the namespaces of {hidden} processes may not be seen: that needs root with CAP_SYS_PTRACE"
        ));
    }
    Ok(())
}

/// The ids of all processes.
pub fn processes(proc: &Path) -> anyhow::Result<Vec<u32>> {
    let entries = std::fs::read_dir(proc)
        .with_context(|| format!("cannot read {}: mount /proc or give --proc", proc.display()))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take(MOST_PROCESSES)
        .collect())
}

/// A process of a container: its id is part of the control group, and of the files mounted into it.
fn process_of_container(proc: &Path, id: &str) -> anyhow::Result<u32> {
    let mut found: Option<(u32, String)> = None;
    for pid in processes(proc)? {
        let folder = proc.join(pid.to_string());
        let whole = ["cgroup", "mountinfo"].iter().find_map(|file| {
            let text = read_small(&folder.join(file)).ok()?;
            container_id(&text, id)
        });
        match (&found, whole) {
            (None, Some(whole)) => found = Some((pid, whole)),
            (Some((_, known)), Some(whole)) if *known != whole => {
                bail!("container:{id} can be {known} and {whole}: give more digits")
            }
            _ => {}
        }
    }
    found.map(|(pid, _)| pid).with_context(|| {
        if !is_mounted(proc) {
            return unmounted(proc);
        }
        format!(
            "no process in {} belongs to a container {id}: it has ended, or this is another pid namespace (docker run \
             --pid host)",
            proc.display()
        )
    })
}

/// The id of 64 hexadecimal digits in this text that begins like this.
fn container_id(text: &str, start: &str) -> Option<String> {
    text.split(|c: char| !c.is_ascii_hexdigit())
        .find(|word| word.len() == 64 && word.starts_with(start))
        .map(str::to_owned)
}

/// What to say to somebody who may not know that he looks at his own namespace.
pub fn warning_of_own(proc: &Path) -> Option<String> {
    // The first pid namespace has had this number since Linux 3.8; the file is there for the first network namespace
    // alone.
    let contained = std::fs::read_link("/proc/self/ns/pid")
        .is_ok_and(|link| link.as_os_str() != "pid:[4026531836]");
    let of_host = Path::new("/proc/sys/net/core/netdev_max_backlog").exists();
    let own = std::fs::metadata("/proc/self/ns/net").ok()?;
    let first = std::fs::metadata(proc.join("1/ns/net")).ok();
    // Without the right to look at that, it is this process's own number that differs.
    let itself = |proc: &Path| std::fs::read_link(proc.join("self")).ok();
    let of_others = first.is_some_and(|first| number(&first) != number(&own))
        || itself(proc) != itself(Path::new("/proc"));
    if proc != Path::new("/proc") && of_others {
        Some(format!(
            "the sockets and settings are those of this process's own network namespace, whatever {} belongs to: name \
             another with --netns pid:N or container:ID",
            proc.display()
        ))
    } else if contained && !of_host {
        Some(
            "this is the network namespace of this container (or of the one whose network it shares), not the host's: \
             docker run --network container:NAME or --network host, or --netns, shows another"
                .to_owned(),
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_read_as_they_are_written() {
        for (text, target) in [
            ("self", Target::Own),
            ("all", Target::All),
            ("blue", Target::Name("blue".to_owned())),
            ("pid:1", Target::Pid(1)),
            ("path:/proc/1/ns/net", Target::Path("/proc/1/ns/net".into())),
            ("container:4F2a", Target::Container("4f2a".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(target));
        }
        for text in [
            "",
            "a/b",
            "..",
            "pid:",
            "pid:0",
            "pid:x",
            "path:",
            "container:xyz1",
            "container:12",
            "blue:1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_containers_process_is_found_by_its_id() {
        let root = tempfile::tempdir().unwrap();
        let [one, two] = ["ab12", "ab34"].map(|start| format!("{start}{}", "0".repeat(60)));
        for (pid, file, text) in [
            (10, "cgroup", "0::/init.scope\n".to_owned()),
            (
                11,
                "cgroup",
                format!("0::/system.slice/docker-{one}.scope\n"),
            ),
            (
                12,
                "mountinfo",
                format!("1 1 8:1 /var/lib/docker/containers/{two}/hosts /etc/hosts rw\n"),
            ),
        ] {
            let folder = root.path().join(pid.to_string());
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join(file), text).unwrap();
        }
        assert_eq!(process_of_container(root.path(), "ab12").unwrap(), 11);
        assert_eq!(process_of_container(root.path(), "ab34").unwrap(), 12);
        std::os::unix::fs::symlink("10", root.path().join("self")).unwrap();
        let both = process_of_container(root.path(), "ab").unwrap_err();
        assert!(both.to_string().contains("give more digits"), "{both}");
        let none = process_of_container(root.path(), "cdef").unwrap_err();
        assert!(none.to_string().contains("--pid host"), "{none}");
    }

    #[test]
    fn what_is_no_namespace_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (target, part) in [
            (Target::Path(file.path().into()), "is gone"),
            (Target::Path("/etc/passwd".into()), "/proc/1/ns/net"),
            (Target::Path("/no/such".into()), "never here"),
            (Target::Name("no-such".to_owned()), "ip netns list"),
            (Target::Pid(u32::MAX), "--pid host"),
        ] {
            let error = find(std::slice::from_ref(&target), Path::new("/proc")).unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains(part), "{target:?}: {text}");
        }
    }
}
