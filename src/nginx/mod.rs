//! `check_nginx_upstream_bind`: why nginx could not reach its upstreams, minute by minute.
//!
//! | module | owns |
//! |---|---|
//! | `args`, `plan` | the options, and the options made whole |
//! | `line`, `fields`, `cause` | one line of the log: what it says, of whom, and what that means |
//! | `forged` | lines that a request wrote |
//! | `clock` | the log's local time |
//! | `journal` | what journalctl gives, as lines |
//! | `wrapping` | what docker, CRI and syslog put around a line |
//! | `source`, `reader`, `scan` | bytes, in batches of lines, and what is counted in them |
//! | `cursor`, `follow`, `compressed`, `bisect` | where reading stopped, what a rotation made of it, where a time begins |
//! | `generation` | the earlier files of a log, found by their names |
//! | `tally`, `packed`, `memory` | the counts by time, and what is kept of them between two runs |
//! | `correlate` | whether another log's failures fall into the same minutes |
//! | `search` | the lines of a log of any kind, for those who look for something in them |
//! | `owner` | who may read a log that we may not |
//! | `verdict`, `report`, `details` | counts and limits to a state, to words, to the JSON document |

mod args;
mod bisect;
pub(crate) mod cause;
pub(crate) mod clock;
mod compressed;
mod correlate;
mod cursor;
mod details;
mod fields;
mod follow;
pub(crate) mod forged;
mod generation;
#[cfg(test)]
mod histories;
mod journal;
pub(crate) mod line;
mod memory;
mod owner;
mod packed;
mod plan;
mod reader;
mod report;
mod scan;
pub(crate) mod search;
mod source;
mod tally;
mod verdict;
mod wrapping;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

pub use args::Args;
pub(crate) use args::parse_zone;
pub(crate) use plan::point;

use self::clock::{Clock, Reckoner};
use self::cursor::Cursor;
use self::follow::{Parts, Place};
use self::journal::Journal;
use self::memory::Memory;
use self::plan::{Plan, Window};
use self::report::{Facts, Log};
use self::scan::{Rules, Seen};
use self::tally::Tally;
use crate::plugin::state_file::checksum;
use crate::plugin::{Plugin, Report, Run};

/// How many logs one run looks at.
const LOGS: usize = 256;

/// How long before the window reading begins, and after it ends: a slot of the tally is at most a minute, and a
/// clock may be wrong for a while.
const BEFORE: i64 = 60;
const AFTER: i64 = 86_400;

/// How far a line may stand behind later ones: workers cache the time.
const LAG: i64 = 300;

/// The name of standard input.
const PIPE: &str = "-";

/// The plugin.
pub const PLUGIN: Plugin<Args> = Plugin {
    name: "NGINX",
    binary: "check_nginx_upstream_bind",
    check,
};

fn check(args: &Args, run: &Run) -> anyhow::Result<Report> {
    let zone = args.log_tz.clone().unwrap_or_else(clock::local_zone);
    let clock = Clock::new(zone, run.started());
    let plan = Plan::new(args, &clock)?;
    let ended = || run.ended().is_some();
    let (logs, mut memory) = look(&plan, &clock, &ended)?;
    let summary = memory
        .tally
        .summary(plan.window.from, plan.window.to, plan.counted);
    let others = plan.also.iter().map(|also| also.judge(&summary));
    let state = others.fold(plan.thresholds.judge(&summary), verdict::worse);
    let beside = plan.correlate.iter();
    let correlations: Vec<_> = beside
        .map(|other| correlate::correlate(other, &summary.minutes, plan.window, &clock, &ended))
        .collect();
    if is_worth_keeping(&plan, &logs) {
        memory.keep();
    }
    let facts = Facts {
        plan: &plan,
        clock: &clock,
        logs: &logs,
        notes: &memory.notes,
        summary: &summary,
        correlations: &correlations,
    };
    Ok(report::render(&facts, state))
}

/// A state that is not written again costs no fsync; one that holds half of what was counted is worse than none.
fn is_worth_keeping(plan: &Plan, logs: &[Log]) -> bool {
    let torn = logs.iter().any(|log| log.torn);
    plan.window.moves && !torn && logs.iter().any(|log| log.changed)
}

/// Reads what is new in all logs.
fn look(
    plan: &Plan,
    clock: &Clock,
    ended: &dyn Fn() -> bool,
) -> anyhow::Result<(Vec<Log>, Memory)> {
    let piped = plan.files.iter().any(|file| file == Path::new(PIPE));
    if piped && plan.files.len() > 1 {
        bail!(
            "-f - cannot stand with other logs: standard input cannot be read again by the next run"
        );
    }
    let paths = if piped {
        plan.files.clone()
    } else {
        expand(&plan.files)?
    };
    let mut memory = if plan.window.moves && !piped {
        Memory::recall(plan)
    } else {
        Memory::none(plan)
    };
    let (after, until, enough) = if plan.window.moves {
        (plan.window.from - BEFORE, plan.window.to + AFTER, i64::MAX)
    } else {
        let Window { from, to, .. } = plan.window;
        // Where clocks are put back, the hour comes again.
        let again = if clock.is_near_a_change(to) {
            2 * 3600
        } else {
            0
        };
        (from, to, to + LAG + again)
    };
    memory.tally.forget_before(after);
    let mut logs = Vec::new();
    for path in paths {
        let rules = Rules {
            counted: plan.counted,
            after,
            until,
            enough,
            file: usize::try_from(checksum(path.as_os_str().as_encoded_bytes()) & 0xff)
                .unwrap_or(0),
        };
        logs.push(look_at(
            &path,
            &mut memory.places,
            &mut memory.tally,
            rules,
            clock,
            ended,
        ));
    }
    if let Some(unit) = &plan.journal_unit {
        let rules = Rules {
            counted: plan.counted,
            after,
            until,
            enough,
            file: 0xff,
        };
        let span = (after, (!plan.window.moves).then_some(enough));
        let (places, tally) = (&mut memory.places, &mut memory.tally);
        logs.push(look_at_journal(
            unit, span, places, tally, rules, clock, ended,
        ));
    }
    // One log that can be read is enough to find something in; with none there is nothing to say.
    if let [
        Log {
            error: Some(why), ..
        },
    ] = &logs[..]
    {
        bail!("{why}");
    }
    Ok((logs, memory))
}

/// Reads what is new in one log and its earlier generations. What stops that is said in the result.
fn look_at(
    path: &Path,
    places: &mut BTreeMap<String, Place>,
    tally: &mut Tally,
    rules: Rules,
    clock: &Clock,
    ended: &dyn Fn() -> bool,
) -> Log {
    let key = path.display().to_string();
    let mut place = places.get(&key).cloned().unwrap_or_default();
    let before = place.clone();
    let mut log = Log::new(path);
    let mut seen = Seen {
        recognised: place.recognised,
        levels: place.levels,
        ..Seen::default()
    };
    if path == Path::new(PIPE) {
        let mut times = Reckoner::new(clock, None);
        let (input, name) = (Box::new(std::io::stdin()), "standard input");
        match scan::scan_stream(input, name, &rules, &mut times, tally, &mut seen, ended) {
            Ok(early) => log.ended_early = early,
            Err(error) => log.error = Some(format!("{error:#}")),
        }
        log.seen = seen;
        return log;
    }
    let parts = match follow::parts(path, &place, rules.after, clock) {
        Ok(parts) => parts,
        Err(error) => {
            log.error = Some(format!("{error:#}"));
            return log;
        }
    };
    let mut times = Reckoner::new(clock, place.latest);
    match read_parts(&parts, tally, rules, &mut times, ended, &mut seen) {
        Ok((read, ended_early)) => {
            place.latest = times.latest();
            place.recognised = seen.recognised;
            place.levels = seen.levels;
            place.advance(read, parts.rotated);
            log.rotated = parts.rotated;
            log.ended_early = ended_early;
            log.changed = place != before;
            places.insert(key, place);
        }
        Err(error) => {
            // A log that is none of nginx' has added nothing.
            log.torn = seen.recognised;
            log.error = Some(format!("{error:#}"));
        }
    }
    log.seen = seen;
    log
}

/// Reads what is new of a unit in the journal, from and up to some second.
fn look_at_journal(
    unit: &str,
    (from, until): (i64, Option<i64>),
    places: &mut BTreeMap<String, Place>,
    tally: &mut Tally,
    rules: Rules,
    clock: &Clock,
    ended: &dyn Fn() -> bool,
) -> Log {
    let key = format!("journal of {unit}");
    let mut place = places.get(&key).cloned().unwrap_or_default();
    let mut log = Log::new(Path::new(&key));
    let mut seen = Seen {
        recognised: place.recognised,
        levels: place.levels,
        ..Seen::default()
    };
    let mut times = Reckoner::new(clock, place.latest);
    let mut read = || -> anyhow::Result<(Option<String>, bool)> {
        let entry = place.entry.as_deref();
        let begin = entry.map_or(journal::From::Second(from), journal::From::Cursor);
        let (journal, export) = Journal::open(unit, begin, until)?;
        let lines = Box::new(export);
        let early = scan::scan_stream(lines, &key, &rules, &mut times, tally, &mut seen, ended)?;
        // Where reading stopped early nobody waits for the rest.
        let entry = if early { None } else { journal.end()? };
        Ok((entry, early))
    };
    match read() {
        Ok((entry, early)) => {
            // What was counted must not be kept without the place that belongs to it.
            log.torn = early;
            log.ended_early = early;
            log.changed = entry.is_some();
            place.entry = entry.or(place.entry);
            place.latest = times.latest();
            place.recognised = seen.recognised;
            place.levels = seen.levels;
            places.insert(key, place);
        }
        Err(error) => {
            log.torn = true;
            log.error = Some(format!("{error:#}"));
        }
    }
    log.seen = seen;
    log
}

/// Reads all parts, oldest first. Returns where each ends, and whether the run had to end before the last.
fn read_parts(
    parts: &Parts,
    tally: &mut Tally,
    rules: Rules,
    times: &mut Reckoner<'_>,
    ended: &dyn Fn() -> bool,
    seen: &mut Seen,
) -> anyhow::Result<(Vec<(Cursor, bool)>, bool)> {
    let mut read = Vec::with_capacity(parts.parts.len());
    for part in &parts.parts {
        let (cursor, early) = scan::scan(part, &rules, times, tally, seen, ended)?;
        read.push((cursor, part.is_current));
        if early {
            return Ok((read, true));
        }
    }
    Ok((read, false))
}

/// The logs that were named, patterns filled in. Earlier generations of another log in the list are left out: they
/// are read along with it.
fn expand(files: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for file in files {
        let text = file.to_string_lossy();
        if !text.contains(['*', '?', '[']) || file.exists() {
            paths.push(file.clone());
            continue;
        }
        let found = glob::glob(&text).with_context(|| format!("'{text}' is no pattern"))?;
        let before = paths.len();
        paths.extend(
            found
                .flatten()
                .filter(|path| !is_compressed(path))
                .take(LOGS),
        );
        if paths.len() == before {
            bail!("no file is there for {text}");
        }
    }
    paths.sort();
    paths.dedup();
    let all = paths.clone();
    paths.retain(|path| !all.iter().any(|log| generation::is_generation(log, path)));
    if paths.len() > LOGS {
        bail!("more than {LOGS} logs: give a narrower pattern, or several checks");
    }
    Ok(paths)
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| {
        ["gz", "zst", "bz2", "xz"]
            .iter()
            .any(|known| ending == *known)
    })
}
