//! What to do about a finding, in a few words. Pure.

use std::net::SocketAddr;

use super::findings::remote;
use super::headroom::Destination;
use super::report::Facts;
use super::sources::Source;

/// Against running out of ports for bind().
pub const BIND_ADVICE: &str = "do not bind before connecting: nginx from 1.11.4 on with IP_BIND_ADDRESS_NO_PORT, or no \
     proxy_bind at all; tcp_tw_reuse does not help bind()";

/// Against running out of ports for UDP.
pub const UDP_ADVICE: &str = "use sockets again instead of one for each request, and close idle ones sooner; --explain \
     says what else helps";

/// Against running out of ports for connect(): by who has most of them.
pub fn connect_advice(facts: &Facts, destination: &Destination) -> String {
    let to = remote(destination);
    let (sockets, waiting) = (destination.sockets, destination.time_wait);
    let mut parts = Vec::new();
    if facts.headroom.claimed > sockets {
        parts.push(claimed_words(facts));
    } else if sockets > 0 && waiting * 2 >= sockets {
        parts.push(format!(
            "keep connections to {to} open (keepalive in the upstream)"
        ));
    } else if sockets > 0 {
        parts.push(format!(
            "{}: look for ones that are not closed, or spread them over more addresses",
            in_use(sockets - waiting, to)
        ));
    }
    parts.extend(reserved_words(facts));
    if parts.is_empty() {
        // No socket of its own and no listener: others have bound them.
        parts.push(BIND_ADVICE.to_owned());
    }
    parts.push("--explain says what else helps".to_owned());
    parts.join("; ")
}

/// Against running out of ports for connect() where nobody is connected.
pub fn nobody_advice(facts: &Facts) -> String {
    let claimed = (facts.headroom.claimed > 0).then(|| claimed_words(facts));
    let parts = claimed.into_iter().chain(reserved_words(facts));
    let widen = "widen ip_local_port_range".to_owned();
    parts.chain([widen]).collect::<Vec<_>>().join("; ")
}

/// Against running out of ports for bind() before connect().
pub fn bind_advice(facts: &Facts, source: &Source) -> String {
    // Claimed ports are closed to connect(), too.
    if facts.headroom.claimed * 2 > source.used {
        claimed_words(facts)
    } else {
        BIND_ADVICE.to_owned()
    }
}

/// Ports that listeners and bound sockets claim, and what to do about it.
pub fn claimed_words(facts: &Facts) -> String {
    format!(
        "{} of the {} ports are claimed by listeners and bound sockets: find who holds them ('ss -tlnp' shows listeners, \
         'ss -tnpB' of newer versions bound ones), or move them out of ip_local_port_range",
        facts.headroom.claimed, facts.headroom.capacity
    )
}

/// Where most of the range is reserved.
pub fn reserved_words(facts: &Facts) -> Option<String> {
    let census = &facts.look.census;
    let size = census.range.size();
    let reserved = size - census.capacity;
    (reserved > census.capacity).then(|| {
        format!(
            "{reserved} of the {size} ports of ip_local_port_range are in ip_local_reserved_ports: reserve fewer of them"
        )
    })
}

/// `1 connection to 192.0.2.1:80 is in use`.
pub fn in_use(count: u32, to: SocketAddr) -> String {
    let (noun, verb) = if count == 1 {
        ("connection", "is")
    } else {
        ("connections", "are")
    };
    format!("{count} {noun} to {to} {verb} in use")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::ports::census::Census;
    use crate::ports::census::tests::{socket, sysctl};
    use crate::ports::evidence::Memory;
    use crate::ports::explain::explain;
    use crate::ports::findings::findings;
    use crate::ports::headroom::Headroom;
    use crate::ports::look::Look;
    use crate::ports::plan::Plan;
    use crate::ports::port_set::{PortRange, PortSet};
    use crate::ports::report::render;
    use crate::ports::socket::State::{self, Bound, Established, Listen, TimeWait};
    use crate::ports::verdict::Verdict;

    /// What is told of these sockets.
    pub fn with_facts<T>(census: Census, plan: &Plan, tell: impl FnOnce(&Facts) -> T) -> T {
        let named = plan.named();
        let headroom = Headroom::of(&census, &named, &mut Memory::default(), None);
        let look = Look::test(census);
        tell(&Facts {
            plan,
            look: &look,
            headroom: &headroom,
            verdict: &Verdict::of(&headroom, plan),
            counted: &[None; 6],
            neighbours: &[],
            owners: None,
            sampled: None,
        })
    }

    /// The first line, the first advice, and the lines of `--explain`.
    fn told(census: Census, plan: &Plan) -> (String, String, Vec<String>) {
        with_facts(census, plan, |facts| {
            let advice = findings(facts).remove(0).advice;
            (render(&[*facts], &[]).summary, advice, explain(facts))
        })
    }

    /// 100 ports, on which these states claim or use so many, with connections to 192.0.2.9:80.
    fn census(held: &[(State, usize)]) -> Census {
        let mut census = Census::new(&sysctl(1000, 1099), &[]);
        // In the order in which connect() takes them.
        let mut ports = (1000..1100).step_by(2).chain((1001..1100).step_by(2));
        for (state, count) in held {
            let to = match state {
                Listen | Bound => "0.0.0.0:0",
                _ => "192.0.2.9:80",
            };
            for port in ports.by_ref().take(*count) {
                census.add(&socket(*state, &format!("192.0.2.1:{port}"), to));
            }
        }
        census
    }

    #[test]
    fn ports_that_listeners_and_bound_sockets_claim_are_not_blamed_on_the_one_connection() {
        let (summary, advice, steps) =
            told(census(&[(Bound, 84), (Established, 1)]), &Plan::test());
        assert!(
            summary.ends_with("15 free; 84 claimed by listeners and bound sockets"),
            "{summary}"
        );
        for text in [&advice, &steps[1]] {
            let words = "84 of the 100 ports are claimed by listeners and bound sockets: find who holds them ('ss -tlnp'";
            assert!(text.contains(words), "{text}");
        }
        assert!(steps[1].starts_with("1. "), "{steps:?}");
        assert!(
            steps[1].contains("a wider range only puts it off"),
            "{steps:?}"
        );
        assert!(!advice.contains("connection"), "{advice}");
        let spread = "upstream address or port brings 16 ports";
        assert!(steps.iter().any(|step| step.contains(spread)), "{steps:?}");
        let not = "Not: keepalive: 1 connection to 192.0.2.9:80 is in use and none";
        assert!(steps.iter().any(|step| step.starts_with(not)), "{steps:?}");
    }

    #[test]
    fn where_nobody_connects_and_the_ports_are_claimed_something_is_to_be_changed() {
        let (summary, advice, steps) = told(census(&[(Listen, 90)]), &Plan::test());
        assert!(summary.contains("; 90 claimed by"), "{summary}");
        assert!(
            advice.starts_with("90 of the 100 ports are claimed"),
            "{advice}"
        );
        assert!(advice.ends_with("; widen ip_local_port_range"), "{advice}");
        assert!(
            steps[0].ends_with("(10 of 100 ports are left for a first connection):"),
            "{steps:?}"
        );
        assert!(
            steps[1].starts_with("1. 90 of the 100 ports are claimed"),
            "{steps:?}"
        );
        assert!(
            steps[2].starts_with("2. net.ipv4.ip_local_port_range"),
            "{steps:?}"
        );
    }

    #[test]
    fn a_range_that_is_reserved_is_not_helped_by_keepalive() {
        let mut plan = Plan::test();
        plan.destinations = vec!["127.0.0.1:80".parse().unwrap()];
        let named = plan.named();
        let mut sysctl = sysctl(1000, 1099);
        let range = PortRange::new(1000, 1099).unwrap();
        sysctl.reserved = range.without(&PortSet::default());
        let (_, advice, steps) = told(Census::new(&sysctl, &named.tuples), &plan);
        let words = "100 of the 100 ports of ip_local_port_range are in ip_local_reserved_ports: reserve fewer of them";
        assert_eq!(advice, format!("{words}; --explain says what else helps"));
        assert!(steps.iter().any(|step| step.contains(words)), "{steps:?}");
    }

    #[test]
    fn whoever_has_most_of_the_ports_is_spoken_of() {
        let keepalive = "keep connections to 192.0.2.9:80 open";
        let in_use = "61 connections to 192.0.2.9:80 are in use";
        for (held, start) in [
            (census(&[(Listen, 5), (TimeWait, 60)]), keepalive),
            (
                census(&[(Listen, 5), (Established, 61), (TimeWait, 10)]),
                in_use,
            ),
            (
                census(&[(Listen, 45), (TimeWait, 40)]),
                "45 of the 100 ports are claimed",
            ),
        ] {
            let (_, advice, _) = told(held, &Plan::test());
            assert!(advice.starts_with(start), "{advice}");
        }
    }
}
