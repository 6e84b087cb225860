//! What is kept of failing probes, with a good one beside each: `--evidence`.
//!
//! | module | owns |
//! |---|---|
//! | `record` | the bytes, keys and connections of one exchange, as they come |
//! | `filter`, `capture`, `flows` | packets: which ones, from the kernel, by connection |
//! | `mask`, `parts` | what nobody else may read; an exchange taken apart |
//! | `har`, `pcapng`, `compare`, `entry` | the files of an entry |
//! | `folder`, `keep` | where entries lie, and how many |
//! | `keeper` | which probes are kept, while the loop runs |
//!
//! Nothing of it is done without `--evidence` but the comparison, which `-v` asks for.

mod capture;
mod compare;
mod entry;
mod filter;
mod flows;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod har;
mod keep;
mod keeper;
mod mask;
mod parts;
mod pcapng;
mod record;

use std::path::PathBuf;

use hyper::header::HeaderValue;

use super::args::Args;
use super::proxy::Proxies;
use crate::plugin::Arguments;

pub use compare::lines as comparison;
pub use keep::Keep;
pub use keeper::{Keeper, Outcome};
pub use mask::Mask;
pub use record::{LIMIT, Noted, Record, Recorder, Recording, Told};

/// Its options.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Evidence")]
pub struct EvidenceArgs {
    /// Keep each failing exchange in this folder, with a good one beside it: HAR, bytes and, with CAP_NET_RAW, packets
    #[arg(long, value_name = "DIR")]
    pub evidence: Option<PathBuf>,

    /// How much to keep of it: entries, bytes and age, in any order [default: 100,100MB,30d]
    #[arg(long, value_name = "N,SIZE,AGE")]
    pub evidence_keep: Option<Keep>,

    /// Keep passwords, cookies, tokens and what is posted in it as they are, instead of asterisks
    #[arg(long)]
    pub evidence_secrets: bool,
}

/// What a run keeps.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The folder.
    pub folder: Option<PathBuf>,
    /// How much of it.
    pub keep: Keep,
    /// What is masked; `None` for nothing.
    pub mask: Option<Mask>,
    /// Whether failing probes are compared with good ones.
    compared: bool,
}

impl Evidence {
    /// By the options, with the secrets that they give: header values, and what a proxy is told.
    pub fn new<'a>(
        args: &Args,
        values: impl Iterator<Item = &'a HeaderValue>,
        proxies: &Proxies,
    ) -> Self {
        let pairs = proxies.each().filter_map(|proxy| proxy.pair.as_ref());
        let pairs = pairs.map(|(user, password)| format!("{user}:{password}").into_bytes());
        let given = values.map(|value| value.as_bytes().to_vec()).chain(pairs);
        Self {
            folder: args.evidence.evidence.clone(),
            keep: args.evidence.evidence_keep.unwrap_or_default(),
            mask: (!args.evidence.evidence_secrets).then(|| Mask::new(given)),
            compared: args.common().verbose > 0,
        }
    }

    /// Whether the heads of probes are kept to be compared.
    pub fn compares(&self) -> bool {
        self.compared || self.folder.is_some()
    }
}
