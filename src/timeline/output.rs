//! A report's file: written whole or not at all, and never through a link.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::OFlags;

/// Writes a file beside the one of this name, and puts it in its place.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            bail!("it is a link, which is not followed: name the file itself")
        }
        Ok(found) if !found.is_file() => bail!("it is no regular file"),
        _ => {}
    }
    let name = path.file_name().context("it has no file name")?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut beside = name.to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = folder.join(beside);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        // It holds lines of logs that not everybody may read.
        .mode(0o600)
        .open(&beside)?;
    let put = |mut file: File| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    let done = put(file);
    if done.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    Ok(done?)
}
