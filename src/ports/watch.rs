//! What is kept of the looks at each network namespace: the one with the worst share, and all evidence.

use std::io::ErrorKind;

use super::evidence::Memory;
use super::headroom::Headroom;
use super::look::Look;
use super::netns::{self, Namespace, Refused, Target, Unopened};
use super::plan::Plan;
use super::verdict::Verdict;

/// A namespace and what was seen of it.
#[derive(Debug)]
pub struct Watched {
    place: Place,
    memory: Memory,
    peak: Option<Seen>,
    gone: bool,
}

#[derive(Debug)]
enum Place {
    /// To be looked at from inside.
    Inside(Namespace),
    /// That of a process, which may not be opened.
    Outside(u32),
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
}

/// Finds the namespaces. The texts say what of them cannot be seen.
pub fn begin(plan: &Plan) -> anyhow::Result<(Vec<Watched>, Vec<String>)> {
    let watched = |place| Watched {
        place,
        memory: Memory::default(),
        peak: None,
        gone: false,
    };
    let (found, mut notes) = match netns::find(&plan.netns, &plan.proc) {
        Ok((spaces, notes)) => (spaces.into_iter().map(Place::Inside).collect(), notes),
        Err(error) => match (error.downcast_ref::<Unopened>(), plan.range) {
            (Some(Unopened(pid)), Some(_)) if plan.netns.len() == 1 => {
                (vec![Place::Outside(*pid)], Vec::new())
            }
            _ => return Err(error),
        },
    };
    if plan.netns.is_empty() {
        notes.extend(netns::warning_of_own(&plan.proc));
    }
    Ok((found.into_iter().map(watched).collect(), notes))
}

/// Looks at each. One of `--netns all` that cannot be seen is said and left out; one that was named is an error.
pub fn look(watched: &mut [Watched], plan: &Plan, notes: &mut Vec<String>) -> anyhow::Result<()> {
    let all = plan.netns.contains(&Target::All);
    let mut seen = false;
    let mut last_error = None;
    for space in watched.iter_mut().filter(|space| !space.gone) {
        match space.look(plan) {
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

/// What was seen at the peak of each, with the evidence of all looks, the worst first.
pub fn worst_first(watched: Vec<Watched>, plan: &Plan) -> Vec<Seen> {
    let mut all: Vec<_> = watched
        .into_iter()
        .filter_map(|mut space| {
            let peak = space.peak?;
            Some(Seen::of(peak.look, plan, &mut space.memory))
        })
        .collect();
    all.sort_by(|a, b| {
        let key = |seen: &Seen| (seen.verdict.state, seen.verdict.share);
        let ((state, share), (other_state, other_share)) = (key(b), key(a));
        state.cmp(&other_state).then(share.total_cmp(&other_share))
    });
    all
}

impl Watched {
    fn look(&mut self, plan: &Plan) -> anyhow::Result<()> {
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
            Place::Outside(pid) => {
                // Without a range, this place is not chosen.
                let Some(range) = plan.range else {
                    return Ok(());
                };
                Look::at_process(plan, range, *pid, &format!("pid:{pid}"))?
            }
        };
        let seen = Seen::of(look, plan, &mut self.memory);
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

fn may_not_join(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Refused>()
        .is_some_and(|refused| refused.0 == ErrorKind::PermissionDenied)
}

impl Seen {
    fn of(look: Look, plan: &Plan, memory: &mut Memory) -> Self {
        let headroom = Headroom::of(&look.census, &look.named, memory);
        let verdict = Verdict::of(&headroom, plan);
        Self {
            look,
            headroom,
            verdict,
        }
    }
}
