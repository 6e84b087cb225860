//! check_port_exhaustion: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    proxy_checks::plugin::run(&proxy_checks::ports::PLUGIN)
}
