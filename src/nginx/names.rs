//! The names that events are listed by, each once, by number.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// How many names are told apart in all.
pub const NAMES: usize = 4096;

/// How many bytes of a name are kept.
const LENGTH: usize = 120;

/// How many names are found without a look into the table of all.
const LATELY: usize = 512;

/// What stands for the names beyond those limits.
pub const OTHERS: &str = "(others)";

/// Names, by number.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Names {
    list: Vec<String>,
    /// Their numbers; empty until one is looked for.
    #[serde(skip)]
    numbers: HashMap<String, u32>,
    /// The numbers of names that came lately, by a hash of their ends: most lines name the same few.
    #[serde(skip)]
    lately: Vec<u32>,
}

impl Names {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// All of them, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(String::as_str)
    }

    /// That with a number.
    pub fn get(&self, number: u32) -> Option<&str> {
        self.list.get(number as usize).map(String::as_str)
    }

    /// The number of a name, or of all others where there is no room for it.
    pub fn number(&mut self, name: &[u8]) -> u32 {
        let name = &name[..name.len().min(LENGTH)];
        let place = quick_hash(name) % LATELY;
        let lately = self.lately.get(place).copied();
        if let Some(number) = lately
            && self
                .get(number)
                .is_some_and(|known| known.as_bytes() == name)
        {
            return number;
        }
        let number = self.look_up(name);
        self.lately.resize(LATELY, u32::MAX);
        self.lately[place] = number;
        number
    }

    fn look_up(&mut self, name: &[u8]) -> u32 {
        if self.numbers.is_empty() {
            // Of what was stored mostly none is looked for.
            let numbered = (0..).zip(&self.list);
            self.numbers = numbered
                .map(|(number, name)| (name.clone(), number))
                .collect();
        }
        let mut name = String::from_utf8_lossy(name);
        if name.len() > LENGTH {
            // As it would be cut if it were looked up by what is kept of it.
            name = name[..name.floor_char_boundary(LENGTH)].to_owned().into();
        }
        if let Some(&number) = self.numbers.get(name.as_ref()) {
            return number;
        }
        let name = if self.list.len() + 1 < NAMES {
            name.into_owned()
        } else {
            OTHERS.to_owned()
        };
        if let Some(&number) = self.numbers.get(&name) {
            return number;
        }
        let number = u32::try_from(self.list.len()).unwrap_or(0);
        self.list.push(name.clone());
        self.numbers.insert(name, number);
        number
    }
}

/// Length, first and last bytes: enough to tell most names apart, and no more than a hint.
fn quick_hash(name: &[u8]) -> usize {
    let (first, last) = match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (
            name.iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte)),
            0,
        ),
    };
    let mixed =
        (first ^ last.rotate_left(29) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 40).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_of_broken_bytes_is_the_same_when_it_is_counted_again() {
        let mut names = Names::default();
        let broken = [0xff; 2 * LENGTH];
        let number = names.number(&broken);
        let kept = names.get(number).unwrap().to_owned();
        assert!(kept.len() <= LENGTH, "{kept}");
        assert_eq!(names.number(kept.as_bytes()), number);
        assert_eq!(Names::default().number(kept.as_bytes()), number);
    }
}
