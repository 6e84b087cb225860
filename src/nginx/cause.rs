//! Why nginx could not reach an upstream: the names, what they mean and what to do about them.

use std::fmt;
use std::str::FromStr;

/// A cause. The order is that of the report: what this check is for comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cause {
    /// `bind(ADDR) failed (98`: a bind before connect found no free port.
    BindInUse,
    /// `connect() … failed (99`: no free port towards this upstream. UDP says 11.
    NoFreePort,
    /// `bind(ADDR) failed (99`: the address of `proxy_bind` is not on this host.
    BindWrongAddress,
    /// `connect()` to an IPv6 upstream, 99: this host has no address to come from.
    Ipv6Unavailable,
    /// 24, of whatever call: the worker's limit of open files.
    NoFileDescriptors,
    /// `worker_connections are not enough`.
    WorkerConnections,
    /// 111.
    Refused,
    /// 110.
    Timeout,
    /// 104.
    Reset,
    /// 113 and 101.
    Unreachable,
    /// Every server of the block is down, failed or full.
    NoLiveUpstreams,
    /// The upstream closed before its answer was complete.
    ClosedEarly,
    /// The TLS handshake with the upstream, or its certificate.
    Tls,
    /// The upstream's name.
    Resolver,
    /// `bind() to ADDR failed (98` at start: a listener's port is taken. Never an upstream error.
    ListenConflict,
    /// Any other failure on the way to an upstream.
    OtherUpstream,
}

/// How many causes there are.
pub const CAUSES: usize = 16;

impl Cause {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; CAUSES] = [
        Self::BindInUse,
        Self::NoFreePort,
        Self::BindWrongAddress,
        Self::Ipv6Unavailable,
        Self::NoFileDescriptors,
        Self::WorkerConnections,
        Self::Refused,
        Self::Timeout,
        Self::Reset,
        Self::Unreachable,
        Self::NoLiveUpstreams,
        Self::ClosedEarly,
        Self::Tls,
        Self::Resolver,
        Self::ListenConflict,
        Self::OtherUpstream,
    ];

    /// Its place in [`Cause::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::BindInUse => "bind-in-use",
            Self::NoFreePort => "no-free-port",
            Self::BindWrongAddress => "bind-wrong-address",
            Self::Ipv6Unavailable => "ipv6-unavailable",
            Self::NoFileDescriptors => "no-file-descriptors",
            Self::WorkerConnections => "worker-connections",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::NoLiveUpstreams => "no-live-upstreams",
            Self::ClosedEarly => "closed-early",
            Self::Tls => "tls",
            Self::Resolver => "resolver",
            Self::ListenConflict => "listen-conflict",
            Self::OtherUpstream => "other-upstream",
        }
    }

    /// Texts of which each line with this cause holds one. `None` where it has too many words for that.
    pub fn needles(self) -> Option<&'static [&'static str]> {
        match self {
            Self::BindInUse | Self::ListenConflict => Some(&[" failed (98:"]),
            // UDP says 11.
            Self::NoFreePort => Some(&[" failed (99:", " failed (11:"]),
            Self::BindWrongAddress | Self::Ipv6Unavailable => Some(&[" failed (99:"]),
            Self::NoFileDescriptors => Some(&[" failed (24:", "the new socket has number "]),
            Self::WorkerConnections => Some(&[" worker_connections are not enough"]),
            Self::Refused => Some(&[" failed (111:"]),
            Self::Timeout => Some(&["upstream timed out (", " failed (110:"]),
            Self::Reset => Some(&[" failed (104:"]),
            Self::Unreachable => Some(&[" failed (101:", " failed (113:"]),
            Self::NoLiveUpstreams => Some(&["no live upstreams"]),
            Self::ClosedEarly => Some(&["upstream prematurely closed "]),
            Self::Tls | Self::Resolver | Self::OtherUpstream => None,
        }
    }

    /// Its performance data label.
    pub fn label(self) -> String {
        self.name().replace('-', "_")
    }

    /// What happened, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::BindInUse => "bind before connect: no port left",
            Self::NoFreePort => "connect: no port left towards it",
            Self::BindWrongAddress => "the address of proxy_bind is not on this host",
            Self::Ipv6Unavailable => "an IPv6 upstream, and no IPv6 address here",
            Self::NoFileDescriptors => "the worker may not open more files",
            Self::WorkerConnections => "worker_connections used up",
            Self::Refused => "nobody listens there",
            Self::Timeout => "no answer in time",
            Self::Reset => "the upstream reset the connection",
            Self::Unreachable => "no route to it",
            Self::NoLiveUpstreams => "every server of the block is out",
            Self::ClosedEarly => "the upstream closed before its answer was complete",
            Self::Tls => "the TLS handshake with the upstream failed",
            Self::Resolver => "the upstream's name did not resolve",
            Self::ListenConflict => "a port to listen on is taken",
            Self::OtherUpstream => "see the log for its words",
        }
    }

    /// What a client gets from nginx, where one server of the block is all there is.
    pub fn client_sees(self) -> Option<&'static str> {
        match self {
            Self::BindInUse | Self::BindWrongAddress | Self::NoFileDescriptors => Some("500"),
            Self::NoFreePort
            | Self::Ipv6Unavailable
            | Self::Refused
            | Self::Reset
            | Self::Unreachable
            | Self::NoLiveUpstreams
            | Self::ClosedEarly
            | Self::Tls
            | Self::Resolver => Some("502"),
            Self::Timeout => Some("504"),
            Self::WorkerConnections => Some("500 or a closed connection"),
            Self::ListenConflict | Self::OtherUpstream => None,
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::BindInUse => {
                "keep connections open (keepalive in the upstream block, proxy_http_version 1.1, an empty Connection \
                 header); drop proxy_bind, or run an nginx (1.11.4 or later) on a kernel with IP_BIND_ADDRESS_NO_PORT \
                 so that ports are counted per destination; more addresses in proxy_bind, a wider \
                 ip_local_port_range. Never tcp_tw_recycle. check_port_exhaustion shows how near the edge is"
            }
            Self::NoFreePort => {
                "keep connections open (keepalive in the upstream block, proxy_http_version 1.1, an empty Connection \
                 header); then tcp_tw_reuse=1, a wider ip_local_port_range, more addresses or ports for the \
                 upstream. Never tcp_tw_recycle. check_port_exhaustion shows how near the edge is"
            }
            Self::BindWrongAddress => {
                "put the address of proxy_bind on this host, or take it out of the configuration (a failover \
                 address may have moved)"
            }
            Self::Ipv6Unavailable => {
                "name the upstream by its IPv4 address (localhost may mean [::1]), use resolver … ipv6=off, or give \
                 this host an IPv6 address"
            }
            Self::NoFileDescriptors => {
                "raise worker_rlimit_nofile (and LimitNOFILE of the service) to more than twice worker_connections"
            }
            Self::WorkerConnections => {
                "raise worker_connections; each proxied request takes two of them"
            }
            Self::Refused => "start the upstream, or correct its address and port",
            Self::Timeout => {
                "see why the upstream is slow or its packets vanish (firewall, overload) before raising proxy_*_timeout"
            }
            Self::Reset => {
                "see the upstream's own log: it crashed, restarted, or closed an idle connection that nginx still used"
            }
            Self::Unreachable => "check routes, links and firewalls towards the upstream",
            Self::NoLiveUpstreams => {
                "look at the errors right before: they are why max_fails took the servers out"
            }
            Self::ClosedEarly => {
                "see the upstream's own log: it closed, crashed or timed out while answering"
            }
            Self::Tls => {
                "compare scheme, proxy_ssl_protocols, proxy_ssl_name and proxy_ssl_trusted_certificate with the upstream"
            }
            Self::Resolver => {
                "check the resolver directive, the name server it names, and the name"
            }
            Self::ListenConflict => {
                "another process (or a second nginx) listens there; a reload does not take effect until it is gone"
            }
            Self::OtherUpstream => "",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Cause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.trim().to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|cause| cause.name() == wanted)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|cause| cause.name()).collect();
                format!("'{text}' is no cause: give some of {}", names.join(", "))
            })
    }
}

/// A set of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CauseSet(u16);

impl CauseSet {
    /// Whether this one is in it.
    pub fn has(self, cause: Cause) -> bool {
        self.0 & (1 << cause.index()) != 0
    }

    /// Those in it, in order.
    pub fn iter(self) -> impl Iterator<Item = Cause> {
        Cause::ALL.into_iter().filter(move |cause| self.has(*cause))
    }
}

impl FromIterator<Cause> for CauseSet {
    fn from_iter<T: IntoIterator<Item = Cause>>(causes: T) -> Self {
        Self(
            causes
                .into_iter()
                .fold(0, |set, cause| set | 1 << cause.index()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_found_by_its_name() {
        for (place, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause.index(), place);
            assert_eq!(cause.name().parse(), Ok(cause));
        }
        assert!("bind".parse::<Cause>().is_err());
        let set: CauseSet = [Cause::Tls, Cause::BindInUse].into_iter().collect();
        assert!(set.iter().eq([Cause::BindInUse, Cause::Tls]));
    }
}
