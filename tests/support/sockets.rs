//! TCP sockets of every kind that takes a client port: connected, bound, in TIME_WAIT, half-closed.

use std::ffi::{c_int, c_void};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt,
};

/// How a socket comes to its local address and port before it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// connect() chooses the port; the address is fixed by `IP_BIND_ADDRESS_NO_PORT`.
    Connect,
    /// bind(address, 0) chooses it.
    Bind,
    /// The same with `SO_REUSEADDR`.
    BindReuse,
}

impl Choice {
    /// The same for a socket that stays unconnected: without a connect() it has to be bind() that chooses.
    pub fn by_bind(self) -> Self {
        if self == Self::Connect {
            Self::Bind
        } else {
            self
        }
    }
}

/// A new TCP socket.
pub fn tcp(v6: bool) -> OwnedFd {
    let family = if v6 {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket")
}

/// Sets `IP_BIND_ADDRESS_NO_PORT`, for which rustix has no call.
pub fn share_port(socket: &OwnedFd) {
    const SOL_IP: c_int = 0;
    const IP_BIND_ADDRESS_NO_PORT: c_int = 24;
    unsafe extern "C" {
        fn setsockopt(
            fd: c_int,
            level: c_int,
            name: c_int,
            value: *const c_void,
            length: u32,
        ) -> c_int;
    }
    let on: c_int = 1;
    // SAFETY: the value is an int that lives until the call returns, and its length is given.
    let result = unsafe {
        setsockopt(
            socket.as_raw_fd(),
            SOL_IP,
            IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            4,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// A bound socket that is not connected. Port 0 lets the kernel choose.
pub fn bound(address: SocketAddr, choice: Choice) -> io::Result<OwnedFd> {
    let socket = tcp(address.is_ipv6());
    match choice {
        Choice::Connect => share_port(&socket),
        Choice::Bind => {}
        Choice::BindReuse => sockopt::set_socket_reuseaddr(&socket, true)?,
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// A socket of loopback that never listens, and its address: whoever connects there is refused, and while the socket lives
/// nobody else comes to listen there.
pub fn refusing() -> (OwnedFd, SocketAddr) {
    let place = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = TcpListener::from(bound(place, Choice::Bind).expect("loopback has a free port"));
    let address = socket.local_addr().expect("it is bound");
    (socket.into(), address)
}

/// A connection from an address to a destination.
pub fn connected(from: IpAddr, to: SocketAddr, choice: Choice) -> io::Result<OwnedFd> {
    let socket = bound(SocketAddr::new(from, 0), choice)?;
    connect(&socket, &to)?;
    Ok(socket)
}

/// A connection whose address and port are connect()'s choice.
pub fn connected_unbound(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = tcp(to.is_ipv6());
    connect(&socket, &to)?;
    Ok(socket)
}

/// An IPv6 socket connected to an IPv4 address.
pub fn connected_mapped(to: SocketAddr) -> io::Result<OwnedFd> {
    let IpAddr::V4(address) = to.ip() else {
        panic!("{to} is no IPv4 address")
    };
    let socket = tcp(true);
    connect(
        &socket,
        &SocketAddr::new(address.to_ipv6_mapped().into(), to.port()),
    )?;
    Ok(socket)
}

/// A listener with a backlog for everything that a test opens.
pub fn listener(address: SocketAddr, v6only: bool) -> TcpListener {
    let socket = tcp(address.is_ipv6());
    sockopt::set_socket_reuseaddr(&socket, true).expect("SO_REUSEADDR");
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, v6only).expect("IPV6_V6ONLY");
    }
    bind(&socket, &address).unwrap_or_else(|error| panic!("bind {address}: {error}"));
    listen(&socket, 4096).expect("listen");
    socket.into()
}

/// Closes a connection at the client's end and waits until the server's end knows. With the server's end closed as
/// well, the client's port is in TIME_WAIT.
pub fn into_time_wait(client: OwnedFd, mut server: &TcpStream) {
    drop(client);
    server
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    io::copy(&mut server, &mut io::sink()).expect("the other end closes");
}

/// Closes a connection with a reset, which leaves nothing behind.
pub fn reset(socket: impl AsFd) {
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("SO_LINGER");
}
