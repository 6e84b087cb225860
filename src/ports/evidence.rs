//! Whether a port was chosen by connect() or by bind(), from the ports that were chosen. Pure.
//!
//! connect() takes the parity of the range's low end first, and ports that other destinations use as gladly as any;
//! bind() takes the other parity first, and only ports that its address does not use yet.
//!
//! When all ports are taken, both have taken both parities, and what tells is which came first: hence the order of
//! the inodes, and a memory of what was seen while there was room.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::active::Active;
use super::census::{Census, Tuple, Usage};

/// Fewer sockets than this prove nothing about who chose their ports.
const ENOUGH: u32 = 8;

/// Whether sockets look as if they were bound before they were connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// They do.
    Yes,
    /// They look like connect()'s own choice.
    No,
    /// There are too few to tell.
    Unknown,
}

impl Evidence {
    /// Weighs what is known of all tuples.
    pub fn of(census: &Census, open: &Open, choosers: &[Chooser]) -> Self {
        if choosers.iter().any(|chooser| *chooser != Chooser::Connect) {
            return Self::Yes;
        }
        let any = census
            .tuples()
            .iter()
            .any(|(_, usage)| chosen_by_connect(usage));
        if any || open.shared >= ENOUGH {
            Self::No
        } else {
            Self::Unknown
        }
    }

    /// As in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// Almost all ports are of the parity that connect() takes first, or the sockets say themselves that they share.
fn chosen_by_connect(usage: &Usage) -> bool {
    usage.sharing > 0 || (usage.sockets >= ENOUGH && usage.second_choice * 20 <= usage.sockets)
}

/// How long what looked bound is believed without signs of it, in seconds.
const BELIEVED: i64 = 86_400;

/// The tuples whose ports looked chosen by bind() in an earlier look and have not looked otherwise since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// In seconds of the Unix epoch.
    now: i64,
    /// When each showed it last.
    bound: HashMap<Tuple, i64>,
}

impl Memory {
    /// The most tuples that are remembered: those that lead come first in every look.
    const MOST: usize = 1000;

    /// An empty one, at this second of the Unix epoch.
    pub fn at(now: i64) -> Self {
        Self {
            now,
            ..Self::default()
        }
    }

    /// Learns from what a look shows by itself.
    pub fn learn(&mut self, census: &Census, choosers: &[Chooser]) {
        for ((tuple, usage), chooser) in census.tuples().iter().zip(choosers) {
            if *chooser == Chooser::Connect {
                if chosen_by_connect(usage) {
                    self.bound.remove(tuple);
                }
            } else {
                self.note(*tuple, self.now);
            }
        }
    }

    /// Remembers a tuple from an earlier run, unless that was too long ago.
    pub fn recall(&mut self, tuple: Tuple, seen: i64) {
        if self.now.saturating_sub(seen) < BELIEVED {
            // The clock may have been put back since.
            self.note(tuple, seen.min(self.now));
        }
    }

    fn note(&mut self, tuple: Tuple, seen: i64) {
        let full = self.bound.len() >= Self::MOST;
        match self.bound.entry(tuple) {
            Entry::Occupied(mut entry) => *entry.get_mut() = seen,
            Entry::Vacant(_) if full => {}
            Entry::Vacant(entry) => {
                entry.insert(seen);
            }
        }
    }

    /// What a look shows, and for tuples that show too little what they showed earlier.
    pub fn recalled(&self, census: &Census, mut choosers: Vec<Chooser>) -> Vec<Chooser> {
        for ((tuple, usage), chooser) in census.tuples().iter().zip(&mut choosers) {
            let known = self.bound.contains_key(tuple) && !chosen_by_connect(usage);
            if *chooser == Chooser::Connect && known {
                *chooser = Chooser::BindAll;
            }
        }
        choosers
    }

    /// What is remembered, and when each showed it last.
    pub fn tuples(&self) -> impl Iterator<Item = (Tuple, i64)> {
        self.bound.iter().map(|(tuple, seen)| (*tuple, *seen))
    }
}

/// Who seems to have chosen the ports of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chooser {
    /// connect().
    Connect,
    /// bind(), for those of the parity that connect() takes last.
    BindSecondChoice,
    /// bind(), which has run out of that parity, for all.
    BindAll,
}

impl Chooser {
    /// Whether bind() chose a port of the parity that connect() takes last, or of the other one.
    pub fn bound(self, second_choice: bool) -> bool {
        match self {
            Self::Connect => false,
            Self::BindSecondChoice => second_choice,
            Self::BindAll => true,
        }
    }
}

/// The ports that nobody claims, counted.
#[derive(Debug, Default)]
pub struct Open {
    /// All of them.
    pub all: u32,
    /// Those of the parity that connect() takes first.
    pub first: u32,
    /// The others.
    pub second: u32,
    /// Those without any connection.
    pub empty: u32,
    /// Those that certainly can be shared.
    pub shared: u32,
    /// Those of the second parity that are in use.
    pub second_used: u32,
}

impl Open {
    /// Counts them.
    pub fn count(census: &Census) -> Self {
        let (open, used) = (census.open_ports(), census.used_ports());
        let first = open.len_like(census.range.low);
        Self {
            all: open.len(),
            first,
            second: open.len() - first,
            empty: open.len() - used.len(),
            shared: census.shared_ports().len(),
            second_used: used.len() - used.len_like(census.range.low),
        }
    }
}

/// Who seems to have chosen the ports of each tuple, in the order of the census.
pub fn choosers(census: &Census, open: &Open) -> Vec<Chooser> {
    let unshared = sources_that_never_share(census, open);
    let bound_first = bound_while_there_was_room(census, open);
    census
        .tuples()
        .iter()
        .enumerate()
        .map(|(number, (tuple, usage))| {
            let signs = (usage.sockets > 1 && unshared.contains(&tuple.source))
                || bound_first.contains(&number);
            match chooser(usage, open) {
                Chooser::Connect if signs => Chooser::BindAll,
                chooser => chooser,
            }
        })
        .collect()
}

/// Who chose the ports of each tuple, where every port was tried: those that most of its sockets are on.
pub fn settled(census: &Census, active: &Active) -> Vec<Chooser> {
    census
        .tuples()
        .iter()
        .map(|(tuple, _)| {
            let placed = active.of(tuple);
            if placed.on_closed > 0 && placed.on_closed >= placed.on_open + placed.reusable {
                Chooser::BindAll
            } else {
                Chooser::Connect
            }
        })
        .collect()
}

/// Tuples that have no room left, whose TIME_WAITs are of the second parity, and whose live sockets of the second
/// parity are older than those of the first: bind() took these ports while it had the choice. connect() comes to
/// the second parity last, and when it has, both its TIME_WAITs and its youngest sockets lie there.
fn bound_while_there_was_room(census: &Census, open: &Open) -> HashSet<usize> {
    /// Pairs of live sockets to compare, at least.
    const PAIRS: u64 = 32;
    let mut candidates: HashMap<usize, Vec<(u32, bool)>> = census
        .tuples()
        .iter()
        .enumerate()
        .filter(|(_, (_, usage))| {
            usage.sharing == 0
                && usage.sockets > open.first
                && usage.time_wait >= ENOUGH
                && usage.second_choice_waiting * 20 >= usage.time_wait * 19
        })
        .map(|(number, _)| (number, Vec::new()))
        .collect();
    if candidates.is_empty() {
        return HashSet::new();
    }
    let used = census.used_ports();
    for port in census.uses(&used).filter(|port| port.inode != 0) {
        if let Some(sockets) = port.first.and_then(|first| candidates.get_mut(&first)) {
            sockets.push((port.inode, port.second_choice));
        }
    }
    candidates
        .into_iter()
        .filter(|(_, sockets)| {
            let (older, pairs) = second_choice_is_older(sockets.clone());
            pairs >= PAIRS && older * 10 >= pairs * 9
        })
        .map(|(number, _)| number)
        .collect()
}

/// Of all pairs of a socket of each parity: how many have the older one on the second parity, and how many there are.
/// The kernel gives each processor inode numbers by blocks of 1024; only within a block does their order tell.
fn second_choice_is_older(mut sockets: Vec<(u32, bool)>) -> (u64, u64) {
    const BLOCK: u32 = 1024;
    sockets.sort_unstable();
    let (mut older, mut pairs) = (0, 0);
    for block in sockets.chunk_by(|(a, _), (b, _)| a / BLOCK == b / BLOCK) {
        let (mut first, mut second) = (0, 0);
        for (_, second_choice) in block {
            if *second_choice {
                second += 1;
            } else {
                first += 1;
                older += second;
            }
        }
        pairs += first * second;
    }
    (older, pairs)
}

/// Whether the tuple's ports of the second parity are still being chosen: some of them have been given up within seconds,
/// or more of them are in use than of the first parity. Those that connect() took in a burst which had filled the first
/// parity outlive that, but they are no more than are left of the first.
fn goes_on(usage: &Usage) -> bool {
    let in_use = usage.sockets - usage.time_wait;
    let second_in_use = usage.second_choice - usage.second_choice_waiting;
    usage.second_choice_recent > 0 || second_in_use > in_use - second_in_use
}

/// A tuple with ports of the second parity while there are enough of the first: connect() would not have done that.
fn chooser(usage: &Usage, open: &Open) -> Chooser {
    let taken = usage.sockets - usage.reusable;
    let second_taken = usage.second_choice - usage.second_choice_reusable;
    let first_left = open.first.saturating_sub(taken - second_taken);
    let second_left = open.second.saturating_sub(second_taken);
    let plenty_of_first = first_left >= ENOUGH
        && (first_left * 10 >= open.first || first_left > second_left.saturating_mul(2));
    if usage.second_choice < ENOUGH || usage.sharing > 0 || !plenty_of_first || !goes_on(usage) {
        Chooser::Connect
    } else if open.second_used * 50 >= open.second * 49 {
        Chooser::BindAll
    } else {
        Chooser::BindSecondChoice
    }
}

/// Local addresses whose connections to several destinations would have come to share many ports by now, had
/// connect() chosen them, and share none.
fn sources_that_never_share(census: &Census, open: &Open) -> HashSet<IpAddr> {
    /// Ports and the part of the first parity that is still untouched, if chosen at random.
    struct Expected {
        sockets: f64,
        untouched: f64,
    }
    let first = f64::from(open.first.max(1));
    let mut by_source: HashMap<IpAddr, Expected> = HashMap::new();
    for (tuple, usage) in census
        .tuples()
        .iter()
        .filter(|(_, usage)| usage.sockets > 1)
    {
        let of_first = f64::from(usage.sockets).min(first);
        let expected = by_source.entry(tuple.source).or_insert(Expected {
            sockets: 0.0,
            untouched: 1.0,
        });
        expected.sockets += of_first;
        expected.untouched *= 1.0 - of_first / first;
    }
    by_source
        .into_iter()
        .filter(|(_, expected)| {
            let shared = expected.sockets - first * (1.0 - expected.untouched);
            shared >= 20.0 && f64::from(open.shared) * 10.0 < shared
        })
        .map(|(source, _)| source)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::census::tests::{socket, sysctl};
    use crate::ports::socket::{Socket, State};

    /// 100 ports, all taken: `waiting` by TIME_WAITs, the rest by live sockets in the order given.
    fn full(waiting: impl Iterator<Item = u16>, live: impl Iterator<Item = u16>) -> Vec<Chooser> {
        let mut census = Census::new(&sysctl(1000, 1099), &[]);
        let at = |state, port: u16| socket(state, &format!("192.0.2.1:{port}"), "192.0.2.9:80");
        waiting.for_each(|port| census.add(&at(State::TimeWait, port)));
        for (inode, port) in (2048..).zip(live) {
            census.add(&Socket {
                inode,
                ..at(State::Established, port)
            });
        }
        assert_eq!(census.tuples()[0].1.sockets, 100);
        choosers(&census, &Open::count(&census))
    }

    #[test]
    fn what_took_the_second_parity_first_was_bound_even_when_all_is_full() {
        let first = || (1000..1100).step_by(2);
        let second = || (1001..1100).step_by(2);
        let bound = full(second().take(40), second().skip(40).chain(first()));
        assert_eq!(bound, [Chooser::BindAll]);
        // Long connections on the first parity, short ones on the second, as connect() does it.
        let late = full(second().take(40), first().chain(second().skip(40)));
        assert_eq!(late, [Chooser::Connect]);
        let early = full(first().take(40), first().skip(40).chain(second()));
        assert_eq!(early, [Chooser::Connect]);
        // The TIME_WAITs of both parities: nothing can be told.
        let mixed = full(1000..1040, (1040..1100).rev());
        assert_eq!(mixed, [Chooser::Connect]);
    }

    #[test]
    fn inodes_are_compared_within_a_processors_block_alone() {
        assert_eq!(
            second_choice_is_older(vec![(1, true), (2, false), (3, false), (1025, true)]),
            (2, 2)
        );
    }

    #[test]
    fn what_was_seen_is_remembered_until_it_looks_otherwise() {
        let mut census = Census::new(&sysctl(1000, 1099), &[]);
        for port in (1001..1061).step_by(2) {
            census.add(&socket(
                State::Established,
                &format!("192.0.2.1:{port}"),
                "192.0.2.9:80",
            ));
        }
        let mut memory = Memory::at(1000);
        let seen = choosers(&census, &Open::count(&census));
        memory.learn(&census, &seen);
        assert_eq!(memory.tuples().count(), 1);

        let mut few = Census::new(&sysctl(1000, 1099), &[]);
        few.add(&socket(
            State::Established,
            "192.0.2.1:1000",
            "192.0.2.9:80",
        ));
        let seen = choosers(&few, &Open::count(&few));
        memory.learn(&few, &seen);
        assert_eq!(memory.recalled(&few, seen), [Chooser::BindAll]);
        for port in (1002..1040).step_by(2) {
            few.add(&socket(
                State::Established,
                &format!("192.0.2.1:{port}"),
                "192.0.2.9:80",
            ));
        }
        let seen = choosers(&few, &Open::count(&few));
        assert_eq!(memory.recalled(&few, seen.clone()), [Chooser::Connect]);
        memory.learn(&few, &seen);
        assert_eq!(memory, Memory::at(1000));
    }

    /// After a burst that filled the first parity, what connect() took of the second one outlives it.
    #[test]
    fn what_a_burst_left_on_the_second_parity_was_not_bound() {
        let look = |expires, more: &[(State, u16)]| {
            let mut census = Census::new(&sysctl(1000, 1099), &[]);
            let at = |state, port| socket(state, &format!("192.0.2.1:{port}"), "192.0.2.9:80");
            for port in (1001..1061).step_by(2) {
                census.add(&Socket {
                    expires: Some(expires),
                    ..at(State::TimeWait, port)
                });
            }
            for (state, port) in more {
                census.add(&at(*state, *port));
            }
            choosers(&census, &Open::count(&census))
        };
        // Nothing of the last seconds: nobody chooses these ports now.
        assert_eq!(look(20_000, &[]), [Chooser::Connect]);
        let live = |ports: std::ops::Range<u16>| -> Vec<_> {
            ports
                .step_by(2)
                .map(|port| (State::Established, port))
                .collect()
        };
        assert_eq!(look(20_000, &live(1000..1008)), [Chooser::Connect]);
        // Some of what the burst opened is in use yet, on either parity.
        let mut both = live(1000..1020);
        both.extend(live(1061..1073));
        assert_eq!(look(20_000, &both), [Chooser::Connect]);
        // These do.
        assert_eq!(look(59_000, &[]), [Chooser::BindSecondChoice]);
        assert_eq!(look(20_000, &live(1061..1073)), [Chooser::BindSecondChoice]);
    }
}
