//! In which zone a log's times are. nginx writes its local time without one, and in a container that is mostly UTC
//! whatever the host has. Two things show it:
//!
//! * what docker, CRI or syslog put around a line has a zone, and was written when the line was;
//! * a file was changed last when its last line was written: what its time is ahead of the file's, in quarters of an
//!   hour, is the offset.
//!
//! Either shows an offset from UTC as it is now, not the rules by which clocks are put back: `--log-tz` says those.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use memchr::{memmem, memrchr};

use super::clock::When;
use super::compressed;
use super::cursor::read_at;
use super::dialect::{Dialect, Form};
use super::forged::{Origin, Watch};
use super::links;

/// Offsets are multiples of this.
const QUARTER: i64 = 900;

/// The westernmost and the easternmost offset that there is, in quarters of an hour.
const OFFSETS: RangeInclusive<i64> = -12 * 4..=14 * 4;

/// Those that are no whole hours (tzdb 2026a).
const BETWEEN: [i64; 13] = [-38, -14, -10, 14, 18, 22, 23, 26, 35, 38, 42, 51, 55];

/// So long may a line be written behind its own time, to show another zone than this host's. More would take a file
/// that was copied for one with another zone too often: as it is, that happens to 1 in 300.
const DELAY: i64 = 5;

/// So long may it be where it shows this host's.
const IDLE: i64 = 300;

/// How far the clock of a file lags behind that of a line.
const COARSE: i64 = 1;

/// How much of either end of a log is looked at.
const PIECE: u64 = 16 * 1024;

/// How many lines with two times are compared.
const LINES: usize = 32;

/// What a log shows of its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It is this host's.
    Here,
    /// It is another one, with this offset from UTC in seconds.
    Offset(i32),
}

/// The zone with an offset from UTC in seconds.
pub fn fixed(offset: i32) -> TimeZone {
    Offset::from_seconds(offset).map_or(TimeZone::UTC, TimeZone::fixed)
}

/// `+01:00`.
pub fn name(offset: i32) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    let minutes = offset.unsigned_abs() / 60;
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// What a file shows; `here` is this host's zone. `None` where it shows nothing, or cannot be read.
pub fn of_file(path: &Path, dialect: Option<Dialect>, here: &TimeZone) -> Option<Shown> {
    look(&links::open(path).ok()?, dialect, here).ok().flatten()
}

/// What the beginning of a log shows that comes through a pipe.
pub fn of_stream(head: &[u8], form: Form, here: &TimeZone) -> Option<Shown> {
    by_what_is_around(head, form, here)
}

fn look(file: &File, dialect: Option<Dialect>, here: &TimeZone) -> io::Result<Option<Shown>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 || compressed::is_compressed(file)? {
        return Ok(None);
    }
    let form = Form::of(&read_at(file, 0, PIECE)?, dialect);
    let tail = read_at(file, metadata.len().saturating_sub(PIECE), PIECE)?;
    let around = by_what_is_around(&tail, form, here);
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH).ok();
    let changed = changed.and_then(|since| i64::try_from(since.as_secs()).ok());
    Ok(around.or_else(|| by_change(last_time(&tail, form)?, changed?, here)))
}

/// What the offset is whose local time, taken for UTC, this is; `moment` is when it was written.
fn offset(local: i64, moment: i64, delay: i64) -> Option<i64> {
    let ahead = local - moment;
    let quarters = (ahead + delay).div_euclid(QUARTER);
    let exists = OFFSETS.contains(&quarters) && (quarters % 4 == 0 || BETWEEN.contains(&quarters));
    let offset = quarters * QUARTER;
    (exists && ahead - offset <= COARSE).then_some(offset)
}

/// What the last line of a file shows, with the time at which the file was changed.
fn by_change(local: i64, changed: i64, here: &TimeZone) -> Option<Shown> {
    let is_of_here = |at: i64| {
        let delay = changed + offset_at(here, at)? - local;
        Some((-COARSE..=IDLE).contains(&delay))
    };
    // Around the hour at which clocks are changed the host has two offsets.
    let around = [changed, changed - IDLE, changed + IDLE];
    if around.into_iter().filter_map(is_of_here).any(|is_so| is_so) {
        return Some(Shown::Here);
    }
    let offset = offset(local, changed, DELAY)?;
    i32::try_from(offset).ok().map(Shown::Offset)
}

/// What most lines show that have a time with a zone around them.
fn by_what_is_around(lines: &[u8], form: Form, here: &TimeZone) -> Option<Shown> {
    let mut offsets: Vec<(i64, i64)> = Vec::new();
    // The last line may be half of one, and so may the first.
    for raw in lines.rsplit(|byte| *byte == b'\n').skip(1).take(LINES) {
        let Some(When::Second(moment)) = form.wrapping.time(raw) else {
            continue;
        };
        let Some(local) = form.time(raw).and_then(local_second) else {
            continue;
        };
        offsets.extend(offset(local, moment, DELAY).map(|offset| (offset, moment)));
    }
    let of = |wanted: i64| {
        let same = offsets.iter().filter(|(offset, _)| *offset == wanted);
        same.count()
    };
    let (offset, moment) = offsets
        .iter()
        .copied()
        .find(|(offset, _)| of(*offset) * 2 > offsets.len())?;
    if offset_at(here, moment) == Some(offset) {
        return Some(Shown::Here);
    }
    i32::try_from(offset).ok().map(Shown::Offset)
}

/// The local time of the last whole line that has one, taken for UTC.
fn last_time(tail: &[u8], form: Form) -> Option<i64> {
    let mut end = memrchr(b'\n', tail)?;
    loop {
        let start = memrchr(b'\n', &tail[..end]).map_or(0, |feed| feed + 1);
        let local = form.time(&tail[start..end]).and_then(local_second);
        // What a request wrote says nothing.
        let is_forged = || {
            let fields =
                memmem::find(&tail[start..end], b", client: ").map_or(end, |at| start + at);
            let origin = Watch::new(tail, false).origin(start, end, fields);
            form.dialect == Dialect::Nginx && origin == Origin::Request
        };
        if let Some(local) = local.filter(|_| !is_forged()) {
            return Some(local);
        }
        end = start.checked_sub(1)?;
    }
}

/// A local time taken for UTC.
fn local_second(when: When) -> Option<i64> {
    match when {
        When::Local(time) => {
            let time = Offset::UTC.to_timestamp(time).ok()?;
            Some(time.as_second())
        }
        When::Second(_) | When::OfAYear(_) => None,
    }
}

fn offset_at(zone: &TimeZone, second: i64) -> Option<i64> {
    let time = Timestamp::from_second(second).ok()?;
    Some(i64::from(zone.to_offset(time).seconds()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::{Duration, SystemTime};

    use super::*;

    const NOON: i64 = 1_795_435_200; // 2026-11-23T12:00:00Z

    fn vienna() -> TimeZone {
        TimeZone::get("Europe/Vienna").unwrap()
    }

    fn stamp(second: i64) -> String {
        let time = Timestamp::from_second(second).unwrap();
        time.strftime("%Y/%m/%d %H:%M:%S").to_string()
    }

    /// What a file shows with this text, changed last at noon UTC.
    fn shown(text: &str, here: &TimeZone) -> Option<Shown> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(NOON.unsigned_abs());
        file.as_file().set_modified(noon).unwrap();
        of_file(file.path(), None, here)
    }

    #[test]
    fn the_time_at_which_a_file_was_changed_shows_the_zone_of_its_last_line() {
        let quarter = 15 * 60;
        for (ahead, expected) in [
            (3600, Some(Shown::Here)),
            (3600 - 200, Some(Shown::Here)),
            (0, Some(Shown::Offset(0))),
            (-4, Some(Shown::Offset(0))),
            (1, Some(Shown::Offset(0))),
            (2, None),
            (-60, None),
            (23 * quarter - 2, Some(Shown::Offset(23 * 900))),
            (22 * quarter, Some(Shown::Offset(22 * 900))),
            (-quarter, None),
            (-5 * 3600, Some(Shown::Offset(-18_000))),
            (-13 * 3600, None),
            (15 * 3600, None),
        ] {
            let text = format!("{} [error] 7#7: x\n", stamp(NOON + ahead));
            assert_eq!(shown(&text, &vienna()), expected, "{ahead}");
        }
    }

    #[test]
    fn half_a_line_and_a_line_that_a_request_wrote_show_nothing() {
        let real = format!("{} [error] 7#7: *1 open() \"/x", stamp(NOON + 3600));
        let late = format!("{} [error] 7#7: x", stamp(NOON + 7200));
        let forged = format!(
            "{real}\n{late}\" failed (2: No such file or directory), client: 192.0.2.1, server: a\n"
        );
        assert_eq!(shown(&forged, &vienna()), Some(Shown::Here));
        let half = format!("{real}\" failed (2: x), client: 192.0.2.1, server: a\n{late}");
        assert_eq!(shown(&half, &vienna()), Some(Shown::Here));
        assert_eq!(shown("", &vienna()), None);
    }

    #[test]
    fn the_time_around_a_line_shows_its_zone() {
        let line = |ahead: i64| {
            let outer = Timestamp::from_second(NOON).unwrap();
            format!("{outer} stderr F {} [error] 7#7: x\n", stamp(NOON + ahead))
        };
        let of = |text: &str| {
            let form = Form::of(text.as_bytes(), None);
            of_stream(text.as_bytes(), form, &vienna())
        };
        assert_eq!(of(&line(0).repeat(3)), Some(Shown::Offset(0)));
        assert_eq!(of(&line(3600)), Some(Shown::Here));
        // One that a request made up does not decide.
        let forged = line(0).repeat(3) + &line(3 * 3600);
        assert_eq!(of(&forged), Some(Shown::Offset(0)));
        assert_eq!(of(&format!("{} [error] 7#7: x\n", stamp(NOON))), None);
    }

    #[test]
    fn offsets_read_as_people_write_them() {
        for (offset, text) in [(0, "+00:00"), (20_700, "+05:45"), (-12_600, "-03:30")] {
            assert_eq!(name(offset), text);
            assert_eq!(
                fixed(offset).to_offset(Timestamp::UNIX_EPOCH).seconds(),
                offset
            );
        }
    }
}
