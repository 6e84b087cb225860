//! Whether the hour that comes twice stands in a file for the second time, where the order of its lines does not show it: a
//! log that was silent when clocks were put back, or that is read for the first time in the hour behind that.
//!
//! A file was changed last when its last line was written: that tells which of two readings its time has. The lines before it
//! are of the same hour as far as none of them is later than the next one.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use super::clock::{Clock, DISORDER};
use super::cursor::read_at;
use super::dialect::Form;

/// What is read at once.
const PIECE: u64 = 64 * 1024;

/// How far a file's own time may be from that of its last line.
const DELAY: std::ops::RangeInclusive<i64> = -1..=DISORDER;

/// The second at which the last line in a part of a file was written, if that is the second reading of its time and all
/// lines of that hour are of the second one.
pub fn second_pass(
    file: &File,
    range: Range<u64>,
    form: Form,
    clock: &Clock,
) -> io::Result<Option<i64>> {
    let changed = file.metadata()?.mtime();
    if !clock.is_near_a_change(changed) {
        return Ok(None);
    }
    let mut last: Option<i64> = None;
    let mut next = i64::MAX;
    let mut end = range.end;
    while end > range.start {
        let start = end.saturating_sub(PIECE).max(range.start);
        let piece = read_at(file, start, end - start)?;
        let mut has_time = false;
        // A line that lies across the border of two pieces is not needed.
        for line in piece.rsplit(|byte| *byte == b'\n') {
            let Some((first, second)) = form.time(line).and_then(|time| clock.both(time)) else {
                continue;
            };
            if last.is_none() {
                let is_second = first != second && DELAY.contains(&(changed - second));
                if !is_second {
                    return Ok(None);
                }
                last = Some(second);
            }
            if first == second && first < next {
                return Ok(last); // before the first pass
            }
            if second > next.saturating_add(DISORDER) {
                return Ok(None); // the order shows it
            }
            next = second;
            has_time = true;
        }
        // In a hole, or in what is no log, nothing is looked for.
        if !has_time {
            break;
        }
        end = start;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::time::{Duration, UNIX_EPOCH};

    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::super::Args;
    use super::super::look::look;
    use super::super::plan::Plan;
    use super::*;
    use crate::plugin::options;

    /// How many of these lines of the day on which Vienna put its clocks back, 2026-10-25 at 03:00, 01:00 UTC, fall into the
    /// ten minutes up to now, in a log that was changed last when it was `changed`.
    fn counted(times: &[&str], changed: &str, now: &str) -> u64 {
        let utc = |time: &str| -> Timestamp { format!("2026-10-25T{time}Z").parse().unwrap() };
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("error.log");
        let line = |time: &&str| {
            format!(
                "2026/10/25 {time} [crit] 7#7: *1 bind(0.0.0.0) failed (98: x) while connecting to upstream, client: 192.0.2.1, server: a\n"
            )
        };
        std::fs::write(&log, times.iter().map(line).collect::<String>()).unwrap();
        let changed = u64::try_from(utc(changed).as_second()).unwrap();
        let file = File::options().append(true).open(&log).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(changed))
            .unwrap();
        let state = folder.path().join("state");
        let args = ["check", "-f", log.to_str().unwrap(), "--state-file"];
        let args = args.into_iter().chain([state.to_str().unwrap()]);
        let args = args
            .chain(["--log-tz", "Europe/Vienna"])
            .map(OsString::from);
        let args: Args = options::parse("NGINX", args).unwrap();
        let clock = Clock::new(TimeZone::get("Europe/Vienna").unwrap(), utc(now));
        let plan = Plan::new(&args, &clock).unwrap();
        let (_, mut memory) = look(&plan, &clock, &|| false).unwrap();
        let window = plan.window;
        let summary = memory.tally.summary(window.from, window.to, plan.counted);
        summary.count
    }

    #[test]
    fn the_second_pass_of_an_hour_is_known_where_the_log_was_silent_before() {
        let silent_before = ["01:30:00", "02:20:00", "02:25:00"];
        assert_eq!(counted(&silent_before, "01:25:02", "01:26:00"), 2);
        assert_eq!(counted(&silent_before, "00:25:02", "00:26:00"), 2);
        // Read behind the hour in which it was written.
        assert_eq!(counted(&silent_before, "00:25:02", "01:26:00"), 0);
    }

    #[test]
    fn the_second_pass_of_an_hour_is_known_in_a_log_that_begins_in_it() {
        assert_eq!(
            counted(&["02:20:00", "02:25:00"], "01:25:00", "01:26:00"),
            2
        );
        assert_eq!(
            counted(&["02:20:00", "02:25:00"], "00:25:00", "01:26:00"),
            0
        );
    }

    #[test]
    fn where_the_order_shows_both_passes_the_first_one_stays_the_first() {
        let both = ["02:20:00", "02:50:00", "02:22:00", "02:25:00"];
        assert_eq!(counted(&both, "01:25:00", "01:26:00"), 2);
    }
}
