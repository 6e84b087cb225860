//! How the programs are linked: with what they need beside each other, and without a library that costs each start
//! (docs/decisions.md, "What a start costs" and "Memory of one attempt").
#![allow(clippy::disallowed_macros)] // cargo reads what is printed here

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The programs that are started every minute.
const CHECKS: [&str; 3] = [
    "check_http_retry",
    "check_nginx_upstream_bind",
    "check_port_exhaustion",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link");
    let folder = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    link_unwinder(&folder);
    // Not where nobody waits for the programs' start.
    if !is("OPT_LEVEL", "0") {
        order_functions(&folder);
    }
}

fn is(name: &str, value: &str) -> bool {
    env::var(name).is_ok_and(|found| found == value)
}

/// Links what unwinds the stack for a backtrace into the programs instead of loading it: `libgcc_s.so.1` costs each start
/// of a plugin 0.14 ms.
fn link_unwinder(folder: &Path) {
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = features.split(',').any(|feature| feature == "crt-static");
    // Elsewhere the unwinder has another name, or is linked in already.
    let is_gnu = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    let is_native = env::var("HOST").ok() == env::var("TARGET").ok();
    if !is_gnu || !is_native || is_static || !has_archive() {
        return;
    }
    // Rust's library asks the linker for "gcc_s"; the first file of that name sends it to the archive, which gcc has
    // beside its own.
    fs::write(folder.join("libgcc_s.so"), "INPUT ( -lgcc_eh )\n")
        .expect("a file can be written into OUT_DIR");
    println!("cargo:rustc-link-search=native={}", folder.display());
}

/// Whether the compiler that links brings the unwinder as an archive, as gcc does.
fn has_archive() -> bool {
    let asked = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output();
    asked.is_ok_and(|found| found.stdout.starts_with(b"/"))
}

/// Has the linker put the functions that a usual run passes through side by side, so that the kernel maps a third of the
/// program for it. scripts/order writes the lists; a function that is not in them, or no longer, is where it would
/// be without.
fn order_functions(folder: &Path) {
    let scripts = CHECKS.map(|check| {
        let list =
            fs::read_to_string(Path::new("link").join(check)).expect("each check has a list");
        let path = folder.join(format!("{check}.ld"));
        fs::write(&path, script(&list)).expect("a file can be written into OUT_DIR");
        (check, format!("-Wl,-T,{}", path.display()))
    });
    if scripts.iter().all(|(_, flag)| is_taken(folder, flag)) {
        for (check, flag) in scripts {
            println!("cargo:rustc-link-arg-bin={check}={flag}");
        }
    }
}

/// A linker script that adds to the linker's own: what every program begins with and the functions of a list; their
/// constants, as far as these have names, and those without, which are small, before the large tables.
fn script(list: &str) -> String {
    let mut code =
        "*crt1.o(.text)\n*crti.o(.text)\n*crtbegin*.o(.text)\n*(.text.startup*)\n".to_owned();
    let mut data = String::new();
    for function in list.lines().filter(|line| !line.starts_with('#')) {
        let _ = writeln!(code, "*(.text.{function} .text.unlikely.{function})");
        let _ = writeln!(
            data,
            "*(.rodata.{function} .rodata..Lswitch.table.{function}*)"
        );
    }
    // Tables for printing numbers and reading headers, and what is in sections for all.
    data.push_str("*(.rodata.*flt2dec* .rodata.*zmij* .rodata.*httparse*)\n");
    data.push_str("*(.rodata.unlikely.* .rodata.cst* .rodata .rodata..Lanon.*)\n");
    format!(
        "SECTIONS {{ .text.first : {{\n{code}}} }} INSERT BEFORE .text;\n\
         SECTIONS {{ .rodata.first : {{\n{data}}} }} INSERT BEFORE .rodata;\n"
    )
}

/// Whether the linker, whichever it is, takes this flag.
fn is_taken(folder: &Path, flag: &str) -> bool {
    let source = folder.join("trial.rs");
    fs::write(&source, "fn main() {}\n").expect("a file can be written into OUT_DIR");
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets it"));
    rustc.arg(&source).arg("-o").arg(folder.join("trial"));
    rustc.args(["--target", &env::var("TARGET").expect("cargo sets it")]);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut choice = std::ffi::OsString::from("linker=");
        choice.push(linker);
        rustc.arg("-C").arg(choice);
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    rustc.arg("-C").arg(format!("link-arg={flag}"));
    rustc.output().is_ok_and(|done| done.status.success())
}
