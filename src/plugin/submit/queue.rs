//! Results that wait to be sent: one file each, in a folder of this user's.
//!
//! A file appears whole (written under another name, then renamed) and goes when Icinga has what is in it, so that a
//! plugin which is killed at any moment loses nothing and repeats nothing. Several may write; the one that holds the
//! lock sends. Names sort by time. What cannot be written is kept in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::passive::{Name, Passive};
use crate::plugin::state_file;

/// How many results are kept in memory where the folder cannot be written.
const UNSAVED_LIMIT: usize = 1000;

/// The most that is read of one file; the text of a report is shorter.
const FILE_LIMIT: u64 = 1 << 20;

/// After this time a file that is not renamed yet belongs to somebody who was killed.
const STALE: Duration = Duration::from_mins(10);

/// What became of a result that came in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// How many older ones had to go.
    pub dropped: usize,
    /// Why it is in memory alone.
    pub unsaved: Option<String>,
}

/// The queue of one service.
#[derive(Debug)]
pub struct Queue {
    /// `None` where there is no place for it.
    folder: Option<PathBuf>,
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The lock on the folder, while this process holds it.
    lock: Option<File>,
    /// The latest time in a name: names go up even where the clock does not.
    latest: i64,
    /// How many results there are, as far as this process knows.
    count: usize,
    /// What could not be written.
    unsaved: BTreeMap<Name, Passive>,
    /// Why the folder could not be listed, the last time.
    unlisted: Option<String>,
}

impl Queue {
    /// Takes a folder in use, making it where it is missing.
    pub fn open(folder: PathBuf, limit: usize) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        state_file::must_be_safe(&folder, "--submit-queue")?;
        let queue = Self {
            folder: Some(folder),
            limit,
            inner: Mutex::default(),
        };
        let names = queue.names();
        let mut inner = queue.inner();
        inner.latest = names.last().and_then(Name::stamp).unwrap_or_default();
        drop(inner);
        Ok(queue)
    }

    /// One that has no place but memory.
    pub fn in_memory(limit: usize) -> Self {
        Self {
            folder: None,
            limit,
            inner: Mutex::default(),
        }
    }

    /// Whether this process may send: no other one does. Tries to get there.
    pub fn hold(&self) -> io::Result<bool> {
        let mut inner = self.inner();
        let Some(folder) = self.folder.as_ref().filter(|_| inner.lock.is_none()) else {
            return Ok(true);
        };
        let file = open_options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("lock"))?;
        match file.try_lock() {
            Ok(()) => {
                inner.lock = Some(file);
                drop(inner);
                self.sweep();
                Ok(true)
            }
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Adds a result, making room where there is none.
    pub fn push(&self, result: Passive) -> Kept {
        let mut kept = Kept::default();
        if self.inner().count >= self.limit {
            kept.dropped = self.make_room(self.limit - 1);
        }
        let mut inner = self.inner();
        inner.latest = result.end.max(inner.latest + 1);
        let name = Name::new(inner.latest, result.state);
        drop(inner);
        let written = self.write(&name, &result);
        let mut inner = self.inner();
        inner.count += 1;
        let Err(error) = written else {
            return kept;
        };
        if self.folder.is_some() {
            kept.unsaved = Some(error.to_string());
        }
        inner.unsaved.insert(name, result);
        while inner.unsaved.len() > UNSAVED_LIMIT {
            let oldest = inner.unsaved.keys().find(|name| name.is_ok());
            let oldest = oldest.or(inner.unsaved.keys().next()).cloned();
            oldest.and_then(|name| inner.unsaved.remove(&name));
            inner.count = inner.count.saturating_sub(1);
            kept.dropped += 1;
        }
        kept
    }

    /// All results, the oldest first, as far as they can be listed.
    pub fn names(&self) -> Vec<Name> {
        let mut names = BTreeSet::new();
        let listed = self.list(&mut names);
        let mut inner = self.inner();
        names.extend(inner.unsaved.keys().cloned());
        match listed {
            Ok(()) => inner.count = names.len(),
            // There may be more.
            Err(_) => inner.count = inner.count.max(names.len()),
        }
        inner.unlisted = listed.err().map(|error| error.to_string());
        names.into_iter().collect()
    }

    fn list(&self, names: &mut BTreeSet<Name>) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            names.extend(entry?.file_name().to_str().and_then(Name::parse));
        }
        Ok(())
    }

    /// Why there may be more than [`Queue::names`] gave the last time.
    pub fn unlisted(&self) -> Option<String> {
        self.inner().unlisted.clone()
    }

    /// How many results wait, as far as this process knows.
    pub fn len(&self) -> usize {
        self.inner().count
    }

    /// What is in a file; `None` where somebody took it. An error is of the file, where it [`is_damage`].
    pub fn read(&self, name: &Name) -> io::Result<Option<Passive>> {
        if let Some(result) = self.inner().unsaved.get(name) {
            return Ok(Some(result.clone()));
        }
        let Some(path) = self.path(name) else {
            return Ok(None);
        };
        let file = match open_options().read(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = String::new();
        file.take(FILE_LIMIT).read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Puts a result in the place of what was there.
    pub fn rewrite(&self, name: &Name, result: &Passive) -> io::Result<()> {
        if let Some(old) = self.inner().unsaved.get_mut(name) {
            old.clone_from(result);
            return Ok(());
        }
        self.write(name, result)
    }

    /// Takes a result out.
    pub fn remove(&self, name: &Name) -> io::Result<()> {
        let mut inner = self.inner();
        inner.count = inner.count.saturating_sub(1);
        if inner.unsaved.remove(name).is_some() {
            return Ok(());
        }
        drop(inner);
        match self.path(name).map_or(Ok(()), fs::remove_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Where the results are, for a reader.
    pub fn place(&self) -> String {
        match &self.folder {
            Some(folder) => folder.display().to_string(),
            None => "memory".to_owned(),
        }
    }

    /// Drops results until no more than this many are there: the oldest OK ones first, then the oldest. Never the very
    /// first, which may be on its way. Returns how many.
    fn make_room(&self, most: usize) -> usize {
        let names = self.names();
        // A hundredth at a time, so that a full queue is not listed for each result.
        let most = most.saturating_sub(self.limit / 100).max(1);
        let too_many = names.len().saturating_sub(most.max(1));
        if names.len() < self.limit {
            return 0;
        }
        let rest = names.get(1..).unwrap_or_default();
        let (good, bad): (Vec<_>, Vec<_>) = rest.iter().partition(|name| name.is_ok());
        let victims = good.into_iter().chain(bad).take(too_many);
        victims.filter(|name| self.remove(name).is_ok()).count()
    }

    fn write(&self, name: &Name, result: &Passive) -> io::Result<()> {
        let folder = self.folder.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let text = serde_json::to_vec(result)?;
        let new = folder.join(format!(".{}", name.0));
        let written = open_options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&new, folder.join(&name.0)));
        written.inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// Takes away what was being written when its writer was killed.
    fn sweep(&self) {
        for entry in self
            .folder
            .iter()
            .flat_map(fs::read_dir)
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let half = name.to_str().and_then(|name| name.strip_prefix('.'));
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age =
                modified.map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
            if half.and_then(Name::parse).is_some() && age.is_ok_and(|age| age > STALE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, name: &Name) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(&name.0))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic ends the process: nobody sees what it left behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error is of what is in a file, or of what stands in its place, and will never pass. All others may: of this
/// host's descriptors, of a network's disk, of rights that somebody gives back.
pub fn is_damage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let of_the_text = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    of_the_text.contains(&error.kind()) || matches!(errno, Some(Errno::LOOP | Errno::ISDIR))
}

/// Whether an error is of what this host lacks for now.
pub fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// For this user alone, and never through a link.
fn open_options() -> OpenOptions {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut options = OpenOptions::new();
    options
        .mode(0o600)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    options
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn passive(state: u8, end: i64) -> Passive {
        Passive {
            state,
            output: format!("result {end}"),
            perfdata: vec!["a=1".to_owned()],
            start: end - 1,
            end,
        }
    }

    fn ends(queue: &Queue) -> Vec<i64> {
        let names = queue.names();
        let read = names.iter().map(|name| queue.read(name).unwrap().unwrap());
        read.map(|result| result.end).collect()
    }

    #[test]
    fn results_come_out_in_the_order_in_which_they_came_in_whatever_the_clock_does() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("deep/er");
        let queue = Queue::open(place.clone(), 10).unwrap();
        for end in [500, 600, 300] {
            assert_eq!(queue.push(passive(0, end)), Kept::default());
        }
        drop(queue);
        let queue = Queue::open(place.clone(), 10).unwrap();
        queue.push(passive(2, 100));
        assert_eq!(ends(&queue), [500, 600, 300, 100]);
        let names = queue.names();
        let changed = passive(1, 601);
        queue.rewrite(&names[1], &changed).unwrap();
        queue.remove(&names[0]).unwrap();
        assert_eq!(ends(&queue), [601, 300, 100]);
        assert_eq!(queue.len(), 3);
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&place), 0o700);
        assert_eq!(mode(&place.join(&names[1].0)), 0o600);
    }

    #[test]
    fn what_cannot_be_listed_now_is_not_gone() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("q");
        let aside = folder.path().join("aside");
        let queue = Queue::open(place.clone(), 10).unwrap();
        queue.push(passive(0, 500));
        fs::rename(&place, &aside).unwrap();
        fs::write(&place, "").unwrap();
        assert_eq!(queue.names(), []);
        assert_eq!(queue.len(), 1);
        assert!(queue.unlisted().unwrap().contains("Not a directory"));
        fs::remove_file(&place).unwrap();
        fs::rename(&aside, &place).unwrap();
        assert_eq!(ends(&queue), [500]);
        assert_eq!(queue.unlisted(), None);
    }

    #[test]
    fn a_lack_of_this_host_is_told_from_a_damaged_file() {
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::IO,
            Errno::ACCESS,
            Errno::STALE,
        ] {
            assert!(!is_damage(&errno.into()), "{errno}");
        }
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::open(folder.path().join("q"), 10).unwrap();
        for text in [&b"{\"state\":0"[..], b"\xff", b""] {
            queue.push(passive(0, 500));
            let name = queue.names().remove(0);
            fs::write(queue.path(&name).unwrap(), text).unwrap();
            assert!(is_damage(&queue.read(&name).unwrap_err()));
            queue.remove(&name).unwrap();
        }
    }

    #[test]
    fn a_full_queue_drops_the_oldest_good_results_and_never_the_one_on_its_way() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::open(folder.path().join("q"), 4).unwrap();
        for (state, end) in [(0, 1), (2, 2), (0, 3), (0, 4)] {
            assert_eq!(queue.push(passive(state, end)).dropped, 0);
        }
        for (state, end, left) in [
            (0, 5, [1, 2, 4, 5]),
            (2, 6, [1, 2, 5, 6]),
            (2, 7, [1, 2, 6, 7]),
            (0, 8, [1, 6, 7, 8]),
        ] {
            assert_eq!(queue.push(passive(state, end)).dropped, 1);
            assert_eq!(ends(&queue), left);
        }
    }

    #[test]
    fn one_holds_the_queue_and_others_may_add_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Queue::open(folder.path().join("q"), 10).unwrap();
        let (first, second) = (open(), open());
        assert!(first.hold().unwrap() && !second.hold().unwrap());
        second.push(passive(0, 1));
        assert_eq!(ends(&first), [1]);
        drop(first);
        assert!(second.hold().unwrap());
    }

    #[test]
    fn what_cannot_be_written_is_kept_in_memory_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("q");
        let queue = Queue::open(place.clone(), 10).unwrap();
        queue.push(passive(0, 1));
        fs::rename(&place, folder.path().join("away")).unwrap();
        assert!(queue.push(passive(0, 2)).unsaved.is_some());
        fs::rename(folder.path().join("away"), &place).unwrap();
        queue.push(passive(0, 3));
        assert_eq!(ends(&queue), [1, 2, 3]);
        let memory = Queue::in_memory(2);
        for end in 1..=4 {
            assert_eq!(memory.push(passive(2, end)).unsaved, None);
        }
        assert_eq!(ends(&memory), [1, 4]);
        assert!(memory.hold().unwrap());
    }

    #[test]
    fn strange_files_are_left_alone_and_damaged_ones_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("q");
        let queue = Queue::open(place.clone(), 10).unwrap();
        for name in [
            "lock",
            "x.result",
            ".000000000000000001-0-00000000.result",
            "\u{e9}",
        ] {
            fs::write(place.join(name), "x").unwrap();
        }
        assert!(queue.names().is_empty());
        queue.push(passive(0, 1));
        let names = queue.names();
        fs::write(place.join(&names[0].0), "{\"state\":0").unwrap();
        assert!(is_damage(&queue.read(&names[0]).unwrap_err()));
        fs::remove_file(place.join(&names[0].0)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", place.join(&names[0].0)).unwrap();
        assert!(is_damage(&queue.read(&names[0]).unwrap_err()));
    }
}
