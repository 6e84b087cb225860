//! Links what unwinds the stack for a backtrace into the programs instead of loading it: `libgcc_s.so.1` costs each start
//! of a plugin 0.14 ms (docs/decisions.md).
#![allow(clippy::disallowed_macros)] // cargo reads what is printed here

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name, value| env::var(name).is_ok_and(|found| found == value);
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = features.split(',').any(|feature| feature == "crt-static");
    // Elsewhere the unwinder has another name, or is linked in already.
    let is_gnu = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    let is_native = env::var("HOST").ok() == env::var("TARGET").ok();
    if !is_gnu || !is_native || is_static || !has_archive() {
        return;
    }
    let folder = env::var("OUT_DIR").expect("cargo sets it");
    // Rust's library asks the linker for "gcc_s"; the first file of that name sends it to the archive, which gcc has
    // beside its own.
    fs::write(
        Path::new(&folder).join("libgcc_s.so"),
        "INPUT ( -lgcc_eh )\n",
    )
    .expect("a file can be written into OUT_DIR");
    println!("cargo:rustc-link-search=native={folder}");
}

/// Whether the compiler that links brings the unwinder as an archive, as gcc does.
fn has_archive() -> bool {
    let asked = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output();
    asked.is_ok_and(|found| found.stdout.starts_with(b"/"))
}
