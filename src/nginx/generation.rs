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

/// The earlier generations of a log, oldest first, as far as they can be read. Not those that stand `apart`: who named
/// them has them read by themselves.
pub fn generations(path: &Path, current: &File, apart: &[PathBuf]) -> io::Result<Vec<Generation>> {
    let current = current.metadata()?;
    let is_current = |found: &Generation| {
        let metadata = found.file.metadata();
        metadata.is_ok_and(|found| found.ino() == current.ino() && found.dev() == current.dev())
    };
    let mut found = candidates(path)?;
    found.retain(|generation| !is_current(generation));
    found.retain(|generation| {
        let name = generation.path.file_name().unwrap_or_default();
        !apart.contains(&path.with_file_name(name))
    });
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

/// `error.log.1`, `error.log-20261123`, `error-20261123.log` for `error.log`: the mark of a rotation, and nothing else,
/// behind the name or before its extension. Not a copy such as `error.log.bak`, and no other log such as
/// `error-web1.log` or `error-8080.log`. Compressed by gzip, by zstd or not at all.
fn is_generation_of(log: &OsStr, name: &OsStr) -> bool {
    let (log, name) = (log.as_bytes(), name.as_bytes());
    let packed = name
        .strip_suffix(b".gz")
        .or_else(|| name.strip_suffix(b".zst"));
    let name = packed.unwrap_or(name);
    if name.strip_prefix(log).is_some_and(is_mark) {
        return true;
    }
    let Some(dot) = memchr::memrchr(b'.', log) else {
        return false;
    };
    let (stem, ending) = log.split_at(dot);
    name.strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(ending))
        .is_some_and(|rest| is_mark(rest) && (is_count(rest) || is_date(&rest[1..])))
}

/// `.1` to `.999`. Before an extension no other number tells a generation from a log of another port or server.
fn is_count(rest: &[u8]) -> bool {
    rest.starts_with(b".") && rest.len() <= 4
}

/// What begins with a year and a month, or is in seconds since 1970; and `old`.
fn is_date(mark: &[u8]) -> bool {
    let digits = mark.iter().take_while(|byte| byte.is_ascii_digit()).count();
    mark.starts_with(b"20") && (digits == 4 && mark.len() > 4 || digits >= 6)
        || digits == 10
        || mark == b"old"
}

/// What a rotation puts into a name: `.1`, `-20261123`, `-2026-11-23`, `-20261123-050000`, `-1795928400`, `.old`.
fn is_mark(rest: &[u8]) -> bool {
    let [b'.' | b'-' | b'_', mark @ ..] = rest else {
        return false;
    };
    if mark == b"old" {
        return true;
    }
    let mut groups = mark.split(|byte| b".-_:T".contains(byte));
    let are_digits = |group: &[u8]| !group.is_empty() && group.iter().all(u8::is_ascii_digit);
    if !groups.clone().all(are_digits) {
        return false;
    }
    let first = groups.next().unwrap_or_default();
    // Several numbers may be an address as well, where the first does not begin with a year.
    groups.next().is_none_or(|second| {
        first.starts_with(b"20") && (first.len() >= 6 || first.len() == 4 && second.len() == 2)
    })
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
            ("error-20261123.log.zst", true),
            ("error.1.log.gz", true),
            ("error_20261123.log", true),
            ("error.log-2026-11-23", true),
            ("error.log-2026-11-23_05", true),
            ("error.log-2026-11-23T05:00:00", true),
            ("error.log-20261123-1795928400", true),
            ("error.log.1795928400", true),
            ("error.log-2026112305", true),
            ("error.log-202648", true),
            ("error-old.log", true),
            ("error.log-1", true),
            ("error.12.log", true),
            ("error-202611.log", true),
            ("error-1795928400.log", true),
            // Of another server, site or port, and not of another day.
            ("error-1.log", false),
            ("error_2.log", false),
            ("error-8080.log", false),
            ("error.8080.log", false),
            ("error-20443.log", false),
            ("error-web1.log", false),
            ("error_app2.log", false),
            ("error-2web.log", false),
            ("error-threshold.log", false),
            ("error-192.0.2.10.log", false),
            ("error-2026-web.log", false),
            ("error-.log", false),
            ("error.log.", false),
            ("error.log.1.bak", false),
            ("error.log.1-", false),
            ("error.log.1.gz-20261123.backup", false),
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
