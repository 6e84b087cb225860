//! What was found, in words: causes, numbers, advice. No decision is made here.

use std::net::SocketAddr;

use super::advice;
use super::headroom::Destination;
use super::report::Facts;
use super::socket::Protocol;
use super::sources::Source;
use super::verdict::{Filling, Worst, share};
use crate::plugin::Finding;

/// Everything that was found, worst first.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let verdict = facts.verdict;
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
                advice: match facts.plan.protocol {
                    Protocol::Tcp => advice::connect_advice(facts, destination),
                    Protocol::Udp => advice::UDP_ADVICE.to_owned(),
                },
            },
            Worst::Bind(source) => Finding {
                cause: "bind-ports",
                state: *state,
                text: format!(
                    "bind({}) before connect(): {}, over all destinations",
                    source.address,
                    usage(budget)
                ),
                advice: match facts.plan.protocol {
                    Protocol::Tcp => advice::bind_advice(facts, source),
                    Protocol::Udp => advice::UDP_ADVICE.to_owned(),
                },
            },
            Worst::Unbound(source) => Finding {
                cause: "connect-ports",
                state: *state,
                text: format!(
                    "connect() or sendto() of {}: {}, over all destinations and local addresses",
                    unbound(source),
                    usage(budget)
                ),
                advice: advice::UDP_ADVICE.to_owned(),
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
                advice: advice::nobody_advice(facts),
            },
        })
        .collect();
    findings.extend(
        verdict
            .filling
            .as_ref()
            .map(|filling| fills(facts, filling)),
    );
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

/// What fills up too soon.
fn fills(facts: &Facts, filling: &Filling) -> Finding {
    let tcp = facts.plan.protocol == Protocol::Tcp;
    let budget = &filling.budget;
    let text = match budget {
        Worst::Connect(destination) if tcp => {
            format!("{}{}", name(destination), outlook(destination))
        }
        _ => format!("{}: full in {:.0} s", who(budget), filling.seconds),
    };
    let advice = match budget {
        Worst::Connect(destination) if tcp => advice::connect_advice(facts, destination),
        Worst::Bind(source) if tcp => advice::bind_advice(facts, source),
        _ => advice::UDP_ADVICE.to_owned(),
    };
    Finding {
        cause: "filling-up",
        state: filling.state,
        text,
        advice,
    }
}

/// Where the estimate may be off.
pub fn bounds(destination: &Destination) -> String {
    if destination.free_min == destination.free_max {
        String::new()
    } else {
        format!(
            " (at least {}, at most {})",
            destination.free_min, destination.free_max
        )
    }
}

/// How it goes on, where something is closed.
pub fn outlook(destination: &Destination) -> String {
    let forecast = &destination.forecast;
    // No number where nothing is known.
    let closes = forecast.closed_per_second > 0.0;
    if !closes {
        return String::new();
    }
    let by_itself = forecast.closed_per_second > forecast.limit_per_second;
    let until = match forecast.seconds_left {
        Some(seconds) if destination.free > 0 && destination.bound && !by_itself => {
            format!("full in {seconds:.0} s together with others that bind first")
        }
        Some(seconds) if destination.free > 0 => format!("full in {seconds:.0} s"),
        Some(_) => "full".to_owned(),
        None => "not filling up".to_owned(),
    };
    format!(
        "; {:.1} closed a second of {:.1} that it can bear, {until}",
        forecast.closed_per_second, forecast.limit_per_second
    )
}

/// Used, all and free.
pub fn usage(budget: &Worst) -> String {
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

/// Where it goes.
pub fn remote(destination: &Destination) -> SocketAddr {
    SocketAddr::new(destination.tuple.destination, destination.tuple.port)
}

/// Where it goes, and from where.
pub fn name(destination: &Destination) -> String {
    format!("{} from {}", remote(destination), destination.tuple.source)
}

/// Those who have no address before they connect or send.
pub fn unbound(source: &Source) -> String {
    let family = if source.address.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    format!("unbound {family} sockets")
}

/// Whose ports these are.
pub fn who(budget: &Worst) -> String {
    match budget {
        Worst::Connect(destination) => name(destination),
        Worst::Bind(source) => format!("bind({})", source.address),
        Worst::Unbound(source) => unbound(source),
        Worst::Nat { to, .. } => format!("{to} through NAT"),
        Worst::Nobody { .. } => "connect() to anywhere".to_owned(),
    }
}
