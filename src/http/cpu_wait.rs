//! How long this host let us wait for a CPU: time that no server is to blame for.
//!
//! The kernel counts for each thread the time in which it could have run and did not (`run_delay`, the second number of
//! `/proc/thread-self/schedstat`, in nanoseconds; CONFIG_SCHED_INFO, which distributions set). A control group that has
//! used up its CPU quota counts as well.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// For how long a reading is good: what is less is not worth a system call, and a longer wait makes the next one due.
const FRESH: Duration = Duration::from_millis(1);

/// The counter of the thread that opened it, whoever reads it.
#[derive(Debug, Default)]
pub struct CpuWait {
    file: Option<File>,
    /// The last reading, and when it was taken.
    last: Cell<Option<(Instant, Duration)>>,
}

impl CpuWait {
    /// That of the calling thread. Where the kernel does not count, nothing was ever waited for.
    pub fn of_this_thread() -> Self {
        Self {
            file: File::open("/proc/thread-self/schedstat").ok(),
            last: Cell::new(None),
        }
    }

    /// What was waited for so far.
    pub fn total(&self) -> Duration {
        let mut line = [0; 64];
        let read = self
            .file
            .as_ref()
            .and_then(|file| file.read_at(&mut line, 0).ok());
        let total = parse(&line[..read.unwrap_or(0)]).unwrap_or_default();
        self.last.set(Some((Instant::now(), total)));
        total
    }

    /// What was waited for until `now`, or up to [`FRESH`] earlier.
    pub fn at(&self, now: Instant) -> Duration {
        match self.last.get() {
            Some((when, total)) if now.saturating_duration_since(when) < FRESH => total,
            _ => self.total(),
        }
    }
}

fn parse(line: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(line).ok()?;
    let nanoseconds = text.split(' ').nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_is_what_was_waited_for() {
        for (line, waited) in [
            ("787357 956657 3\n", Some(956_657)),
            ("0 0 0\n", Some(0)),
            ("787357\n", None),
            ("", None),
            ("a b c", None),
        ] {
            assert_eq!(
                parse(line.as_bytes()),
                waited.map(Duration::from_nanos),
                "{line:?}"
            );
        }
        let own = CpuWait::of_this_thread();
        let first = own.total();
        let (when, _) = own.last.get().expect("it was just read");
        assert_eq!(own.at(when), first);
        assert!(own.at(when + FRESH) >= first);
        assert!(own.total() >= first);
    }
}
