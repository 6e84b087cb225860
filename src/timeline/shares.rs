//! How many of how many failed, by service and by what a service goes through: what the failing ones have in common.

use std::collections::HashMap;

use super::sort::Origin;

/// No more pairs of a service and a value than this.
const MOST: usize = 20_000;

/// How much of a name is kept.
const NAME: usize = 120;

/// What a service may have in common with another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Dimension {
    /// Nothing: the service itself.
    Service,
    /// The proxy whose log it is.
    Proxy,
    /// Where the proxy went on to.
    Backend,
    /// The address that a probe or a check went to.
    Address,
    /// The path over which a probe went (`--via`).
    Route,
    /// The first two steps of the request's path.
    Path,
}

impl Dimension {
    /// All but the service itself.
    pub const ALL: [Self; 5] = [
        Self::Proxy,
        Self::Backend,
        Self::Address,
        Self::Route,
        Self::Path,
    ];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Proxy => "proxy",
            Self::Backend => "backend",
            Self::Address => "address",
            Self::Route => "route",
            Self::Path => "path",
        }
    }
}

/// How many were tried and how many failed, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    pub tried: u64,
    pub failed: u64,
    /// The first that was tried, the first and the last that went well, the first that failed; seconds since 1970.
    pub first: Option<i64>,
    pub first_well: Option<i64>,
    pub last_well: Option<i64>,
    pub first_failed: Option<i64>,
}

impl Share {
    fn add(&mut self, at: i64, failed: bool) {
        self.tried += 1;
        let earlier = |old: Option<i64>| Some(old.map_or(at, |old| old.min(at)));
        self.first = earlier(self.first);
        if failed {
            self.failed += 1;
            self.first_failed = earlier(self.first_failed);
        } else {
            self.first_well = earlier(self.first_well);
            self.last_well = self.last_well.max(Some(at));
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let earlier = |one: Option<i64>, two: Option<i64>| match (one, two) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Self {
            tried: self.tried + other.tried,
            failed: self.failed + other.failed,
            first: earlier(self.first, other.first),
            first_well: earlier(self.first_well, other.first_well),
            last_well: self.last_well.max(other.last_well),
            first_failed: earlier(self.first_failed, other.first_failed),
        }
    }
}

/// One entry.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub origin: Origin,
    pub service: &'a [u8],
    pub value: &'a [u8],
    pub share: Share,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Shares {
    /// By origin, dimension, the length of the service's name, service and value.
    entries: HashMap<Box<[u8]>, Share>,
    key: Vec<u8>,
    /// How many found no place.
    pub lost: u64,
}

impl Shares {
    /// Takes one try in.
    pub fn add(
        &mut self,
        at: i64,
        failed: bool,
        (origin, dimension): (Origin, Dimension),
        service: &[u8],
        value: &[u8],
    ) {
        let (service, value) = (
            &service[..service.len().min(NAME)],
            &value[..value.len().min(NAME)],
        );
        self.key.clear();
        // The length fits: names are cut.
        self.key.extend([
            origin as u8,
            dimension as u8,
            u8::try_from(service.len()).unwrap_or(u8::MAX),
        ]);
        self.key.extend_from_slice(service);
        self.key.extend_from_slice(value);
        if let Some(share) = self.entries.get_mut(&self.key[..]) {
            share.add(at, failed);
        } else if self.entries.len() < MOST {
            let mut share = Share::default();
            share.add(at, failed);
            self.entries.insert(Box::from(&self.key[..]), share);
        } else {
            self.lost += 1;
        }
    }

    /// All entries of one dimension.
    pub fn of(&self, origin: Origin, dimension: Dimension) -> Vec<Entry<'_>> {
        let entries = self.entries.iter().filter_map(|(key, share)| {
            let [from, of, length, names @ ..] = &key[..] else {
                return None;
            };
            let (service, value) = names.split_at_checked(usize::from(*length))?;
            (*from == origin as u8 && *of == dimension as u8).then_some(Entry {
                origin,
                service,
                value,
                share: *share,
            })
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by(|a, b| (a.service, a.value).cmp(&(b.service, b.value)));
        entries
    }
}
