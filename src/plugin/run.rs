//! One run's clock: when it has to end, and whether somebody asked it to.
//!
//! SIGTERM, SIGINT and the deadline do not kill: they end the measurement, and what was measured so far is
//! reported. A check that does not notice (a hung file system, say) is ended by a watch thread with one line.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::submit::Submitter;
use super::{Report, output};

/// How long after SIGTERM or SIGINT a check may take to notice. Icinga sends SIGKILL a tenth of the check's
/// time-out later, so after 6 s at its default of one minute; half of that is left for a machine that has no CPU to spare.
const GRACE: Duration = Duration::from_secs(3);

/// Why a run ended before it was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGTERM or SIGINT.
    Signal(&'static str),
    /// The run's own deadline.
    Deadline,
}

impl End {
    /// In words, as in "ended by … after 7 of 10 probes".
    pub fn words(self) -> &'static str {
        match self {
            Self::Signal(name) => name,
            Self::Deadline => "its deadline",
        }
    }
}

/// The signals that ask a plugin to end, caught once for the life of the process.
#[derive(Debug, Clone)]
pub struct Signals {
    /// The number of the last signal, 0 for none yet.
    last: Arc<AtomicUsize>,
    /// Readable from the first signal on: nobody ever reads it, so that all who poll see it.
    pipe: Arc<UnixStream>,
}

impl Signals {
    /// Catches SIGTERM and SIGINT from now on.
    pub fn catch() -> anyhow::Result<Self> {
        let last = Arc::new(AtomicUsize::new(0));
        let (pipe, sender) = UnixStream::pair().context("cannot make a socket pair")?;
        for (signal, number) in [(SIGTERM, 15), (SIGINT, 2)] {
            // The flag is registered first, so that whoever the pipe wakes finds it set.
            signal_hook::flag::register_usize(signal, last.clone(), number)
                .and_then(|_| signal_hook::low_level::pipe::register(signal, sender.try_clone()?))
                .context("cannot catch SIGTERM and SIGINT")?;
        }
        Ok(Self {
            last,
            pipe: Arc::new(pipe),
        })
    }

    fn seen(&self) -> Option<&'static str> {
        match self.last.load(Ordering::SeqCst) {
            0 => None,
            2 => Some("SIGINT"),
            _ => Some("SIGTERM"),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// One measurement's time: when it began, when it must come to an end, and whether it was asked to.
#[derive(Debug)]
pub struct Run {
    started: Timestamp,
    deadline: Instant,
    /// The time from the deadline to when the report has to be out.
    reserve: Duration,
    signals: Signals,
    submitter: Submitter,
}

impl Run {
    /// A run that has `limit` from now on, less what it takes to report.
    pub fn new(signals: &Signals, limit: Duration) -> Self {
        let reserve = (limit / 10).min(Duration::from_secs(1));
        let deadline = Instant::now() + limit.saturating_sub(reserve);
        Self {
            started: Timestamp::now(),
            deadline,
            reserve,
            signals: signals.clone(),
            submitter: Submitter::default(),
        }
    }

    /// The same run, whose early words go there.
    #[must_use]
    pub fn heard_by(self, submitter: &Submitter) -> Self {
        Self {
            submitter: submitter.clone(),
            ..self
        }
    }

    /// Whether anybody wants to know before the end of the run.
    pub fn is_heard(&self) -> bool {
        self.submitter.is_on()
    }

    /// Says something at once; the result follows at the end of the run.
    pub fn tell_early(&self, report: &Report) {
        self.submitter.submit(report, self);
    }

    /// The time of day at which this run began.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// When measuring has to end so that the report is out in time.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When what is done behind the measurement (a file that is written, say) has to end: a little before the report
    /// has to be out, and soon after a signal.
    pub fn last_moment(&self) -> Instant {
        let moment = self.deadline + self.reserve / 2;
        match self.signals.seen() {
            Some(_) => moment.min(Instant::now() + GRACE / 2),
            None => moment,
        }
    }

    /// The time left until then.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether to stop measuring now, and why.
    pub fn ended(&self) -> Option<End> {
        match self.signals.seen() {
            Some(name) => Some(End::Signal(name)),
            None => (Instant::now() >= self.deadline).then_some(End::Deadline),
        }
    }

    /// Becomes readable, and stays so, with the first signal. For those who wait in `poll` or in an executor;
    /// reading from it would take the news from the others.
    pub fn signal_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// Sleeps, but no longer than until the run has to end. Returns whether it may go on.
    pub fn sleep(&self, duration: Duration) -> bool {
        let _ = wait_readable(&[self.signal_fd()], duration.min(self.remaining()));
        self.ended().is_none()
    }
}

/// Ends the process with one UNKNOWN line when a check overruns its time, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    /// Closing it tells the thread that the check came back.
    _done: UnixStream,
}

impl Watch {
    /// Starts watching a check that has `limit` from now on.
    pub fn start(signals: &Signals, limit: Duration) -> anyhow::Result<Self> {
        let (done, watcher) = UnixStream::pair().context("cannot make a socket pair")?;
        let signals = signals.clone();
        let hard = Instant::now() + limit;
        std::thread::Builder::new()
            .name("watch".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || watch(&watcher, &signals, hard, limit))
            .context("cannot start the watch thread")?;
        Ok(Self { _done: done })
    }
}

fn watch(done: &UnixStream, signals: &Signals, hard: Instant, limit: Duration) {
    let left = |until: Instant| until.saturating_duration_since(Instant::now());
    let _ = wait_readable(&[done.as_fd(), signals.as_fd()], left(hard));
    let hard = if signals.seen().is_some() {
        hard.min(Instant::now() + GRACE)
    } else {
        hard
    };
    if wait_readable(&[done.as_fd()], left(hard)).is_ok_and(|ready| ready) {
        return;
    }
    let why = match signals.seen() {
        Some(name) => format!(
            "{name} came, and nothing could be reported within {} s",
            GRACE.as_secs()
        ),
        None => format!(
            "no result within {:.0} s (--deadline): something that this check reads or waits for does not answer",
            limit.as_secs_f64()
        ),
    };
    output::last_words(&why);
}

/// Waits until one of these can be read, at most for `timeout`. Returns whether one can.
fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<bool> {
    let until = Instant::now() + timeout;
    loop {
        let mut polled: Vec<_> = fds
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut polled, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other? > 0),
        }
    }
}
