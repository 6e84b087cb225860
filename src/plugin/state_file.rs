//! What a plugin remembers between two runs.
//!
//! One file, written whole (a temporary one beside it, fsync, rename), so that it is either the old state or the new
//! one at any moment. It belongs to the user who runs the check and nobody else may write it; a link is not
//! followed. One line above the data names the plugin, the version of the format and a checksum: a file that is
//! damaged, or written by a newer version, is set aside and not guessed at. Only one run at a time stores; another
//! one may read.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::OFlags;

/// The largest state that is read; a larger one is damaged, and not read to find that out.
const LIMIT: u64 = 64 << 20;

/// What was found at the start of a run.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: this is the first run.
    Nothing,
    /// What the last run stored.
    Data(String),
    /// Something that is no state of this plugin, or not of a version that it knows. It was set aside where this
    /// run may store; the text says so.
    Unusable(String),
}

/// A state file, held by this run if no other one holds it.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    plugin: &'static str,
    version: u32,
    /// Held until the end of the process; `None` while another run holds it.
    lock: Option<File>,
}

impl StateFile {
    /// Takes hold of a state file, making its folders where they are missing.
    pub fn open(path: &Path, plugin: &'static str, version: u32) -> anyhow::Result<Self> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            must_be_safe(folder, "--state-file")?;
        }
        let lock_path = beside(path, ".lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(&lock_path)
            .with_context(|| format!("cannot write {}", lock_path.display()))?;
        must_be_ours(&lock, &lock_path, "--state-file")?;
        let lock = match lock.try_lock() {
            Ok(()) => Some(lock),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        };
        Ok(Self {
            path: path.to_owned(),
            plugin,
            version,
            lock,
        })
    }

    /// Whether this run may store: no other one is at it.
    pub fn is_held(&self) -> bool {
        self.lock.is_some()
    }

    /// What the last run stored.
    pub fn read(&self) -> anyhow::Result<Found> {
        let shown = self.path.display();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(&self.path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        must_be_ours(&file, &self.path, "--state-file")?;
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let mut bytes = Vec::new();
        if size <= LIMIT {
            bytes.reserve_exact(usize::try_from(size + 1).unwrap_or(0));
            file.take(LIMIT)
                .read_to_end(&mut bytes)
                .with_context(|| format!("cannot read {shown}"))?;
        }
        let Ok(mut text) = String::from_utf8(bytes) else {
            return Ok(Found::Unusable(self.set_aside("is damaged")));
        };
        match content(&text, self.plugin, self.version).map(str::len) {
            Ok(length) => {
                text.drain(..text.len() - length);
                Ok(Found::Data(text))
            }
            Err(why) => Ok(Found::Unusable(self.set_aside(why))),
        }
    }

    /// Moves a file that cannot be used out of the way, where this run may. Returns a line that says so.
    pub fn set_aside(&self, why: &str) -> String {
        let shown = self.path.display();
        if !self.is_held() {
            return format!("the state file {shown} {why}: not used");
        }
        let aside = beside(&self.path, ".damaged");
        match std::fs::rename(&self.path, &aside) {
            Ok(()) => format!(
                "the state file {shown} {why}: set aside as {}",
                aside.display()
            ),
            Err(error) => format!("the state file {shown} {why}: not used ({error})"),
        }
    }

    /// Stores this in place of what was there. Only for the run that holds it.
    pub fn write(&self, data: &str) -> anyhow::Result<()> {
        if !self.is_held() {
            bail!("another run holds {}", self.path.display());
        }
        let temporary = beside(&self.path, ".new");
        // One left behind by a run that was killed; the lock says that nobody writes it now.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("cannot remove {}", temporary.display()));
            }
            _ => {}
        }
        self.write_whole(&temporary, data)
            .and_then(|()| std::fs::rename(&temporary, &self.path))
            .inspect_err(|_| drop(std::fs::remove_file(&temporary)))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn write_whole(&self, temporary: &Path, data: &str) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(flags(OFlags::NOFOLLOW))
            .open(temporary)?;
        // An umask or a default ACL must not decide who may write.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(framed(data, self.plugin, self.version).as_bytes())?;
        file.sync_all()
    }
}

/// The data in the text of a file of this plugin and version, or why it is none.
pub(super) fn content<'a>(
    text: &'a str,
    plugin: &str,
    version: u32,
) -> Result<&'a str, &'static str> {
    let (first, data) = text.split_once('\n').ok_or("is damaged")?;
    let mut words = first.split(' ');
    if words.next() != Some("proxy-checks") || words.next() != Some(plugin) {
        return Err("is no state of this plugin");
    }
    match words.next().and_then(|word| word.parse::<u32>().ok()) {
        Some(found) if found == version => {}
        Some(_) => return Err("was written by another version"),
        None => return Err("is damaged"),
    }
    let sum = words
        .next()
        .and_then(|word| u64::from_str_radix(word, 16).ok());
    if sum != Some(seal(data.as_bytes())) {
        return Err("is damaged");
    }
    Ok(data)
}

/// A file's bytes: a line on what it is, and the data.
pub(super) fn framed(data: &str, plugin: &str, version: u32) -> String {
    let sum = seal(data.as_bytes());
    format!("proxy-checks {plugin} {version} {sum:016x}\n{data}")
}

/// Where the state of a plugin lies unless an option says otherwise: one file per user and per `settings`, below
/// `NAGIOS_PLUGIN_STATE_DIRECTORY` (or `MP_STATE_PATH`, its newer name), laid out as the C plugins do it; without
/// these below `/var/lib/monitoring-plugins` where that is there and may be written, else below a folder of this
/// user in `/var/tmp`.
pub fn default_path(plugin: &str, settings: &str) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let given = ["NAGIOS_PLUGIN_STATE_DIRECTORY", "MP_STATE_PATH"]
        .into_iter()
        .find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()));
    let root = given.map_or_else(|| fallback(user), PathBuf::from);
    let name = format!("{:016x}.state", checksum(settings.as_bytes()));
    root.join(user.to_string()).join(plugin).join(name)
}

fn fallback(user: u32) -> PathBuf {
    let usual = Path::new("/var/lib/monitoring-plugins");
    let own = usual.join(user.to_string());
    let may_write = |path: &Path| {
        rustix::fs::access(
            path,
            rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
        )
        .is_ok()
    };
    if may_write(&own) || (!own.exists() && may_write(usual)) {
        usual.to_owned()
    } else {
        PathBuf::from(format!("/var/tmp/monitoring-plugins-{user}"))
    }
}

/// A file of somebody else's, or one that others may write, could make a check say anything. `option` is what names
/// another one.
pub(super) fn must_be_ours(file: &File, path: &Path, option: &str) -> anyhow::Result<()> {
    let metadata = file.metadata()?;
    let user = rustix::process::geteuid().as_raw();
    if !metadata.is_file() {
        bail!("{} is no regular file", path.display());
    }
    if metadata.uid() != user {
        bail!(
            "{} belongs to user {}, and this check runs as {user}: remove it, or give another {option}",
            path.display(),
            metadata.uid()
        );
    }
    if metadata.mode() & 0o022 != 0 {
        bail!(
            "{} may be written by others (mode {:04o}): remove it, or take that away from them",
            path.display(),
            metadata.mode() & 0o7777
        );
    }
    Ok(())
}

/// In a folder that others may change they could put another file in the place of ours. `option` names another one.
pub(super) fn must_be_safe(folder: &Path, option: &str) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(folder)?;
    let user = rustix::process::geteuid().as_raw();
    let sticky = metadata.mode() & 0o1000 != 0;
    let of_others = metadata.uid() != user && metadata.uid() != 0;
    if of_others || (metadata.mode() & 0o022 != 0 && !sticky) {
        bail!(
            "others may change {} (owner {}, mode {:04o}): give another {option}",
            folder.display(),
            metadata.uid(),
            metadata.mode() & 0o7777
        );
    }
    Ok(())
}

/// The checksum of a state: eight bytes a step, since it is taken over all of it at each run. Tells damage, and is the same
/// in every build. No protection against somebody who wants to deceive; the file's owner and mode are.
pub fn seal(data: &[u8]) -> u64 {
    let (words, rest) = data.as_chunks();
    let sum = words.iter().fold(data.len() as u64, |sum, word| {
        (sum.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    sum.rotate_left(5) ^ checksum(rest)
}

/// FNV-1a, 64 bits: tells short texts apart, and is the same in every build.
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().as_bytes().to_vec();
    name.extend_from_slice(suffix.as_bytes());
    PathBuf::from(std::ffi::OsString::from(
        <std::ffi::OsStr as OsStrExt>::from_bytes(&name),
    ))
}

fn flags(flags: OFlags) -> i32 {
    i32::try_from((flags | OFlags::CLOEXEC).bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> StateFile {
        StateFile::open(path, "check_x", 1).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_only_its_owner_may_touch_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/state");
        let state = open(&path);
        assert_eq!(state.read().unwrap(), Found::Nothing);
        state.write("one").unwrap();
        state.write("two\nthree").unwrap();
        assert_eq!(state.read().unwrap(), Found::Data("two\nthree".to_owned()));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).unwrap();
        assert!(
            state
                .read()
                .unwrap_err()
                .to_string()
                .contains("written by others")
        );
    }

    #[test]
    fn a_second_run_may_read_and_not_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = open(&path);
        first.write("one").unwrap();
        let second = open(&path);
        assert!(first.is_held() && !second.is_held());
        assert_eq!(second.read().unwrap(), Found::Data("one".to_owned()));
        assert!(second.write("two").is_err());
        drop(first);
        assert!(open(&path).is_held());
    }

    #[test]
    fn what_is_damaged_or_newer_is_set_aside_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        open(&path).write("data").unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        for (broken, why) in [
            (whole.replace("data", "dat"), "is damaged"),
            (whole.replace("check_x 1", "check_x 2"), "another version"),
            (
                whole.replace("check_x", "check_y"),
                "no state of this plugin",
            ),
            ("\0\0\0".to_owned(), "is damaged"),
            (String::new(), "is damaged"),
        ] {
            std::fs::write(&path, &broken).unwrap();
            let Found::Unusable(told) = open(&path).read().unwrap() else {
                panic!("{broken} was taken");
            };
            assert!(
                told.contains(why) && told.contains("set aside as"),
                "{told}"
            );
            assert!(!path.exists());
            assert_eq!(
                std::fs::read_to_string(beside(&path, ".damaged")).unwrap(),
                broken
            );
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("state"), folder.path().join("target"));
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let state = open(&path);
        assert!(state.read().is_err());
        state.write("data").unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        std::fs::remove_file(beside(&path, ".lock")).unwrap();
        std::os::unix::fs::symlink(&target, beside(&path, ".lock")).unwrap();
        assert!(StateFile::open(&path, "check_x", 1).is_err());
    }
}
