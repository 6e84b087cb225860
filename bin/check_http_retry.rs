//! check_http_retry: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    proxy_checks::plugin::run(&proxy_checks::http::PLUGIN)
}
