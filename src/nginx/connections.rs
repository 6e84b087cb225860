//! Which connections had counted events, and when for the last time: how many there are in a window is then a sum,
//! without a look at any of them.

use super::packed::{Block, Pack, Packer, Unpacker};
use super::slot::Slot;

/// The connections of one slot.
#[derive(Debug, Clone)]
pub struct Connections {
    /// Those that have no later event, in order, as the differences between them: they are numbered in turn.
    settled: Block,
    count: usize,
    /// The lowest and the highest serial number of those.
    serials: (u64, u64),
    /// Those that other slots may have, too.
    fresh: Vec<u64>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            settled: Block::default(),
            count: 0,
            serials: NO_SERIALS,
            fresh: Vec::new(),
        }
    }
}

impl Connections {
    /// Adds one. Returns whether it takes room.
    pub fn add(&mut self, connection: u64) -> bool {
        let is_new = self.fresh.last() != Some(&connection);
        if is_new {
            self.fresh.push(connection);
        }
        is_new
    }

    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.count + self.fresh.len()
    }

    /// How many have their last event here. Only of what was settled.
    pub fn count(&self) -> usize {
        self.count
    }

    /// All that are kept.
    pub fn all(&self) -> impl Iterator<Item = u64> {
        self.settled().chain(self.fresh.iter().copied())
    }

    fn settled(&self) -> impl Iterator<Item = u64> {
        let mut numbers = self.settled.numbers();
        let mut last = 0_u64;
        std::iter::from_fn(move || {
            last = last.checked_add(numbers.next()?)?;
            Some(last)
        })
    }

    /// Takes the fresh ones in, which are in order now and nowhere else, and those out that have a later event.
    fn settle(&mut self, gone: &[(u32, u64)]) {
        let is_gone =
            |connection: &u64| gone.binary_search_by_key(connection, |(_, at)| *at).is_ok();
        let mut all: Vec<_> = self.settled().filter(|at| !is_gone(at)).collect();
        all.append(&mut self.fresh);
        // Two runs that are sorted already are only merged by this sort.
        #[allow(clippy::stable_sort_primitive)]
        all.sort();
        self.count = all.len();
        self.serials = serials(all.iter());
        self.fresh = Vec::new();
        self.settled = Block::of(|into| {
            let mut last = 0;
            for connection in all {
                into.push(connection - last);
                last = connection;
            }
        });
    }
}

/// Leaves each connection only with the last of these slots in which it had an event.
pub fn settle(slots: &mut [Slot]) {
    let total = slots.iter().map(|slot| slot.connections.fresh.len()).sum();
    if total == 0 {
        return;
    }
    // With the number of the slot, or none where one of the known is as late.
    let mut fresh = Vec::with_capacity(total);
    for (number, slot) in (0_u32..).zip(slots.iter_mut()) {
        let of_slot = slot.connections.fresh.drain(..);
        fresh.extend(of_slot.map(|connection| (connection, number)));
    }
    fresh.sort_unstable();
    fresh.dedup_by(|later, earlier| {
        let is_same = later.0 == earlier.0;
        if is_same {
            earlier.1 = later.1;
        }
        is_same
    });
    let mut gone = Vec::new();
    let (low, high) = serials(fresh.iter().map(|(connection, _)| connection));
    for (number, slot) in (0..).zip(slots.iter()) {
        let (lowest, highest) = slot.connections.serials;
        if highest < low || lowest > high {
            continue;
        }
        let mut at = 0;
        for connection in slot.connections.settled() {
            at = seek(&fresh, at, connection);
            match fresh.get_mut(at) {
                Some((same, slot)) if *same == connection => {
                    if *slot > number && *slot != NONE {
                        gone.push((number, connection));
                    } else {
                        *slot = NONE;
                    }
                }
                Some(_) => {}
                None => break,
            }
        }
    }
    for (connection, slot) in fresh {
        if let Some(slot) = slots.get_mut(slot as usize) {
            slot.connections.fresh.push(connection);
        }
    }
    let mut gone = &gone[..];
    for (number, slot) in (0..).zip(slots) {
        let (of_slot, rest) = gone.split_at(gone.partition_point(|(slot, _)| *slot <= number));
        gone = rest;
        if !of_slot.is_empty() || !slot.connections.fresh.is_empty() {
            slot.connections.settle(of_slot);
        }
    }
}

/// The lowest and the highest serial number of these connections. nginx numbers them over all its workers
/// (`ngx_connection_counter` in `src/event/ngx_event.c`), so that those of another time have others.
fn serials<'a>(connections: impl Iterator<Item = &'a u64>) -> (u64, u64) {
    connections.fold(NO_SERIALS, |(low, high), connection| {
        let serial = connection & SERIAL;
        (low.min(serial), high.max(serial))
    })
}

/// The range of no connections.
const NO_SERIALS: (u64, u64) = (u64::MAX, 0);

/// The bits of a connection that nginx counts up.
pub const SERIAL: u64 = (1 << 34) - 1;

/// No slot.
const NONE: u32 = u32::MAX;

/// The first place from `at` on whose connection is not below this one; mostly it is near.
fn seek(list: &[(u64, u32)], at: usize, connection: u64) -> usize {
    let is_below = |place: usize| {
        list.get(place)
            .is_some_and(|(other, _)| *other < connection)
    };
    let (mut low, mut step) = (at, 1);
    while is_below(low + step - 1) {
        low += step;
        step *= 2;
    }
    let high = (low + step - 1).min(list.len());
    low + list[low..high].partition_point(|(other, _)| *other < connection)
}

impl Pack for Connections {
    fn pack(&self, into: &mut Packer) {
        into.push(self.count as u64);
        if self.count > 0 {
            into.push(self.serials.0);
            into.push(self.serials.1);
        }
        into.block(&self.settled);
        into.push(self.fresh.len() as u64);
        for connection in &self.fresh {
            into.push(*connection);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let count = usize::try_from(from.next()?).ok()?;
        let serials = if count > 0 {
            (from.next()?, from.next()?)
        } else {
            NO_SERIALS
        };
        let settled = from.block()?;
        // Each takes a character or more.
        (count <= settled.length()).then_some(Self {
            count,
            serials,
            settled,
            fresh: from.list(Unpacker::next)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_connection_counts_in_its_last_slot_however_they_come(
            rounds in prop::collection::vec(prop::collection::vec((0_usize..6, 0_u64..60), 0..40), 1..6),
        ) {
            let mut slots = vec![Slot::default(); 6];
            let mut last = BTreeMap::new();
            for round in rounds {
                for (slot, connection) in round {
                    slots[slot].connections.add(connection);
                    let known = last.entry(connection).or_insert(slot);
                    *known = slot.max(*known);
                }
                settle(&mut slots);
                for (number, slot) in slots.iter().enumerate() {
                    let here: BTreeSet<_> = last.iter().filter(|(_, at)| **at == number).map(|(key, _)| *key).collect();
                    prop_assert_eq!(slot.connections.all().collect::<BTreeSet<_>>(), here.clone());
                    prop_assert_eq!((slot.connections.count(), slot.connections.kept()), (here.len(), here.len()));
                }
            }
        }
    }
}
