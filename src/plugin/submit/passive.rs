//! A result for Icinga, and its name in the queue.

use std::hash::{BuildHasher, Hasher, RandomState};

use serde::{Deserialize, Serialize};

/// The end of a result's name.
const SUFFIX: &str = ".result";

/// One result, as it goes to Icinga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passive {
    /// The exit code: 0 to 3.
    pub state: u8,
    /// The first line without performance data, and the lines below it.
    pub output: String,
    /// The performance data, item by item.
    pub perfdata: Vec<String>,
    /// When the measurement began, in microseconds since 1970.
    pub start: i64,
    /// When it was over.
    pub end: i64,
}

/// A result's place in the queue: the time it came in, its state, and a number by lot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub(super) String);

impl Name {
    pub(super) fn new(stamp: i64, state: u8) -> Self {
        let lot = RandomState::new().build_hasher().finish() & 0xffff_ffff;
        Self(format!("{stamp:018}-{state}-{lot:08x}{SUFFIX}"))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let name = Self(text.to_owned());
        (text.len() == 18 + 1 + 1 + 1 + 8 + SUFFIX.len()
            && text.is_ascii()
            && text.ends_with(SUFFIX))
        .then_some(())?;
        name.stamp().map(|_| name)
    }

    pub(super) fn stamp(&self) -> Option<i64> {
        self.0.split('-').next()?.parse().ok()
    }

    pub(super) fn is_ok(&self) -> bool {
        self.0.split('-').nth(1) == Some("0")
    }
}
