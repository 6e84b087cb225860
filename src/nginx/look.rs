//! One run's look at all logs: each from where the last run stopped, with its earlier generations.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::bisect::Since;
use super::clock::{Clock, Reckoner};
use super::compressed;
use super::count::{Counter, Rules, Seen};
use super::cursor::Cursor;
use super::follow::{self, Parts, Place};
use super::generation;
use super::journal::{self, Journal};
use super::memory::Memory;
use super::plan::{Plan, Window};
use super::report::Log;
use super::scan::{self, Ended, Stream};
use super::sieve::Sieve;
use super::tally::Tally;
use super::zone::{self, Shown};
use crate::plugin::state_file::checksum;

/// How many logs one run looks at.
const LOGS: usize = 256;

/// How many files patterns may catch, earlier generations of the logs among them.
const CAUGHT: usize = 4 * LOGS;

/// How long before the window reading begins, and after it ends: a slot of the tally is at most a minute, and a
/// clock may be wrong for a while.
pub(super) const BEFORE: i64 = 60;
pub(super) const AFTER: i64 = 86_400;

/// How far a line may stand behind later ones: workers cache the time.
const LAG: i64 = 300;

/// The name of standard input.
const PIPE: &str = "-";

/// Reads what is new in all logs.
pub fn look(plan: &Plan, clock: &Clock, ended: Ended<'_>) -> anyhow::Result<(Vec<Log>, Memory)> {
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
    let rules = rules(plan, clock);
    memory.tally.forget_before(rules.after);
    memory.tally.up_to(plan.window.to);
    let sieve = if plan.only {
        Sieve::of(rules.wanted)
    } else {
        Sieve::Levels
    };
    let mut looker = Looker {
        paths: &paths,
        rules,
        sieve: &sieve,
        clock,
        places: &mut memory.places,
        tally: &mut memory.tally,
        ended,
        zone_is_given: plan.zone.is_some(),
    };
    let mut logs: Vec<_> = paths.iter().map(|path| looker.file(path)).collect();
    if let Some(unit) = &plan.journal_unit {
        logs.push(looker.journal(unit, plan.window.moves));
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

/// How to count, for a log that is told apart from others later.
fn rules(plan: &Plan, clock: &Clock) -> Rules {
    let Window { from, to, moves } = plan.window;
    let (after, until, enough) = if moves {
        (from - BEFORE, to + AFTER, i64::MAX)
    } else {
        // Where clocks are put back, the hour comes again.
        let again = if clock.is_near_a_change(to) {
            2 * 3600
        } else {
            0
        };
        (from, to, to + LAG + again)
    };
    Rules {
        counted: plan.counted,
        wanted: plan.wanted(),
        after,
        until,
        enough,
        file: 0,
        dialect: plan.dialect,
    }
}

/// What reading takes, whatever is read.
struct Looker<'a> {
    /// All logs: none of them is an earlier generation of another.
    paths: &'a [PathBuf],
    rules: Rules,
    sieve: &'a Sieve,
    clock: &'a Clock,
    places: &'a mut BTreeMap<String, Place>,
    tally: &'a mut Tally,
    ended: Ended<'a>,
    zone_is_given: bool,
}

impl Looker<'_> {
    fn counter<'c>(&'c mut self, file: usize, place: &Place, clock: &'c Clock) -> Counter<'c> {
        let rules = Rules { file, ..self.rules };
        let seen = Seen {
            recognised: place.recognised,
            levels: place.levels,
            dialect: place.dialect,
            wrapping: place.wrapping,
            ..Seen::default()
        };
        let times = Reckoner::new(clock, place.latest);
        Counter::new(rules, self.sieve, times, self.tally, seen)
    }

    /// The time of a log whose zone was not given: by what it shows now, or else showed before.
    fn clock_of(&self, shown: Option<Shown>, place: &mut Place) -> Clock {
        if self.zone_is_given {
            return self.clock.clone();
        }
        match shown {
            Some(Shown::Here) => place.offset = None,
            Some(Shown::Offset(offset)) => place.offset = Some(offset),
            None => {}
        }
        self.clock.clone().with_offset(place.offset)
    }

    /// Reads what is new in one log and its earlier generations. What stops that is said in the result.
    fn file(&mut self, path: &Path) -> Log {
        let key = path.display().to_string();
        let number = checksum(path.as_os_str().as_encoded_bytes()) & 0xff;
        let number = usize::try_from(number).unwrap_or(0);
        let mut place = self.places.get(&key).cloned().unwrap_or_default();
        let before = place.clone();
        let mut log = Log::new(path);
        let ended = self.ended;
        if path == Path::new(PIPE) {
            let stream = compressed::of_stream(std::io::stdin());
            let stream = stream.context("cannot read standard input");
            match stream
                .and_then(|stream| self.stream(stream, "standard input", number, &mut place))
            {
                Ok((seen, _, early)) => {
                    log.seen = seen;
                    log.ended_early = early;
                    log.offset = place.offset;
                }
                Err(error) => log.error = Some(format!("{error:#}")),
            }
            return log;
        }
        let shown = zone::of_file(path, self.rules.dialect, self.clock.zone());
        let clock = self.clock_of(shown, &mut place);
        log.offset = place.offset;
        let since = Since {
            second: self.rules.after,
            clock: &clock,
            dialect: self.rules.dialect,
        };
        let parts = match follow::parts(path, &place, since, self.paths) {
            Ok(parts) => parts,
            Err(error) => {
                log.error = Some(format!("{error:#}"));
                return log;
            }
        };
        let mut counter = self.counter(number, &place, &clock);
        let read = read_parts(&parts, &mut counter, ended);
        log.seen = counter.seen;
        match read {
            Ok((read, ended_early)) => {
                place.latest = counter.times.latest();
                place.recognised = log.seen.recognised;
                place.levels = log.seen.levels;
                place.dialect = log.seen.dialect;
                place.wrapping = log.seen.wrapping;
                place.advance(read, parts.rotated || parts.doubtful);
                log.rotated = parts.rotated;
                log.ended_early = ended_early;
                log.changed = place != before;
                self.places.insert(key, place);
            }
            Err(error) => {
                // A log that is none of nginx' has added nothing, but an earlier one with its name may have.
                log.torn = log.seen.recognised || log.seen.bytes > 0;
                log.error = Some(format!("{error:#}"));
            }
        }
        log
    }

    /// Reads what comes through a pipe. Returns what was seen, the latest time, and whether it had to stop early.
    fn stream(
        &mut self,
        stream: Box<dyn Read + Send>,
        name: &str,
        file: usize,
        place: &mut Place,
    ) -> anyhow::Result<(Seen, Option<i64>, bool)> {
        let ended = self.ended;
        let stream = Stream::open(stream, self.rules.dialect)
            .with_context(|| format!("cannot read {name}"))?;
        let shown = zone::of_stream(&stream.head, stream.form, self.clock.zone());
        let clock = self.clock_of(shown, place);
        let mut counter = self.counter(file, place, &clock);
        let early = stream.count(name, &mut counter, ended)?;
        Ok((counter.seen, counter.times.latest(), early))
    }

    /// Reads what is new of a unit in the journal: all of it in a window that moves, else up to the window's end.
    fn journal(&mut self, unit: &str, moves: bool) -> Log {
        let key = format!("journal of {unit}");
        let mut place = self.places.get(&key).cloned().unwrap_or_default();
        let mut log = Log::new(Path::new(&key));
        let Rules { after, enough, .. } = self.rules;
        let until = (!moves).then_some(enough);
        let mut read = || -> anyhow::Result<_> {
            let entry = place.entry.clone();
            let begin = entry
                .as_deref()
                .map_or(journal::From::Second(after), journal::From::Cursor);
            let (journal, export) = Journal::open(unit, begin, until)?;
            let read = self.stream(Box::new(export), &key, 0xff, &mut place)?;
            // Where reading stopped early nobody waits for the rest.
            let entry = if read.2 { None } else { journal.end()? };
            if entry.is_none() && place.entry.is_none() && !read.2 && !journal::knows(unit)? {
                bail!(
                    "the journal has no entry of the unit {unit}: journalctl -F _SYSTEMD_UNIT names those that it has; a log \
                     that nginx writes itself is given with -f"
                );
            }
            Ok((read, entry))
        };
        match read() {
            Ok(((seen, latest, early), entry)) => {
                // What was counted must not be kept without the place that belongs to it.
                log.torn = early;
                log.ended_early = early;
                log.changed = entry.is_some();
                place.entry = entry.or(place.entry);
                place.latest = latest;
                place.recognised = seen.recognised;
                place.levels = seen.levels;
                place.dialect = seen.dialect;
                place.wrapping = seen.wrapping;
                log.offset = place.offset;
                log.seen = seen;
                self.places.insert(key, place);
            }
            Err(error) => {
                log.torn = true;
                log.error = Some(format!("{error:#}"));
            }
        }
        log
    }
}

/// Reads all parts, oldest first. Returns where each ends, and whether the run had to end before the last.
fn read_parts(
    parts: &Parts,
    counter: &mut Counter<'_>,
    ended: Ended<'_>,
) -> anyhow::Result<(Vec<(Cursor, bool)>, bool)> {
    let mut read = Vec::with_capacity(parts.all.len());
    for part in &parts.all {
        let (cursor, early) = scan::scan(part, counter, ended)?;
        read.push((cursor, part.is_current));
        if early {
            return Ok((read, true));
        }
    }
    Ok((read, false))
}

/// The logs that were named, patterns filled in. Earlier generations of another log in the list that a pattern catches
/// are left out: they are read along with it.
pub(super) fn expand(files: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = caught(files, |path| !has_ending(path, &["gz", "zst", "bz2", "xz"]))?;
    leave_generations_out(&mut paths, files);
    few(paths)
}

/// The same with all files that can be read, compressed or not, where nothing else in the list stands for them: the
/// plain one while it is being packed, and another log where its earlier generations are read along with it.
pub(super) fn expand_all(files: &[PathBuf], read_along: bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = caught(files, |path| !has_ending(path, &["bz2", "xz"]))?;
    let all = paths.clone();
    let is_double = |path: &Path| {
        has_ending(path, &["gz", "zst"])
            && all.iter().any(|plain| *plain == path.with_extension(""))
    };
    paths.retain(|path| files.contains(path) || !is_double(path));
    if read_along {
        leave_generations_out(&mut paths, files);
    }
    few(paths)
}

/// What was named, and what patterns catch of what is wanted, each once.
fn caught(files: &[PathBuf], is_wanted: fn(&Path) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for file in files {
        let text = file.to_string_lossy();
        if !text.contains(['*', '?', '[']) || file.exists() {
            paths.push(file.clone());
            continue;
        }
        let found = glob::glob(&text).with_context(|| format!("'{text}' is no pattern"))?;
        let before = paths.len();
        // A folder that may not be looked into stands for the logs that may be in it, and is told with who may.
        let found = found.map(|path| path.unwrap_or_else(|barred| barred.path().to_owned()));
        paths.extend(found.filter(|path| is_wanted(path)).take(CAUGHT + 1));
        if paths.len() == before {
            bail!("no file is there for {text}");
        }
        if paths.len() > CAUGHT {
            bail!("more than {CAUGHT} files: give a narrower pattern");
        }
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn leave_generations_out(paths: &mut Vec<PathBuf>, named: &[PathBuf]) {
    let all = paths.clone();
    let is_earlier = |path: &Path| all.iter().any(|log| generation::is_generation(log, path));
    paths.retain(|path| named.contains(path) || !is_earlier(path));
}

fn few(paths: Vec<PathBuf>) -> anyhow::Result<Vec<PathBuf>> {
    if paths.len() > LOGS {
        bail!("more than {LOGS} logs: give a narrower pattern, or several checks");
    }
    Ok(paths)
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension()
        .is_some_and(|ending| endings.iter().any(|known| ending == *known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_catches_many_files_loses_none_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: String| std::fs::write(folder.path().join(name), "").unwrap();
        for number in 0..200 {
            write(format!("a{number}x.log"));
            write(format!("a{number}x.log.1"));
        }
        let pattern = [folder.path().join("*.log*")];
        assert_eq!(expand(&pattern).unwrap().len(), 200);
        assert_eq!(expand_all(&pattern, true).unwrap().len(), 200);
        assert!(expand_all(&pattern, false).is_err());
        for number in 200..300 {
            write(format!("a{number}x.log"));
        }
        assert!(expand(&pattern).is_err());
        for number in 300..1100 {
            write(format!("a{number}x.log"));
        }
        assert!(expand(&pattern).is_err());
    }
}
