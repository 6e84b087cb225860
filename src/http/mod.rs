//! `check_http_retry`: asks a web server again and again until it fails.
//!
//! | module | owns |
//! |---|---|
//! | `args`, `argv`, `extra_opts` | the options, the spellings that getopt reads and clap does not, options from a file |
//! | [`plan`] | what a run does: parsed, consistent, nothing validated later |
//! | `page` | how much of a page is read and kept |
//! | [`target`], [`request`], [`secrets`] | where a request goes, what it says, and what nobody else may read |
//! | [`wire`], [`tls`], [`verify`] | the stream under an exchange, with its tape; whom to trust at its other end |
//! | [`connect`], [`resolve`], [`source`], [`trace`] | from a name to a connection, where it leaves this host, and how far it came |
//! | [`proxy`], [`exempt`], [`tunnel`], [`socks`] | which proxy a request goes through, and what is said to it |
//! | [`exchange`], [`http2`], [`reply`] | one request and its reply on a connection |
//! | [`pool`], `reused` | connections that rest between two requests, and what the report says of them |
//! | [`protocol`], [`unpack`] | the version of HTTP, and pages that come packed |
//! | [`cookies`], [`cookie_file`] | what servers want to find again, and the file that keeps it |
//! | [`attempt`] | one probe: an exchange, the redirects behind it, the limit on all of it |
//! | `redirect` | where a redirect leads, or why it leads nowhere |
//! | `cpu_wait` | what of a probe's time this host is to blame for |
//! | [`checks`], [`expect`], [`jsonpath`], [`pattern`], [`age`], [`certificate`] | one reply to a state and `check_http`'s words |
//! | [`probe`] | what is known of one probe, as plain data |
//! | [`paths`], [`turns`] | the ways to the server, and which one a probe takes |
//! | [`path_summary`], [`compare`], `by_path`, `path_numbers` | what came over each of them, and whether one fails more than the others |
//! | [`pace`], [`burst`], `flying`, `early` | how many probes and how fast, the loop, those under way, and the word ahead of its result |
//! | [`record`], [`find`] | one probe as a line of the journal, and in the proxy's log |
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
pub mod cookie_file;
pub mod cookies;
mod cpu_wait;
pub mod details;
mod early;
pub mod evidence;
pub mod exchange;
pub mod exempt;
pub mod expect;
mod extra_opts;
pub mod find;
mod flying;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod http2;
pub mod jsonpath;
pub mod pace;
mod page;
mod path_numbers;
pub mod path_summary;
pub mod paths;
pub mod pattern;
pub mod plan;
pub mod pool;
pub mod probe;
pub mod protocol;
pub mod proxy;
pub mod record;
mod redirect;
pub mod reply;
pub mod report;
pub mod request;
pub mod resolve;
mod reused;
pub mod secrets;
mod shown;
pub mod socks;
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

use crate::plugin::{Arguments, Plugin, Report, Run};
use cookie_file::Cookies;
use find::Logs;
use plan::Plan;
use record::Recorder;

/// The plugin.
pub const PLUGIN: Plugin<Args> = Plugin {
    name: "HTTP",
    binary: "check_http_retry",
    check,
};

fn check(args: &Args, run: &Run) -> anyhow::Result<Report> {
    if !args.find.failures_from.is_empty() {
        return find::find_again(&args.find, run);
    }
    let plan = Plan::try_from(args)?;
    let logs = Logs::mark(&args.find, run);
    let series = args.common().series.clone();
    let journal = args.journal.open();
    let mut recorder = journal.map(|journal| Recorder::new(journal, series));
    let (prober, summary) = burst::run(plan, run, recorder.as_mut())?;
    let plan = prober.plan();
    let verdict = verdict::judge(plan, &summary);
    let mut report = report::render(plan, &summary, verdict);
    if let Some(logs) = logs {
        let findings = logs.find(&summary.failures, run);
        findings.tell(summary.left_out, &mut report);
    }
    if let Some(recorder) = &recorder {
        recorder.journal().tell(&mut report);
    }
    if let Some(Err(error)) = plan.cookies.as_ref().map(Cookies::store) {
        report.line(0, format!("{error:#}"));
    }
    Ok(report)
}
