//! Facts and verdict to a report: no decision is made here.

use std::fmt::Write;
use std::net::SocketAddr;

use serde_json::json;

use super::details::{MOST_LISTED, details};
use super::explain;
use super::findings::{bounds, findings, name, outlook, remote, usage, who};
use super::headroom::Headroom;
use super::limits::{self, Counters};
use super::look::Look;
use super::owners::Owners;
use super::plan::Plan;
use super::socket::{Protocol, State as SocketState};
use super::verdict::{Verdict, Worst, nat};
use crate::plugin::{Finding, Metric, Report, State};

/// How many looks were taken, and which one this is.
#[derive(Debug, Clone, Copy)]
pub struct Sampled {
    /// Looks taken.
    pub looks: u32,
    /// Seconds from the first to the last.
    pub seconds: f64,
}

/// Everything that a report speaks of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The settings.
    pub plan: &'a Plan,
    /// The look.
    pub look: &'a Look,
    /// What is free.
    pub headroom: &'a Headroom,
    /// What to make of it.
    pub verdict: &'a Verdict,
    /// What the kernel counted of the other limits since the last run.
    pub counted: &'a Counters,
    /// Other limits that are near.
    pub neighbours: &'a [Finding],
    /// Who holds the connections of the leading destination, where that was looked for.
    pub owners: Option<&'a Owners>,
    /// With `--sample`.
    pub sampled: Option<Sampled>,
}

impl Facts<'_> {
    /// The state: that of the ports, or of what looks alike.
    fn state(&self) -> State {
        let neighbours = self.neighbours.iter().map(|finding| finding.state);
        neighbours.fold(self.verdict.state, State::max)
    }
}

/// Renders the namespaces, of which the worst comes first. There is at least one, or it would be an error.
pub fn render(spaces: &[Facts], notes: &[String]) -> Report {
    let Some(worst) = spaces.first() else {
        return Report::new(State::Unknown, "no network namespace could be seen");
    };
    let chosen = !worst.plan.netns.is_empty();
    let mut text = summary(worst);
    if chosen {
        let _ = write!(text, " (namespace {}", worst.look.namespace);
        if spaces.len() > 1 {
            let _ = write!(text, ", the worst of {}", spaces.len());
        }
        text.push(')');
    }
    let mut report = Report::new(worst.state(), text);
    report.metrics = metrics(worst);
    report
        .metrics
        .push(Metric::count("namespaces", spaces.len() as u64));
    for facts in spaces {
        let mut found = findings(facts);
        if chosen {
            for finding in &mut found {
                finding.text = format!("{}: {}", facts.look.namespace, finding.text);
            }
        }
        report.findings.extend(found);
    }
    report
        .findings
        .sort_by_key(|finding| std::cmp::Reverse(finding.state.exit_code()));
    report.findings.truncate(MOST_LISTED);
    for note in notes {
        report.line(0, format!("note: {note}"));
    }
    lines(worst, &mut report);
    for facts in &spaces[1..] {
        report.line(
            1,
            format!(
                "namespace {}: {} {}",
                facts.look.namespace,
                facts.state(),
                summary(facts)
            ),
        );
    }
    let listed = spaces.iter().take(MOST_LISTED);
    report.details = json!({"namespaces": listed.map(details).collect::<Vec<_>>()});
    report
}

/// The first line behind the state. Writing to a String cannot fail.
fn summary(facts: &Facts) -> String {
    let Facts {
        headroom, verdict, ..
    } = facts;
    let prefix = match facts.plan.protocol {
        Protocol::Tcp => "",
        Protocol::Udp => "UDP, ",
    };
    let whose = match &verdict.worst {
        Worst::Nobody { .. } => "no outgoing connections,".to_owned(),
        budget => format!("{}:", who(budget)),
    };
    let mut text = format!("{prefix}{whose} {}", usage(&verdict.worst));
    if claims_lead(facts.plan, headroom, verdict) {
        let _ = write!(
            text,
            "; {} claimed by listeners and bound sockets",
            headroom.claimed
        );
    } else if verdict.state != State::Ok
        && let Some((to, sockets)) = leader(headroom)
    {
        let who = match &verdict.worst {
            Worst::Connect(worst) if remote(worst) == to => String::new(),
            Worst::Nat { to: worst, .. } if *worst == to => String::new(),
            _ => format!("{to} "),
        };
        let _ = write!(
            text,
            "; {who}leads with {sockets} of {} sockets",
            headroom.outgoing
        );
    }
    let near = facts.neighbours.iter();
    for finding in near.filter(|finding| finding.state != State::Ok).take(2) {
        let _ = write!(text, "; {}", finding.text);
    }
    if let Some(filling) = &verdict.filling {
        let who = match (&verdict.worst, &filling.budget) {
            (Worst::Connect(worst), Worst::Connect(full)) if worst.tuple == full.tuple => {
                String::new()
            }
            (Worst::Unbound(worst), Worst::Unbound(full))
            | (Worst::Bind(worst), Worst::Bind(full))
                if worst.address == full.address =>
            {
                String::new()
            }
            (_, full) => format!("{} is ", who(full)),
        };
        let _ = write!(text, "; {who}full in {:.0} s", filling.seconds);
    }
    if let Some(sampled) = facts.sampled {
        let _ = write!(
            text,
            " (peak of {} looks in {:.0} s)",
            sampled.looks, sampled.seconds
        );
    }
    text
}

/// Whether too few of TCP's ports are left, and listeners and bound sockets have more than the destination that leads.
pub fn claims_lead(plan: &Plan, headroom: &Headroom, verdict: &Verdict) -> bool {
    let leaders = leader(headroom).map_or(0, |(_, sockets)| sockets);
    let alerts = plan.protocol == Protocol::Tcp && verdict.state != State::Ok;
    alerts && u64::from(headroom.claimed) > leaders
}

/// The destination with the most sockets, over all local addresses.
pub fn leader(headroom: &Headroom) -> Option<(SocketAddr, u64)> {
    let mut by_remote = std::collections::BTreeMap::new();
    for destination in &headroom.destinations {
        *by_remote.entry(remote(destination)).or_insert(0) += u64::from(destination.sockets);
    }
    by_remote
        .into_iter()
        .filter(|(_, sockets)| *sockets > 0)
        .max_by_key(|(_, sockets)| *sockets)
}

fn metrics(facts: &Facts) -> Vec<Metric> {
    let Facts {
        plan,
        look,
        headroom,
        verdict,
        ..
    } = facts;
    let capacity = f64::from(headroom.capacity);
    let ports = |label, value: u32| Metric::count(label, value.into()).max(capacity);
    let tightest = headroom.destinations.first();
    let (used, free) = match (tightest, &verdict.worst) {
        (_, Worst::Unbound(worst)) => (worst.used, worst.free),
        (Some(tightest), _) => (tightest.used, tightest.free),
        (None, _) => (headroom.capacity - headroom.fresh, headroom.fresh),
    };
    let bind = headroom.sources.first();
    let state = |state: SocketState| look.census.states[state.index()];
    let tcp = plan.protocol == Protocol::Tcp;
    let rate = |rate: f64| if tcp { rate } else { f64::NAN };
    let closed = headroom
        .destinations
        .iter()
        .map(|d| d.forecast.closed_per_second);
    let tightest = tightest.map(|d| d.forecast);
    let mut metrics = vec![
        Metric::percent("used_share", verdict.share)
            .limits(plan.limits.warning, plan.limits.critical),
        ports("used", used),
        ports("free", free),
        Metric::count("capacity", headroom.capacity.into()),
        ports("bind_used", bind.map_or(0, |source| source.used)),
        ports(
            "bind_free",
            bind.map_or(headroom.capacity, |source| source.free),
        ),
        Metric::count("sockets", look.census.states.iter().sum()),
        Metric::count("established", state(SocketState::Established)),
        Metric::count("time_wait", state(SocketState::TimeWait)),
        Metric::count("outgoing", headroom.outgoing),
        Metric::new("closed_per_second", rate(closed.sum())).min(0.0),
        Metric::new(
            "limit_per_second",
            tightest.map_or(rate(f64::from(headroom.fresh) / 60.0), |f| {
                f.limit_per_second
            }),
        )
        .min(0.0),
        Metric::seconds("seconds_left", verdict.seconds_left.unwrap_or(f64::NAN))
            .limits(plan.seconds_left.warning, plan.seconds_left.critical),
    ];
    metrics.extend(neighbours(facts));
    metrics
}

/// Used and limit of each other limit, and what was counted. What is not known is left out when it is printed.
fn neighbours(facts: &Facts) -> Vec<Metric> {
    let known = |value: Option<u64>| value.map_or(f64::NAN, |value| value as f64);
    let mut metrics = Vec::new();
    for name in limits::NAMES {
        let limit = facts.look.limits.iter().find(|limit| limit.name == name);
        let metric =
            |what: &str, value| Metric::new(format!("{name}_{what}"), known(value)).min(0.0);
        metrics.push(metric("used", limit.map(|limit| limit.used)));
        metrics.push(metric("limit", limit.map(|limit| limit.limit)));
    }
    for (name, count) in limits::COUNTERS.into_iter().zip(facts.counted) {
        metrics.push(Metric::new(name, known(*count)).min(0.0));
    }
    let nat = match nat(facts.headroom, facts.plan) {
        Some(Worst::Nat { used, limit, .. }) => Some((used, limit)),
        _ => None,
    };
    metrics.push(Metric::new("nat_used", known(nat.map(|(used, _)| used.into()))).min(0.0));
    metrics.push(Metric::new("nat_limit", known(facts.plan.nat_limit.map(u64::from))).min(0.0));
    metrics
}

/// The namespace, its settings and its sockets.
fn space(facts: &Facts) -> String {
    let Facts { look, headroom, .. } = facts;
    let census = &look.census;
    let states = SocketState::ALL
        .into_iter()
        .filter(|state| census.states[state.index()] > 0)
        .map(|state| format!("{} {}", census.states[state.index()], state.name()))
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "namespace {}: ports {}, {} reserved, {} claimed by {}; sockets: {}",
        look.namespace,
        census.range,
        census.range.size() - census.capacity,
        headroom.claimed,
        match facts.plan.protocol {
            Protocol::Tcp => "listeners and bound sockets",
            Protocol::Udp => "unconnected sockets",
        },
        if states.is_empty() { "none" } else { &states },
    )
}

fn lines(facts: &Facts, report: &mut Report) {
    let Facts { look, headroom, .. } = facts;
    let census = &look.census;
    let tcp = facts.plan.protocol == Protocol::Tcp;
    report.line(0, space(facts));
    if census.unseen_bound > 0 {
        report.line(
            1,
            format!(
                "bound and unconnected sockets were not looked for: there are at most {} among so many (--active looks)",
                census.unseen_bound
            ),
        );
    }
    for note in &look.notes {
        report.line(0, format!("note: {note}"));
    }
    if tcp {
        report.line(
            1,
            format!(
                "bind before connect: {}",
                headroom.bind_before_connect.name()
            ),
        );
    } else if facts.sampled.is_none() {
        report.line(
            1,
            "no forecast: UDP has no TIME_WAIT to tell it; --sample looks how fast the ports go"
                .to_owned(),
        );
    }
    for (at, destination) in headroom.destinations.iter().take(MOST_LISTED).enumerate() {
        let waiting = if tcp {
            format!(
                ", {} time_wait ({} reusable)",
                destination.time_wait, destination.reusable
            )
        } else {
            String::new()
        };
        report.line(
            if at < 10 { 1 } else { 2 },
            format!(
                "connect {}: {}{}; {} established{waiting}{}",
                name(destination),
                usage(&Worst::Connect(destination.clone())),
                bounds(destination),
                destination.established,
                outlook(destination)
            ),
        );
    }
    for source in headroom.sources.iter().take(MOST_LISTED) {
        report.line(
            1,
            format!(
                "bind {}: {}",
                source.address,
                usage(&Worst::Bind(source.clone()))
            ),
        );
    }
    for limit in &look.limits {
        report.line(
            2,
            format!("{}: {} of {} used", limit.name, limit.used, limit.limit),
        );
    }
    let counted = limits::COUNTERS.into_iter().zip(facts.counted);
    for (name, count) in counted.filter_map(|(name, count)| Some((name, (*count)?))) {
        report.line(2, format!("{name}: {count} more than before"));
    }
    if let Some(owners) = facts.owners {
        match leader(headroom) {
            _ if !tcp => report.line(0, format!("UDP sockets on these ports: {}", owners.words())),
            _ if claims_lead(facts.plan, headroom, facts.verdict) => report.line(
                0,
                format!(
                    "listeners and bound sockets on these ports: {}",
                    owners.words()
                ),
            ),
            Some((to, _)) => report.line(0, format!("connections to {to}: {}", owners.words())),
            None => {}
        }
    }
    if facts.plan.explain {
        for line in explain::explain(facts) {
            report.line(0, line);
        }
    }
}
