//! The options of `check_http_retry`.

use clap::Parser;

use crate::plugin::{Arguments, Common};

/// Options.
#[derive(Debug, Clone, Parser)]
#[command(name = "check_http_retry", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

impl Arguments for Args {
    fn common(&self) -> &Common {
        &self.common
    }
}
