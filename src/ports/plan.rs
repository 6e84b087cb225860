//! The options as consistent settings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

use super::args::{Args, Mode};
use super::census::Tuple;
use super::headroom::Named;
use super::netns::Target;
use super::port_set::PortRange;
use super::socket::Protocol;
use crate::plugin::{Limits, Range, state_file};

/// What to look at, and what to make of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose ports.
    pub protocol: Protocol,
    /// Over the worst share used, in percent.
    pub limits: Limits<Range>,
    /// Over the seconds until the ports of a destination are used up; one that never fills alerts in none.
    pub seconds_left: Limits<Range>,
    /// Over the share used of the other limits, in percent.
    pub other_limits: Limits<Range>,
    /// Connections to one destination that a NAT gateway allows.
    pub nat_limit: Option<u32>,
    /// Whether to name the owners of sockets whatever the state.
    pub owners: bool,
    /// Where to keep what the next run needs.
    pub state_file: Option<PathBuf>,
    /// Which budgets decide the state.
    pub mode: Mode,
    /// Remote addresses and ports named.
    pub destinations: Vec<SocketAddr>,
    /// Local addresses named.
    pub sources: Vec<IpAddr>,
    /// Network namespaces named; the own one without.
    pub netns: Vec<Target>,
    /// Overrules `ip_local_port_range`.
    pub range: Option<PortRange>,
    /// Where `/proc` is.
    pub proc: PathBuf,
    /// For how long to look; one look without.
    pub sample: Option<Duration>,
    /// Whether to try the ports one by one.
    pub active: bool,
    /// Whether to say what to change.
    pub explain: bool,
}

impl TryFrom<&Args> for Plan {
    type Error = anyhow::Error;

    fn try_from(args: &Args) -> anyhow::Result<Self> {
        for from in &args.source {
            let pairs = args
                .destination
                .iter()
                .any(|to| to.is_ipv4() == from.is_ipv4());
            ensure!(
                args.destination.is_empty() || pairs,
                "--source {from}: no --destination is of its family"
            );
        }
        let foretells = args.protocol == Protocol::Tcp || args.sample.is_some();
        ensure!(
            foretells
                || (args.seconds_left_warning.is_none() && args.seconds_left_critical.is_none()),
            "--seconds-left-warning and --seconds-left-critical need --sample with --protocol udp: no TIME_WAIT tells how \
             it was before"
        );
        Ok(Self {
            protocol: args.protocol,
            // A plain number is a percentage, too: there is nothing else it could mean.
            limits: Limits {
                warning: Some(args.warning.range),
                critical: Some(args.critical.range),
            },
            seconds_left: Limits {
                warning: args.seconds_left_warning,
                critical: args.seconds_left_critical,
            },
            other_limits: Limits {
                warning: Some(args.limits_warning.range),
                critical: Some(args.limits_critical.range),
            },
            nat_limit: args.nat_limit,
            owners: args.owners,
            state_file: state_file(args),
            mode: args.mode,
            destinations: args.destination.clone(),
            sources: args.source.clone(),
            netns: args.netns.clone(),
            range: args.port_range,
            proc: args.proc.clone(),
            sample: args.sample,
            active: args.active,
            explain: args.explain,
        })
    }
}

impl Plan {
    /// What was named, with the local addresses that the routes of this thread's namespace give.
    pub fn named(&self) -> Named {
        let mut tuples = Vec::new();
        for to in &self.destinations {
            if self.sources.is_empty() {
                tuples.push(tuple(source_towards(*to), *to));
            }
            let same_family = self
                .sources
                .iter()
                .filter(|from| from.is_ipv4() == to.is_ipv4());
            tuples.extend(same_family.map(|from| {
                let from = if from.is_unspecified() {
                    source_towards(*to)
                } else {
                    *from
                };
                tuple(from, *to)
            }));
        }
        Named {
            tuples,
            destinations: self
                .destinations
                .iter()
                .map(|to| (to.ip(), to.port()))
                .collect(),
            sources: self.sources.clone(),
        }
    }
}

/// As given, or below the folder that the environment names. A look alone needs no state, and is over sooner without.
fn state_file(args: &Args) -> Option<PathBuf> {
    let named = ["NAGIOS_PLUGIN_STATE_DIRECTORY", "MP_STATE_PATH"];
    let given = named
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    args.state_file.clone().or_else(|| {
        given.then(|| {
            let settings = format!(
                "{:?} {} {:?}",
                args.netns,
                args.proc.display(),
                args.protocol
            );
            state_file::default_path(super::PLUGIN.binary, &settings)
        })
    })
}

fn tuple(source: IpAddr, to: SocketAddr) -> Tuple {
    Tuple {
        source,
        destination: to.ip(),
        port: to.port(),
    }
}

/// The local address that a connection to this destination gets from the routes. Connecting a UDP socket asks for it
/// and sends nothing. The wildcard where there is no route.
fn source_towards(destination: SocketAddr) -> IpAddr {
    let any: IpAddr = if destination.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    UdpSocket::bind((any, 0))
        .and_then(|socket| {
            socket.connect(destination)?;
            socket.local_addr()
        })
        .map_or(any, |address| address.ip())
}

#[cfg(test)]
impl Plan {
    /// The settings of a command line without options.
    pub fn test() -> Self {
        let args: Args =
            crate::plugin::options::parse("PORTS", ["check".into()].into_iter()).unwrap();
        Self::try_from(&args).unwrap()
    }
}
