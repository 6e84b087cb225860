//! A seccomp filter without a library: socket(AF_NETLINK, …) fails with EPERM, as in a container with a strict profile.

use std::ffi::{c_int, c_ulong};
use std::io;

#[repr(C)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    value: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

unsafe extern "C" {
    fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int;
}

#[cfg(target_arch = "x86_64")]
const SOCKET: u32 = 41;
#[cfg(not(target_arch = "x86_64"))]
const SOCKET: u32 = 198;

/// The filter: number of the call, its first argument, allow or EPERM.
static FILTER: [Instruction; 6] = [
    Instruction {
        code: 0x20,
        jump_true: 0,
        jump_false: 0,
        value: 0,
    },
    Instruction {
        code: 0x15,
        jump_true: 0,
        jump_false: 3,
        value: SOCKET,
    },
    Instruction {
        code: 0x20,
        jump_true: 0,
        jump_false: 0,
        value: 16,
    },
    Instruction {
        code: 0x15,
        jump_true: 0,
        jump_false: 1,
        value: 16,
    },
    Instruction {
        code: 0x06,
        jump_true: 0,
        jump_false: 0,
        value: 0x0005_0001,
    },
    Instruction {
        code: 0x06,
        jump_true: 0,
        jump_false: 0,
        value: 0x7fff_0000,
    },
];

/// Sets the filter for this process and all that it starts.
pub fn refuse_netlink() -> io::Result<()> {
    let program = Program {
        length: 6,
        instructions: FILTER.as_ptr(),
    };
    // SAFETY: PR_SET_NO_NEW_PRIVS and PR_SET_SECCOMP with a filter that outlives the calls.
    let failed = unsafe {
        prctl(38, 1, 0, 0, 0) != 0 || prctl(22, 2, &raw const program as c_ulong, 0, 0) != 0
    };
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
