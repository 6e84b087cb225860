//! Who holds sockets: the processes, by the inodes that their descriptors lead to. Slow on a host with many
//! processes, hence done only where it is asked for or something is wrong.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use super::limits::Neighbour;
use super::netns::processes;
use super::sysctl::read_small;

/// The longest that the search may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest line of ancestors that is looked at.
const MOST_ANCESTORS: usize = 32;
/// The most processes of one name that are listed.
const MOST_PIDS: usize = 20;
/// Proxies whose open files are held against their own limit, by the name of the process.
const PROXIES: [&str; 3] = ["nginx", "haproxy", "envoy"];

/// Processes of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The name.
    pub name: String,
    /// Their ids, a few of them.
    pub pids: Vec<u32>,
    /// Sockets that they hold.
    pub sockets: usize,
}

/// Who holds the sockets that were looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// Those with the most first.
    pub list: Vec<Owner>,
    /// Sockets that were looked for.
    pub wanted: usize,
    /// Processes that may not be looked at.
    pub hidden: usize,
    /// The search was given up.
    pub incomplete: bool,
}

impl Owners {
    /// Looks for them below a `/proc`.
    pub fn of(proc: &Path, mut inodes: HashSet<u32>) -> anyhow::Result<Self> {
        let mut owners = Self {
            wanted: inodes.len(),
            ..Self::default()
        };
        let mut by_name: BTreeMap<String, Owner> = BTreeMap::new();
        let begun = Instant::now();
        for pid in processes(proc)? {
            if inodes.is_empty() {
                break;
            }
            if begun.elapsed() > PATIENCE {
                owners.incomplete = true;
                break;
            }
            let folder = proc.join(pid.to_string());
            let Some(mut held) = sockets(&folder) else {
                // One that has ended in the meantime is no secret.
                owners.hidden += usize::from(folder.exists());
                continue;
            };
            held.retain(|inode| inodes.remove(inode));
            for (pid, held) in heirs(proc, pid, held) {
                let name = name(&proc.join(pid.to_string()));
                let owner = by_name.entry(name.clone()).or_insert(Owner {
                    name,
                    pids: Vec::new(),
                    sockets: 0,
                });
                owner.sockets += held;
                if owner.pids.len() < MOST_PIDS && !owner.pids.contains(&pid) {
                    owner.pids.push(pid);
                }
            }
        }
        owners.list = by_name.into_values().collect();
        owners
            .list
            .sort_by_key(|owner| std::cmp::Reverse(owner.sockets));
        Ok(owners)
    }

    /// In words, as in `nginx (processes 7, 8) 120, curl (process 99) 1`; and what is missing.
    pub fn words(&self) -> String {
        let mut parts: Vec<_> = self
            .list
            .iter()
            .take(10)
            .map(|owner| {
                let pids: Vec<_> = owner.pids.iter().map(u32::to_string).collect();
                let plural = if pids.len() == 1 {
                    "process"
                } else {
                    "processes"
                };
                format!(
                    "{} of {} live sockets: {} ({plural} {})",
                    owner.sockets,
                    self.wanted,
                    owner.name,
                    pids.join(", ")
                )
            })
            .collect();
        let known: usize = self.list.iter().map(|owner| owner.sockets).sum();
        let unknown = self.wanted.saturating_sub(known);
        if unknown > 0 {
            let why = if self.incomplete {
                "the search took too long".to_owned()
            } else if self.hidden > 0 {
                format!(
                    "{} processes may not be looked at: that needs root with CAP_SYS_PTRACE",
                    self.hidden
                )
            } else {
                "no process here has them: they are the kernel's, or of another pid namespace"
                    .to_owned()
            };
            parts.push(format!("{unknown} of unknown owners ({why})"));
        }
        if parts.is_empty() {
            "no live sockets".to_owned()
        } else {
            parts.join("; ")
        }
    }
}

/// Whose the sockets of a process are, and how many: a socket that its parent holds, too, is the parent's. Between fork()
/// and exec() a child has all that its parent has, also what is not meant for it.
fn heirs(proc: &Path, mut pid: u32, mut held: HashSet<u32>) -> Vec<(u32, usize)> {
    let mut heirs = Vec::new();
    // What --proc names may be any folder, also one where everybody is everybody's child.
    for _ in 0..MOST_ANCESTORS {
        let parent = parent(&proc.join(pid.to_string()));
        let inherited: HashSet<u32> = parent
            .and_then(|parent| sockets(&proc.join(parent.to_string())))
            .map(|sockets| sockets.intersection(&held).copied().collect())
            .unwrap_or_default();
        let own = held.len() - inherited.len();
        if own > 0 {
            heirs.push((pid, own));
        }
        held = inherited;
        match parent {
            Some(parent) if !held.is_empty() => pid = parent,
            _ => return heirs,
        }
    }
    heirs.push((pid, held.len()));
    heirs
}

/// The sockets that a process has open, where that may be seen.
fn sockets(folder: &Path) -> Option<HashSet<u32>> {
    let descriptors = std::fs::read_dir(folder.join("fd")).ok()?;
    let links = descriptors
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    Some(links.filter_map(|link| socket_inode(&link)).collect())
}

/// Behind the name, which may hold anything, are the state and the parent's id.
fn parent(folder: &Path) -> Option<u32> {
    let stat = read_small(&folder.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn name(folder: &Path) -> String {
    read_small(&folder.join("comm"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// `socket:[4711]`.
fn socket_inode(link: &Path) -> Option<u32> {
    let text = link.to_str()?.strip_prefix("socket:[")?;
    text.strip_suffix(']')?.parse().ok()
}

/// The most that a proxy had open of the files that it may, over all looks. A look goes through all processes.
#[derive(Debug, Default)]
pub struct OpenFiles {
    most: Option<Neighbour>,
    /// When the next look is due.
    due: Option<Instant>,
}

impl OpenFiles {
    /// Looks once a second at most, and if that takes long, for one part in twenty of the time; in any case where it is
    /// the last look.
    pub fn look(&mut self, proc: &Path, is_last: bool) {
        const REST: Duration = Duration::from_secs(1);
        let begun = Instant::now();
        if !is_last && self.due.is_some_and(|due| begun < due) {
            return;
        }
        let seen = open_files(proc);
        if let Some(seen) = seen
            && self
                .most
                .as_ref()
                .is_none_or(|most| seen.share() >= most.share())
        {
            self.most = Some(seen);
        }
        let rest = begun.elapsed().saturating_mul(super::IDLE).max(REST);
        self.due = Instant::now().checked_add(rest);
    }

    /// The most that was seen, where anything could be.
    pub fn most(&self) -> Option<&Neighbour> {
        self.most.as_ref()
    }
}

/// The open files of the proxy's process that is nearest to its own limit (`RLIMIT_NOFILE`), where that may be seen.
fn open_files(proc: &Path) -> Option<Neighbour> {
    let root = rustix::process::geteuid().is_root();
    let processes_folder = File::open(proc).ok()?;
    let worst = |pid: u32| -> Option<Neighbour> {
        if !is_proxy(&processes_folder, pid, root) {
            return None;
        }
        let folder = proc.join(pid.to_string());
        Some(Neighbour {
            name: "open_files",
            used: open_descriptors(&folder.join("fd"))?,
            limit: file_limit(&read_small(&folder.join("limits")).ok()?)?,
        })
    };
    let kernels = kernel_threads(&processes_folder);
    processes(proc)
        .ok()?
        .into_iter()
        .filter(|pid| !kernels.contains(pid))
        .filter_map(worst)
        .max_by(|a, b| a.share().total_cmp(&b.share()))
}

/// The kernel's own threads: often half of a host's processes, all in one file. None where process 2 is not their parent, as
/// in a container.
fn kernel_threads(processes: &File) -> HashSet<u32> {
    let is_parent = || {
        /// `PF_KTHREAD`, among the flags.
        const KERNEL: u32 = 0x0020_0000;
        let stat = read_at(processes, "2/stat")?;
        // Behind the name: state, parent, group, session, terminal, its group, flags.
        let (_, rest) = stat.rsplit_once(')')?;
        let flags: u32 = rest.split_ascii_whitespace().nth(6)?.parse().ok()?;
        (flags & KERNEL != 0).then_some(())
    };
    let children = is_parent().and_then(|()| read_at(processes, "2/task/2/children"));
    // Each has a space behind it; where the list was cut, the last one may be the beginning of a number.
    let whole = children.as_deref().and_then(|text| text.rsplit_once(' '));
    let numbers = whole.map_or("", |(numbers, _)| numbers);
    let numbers = numbers.split_ascii_whitespace();
    numbers.filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process runs one of the proxies' programs. Its program is a link, which takes one call to read where its name
/// takes three. Whoever may not see it may not see the
/// descriptors, either, unless he is root without CAP_SYS_PTRACE, as in a container.
fn is_proxy(processes: &File, pid: u32, root: bool) -> bool {
    match readlinkat(processes, format!("{pid}/exe"), Vec::with_capacity(256)) {
        Ok(program) => {
            let program = String::from_utf8_lossy(program.as_bytes());
            let program = program.trim_end_matches(" (deleted)");
            PROXIES.contains(&program.rsplit('/').next().unwrap_or_default())
        }
        Err(Errno::ACCESS | Errno::PERM) if root => {
            let name = read_at(processes, &format!("{pid}/comm")).unwrap_or_default();
            PROXIES.contains(&name.trim())
        }
        Err(_) => false,
    }
}

fn read_at(folder: &File, path: &str) -> Option<String> {
    let file = openat(
        folder,
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let mut text = String::new();
    File::from(file)
        .take(64 * 1024)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

fn open_descriptors(folder: &Path) -> Option<u64> {
    // From Linux 6.2 on the folder's size is the number of descriptors.
    match std::fs::metadata(folder).ok()?.len() {
        0 => Some(std::fs::read_dir(folder).ok()?.count() as u64),
        size => Some(size),
    }
}

/// The soft limit of `Max open files            1024                 524288               files`.
fn file_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(proc: &Path, pid: u32, parent: u32, comm: &str, sockets: &[u32]) {
        let folder = proc.join(pid.to_string());
        std::fs::create_dir_all(folder.join("fd")).unwrap();
        std::fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
        let stat = format!("{pid} ({comm}) S {parent} 1 1 0 -1");
        std::fs::write(folder.join("stat"), stat).unwrap();
        for (at, inode) in sockets.iter().enumerate() {
            let link = folder.join("fd").join(at.to_string());
            std::os::unix::fs::symlink(format!("socket:[{inode}]"), link).unwrap();
        }
    }

    #[test]
    fn a_socket_that_a_child_has_too_is_its_parents() {
        for (first, child) in [(7, 9), (9, 7)] {
            let root = tempfile::tempdir().unwrap();
            process(root.path(), first, 1, "nginx", &[1, 2, 3]);
            process(root.path(), 8, first, "worker) S 1", &[1, 2, 4]);
            process(root.path(), child, 8, "sh", &[2, 4, 5]);
            let mut owners = Owners::of(root.path(), (1..=5).collect()).unwrap();
            owners.list.sort_by(|a, b| a.name.cmp(&b.name));
            let told: Vec<_> = owners
                .list
                .iter()
                .map(|owner| (owner.pids.clone(), owner.sockets))
                .collect();
            assert_eq!(told, [(vec![first], 3), (vec![child], 1), (vec![8], 1)]);
        }
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 7, 8, "a", &[1]);
        process(root.path(), 8, 7, "b", &[1]);
        let owners = Owners::of(root.path(), [1].into()).unwrap();
        assert_eq!(owners.list[0].sockets, 1);
    }

    #[test]
    fn owners_are_found_by_their_descriptors() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 7, 1, "nginx", &[1, 2]);
        process(root.path(), 8, 1, "nginx", &[3]);
        process(root.path(), 9, 1, "curl", &[4, 99]);
        std::fs::create_dir(root.path().join("10")).unwrap();
        let mut owners = Owners::of(root.path(), (1..=5).collect()).unwrap();
        for owner in &mut owners.list {
            owner.pids.sort_unstable();
        }
        assert_eq!(
            owners.words(),
            "3 of 5 live sockets: nginx (processes 7, 8); 1 of 5 live sockets: curl (process 9); 1 of unknown owners (1 \
             processes may not be looked at: that needs root with CAP_SYS_PTRACE)"
        );
        assert_eq!(Owners::default().words(), "no live sockets");
    }

    #[test]
    fn the_open_files_of_proxies_are_held_against_their_own_limit() {
        let root = tempfile::tempdir().unwrap();
        for (pid, program, soft) in [
            (7, "/usr/sbin/nginx", 10),
            (8, "/usr/sbin/nginx (deleted)", 4),
            (9, "/usr/bin/curl", 1),
        ] {
            let folder = root.path().join(pid.to_string());
            std::fs::create_dir_all(folder.join("fd")).unwrap();
            std::os::unix::fs::symlink(program, folder.join("exe")).unwrap();
            let text = format!(
                "Limit   Soft Limit  Hard Limit  Units\nMax open files            {soft}   99   files\n"
            );
            std::fs::write(folder.join("limits"), text).unwrap();
        }
        assert_eq!(open_files(root.path()).unwrap().limit, 4);
        // The kernel's threads are not looked at; in a container, process 2 is anybody.
        std::fs::create_dir_all(root.path().join("2/task/2")).unwrap();
        std::fs::write(root.path().join("2/task/2/children"), "8 9 ").unwrap();
        for (flags, limit) in [(0x40_0000, 4), (0x20_8040, 10)] {
            let stat = format!("2 (k) 0 (d) S 0 0 0 0 -1 {flags} 0 0");
            std::fs::write(root.path().join("2/stat"), stat).unwrap();
            assert_eq!(open_files(root.path()).unwrap().limit, limit);
        }
        assert_eq!(
            file_limit("Max open files  unlimited unlimited files"),
            None
        );
    }

    #[test]
    fn the_most_files_that_a_proxy_had_open_are_kept_and_looked_for_now_and_then() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("7");
        std::fs::create_dir_all(folder.join("fd")).unwrap();
        std::os::unix::fs::symlink("/usr/sbin/nginx", folder.join("exe")).unwrap();
        // The size of a folder is one of the file system's, and 4096 or 0 as a rule: the limit tells the looks apart.
        let limit = |limit: u32| {
            let line = format!("Max open files {limit} 99 files\n");
            std::fs::write(folder.join("limits"), line).unwrap();
        };
        let mut files = OpenFiles::default();
        let mut limit_seen = |is_last: bool| {
            files.due = files.due.map(|_| Instant::now() + Duration::from_mins(1));
            files.look(root.path(), is_last);
            files.most().unwrap().limit
        };
        std::fs::write(folder.join("fd/0"), "").unwrap();
        limit(40);
        assert_eq!(limit_seen(false), 40);
        limit(4);
        assert_eq!(limit_seen(false), 40, "not due yet");
        assert_eq!(limit_seen(true), 4);
        limit(40);
        assert_eq!(limit_seen(true), 4, "there was worse");
    }
}
