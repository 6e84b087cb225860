//! `check_nginx_upstream_bind`.

mod args;

pub use args::Args;

use crate::plugin::{Plugin, Report, Run};

/// The plugin.
pub const PLUGIN: Plugin<Args> = Plugin {
    name: "NGINX",
    binary: "check_nginx_upstream_bind",
    check,
};

fn check(_args: &Args, _run: &Run) -> anyhow::Result<Report> {
    anyhow::bail!("not there yet")
}
