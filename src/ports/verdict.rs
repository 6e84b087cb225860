//! From headroom and limits to a state and its reasons. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::args::Mode;
use super::evidence::Evidence;
use super::headroom::{Destination, Headroom};
use super::plan::Plan;
use super::socket::Protocol;
use super::sources::Source;
use crate::plugin::State;

/// The most findings of one cause; the rest is in the details.
const MOST_FINDINGS: usize = 5;

/// What decides.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// The worst share of the ports used, in percent, among what counts.
    pub share: f64,
    /// Who has it.
    pub worst: Worst,
    /// Everything that alerts, worst first.
    pub alerts: Vec<(State, Worst)>,
    /// When the first of what counts has no port left; `None` for never.
    pub seconds_left: Option<f64>,
    /// What is full first, where the limits of the seconds left are passed.
    pub filling: Option<Filling>,
    /// The worst destination that has taken half of the range, where `connect()` gets slow.
    pub half_used: Option<(State, Destination)>,
}

/// What fills up too soon.
#[derive(Debug, Clone)]
pub struct Filling {
    /// How bad that is.
    pub state: State,
    /// What it is.
    pub budget: Worst,
    /// When its last port goes.
    pub seconds: f64,
}

/// One budget.
#[derive(Debug, Clone, PartialEq)]
pub enum Worst {
    /// connect() along a tuple.
    Connect(Destination),
    /// bind() of an address.
    Bind(Source),
    /// connect() or sendto() of UDP sockets that are not bound: the wildcard of their family.
    Unbound(Source),
    /// Connections to one destination through a NAT gateway that has so many ports for it.
    Nat {
        /// The destination.
        to: SocketAddr,
        /// Connections, over all local addresses.
        used: u32,
        /// What the gateway has.
        limit: u32,
    },
    /// connect() to anywhere: nobody is connected.
    Nobody {
        /// Ports that are not to be had.
        used: u32,
        /// Ports that are.
        free: u32,
    },
}

impl Worst {
    /// Ports used and free; together they are the capacity.
    pub fn used_and_free(&self) -> (u32, u32) {
        match self {
            Self::Connect(destination) => (destination.used, destination.free),
            Self::Bind(source) | Self::Unbound(source) => (source.used, source.free),
            Self::Nat { used, limit, .. } => ((*used).min(*limit), limit.saturating_sub(*used)),
            Self::Nobody { used, free } => (*used, *free),
        }
    }

    /// When its last port goes, where that is foreseen.
    fn seconds_left(&self) -> Option<f64> {
        match self {
            Self::Connect(destination) => destination.forecast.seconds_left,
            Self::Bind(source) | Self::Unbound(source) => source.seconds_left,
            Self::Nat { .. } | Self::Nobody { .. } => None,
        }
    }

    fn share(&self) -> f64 {
        let (used, free) = self.used_and_free();
        share(used, used + free)
    }
}

/// Used of all, in percent. Of no ports at all, all are used.
pub fn share(used: u32, capacity: u32) -> f64 {
    if capacity == 0 {
        100.0
    } else {
        // In this order 55 of 100 are 55, and not a little more.
        f64::from(used) * 100.0 / f64::from(capacity)
    }
}

impl Verdict {
    /// Judges.
    pub fn of(headroom: &Headroom, plan: &Plan) -> Self {
        let mut budgets = match plan.protocol {
            Protocol::Tcp => tcp_budgets(headroom, plan),
            Protocol::Udp => udp_budgets(headroom, plan),
        };
        budgets.extend(nat(headroom, plan));
        if budgets.is_empty() {
            budgets.push(Worst::Nobody {
                used: headroom.capacity - headroom.fresh,
                free: headroom.fresh,
            });
        }
        // Stable: of equals the first stays first, and destinations say more than addresses.
        budgets.sort_by(|a, b| b.share().total_cmp(&a.share()));
        let mut alerts = Vec::new();
        let mut found = [0; 3];
        for budget in &budgets {
            let state = plan.limits.judge(budget.share());
            let count = &mut found[match budget {
                Worst::Bind(_) | Worst::Unbound(_) => 1,
                Worst::Nat { .. } => 2,
                Worst::Connect(_) | Worst::Nobody { .. } => 0,
            }];
            if state != State::Ok && *count < MOST_FINDINGS {
                *count += 1;
                alerts.push((state, budget.clone()));
            }
        }
        let share = budgets[0].share();
        let half_used = headroom
            .destinations
            .iter()
            .filter(|_| plan.mode != Mode::Bind && plan.protocol == Protocol::Tcp)
            .filter(|destination| is_half_used(destination, headroom))
            .max_by_key(|destination| destination.sockets)
            .map(|destination| {
                let share = Worst::Connect(destination.clone()).share();
                let state = plan.limits.judge(share).min(State::Warning);
                (state, destination.clone())
            });
        let first_full = first_full(&budgets);
        let seconds_left = first_full.map(|(seconds, _)| seconds);
        let filling = first_full.and_then(|(seconds, budget)| {
            let state = plan.seconds_left.judge(seconds);
            (state != State::Ok).then(|| Filling {
                state,
                budget: budget.clone(),
                seconds,
            })
        });
        let foreseen = filling.as_ref().map_or(State::Ok, |filling| filling.state);
        Self {
            state: plan.limits.judge(share).max(foreseen),
            share,
            worst: budgets.swap_remove(0),
            alerts,
            seconds_left,
            filling,
            half_used,
        }
    }
}

fn tcp_budgets(headroom: &Headroom, plan: &Plan) -> Vec<Worst> {
    let signs = headroom.bind_before_connect == Evidence::Yes;
    let bind_counts = match plan.mode {
        Mode::Bind | Mode::Both => true,
        Mode::Auto => signs,
        Mode::Connect => false,
    };
    let mut budgets: Vec<Worst> = Vec::new();
    if plan.mode != Mode::Bind {
        budgets.extend(headroom.destinations.iter().cloned().map(Worst::Connect));
    }
    if bind_counts {
        // By itself the wildcard and whoever looks bound; all when asked for.
        let counts = |source: &&Source| {
            plan.mode != Mode::Auto
                || source.named
                || source.address.is_unspecified()
                || headroom.binds_from(source.address)
        };
        let sources = headroom.sources.iter().filter(counts).cloned();
        budgets.extend(sources.map(Worst::Bind));
    }
    budgets
}

/// The destinations only if some were named: they have the same ports, all of them. Local addresses have as many as
/// their wildcard or more; they count where they are asked for.
fn udp_budgets(headroom: &Headroom, plan: &Plan) -> Vec<Worst> {
    let narrowed = !plan.destinations.is_empty();
    let bind_counts = matches!(plan.mode, Mode::Bind | Mode::Both);
    let mut budgets: Vec<Worst> = Vec::new();
    if narrowed && plan.mode != Mode::Bind {
        budgets.extend(headroom.destinations.iter().cloned().map(Worst::Connect));
    }
    let counts = |source: &&Source| {
        bind_counts || (!narrowed && (source.named || source.address.is_unspecified()))
    };
    budgets.extend(headroom.sources.iter().filter(counts).map(|source| {
        if source.address.is_unspecified() {
            Worst::Unbound(source.clone())
        } else {
            Worst::Bind(source.clone())
        }
    }));
    budgets
}

/// The destination with the most connections through the gateway. Those of this host with itself do not pass it.
pub fn nat(headroom: &Headroom, plan: &Plan) -> Option<Worst> {
    let limit = plan.nat_limit?;
    let mut by_remote: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    for destination in &headroom.destinations {
        let tuple = &destination.tuple;
        if !tuple.destination.is_loopback() && tuple.destination != tuple.source {
            let to = SocketAddr::new(tuple.destination, tuple.port);
            *by_remote.entry(to).or_default() += destination.sockets;
        }
    }
    let (to, used) = by_remote.into_iter().max_by_key(|(_, used)| *used)?;
    Some(Worst::Nat { to, used, limit })
}

/// What of all that counts has the fewest seconds left. Of equals bind(), which is what takes the ports then.
fn first_full(budgets: &[Worst]) -> Option<(f64, &Worst)> {
    let left = budgets
        .iter()
        .filter_map(|budget| Some((budget.seconds_left()?, budget)));
    let is_connect = |budget: &Worst| matches!(budget, Worst::Connect(_));
    left.min_by(|(a, one), (b, other)| a.total_cmp(b).then(is_connect(one).cmp(&is_connect(other))))
}

/// Every port of the parity that connect() tries first is taken for this tuple; each further connect() looks at all
/// of them before it finds one.
fn is_half_used(destination: &Destination, headroom: &Headroom) -> bool {
    headroom.capacity >= 2 && destination.used * 2 >= headroom.capacity
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{Limits, Range};
    use crate::ports::census::Tuple;
    use crate::ports::forecast::Forecast;

    fn destination(used: u32, bound: bool) -> Destination {
        Destination {
            tuple: Tuple {
                source: "192.0.2.1".parse().unwrap(),
                destination: "192.0.2.9".parse().unwrap(),
                port: 80,
            },
            named: false,
            free: 100 - used,
            free_min: 0,
            free_max: 100,
            used,
            sockets: used,
            time_wait: used,
            established: 0,
            reusable: 0,
            bound,
            forecast: Forecast {
                closed_per_second: 0.0,
                limit_per_second: 0.0,
                seconds_left: None,
            },
        }
    }

    fn headroom(connect: Option<u32>, bind: u32, evidence: Evidence) -> Headroom {
        let source = |address: &str, used: u32| Source {
            address: address.parse().unwrap(),
            named: false,
            used,
            free: 100 - used,
            seconds_left: None,
        };
        Headroom {
            capacity: 100,
            claimed: 0,
            fresh: 100,
            bind_before_connect: evidence,
            destinations: connect
                .map(|used| destination(used, evidence == Evidence::Yes))
                .into_iter()
                .collect(),
            sources: vec![source("0.0.0.0", bind), source("127.0.0.1", 99)],
            outgoing: 0,
        }
    }

    fn plan(mode: Mode, warning: f64, critical: f64) -> Plan {
        Plan {
            limits: Limits {
                warning: Some(Range::up_to(warning)),
                critical: Some(Range::up_to(critical)),
            },
            mode,
            ..Plan::test()
        }
    }

    #[test]
    fn the_worst_budget_that_counts_decides() {
        use Evidence::{No, Unknown, Yes};
        for (connect, bind, evidence, mode, state) in [
            (Some(50), 0, No, Mode::Auto, State::Ok),
            (Some(51), 0, No, Mode::Auto, State::Warning),
            (Some(81), 0, No, Mode::Auto, State::Critical),
            (Some(10), 95, No, Mode::Auto, State::Ok),
            (Some(10), 95, Unknown, Mode::Auto, State::Ok),
            (Some(10), 95, Yes, Mode::Auto, State::Critical),
            // 127.0.0.1 is full, but nobody binds there.
            (Some(10), 20, Yes, Mode::Auto, State::Ok),
            (Some(10), 95, Yes, Mode::Connect, State::Ok),
            (Some(95), 10, No, Mode::Bind, State::Critical),
            (Some(10), 10, No, Mode::Both, State::Critical),
            (None, 0, Unknown, Mode::Auto, State::Ok),
        ] {
            let verdict = Verdict::of(&headroom(connect, bind, evidence), &plan(mode, 50.0, 80.0));
            assert_eq!(
                verdict.state, state,
                "{connect:?} {bind} {evidence:?} {mode:?}"
            );
            assert_eq!(verdict.alerts.is_empty(), state == State::Ok);
        }
    }

    #[test]
    fn half_of_the_range_is_said_and_warns_as_far_as_the_limits_do() {
        for (used, warning, half) in [
            (49, 50.0, None),
            (50, 50.0, Some(State::Ok)),
            (60, 50.0, Some(State::Warning)),
            (90, 50.0, Some(State::Warning)),
            (60, 70.0, Some(State::Ok)),
        ] {
            let verdict = Verdict::of(
                &headroom(Some(used), 0, Evidence::No),
                &plan(Mode::Auto, warning, 80.0),
            );
            assert_eq!(verdict.half_used.map(|(state, _)| state), half, "{used}");
        }
    }

    #[test]
    fn a_gateways_ports_are_judged_where_they_are_fewer() {
        let mut plan = plan(Mode::Auto, 50.0, 80.0);
        for (limit, state) in [
            (None, State::Ok),
            (Some(100), State::Ok),
            (Some(50), State::Warning),
            (Some(35), State::Critical),
            (Some(10), State::Critical),
        ] {
            plan.nat_limit = limit;
            let verdict = Verdict::of(&headroom(Some(30), 0, Evidence::No), &plan);
            assert_eq!(verdict.state, state, "{limit:?}");
            assert!(verdict.share <= 100.0);
        }
    }

    #[test]
    fn too_few_seconds_left_alert_and_never_full_does_not() {
        let mut plan = plan(Mode::Auto, 50.0, 80.0);
        plan.seconds_left.warning = "300:".parse().ok();
        plan.seconds_left.critical = "60:".parse().ok();
        for (seconds_left, state) in [
            (None, State::Ok),
            (Some(301.0), State::Ok),
            (Some(299.0), State::Warning),
            (Some(59.0), State::Critical),
            (Some(0.0), State::Critical),
        ] {
            let mut headroom = headroom(Some(10), 0, Evidence::No);
            headroom.destinations[0].forecast.seconds_left = seconds_left;
            let verdict = Verdict::of(&headroom, &plan);
            assert_eq!(verdict.state, state, "{seconds_left:?}");
            assert_eq!(verdict.filling.is_some(), state != State::Ok);
        }
    }

    #[test]
    fn where_bind_counts_its_seconds_do_and_nowhere_else() {
        use Evidence::{No, Yes};
        for (evidence, mode, state, is_bind) in [
            (No, Mode::Auto, State::Ok, false),
            (No, Mode::Connect, State::Ok, false),
            (No, Mode::Bind, State::Critical, true),
            (No, Mode::Both, State::Critical, true),
            (Yes, Mode::Auto, State::Critical, true),
        ] {
            let mut plan = plan(mode, 50.0, 80.0);
            plan.seconds_left.critical = "60:".parse().ok();
            let mut headroom = headroom(Some(10), 10, evidence);
            headroom.sources.truncate(1);
            headroom.sources[0].seconds_left = Some(7.0);
            let verdict = Verdict::of(&headroom, &plan);
            assert_eq!(verdict.state, state, "{evidence:?} {mode:?}");
            assert_eq!(verdict.seconds_left, is_bind.then_some(7.0));
            headroom.destinations[0].forecast.seconds_left = Some(7.0);
            let filling = Verdict::of(&headroom, &plan).filling.unwrap();
            assert_eq!(matches!(filling.budget, Worst::Bind(_)), is_bind);
        }
    }

    #[test]
    fn no_ports_at_all_are_all_used() {
        assert!((share(0, 0) - 100.0).abs() < f64::EPSILON);
        let empty = Headroom {
            capacity: 0,
            fresh: 0,
            ..headroom(None, 0, Evidence::Unknown)
        };
        let verdict = Verdict::of(&empty, &plan(Mode::Auto, 50.0, 80.0));
        assert_eq!(verdict.state, State::Critical);
    }
}
