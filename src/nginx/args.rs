//! The options of `check_nginx_upstream_bind`.

use clap::Parser;

use crate::plugin::{Arguments, Common};

/// Options.
#[derive(Debug, Clone, Parser)]
#[command(name = "check_nginx_upstream_bind", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

impl Arguments for Args {
    fn common(&self) -> &Common {
        &self.common
    }
}
