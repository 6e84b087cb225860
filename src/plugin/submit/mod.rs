//! `--submit`: each result goes to an Icinga 2 as a passive check result, over its API.
//!
//! The check only puts a result into the queue on disk and goes on; a thread of its own sends what waits there, in
//! order, and tries again for as long as it takes. What Icinga may have got already is settled by asking it. Without
//! the option there is neither thread nor client nor file. Trouble of submitting is told and never changes a state.
//!
//! | module | owns |
//! |---|---|
//! | `args`, `plan` | the options, and what they come to |
//! | `queue` | results that wait, on disk |
//! | `passive` | one of them, and its name |
//! | `client` | the two requests to the API, and what their failures mean |
//! | `sender` | the thread: order, settling what Icinga has, back-off |
//! | `status` | what is known of it, in words |

mod args;
mod client;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod passive;
mod plan;
mod queue;
mod sender;
mod status;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;

pub use args::SubmitArgs;
use client::Client;
use passive::Passive;
use plan::Plan;
use queue::Queue;
use sender::Sender;
use status::Status;

use super::{Common, Names, Report, Run};

/// The most of a report's text that is sent: Icinga Web shows a thousand characters in its lists.
const OUTPUT_LIMIT: usize = 16 * 1024;

/// The least time between the beginnings of two results, in microseconds: their times tell them apart.
const APART: i64 = 1000;

/// Sends results, if that was asked for.
#[derive(Debug, Clone, Default)]
pub struct Submitter(Option<Arc<Shared>>);

/// What the check and the sending thread share.
#[derive(Debug)]
struct Shared {
    name: &'static str,
    verbosity: u8,
    /// The API and the service, as they are told.
    target: String,
    queue: Queue,
    status: Mutex<Status>,
    /// Told when a result comes in, when one is gone, and when there is no more time.
    changed: Condvar,
}

impl Submitter {
    /// Reads what the options name and starts the thread, if they ask for it.
    pub fn start(options: &Common, names: Names) -> anyhow::Result<Self> {
        let Some(plan) = Plan::of(&options.submit, names.binary)? else {
            return Ok(Self::default());
        };
        let mut status = Status::default();
        let queue = match Queue::open(plan.queue.clone(), plan.limit) {
            Ok(queue) => queue,
            Err(error) if plan.queue_given => {
                return Err(error.context("--submit-queue"));
            }
            Err(error) => {
                status.unsaved = Some(format!("{error:#}"));
                Queue::in_memory(plan.limit)
            }
        };
        let client = Client::new(&plan)?;
        let shared = Arc::new(Shared {
            name: names.name,
            verbosity: options.verbose,
            target: format!(
                "{} as {}",
                plan.url.as_str().trim_end_matches('/'),
                plan.service
            ),
            queue,
            status: Mutex::new(status),
            changed: Condvar::new(),
        });
        let sender = Sender::new(Arc::clone(&shared), client);
        std::thread::Builder::new()
            .name("submit".to_owned())
            .stack_size(1 << 20)
            .spawn(move || sender.run())
            .context("cannot start the thread of --submit")?;
        Ok(Self(Some(shared)))
    }

    /// Whether anybody wants results.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Puts a result into the queue. Does not wait for anything but the disk.
    pub fn submit(&self, report: &Report, run: &Run) {
        if let Some(shared) = &self.0 {
            shared.submit(report, run.started(), Timestamp::now());
        }
    }

    /// Waits until everything is sent, at most this long. What is left then stays in the queue.
    pub fn finish(&self, time: Duration) {
        if let Some(shared) = &self.0 {
            shared.finish(time);
        }
    }

    /// Says in a report what trouble there is. Saying it twice changes nothing.
    pub fn annotate(&self, report: &mut Report) {
        if let Some(shared) = &self.0 {
            let waiting = shared.queue.len();
            let status = shared.status();
            status.annotate(report, &shared.target, waiting, &shared.queue.place());
        }
    }

    /// What has changed since this was last asked for, line by line.
    pub fn news(&self) -> Vec<String> {
        self.0
            .as_ref()
            .map_or_else(Vec::new, |shared| std::mem::take(&mut shared.status().news))
    }
}

impl Shared {
    #[cold]
    fn submit(&self, report: &Report, started: Timestamp, ended: Timestamp) {
        let (output, perfdata) = parts(report, self.name, self.verbosity);
        let mut status = self.status();
        // An early word on a run and its result begin at the same time, and clocks are set back: Icinga throws away
        // what began earlier than what it has.
        let start = started.as_microsecond().max(status.latest.0 + APART);
        let end = ended
            .as_microsecond()
            .max(start)
            .max(status.latest.1 + APART);
        status.latest = (start, end);
        drop(status);
        let kept = self.queue.push(Passive {
            state: u8::try_from(report.state.exit_code()).unwrap_or(3),
            output,
            perfdata,
            start,
            end,
        });
        let mut status = self.status();
        status.arrives();
        status.dropped(kept.dropped);
        if kept.unsaved.is_some() {
            status.unsaved = kept.unsaved;
        }
        drop(status);
        self.changed.notify_all();
    }

    fn finish(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut status = self.status();
        status.hurry = true;
        self.changed.notify_all();
        while !status.is_settled() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (status, _) = self
                .changed
                .wait_timeout(status, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        // A panic ends the process: nobody sees what it left behind.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A report's text without its performance data, and the performance data item by item, labels without quotes, as
/// Icinga itself stores them.
fn parts(report: &Report, name: &str, verbosity: u8) -> (String, Vec<String>) {
    let text = report.text(name, verbosity);
    let (first, below) = text.split_once('\n').unwrap_or((&text, ""));
    // Text is clean: there is no other pipe.
    let (first, perfdata) = first.split_once('|').unwrap_or((first, ""));
    let items = perfdata.split(' ').filter(|item| !item.is_empty());
    let items = items.map(|item| item.replace('\'', "")).collect();
    let mut output = format!("{first}\n{below}").trim_end().to_owned();
    if output.len() > OUTPUT_LIMIT {
        let mut end = OUTPUT_LIMIT;
        while !output.is_char_boundary(end) {
            end -= 1;
        }
        output.truncate(end);
        output.push_str("...");
    }
    (output, items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{Metric, State};

    #[test]
    fn text_and_performance_data_go_separate_ways() {
        let mut report = Report::new(State::Warning, "3 of 20 failed |x=1");
        assert_eq!(
            parts(&report, "HTTP", 0),
            ("HTTP WARNING: 3 of 20 failed !x=1".to_owned(), vec![])
        );
        report.metrics.push(Metric::seconds("time", 0.5).max(10.0));
        report.metrics.push(Metric::count("failed", 3));
        report.line(0, "below");
        report.line(1, "deep");
        assert_eq!(
            parts(&report, "HTTP", 0),
            (
                "HTTP WARNING: 3 of 20 failed !x=1\nbelow".to_owned(),
                vec!["time=0.5s;;;0;10".to_owned(), "failed=3;;;0;".to_owned()]
            )
        );
        (0..1000).for_each(|_| report.line(0, "\u{e9}".repeat(50)));
        let (output, _) = parts(&report, "HTTP", 0);
        assert!(output.len() <= OUTPUT_LIMIT + 3 && output.ends_with("..."));
    }
}
