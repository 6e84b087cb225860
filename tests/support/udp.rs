//! UDP sockets of every kind that takes a port, and the kernel itself asked how many more it grants.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, connect, sendto, socket_with, sockopt,
};

use super::oracle::Scene;
use super::sockets::share_port;

/// How a socket comes to its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody binds it: at connect() or sendto().
    Unbound,
    /// bind(address, 0).
    Bound,
    /// bind(address, 0) with `IP_BIND_ADDRESS_NO_PORT`, so at connect() for this address.
    AddressOnly,
    /// bind(address, 0) with `SO_REUSEADDR`.
    ReuseAddress,
    /// bind(address, 0) with `SO_REUSEPORT`.
    ReusePort,
    /// bind(address, 0) with `IPV6_V6ONLY`.
    OnlyIpv6,
}

/// A new socket of this kind; with port 0 the kernel chooses.
pub fn open(kind: Kind, from: SocketAddr, to: Option<SocketAddr>) -> io::Result<OwnedFd> {
    let family = if from.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match kind {
        Kind::Unbound | Kind::Bound => {}
        Kind::AddressOnly => share_port(&socket),
        Kind::ReuseAddress => sockopt::set_socket_reuseaddr(&socket, true)?,
        Kind::ReusePort => sockopt::set_socket_reuseport(&socket, true)?,
        Kind::OnlyIpv6 => sockopt::set_ipv6_v6only(&socket, true)?,
    }
    if kind != Kind::Unbound {
        bind(&socket, &from)?;
    }
    if let Some(to) = to {
        connect(&socket, &to)?;
    }
    Ok(socket)
}

/// One that only sends: it gets a port and stays unconnected.
pub fn sender(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket_with(
        if to.is_ipv6() {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        },
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sendto(&socket, b"?", SendFlags::empty(), &to)?;
    Ok(socket)
}

/// How many more sockets the kernel gives a port in the scene's namespace. They are gone afterwards.
pub fn left(scene: &Scene, kind: Kind, from: IpAddr, to: Option<SocketAddr>) -> u64 {
    let before = count(scene);
    let granted = scene.ns.within(|| {
        let mut opened = Vec::new();
        loop {
            match open(kind, SocketAddr::new(from, 0), to) {
                Ok(socket) => opened.push(socket),
                Err(error) => {
                    let wanted = match kind {
                        Kind::Unbound | Kind::AddressOnly => Errno::AGAIN,
                        _ => Errno::ADDRINUSE,
                    };
                    assert_eq!(Errno::from_io_error(&error), Some(wanted), "{error}");
                    return opened.len() as u64;
                }
            }
        }
    });
    // Another test's thread that is about to start a process holds every descriptor for a moment.
    let deadline = Instant::now() + Duration::from_secs(10);
    while count(scene) != before {
        assert!(Instant::now() < deadline, "the sockets do not go");
        std::thread::sleep(Duration::from_millis(1));
    }
    granted
}

/// UDP sockets in the scene's namespace.
fn count(scene: &Scene) -> usize {
    scene.ns.within(|| {
        let lines = |name: &str| {
            let table = std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
            table.expect("the kernel lists sockets").lines().count()
        };
        lines("udp") + lines("udp6")
    })
}
