//! `check_http_retry` against a server that misbehaves, and side by side with the real `check_http`.

mod beside;
mod certificates;
mod cookies;
mod evidence;
mod expectations;
mod extra_opts;
mod find;
mod journal;
mod json;
mod keepalive;
mod kinds;
mod names;
mod paths;
mod protocol;
mod proxies;
mod proxy_ways;
mod replies;
mod requests;
mod runs;
mod secrets;
mod side_by_side;
mod transcript;
mod windows;

use std::process::Command;

use crate::support::fault_server::{Act, FaultServer, Seen, page, page_with};
use crate::support::plugin::{Outcome, outcome, plugin};

const GOOD: &str = "200 OK";
const BAD: &str = "500 Internal Server Error";

fn command(server: &FaultServer, arguments: &str) -> Command {
    let mut command = plugin("check_http_retry");
    command
        .args(["-I", "127.0.0.1", "-p", &server.port()])
        .args(arguments.split(' ').filter(|word| !word.is_empty()));
    command
}

fn run(server: &FaultServer, arguments: &str) -> Outcome {
    outcome(&mut command(server, arguments))
}

fn always(bytes: impl Into<Vec<u8>>) -> FaultServer {
    let bytes = bytes.into();
    FaultServer::start(move |_| Act::Send(bytes.clone()))
}

/// Fails every n-th request with a 500.
fn every(n: usize) -> impl Fn(&Seen) -> Act + Send + Sync + 'static {
    move |seen| {
        let status = if seen.number % n == n - 1 { BAD } else { GOOD };
        Act::Send(page(status, "hello world\n"))
    }
}
