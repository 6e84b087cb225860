//! Images that are made of files of this machine: `FROM scratch`, a program and what it needs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Docker;

/// An image to be: the files of its root, and what `docker import` is to note down.
#[derive(Debug)]
pub struct Image {
    root: TempDir,
    changes: Vec<String>,
}

impl Image {
    /// An empty one.
    pub fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("image-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir();
        Self {
            root: root.expect("a temporary folder"),
            changes: Vec::new(),
        }
    }

    /// The three plugins, linked statically, in `/`.
    pub fn plugins() -> Self {
        let folder = super::super::plugin::static_folder();
        [
            "check_http_retry",
            "check_port_exhaustion",
            "check_nginx_upstream_bind",
        ]
        .iter()
        .fold(Self::new(), |image, name| {
            image.copy(&folder.join(name), &format!("/{name}"))
        })
    }

    /// Adds a program, in this place, with the libraries that it is linked with, where they are.
    #[must_use]
    pub fn program(self, from: &Path, to: &str) -> Self {
        let libraries = libraries(from);
        libraries
            .iter()
            .fold(self.copy(from, to), |image, library| {
                image.copy(library, library.to_str().expect("a path in ASCII"))
            })
    }

    /// Adds a file of this machine with its rights.
    #[must_use]
    pub fn copy(self, from: &Path, to: &str) -> Self {
        fs::copy(from, self.place(to))
            .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        self
    }

    /// Adds a folder of this machine with what is in it.
    #[must_use]
    pub fn tree(self, from: &Path, to: &str) -> Self {
        let status = Command::new("cp")
            .arg("-RL")
            .arg(from)
            .arg(self.place(to))
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{}",
            from.display()
        );
        self
    }

    /// Adds a file with this text, for all to read.
    #[must_use]
    pub fn file(self, to: &str, text: &str) -> Self {
        fs::write(self.place(to), text).expect("a file in a folder of ours");
        self
    }

    /// Adds a folder that everybody may write to.
    #[must_use]
    pub fn folder(self, path: &str) -> Self {
        let folder = self.place(path);
        fs::create_dir_all(&folder).expect("a folder");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)).expect("it is ours");
        self
    }

    /// Adds an instruction of a Dockerfile, as in `ENTRYPOINT ["/program"]`.
    #[must_use]
    pub fn change(mut self, instruction: &str) -> Self {
        self.changes.push(instruction.to_owned());
        self
    }

    fn place(&self, path: &str) -> PathBuf {
        let place = self.root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("below the root")).expect("a folder");
        place
    }

    /// Gives it to the daemon under this name.
    pub(super) fn import(self, docker: &Docker, name: &str) {
        let mut tar = Command::new("tar")
            .args(["--create", "--owner=0", "--group=0", "--directory"])
            .arg(self.root.path())
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar");
        let mut import = docker.command(&["import"]);
        for change in &self.changes {
            import.args(["--change", change]);
        }
        import
            .args(["-", name])
            .stdin(tar.stdout.take().expect("it is piped"));
        let output = import.output().expect("docker");
        assert!(
            tar.wait().is_ok_and(|status| status.success()),
            "tar {}",
            self.root.path().display()
        );
        assert!(
            output.status.success(),
            "{import:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// The shared libraries of a program, by the dynamic linker itself; none for a static one.
fn libraries(program: &Path) -> BTreeSet<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8(output.stdout).expect("ldd prints paths");
    // `name => path (address)`, or `path (address)` for the linker.
    let paths = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(PathBuf::from).collect()
}
