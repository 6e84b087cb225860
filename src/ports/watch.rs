//! What is kept of the looks at each network namespace: the one with the worst share, and all evidence.

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
use super::report::leader;
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
    let watched = |place| Watched {
        place,
        memory: Memory::at(now),
        peak: None,
        counters: None,
        trends: [Trend::default(); 2],
        begun: Instant::now(),
        gone: false,
    };
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
        match space.look(plan, last, recorder.as_deref_mut()) {
            Ok(()) => seen = true,
            Err(error) if all || space.peak.is_some() => {
                space.gone = true;
                notes.push(format!("not seen: {error:#}"));
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
        seen.neighbours = limits::judge(&seen.look.limits, &seen.counted, &plan.other_limits);
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

/// The inodes of the live sockets of the destination that leads, or of all UDP sockets that hold a port: another look,
/// at these alone. Without netlink those that the census has, which keeps one for each port.
fn leaders_inodes(place: &Place, plan: &Plan, seen: &Seen) -> HashSet<u32> {
    let census = &seen.look.census;
    let leader = leader(&seen.headroom).map(|(leader, _)| (leader.ip(), leader.port()));
    let (dialect, wanted): (_, &(dyn Fn(&Socket) -> bool + Sync)) = match (plan.protocol, leader) {
        (Protocol::Udp, _) => (Dialect::Udp, &|socket| {
            census.ports.contains(socket.source_port)
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
            .within(|| Ok(sock_diag::dump(dialect, false, &mut note)?))
            .is_ok()
    {
        return inodes;
    }
    let of_leader = |number: usize| {
        let tuple = &census.tuples()[number].0;
        plan.protocol == Protocol::Udp || leader == Some((tuple.destination, tuple.port))
    };
    census
        .uses(&census.used_ports())
        .filter(|port| port.inode != 0 && port.first.is_some_and(of_leader))
        .map(|port| port.inode)
        .collect()
}

impl Watched {
    fn look(
        &mut self,
        plan: &Plan,
        last: Option<&Store>,
        recorder: Option<&mut Recorder>,
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
        self.counters = Some(if let Some((first, _)) = self.counters {
            (first, look.counters)
        } else {
            let kept = last.and_then(|store| store.of(&key(plan, &look)));
            if let Some(kept) = kept {
                kept.recall(&mut self.memory);
            }
            (
                kept.map_or(look.counters, |kept| kept.counters),
                look.counters,
            )
        });
        let seen = Seen::of(look, plan, &mut self.memory);
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
        let higher = self
            .peak
            .as_ref()
            .is_none_or(|peak| seen.verdict.share >= peak.verdict.share);
        if higher {
            self.peak = Some(seen);
        }
        Ok(())
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
