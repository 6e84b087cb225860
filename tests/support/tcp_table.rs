//! Counts the TCP sockets of the calling thread's network namespace, by the kernel's plain list: the ground truth
//! that needs none of our own code.

use std::fs;
use std::net::SocketAddrV4;

/// The sockets that are connected to an address, in any state.
pub fn connected_to(address: SocketAddrV4) -> usize {
    let remote = encode(address);
    count(|fields| fields[2] == remote)
}

/// The listeners on an address.
pub fn listening_on(address: SocketAddrV4) -> usize {
    let local = encode(address);
    count(|fields| fields[1] == local && fields[3] == "0A")
}

/// As the kernel prints it: the number that the four bytes make in memory, and the port.
fn encode(address: SocketAddrV4) -> String {
    let number = u32::from_ne_bytes(address.ip().octets());
    format!("{number:08X}:{:04X}", address.port())
}

/// Counts the lines whose fields (number, local, remote, state, …) are as wanted.
fn count(wanted: impl Fn(&[&str]) -> bool) -> usize {
    // Not /proc/net: that is the namespace of the process' first thread.
    let table = fs::read_to_string("/proc/thread-self/net/tcp").expect("the kernel lists sockets");
    let lines = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|fields| fields.len() > 3 && wanted(fields))
        .count()
}
