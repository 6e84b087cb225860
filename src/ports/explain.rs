//! What to change, by what was measured: the words of `--explain`. Pure.

use super::TIME_WAIT_MS;
use super::advice::{BIND_ADVICE, claimed_words, in_use, reserved_words};
use super::evidence::Evidence;
use super::findings::remote;
use super::headroom::Destination;
use super::report::{Facts, leader};
use super::socket::Protocol;
use super::sysctl::ReuseScope;
use crate::plugin;

/// The widest range that leaves the well-known ports alone.
const WIDEST: u32 = 65_535 - 1023;

/// A measure: how many more connections a second it brings, and its words.
struct Step {
    /// For the destination that is tightest.
    gain: f64,
    text: String,
}

/// Measures in the order of what they bring, each with its gain on this host; then what does not help here, and why.
pub fn explain(facts: &Facts) -> Vec<String> {
    if facts.plan.protocol == Protocol::Udp {
        return explain_udp(facts);
    }
    let tightest = facts
        .headroom
        .destinations
        .iter()
        .filter(|destination| destination.sockets > 0)
        .max_by_key(|destination| (destination.used, destination.sockets));
    let capacity = facts.headroom.capacity;
    let Some(tightest) = tightest else {
        return explain_unused(facts);
    };
    let hold = hold(facts, tightest);
    let mut steps = Vec::new();
    let mut useless = Vec::new();
    let bound = facts.headroom.bind_before_connect == Evidence::Yes;
    if facts.headroom.claimed > tightest.sockets {
        steps.push(unclaim(facts, hold));
    }
    keepalive(tightest, &mut steps, &mut useless);
    steps.extend(unreserve(facts, hold));
    if bound {
        steps.push(unbind(facts));
    }
    if capacity < WIDEST {
        steps.push(widen(facts, hold));
    }
    reuse(facts, tightest, bound, &mut steps, &mut useless);
    steps.push(spread(facts, hold));
    let now = tightest.forecast;
    let closed = if now.closed_per_second.is_nan() {
        "how many are closed is not known".to_owned()
    } else {
        format!("{} are closed", plain(now.closed_per_second))
    };
    let mut lines = vec![format!(
        "What to change, what helps most first ({} bears {} now, {closed}):",
        remote(tightest),
        per_second(now.limit_per_second),
    )];
    lines.extend(numbered(steps));
    lines.extend(useless.into_iter().map(|text| format!("Not: {text}")));
    lines.push(
        "Never net.ipv4.tcp_tw_recycle: it drops connections of clients behind NAT, and Linux 4.12 removed it. \
         tcp_fin_timeout does not shorten TIME_WAIT, either."
            .to_owned(),
    );
    lines
}

/// The same where nobody connects: who else has the ports, if these are too few.
fn explain_unused(facts: &Facts) -> Vec<String> {
    let capacity = facts.headroom.capacity;
    if facts.verdict.state == plugin::State::Ok {
        return vec![format!(
            "What to change: nothing. Nobody connects from here; {capacity} ports bear {} to each destination",
            per_second(f64::from(capacity) / TIME_WAIT_SECONDS)
        )];
    }
    let mut steps = Vec::new();
    if facts.headroom.claimed > 0 {
        steps.push(unclaim(facts, TIME_WAIT_SECONDS));
    }
    steps.extend(unreserve(facts, TIME_WAIT_SECONDS));
    if facts.headroom.bind_before_connect == Evidence::Yes {
        steps.push(Step {
            gain: 0.0,
            text: BIND_ADVICE.to_owned(),
        });
    }
    if capacity < WIDEST {
        steps.push(widen(facts, TIME_WAIT_SECONDS));
    }
    let mut lines = vec![format!(
        "What to change, what helps most first ({} of {capacity} ports are left for a first connection):",
        facts.headroom.fresh
    )];
    lines.extend(numbered(steps));
    lines
}

/// What brings most comes first.
fn numbered(mut steps: Vec<Step>) -> impl Iterator<Item = String> {
    steps.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    let numbered = steps.into_iter().zip(1..);
    numbered.map(|(step, number)| format!("{number}. {}", step.text))
}

/// The same for UDP, where nothing waits: each step brings ports at a time, not connections a second.
fn explain_udp(facts: &Facts) -> Vec<String> {
    let headroom = facts.headroom;
    let capacity = headroom.capacity;
    let of_all = headroom.outgoing;
    if of_all == 0 {
        return vec![format!(
            "What to change: nothing. No UDP socket holds one of the {capacity} ports"
        )];
    }
    let mut lines = vec![format!(
        "What to change, what helps most first ({} of {capacity} ports are used, over all destinations):",
        capacity - headroom.fresh
    )];
    let idle = match leader(headroom) {
        Some((to, sockets)) => format!("{sockets} of {of_all} sockets are connected to {to}"),
        None => format!("{of_all} sockets hold a port, none is connected"),
    };
    let mut steps = vec![format!(
        "end sessions sooner, and send more than one request on a socket: nginx' stream proxy keeps each client's socket for \
         10 minutes unless 'proxy_timeout' is shorter or 'proxy_responses 1' ends it with the answer; {idle}; gain: their ports"
    )];
    if capacity < WIDEST {
        steps.push(format!(
            "net.ipv4.ip_local_port_range = 1024 65535: {WIDEST} ports instead of {capacity}, those that services receive \
             on into ip_local_reserved_ports; gain: {} ports",
            WIDEST - capacity
        ));
    }
    steps.push(format!(
        "more local addresses, each socket bound to one of them before it connects (proxy_bind with a variable): gain: \
         {capacity} ports for each address; sockets that are not bound need a port that is free on all of them"
    ));
    let numbered = steps.into_iter().zip(1..);
    lines.extend(numbered.map(|(step, number)| format!("{number}. {step}")));
    lines.push(
        "Not: more destinations, or tcp_tw_reuse: a UDP port is taken whatever its destination, and nothing waits".to_owned(),
    );
    lines.push(
        "Not: SO_REUSEADDR or SO_REUSEPORT: of two sockets with the same port and destination, one gets the answers of both."
            .to_owned(),
    );
    lines
}

/// How long a closed connection keeps its port.
const TIME_WAIT_SECONDS: f64 = TIME_WAIT_MS as f64 / 1000.0;

fn plain(rate: f64) -> String {
    if rate < 10.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

fn per_second(rate: f64) -> String {
    format!("{} connections a second", plain(rate))
}

fn gain(rate: f64) -> String {
    format!("gain: {}", per_second(rate))
}

/// Seconds that a closed connection to this destination holds its port as things are.
fn hold(facts: &Facts, tightest: &Destination) -> f64 {
    let reuse = &facts.look.census.reuse;
    let applies = reuse.applies(tightest.tuple.source, tightest.tuple.destination);
    if applies && !tightest.bound {
        (f64::from(reuse.delay) / 1000.0).clamp(0.001, TIME_WAIT_SECONDS)
    } else {
        TIME_WAIT_SECONDS
    }
}

fn unclaim(facts: &Facts, hold: f64) -> Step {
    Step {
        // Before all others: where ports leak, what the others bring is soon claimed, too.
        gain: f64::INFINITY,
        text: format!(
            "{}; {}; if they become more and more, a wider range only puts it off",
            claimed_words(facts),
            gain(f64::from(facts.headroom.claimed) / hold)
        ),
    }
}

fn unreserve(facts: &Facts, hold: f64) -> Option<Step> {
    let census = &facts.look.census;
    let rate = f64::from(census.range.size() - census.capacity) / hold;
    let text = format!("{}; {} at most", reserved_words(facts)?, gain(rate));
    Some(Step { gain: rate, text })
}

fn keepalive(tightest: &Destination, steps: &mut Vec<Step>, useless: &mut Vec<String>) {
    let to = remote(tightest);
    let rate = tightest.forecast.closed_per_second;
    if tightest.time_wait == 0 {
        useless.push(format!(
            "keepalive: {} and none is in TIME_WAIT; find out who holds them",
            in_use(tightest.sockets, to)
        ));
        return;
    }
    let saved = if rate > 0.0 {
        gain(rate) + ", which need not be opened"
    } else if rate.is_nan() {
        "how many are closed a second is not known".to_owned()
    } else {
        "nothing was closed in the last 5 s".to_owned()
    };
    steps.push(Step {
        // Whatever the others bring, what is not opened needs no port.
        gain: f64::INFINITY,
        text: format!(
            "keep connections to {to} open ('keepalive' in the upstream, 'proxy_http_version 1.1' and an empty Connection \
             header): its {} ports in TIME_WAIT become free; {saved}",
            tightest.time_wait
        ),
    });
}

fn unbind(facts: &Facts) -> Step {
    let headroom = facts.headroom;
    let source = headroom.sources.first();
    let free = source.map_or(headroom.capacity, |source| source.free);
    let destinations = headroom
        .destinations
        .iter()
        .filter(|destination| destination.sockets > 0)
        .count();
    let each = f64::from(headroom.capacity) / TIME_WAIT_SECONDS;
    let rate = each * (destinations.max(1) - 1) as f64;
    let gained = if destinations > 1 {
        gain(rate)
    } else {
        "gain: none while there is one destination, and tcp_tw_reuse can help then".to_owned()
    };
    Step {
        gain: rate,
        text: format!(
            "{BIND_ADVICE}. A port is then used once for each of {destinations} destinations instead of once in all ({free} \
             free for bind() now); {gained}"
        ),
    }
}

fn widen(facts: &Facts, hold: f64) -> Step {
    let capacity = facts.headroom.capacity;
    let rate = f64::from(WIDEST - capacity) / hold;
    Step {
        gain: rate,
        text: format!(
            "net.ipv4.ip_local_port_range = 1024 65535: {WIDEST} ports instead of {capacity}, those that services listen on \
             into ip_local_reserved_ports; {} for each destination",
            gain(rate)
        ),
    }
}

fn spread(facts: &Facts, hold: f64) -> Step {
    // Claimed ports are closed on every address.
    let ports = facts.headroom.capacity - facts.headroom.claimed;
    let rate = f64::from(ports) / hold;
    Step {
        gain: rate,
        text: format!(
            "more addresses, on either side: each further local address (proxy_bind with a variable, split_clients) or \
             upstream address or port brings {ports} ports; {}",
            gain(rate)
        ),
    }
}

fn reuse(
    facts: &Facts,
    tightest: &Destination,
    bound: bool,
    steps: &mut Vec<Step>,
    useless: &mut Vec<String>,
) {
    let reuse = &facts.look.census.reuse;
    let waiting = tightest.time_wait;
    let here = "net.ipv4.tcp_tw_reuse = 1";
    if bound {
        useless.push(format!(
            "{here}: it never helps a bind(), and what was bound stays closed for its 60 s"
        ));
    } else if reuse.scope == ReuseScope::Everyone && reuse.timestamps {
        useless.push(format!(
            "{here}, which is on; {} of {waiting} ports in TIME_WAIT can be taken over now",
            tightest.reusable
        ));
    } else if !reuse.timestamps {
        useless.push(format!(
            "{here} alone: it works only with net.ipv4.tcp_timestamps = 1, which is off here"
        ));
    } else if waiting == 0 {
        useless.push(format!("{here}: no port to it is in TIME_WAIT"));
    } else if reuse.applies(tightest.tuple.source, tightest.tuple.destination) {
        useless.push(format!("{here}: loopback has it already"));
    } else {
        let delay = (f64::from(reuse.delay) / 1000.0).clamp(0.001, TIME_WAIT_SECONDS);
        let rate = f64::from(tightest.free + waiting) / delay - tightest.forecast.limit_per_second;
        steps.push(Step {
            gain: rate,
            text: format!(
                "{here}: connect() may take over ports in TIME_WAIT that are older than {delay:.1} s, {waiting} to it now; {} \
                 at most, if the other side has timestamps, too",
                gain(rate.max(0.0))
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::advice::tests::with_facts;
    use crate::ports::census::Census;
    use crate::ports::census::tests::{socket, sysctl};
    use crate::ports::plan::Plan;
    use crate::ports::socket::State;

    fn explained(ports: impl Iterator<Item = u16>, state: State) -> String {
        let mut census = Census::new(&sysctl(1000, 1099), &[]);
        for port in ports {
            census.add(&socket(state, &format!("192.0.2.1:{port}"), "192.0.2.9:80"));
        }
        with_facts(census, &Plan::test(), explain).join("\n")
    }

    #[test]
    fn measures_follow_what_was_measured() {
        let connected = explained((1000..1060).step_by(2), State::TimeWait);
        let order: Vec<_> = connected
            .lines()
            .filter_map(|line| line.split_once(". ").map(|(_, text)| &text[..20]))
            .collect();
        assert_eq!(
            order[..4],
            [
                "keep connections to ",
                // 64412 more ports by 60 s, 100 ports by 1 s, 100 by 60 s
                "net.ipv4.ip_local_po",
                "net.ipv4.tcp_tw_reus",
                "more addresses, on e",
            ],
            "{connected}"
        );
        for part in [
            "192.0.2.9:80 bears 1.7 connections a second now, 6.0 are closed",
            "its 30 ports in TIME_WAIT become free",
            "64512 ports instead of 100",
            "gain: 1074 connections a second",
            "gain: 98 connections a second at most",
        ] {
            assert!(connected.contains(part), "{part} in {connected}");
        }
        let bound = explained((1001..1061).step_by(2), State::TimeWait);
        assert!(bound.contains(". do not bind before connecting"), "{bound}");
        assert!(
            bound.contains("Not: net.ipv4.tcp_tw_reuse = 1: it never helps a bind()"),
            "{bound}"
        );
        let held = explained((1000..1060).step_by(2), State::Established);
        assert!(held.contains("Not: keepalive"), "{held}");
        for text in [connected, bound, held] {
            assert!(text.contains("Never net.ipv4.tcp_tw_recycle"), "{text}");
        }
        let none = explained(std::iter::empty(), State::TimeWait);
        assert_eq!(
            none,
            "What to change: nothing. Nobody connects from here; 100 ports bear 1.7 connections a second to each destination"
        );
    }
}
