//! Opening a log that may lie in a folder which somebody else may write, without being led elsewhere.
//!
//! A check that runs as root must not be made to read what the owner of a log folder may not read himself: a link in
//! the log's place is followed only where it belongs to root, to the user who runs the check, or to the owner of the
//! file that it leads to. What is opened is what was looked at: a name that is swapped in between is looked at again.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// How many links are followed from one to the next.
const LINKS: usize = 16;

/// The file system of `/proc`, whose links have no text to follow.
const PROC: i64 = 0x9fa0;

/// Opens a file for reading, without waiting for it (a FIFO without a writer would block).
pub fn open(path: &Path) -> io::Result<File> {
    match open_itself(path, OFlags::NOFOLLOW) {
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => follow(path),
        opened => opened,
    }
}

fn open_itself(path: &Path, more: OFlags) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)
}

fn follow(path: &Path) -> io::Result<File> {
    let mut owners = Vec::new();
    let mut at = path.to_owned();
    // Each turn is a link, or the file at the end of them; one that becomes a link in between takes another turn.
    for _ in 0..=LINKS {
        let handle = openat(
            CWD,
            &at,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let status = fstat(&handle)?;
        let is_link = FileType::from_raw_mode(status.st_mode) == FileType::Symlink;
        let magic = is_link && fstatfs(&handle).is_ok_and(|system| system.f_type == PROC);
        if is_link {
            owners.push(status.st_uid);
        }
        if is_link && !magic {
            let target = readlinkat(&handle, "", Vec::new())?;
            at = beside(&at, OsStr::from_bytes(target.as_bytes()));
            continue;
        }
        let more = if magic {
            OFlags::empty()
        } else {
            OFlags::NOFOLLOW
        };
        return match open_itself(&at, more) {
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => continue,
            Err(error) => Err(error),
            Ok(file) => {
                let owner = file.metadata()?.uid();
                let ours = geteuid().as_raw();
                let stranger = owners.iter().find(|uid| ![0, ours, owner].contains(uid));
                match stranger {
                    None => Ok(file),
                    Some(uid) => Err(io::Error::other(format!(
                        "it is a link of user {uid} to a file of user {owner}, which is not followed"
                    ))),
                }
            }
        };
    }
    Err(Errno::LOOP.into())
}

/// What a link with this text means.
fn beside(link: &Path, target: &OsStr) -> PathBuf {
    link.parent().unwrap_or(Path::new("")).join(target)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn a_link_is_followed_where_its_owner_gains_nothing_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["secret", "log"] {
            std::fs::write(at(name), name).unwrap();
        }
        symlink("log", at("near")).unwrap();
        symlink(at("near"), at("far")).unwrap();
        symlink("round", at("round")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        let read = |name: &str| open(&at(name)).and_then(std::io::read_to_string);
        assert_eq!(read("far").unwrap(), "log");
        assert_eq!(read("log").unwrap(), "log");
        assert_eq!(
            read("dangling").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(
            read("round").unwrap_err().raw_os_error(),
            Some(Errno::LOOP.raw_os_error())
        );
        // Only root can make links for others.
        if geteuid().is_root() {
            symlink("secret", at("planted")).unwrap();
            symlink("planted", at("behind")).unwrap();
            lchown(at("planted"), Some(65_534), Some(65_534)).unwrap();
            for name in ["planted", "behind"] {
                let why = read(name).unwrap_err().to_string();
                assert!(
                    why.contains("a link of user 65534 to a file of user 0"),
                    "{why}"
                );
            }
            lchown(at("log"), Some(65_534), Some(65_534)).unwrap();
            lchown(at("near"), Some(65_534), Some(65_534)).unwrap();
            assert_eq!(read("far").unwrap(), "log");
        }
    }
}
