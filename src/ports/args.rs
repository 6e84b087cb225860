//! The options of `check_port_exhaustion`.

use clap::Parser;

use crate::plugin::{Arguments, Common};

/// Options.
#[derive(Debug, Clone, Parser)]
#[command(name = "check_port_exhaustion", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

impl Arguments for Args {
    fn common(&self) -> &Common {
        &self.common
    }
}
