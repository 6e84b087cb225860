//! `check_http_retry`.

mod args;

pub use args::Args;

use crate::plugin::{Plugin, Report, Run};

/// The plugin.
pub const PLUGIN: Plugin<Args> = Plugin {
    name: "HTTP",
    binary: "check_http_retry",
    check,
};

fn check(_args: &Args, _run: &Run) -> anyhow::Result<Report> {
    anyhow::bail!("not there yet")
}
