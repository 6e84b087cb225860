//! A log and its earlier generations: what to read of which file, oldest first.
//!
//! Generations are found by looking (the same folder, a name that begins alike) and told apart by what was read of
//! them, not by how a rotation tool names them.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::bisect;
use super::clock::Clock;
use super::cursor::Cursor;
use super::owner;

/// How many earlier generations of a log are looked at.
const GENERATIONS: usize = 64;

/// How many earlier generations are remembered.
const REMEMBERED: usize = 32;

/// What is remembered of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file that bore the log's name at the last run.
    pub current: Option<Cursor>,
    /// The generations before it that were read, the latest last.
    pub earlier: Vec<Cursor>,
    /// Whether there was a rotation in the last run: a worker may have gone on writing to the renamed file.
    pub rotated: bool,
    /// The latest time read.
    pub latest: Option<i64>,
    /// Whether lines of nginx' were found in it.
    pub recognised: bool,
    /// The levels of its lines, as bits of `line::Level`.
    pub levels: u8,
}

/// A file, or a part of one, that is to be read.
#[derive(Debug)]
pub struct Part {
    /// Where it was found.
    pub path: PathBuf,
    /// Open for reading.
    pub file: File,
    /// Where to begin.
    pub from: u64,
    /// Whether that is within a line longer than the buffer.
    pub skipping: bool,
    /// Whether it bears the log's name now.
    pub is_current: bool,
}

/// What to read of a log.
#[derive(Debug)]
pub struct Parts {
    /// Oldest first; the last one is current.
    pub parts: Vec<Part>,
    /// Whether the log was rotated or truncated since the last run.
    pub rotated: bool,
}

/// What has to be read of a log to know all that happened after `from`, given what was read before.
pub fn parts(path: &Path, place: &Place, from: i64, clock: &Clock) -> anyhow::Result<Parts> {
    let file = open(path)?;
    let shown = || format!("cannot read {}", path.display());
    match &place.current {
        Some(cursor) => resume(path, file, place, cursor, from, clock).with_context(shown),
        None => look_back(path, file, from, clock).with_context(shown),
    }
}

fn resume(
    path: &Path,
    file: File,
    place: &Place,
    cursor: &Cursor,
    from: i64,
    clock: &Clock,
) -> io::Result<Parts> {
    let fits = cursor.fits(&file)?;
    // Of an empty file nothing is known that could show that it was filled, copied and truncated meanwhile.
    let sure = cursor.offset > 0 && !place.rotated;
    if fits && cursor.is_inode_of(&file)? && sure {
        let (from, skipping) = (cursor.offset, cursor.skipping);
        let parts = vec![part(path, file, from, skipping, true)];
        return Ok(Parts {
            parts,
            rotated: false,
        });
    }
    let mut known: Vec<&Cursor> = place.earlier.iter().chain([cursor]).collect();
    let candidates = generations(path, &file)?;
    // A file with our inode that was renamed is ours, even where the new one begins with the same bytes.
    let mut renamed = false;
    for candidate in &candidates {
        renamed |= cursor.is_inode_of(&candidate.file)? && cursor.fits(&candidate.file)?;
    }
    let goes_on = fits && (cursor.is_inode_of(&file)? || !renamed);
    if goes_on {
        known.pop();
    }
    let mut parts = Vec::new();
    for candidate in candidates {
        if let Some((from, skipping)) =
            rest_of(&candidate, &mut known, from, clock, cursor, goes_on)?
        {
            parts.push(part(&candidate.path, candidate.file, from, skipping, false));
        }
    }
    let (from, skipping) = if goes_on {
        (cursor.offset, cursor.skipping)
    } else {
        (0, false)
    };
    parts.push(part(path, file, from, skipping, true));
    Ok(Parts {
        parts,
        rotated: !goes_on,
    })
}

/// Where to go on in an earlier generation; `None` where nothing of it is wanted.
fn rest_of(
    candidate: &Generation,
    known: &mut Vec<&Cursor>,
    from: i64,
    clock: &Clock,
    current: &Cursor,
    current_goes_on: bool,
) -> io::Result<Option<(u64, bool)>> {
    let file = &candidate.file;
    let mut found = None;
    for (number, cursor) in known.iter().enumerate() {
        if cursor.fits(file)? {
            let same_inode = cursor.is_inode_of(file)?;
            if same_inode || found.is_none() {
                found = Some((number, same_inode));
            }
            if same_inode {
                break;
            }
        }
    }
    if let Some((number, _)) = found {
        let cursor = known.remove(number);
        return Ok(Some((cursor.offset, cursor.skipping)));
    }
    // A copy of what was read already, made at an earlier time.
    for cursor in known.iter() {
        if cursor.shares_head(file)? {
            return Ok(None);
        }
    }
    if current_goes_on && current.shares_head(file)? {
        return Ok(None);
    }
    if candidate.modified < from {
        return Ok(None);
    }
    Ok(Some((
        bisect::start_of(file, candidate.size, from, clock)?,
        false,
    )))
}

fn look_back(path: &Path, file: File, from: i64, clock: &Clock) -> io::Result<Parts> {
    let mut parts = Vec::new();
    let size = file.metadata()?.len();
    let start = bisect::start_of(&file, size, from, clock)?;
    if start == 0 {
        for Generation {
            path,
            file,
            size,
            modified,
        } in generations(path, &file)?
        {
            if modified >= from {
                let start = bisect::start_of(&file, size, from, clock)?;
                parts.push(part(&path, file, start, false, false));
            }
        }
    }
    let rotated = !parts.is_empty();
    parts.push(part(path, file, start, false, true));
    Ok(Parts { parts, rotated })
}

fn part(path: &Path, file: File, from: u64, skipping: bool, is_current: bool) -> Part {
    Part {
        path: path.to_owned(),
        file,
        from,
        skipping,
        is_current,
    }
}

impl Place {
    /// What to remember after these were read, each up to its place; the flag says which one bears the log's name.
    /// Where reading was ended early that one may be missing.
    pub fn advance(&mut self, read: Vec<(Cursor, bool)>, rotated: bool) {
        let whole = read.last().is_some_and(|(_, is_current)| *is_current);
        let mut current = None;
        if rotated {
            self.earlier.extend(self.current.take());
        }
        for (cursor, is_current) in read {
            self.earlier
                .retain(|known| !known.is_earlier_part_of(&cursor));
            if is_current {
                current = Some(cursor);
            } else {
                self.earlier.push(cursor);
            }
        }
        if rotated && !whole {
            // The next run finds this one renamed, and goes on from there.
            current = self.earlier.pop();
        }
        if current.is_some() {
            self.current = current;
        }
        let surplus = self.earlier.len().saturating_sub(REMEMBERED);
        self.earlier.drain(..surplus);
        self.rotated = rotated;
    }
}

/// An earlier generation of a log.
struct Generation {
    path: PathBuf,
    file: File,
    size: u64,
    /// In seconds since 1970.
    modified: i64,
}

/// The earlier generations of a log, oldest first, as far as they can be read.
fn generations(path: &Path, current: &File) -> io::Result<Vec<Generation>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let current = current.metadata()?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)?.flatten() {
        if !is_generation_of(path.file_name().unwrap_or_default(), &entry.file_name()) {
            continue;
        }
        let Ok(file) = open_quietly(&entry.path()) else {
            continue;
        };
        let metadata = file.metadata()?;
        let is_current = metadata.ino() == current.ino() && metadata.dev() == current.dev();
        if metadata.is_file() && !is_current {
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            found.push((modified, entry.path(), file, metadata.len()));
        }
    }
    found.sort_by(|a, b| (a.0, &b.1).cmp(&(b.0, &a.1)));
    let surplus = found.len().saturating_sub(GENERATIONS);
    Ok(found
        .into_iter()
        .skip(surplus)
        .map(|(modified, path, file, size)| Generation {
            path,
            file,
            size,
            modified: modified.0,
        })
        .collect())
}

/// Whether the other path is an earlier generation of this log, as far as its name tells.
pub fn is_generation(log: &Path, other: &Path) -> bool {
    let names = log.file_name().zip(other.file_name());
    log.parent() == other.parent() && names.is_some_and(|(log, other)| is_generation_of(log, other))
}

/// `error.log.1`, `error.log-20261123`, `error-20261123.log` for `error.log`; no compressed files.
fn is_generation_of(log: &OsStr, name: &OsStr) -> bool {
    let (log, name) = (log.as_bytes(), name.as_bytes());
    let compressed = [&b".gz"[..], b".zst", b".bz2", b".xz"]
        .iter()
        .any(|ending| name.ends_with(ending));
    if compressed || name == log {
        return false;
    }
    let begins = |rest: &[u8]| rest.first().is_some_and(|b| b".-_".contains(b));
    if name.strip_prefix(log).is_some_and(begins) {
        return true;
    }
    let Some(dot) = memchr::memrchr(b'.', log) else {
        return false;
    };
    let (stem, ending) = log.split_at(dot);
    name.strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(ending))
        .is_some_and(|middle| begins(middle) && middle.iter().any(u8::is_ascii_digit))
}

fn open_quietly(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        // A FIFO without a writer would block.
        .custom_flags(i32::try_from((OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or(0))
        .open(path)
}

/// Opens a log, or says why not and what would help.
fn open(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    let file = match open_quietly(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("there is no {shown}: name nginx' error_log with -f")
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("may not read {shown}: {}", owner::hint(path))
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        bail!("{shown} is a directory: name a log in it with -f");
    }
    if !kind.is_file() {
        bail!(
            "{shown} is no regular file: only what can be read again from an earlier place can be counted"
        );
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_generations_are_known_by_their_names() {
        for (name, is_one) in [
            ("error.log.1", true),
            ("error.log-20261123", true),
            ("error-20261123.log", true),
            ("error-20261123-050000.log", true),
            ("error.20261123.log", true),
            ("error.log", false),
            ("error.log.2.gz", false),
            ("error-shop.log", false),
            ("errors.log", false),
            ("access.log.1", false),
        ] {
            assert_eq!(
                is_generation_of(OsStr::new("error.log"), OsStr::new(name)),
                is_one,
                "{name}"
            );
        }
    }
}
