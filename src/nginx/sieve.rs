//! Which lines are looked at: all that nginx wrote with level error or worse, or only those that hold one of a few
//! texts, which is found in large blocks at the speed of memory.

use memchr::memmem::{FindIter, Finder};

use super::cause::{Cause, CauseSet};

/// So many texts at most; each one is a pass over the block.
const NEEDLES: usize = 3;

/// What lines are chosen by.
#[derive(Debug, Clone)]
pub enum Sieve {
    /// Their level.
    Levels,
    /// Texts, one of which each line that matters holds.
    Needles(Vec<Finder<'static>>),
}

impl Sieve {
    /// One that lets through all lines with these causes.
    pub fn of(wanted: CauseSet) -> Self {
        let Some(needles) = wanted
            .iter()
            .map(Cause::needles)
            .collect::<Option<Vec<_>>>()
        else {
            return Self::Levels;
        };
        let mut needles: Vec<_> = needles.concat();
        // These two are what is mostly asked for: one pass does for both.
        let both = [" failed (98:", " failed (99:"];
        if both.iter().all(|needle| needles.contains(needle)) {
            needles.retain(|needle| !both.contains(needle));
            needles.push(" failed (9");
        }
        needles.sort_unstable();
        needles.dedup();
        if needles.is_empty() || needles.len() > NEEDLES {
            return Self::Levels;
        }
        Self::Needles(needles.into_iter().map(Finder::new).collect())
    }
}

/// The places in a block where one of the needles stands, in order.
pub struct Hits<'b> {
    bytes: &'b [u8],
    finders: Vec<(FindIter<'b, 'b>, Option<usize>)>,
}

impl<'b> Hits<'b> {
    /// Those in this block.
    pub fn new(finders: &'b [Finder<'static>], bytes: &'b [u8]) -> Self {
        let finders = finders
            .iter()
            .map(|finder| {
                let mut found = finder.find_iter(bytes);
                let first = found.next();
                (found, first)
            })
            .collect();
        Self { bytes, finders }
    }

    /// The first place at or behind this one.
    pub fn next_from(&mut self, at: usize) -> Option<usize> {
        debug_assert!(at <= self.bytes.len());
        let places = self.finders.iter_mut().map(|(found, next)| {
            while next.is_some_and(|place| place < at) {
                *next = found.next();
            }
            *next
        });
        places.flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_that_are_mostly_asked_for_take_two_texts() {
        let sieve = |causes: &[Cause]| match Sieve::of(causes.iter().copied().collect()) {
            Sieve::Levels => Vec::new(),
            Sieve::Needles(needles) => needles
                .iter()
                .map(|needle| String::from_utf8_lossy(needle.needle()).into_owned())
                .collect(),
        };
        assert_eq!(
            sieve(&[Cause::BindInUse, Cause::NoFreePort]),
            [" failed (11:", " failed (9"]
        );
        assert_eq!(sieve(&[Cause::Refused]), [" failed (111:"]);
        assert!(sieve(&[Cause::Refused, Cause::Tls]).is_empty());
        assert!(sieve(&[]).is_empty());
    }

    #[test]
    fn places_come_in_order_whatever_stands_there() {
        let finders = [Finder::new("ab"), Finder::new("b ")];
        let mut hits = Hits::new(&finders, b"ab ab xx b ");
        let mut at = 0;
        let mut places = Vec::new();
        while let Some(place) = hits.next_from(at) {
            places.push(place);
            at = place + 1;
        }
        assert_eq!(places, [0, 1, 3, 4, 9]);
    }
}
