//! Programs out of Debian packages that are not installed: installing them would bring mail servers and services along.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The files of some packages, below a temporary folder.
#[derive(Debug)]
pub struct Unpacked {
    folder: TempDir,
}

impl Unpacked {
    /// Downloads and unpacks packages; if that is not possible here, says why.
    pub fn packages(names: &[&str]) -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("debian-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .map_err(|error| error.to_string())?;
        let mut download = Command::new("apt-get");
        download
            .args(["-o", "APT::Sandbox::User=root", "download"])
            .args(names)
            .current_dir(folder.path());
        run(&mut download)?;
        let entries = fs::read_dir(folder.path()).map_err(|error| error.to_string())?;
        let files: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        for file in files {
            run(Command::new("dpkg").arg("-x").args([&file, folder.path()]))?;
        }
        Ok(Self { folder })
    }

    /// A file of the packages, by the path that it has where they are installed.
    pub fn path(&self, installed: &str) -> PathBuf {
        self.folder.path().join(installed.trim_start_matches('/'))
    }

    /// What `LD_LIBRARY_PATH` has to be for programs that need libraries from the packages.
    pub fn libraries(&self) -> OsString {
        let folders = [self.path("/usr/lib"), self.path("/lib")];
        let below = folders
            .iter()
            .flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        let below = below.filter_map(|entry| Some(entry.ok()?.path()));
        let paths = below.filter(|path| has_libraries(path));
        std::env::join_paths(paths).unwrap_or_default()
    }
}

fn has_libraries(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-linux-gnu")
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {}", errors.trim().replace('\n', " ")))
    }
}
