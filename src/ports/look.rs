//! One look at a network namespace: which one, its settings, its sockets. The only I/O of this check.

use std::path::Path;

use anyhow::Context;

use super::active::Active;
use super::census::{Census, Tuple};
use super::headroom::Named;
use super::limits::{self, Counters, Neighbour};
use super::plan::Plan;
use super::port_set::PortRange;
use super::proc_net;
use super::sock_diag::{self, Dialect};
use super::socket::{Protocol, State};
use super::sysctl::{Sysctl, read_small};

/// What was seen, and how.
#[derive(Debug, Clone)]
pub struct Look {
    /// The namespace, as in `net:[4026531840]`.
    pub number: String,
    /// The same with what it is called.
    pub namespace: String,
    /// Whose ports.
    pub protocol: Protocol,
    /// What was asked for by name, as its routes have it.
    pub named: Named,
    /// The sockets, counted.
    pub census: Census,
    /// Other limits that look alike when they are reached.
    pub limits: Vec<Neighbour>,
    /// What the kernel counted when they were.
    pub counters: Counters,
    /// With `--active`.
    pub active: Option<Active>,
    /// Why `--active` was not possible.
    pub not_active: Option<String>,
    /// What the reader of the numbers has to know about how they came about.
    pub notes: Vec<String>,
}

impl Look {
    /// Looks at the namespace of this thread, which is called so.
    pub fn at(plan: &Plan, label: &str) -> anyhow::Result<Self> {
        let named = plan.named();
        let sysctl = Sysctl::read(&plan.proc, plan.range, plan.protocol)?;
        let mut notes = sysctl.assumed.clone();
        let census = count(plan, &sysctl, &named.tuples, &mut notes)?;
        let time_wait = census.states[State::TimeWait.index()];
        let limits = limits::read(&plan.proc, plan.protocol, time_wait);
        let tried = plan.active.then(|| try_ports(&census, plan.protocol));
        // It makes the look a better one, no more.
        let (active, not_active) = match tried {
            Some(Ok(active)) => (Some(active), None),
            Some(Err(error)) => (None, Some(format!("{error:#}"))),
            None => (None, None),
        };
        if let Some(active) = &active {
            notes.push(active.words(plan.protocol));
        }
        let number = namespace();
        let namespace = if label.is_empty() {
            number.clone()
        } else {
            format!("{label} {number}")
        };
        Ok(Self {
            counters: limits::read_counters(&plan.proc, plan.protocol),
            limits,
            active,
            not_active,
            ..Self::new(plan.protocol, number, namespace, named, census, notes)
        })
    }

    /// Looks at the namespace of a process from outside: its connections are all that can be seen.
    pub fn at_process(
        plan: &Plan,
        range: PortRange,
        pid: u32,
        label: &str,
    ) -> anyhow::Result<Self> {
        let named = Named {
            tuples: Vec::new(),
            ..plan.named()
        };
        let sysctl = Sysctl::unread(range);
        let mut notes = sysctl.assumed.clone();
        notes.push(
            "the namespace may not be joined (CAP_SYS_ADMIN): read its connections alone, without bound sockets and \
             timers, so that there is no forecast"
                .to_owned(),
        );
        let mut census = Census::new(&sysctl, &[]);
        let proc = plan.proc.join(pid.to_string());
        proc_net::dump(&proc, plan.protocol, |socket| census.add(socket))?;
        Ok(Self::new(
            plan.protocol,
            label.to_owned(),
            label.to_owned(),
            named,
            census,
            notes,
        ))
    }

    fn new(
        protocol: Protocol,
        number: String,
        namespace: String,
        named: Named,
        census: Census,
        mut notes: Vec<String>,
    ) -> Self {
        if census.unlisted > 0 {
            notes.push(format!(
                "{} connections go to more destinations than are counted one by one; they count as taken ports",
                census.unlisted
            ));
        }
        Self {
            protocol,
            number,
            namespace,
            named,
            census,
            limits: Vec::new(),
            counters: Counters::default(),
            active: None,
            not_active: None,
            notes,
        }
    }
}

fn try_ports(census: &Census, protocol: Protocol) -> anyhow::Result<Active> {
    if protocol == Protocol::Udp {
        return Active::try_udp_ports(census);
    }
    let mut active = Active::try_ports(census)?;
    sock_diag::dump(Dialect::OneWalk, true, |socket| {
        active.place(census, socket);
    })
    .context("it needs netlink sock_diag")?;
    Ok(active)
}

/// Reads the sockets in the best way that is to be had. What a way has seen before it failed is thrown away.
fn count(
    plan: &Plan,
    sysctl: &Sysctl,
    named: &[Tuple],
    notes: &mut Vec<String>,
) -> anyhow::Result<Census> {
    let (dialects, unseen): (&[_], _) = match plan.protocol {
        Protocol::Tcp => (
            &[Dialect::OneWalk, Dialect::ByFamily],
            unseen_bound(&plan.proc, sysctl).filter(|_| !plan.active),
        ),
        Protocol::Udp => (&[Dialect::Udp], None),
    };
    let mut refusal = None;
    for dialect in dialects.iter().copied() {
        let mut census = Census::new(sysctl, named);
        match sock_diag::dump(dialect, unseen.is_none(), |socket| census.add(socket)) {
            Ok(()) => {
                census.unseen_bound = unseen.unwrap_or_default();
                return Ok(census);
            }
            Err(error) => refusal = Some(error),
        }
    }
    if let Some(error) = refusal {
        let instead = match plan.protocol {
            Protocol::Tcp => {
                "/proc/net/tcp, which shows neither bound sockets nor timers, so that there is no forecast"
            }
            Protocol::Udp => "/proc/net/udp, which does not show who keeps IPv4 out of his port",
        };
        notes.push(format!(
            "netlink sock_diag is not to be had ({error}): read {instead}"
        ));
    }
    let mut census = Census::new(sysctl, named);
    proc_net::dump(&plan.proc, plan.protocol, |socket| census.add(socket))?;
    Ok(census)
}

/// How many sockets may be bound without being connected, where these are too few to matter beside the time that it takes
/// to find them: on a busy host, and at most a thousandth of the ports. `None` to have them looked for.
///
/// `alloc` counts the TCP sockets of the whole host, `inuse` those of this namespace that listen or are connected: there
/// are no more bound ones than the difference.
fn unseen_bound(proc: &Path, sysctl: &Sysctl) -> Option<u32> {
    const BUSY: u64 = 10_000;
    let net = proc_net::folder(proc);
    let v4 = read_small(&net.join("sockstat")).ok()?;
    let v6 = read_small(&net.join("sockstat6")).unwrap_or_default();
    let field = |name| limits::sockstat_field(&v4, "TCP:", name);
    let in_use = field("inuse")? + limits::sockstat_field(&v6, "TCP6:", "inuse").unwrap_or(0);
    let others = field("alloc")?.saturating_sub(in_use);
    let few = others * 1000 <= u64::from(sysctl.range.size());
    let busy = in_use + field("tw")? >= BUSY;
    (few && busy).then(|| u32::try_from(others).ok()).flatten()
}

/// The namespace of this thread, which is the one that netlink answers for. `/proc` may be someone else's or missing.
fn namespace() -> String {
    std::fs::read_link("/proc/thread-self/ns/net").map_or_else(
        |_| "own, number unknown".to_owned(),
        |link| link.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
impl Look {
    /// One at TCP, at which nothing but these sockets was seen.
    pub fn test(census: Census) -> Self {
        let nothing = (String::new(), String::new(), Named::default());
        Self::new(
            Protocol::Tcp,
            nothing.0,
            nothing.1,
            nothing.2,
            census,
            Vec::new(),
        )
    }
}
