//! The addresses of a name, as the system's resolver gives them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use dns_lookup::{AddrFamily, AddrInfoHints, SockType, getaddrinfo};
use rustix::io::Errno;
use tokio::task::spawn_blocking;

use super::connect::{Means, Miss, without_number};
use super::plan::Family;
use super::probe::Kind;
use super::source::Source;
use super::target::literal;
use super::trace::Trace;

/// The addresses to connect to, in the resolver's order: one at least. Those of a single link come with its zone.
pub(super) async fn resolve(
    means: Means<'_>,
    name: &str,
    port: u16,
    trace: &mut Trace,
) -> Result<Vec<SocketAddr>, Miss> {
    let fits = |address: &IpAddr| fits(means.family, means.source, address);
    let literal = literal(name);
    if literal.is_some_and(|address| !fits(&address)) {
        let words = "Address family for hostname not supported".to_owned();
        return Err(Miss::Server(Kind::Dns, words));
    }
    if let Ok(address) = name.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // The number of a zone is for the resolver to find, too.
    let found = look_up(name, port, wanted(means.family, means.source)).await;
    if literal.is_none() {
        trace.resolved = Some(Instant::now());
    }
    let mut found = found.map_err(|error| no_address(name, &error))?;
    found.retain(|address| fits(&address.ip()));
    if found.is_empty() {
        let words = format!("{name}: No address associated with hostname");
        return Err(Miss::Server(Kind::Dns, words));
    }
    Ok(found)
}

/// Asks the system's resolver for the addresses of a name, of one family alone where that is all that is wanted: the question
/// for the other one may stay without an answer (`AF_INET` also finds the `::1` of /etc/hosts, as 127.0.0.1). The thread that
/// asks goes on to the end when nobody waits for it any more.
pub(super) async fn look_up(name: &str, port: u16, family: Family) -> io::Result<Vec<SocketAddr>> {
    let name = name.to_owned();
    let asked = spawn_blocking(move || {
        let hints = AddrInfoHints {
            address: match family {
                Family::Any => 0,
                Family::V4 => AddrFamily::Inet.into(),
                Family::V6 => AddrFamily::Inet6.into(),
            },
            // Else each address comes once for every type.
            socktype: SockType::Stream.into(),
            ..AddrInfoHints::default()
        };
        let found = getaddrinfo(Some(&name), None, Some(hints))?;
        found
            .map(|one| {
                let mut address = one?.sockaddr;
                address.set_port(port);
                Ok(address)
            })
            .collect()
    });
    asked.await?
}

/// The family to ask for: the one to keep to, or else that of this host's end.
pub(super) fn wanted(family: Family, source: &Source) -> Family {
    match (family, source.address) {
        (Family::Any, Some(IpAddr::V4(_))) => Family::V4,
        (Family::Any, Some(IpAddr::V6(_))) => Family::V6,
        (family, _) => family,
    }
}

/// Whether an address is of the family to keep to, and of that of this host's end.
pub fn fits(family: Family, source: &Source, address: &IpAddr) -> bool {
    let family = match family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    };
    let ours = source.address;
    family && ours.is_none_or(|ours| ours.is_ipv4() == address.is_ipv4())
}

/// An address as `-I` takes it: with its zone, by number.
pub(super) fn with_zone(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(six) if six.scope_id() != 0 => format!("{}%{}", six.ip(), six.scope_id()),
        other => other.ip().to_string(),
    }
}

fn no_address(name: &str, error: &io::Error) -> Miss {
    let text = without_number(error);
    if let Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) =
        error.raw_os_error().map(Errno::from_raw_os_error)
    {
        Miss::Host(format!("cannot look up {name}: {text}"))
    } else {
        let why = text.rsplit(": ").next().unwrap_or_default();
        Miss::Server(Kind::Dns, format!("{name}: {why}"))
    }
}
