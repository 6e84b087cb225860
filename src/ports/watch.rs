//! What is kept of the looks at each network namespace: the worst one, the most that was used of each other limit, and all
//! evidence.

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::time::Instant;

use super::evidence::Memory;
use super::headroom::Headroom;
use super::limits::{self, Counters, Neighbour};
use super::look::Look;
use super::memory::{Kept, Store};
use super::netns::{self, Namespace, Refused, Target};
use super::plan::Plan;
use super::record::Recorder;
use super::report::{claims_lead, leader};
use super::sock_diag::{self, Dialect};
use super::socket::{Protocol, Socket};
use super::udp::{self, Trend};
use super::verdict::Verdict;
use crate::plugin::{Finding, State};

/// A namespace and what was seen of it.
#[derive(Debug)]
pub struct Watched {
    place: Place,
    memory: Memory,
    peak: Option<Seen>,
    /// The most that was used of each other limit.
    limits: Vec<Neighbour>,
    /// Of the last run, or else of the first look; and of the last look.
    counters: Option<(Counters, Counters)>,
    /// How the use of UDP's ports grows, by family.
    trends: [Trend; 2],
    begun: Instant,
    gone: bool,
}

#[derive(Debug)]
enum Place {
    /// To be looked at from inside.
    Inside(Namespace),
    /// That of a process, which may not be opened; and what it is called.
    Outside(u32, String),
}

/// One look and what it means.
#[derive(Debug)]
pub struct Seen {
    /// The look.
    pub look: Look,
    /// What is free.
    pub headroom: Headroom,
    /// What to make of it.
    pub verdict: Verdict,
    /// What the kernel counted since the last run, or since the first look.
    pub counted: Counters,
    /// The inodes of the leading destination's live sockets, where their owners are wanted.
    pub leaders_inodes: HashSet<u32>,
    /// Other limits that are near.
    pub neighbours: Vec<Finding>,
}

/// Finds the namespaces, at this second of the Unix epoch. The texts say what of them cannot be seen.
pub fn begin(plan: &Plan, now: i64) -> anyhow::Result<(Vec<Watched>, Vec<String>)> {
    let watched = |place| Watched::new(place, now);
    let (found, mut notes) = match netns::find(&plan.netns, &plan.proc) {
        Ok((spaces, notes)) => (spaces.into_iter().map(Place::Inside).collect(), notes),
        Err(error) => {
            let refused = error.downcast_ref::<Refused>();
            let outside = refused.and_then(|r| Some(Place::Outside(r.unopened?, r.label.clone())));
            match (outside, plan.range) {
                (Some(place), Some(_)) if plan.netns.len() == 1 => (vec![place], Vec::new()),
                _ => return Err(error),
            }
        }
    };
    if plan.netns.is_empty() {
        notes.extend(netns::warning_of_own(&plan.proc));
    }
    Ok((found.into_iter().map(watched).collect(), notes))
}

/// Looks at each, with what the last run kept. One of `--netns all` that cannot be seen is said and left out; one that was named is an error.
pub fn look(
    watched: &mut [Watched],
    plan: &Plan,
    last: Option<&Store>,
    mut recorder: Option<&mut Recorder>,
    notes: &mut Vec<String>,
) -> anyhow::Result<()> {
    let all = plan.netns.contains(&Target::All);
    let mut seen = false;
    let mut last_error = None;
    for space in watched.iter_mut().filter(|space| !space.gone) {
        match space.look(plan, last, recorder.as_deref_mut(), notes) {
            Ok(()) => seen = true,
            Err(error) if all || space.peak.is_some() => {
                space.gone = true;
                notes.push(space.not_seen(&error));
                last_error = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match last_error {
        Some(error) if !seen && watched.iter().all(|space| space.peak.is_none()) => Err(error),
        _ => Ok(()),
    }
}

/// What was seen at the peak of each, with the evidence of all looks, the worst first; and what to keep of it.
pub fn worst_first(
    watched: Vec<Watched>,
    plan: &Plan,
    open_files: Option<&Neighbour>,
    now: i64,
) -> (Vec<Seen>, BTreeMap<String, Kept>) {
    let mut kept = BTreeMap::new();
    let mut all = Vec::new();
    for mut space in watched {
        let Some(peak) = space.peak else { continue };
        let mut seen = Seen::of(peak.look, plan, &mut space.memory);
        if plan.protocol == Protocol::Udp {
            udp::foretell(&mut seen.headroom, &space.trends);
            seen.verdict = Verdict::of(&seen.headroom, plan);
        }
        if let Some((before, after)) = space.counters {
            seen.counted = limits::increase(&after, &before);
            kept.insert(key(plan, &seen.look), Kept::new(after, &space.memory, now));
        }
        seen.look.limits = space.limits;
        seen.neighbours = seen.near(plan);
        if plan.owners || seen.state() != State::Ok {
            seen.leaders_inodes = leaders_inodes(&space.place, plan, &seen);
        }
        all.push(seen);
    }
    all.sort_by(|a, b| {
        b.state()
            .cmp(&a.state())
            .then(b.verdict.share.total_cmp(&a.verdict.share))
    });
    // Processes are the host's: they are shown once.
    if let (Some(worst), Some(open_files)) = (all.first_mut(), open_files) {
        let found = limits::judge(
            std::slice::from_ref(open_files),
            &Counters::default(),
            &plan.other_limits,
        );
        worst.look.limits.push(open_files.clone());
        worst.neighbours.extend(found);
    }
    (all, kept)
}

/// The inodes of the live sockets of the destination that leads, or of those that claim more ports than it has, or of all UDP
/// sockets that hold a port: another look, at these alone. Without netlink those that the census has, which keeps one for each port.
fn leaders_inodes(place: &Place, plan: &Plan, seen: &Seen) -> HashSet<u32> {
    let census = &seen.look.census;
    let leader = leader(&seen.headroom).map(|(leader, _)| (leader.ip(), leader.port()));
    let claims = claims_lead(plan, &seen.headroom, &seen.verdict);
    let (dialect, wanted): (_, &(dyn Fn(&Socket) -> bool + Sync)) = match (plan.protocol, leader) {
        (Protocol::Udp, _) => (Dialect::Udp, &|socket| {
            census.ports.contains(socket.source_port)
        }),
        (Protocol::Tcp, _) if claims => (Dialect::OneWalk, &|socket| {
            socket.claims_port() && census.ports.contains(socket.source_port)
        }),
        (Protocol::Tcp, Some(leader)) => (Dialect::OneWalk, &move |socket| {
            (socket.destination, socket.destination_port) == leader
        }),
        (Protocol::Tcp, None) => return HashSet::new(),
    };
    let mut inodes = HashSet::new();
    let mut note = |socket: &Socket| {
        if wanted(socket) && socket.inode != 0 {
            inodes.insert(socket.inode);
        }
    };
    if let Place::Inside(space) = place
        && space
            .within(|| Ok(sock_diag::dump(dialect, claims, &mut note)?))
            .is_ok()
    {
        return inodes;
    }
    let of_leader = |number: usize| {
        let tuple = &census.tuples()[number].0;
        let leads = !claims && leader == Some((tuple.destination, tuple.port));
        plan.protocol == Protocol::Udp || leads
    };
    census
        .uses(&census.used_ports())
        .filter(|port| port.inode != 0 && port.first.is_some_and(of_leader))
        .map(|port| port.inode)
        .collect()
}

impl Watched {
    /// One that nobody has looked at, at this second of the Unix epoch.
    fn new(place: Place, now: i64) -> Self {
        Self {
            place,
            memory: Memory::at(now),
            peak: None,
            limits: Vec::new(),
            counters: None,
            trends: [Trend::default(); 2],
            begun: Instant::now(),
            gone: false,
        }
    }

    fn look(
        &mut self,
        plan: &Plan,
        last: Option<&Store>,
        recorder: Option<&mut Recorder>,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let look = match &self.place {
            Place::Inside(space) => match space.within(|| Look::at(plan, &space.label)) {
                Err(error) => match (may_not_join(&error), space.pid, plan.range) {
                    (true, Some(pid), Some(range)) => {
                        Look::at_process(plan, range, pid, &space.label)?
                    }
                    _ => return Err(error),
                },
                look => look?,
            },
            Place::Outside(pid, label) => {
                // Without a range, this place is not chosen.
                let Some(range) = plan.range else {
                    return Ok(());
                };
                Look::at_process(plan, range, *pid, label)?
            }
        };
        if let Some(why) = &look.not_active {
            notes.push(format!(
                "--active not possible in {}: {why}",
                look.namespace
            ));
        }
        self.keep(look, plan, last, recorder);
        Ok(())
    }

    /// Which namespace cannot be seen, and why.
    fn not_seen(&self, error: &anyhow::Error) -> String {
        let label = match &self.place {
            Place::Inside(space) => &space.label,
            Place::Outside(_, label) => label,
        };
        // A refusal has the name in it, and the own namespace may have none.
        if label.is_empty() || error.is::<Refused>() {
            format!("not seen: {error:#}")
        } else {
            format!("not seen: {label}: {error:#}")
        }
    }

    /// Finds out what a look means, and keeps what is wanted of it.
    fn keep(
        &mut self,
        look: Look,
        plan: &Plan,
        last: Option<&Store>,
        recorder: Option<&mut Recorder>,
    ) {
        let (first, before) = self.counters.unwrap_or_else(|| {
            let kept = last.and_then(|store| store.of(&key(plan, &look)));
            if let Some(kept) = kept {
                kept.recall(&mut self.memory);
            }
            let counters = kept.map_or(look.counters, |kept| kept.counters);
            (counters, counters)
        });
        self.counters = Some((first, look.counters));
        limits::keep_most_used(&mut self.limits, &look.limits);
        let mut seen = Seen::of(look, plan, &mut self.memory);
        seen.counted = limits::increase(&seen.look.counters, &before);
        seen.neighbours = seen.near(plan);
        let seconds = self.begun.elapsed().as_secs_f64();
        for source in seen
            .headroom
            .sources
            .iter()
            .filter(|source| source.address.is_unspecified())
        {
            self.trends[usize::from(source.address.is_ipv6())].add(seconds, source);
        }
        if let Some(recorder) = recorder {
            recorder.look(&seen);
        }
        if self.peak.as_ref().is_none_or(|peak| seen.as_bad_as(peak)) {
            self.peak = Some(seen);
        }
    }
}

/// What the next run finds it by.
fn key(plan: &Plan, look: &Look) -> String {
    match plan.protocol {
        Protocol::Tcp => look.number.clone(),
        Protocol::Udp => format!("udp {}", look.number),
    }
}

fn may_not_join(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Refused>()
        .is_some_and(|refused| refused.kind == ErrorKind::PermissionDenied)
}

impl Seen {
    /// The state: that of the ports, or of what looks alike.
    pub fn state(&self) -> State {
        let neighbours = self.neighbours.iter().map(|finding| finding.state);
        neighbours.fold(self.verdict.state, State::max)
    }

    /// Whether its ports are in as bad a state as another look's, or a worse one: of equal states by the share used, of equal
    /// shares by when the last port goes.
    fn as_bad_as(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.verdict, &other.verdict);
        ours.state
            .cmp(&theirs.state)
            .then(ours.share.total_cmp(&theirs.share))
            .then_with(|| other.soonest().total_cmp(&self.soonest()))
            .is_ge()
    }

    /// Seconds until the first of what counts has no port left, endless where none fills up.
    fn soonest(&self) -> f64 {
        self.verdict.seconds_left.unwrap_or(f64::INFINITY)
    }

    /// Other limits that are near, and what was counted of them.
    fn near(&self, plan: &Plan) -> Vec<Finding> {
        limits::judge(&self.look.limits, &self.counted, &plan.other_limits)
    }

    fn of(look: Look, plan: &Plan, memory: &mut Memory) -> Self {
        let active = look.active.as_ref();
        let headroom = match plan.protocol {
            Protocol::Tcp => Headroom::of(&look.census, &look.named, memory, active),
            Protocol::Udp => udp::headroom(&look.census, &look.named, active),
        };
        let verdict = Verdict::of(&headroom, plan);
        Self {
            look,
            headroom,
            verdict,
            counted: Counters::default(),
            leaders_inodes: HashSet::new(),
            neighbours: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::journal::Journal;
    use crate::plugin::{Limits, Range};
    use crate::ports::census::Census;
    use crate::ports::census::tests::{socket, sysctl};
    use crate::ports::socket::State as SocketState;

    fn plan() -> Plan {
        let mut plan = Plan::test();
        plan.seconds_left.critical = "60:".parse().ok();
        plan.other_limits = Limits {
            warning: Some(Range::up_to(90.0)),
            critical: Some(Range::up_to(98.0)),
        };
        plan
    }

    fn watched() -> Watched {
        Watched::new(Place::Outside(1, String::new()), 0)
    }

    /// Of 2000 ports these many wait, closed so many milliseconds ago.
    fn waiting(count: u16, ago: u32) -> Look {
        let mut census = Census::new(&sysctl(1000, 2999), &[]);
        for port in (1000..).step_by(2).take(count.into()) {
            let mut socket = socket(
                SocketState::TimeWait,
                &format!("192.0.2.1:{port}"),
                "192.0.2.9:80",
            );
            socket.expires = Some(59_999 - ago);
            census.add(&socket);
        }
        Look::test(census)
    }

    fn with_limit(mut look: Look, name: &'static str, used: u64) -> Look {
        let limit = 100;
        look.limits.push(Neighbour { name, used, limit });
        look
    }

    fn told(looks: Vec<Look>) -> Seen {
        let (plan, mut space) = (plan(), watched());
        for look in looks {
            space.keep(look, &plan, None, None);
        }
        worst_first(vec![space], &plan, None, 0).0.remove(0)
    }

    #[test]
    fn an_alert_of_the_forecast_is_kept_whatever_share_comes_after_it() {
        for (later, share) in [
            (waiting(400, 10_000), "the same"),
            (waiting(500, 10_000), "a higher"),
        ] {
            let seen = told(vec![waiting(0, 0), waiting(400, 1000), later]);
            assert_eq!(seen.state(), State::Critical, "{share}");
            let seconds = seen.verdict.filling.unwrap().seconds;
            assert!((seconds - 20.0).abs() < 1e-6, "{share}: {seconds}");
        }
        // Of equal states and shares that look which foresees the end soonest, whether or not that alerts.
        let soonest = told(vec![waiting(400, 1000), waiting(400, 10_000)]).soonest();
        assert!((soonest - 20.0).abs() < 1e-6, "{soonest}");
    }

    #[test]
    fn the_most_that_was_used_of_another_limit_is_kept_whichever_look_saw_it() {
        let seen = told(vec![
            with_limit(waiting(10, 10_000), "files", 95),
            with_limit(waiting(20, 10_000), "files", 10),
            with_limit(waiting(5, 10_000), "conntrack", 99),
        ]);
        assert_eq!(seen.verdict.worst.used_and_free().0, 20);
        let used: Vec<_> = seen.look.limits.iter().map(|l| (l.name, l.used)).collect();
        assert_eq!(used, [("files", 95), ("conntrack", 99)]);
        let causes: Vec<_> = seen.neighbours.iter().map(|f| (f.cause, f.state)).collect();
        let (files, conntrack) = (
            ("files", State::Warning),
            ("conntrack-full", State::Critical),
        );
        assert!(
            causes.contains(&files) && causes.contains(&conntrack),
            "{causes:?}"
        );
    }

    #[test]
    fn what_the_kernel_counts_is_counted_over_all_looks() {
        let at = |drops| Look {
            counters: [None, Some(drops), None, None, None, None],
            ..waiting(1, 10_000)
        };
        let seen = told(vec![at(5), at(9), at(9)]);
        assert_eq!(seen.counted[1], Some(4));
        assert_eq!(seen.state(), State::Warning);
    }

    #[test]
    fn the_state_of_a_look_in_the_journal_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut recorder = Recorder::new(Journal::new(&path, 1 << 20), None);
        let (plan, mut space) = (plan(), watched());
        let mut keep = |look: Look, drops| {
            let counters = [None, Some(drops), None, None, None, None];
            let look = Look { counters, ..look };
            space.keep(look, &plan, None, Some(&mut recorder));
        };
        keep(waiting(400, 10_000), 7);
        keep(with_limit(waiting(1, 10_000), "files", 95), 7);
        keep(with_limit(waiting(1, 10_000), "files", 10), 7);
        keep(waiting(1, 10_000), 8);
        keep(waiting(1, 10_000), 8);
        keep(waiting(400, 1000), 8);
        let text = std::fs::read_to_string(&path).unwrap();
        let states: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["state"].clone())
            .collect();
        assert_eq!(states, ["OK", "WARNING", "OK", "WARNING", "OK", "CRITICAL"]);
    }

    #[test]
    fn a_namespace_that_is_not_seen_is_named() {
        let mut space = watched();
        space.place = Place::Outside(1, "web".to_owned());
        let told = space.not_seen(&anyhow::anyhow!("no range"));
        assert_eq!(told, "not seen: web: no range");
    }
}
