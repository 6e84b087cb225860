//! incident_timeline: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    proxy_checks::timeline::run().into()
}
