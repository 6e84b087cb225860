//! Passwords and tokens, from a file or the environment: an argument is everybody's to read in the list of processes.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};

/// The most that is read of a file; no server takes a header this long.
const LIMIT: u64 = 64 * 1024;

/// What a file holds, without the white space around it. `origin` is the option that names the file, for errors: these
/// never tell the secret.
pub fn from_file(origin: &str, path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let place = || format!("{origin}: cannot read {}", path.display());
    File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_string(&mut text))
        .with_context(place)?;
    ensure!(
        text.len() as u64 <= LIMIT,
        "{origin}: {} is longer than any password",
        path.display()
    );
    let text = text.trim();
    ensure!(!text.is_empty(), "{origin}: {} is empty", path.display());
    Ok(text.to_owned())
}

/// A variable of the environment. Icinga sets one to nothing where a macro is not defined: that is none.
pub fn from_environment(name: &str) -> anyhow::Result<Option<String>> {
    std::env::var_os(name)
        .filter(|text| !text.is_empty())
        .map(OsString::into_string)
        .transpose()
        .ok()
        .with_context(|| format!("{name}: what is there is no UTF-8"))
}
