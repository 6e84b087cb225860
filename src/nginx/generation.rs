//! The earlier generations of a log: found in its folder by their names, opened without being held up.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::{links, owner};

/// How many earlier generations of a log are looked at.
const GENERATIONS: usize = 64;

/// An earlier generation of a log.
#[derive(Debug)]
pub struct Generation {
    /// Where it was found.
    pub path: PathBuf,
    /// Open for reading.
    pub file: File,
    /// In bytes.
    pub size: u64,
    /// In seconds since 1970.
    pub modified: i64,
    modified_nanoseconds: i64,
    /// By gzip or zstd.
    pub is_compressed: bool,
}

impl Generation {
    fn age(&self) -> (i64, i64) {
        (self.modified, self.modified_nanoseconds)
    }
}

/// The earlier generations of a log, oldest first, as far as they can be read.
pub fn generations(path: &Path, current: &File) -> io::Result<Vec<Generation>> {
    let current = current.metadata()?;
    let is_current = |found: &Generation| {
        let metadata = found.file.metadata();
        metadata.is_ok_and(|found| found.ino() == current.ino() && found.dev() == current.dev())
    };
    let mut found = candidates(path)?;
    found.retain(|generation| !is_current(generation));
    let surplus = found.len().saturating_sub(GENERATIONS);
    found.drain(..surplus);
    Ok(found)
}

/// All files in the log's folder that are named as its earlier generations are, oldest first.
pub fn candidates(path: &Path) -> io::Result<Vec<Generation>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)?.flatten() {
        if !is_generation_of(path.file_name().unwrap_or_default(), &entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let ending = path.extension();
        let is_compressed = ending.is_some_and(|ending| ending == "gz" || ending == "zst");
        // While gzip is at work both are there, and the plain one is whole.
        if is_compressed && path.with_extension("").exists() {
            continue;
        }
        let Ok(file) = links::open(&path) else {
            continue;
        };
        let metadata = file.metadata()?;
        if metadata.is_file() {
            found.push(Generation {
                path,
                file,
                size: metadata.len(),
                modified: metadata.mtime(),
                modified_nanoseconds: metadata.mtime_nsec(),
                is_compressed,
            });
        }
    }
    found.sort_by(|a, b| a.age().cmp(&b.age()).then_with(|| b.path.cmp(&a.path)));
    Ok(found)
}

/// Whether the other path is an earlier generation of this log, as far as its name tells.
pub fn is_generation(log: &Path, other: &Path) -> bool {
    let names = log.file_name().zip(other.file_name());
    log.parent() == other.parent() && names.is_some_and(|(log, other)| is_generation_of(log, other))
}

/// `error.log.1`, `error.log-20261123`, `error-20261123.log` for `error.log`: a number or a date, or `old`. Not a
/// copy such as `error.log.bak`. Compressed by gzip, by zstd or not at all.
fn is_generation_of(log: &OsStr, name: &OsStr) -> bool {
    let (log, name) = (log.as_bytes(), name.as_bytes());
    let packed = name
        .strip_suffix(b".gz")
        .or_else(|| name.strip_suffix(b".zst"));
    let name = packed.unwrap_or(name);
    let other_kind = [&b".bz2"[..], b".xz"]
        .iter()
        .any(|ending| name.ends_with(ending));
    if other_kind || name == log {
        return false;
    }
    let is_mark = |rest: &[u8]| {
        let begins = rest.first().is_some_and(|b| b".-_".contains(b));
        begins && (rest.ends_with(b"old") || rest.iter().any(u8::is_ascii_digit))
    };
    if name.strip_prefix(log).is_some_and(is_mark) {
        return true;
    }
    let Some(dot) = memchr::memrchr(b'.', log) else {
        return false;
    };
    let (stem, ending) = log.split_at(dot);
    name.strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(ending))
        .is_some_and(is_mark)
}

/// Opens a log, or says why not and what would help.
pub fn open(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    let file = match links::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("there is no {shown}: name nginx' error_log with -f")
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("may not read {shown}: {}", owner::hint(path))
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        bail!("{shown} is a directory: name a log in it with -f");
    }
    if !kind.is_file() {
        bail!(
            "{shown} is no regular file: only what can be read again from an earlier place can be counted"
        );
    }
    if metadata.len() == 0 && is_made_up(&file) {
        bail!("{shown} is no log, but something that the kernel makes up");
    }
    Ok(file)
}

/// Whether a file without a size is one of those that have none, whatever is in them.
fn is_made_up(file: &File) -> bool {
    const PROC: i64 = 0x9fa0;
    const SYSFS: i64 = 0x6265_6572;
    rustix::fs::fstatfs(file).is_ok_and(|system| [PROC, SYSFS].contains(&system.f_type))
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
            ("error.log.old", true),
            ("error.log", false),
            ("error.log.bak", false),
            ("error.log.save", false),
            ("error.log.2.gz", true),
            ("error-20261123.log.gz", true),
            ("error.log.2.zst", true),
            ("error.log.2.xz", false),
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
