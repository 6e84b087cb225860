//! Asks the kernel itself: opens connections or binds ports until it refuses, and counts.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::netns::Netns;
use super::sockets::{self, Choice};

/// A network namespace and the sockets in it.
#[derive(Debug)]
pub struct Scene {
    /// The namespace.
    pub ns: Netns,
    sockets: Vec<OwnedFd>,
    servers: Vec<(SocketAddr, TcpListener)>,
    accepted: Vec<TcpStream>,
}

impl Scene {
    /// An empty one with these client ports, and addresses that are not loopback ones to connect between:
    /// 192.0.2.1 to .4 and 2001:db8::1 to ::2.
    pub fn new(tag: &str, range: &str) -> Self {
        let ns = Netns::new(tag);
        for address in [
            "192.0.2.1/32",
            "192.0.2.2/32",
            "192.0.2.3/32",
            "192.0.2.4/32",
        ] {
            ns.ip(&format!("addr add {address} dev lo"));
        }
        for address in ["2001:db8::1/128", "2001:db8::2/128"] {
            ns.ip(&format!("addr add {address} dev lo nodad"));
        }
        wait_for_ipv6(&ns);
        ns.set("ipv4/ip_local_port_range", range);
        Self {
            ns,
            sockets: Vec::new(),
            servers: Vec::new(),
            accepted: Vec::new(),
        }
    }

    /// Listens, on a port in or out of the range; what connects waits in its backlog.
    pub fn listen(&mut self, address: &str) {
        self.listen_as(address, false);
    }

    /// Listens with `IPV6_V6ONLY`.
    pub fn listen_v6only(&mut self, address: &str) {
        self.listen_as(address, true);
    }

    fn listen_as(&mut self, address: &str, v6only: bool) {
        let address = parse(address);
        let listener = self.ns.within(|| sockets::listener(address, v6only));
        self.servers.push((address, listener));
    }

    /// Stops listening; what it accepted stays.
    pub fn stop_listening(&mut self, address: &str) {
        let address: SocketAddr = parse(address);
        self.servers.retain(|(served, _)| *served != address);
    }

    /// Opens connections and keeps them.
    pub fn connect(&mut self, from: &str, to: &str, count: usize, choice: Choice) {
        for client in self.open(from, to, count, choice) {
            let server = self.accept(to);
            self.accepted.push(server);
            self.sockets.push(client);
        }
    }

    /// Opens connections and leaves them in TIME_WAIT.
    pub fn time_wait(&mut self, from: &str, to: &str, count: usize, choice: Choice) {
        for client in self.open(from, to, count, choice) {
            sockets::into_time_wait(client, &self.accept(to));
        }
    }

    /// Opens one connection and leaves it in TIME_WAIT, if the kernel has a port for it.
    pub fn one_time_wait(&self, from: &str, to: &str) -> std::io::Result<()> {
        let (source, address): (IpAddr, SocketAddr) =
            (from.parse().expect("an address"), parse(to));
        let client = self
            .ns
            .within(|| sockets::connected(source, address, Choice::Connect))?;
        sockets::into_time_wait(client, &self.accept(to));
        Ok(())
    }

    /// Connections that this side has closed and the other has not (FIN_WAIT2 here, CLOSE_WAIT there).
    pub fn half_closed(&mut self, from: &str, to: &str, count: usize) {
        for client in self.open(from, to, count, Choice::Connect) {
            let server = self.accept(to);
            drop(client);
            self.accepted.push(server);
        }
    }

    /// Connections that the other side has closed and this one has not (CLOSE_WAIT here).
    pub fn closed_by_peer(&mut self, from: &str, to: &str, count: usize) {
        for client in self.open(from, to, count, Choice::Connect) {
            drop(self.accept(to));
            self.sockets.push(client);
        }
    }

    /// IPv6 sockets connected to an IPv4 address.
    pub fn connect_mapped(&mut self, to: &str, count: usize) {
        self.connect_by(to, count, sockets::connected_mapped);
    }

    /// Connections without any bind().
    pub fn connect_unbound(&mut self, to: &str, count: usize) {
        self.connect_by(to, count, sockets::connected_unbound);
    }

    fn connect_by(
        &mut self,
        to: &str,
        count: usize,
        connect: fn(SocketAddr) -> std::io::Result<OwnedFd>,
    ) {
        let address = parse(to);
        for _ in 0..count {
            let client = self.ns.within(|| connect(address).expect("a port is free"));
            let server = self.accept(to);
            self.accepted.push(server);
            self.sockets.push(client);
        }
    }

    /// Binds ports and leaves them unconnected. Port 0 lets the kernel choose.
    pub fn bind(&mut self, address: &str, count: usize, choice: Choice) {
        let address = parse(address);
        let bound = self.ns.within(|| {
            let bind = |_| sockets::bound(address, choice).expect("a port is free");
            (0..count).map(bind).collect::<Vec<_>>()
        });
        self.sockets.extend(bound);
    }

    /// Closes every second connection that [`Scene::connect`] opened with a reset: holes in what is taken.
    pub fn thin_out(&mut self) {
        let mut keep = false;
        self.sockets.retain(|socket| {
            keep = !keep;
            if !keep {
                sockets::reset(socket);
            }
            keep
        });
    }

    fn accept(&self, address: &str) -> TcpStream {
        let address: SocketAddr = parse(address);
        let (_, listener) = self
            .servers
            .iter()
            .find(|(served, _)| *served == address)
            .unwrap_or_else(|| panic!("nobody listens on {address}"));
        listener.accept().expect("a client has connected").0
    }

    fn open(&self, from: &str, to: &str, count: usize, choice: Choice) -> Vec<OwnedFd> {
        let (from, to): (IpAddr, SocketAddr) = (from.parse().expect("an address"), parse(to));
        self.ns.within(|| {
            let open = |_| connected(from, to, choice);
            (0..count).map(open).collect()
        })
    }

    /// How many more connect()s the kernel grants from an address to a destination. They are gone afterwards.
    pub fn connects_left(&self, from: &str, to: &str) -> u64 {
        let (from, to): (IpAddr, SocketAddr) = (from.parse().expect("an address"), parse(to));
        self.ns.within(|| {
            let mut opened = Vec::new();
            loop {
                match sockets::connected(from, to, Choice::Connect) {
                    Ok(socket) => opened.push(socket),
                    Err(error) => {
                        assert_eq!(
                            Errno::from_io_error(&error),
                            Some(Errno::ADDRNOTAVAIL),
                            "{error}"
                        );
                        opened.iter().for_each(sockets::reset);
                        return opened.len() as u64;
                    }
                }
            }
        })
    }

    /// How many more bind(address, 0) it grants. They are gone afterwards.
    pub fn binds_left(&self, address: &str) -> u64 {
        let address = SocketAddr::new(address.parse().expect("an address"), 0);
        self.ns.within(|| {
            let mut bound = Vec::new();
            loop {
                match sockets::bound(address, Choice::Bind) {
                    Ok(socket) => bound.push(socket),
                    Err(error) => {
                        assert_eq!(
                            Errno::from_io_error(&error),
                            Some(Errno::ADDRINUSE),
                            "{error}"
                        );
                        return bound.len() as u64;
                    }
                }
            }
        })
    }
}

/// Connects. A new namespace's IPv6 routes come and go for a moment while the kernel sets its loopback device up.
fn connected(from: IpAddr, to: SocketAddr, choice: Choice) -> OwnedFd {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match sockets::connected(from, to, choice) {
            Err(error)
                if error.raw_os_error() == Some(Errno::NETUNREACH.raw_os_error())
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            socket => return socket.expect("a port is free"),
        }
    }
}

fn parse(address: &str) -> SocketAddr {
    address
        .parse()
        .unwrap_or_else(|error| panic!("{address}: {error}"))
}

/// The kernel sets IPv6 addresses up some time after `ip` has returned: tries until both can be reached from the other.
fn wait_for_ipv6(ns: &Netns) {
    let reaches = |from: &str, to: &str| -> std::io::Result<()> {
        let listener = TcpListener::bind((to, 9))?;
        let socket = sockets::connected(
            from.parse().expect("an address"),
            listener.local_addr()?,
            Choice::Connect,
        )?;
        sockets::reset(&socket);
        Ok(())
    };
    let [one, two] = ["2001:db8::1", "2001:db8::2"];
    let deadline = Instant::now() + Duration::from_secs(10);
    ns.within(|| {
        while let Err(error) = reaches(one, two).and_then(|()| reaches(two, one)) {
            assert!(
                Instant::now() < deadline,
                "no IPv6 in {}: {error}",
                ns.name()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}
