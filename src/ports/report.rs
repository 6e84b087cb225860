//! Facts and verdict to a report: no decision is made here.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

use super::explain;
use super::headroom::{Destination, Headroom, Source};
use super::limits::{self, Counters};
use super::look::Look;
use super::owners::Owners;
use super::plan::Plan;
use super::socket::State as SocketState;
use super::verdict::{Verdict, Worst, nat, share};
use crate::plugin::metric::number;
use crate::plugin::{Finding, Metric, Report, State};

/// The most entries of a list in the JSON document, beside those asked for by name.
const MOST_LISTED: usize = 50;

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
    let mut text = match &verdict.worst {
        Worst::Connect(destination) => format!("{}: {}", name(destination), usage(&verdict.worst)),
        Worst::Bind(source) => format!("bind({}): {}", source.address, usage(&verdict.worst)),
        Worst::Nat { to, .. } => format!("{to} through NAT: {}", usage(&verdict.worst)),
        Worst::Nobody { .. } => format!("no outgoing connections, {}", usage(&verdict.worst)),
    };
    if verdict.state != State::Ok
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
    for finding in facts.neighbours.iter().take(2) {
        let _ = write!(text, "; {}", finding.text);
    }
    if let Some((_, destination)) = &verdict.filling {
        let seconds = destination.forecast.seconds_left.unwrap_or_default();
        let who = match &verdict.worst {
            Worst::Connect(worst) if worst.tuple == destination.tuple => String::new(),
            _ => format!("{} is ", name(destination)),
        };
        let _ = write!(text, "; {who}full in {seconds:.0} s");
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

fn usage(budget: &Worst) -> String {
    let (used, free) = budget.used_and_free();
    let capacity = used + free;
    format!(
        "{used} of {capacity} ports used ({}), {free} free",
        percent(used, capacity)
    )
}

/// Three digits at most, and no "0 %" for what is there.
fn percent(used: u32, capacity: u32) -> String {
    match share(used, capacity) {
        share if used == 0 || share >= 9.95 => format!("{share:.0} %"),
        share if share < 0.01 => "< 0.01 %".to_owned(),
        share => format!("{share:.2} %"),
    }
}

fn remote(destination: &Destination) -> SocketAddr {
    SocketAddr::new(destination.tuple.destination, destination.tuple.port)
}

fn name(destination: &Destination) -> String {
    format!("{} from {}", remote(destination), destination.tuple.source)
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
    let (used, free) = match headroom.destinations.first() {
        Some(tightest) => (tightest.used, tightest.free),
        None => (headroom.capacity - headroom.fresh, headroom.fresh),
    };
    let bind = headroom.sources.first();
    let state = |state: SocketState| look.census.states[state.index()];
    let closed: f64 = headroom
        .destinations
        .iter()
        .map(|d| d.forecast.closed_per_second)
        .sum();
    let tightest = headroom.destinations.first().map(|d| d.forecast);
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
        Metric::new("closed_per_second", closed).min(0.0),
        Metric::new(
            "limit_per_second",
            tightest.map_or(f64::from(headroom.fresh) / 60.0, |f| f.limit_per_second),
        )
        .min(0.0),
        Metric::seconds(
            "seconds_left",
            tightest.and_then(|f| f.seconds_left).unwrap_or(f64::NAN),
        )
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

fn findings(facts: &Facts) -> Vec<Finding> {
    let Facts {
        headroom, verdict, ..
    } = facts;
    let mut findings: Vec<_> = verdict
        .alerts
        .iter()
        .map(|(state, budget)| match budget {
            Worst::Connect(destination) => Finding {
                cause: "connect-ports",
                state: *state,
                text: format!(
                    "connect() to {}: {}{}{}",
                    name(destination),
                    usage(budget),
                    bounds(destination),
                    outlook(destination)
                ),
                advice: explain::connect_advice(destination),
            },
            Worst::Bind(source) => Finding {
                cause: "bind-ports",
                state: *state,
                text: format!(
                    "bind({}) before connect(): {}, over all destinations",
                    source.address,
                    usage(budget)
                ),
                advice: explain::BIND_ADVICE.to_owned(),
            },
            Worst::Nat { to, used, limit } => Finding {
                cause: "nat-limit",
                state: *state,
                text: format!("NAT gateway: {used} of {limit} connections to {to} (--nat-limit)"),
                advice: format!(
                    "keep connections to {to} open, give the gateway more addresses, or reach it without NAT (a private \
                     endpoint)"
                ),
            },
            Worst::Nobody { .. } => Finding {
                cause: "connect-ports",
                state: *state,
                text: format!("connect() to anywhere: {}", usage(budget)),
                advice: format!(
                    "{} of the ports are claimed by listeners and bound sockets: widen ip_local_port_range, or reserve \
                     fewer ports",
                    headroom.claimed
                ),
            },
        })
        .collect();
    if let Some((state, destination)) = &verdict.filling {
        findings.push(Finding {
            cause: "filling-up",
            state: *state,
            text: format!("{}{}", name(destination), outlook(destination)),
            advice: explain::connect_advice(destination),
        });
    }
    if let Some((state, destination)) = &verdict.half_used {
        findings.push(Finding {
            cause: "half-used",
            state: *state,
            text: format!(
                "half of the ports to {} are used: from here on each connect() searches the other half first and takes \
                 about a hundred times as long",
                name(destination)
            ),
            advice: "watch the system's CPU time; fewer or longer connections to it bring it back".to_owned(),
        });
    }
    findings.extend(facts.neighbours.iter().cloned());
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.state.exit_code()));
    findings
}

fn bounds(destination: &Destination) -> String {
    if destination.free_min == destination.free_max {
        String::new()
    } else {
        format!(
            " (at least {}, at most {})",
            destination.free_min, destination.free_max
        )
    }
}

fn outlook(destination: &Destination) -> String {
    let forecast = &destination.forecast;
    if forecast.closed_per_second <= 0.0 {
        return String::new();
    }
    let until = match forecast.seconds_left {
        Some(seconds) if destination.free > 0 => format!("full in {seconds:.0} s"),
        Some(_) => "full".to_owned(),
        None => "not filling up".to_owned(),
    };
    format!(
        "; {:.1} closed a second of {:.1} that it can bear, {until}",
        forecast.closed_per_second, forecast.limit_per_second
    )
}

fn lines(facts: &Facts, report: &mut Report) {
    let Facts { look, headroom, .. } = facts;
    let census = &look.census;
    let states = SocketState::ALL
        .into_iter()
        .filter(|state| census.states[state.index()] > 0)
        .map(|state| format!("{} {}", census.states[state.index()], state.name()))
        .collect::<Vec<_>>()
        .join(", ");
    report.line(
        0,
        format!(
            "namespace {}: ports {}, {} reserved, {} claimed by listeners and bound sockets; sockets: {}",
            look.namespace,
            census.range,
            census.range.size() - census.capacity,
            headroom.claimed,
            if states.is_empty() { "none" } else { &states },
        ),
    );
    for note in &look.notes {
        report.line(0, format!("note: {note}"));
    }
    report.line(
        1,
        format!(
            "bind before connect: {}",
            headroom.bind_before_connect.name()
        ),
    );
    for (at, destination) in headroom.destinations.iter().take(MOST_LISTED).enumerate() {
        report.line(
            if at < 10 { 1 } else { 2 },
            format!(
                "connect {}: {}{}; {} established, {} time_wait ({} reusable){}",
                name(destination),
                usage(&Worst::Connect(destination.clone())),
                bounds(destination),
                destination.established,
                destination.time_wait,
                destination.reusable,
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
    if let Some(owners) = facts.owners
        && let Some((to, _)) = leader(headroom)
    {
        report.line(0, format!("connections to {to}: {}", owners.words()));
    }
    if facts.plan.explain {
        for line in explain::explain(facts) {
            report.line(0, line);
        }
    }
}

fn details(facts: &Facts) -> Value {
    let Facts { look, headroom, .. } = facts;
    let census = &look.census;
    let sockets: Map<_, _> = SocketState::ALL
        .into_iter()
        .map(|state| (state.name().to_owned(), census.states[state.index()].into()))
        .collect();
    let limits: Vec<_> = look
        .limits
        .iter()
        .map(|limit| json!({"name": limit.name, "used": limit.used, "limit": limit.limit}))
        .collect();
    json!({
        "name": look.namespace,
        "range": [census.range.low, census.range.high],
        "reserved": census.range.size() - census.capacity,
        "capacity": census.capacity,
        "sockets": sockets,
        "bind_before_connect": headroom.bind_before_connect.name(),
        "sources": listed(&headroom.sources, |s| s.named).map(source).collect::<Vec<_>>(),
        "destinations": listed(&headroom.destinations, |d| d.named).map(destination).collect::<Vec<_>>(),
        "limits": limits,
        "counted": limits::COUNTERS.into_iter().zip(facts.counted).map(|(name, count)| (name.to_owned(), json!(count)))
            .collect::<Map<_, _>>(),
        "owners": facts.owners.map(owners),
    })
}

fn owners(owners: &Owners) -> Value {
    let list: Vec<_> = owners
        .list
        .iter()
        .take(MOST_LISTED)
        .map(|owner| json!({"process": owner.name, "pids": owner.pids, "sockets": owner.sockets}))
        .collect();
    json!({"sockets": owners.wanted, "processes": list, "hidden_processes": owners.hidden})
}

/// The first ones, and those asked for by name.
fn listed<T>(items: &[T], named: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
    items
        .iter()
        .enumerate()
        .filter(move |(at, item)| *at < MOST_LISTED || named(item))
        .map(|(_, item)| item)
}

fn source(source: &Source) -> Value {
    json!({
        "address": address(source.address),
        "bind_used": source.used,
        "bind_free": source.free,
    })
}

fn destination(destination: &Destination) -> Value {
    let forecast = &destination.forecast;
    json!({
        "source": address(destination.tuple.source),
        "destination": address(destination.tuple.destination),
        "port": destination.tuple.port,
        "used": destination.used,
        "free": destination.free,
        "free_min": destination.free_min,
        "free_max": destination.free_max,
        "time_wait": destination.time_wait,
        "established": destination.established,
        "reusable": destination.reusable,
        "closed_per_second": number(forecast.closed_per_second),
        "limit_per_second": number(forecast.limit_per_second),
        "seconds_left": forecast.seconds_left.map(number),
    })
}

fn address(address: IpAddr) -> String {
    address.to_string()
}
