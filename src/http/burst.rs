//! The loop: probes one after the other or side by side, until there are enough of them or the run has to end.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::UnixStream;
use tokio::runtime::{self, Runtime};
use tokio::time::{sleep, sleep_until};

use super::attempt::Prober;
use super::early::Early;
use super::evidence::Keeper;
use super::flying::Flying;
use super::pace::Pace;
use super::paths::{self, Ways};
use super::plan::Plan;
use super::pool::Pool;
use super::record::Recorder;
use super::summary::{Summary, Tally};
use super::turns::run_number;
use crate::plugin::{End, Run};

/// The most threads that ask for addresses at the same time: the system's resolver blocks.
const RESOLVERS: usize = 64;

/// How often the loop wakes without a reason. The executor wakes itself for each timer that is earlier than all others,
/// as the limit of each new probe would be: behind this one they cost nothing.
const PULSE: Duration = Duration::from_secs(1);

/// What the rounds of a loop hand on with `--keepalive`: connections at rest, and the executor that they belong to.
static CARRIED: Mutex<Option<(Runtime, Pool)>> = Mutex::new(None);

/// Sends the probes of a plan and sums them up; writes down each as it ends, where there is something to write to.
/// Returns what sent them, too: it has the plan.
pub fn run(
    mut plan: Plan,
    run: &Run,
    recorder: Option<&mut Recorder>,
) -> anyhow::Result<(Prober, Summary)> {
    let (runtime, pool) = match carried() {
        Some((runtime, pool)) => (runtime, Some(pool)),
        None => (executor()?, plan.pace.keepalive.then(Pool::default)),
    };
    if plan.ways == Ways::Addresses {
        runtime.block_on(async {
            let signal = signal_of(run).context("cannot wait for signals")?;
            paths::look_up(&mut plan, run, &signal).await;
            anyhow::Ok(())
        })?;
    }
    let number = run_number();
    let keeper = Keeper::begin(&plan, number);
    let prober = Prober::new(plan, number, keeper.recorder(), pool.clone())?;
    let summary = runtime.block_on(Box::pin(burst(&prober, keeper, run, recorder)));
    match pool {
        Some(pool) => {
            *CARRIED.lock().unwrap_or_else(PoisonError::into_inner) = Some((runtime, pool));
        }
        // A resolver that still waits for its answer is left behind, not waited for.
        None => runtime.shutdown_background(),
    }
    Ok((prober, summary?))
}

fn carried() -> Option<(Runtime, Pool)> {
    CARRIED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

fn executor() -> anyhow::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // One more to write evidence. A look-up that a probe has given up keeps its thread until the resolver gives up, too.
        .max_blocking_threads(RESOLVERS + 1)
        .build()
        .context("cannot start the executor")
}

async fn burst(
    prober: &Prober,
    mut keeper: Keeper,
    run: &Run,
    mut recorder: Option<&mut Recorder>,
) -> anyhow::Result<Summary> {
    let signal = signal_of(run).context("cannot wait for signals")?;
    let mut tally = Tally::new(prober.plan());
    let pace = Pace {
        attempts: prober.plan().probes(),
        ..prober.plan().pace
    };
    let mut schedule = Schedule::new(pace);
    let mut early = Early::new(run, pace);
    let mut flying = Flying::new(pace.concurrency);
    let mut signalled = pin!(signal.readable());
    let mut deadline = pin!(sleep_until(run.deadline().into()));
    let mut pulse = pin!(sleep(PULSE));
    keeper.listen();
    let end = loop {
        while let Some(number) = schedule.due(flying.len()) {
            flying.push(prober.probe(number));
        }
        if flying.is_empty() && schedule.is_over() {
            break None;
        }
        let next = schedule.next(flying.len());
        tokio::select! {
            biased;
            _ = &mut signalled => break run.ended(),
            () = &mut deadline => break Some(End::Deadline),
            Some(probe) = flying.next() => {
                match probe {
                    Ok(mut probe) => {
                        early.hear(prober.plan(), &tally, &probe);
                        keeper.take(&mut probe);
                        if let Some(recorder) = &mut recorder {
                            recorder.probe(prober.plan(), &probe);
                        }
                        tally.add(probe);
                    }
                    Err(error) => {
                        let why = format!("{error:#}");
                        if let Some(recorder) = &mut recorder {
                            recorder.trouble(prober.plan(), &why);
                        }
                        tally.trouble(why);
                        break None;
                    }
                }
            }
            () = sleep_until(next.unwrap_or(run.deadline()).into()), if next.is_some() => {}
            () = &mut pulse => pulse.set(sleep(PULSE)),
            () = keeper.progress(), if keeper.is_busy() => {}
        }
    };
    // Those that were cut off say nothing about the server.
    let cut_off = flying.len() as u64;
    drop(flying);
    let mut summary = tally.close(end, cut_off);
    summary.evidence = keeper.finish(run).await;
    Ok(summary)
}

/// What becomes readable when a signal came; it is never read from. None of its readers blocks, since it has none:
/// that a duplicate shares the mode with the original does no harm.
fn signal_of(run: &Run) -> std::io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(run.signal_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// When the next probe starts, and whether there is one.
#[derive(Debug)]
struct Schedule {
    pace: Pace,
    began: Instant,
    started: u64,
    next: Instant,
}

impl Schedule {
    fn new(pace: Pace) -> Self {
        let now = Instant::now();
        Self {
            pace,
            began: now,
            started: 0,
            next: now,
        }
    }

    fn is_over(&self) -> bool {
        self.pace.attempts.is_some_and(|most| self.started >= most)
            || self.pace.duration.is_some_and(|duration| {
                self.next.saturating_duration_since(self.began) >= duration
                    || self.began.elapsed() >= duration
            })
    }

    /// The number of the probe to start now, if there is one.
    fn due(&mut self, flying: usize) -> Option<u64> {
        let now = Instant::now();
        if flying >= self.pace.concurrency || now < self.next || self.is_over() {
            return None;
        }
        let number = self.started;
        self.started += 1;
        // What could not start in time does not make the next ones come in a heap.
        self.next = (self.next + self.pace.interval).max(now);
        Some(number)
    }

    /// When to look again, where it is the clock that decides.
    fn next(&self, flying: usize) -> Option<Instant> {
        (flying < self.pace.concurrency && !self.is_over()).then_some(self.next)
    }
}
