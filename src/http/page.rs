//! What becomes of a page: how much of it is read, and how much is kept, so that all those in flight find room.

use super::args::Args;
use super::evidence;
use super::jsonpath::JSON_LIMIT;

/// What is kept of all the pages in flight, for searching: what a page holds beyond its share is counted only.
const PAGES_KEPT: usize = 64 << 20;

/// The most that is kept of one page.
const PAGE_KEPT: usize = 8 << 20;

/// The most of a page that `-B` shows.
pub const PAGE_SHOWN: usize = 16 << 10;

/// What becomes of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageUse {
    /// It is not waited for.
    Unread,
    /// It is read and forgotten.
    Counted,
    /// It is read, and this much of it is kept.
    Kept(usize),
}

impl PageUse {
    /// How much is kept.
    pub fn limit(self) -> usize {
        match self {
            Self::Kept(limit) => limit,
            Self::Unread | Self::Counted => 0,
        }
    }
}

impl From<&Args> for PageUse {
    fn from(args: &Args) -> Self {
        if args.no_body {
            Self::Unread
        } else if args.protocol.enable_automatic_decompression
            || args.string.is_some()
            || args.regex.is_some()
            || args.eregi.is_some()
        {
            Self::Kept((PAGES_KEPT / args.pace.concurrency as usize).min(PAGE_KEPT))
        } else if args.json.any() {
            Self::Kept((PAGES_KEPT / args.pace.concurrency as usize).min(JSON_LIMIT))
        } else if args.show_body {
            Self::Kept(PAGE_SHOWN)
        } else if args.evidence.evidence.is_some() {
            let share = PAGES_KEPT / args.pace.concurrency as usize;
            Self::Kept(share.min(evidence::LIMIT))
        } else {
            Self::Counted
        }
    }
}
