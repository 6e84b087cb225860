//! What one run tells the next: the kernel's counters, and which sockets looked bound, by network namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::census::Tuple;
use super::evidence::Memory;
use super::limits::Counters;
use crate::plugin::state_file::{Found, StateFile};

/// The version of the format.
const VERSION: u32 = 4;
/// The most namespaces that are kept.
const MOST: usize = 1000;

/// What is kept of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// In the order of [`super::limits::COUNTERS`].
    pub counters: Counters,
    /// When, in seconds of the Unix epoch.
    pub at: i64,
    /// Local address, remote address and port, and when it looked bound last.
    bound: Vec<(IpAddr, IpAddr, u16, i64)>,
}

impl Kept {
    /// Of now.
    pub fn new(counters: Counters, memory: &Memory, at: i64) -> Self {
        let mut bound: Vec<_> = memory
            .tuples()
            .map(|(tuple, seen)| (tuple.source, tuple.destination, tuple.port, seen))
            .collect();
        bound.sort_unstable();
        Self {
            counters,
            at,
            bound,
        }
    }

    /// What looked bound, unless that was too long ago.
    pub fn recall(&self, memory: &mut Memory) {
        for (source, destination, port, seen) in self.bound.iter().copied() {
            let tuple = Tuple {
                source,
                destination,
                port,
            };
            memory.recall(tuple, seen);
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Content {
    /// Namespaces are numbered anew after each start of the system.
    boot: String,
    pub(super) spaces: BTreeMap<String, Kept>,
}

/// The state file, open.
#[derive(Debug)]
pub struct Store {
    file: StateFile,
    content: Content,
    boot: String,
}

impl Store {
    /// Opens it. What cannot be used is said and not used.
    pub fn open(path: &Path, notes: &mut Vec<String>) -> Option<Self> {
        let boot = super::sysctl::read_small(Path::new("/proc/sys/kernel/random/boot_id"))
            .unwrap_or_default()
            .trim()
            .to_owned();
        let file = match StateFile::open(path, super::PLUGIN.binary, VERSION) {
            Ok(file) => file,
            Err(error) => {
                notes.push(format!("no state is kept: {error:#}"));
                return None;
            }
        };
        let content = match file.read() {
            Ok(Found::Data(data)) => serde_json::from_str(&data).unwrap_or_else(|_| {
                notes.push(file.set_aside("is damaged"));
                Content::default()
            }),
            Ok(Found::Nothing) => Content::default(),
            Ok(Found::Unusable(why)) => {
                notes.push(why);
                Content::default()
            }
            Err(error) => {
                notes.push(format!("no state is kept: {error:#}"));
                return None;
            }
        };
        let content = if content.boot == boot {
            content
        } else {
            Content::default()
        };
        Some(Self {
            file,
            content,
            boot,
        })
    }

    /// What the last run kept of a namespace.
    pub fn of(&self, space: &str) -> Option<&Kept> {
        self.content.spaces.get(space)
    }

    /// Keeps these for the next run, if no other run is at it.
    pub fn keep(mut self, spaces: BTreeMap<String, Kept>, notes: &mut Vec<String>) {
        if !self.file.is_held() {
            notes.push("another run holds the state file: nothing of this one is kept".to_owned());
            return;
        }
        self.content.boot = self.boot;
        self.content.spaces.extend(spaces);
        // Of namespaces that have gone, those seen last may come again under --netns.
        while self.content.spaces.len() > MOST {
            let oldest = self
                .content
                .spaces
                .iter()
                .min_by_key(|(_, kept)| kept.at)
                .map(|(name, _)| name.clone());
            oldest.map(|name| self.content.spaces.remove(&name));
        }
        let written = serde_json::to_string(&self.content)
            .map_err(anyhow::Error::from)
            .and_then(|data| self.file.write(&data));
        if let Err(error) = written {
            notes.push(format!("no state is kept: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::census::Census;
    use crate::ports::census::tests::{socket, sysctl};
    use crate::ports::headroom::{Headroom, Named};
    use crate::ports::socket::State;

    const DAY: i64 = 86_400;

    /// A look each hour that shows too little itself: what is believed from memory is no sign of it.
    #[test]
    fn what_is_only_remembered_is_forgotten_after_a_day() {
        let mut census = Census::new(&sysctl(1000, 1099), &[]);
        census.add(&socket(
            State::Established,
            "192.0.2.1:1000",
            "192.0.2.9:80",
        ));
        let tuple = census.tuples()[0].0;
        let look = |memory: &mut Memory| {
            Headroom::of(&census, &Named::default(), memory, None).destinations[0].bound
        };
        let mut memory = Memory::at(1000);
        memory.recall(tuple, 1000);
        for hour in 1..30 {
            let kept = Kept::new(Counters::default(), &memory, 1000 + (hour - 1) * 3600);
            memory = Memory::at(1000 + hour * 3600);
            kept.recall(&mut memory);
            assert_eq!(look(&mut memory), hour < 24, "hour {hour}");
        }
    }

    #[test]
    fn what_was_kept_comes_back_until_it_is_too_old_or_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut notes = Vec::new();
        let mut memory = Memory::at(1000);
        let tuple = Tuple {
            source: "192.0.2.1".parse().unwrap(),
            destination: "2001:db8::1".parse().unwrap(),
            port: 80,
        };
        memory.recall(tuple, 1000);
        let kept = Kept::new(
            [Some(1), None, Some(3), Some(4), Some(5), None],
            &memory,
            1000,
        );
        let store = Store::open(&path, &mut notes).unwrap();
        assert_eq!(store.of("net:[1]"), None);
        store.keep(
            BTreeMap::from([("net:[1]".to_owned(), kept.clone())]),
            &mut notes,
        );
        let store = Store::open(&path, &mut notes).unwrap();
        assert_eq!(store.of("net:[1]"), Some(&kept));
        drop(store);
        // A clock that was put back makes nothing too old, and nothing of the future.
        for (now, count, seen) in [(1060, 1, 1000), (1000 + DAY, 0, 0), (999, 1, 999)] {
            let mut later = Memory::at(now);
            kept.recall(&mut later);
            assert_eq!(later.tuples().count(), count, "{now}");
            assert!(later.tuples().all(|(_, at)| at == seen), "{later:?}");
        }
        assert_eq!(notes, Vec::<String>::new());
        std::fs::write(&path, "something else\n").unwrap();
        let store = Store::open(&path, &mut notes).unwrap();
        assert_eq!(store.of("net:[1]"), None);
        assert!(notes[0].contains("set aside"), "{notes:?}");
    }
}
