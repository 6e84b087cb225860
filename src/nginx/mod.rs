//! `check_nginx_upstream_bind`: why nginx could not reach its upstreams, minute by minute.
//!
//! | module | owns |
//! |---|---|
//! | `args`, `plan` | the options, and the options made whole |
//! | `line`, `message`, `fields`, `cause` | one line of the log: what it says, of whom, and what that means |
//! | `forged` | lines that a request wrote |
//! | `clock`, `zone`, `fold` | the log's local time, how it shows in which zone, and which of two hours it is |
//! | `journal` | what journalctl gives, as lines |
//! | `dialect`, `foreign` | the words of other proxies, and their lines counted |
//! | `wrapping` | what docker, CRI and syslog put around a line |
//! | `source`, `reader`, `scan` | bytes, in batches of lines |
//! | `pieces` | two threads for a large file |
//! | `sieve`, `count` | which lines are looked at, and what is counted in them |
//! | `look` | all logs of a run, each from where the last run stopped |
//! | `cursor`, `follow`, `compressed`, `bisect` | where reading stopped, what a rotation made of it, where a time begins |
//! | `links` | opening a log without being led elsewhere |
//! | `generation` | the earlier files of a log, found by their names |
//! | `tally`, `slot`, `names`, `connections`, `summary`, `packed`, `memory` | the counts by time, what a window holds of them, and what is kept of them between two runs |
//! | `correlate` | whether another log's failures fall into the same minutes |
//! | `search` | the lines of a log of any kind, for those who look for something in them |
//! | `owner` | who may read a log that we may not |
//! | `explain` | what to change, with the ports of this host as they are |
//! | `verdict`, `report`, `words`, `details` | counts and limits to a state, to words, to the JSON document |

#[cfg(test)]
mod alike;
mod args;
mod bisect;
pub(crate) mod cause;
pub(crate) mod clock;
mod compressed;
mod connections;
mod correlate;
mod count;
mod cursor;
mod details;
mod dialect;
mod explain;
mod fields;
mod fold;
mod follow;
mod foreign;
pub(crate) mod forged;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod generation;
#[cfg(test)]
mod histories;
mod journal;
pub(crate) mod line;
mod links;
mod look;
mod memory;
mod message;
#[cfg(test)]
mod misled;
mod names;
mod owner;
mod packed;
mod pieces;
mod plan;
mod reader;
mod report;
mod scan;
pub(crate) mod search;
mod sieve;
mod slot;
mod source;
mod summary;
mod tally;
mod verdict;
mod words;
pub(crate) mod wrapping;
mod zone;

pub use args::Args;
pub(crate) use args::parse_zone;
pub(crate) use plan::{point_by, span};

use self::clock::Clock;
use self::dialect::Dialect;
use self::look::look;
use self::plan::Plan;
use self::report::{Facts, Log};
use self::zone::Shown;
use crate::plugin::options::Format;
use crate::plugin::{Arguments, Plugin, Report, Run};

/// The plugin.
pub const PLUGIN: Plugin<Args> = Plugin {
    name: "NGINX",
    binary: "check_nginx_upstream_bind",
    check,
};

fn check(args: &Args, run: &Run) -> anyhow::Result<Report> {
    let zone = args.log_tz.clone().unwrap_or_else(clock::local_zone);
    let mut clock = Clock::new(zone, run.started());
    let looks_back = args.since.is_some() || args.before.is_some();
    if looks_back && args.log_tz.is_none() {
        // What a person asks for is the log's own time. A pattern that names nothing is told of below.
        let paths = look::expand(&plan::files(args)).unwrap_or_default();
        let first = paths.first();
        let shown = first.and_then(|path| zone::of_file(path, args.dialect.known(), clock.zone()));
        if let Some(Shown::Offset(offset)) = shown {
            clock = clock.with_offset(Some(offset));
        }
    }
    let plan = Plan::new(args, &clock)?;
    let ended = || run.ended().is_some();
    let (logs, mut memory) = look(&plan, &clock, &ended)?;
    clock = clock.with_offset(logs.first().and_then(|log| log.offset));
    let summary = memory
        .tally
        .summary(plan.window.from, plan.window.to, plan.counted);
    let others = plan.also.iter().map(|also| also.judge(&summary));
    let state = others.fold(plan.thresholds.judge(&summary), verdict::worse);
    let beside = plan.correlate.iter();
    let correlations: Vec<_> = beside
        .map(|other| correlate::correlate(other, &summary.minutes, plan.window, &clock, &ended))
        .collect();
    if is_worth_keeping(&plan, &logs, memory.is_new) {
        memory.keep();
    }
    let dialect = logs.iter().find_map(|log| log.seen.dialect);
    let dialect = dialect.unwrap_or(Dialect::Nginx);
    let explained = if args.explain {
        explain::explain(&summary, plan.counted, dialect, run)
    } else {
        Vec::new()
    };
    let facts = Facts {
        plan: &plan,
        dialect,
        explained: &explained,
        clock: &clock,
        logs: &logs,
        notes: &memory.notes,
        summary: &summary,
        correlations: &correlations,
    };
    let mut report = report::render(&facts, state);
    if args.common().format == Format::Json {
        report.details = facts.details();
    }
    Ok(report)
}

/// A state that is not written again costs no fsync; one that holds half of what was counted is worse than none.
fn is_worth_keeping(plan: &Plan, logs: &[Log], is_new: bool) -> bool {
    let torn = logs.iter().any(|log| log.torn);
    plan.window.moves && !torn && (is_new || logs.iter().any(|log| log.changed))
}
