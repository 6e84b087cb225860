//! `--active`: asks the kernel port by port what cannot be seen, whether a port with connections on it is closed to
//! further ones because somebody bound it.
//!
//! For each such port a socket that may choose no other (`IP_LOCAL_PORT_RANGE`) connects to the discard port of
//! 127.0.0.1. "Cannot assign requested address" means closed; anything else means that the kernel gave the port.
//! Mostly nobody listens there and the connection is refused at once; if somebody does, it is reset. Neither leaves
//! a TIME_WAIT. What stays are the counters `ActiveOpens` and `AttemptFails`.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use super::census::{Census, Tuple};
use super::port_set::PortSet;
use super::socket::{Protocol, Socket, State};
use super::sockopt::set_only_port;

/// Nobody is asked but this host.
const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
/// The longest that it may take; 65 000 ports take less than a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most tuples that are counted.
const MOST_TUPLES: usize = 1 << 15;

/// Where the sockets of a tuple are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placed {
    /// On ports that may be shared, and not to be taken over.
    pub on_open: u32,
    /// On ports that may be shared, in a TIME_WAIT that may be taken over if the other side has timestamps.
    pub reusable: u32,
    /// On closed ports.
    pub on_closed: u32,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Active {
    /// Ports tried.
    pub tried: u32,
    /// Seconds that it took.
    pub seconds: f64,
    /// The ports that no connect() gets; of UDP, those that an IPv6 socket closes to IPv4.
    closed: PortSet,
    placed: HashMap<Tuple, Placed>,
}

impl Active {
    /// Tries every port with connections on it that is not proven to be shared.
    pub fn try_ports(census: &Census) -> anyhow::Result<Self> {
        let doubtful = census.used_ports().without(&census.shared_ports());
        Self::of_each(&doubtful, is_closed)
    }

    /// Tries every UDP port with an IPv6 connection on it: whether IPv4's wildcard can be bound there. It is, for a
    /// moment, and nothing is sent.
    pub fn try_udp_ports(census: &Census) -> anyhow::Result<Self> {
        Self::of_each(census.ports_with_ipv6(), is_closed_to_ipv4)
    }

    fn of_each(
        ports: &PortSet,
        is_closed: fn(u16) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let mut active = Self {
            tried: 0,
            seconds: 0.0,
            closed: PortSet::default(),
            placed: HashMap::new(),
        };
        for port in ports.iter() {
            if is_closed(port)? {
                active.closed.insert(port);
            }
            active.tried += 1;
            if begun.elapsed() > PATIENCE {
                bail!("it took too long: tried {} ports", active.tried);
            }
        }
        active.seconds = begun.elapsed().as_secs_f64();
        Ok(active)
    }

    /// What it did and what it cost.
    pub fn words(&self, protocol: Protocol) -> String {
        let (how, what) = match protocol {
            Protocol::Tcp => ("on loopback", "by bind()"),
            Protocol::Udp => ("by binding them", "to IPv4 by IPv6 connections"),
        };
        format!(
            "--active tried {} ports {how} in {:.2} s: {} are closed {what}",
            self.tried,
            self.seconds,
            self.closed()
        )
    }

    /// Counts a socket of a second look, now that it is known which ports are closed.
    pub fn place(&mut self, census: &Census, socket: &Socket) {
        let counts = !socket.claims_port()
            && socket.state != State::SynRecv
            && census.ports.contains(socket.source_port)
            && !census.claimed.contains(socket.source_port);
        let tuple = Tuple {
            source: socket.source,
            destination: socket.destination,
            port: socket.destination_port,
        };
        if !counts || (self.placed.len() >= MOST_TUPLES && !self.placed.contains_key(&tuple)) {
            return;
        }
        let placed = self.placed.entry(tuple).or_default();
        let reusable = socket.state == State::TimeWait
            && census.reuse.applies(tuple.source, tuple.destination)
            && socket
                .expires
                .is_some_and(|expires| census.reuse.old_enough(expires));
        if self.closed.contains(socket.source_port) {
            placed.on_closed += 1;
        } else if reusable {
            placed.reusable += 1;
        } else {
            placed.on_open += 1;
        }
    }

    /// The closed ports.
    pub fn closed_ports(&self) -> PortSet {
        self.closed.clone()
    }

    /// How many ports are closed.
    pub fn closed(&self) -> u32 {
        self.closed.len()
    }

    /// Where the sockets of a tuple are.
    pub fn of(&self, tuple: &Tuple) -> Placed {
        self.placed.get(tuple).copied().unwrap_or_default()
    }
}

/// Whether the kernel refuses this port to a connect() to where nobody is connected.
fn is_closed(port: u16) -> anyhow::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
        .context("cannot make a socket")?;
    set_only_port(socket.as_fd(), port).map_err(|error| match error.raw_os_error() {
        Some(number) if number == Errno::NOPROTOOPT.raw_os_error() => {
            anyhow::anyhow!("it needs Linux 6.3 (IP_LOCAL_PORT_RANGE)")
        }
        _ => anyhow::Error::new(error).context("cannot set IP_LOCAL_PORT_RANGE"),
    })?;
    // Closing is a reset, in case that somebody listens there.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).context("SO_LINGER")?;
    match connect(&socket, &TO) {
        Err(Errno::ADDRNOTAVAIL) => Ok(true),
        Ok(()) | Err(Errno::INPROGRESS | Errno::CONNREFUSED | Errno::CONNRESET) => Ok(false),
        Err(error @ Errno::NETUNREACH) => Err(io::Error::from(error)).with_context(|| {
            format!("the loopback interface is down (ip link set lo up): cannot connect to {TO}")
        }),
        Err(error) => {
            Err(io::Error::from(error)).with_context(|| format!("cannot connect to {TO}"))
        }
    }
}

/// Whether an IPv6 connection on this UDP port keeps IPv4's wildcard out.
fn is_closed_to_ipv4(port: u16) -> anyhow::Result<bool> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
        .context("cannot make a socket")?;
    match bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)) {
        // A port below ip_unprivileged_port_start may not be tried; it counts as it looks.
        Err(Errno::ADDRINUSE | Errno::ACCESS) => Ok(true),
        Ok(()) => Ok(false),
        Err(error) => {
            Err(io::Error::from(error)).with_context(|| format!("cannot bind 0.0.0.0:{port}"))
        }
    }
}
