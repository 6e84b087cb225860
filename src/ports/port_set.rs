//! A set of ports as 65 536 bits, and the range that the kernel hands ports out of.

use std::fmt;
use std::str::FromStr;

const WORDS: usize = 65_536 / 64;

/// A set of ports: 8 KiB, whatever is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSet(Box<[u64; WORDS]>);

impl Default for PortSet {
    fn default() -> Self {
        Self(Box::new([0; WORDS]))
    }
}

impl PortSet {
    /// Adds a port. Returns whether it was there already.
    pub fn insert(&mut self, port: u16) -> bool {
        let (word, bit) = place(port);
        let was = self.0[word] & bit != 0;
        self.0[word] |= bit;
        was
    }

    /// Takes a port out.
    pub fn remove(&mut self, port: u16) {
        let (word, bit) = place(port);
        self.0[word] &= !bit;
    }

    /// Whether a port is in it.
    pub fn contains(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        self.0[word] & bit != 0
    }

    /// How many ports are in it.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many ports of it are in any of `others`.
    pub fn covered_by(&self, others: &[&Self]) -> u32 {
        let covered =
            |(at, word): (usize, &u64)| word & others.iter().fold(0, |all, set| all | set.0[at]);
        self.0
            .iter()
            .enumerate()
            .map(|at| covered(at).count_ones())
            .sum()
    }

    /// How many of its ports have the parity of this one.
    pub fn len_like(&self, port: u16) -> u32 {
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let parity = EVEN << (port % 2);
        self.0.iter().map(|word| (word & parity).count_ones()).sum()
    }

    /// Its ports that are not in another.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        for (word, other) in rest.0.iter_mut().zip(other.0.iter()) {
            *word &= !other;
        }
        rest
    }

    /// Adds all ports of another.
    pub fn add_all(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(other.0.iter()) {
            *word |= other;
        }
    }

    /// Its ports in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let ports = |(at, word): (usize, &u64)| {
            let first = u16::try_from(at * 64).unwrap_or(u16::MAX); // 1024 words
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = u16::try_from(rest.trailing_zeros()).unwrap_or(64);
                (rest != 0).then(|| {
                    rest &= rest - 1;
                    first + bit
                })
            })
        };
        self.0.iter().enumerate().flat_map(ports)
    }
}

fn place(port: u16) -> (usize, u64) {
    (usize::from(port / 64), 1 << (port % 64))
}

/// `ip_local_port_range`: both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port; its parity is the one that connect() tries first.
    pub low: u16,
    /// The highest port.
    pub high: u16,
}

impl PortRange {
    /// A range of at least one port, from 1 on.
    pub fn new(low: u16, high: u16) -> Option<Self> {
        (low > 0 && low <= high).then_some(Self { low, high })
    }

    /// Whether a port lies in it.
    pub fn contains(self, port: u16) -> bool {
        self.low <= port && port <= self.high
    }

    /// Whether connect() tries this port only after all those of the range's first parity.
    pub fn is_second_choice(self, port: u16) -> bool {
        port.wrapping_sub(self.low) % 2 == 1
    }

    /// How many ports it holds.
    pub fn size(self) -> u32 {
        u32::from(self.high) - u32::from(self.low) + 1
    }

    /// Its ports, less those that are reserved.
    pub fn without(self, reserved: &PortSet) -> PortSet {
        let mut ports = PortSet::default();
        for (at, word) in ports.0.iter_mut().enumerate() {
            let first = at * 64;
            // The bits of the ports from `port` on, of those in this word.
            let from = |port: usize| match port.saturating_sub(first) {
                below @ 0..64 => u64::MAX << below,
                _ => 0,
            };
            *word = from(self.low.into()) & !from(usize::from(self.high) + 1);
        }
        ports.without(reserved)
    }
}

impl FromStr for PortRange {
    type Err = String;

    /// `LOW-HIGH`, or two numbers with a blank between, as the kernel prints them.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is no port range: give LOW-HIGH, both from 1 to 65535, LOW not above HIGH"
            )
        };
        let (low, high) = text
            .trim()
            .split_once(|c: char| c == '-' || c.is_ascii_whitespace())
            .ok_or_else(wrong)?;
        let port = |word: &str| word.trim().parse::<u16>().map_err(|_| wrong());
        Self::new(port(low)?, port(high)?).ok_or_else(wrong)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = PortSet::default();
        for port in [0, 1, 63, 64, 32768, 65535] {
            assert!(!set.insert(port) && set.insert(port), "{port}");
        }
        assert_eq!(set.len(), 6);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 63, 64, 32768, 65535]);
        assert_eq!((set.len_like(2), set.len_like(65535)), (3, 3));
        set.remove(64);
        assert!(!set.contains(64) && set.len() == 5);
        let mut other = PortSet::default();
        other.insert(1);
        assert_eq!(set.covered_by(&[&other, &other]), 1);
        assert_eq!(set.covered_by(&[]), 0);
        let mut rest = set.without(&other);
        assert_eq!(rest.iter().collect::<Vec<_>>(), [0, 63, 32768, 65535]);
        rest.add_all(&other);
        assert_eq!(rest, set);
    }

    #[test]
    fn ranges_read_in_both_forms_and_nothing_else() {
        for text in ["32768-60999", "32768\t60999\n", "32768 60999"] {
            let range: PortRange = text.parse().unwrap();
            assert_eq!((range.low, range.high, range.size()), (32768, 60999, 28232));
        }
        for text in ["", "5", "10-5", "0-10", "1-65536", "a-b", "1-2-3", "-1-5"] {
            assert!(text.parse::<PortRange>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn the_whole_range_has_no_overflow() {
        let range = PortRange::new(1, 65535).unwrap();
        assert_eq!(range.size(), 65535);
        assert_eq!(range.without(&PortSet::default()).len(), 65535);
        for (low, high) in [(1, 1), (63, 64), (64, 127), (1024, 65535), (65535, 65535)] {
            let ports = PortRange::new(low, high)
                .unwrap()
                .without(&PortSet::default());
            assert!(ports.iter().eq(low..=high), "{low}-{high}");
        }
        let mut reserved = PortSet::default();
        reserved.insert(2);
        assert_eq!(PortRange::new(1, 3).unwrap().without(&reserved).len(), 2);
        assert!(!range.is_second_choice(1) && range.is_second_choice(65534));
    }
}
