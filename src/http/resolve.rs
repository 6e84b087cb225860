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
use super::trace::Trace;

/// The addresses to connect to, in the resolver's order: one at least.
pub(super) async fn resolve(
    means: Means<'_>,
    name: &str,
    port: u16,
    trace: &mut Trace,
) -> Result<Vec<IpAddr>, Miss> {
    let literal = name.parse().ok();
    let addresses: Vec<IpAddr> = if let Some(address) = literal {
        vec![address]
    } else {
        let found = look_up(name, port, wanted(means.family, means.source)).await;
        trace.resolved = Some(Instant::now());
        let found = found.map_err(|error| no_address(name, &error))?;
        found.iter().map(SocketAddr::ip).collect()
    };
    let fitting: Vec<_> = addresses
        .into_iter()
        .filter(|address| fits(means.family, means.source, address))
        .collect();
    if fitting.is_empty() {
        let words = match literal {
            Some(_) => "Address family for hostname not supported".to_owned(),
            None => format!("{name}: No address associated with hostname"),
        };
        return Err(Miss::Server(Kind::Dns, words));
    }
    Ok(fitting)
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
