//! `check_port_exhaustion`.

mod args;

pub use args::Args;

use crate::plugin::{Plugin, Report, Run};

/// The plugin.
pub const PLUGIN: Plugin<Args> = Plugin {
    name: "PORTS",
    binary: "check_port_exhaustion",
    check,
};

fn check(_args: &Args, _run: &Run) -> anyhow::Result<Report> {
    anyhow::bail!("not there yet")
}
