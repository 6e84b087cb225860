//! The folder of `--evidence`: entries are made whole or not at all, and of what lies there only what this program made
//! is ever removed.
//!
//! Everything below the folder goes through its descriptor and never through a link, so that it does not matter what is
//! put in the place of a name in between. One run at a time writes.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, fchmod, fstat, mkdirat, openat, renameat,
    renameat_with, unlinkat,
};
use rustix::io::Errno;

use super::keep::Keep;

/// The file that tells an entry from everything else, and its first line.
pub const SUMMARY: &str = "summary.txt";
/// See [`SUMMARY`].
pub const MARK: &str = "check_http_retry evidence, version 1\n";

/// An entry that is being made, and one that is being removed.
const NEW: &str = ".new-";
const OLD: &str = ".old-";

const LOCK: &str = ".lock";

/// How names begin: the time of the probe in UTC.
const TIME: &str = "%Y%m%dT%H%M%S.%3fZ";

/// The most names that are looked at.
const NAMES: usize = 100_000;

/// The most files of an entry.
const FILES: usize = 100;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A folder that belongs to this user alone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    fd: OwnedFd,
    keep: Keep,
}

/// An entry to be made: its name, and its files by name.
#[derive(Debug)]
pub struct Entry {
    /// See [`name`].
    pub name: String,
    /// [`SUMMARY`] is one of them.
    pub files: Vec<(String, Vec<u8>)>,
}

/// The name of an entry: when its probe began, by which path, and a number that no other has.
pub fn name(at: Timestamp, path: &str, number: &str) -> String {
    let path: String = path
        .chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .take(40)
        .collect();
    let time = at.to_zoned(TimeZone::UTC).strftime(TIME);
    format!("{time}_{path}_{number}")
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

/// When the probe of an entry began; `None` for what is no entry's name.
fn time_of(name: &str) -> Option<Timestamp> {
    let (time, rest) = name.split_once('_')?;
    if name.len() > 120 || rest.is_empty() || !rest.chars().all(is_plain) {
        return None;
    }
    let time = DateTime::strptime("%Y%m%dT%H%M%S.%fZ", time).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

impl Folder {
    /// Opens it, making it where it is missing. It must belong to this user, and nobody else may write to it.
    #[cold]
    pub fn open(path: &Path, keep: Keep) -> anyhow::Result<Self> {
        // Without a slash at its end, behind which a link would be followed.
        let path: PathBuf = path.components().collect();
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {shown}"))?;
        let folder = openat(CWD, &path, FOLDER, Mode::empty()).map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR => {
                anyhow::anyhow!("{shown} is no folder, or a link to one: name the folder itself")
            }
            error => {
                anyhow::Error::new(io::Error::from(error)).context(format!("cannot open {shown}"))
            }
        })?;
        let status = fstat(&folder).with_context(|| format!("cannot look at {shown}"))?;
        let user = rustix::process::geteuid().as_raw();
        ensure!(
            status.st_uid == user,
            "{shown} belongs to user {}, and this check runs as {user}: give a folder of its own",
            status.st_uid
        );
        ensure!(
            status.st_mode & 0o022 == 0,
            "others may write to {shown} (mode {:04o}): chmod 700 it",
            status.st_mode & 0o7777
        );
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        must_be_safe(parent.unwrap_or(Path::new(".")), user)?;
        Ok(Self {
            path,
            fd: folder,
            keep,
        })
    }

    /// The path of an entry.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes entries, one after the other, and removes old ones beyond what is kept. Returns what became of each, and
    /// the names of the old ones.
    pub fn store(
        &self,
        entries: impl Iterator<Item = Entry>,
        now: Timestamp,
    ) -> anyhow::Result<(Vec<anyhow::Result<String>>, Vec<String>)> {
        let lock = self.lock(true)?;
        self.sweep();
        let made = entries.map(|entry| {
            self.make(&entry)
                .with_context(|| format!("cannot make {}", self.path_of(&entry.name).display()))?;
            Ok(entry.name)
        });
        let made = made.collect();
        let removed = self.tidy(now);
        drop(lock);
        Ok((made, removed))
    }

    /// Removes what is too old, unless another run is at it.
    #[cold]
    pub fn expire(&self, now: Timestamp) {
        let over = |name: &String| time_of(name).is_some_and(|time| self.is_over(time, now));
        if self.names().iter().any(over)
            && let Ok(lock) = self.lock(false)
        {
            self.sweep();
            self.tidy(now);
            drop(lock);
        }
    }

    fn is_over(&self, time: Timestamp, now: Timestamp) -> bool {
        let age = now.as_second().saturating_sub(time.as_second());
        u64::try_from(age).is_ok_and(|age| age > self.keep.age.as_secs())
    }

    fn lock(&self, wait: bool) -> anyhow::Result<File> {
        let what = || format!("cannot lock {}", self.path.join(LOCK).display());
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.fd, LOCK, flags, Mode::RUSR | Mode::WUSR).with_context(what)?;
        let file = File::from(file);
        ensure!(file.metadata()?.is_file(), "{}: it is no file", what());
        if wait {
            file.lock().with_context(what)?;
        } else {
            file.try_lock()
                .map_err(io::Error::from)
                .with_context(what)?;
        }
        Ok(file)
    }

    fn make(&self, entry: &Entry) -> io::Result<()> {
        let temporary = format!("{NEW}{}", entry.name);
        mkdirat(&self.fd, &temporary, Mode::RWXU)?;
        let made = self.fill(&temporary, entry);
        if made.is_err() {
            self.remove(&temporary);
        }
        made
    }

    fn fill(&self, temporary: &str, entry: &Entry) -> io::Result<()> {
        let folder = openat(&self.fd, temporary, FOLDER, Mode::empty())?;
        // An umask or a default ACL must not decide who may read.
        fchmod(&folder, Mode::RWXU)?;
        for (name, bytes) in &entry.files {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(&folder, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
            fchmod(&file, Mode::RUSR | Mode::WUSR)?;
            let mut file = File::from(file);
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        // Not every file system can do this for folders.
        let _ = rustix::fs::fsync(&folder);
        let (place, name) = (&self.fd, entry.name.as_str());
        match renameat_with(place, temporary, place, name, RenameFlags::NOREPLACE) {
            // Nor this; no other entry has the name.
            Err(Errno::INVAL | Errno::NOSYS) => renameat(place, temporary, place, name)?,
            other => other?,
        }
        let _ = rustix::fs::fsync(&self.fd);
        Ok(())
    }

    /// Removes what a run that was killed left half made or half removed.
    fn sweep(&self) {
        for name in self.names() {
            let half = [NEW, OLD]
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix));
            if half.and_then(time_of).is_some() {
                self.remove(&name);
            }
        }
    }

    /// Removes entries beyond what is kept, the oldest first; returns their names.
    fn tidy(&self, now: Timestamp) -> Vec<String> {
        let mut entries: Vec<_> = self
            .names()
            .into_iter()
            .filter_map(|name| Some((time_of(&name)?, name)))
            .collect();
        entries.sort_unstable();
        let mut removed = Vec::new();
        let (mut number, mut bytes) = (0, 0);
        for (time, name) in entries.into_iter().rev() {
            // Where anything else lies, somebody wants to keep it: it does not count.
            let Some(size) = self.size_of(&name) else {
                continue;
            };
            number += 1;
            bytes += size;
            let beyond = number > self.keep.number || (number > 1 && bytes > self.keep.bytes);
            if beyond || self.is_over(time, now) {
                let old = format!("{OLD}{name}");
                if renameat(&self.fd, name.as_str(), &self.fd, old.as_str()).is_ok() {
                    self.remove(&old);
                    removed.push(name);
                }
            }
        }
        removed
    }

    /// The bytes of an entry, if it is one and nothing else lies in it.
    fn size_of(&self, name: &str) -> Option<u64> {
        let folder = openat(&self.fd, name, FOLDER, Mode::empty()).ok()?;
        if fstat(&folder).ok()?.st_uid != rustix::process::geteuid().as_raw() {
            return None;
        }
        let mut size = 0;
        for file in names_in(&folder, FILES + 1) {
            let status =
                rustix::fs::statat(&folder, file.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let regular = rustix::fs::FileType::from_raw_mode(status.st_mode).is_file();
            if !is_ours(&file) || !regular {
                return None;
            }
            size += u64::try_from(status.st_size).unwrap_or(0);
        }
        is_marked(&folder).then_some(size)
    }

    /// Removes a folder that was an entry or was to become one: its files, and itself once it is empty.
    fn remove(&self, name: &str) {
        let Ok(folder) = openat(&self.fd, name, FOLDER, Mode::empty()) else {
            return;
        };
        for file in names_in(&folder, FILES + 1)
            .iter()
            .filter(|file| is_ours(file))
        {
            let _ = unlinkat(&folder, file.as_str(), AtFlags::empty());
        }
        let _ = unlinkat(&self.fd, name, AtFlags::REMOVEDIR);
    }

    fn names(&self) -> Vec<String> {
        names_in(&self.fd, NAMES)
    }
}

/// The names in a folder, as far as they are text.
fn names_in(folder: impl AsFd, most: usize) -> Vec<String> {
    let Ok(entries) = Dir::read_from(folder) else {
        return Vec::new();
    };
    let names = entries.filter_map(Result::ok).filter_map(|entry| {
        let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_str()?;
        (name != "." && name != "..").then(|| name.to_owned())
    });
    names.take(most).collect()
}

/// Whether a file of an entry has this name.
fn is_ours(name: &str) -> bool {
    let Some((side, rest)) = name.split_once(['.', '-']) else {
        return false;
    };
    let numbered = |rest: &str| {
        rest.split_once('.').is_some_and(|(number, kind)| {
            number.len() <= 3
                && number.bytes().all(|b| b.is_ascii_digit())
                && ["sent", "received"].contains(&kind)
        })
    };
    name == SUMMARY
        || (["failed", "good"].contains(&side)
            && (["har", "pcapng"].contains(&rest) || numbered(rest)))
}

fn is_marked(folder: impl AsFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(folder, SUMMARY, flags, Mode::empty()) else {
        return false;
    };
    let mut begin = vec![0; MARK.len()];
    File::from(file).read_exact(&mut begin).is_ok() && begin == MARK.as_bytes()
}

/// In a folder that others may change they could put another one in the place of ours.
fn must_be_safe(parent: &Path, user: u32) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(parent)
        .with_context(|| format!("cannot look at {}", parent.display()))?;
    let sticky = metadata.mode() & 0o1000 != 0;
    let of_others = metadata.uid() != user && metadata.uid() != 0;
    if of_others || (metadata.mode() & 0o022 != 0 && !sticky) {
        bail!(
            "others may change {} (owner {}, mode {:04o}): give a folder elsewhere",
            parent.display(),
            metadata.uid(),
            metadata.mode() & 0o7777
        );
    }
    Ok(())
}
