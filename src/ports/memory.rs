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
const VERSION: u32 = 3;
/// The most namespaces that are kept.
const MOST: usize = 1000;
/// How long what looked bound is believed without being seen again, in seconds.
const BELIEVED: i64 = 86_400;

/// What is kept of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// In the order of [`super::limits::COUNTERS`].
    pub counters: Counters,
    /// When, in seconds of the Unix epoch.
    pub at: i64,
    /// Local address, remote address and port.
    bound: Vec<(IpAddr, IpAddr, u16)>,
}

impl Kept {
    /// Of now.
    pub fn new(counters: Counters, memory: &Memory, at: i64) -> Self {
        let mut bound: Vec<_> = memory
            .tuples()
            .map(|tuple| (tuple.source, tuple.destination, tuple.port))
            .collect();
        bound.sort_unstable();
        Self {
            counters,
            at,
            bound,
        }
    }

    /// What looked bound, unless that was too long ago.
    pub fn recall(&self, memory: &mut Memory, now: i64) {
        if (0..BELIEVED).contains(&now.saturating_sub(self.at)) {
            for (source, destination, port) in self.bound.iter().copied() {
                memory.recall(Tuple {
                    source,
                    destination,
                    port,
                });
            }
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

    #[test]
    fn what_was_kept_comes_back_until_it_is_too_old_or_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut notes = Vec::new();
        let mut memory = Memory::default();
        memory.recall(Tuple {
            source: "192.0.2.1".parse().unwrap(),
            destination: "2001:db8::1".parse().unwrap(),
            port: 80,
        });
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
        for (now, count) in [(1060, 1), (1000 + BELIEVED, 0), (999, 0)] {
            let mut later = Memory::default();
            kept.recall(&mut later, now);
            assert_eq!(later.tuples().count(), count, "{now}");
        }
        assert_eq!(notes, Vec::<String>::new());
        std::fs::write(&path, "something else\n").unwrap();
        let store = Store::open(&path, &mut notes).unwrap();
        assert_eq!(store.of("net:[1]"), None);
        assert!(notes[0].contains("set aside"), "{notes:?}");
    }
}
