//! `check_http_retry`: asks a web server again and again until it fails.
//!
//! | module | owns |
//! |---|---|
//! | `args`, `argv`, `extra_opts` | the options, the spellings that getopt reads and clap does not, options from a file |
//! | [`plan`] | what a run does: parsed, consistent, nothing validated later |
//! | [`target`], [`request`], [`secrets`] | where a request goes, what it says, and what nobody else may read |
//! | [`wire`], [`tls`], [`verify`] | the stream under an exchange, with its tape; whom to trust at its other end |
//! | [`connect`], [`source`], [`trace`] | from a name to a connection, where it leaves this host, and how far it came |
//! | [`proxy`], [`tunnel`] | which proxy a request goes through, and what is said to it |
//! | [`exchange`], [`http2`], [`reply`] | one request and its reply on a connection |
//! | [`protocol`], [`unpack`] | the version of HTTP, and pages that come packed |
//! | [`attempt`] | one probe: an exchange, the redirects behind it, the limit on all of it |
//! | [`checks`], [`expect`], [`jsonpath`], [`pattern`], [`age`], [`certificate`] | one reply to a state and `check_http`'s words |
//! | [`probe`] | what is known of one probe, as plain data |
//! | [`paths`], [`turns`] | the ways to the server, and which one a probe takes |
//! | [`path_summary`], [`compare`], `by_path`, `path_numbers` | what came over each of them, and whether one fails more than the others |
//! | [`pace`], [`burst`] | how many probes and how fast, and the loop |
//! | [`summary`], [`verdict`], [`report`], `shown`, [`details`] | many probes to numbers, a state, a report |

pub mod age;
mod args;
mod argv;
pub mod attempt;
pub mod burst;
mod by_path;
pub mod certificate;
pub mod checks;
pub mod compare;
pub mod connect;
pub mod details;
pub mod evidence;
pub mod exchange;
pub mod expect;
mod extra_opts;
pub mod http2;
pub mod jsonpath;
pub mod pace;
mod path_numbers;
pub mod path_summary;
pub mod paths;
pub mod pattern;
pub mod plan;
pub mod probe;
pub mod protocol;
pub mod proxy;
pub mod reply;
pub mod report;
pub mod request;
pub mod secrets;
mod shown;
pub mod source;
pub mod summary;
pub mod target;
pub mod tls;
pub mod trace;
pub mod tunnel;
pub mod turns;
pub mod unpack;
pub mod verdict;
pub mod verify;
pub mod wire;

pub use args::{Args, OnRedirect};

use crate::plugin::{Plugin, Report, Run};
use plan::Plan;

/// The plugin.
pub const PLUGIN: Plugin<Args> = Plugin {
    name: "HTTP",
    binary: "check_http_retry",
    check,
};

fn check(args: &Args, run: &Run) -> anyhow::Result<Report> {
    let plan = Plan::try_from(args)?;
    let (prober, summary) = burst::run(plan, run)?;
    let verdict = verdict::judge(prober.plan(), &summary);
    Ok(report::render(prober.plan(), &summary, verdict))
}
