//! Whether a port was chosen by connect() or by bind(), from the ports that were chosen. Pure.
//!
//! connect() takes the parity of the range's low end first, and ports that other destinations use as gladly as any;
//! bind() takes the other parity first, and only ports that its address does not use yet.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::census::{Census, Usage};

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
        let chosen_by_connect = |usage: &Usage| {
            usage.sharing > 0
                || (usage.sockets >= ENOUGH && usage.second_choice * 20 <= usage.sockets)
        };
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
        let mut open = Self::default();
        for port in census.open_ports() {
            open.all += 1;
            *(if port.second_choice {
                &mut open.second
            } else {
                &mut open.first
            }) += 1;
            open.empty += u32::from(port.sockets == 0);
            open.shared += u32::from(port.shared);
            open.second_used += u32::from(port.second_choice && port.sockets > 0);
        }
        open
    }
}

/// Who seems to have chosen the ports of each tuple, in the order of the census.
pub fn choosers(census: &Census, open: &Open) -> Vec<Chooser> {
    let unshared = sources_that_never_share(census, open);
    census
        .tuples()
        .iter()
        .map(|(tuple, usage)| match chooser(usage, open) {
            Chooser::Connect if usage.sockets > 1 && unshared.contains(&tuple.source) => {
                Chooser::BindAll
            }
            chooser => chooser,
        })
        .collect()
}

/// A tuple with ports of the second parity while there are enough of the first: connect() would not have done that.
fn chooser(usage: &Usage, open: &Open) -> Chooser {
    let taken = usage.sockets - usage.reusable;
    let second_taken = usage.second_choice - usage.second_choice_reusable;
    let first_left = open.first.saturating_sub(taken - second_taken);
    let second_left = open.second.saturating_sub(second_taken);
    let plenty_of_first = first_left >= ENOUGH
        && (first_left * 10 >= open.first || first_left > second_left.saturating_mul(2));
    if usage.second_choice < ENOUGH || usage.sharing > 0 || !plenty_of_first {
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
