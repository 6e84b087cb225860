//! What to change, by what was measured: the words of `--explain` and of the findings' advice. Pure.

use std::net::SocketAddr;

use super::evidence::Evidence;
use super::headroom::Destination;
use super::report::Facts;
use super::sysctl::ReuseScope;

/// The widest range that leaves the well-known ports alone.
const WIDEST: u32 = 65_535 - 1023;

/// Against running out of ports for bind().
pub const BIND_ADVICE: &str = "do not bind before connecting: nginx from 1.11.4 on with IP_BIND_ADDRESS_NO_PORT, or no \
     proxy_bind at all; tcp_tw_reuse does not help bind()";

/// Against running out of ports for connect().
pub fn connect_advice(destination: &Destination) -> String {
    let tuple = &destination.tuple;
    let to = SocketAddr::new(tuple.destination, tuple.port);
    if destination.time_wait * 2 >= destination.sockets {
        format!(
            "keep connections to {to} open (keepalive in the upstream); --explain says what else helps"
        )
    } else {
        format!(
            "{} connections to {to} are in use: look for ones that are not closed, or spread them over more addresses; \
             --explain says what else helps",
            destination.sockets - destination.time_wait
        )
    }
}

/// Measures in the order of what they bring, each with its reason and its gain on this host.
pub fn explain(facts: &Facts) -> Vec<String> {
    let Facts { look, headroom, .. } = facts;
    let mut lines = vec!["What to change, what helps most first:".to_owned()];
    let tightest = headroom
        .destinations
        .iter()
        .find(|destination| destination.sockets > 0);
    let bound = headroom.bind_before_connect == Evidence::Yes;
    let mut step = 0;
    let mut measure = |text: String| {
        step += 1;
        lines.push(format!("{step}. {text}"));
    };
    match tightest {
        Some(tightest) => measure(keepalive(tightest)),
        None => measure("nothing: there is no outgoing connection".to_owned()),
    }
    if bound {
        measure(format!(
            "{BIND_ADVICE}. A port is then used once for each destination instead of once in all: {} instead of {} free now",
            tightest.map_or(headroom.fresh, |tightest| tightest.free_max),
            headroom
                .sources
                .first()
                .map_or(headroom.capacity, |source| source.free),
        ));
    }
    if look.census.capacity < WIDEST {
        measure(format!(
            "net.ipv4.ip_local_port_range = 1024 65535: {WIDEST} ports instead of {}, {:.0} closed connections a second \
             for each destination instead of {:.0}; put ports that services listen on into ip_local_reserved_ports",
            look.census.capacity,
            rate(WIDEST),
            rate(look.census.capacity),
        ));
    }
    if let Some(tightest) = tightest {
        measure(reuse(facts, tightest, bound));
    }
    measure(format!(
        "more addresses, on either side: each further local address (proxy_bind with a variable, split_clients) or \
         upstream address and port brings {} ports, {:.0} closed connections a second",
        look.census.capacity,
        rate(look.census.capacity),
    ));
    lines.push(
        "Never net.ipv4.tcp_tw_recycle: it drops connections of clients behind NAT, and Linux 4.12 removed it. \
         tcp_fin_timeout does not shorten TIME_WAIT, either."
            .to_owned(),
    );
    lines
}

/// What a number of ports can bear when each stays in TIME_WAIT for a minute.
fn rate(ports: u32) -> f64 {
    f64::from(ports) / 60.0
}

fn keepalive(tightest: &Destination) -> String {
    let tuple = &tightest.tuple;
    let to = SocketAddr::new(tuple.destination, tuple.port);
    if tightest.time_wait == 0 {
        return format!(
            "{to}: {} connections are in use and none waits: keepalive brings nothing, find out who holds them",
            tightest.sockets
        );
    }
    format!(
        "keep connections to {to} open ('keepalive' in the upstream, 'proxy_http_version 1.1' and an empty Connection \
         header): its {} ports in TIME_WAIT become free, and {:.1} connections a second need not be opened",
        tightest.time_wait, tightest.forecast.closed_per_second
    )
}

fn reuse(facts: &Facts, tightest: &Destination, bound: bool) -> String {
    let reuse = &facts.look.census.reuse;
    let waiting = tightest.time_wait;
    let here = "net.ipv4.tcp_tw_reuse = 1";
    if bound {
        format!("not {here}: it never helps a bind(), and what was bound stays closed for its 60 s")
    } else if reuse.scope == ReuseScope::Everyone {
        format!(
            "{here} is on; {} of {waiting} ports in TIME_WAIT can be taken over now",
            tightest.reusable
        )
    } else if !reuse.timestamps {
        format!("{here} works only with net.ipv4.tcp_timestamps = 1, which is off here")
    } else if waiting == 0 {
        format!("not {here}: no port to it is in TIME_WAIT")
    } else if reuse.applies(tightest.tuple.source, tightest.tuple.destination) {
        format!("{here} brings nothing here: loopback has it already")
    } else {
        format!(
            "{here}: connect() may take over ports in TIME_WAIT that are older than {:.1} s, {waiting} to it now, if the \
             other side has timestamps, too",
            f64::from(reuse.delay) / 1000.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::census::Census;
    use crate::ports::census::tests::{socket, sysctl};
    use crate::ports::evidence::Memory;
    use crate::ports::headroom::{Headroom, Named};
    use crate::ports::look::Look;
    use crate::ports::plan::Plan;
    use crate::ports::socket::State;
    use crate::ports::verdict::Verdict;

    fn explained(ports: impl Iterator<Item = u16>, state: State) -> String {
        let mut census = Census::new(&sysctl(1000, 1099), &[]);
        for port in ports {
            census.add(&socket(state, &format!("192.0.2.1:{port}"), "192.0.2.9:80"));
        }
        let plan = Plan::test();
        let headroom = Headroom::of(&census, &Named::default(), &mut Memory::default(), None);
        let look = Look {
            number: String::new(),
            namespace: String::new(),
            counters: [None; 5],
            active: None,
            named: Named::default(),
            census,
            limits: Vec::new(),
            notes: Vec::new(),
        };
        explain(&Facts {
            plan: &plan,
            look: &look,
            headroom: &headroom,
            verdict: &Verdict::of(&headroom, &plan),
            counted: &[None; 5],
            neighbours: &[],
            owners: None,
            sampled: None,
        })
        .join("\n")
    }

    #[test]
    fn measures_follow_what_was_measured() {
        let connected = explained((1000..1060).step_by(2), State::TimeWait);
        assert!(
            connected.contains("1. keep connections to 192.0.2.9:80 open"),
            "{connected}"
        );
        assert!(
            connected.contains("its 30 ports in TIME_WAIT"),
            "{connected}"
        );
        assert!(
            connected.contains("tcp_tw_reuse = 1: connect() may take over"),
            "{connected}"
        );
        let bound = explained((1001..1061).step_by(2), State::TimeWait);
        assert!(
            bound.contains("2. do not bind before connecting"),
            "{bound}"
        );
        assert!(bound.contains("it never helps a bind()"), "{bound}");
        let held = explained((1000..1060).step_by(2), State::Established);
        assert!(held.contains("keepalive brings nothing"), "{held}");
        let none = explained(std::iter::empty(), State::TimeWait);
        assert!(none.contains("no outgoing connection"), "{none}");
        for text in [connected, bound, held, none] {
            assert!(text.contains("Never net.ipv4.tcp_tw_recycle"), "{text}");
            assert!(text.contains("64512 ports instead of 100"), "{text}");
        }
    }
}
