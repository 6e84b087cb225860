//! check_nginx_upstream_bind: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    proxy_checks::plugin::run(&proxy_checks::nginx::PLUGIN)
}
