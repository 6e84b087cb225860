//! A file to which runs append what they measure, a line of JSON for each record; `docs/journal.md` says what users may
//! rely on.
//!
//! Several runs may write to one file at once, also while one of them rotates it. Each record is one `write` with
//! `O_APPEND`, under a lock that is held for that long only: so nobody writes between another one's look at the end of
//! the file and his record, and only one run at a time renames. Who finds that the path names another file by now opens
//! that one. A run that is killed within a record leaves half a line at most, and the next one closes it with a line feed
//! before it goes on.
//!
//! A journal is beside the point of a check: whatever goes wrong with it is kept to be said, and nothing else changes.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::fs::OFlags;
use serde::Serialize;
use serde_json::json;

use super::Report;
use super::state_file::must_be_ours;

/// How many earlier files are kept: `FILE.1` is the latest of them.
const KEPT: u32 = 4;

/// A journal takes at least so much in all: a file of it should hold a few records.
const LEAST: u64 = 50_000;

/// How often to look again for the file of that name, where others rename it at the same time.
const TRIES: u32 = 20;

/// How long to wait for the lock. It is held for the time of a `write`; somebody who is stopped may hold it for good.
const PATIENCE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_micros(100);

/// Its options.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Journal")]
pub struct JournalArgs {
    /// Append what is measured to this file as it comes, a line of JSON for each probe or look; several runs may share it
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,

    /// The most that the journal takes with its four earlier files, FILE.1 to FILE.4; the oldest goes first
    #[arg(long, value_name = "SIZE", default_value = "100M", value_parser = parse_bytes)]
    pub journal_size: u64,
}

impl JournalArgs {
    /// The journal, where one is asked for.
    pub fn open(&self) -> Option<Journal> {
        let path = self.journal.as_deref()?;
        Some(Journal::new(path, self.journal_size))
    }
}

/// A journal that this run appends to.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// The most that one file holds.
    limit: u64,
    open: Option<Open>,
    /// A line feed, for the half line of somebody else, and then the record.
    line: Vec<u8>,
    /// Whether the lock is worth waiting for.
    patient: bool,
    written: u64,
    lost: u64,
    trouble: Option<String>,
}

/// The file that had the journal's name when it was opened.
#[derive(Debug)]
struct Open {
    file: File,
    /// Its size behind our last record; another size says that others wrote since.
    end: u64,
}

impl Journal {
    /// A journal that takes so many bytes in all. Nothing is opened before the first record.
    pub fn new(path: &Path, size: u64) -> Self {
        Self {
            path: path.to_owned(),
            limit: size / u64::from(KEPT + 1),
            open: None,
            line: Vec::new(),
            patient: true,
            written: 0,
            lost: 0,
            trouble: None,
        }
    }

    /// Appends a record.
    pub fn append(&mut self, record: &impl Serialize) {
        match self.try_append(record) {
            Ok(()) => self.written += 1,
            Err(error) => {
                self.open = None;
                self.lost += 1;
                // The first reason: those that follow come of it, or are the same.
                self.trouble.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    /// Tells in the report what became of it.
    pub fn tell(&self, report: &mut Report) {
        let path = self.path.display();
        if let Some(trouble) = &self.trouble {
            let all = self.written + self.lost;
            let lost = self.lost;
            report.line(
                0,
                format!("the journal {path} lacks {lost} of {all} records of this run: {trouble}"),
            );
        }
        if report.details.is_object() {
            report.details["journal"] = json!({
                "path": path.to_string(),
                "written": self.written,
                "lost": self.lost,
                "trouble": self.trouble,
            });
        }
    }

    fn try_append(&mut self, record: &impl Serialize) -> anyhow::Result<()> {
        self.line.clear();
        self.line.push(b'\n');
        serde_json::to_writer(&mut self.line, record).context("a record cannot be written down")?;
        self.line.push(b'\n');
        for _ in 0..TRIES {
            let open = match self.open.take() {
                Some(open) => open,
                None => open_journal(&self.path)?,
            };
            let locked = self.lock(&open.file);
            let metadata = open.file.metadata()?;
            if !has_the_name(&self.path, &metadata) {
                // Somebody else has renamed it. Closing it gives the lock back.
                continue;
            }
            let size = metadata.len();
            let full = size > 0 && size + self.line.len() as u64 > self.limit;
            if full && locked {
                // Still under the lock of the file that is renamed: who waits for it looks for its name again.
                rotate(&self.path).context("it is full and cannot be renamed")?;
                continue;
            }
            if full && size > 2 * self.limit {
                bail!("it is full, and somebody else holds its lock");
            }
            let end = self.write(&open, size, locked)?;
            if locked {
                open.file.unlock()?;
            }
            self.open = Some(Open { end, ..open });
            return Ok(());
        }
        bail!("others rename it all the time");
    }

    /// Writes the record, in one piece where the kernel takes it so. Returns the size of the file behind it.
    fn write(&self, open: &Open, size: u64, locked: bool) -> anyhow::Result<u64> {
        let torn = open.end != size && !ends_a_line(&open.file, size)?;
        let line = &self.line[usize::from(!torn)..];
        let mut rest = line;
        while !rest.is_empty() {
            match (&open.file).write(rest) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Less than all of it mostly says that the disk is full, which the next writing tells for sure.
                Ok(written @ 1..) if locked || written == rest.len() => rest = &rest[written..],
                refused => {
                    // What is there of it would be half a line; without the lock others may have gone on behind it.
                    if locked {
                        open.file.set_len(size)?;
                    }
                    refused?;
                    bail!("the disk is full");
                }
            }
        }
        Ok(size + line.len() as u64)
    }

    /// Takes the lock if it is to be had in good time. Without it a record is still written in one piece.
    fn lock(&mut self, file: &File) -> bool {
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => {
                    self.patient = true;
                    return true;
                }
                Err(std::fs::TryLockError::WouldBlock)
                    if self.patient && begun.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(PAUSE);
                }
                Err(_) => {
                    self.patient = false;
                    return false;
                }
            }
        }
    }
}

fn open_journal(path: &Path) -> anyhow::Result<Open> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path);
    let file = match file {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            bail!("it is a link, which is not followed")
        }
        file => file?,
    };
    must_be_ours(&file, path, "--journal")?;
    // Who may put names into its folder may have given it to a file of ours that is none of his to write.
    if file.metadata()?.nlink() > 1 {
        bail!("it has another name besides (a hard link): remove it, or give another --journal");
    }
    // What an earlier run left is looked at before the first record, unless there is nothing.
    Ok(Open { file, end: 0 })
}

/// Whether the path still names this file.
fn has_the_name(path: &Path, metadata: &Metadata) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|named| named.ino() == metadata.ino() && named.dev() == metadata.dev())
}

fn ends_a_line(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [b'\n'];
    if size > 0 {
        file.read_at(&mut last, size - 1)?;
    }
    Ok(last == *b"\n")
}

/// Makes `FILE.1` of the journal, and of each earlier file the next one; the last of them is overwritten.
fn rotate(path: &Path) -> io::Result<()> {
    let is_free = |n: &u32| std::fs::symlink_metadata(numbered(path, *n)).is_err();
    // A number that is missing ends the row: a run that was killed in between has begun to move them.
    let last = (1..KEPT).find(is_free).unwrap_or(KEPT);
    for n in (1..last).rev() {
        std::fs::rename(numbered(path, n), numbered(path, n + 1))?;
    }
    std::fs::rename(path, numbered(path, 1))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

/// A size in bytes, as `500000`, `64K`, `100M` or `2G`, by thousands; at least [`LEAST`].
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" | "B" => 1,
        "k" | "K" | "kB" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        _ => 0,
    };
    digits
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(factor))
        .filter(|bytes| (LEAST..=1 << 50).contains(bytes))
        .ok_or_else(|| format!("'{text}': give a size from 50K on, as in 100M or 2G"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::plugin::State;

    fn journal(path: &Path) -> Journal {
        Journal::new(path, LEAST)
    }

    fn numbers(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().filter_map(|line| {
            let value: Value = serde_json::from_str(line).ok()?;
            value["n"].as_u64()
        });
        lines.collect()
    }

    fn trouble(journal: &Journal) -> &str {
        journal.trouble.as_deref().unwrap_or_default()
    }

    #[test]
    fn records_are_appended_to_a_file_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        for n in 0..2 {
            journal(&path).append(&json!({"n": n, "text": "a\nb"}));
        }
        assert_eq!(numbers(&path), [0, 1]);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn half_a_line_of_a_run_that_was_killed_is_closed_before_the_next_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut ours = journal(&path);
        ours.append(&json!({"n": 1}));
        for half in ["{\"n\":7", "{"] {
            let mut other = OpenOptions::new().append(true).open(&path).unwrap();
            other.write_all(half.as_bytes()).unwrap();
            ours.append(&json!({"n": 2}));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"n\":1}\n{\"n\":7\n{\"n\":2}\n{\n{\"n\":2}\n");
    }

    #[test]
    fn a_full_file_is_renamed_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut ours = journal(&path);
        let mut other = journal(&path);
        let text = "x".repeat(970);
        for n in 0..100 {
            // Who did not rename finds the new file.
            let writer = if n % 7 == 0 { &mut other } else { &mut ours };
            writer.append(&json!({"n": n, "text": text}));
        }
        assert_eq!((ours.lost, other.lost), (0, 0), "{}", trouble(&ours));
        let mut all = Vec::new();
        for n in (1..=KEPT).rev() {
            let kept = numbers(&numbered(&path, n));
            assert!((8..=10).contains(&kept.len()), "{kept:?}");
            all.extend(kept);
        }
        all.extend(numbers(&path));
        let first = *all.first().unwrap();
        assert!(all.iter().copied().eq(first..100), "{all:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5);
        // Somebody else's rotation, or removal.
        std::fs::remove_file(&path).unwrap();
        ours.append(&json!({"n": 100}));
        assert_eq!(numbers(&path), [100]);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let target = folder.path().join("target");
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let mut ours = journal(&path);
        ours.append(&json!({"n": 1}));
        assert!(trouble(&ours).contains("link"), "{}", trouble(&ours));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
        ours.append(&json!({"n": 2}));
        assert_eq!(numbers(&path), [2]);
        let mut report = Report::new(State::Ok, "fine");
        ours.tell(&mut report);
        let text = report.text("X", 0);
        assert!(text.contains("lacks 1 of 2 records"), "{text}");
        assert_eq!(report.details["journal"]["lost"], 1);
        for (path, why) in [
            (folder.path().to_owned(), "directory"),
            (folder.path().join("no/such"), "No such file"),
        ] {
            let mut ours = journal(&path);
            ours.append(&json!({}));
            assert!(trouble(&ours).contains(why), "{}", trouble(&ours));
        }
    }

    #[test]
    fn somebody_who_holds_the_lock_for_good_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut ours = journal(&path);
        ours.append(&json!({"n": 0}));
        let stopped = File::open(&path).unwrap();
        stopped.lock().unwrap();
        let begun = Instant::now();
        let text = "x".repeat(970);
        for n in 1..100 {
            ours.append(&json!({"n": n, "text": text}));
        }
        assert!(begun.elapsed() < Duration::from_secs(2));
        // It cannot be renamed then, and ends at twice its size.
        assert!(
            (15..25).contains(&ours.written),
            "{} {}",
            ours.written,
            trouble(&ours)
        );
        drop(stopped);
        ours.append(&json!({"n": 100}));
        assert_eq!(numbers(&path), [100]);
    }

    #[test]
    fn sizes_read_as_they_are_written() {
        for (text, bytes) in [
            ("100M", 100_000_000),
            ("50K", 50_000),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1K", "100", "5T", "-5M", "99999999999G", "1.5M"] {
            assert!(parse_bytes(text).is_err(), "{text} was taken");
        }
    }
}
