//! All targets in one program, so that it is linked once: `FUZZ_TARGET` names the one to run.
#![no_main]

use std::ffi::{c_uint, c_void};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use proxy_checks::fuzzing::{Target, target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET='{name}' names no target"))
});

fuzz_target!(|data: &[u8]| (TARGET.check)(data));

/// In the place of the C library's. Tables are laid out by lot, and a fuzzer goes by the ways that it sees taken: with
/// `FUZZ_FIXED` they are the same in each run.
///
/// # Safety
///
/// There are `length` bytes at `into`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(into: *mut c_void, length: usize, flags: c_uint) -> isize {
    if std::env::var_os("FUZZ_FIXED").is_some() {
        // SAFETY: as promised above.
        unsafe { into.write_bytes(42, length) };
        return length.cast_signed();
    }
    // SAFETY: as promised above, and this is what the C library's does.
    let result = unsafe { libc::syscall(libc::SYS_getrandom, into, length, flags) };
    isize::try_from(result).unwrap_or(-1)
}
