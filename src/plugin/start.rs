//! The way into a plugin, without what Rust's runtime does before `main`.
//!
//! That looks for the end of the main thread's stack, so that running over it is a sentence on standard error before the
//! process dies. glibc has to read `/proc/self/maps` for it, through `fopen` and `sscanf`: 0.2 MB of it that nothing else
//! of a check passes through, and some 5 % of a start. Without it, running over the stack is SIGSEGV. What is left
//! of the runtime's work, and needed, is done here: open standard descriptors, and no SIGPIPE.
#![allow(unsafe_code)] // SIG_IGN: neither rustix nor signal-hook has it

use std::ffi::c_int;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Arguments, Plugin, run};

/// The `main` of a plugin's binary, which has to be `#![cfg_attr(all(target_os = "linux", target_env = "gnu"), no_main)]`.
///
/// Takes a [`Plugin`] by reference. With a C library that does not give the command line to Rust before `main`, it is
/// an ordinary `fn main`.
#[macro_export]
macro_rules! plugin_main {
    ($plugin:expr) => {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        #[unsafe(no_mangle)]
        extern "C" fn main() -> std::ffi::c_int {
            $crate::plugin::start::from_c($plugin)
        }

        #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
        fn main() -> std::process::ExitCode {
            std::process::ExitCode::from($crate::plugin::run($plugin))
        }
    };
}

/// Runs the plugin in a process that C started. The exit code is what `main` returns.
pub fn from_c<A: Arguments>(plugin: &Plugin<A>) -> c_int {
    open_standard_descriptors();
    ignore_broken_pipes();
    run(plugin).into()
}

/// Opens `/dev/null` where the parent left 0, 1 or 2 closed. The next file that is opened, a state file, would get that
/// number, and what is meant for standard output would be written into it.
fn open_standard_descriptors() {
    let standard = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for descriptor in standard {
        if rustix::io::fcntl_getfd(descriptor) == Err(Errno::BADF) {
            // The lowest number that is free is this one.
            let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) else {
                std::process::abort();
            };
            std::mem::forget(null);
        }
    }
}

/// A reader that went away is an error of the write, and not the end of the process.
fn ignore_broken_pipes() {
    // SAFETY: no thread has been started yet, and no handler is in the way.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}
