//! What the sources say, as plain data: lanes, shares, and how often each sort of trouble was named.

use std::collections::BTreeMap;

use super::grid::Grid;
use super::group::Group;
use super::heard::Heard;
use super::plan::Plan;
use super::shares::Shares;
use super::sort::{Origin, Sort};

/// How many subjects of a sort are told apart.
const SUBJECTS: usize = 256;

/// What was read of one source.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// Its path, and what the user calls it.
    pub path: String,
    pub name: Option<String>,
    /// As what it was read.
    pub kind: &'static str,
    pub bytes: u64,
    pub lines: u64,
    /// Lines within the window, lines that are not of the expected form, and error lines that a request forged.
    pub used: u64,
    pub unparsed: u64,
    pub suspect: u64,
    /// The first and last time within the window, and of what was read beside it.
    pub span: Option<(i64, i64)>,
    pub beside: Option<(i64, i64)>,
    /// What stopped it.
    pub trouble: Option<String>,
}

impl Source {
    /// A line of this second is within the window.
    pub fn use_line(&mut self, at: i64) {
        self.used += 1;
        self.span = Some(reach(self.span, at));
    }

    /// A line of this second is not.
    pub fn leave_line(&mut self, at: i64) {
        self.beside = Some(reach(self.beside, at));
    }
}

fn reach(span: Option<(i64, i64)>, at: i64) -> (i64, i64) {
    let (first, last) = span.unwrap_or((at, at));
    (first.min(at), last.max(at))
}

/// How often one origin named a sort of trouble.
#[derive(Debug, Clone, Default)]
pub struct Named {
    pub count: u64,
    /// Whom it concerned: upstreams, hosts, addresses.
    pub subjects: BTreeMap<Box<[u8]>, u64>,
}

/// A line that says that something failed.
#[derive(Debug, Clone)]
pub struct First {
    pub at: i64,
    pub group: Group,
    pub name: Box<[u8]>,
    pub line: Box<[u8]>,
}

/// Everything that was read.
#[derive(Debug)]
pub struct Facts<'a> {
    pub plan: &'a Plan,
    pub grid: Grid,
    pub shares: Shares,
    pub named: BTreeMap<(Origin, Sort), Named>,
    /// How many failures each origin saw, whatever they said.
    pub failures: BTreeMap<Origin, u64>,
    pub sources: Vec<Source>,
    pub first: Option<First>,
    /// What the tightest budget of a ports journal was when it was tightest: used, limit, and of what.
    pub tightest: Option<(u64, u64, String)>,
    /// What logs of monitoring told before.
    pub heard: Heard,
}

impl<'a> Facts<'a> {
    /// Nothing yet.
    pub fn new(plan: &'a Plan) -> Self {
        let mut grid = Grid::new(plan.step);
        if let Some((since, before)) = plan.since.zip(plan.before) {
            grid.reach(since);
            grid.reach(before - 1);
        }
        Self {
            plan,
            grid,
            shares: Shares::default(),
            named: BTreeMap::new(),
            failures: BTreeMap::new(),
            sources: Vec::new(),
            first: None,
            tightest: None,
            heard: Heard::default(),
        }
    }

    /// A failure, in one lane of the picture, with its line.
    pub fn failure(&mut self, at: i64, group: Group, name: &[u8], line: &[u8]) {
        self.grid.add(at, group, name, 1.0, Some(line));
        if self.first.as_ref().is_none_or(|first| at < first.at) {
            self.first = Some(First {
                at,
                group,
                name: name.into(),
                line: line[..line.len().min(400)].into(),
            });
        }
    }

    /// The same failure once more, in a lane that looks at it from another side.
    pub fn also(&mut self, at: i64, group: Group, name: &[u8]) {
        self.grid.add(at, group, name, 1.0, None);
    }

    /// That an origin saw a failure, and where it says so, of which sort and of whom.
    pub fn blame(&mut self, at: i64, origin: Origin, sort: Option<Sort>, subject: Option<&[u8]>) {
        *self.failures.entry(origin).or_default() += 1;
        self.grid
            .add(at, Group::Failure, origin.name().as_bytes(), 1.0, None);
        self.explain(at, origin, sort, subject);
    }

    /// Of which sort a failure was that is counted already.
    pub fn explain(&mut self, at: i64, origin: Origin, sort: Option<Sort>, subject: Option<&[u8]>) {
        let Some(sort) = sort else { return };
        self.grid
            .add(at, Group::Sort, sort.name().as_bytes(), 1.0, None);
        let named = self.named.entry((origin, sort)).or_default();
        named.count += 1;
        if let Some(subject) = subject {
            if let Some(count) = named.subjects.get_mut(subject) {
                *count += 1;
            } else if named.subjects.len() < SUBJECTS {
                named
                    .subjects
                    .insert(subject[..subject.len().min(120)].into(), 1);
            }
        }
    }
}
