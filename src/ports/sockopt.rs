//! The one socket option for which rustix has no call.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Lets connect() choose no other port than this (`IP_LOCAL_PORT_RANGE`, Linux 6.3). Older kernels answer with
/// ENOPROTOOPT.
pub fn set_only_port(socket: BorrowedFd<'_>, port: u16) -> io::Result<()> {
    const SOL_IP: c_int = 0;
    const IP_LOCAL_PORT_RANGE: c_int = 51;
    unsafe extern "C" {
        fn setsockopt(
            fd: c_int,
            level: c_int,
            name: c_int,
            value: *const c_void,
            length: u32,
        ) -> c_int;
    }
    // The lower half is the first port, the upper half the last.
    let range = u32::from(port) << 16 | u32::from(port);
    // SAFETY: the value is an u32 that lives until the call returns, and its length is given.
    let result = unsafe {
        setsockopt(
            socket.as_raw_fd(),
            SOL_IP,
            IP_LOCAL_PORT_RANGE,
            (&raw const range).cast(),
            4,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
