//! Where this host's end of a connection is: its address and the interface it leaves by.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::{ffi::c_int, io};

use anyhow::ensure;
use rustix::io::Errno;
use rustix::net::bind;
use socket2::SockRef;

use super::connect::without_number;

/// The longest name of an interface, without the NUL that ends it (IFNAMSIZ).
const NAME_LIMIT: usize = 15;

/// Its options.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct SourceArgs {
    /// The address of this host to connect from
    #[arg(long, value_name = "ADDRESS")]
    pub local_address: Option<IpAddr>,

    /// The network interface to connect by
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
}

/// What every socket is bound to before it connects.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The address.
    pub address: Option<IpAddr>,
    /// The interface.
    interface: Option<String>,
}

impl Source {
    /// Binds a socket. An error says why this host cannot do it.
    pub fn apply(&self, socket: impl AsFd) -> Result<(), String> {
        if let Some(name) = &self.interface {
            SockRef::from(&socket)
                .bind_device(Some(name.as_bytes()))
                .map_err(|error| no_interface(name, &error))?;
        }
        if let Some(address) = self.address {
            leave_port_to_connect(&socket)
                .and_then(|()| Ok(bind(&socket, &SocketAddr::new(address, 0))?))
                .map_err(|error| no_address(address, &error))?;
        }
        Ok(())
    }
}

impl TryFrom<&SourceArgs> for Source {
    type Error = anyhow::Error;

    fn try_from(args: &SourceArgs) -> anyhow::Result<Self> {
        let interface = args.interface.clone().filter(|name| !name.is_empty());
        if let Some(name) = &interface {
            let fits = name.len() <= NAME_LIMIT && !name.bytes().any(|b| b == 0 || b == b'/');
            ensure!(fits, "--interface {name}: this is no interface's name");
        }
        Ok(Self {
            address: args.local_address,
            interface,
        })
    }
}

/// Sets `IP_BIND_ADDRESS_NO_PORT`: bind() is to fix the address alone. It would take a port that no other connection
/// of this address may have, and a probe must not use up what it watches.
#[allow(unsafe_code)] // rustix has no call for it
fn leave_port_to_connect(socket: impl AsFd) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: the file descriptor is open as long as it is borrowed, and the value is an int whose size is given.
    // The option is one of SOL_IP for IPv6 sockets as well.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            4,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn no_interface(name: &str, error: &io::Error) -> String {
    let hint = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            " - this takes CAP_NET_RAW (setcap cap_net_raw+ep on the plugin), or Linux 5.7"
        }
        Some(Errno::NODEV) => " - ip link lists those there are",
        _ => "",
    };
    format!("--interface {name}: {}{hint}", without_number(error))
}

fn no_address(address: IpAddr, error: &io::Error) -> String {
    let hint = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ADDRNOTAVAIL) => " - this host does not have it, ip address lists those it has",
        _ => "",
    };
    format!("--local-address {address}: {}{hint}", without_number(error))
}
