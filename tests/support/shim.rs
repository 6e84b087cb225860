//! Plugins below a kernel that does what it may and rarely does: it reads and writes less than it was asked for, and its
//! clock is moved while they run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library that is loaded before all others, and its notes.
#[derive(Debug)]
pub struct Shim(tempfile::TempDir);

impl Shim {
    /// Compiles it.
    pub fn new() -> Self {
        let shim = Self(tempfile::tempdir().expect("a temporary folder"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/shim.c");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&shim.library(), &source])
            .arg("-ldl")
            .output()
            .expect("a C compiler (apt-get install gcc libc6-dev)");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cc: {errors}");
        shim
    }

    fn library(&self) -> PathBuf {
        self.0.path().join("shim.so")
    }

    fn below<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let note = self.0.path().join("note");
        let _ = fs::remove_file(&note);
        command
            .env("LD_PRELOAD", self.library())
            .env("SHIM_NOTE", note)
    }

    /// Has it read and write a few bytes at a time, by this row of numbers (not 0).
    pub fn shortened<'a>(&self, command: &'a mut Command, row: u64) -> &'a mut Command {
        self.below(command).env("SHIM_SHORTEN", row.to_string())
    }

    /// Has the host's clock be so many seconds off once it was looked at so often.
    pub fn moved<'a>(
        &self,
        command: &'a mut Command,
        seconds: i64,
        looks: usize,
    ) -> &'a mut Command {
        self.below(command)
            .env("SHIM_JUMP", format!("{seconds} {looks}"))
    }

    /// How many calls of the last command were changed.
    pub fn changes(&self) -> usize {
        fs::read(self.0.path().join("note")).map_or(0, |note| note.len())
    }
}
