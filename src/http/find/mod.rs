//! `--find`: the lines of a proxy's log that belong to failed probes, of this run or of a journal.
//!
//! | module | owns |
//! |---|---|
//! | [`wanted`] | which line belongs to which probe |
//! | [`journal`] | the failed probes of a journal |
//! | [`told`] | what was found and what was not, in words |

pub mod journal;
pub mod told;
pub mod wanted;

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args as ClapArgs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::told::Findings;
use self::wanted::{Sought, Wanted};
use super::probe::Probe;
use crate::nginx::search::{self, Search, Tail, Times};
use crate::plugin::{Report, Run};

/// How long to wait for a line that is not there yet. nginx writes it when the request is over, unless it was told to
/// keep lines back.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// How much longer to read from a pipe in which something comes all the time.
const HARD: Duration = Duration::from_secs(4);

/// The name of standard input, and what it is called.
const PIPE: &str = "-";
const STDIN: &str = "standard input";

/// Its options.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Journal")]
pub struct FindArgs {
    /// An access log in which to find the line of each failed probe, a pattern for several, or - for standard input (repeat)
    #[arg(long, value_name = "FILE")]
    pub find: Vec<PathBuf>,

    /// Send nothing, and find the failed probes of this journal instead (repeat)
    #[arg(long, value_name = "FILE", requires = "find")]
    pub failures_from: Vec<PathBuf>,
}

/// The logs of a run, their ends marked before its first probe.
#[derive(Debug)]
pub struct Logs {
    tails: Vec<Tail>,
    pipe: bool,
    /// What cannot be read, and why.
    trouble: Vec<String>,
}

impl Logs {
    /// Marks the ends of the logs, where there are any. That one cannot be read is no reason not to probe.
    pub fn mark(args: &FindArgs, run: &Run) -> Option<Self> {
        if args.find.is_empty() {
            return None;
        }
        let mut logs = Self {
            tails: Vec::new(),
            pipe: false,
            trouble: Vec::new(),
        };
        let (pipe, files) = piped(&args.find);
        logs.pipe = pipe;
        match search::expand(&files) {
            Ok(paths) => {
                for path in paths {
                    match Tail::mark(&path, run) {
                        Ok(tail) => logs.tails.push(tail),
                        Err(error) => logs.trouble.push(format!("{error:#}")),
                    }
                }
            }
            Err(error) => logs.trouble.push(format!("{error:#}")),
        }
        Some(logs)
    }

    /// Finds the lines of these probes, and waits for those that are still to be written.
    #[cold]
    pub fn find(mut self, failures: &[Probe], run: &Run) -> Findings {
        let times = Times::here(run);
        let mut wanted = Wanted::new(times.clone());
        for probe in failures {
            wanted.add(Sought::of(probe));
        }
        let mut search = Search::new(run, &times);
        search.apart = self.tails.iter().map(|tail| tail.path().into()).collect();
        let until = Instant::now() + PATIENCE;
        while wanted.missing() > 0 {
            self.read(&mut search, &mut wanted, until);
            let over = Instant::now() >= until || self.tails.is_empty() || wanted.missing() == 0;
            if over || !run.sleep(PAUSE) {
                break;
            }
        }
        let mut names: Vec<_> = self
            .tails
            .iter()
            .map(|tail| tail.path().display().to_string())
            .collect();
        if self.pipe {
            names.push(STDIN.to_owned());
        }
        Findings {
            logs: names,
            trouble: self.trouble,
            bytes: search.bytes,
            cut_short: search.cut_short,
            wanted,
        }
    }

    fn read(&mut self, search: &mut Search, wanted: &mut Wanted, until: Instant) {
        for tail in &mut self.tails {
            let name = tail.path().display().to_string();
            let read = search.read_new(tail, &mut |line| {
                // All of it was written since the run began: a line whose time is not understood will do.
                wanted.look_at(line, &name, true);
                ControlFlow::Continue(())
            });
            if let Err(error) = read {
                let why = format!("cannot read {name}: {error}");
                if !self.trouble.contains(&why) {
                    self.trouble.push(why);
                }
            }
        }
        if self.pipe {
            let patient = Patient {
                until,
                hard: until + HARD,
            };
            let read = search.read_stream(patient, &mut |line| {
                wanted.look_at(line, STDIN, true);
                if wanted.missing() == 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            if let Err(error) = read {
                self.trouble.push(format!("cannot read {STDIN}: {error}"));
            }
        }
    }
}

/// Standard input, which may be somebody's `tail -F`: it ends when nothing has come for a while.
struct Patient {
    until: Instant,
    hard: Instant,
}

impl Read for Patient {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let stdin = io::stdin();
        let left = self.until.min(self.hard);
        let left = left.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut polled = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        if poll(&mut polled, Some(&timeout))? == 0 {
            return Ok(0);
        }
        // Past the buffer of the standard library, which would wait until it is full.
        let read = rustix::io::read(stdin.as_fd(), into)?;
        self.until = Instant::now() + PATIENCE;
        Ok(read)
    }
}

/// Finds the failed probes of journals in logs.
#[cold]
pub fn find_again(args: &FindArgs, run: &Run) -> anyhow::Result<Report> {
    let (pipe, files) = piped(&args.find);
    let (pipes, journals) = piped(&args.failures_from);
    ensure!(
        !(pipe && pipes),
        "--find - and --failures-from -: standard input can be read once"
    );
    let paths = search::expand(&files)?;
    let times = Times::here(run);
    let mut search = Search::new(run, &times);
    let journal = journal::read(&args.failures_from, &mut search)?;
    ensure!(
        !search.cut_short,
        "there was no time to read {} to its end: see --deadline",
        journals
            .first()
            .map_or(STDIN.into(), |path| path.display().to_string())
    );
    let mut wanted = Wanted::new(times);
    let mut span = (i64::MAX, i64::MIN);
    for sought in &journal.failures {
        span = (span.0.min(sought.began), span.1.max(sought.ended));
        wanted.add(sought.clone());
    }
    search.bytes = 0;
    search.apart.clone_from(&paths);
    let mut names = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        if !wanted.is_empty() {
            search.read_between(&path, span, &mut |line| {
                wanted.look_at(line, &name, false);
                ControlFlow::Continue(())
            })?;
        }
        names.push(name);
    }
    if pipe {
        search.read_stream(io::stdin(), &mut |line| {
            wanted.look_at(line, STDIN, false);
            ControlFlow::Continue(())
        })?;
        names.push(STDIN.to_owned());
    }
    let findings = Findings {
        logs: names,
        trouble: Vec::new(),
        bytes: search.bytes,
        cut_short: search.cut_short,
        wanted,
    };
    Ok(findings.report(&journal))
}

/// Whether standard input is among them, and the others.
fn piped(paths: &[PathBuf]) -> (bool, Vec<PathBuf>) {
    let is_pipe = |path: &&PathBuf| path.as_path() == Path::new(PIPE);
    let files = paths.iter().filter(|path| !is_pipe(path));
    (
        paths.iter().any(|path| is_pipe(&path)),
        files.cloned().collect(),
    )
}
