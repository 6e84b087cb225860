//! nginx writes its local time without a zone: to seconds since 1970 and back.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::strtime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::line::STAMP;
use super::zone;
pub use crate::plugin::report::local_zone;

/// How far a line may lag behind the one before it: workers cache the time, each on its own.
pub const DISORDER: i64 = 300;

/// What is further ahead than this was written a year ago.
const DAY: i64 = 86_400;

/// The zone of a log, and what time it is.
#[derive(Debug, Clone)]
pub struct Clock {
    zone: TimeZone,
    now: i64,
}

impl Clock {
    /// A clock that stands still for one run.
    pub fn new(zone: TimeZone, now: Timestamp) -> Self {
        Self {
            zone,
            now: now.as_second(),
        }
    }

    /// The same moment in a zone with this offset from UTC in seconds, if there is one.
    pub fn with_offset(mut self, offset: Option<i32>) -> Self {
        if let Some(offset) = offset {
            self.zone = zone::fixed(offset);
        }
        self
    }

    /// The zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Seconds since 1970.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// The log's own time at this second.
    pub fn civil(&self, second: i64) -> DateTime {
        let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
        self.zone.to_datetime(time)
    }

    /// `2022-11-15T05:28`.
    pub fn minute(&self, second: i64) -> String {
        self.civil(second).strftime("%Y-%m-%dT%H:%M").to_string()
    }

    /// `2022-11-15T05:28:31`.
    pub fn second(&self, second: i64) -> String {
        self.civil(second).strftime("%Y-%m-%dT%H:%M:%S").to_string()
    }

    /// `2022-11-15T05:28:31+01:00`.
    pub fn rfc3339(&self, second: i64) -> String {
        let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
        let time = time.to_zoned(self.zone.clone());
        time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    /// `05:28`, and with the date where it is not today's.
    pub fn short(&self, second: i64) -> String {
        let time = self.civil(second);
        let form = if time.date() == self.civil(self.now).date() {
            "%H:%M"
        } else {
            "%Y-%m-%d %H:%M"
        };
        time.strftime(form).to_string()
    }

    /// Whether the zone's offset changes near this second, so that the log's times may go backwards.
    pub fn is_near_a_change(&self, second: i64) -> bool {
        let offset = |at: i64| {
            Timestamp::from_second(at)
                .ok()
                .map(|time| self.zone.to_offset(time))
        };
        let around = [second - 4 * 3600, second, second + 4 * 3600].map(offset);
        around.windows(2).any(|pair| pair[0] != pair[1])
    }

    /// Both readings of a local time: they differ where the clocks were put back.
    fn readings(&self, time: DateTime) -> Option<(i64, i64)> {
        let (first, second) = match self.zone.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => (offset, offset),
            // A time that never was: go on counting as before the change.
            AmbiguousOffset::Gap { before, .. } => (before, before),
            AmbiguousOffset::Fold { before, after } => (before, after),
        };
        let at =
            |offset: jiff::tz::Offset| offset.to_timestamp(time).ok().map(Timestamp::as_second);
        Some((at(first)?, at(second)?))
    }

    /// Both readings of a time that a line has.
    pub fn both(&self, time: When) -> Option<(i64, i64)> {
        match time {
            // Within the years of four digits, as all other times are.
            When::Second(second) => {
                Timestamp::from_second(second).ok()?;
                Some((second, second))
            }
            When::Local(time) => self.readings(time),
            When::OfAYear(time) => self.readings(self.in_a_year(time)?),
        }
    }

    /// A local time given by a person; of two readings the earlier one.
    pub fn at(&self, time: DateTime) -> Option<i64> {
        self.readings(time).map(|(first, _)| first)
    }

    /// The local date.
    pub fn today(&self) -> Date {
        self.date(self.now)
    }

    /// The local date of a second.
    pub fn date(&self, second: i64) -> Date {
        self.civil(second).date()
    }

    /// A time of some year in the last one that it can be of.
    fn in_a_year(&self, time: DateTime) -> Option<DateTime> {
        let this = self.today().year();
        (this - 8..=this).rev().find_map(|year| {
            let time = time.with().year(year).build().ok()?;
            (self.at(time)? <= self.now + DAY).then_some(time)
        })
    }
}

/// A time as a line has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In seconds since 1970, whatever the zone.
    Second(i64),
    /// Local time.
    Local(DateTime),
    /// Local time of some year.
    OfAYear(DateTime),
}

impl When {
    /// nginx' own, at the start of a line.
    pub fn of_stamp(line: &[u8]) -> Option<Self> {
        let minute = civil(line)?;
        let second = i8::try_from(two(line, 17)?).ok()?;
        let time = minute.with().second(second).build();
        time.ok().map(Self::Local)
    }

    /// `23/Nov/2026:05:00:00.279`, local; with ` +0100` behind it no longer.
    pub fn of_request(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if let Ok(time) = strtime::parse("%d/%b/%Y:%H:%M:%S %z", text) {
            return time.to_timestamp().ok().map(Self::of_timestamp);
        }
        let civil = DateTime::strptime("%d/%b/%Y:%H:%M:%S", text.get(..20)?);
        civil.ok().map(Self::Local)
    }

    /// As RFC 3339 writes it, at the start of a text.
    pub fn of_rfc3339(word: &[u8]) -> Option<Self> {
        let time: Timestamp = std::str::from_utf8(word).ok()?.parse().ok()?;
        Some(Self::of_timestamp(time))
    }

    /// `Nov 23 05:00:00` at the start of a text.
    pub fn of_rfc3164(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text.get(..15)?).ok()?;
        let (name, rest) = text.split_at_checked(3)?;
        let (day, time) = rest.split_at_checked(3)?;
        let time = Time::strptime("%H:%M:%S", time.trim()).ok()?;
        // A year that has a 29th of February.
        let date = Date::new(2000, month(name)?, day.trim().parse().ok()?).ok()?;
        Some(Self::OfAYear(DateTime::from_parts(date, time)))
    }

    fn of_timestamp(time: Timestamp) -> Self {
        Self::Second(time.as_second())
    }
}

/// The number of a month by its English name.
pub fn month(name: &str) -> Option<i8> {
    let names = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let place = names.iter().position(|known| *known == name)?;
    i8::try_from(place + 1).ok()
}

/// Reads the times of one file in the order of its lines, which is what tells the two hours apart when the clocks
/// were put back.
#[derive(Debug)]
pub struct Reckoner<'a> {
    clock: &'a Clock,
    /// The latest time read so far.
    latest: Option<i64>,
    /// `YYYY/MM/DD HH:MM` of the last line and its two readings.
    minute: [u8; 16],
    readings: (i64, i64),
    /// Where an hour that comes twice is known to be there for the second time: a second of it.
    second_pass: Option<i64>,
}

impl<'a> Reckoner<'a> {
    /// One for a file whose lines up to `latest` are known.
    pub fn new(clock: &'a Clock, latest: Option<i64>) -> Self {
        Self {
            clock,
            latest,
            minute: [0; 16],
            readings: (0, 0),
            second_pass: None,
        }
    }

    /// The latest time read so far.
    pub fn latest(&self) -> Option<i64> {
        self.latest
    }

    /// One for the next part of the same file, or for a later one.
    pub fn for_part(&self, is_next: bool) -> Self {
        Self {
            second_pass: self.second_pass,
            ..Self::new(self.clock, self.latest.filter(|_| is_next))
        }
    }

    /// The clock.
    pub fn clock(&self) -> &'a Clock {
        self.clock
    }

    /// An hour that comes twice is there for the second time, in what is read next.
    pub fn know_second_pass(&mut self, second: Option<i64>) {
        self.second_pass = second;
    }

    /// Takes over what was read in a later part.
    pub fn catch_up(&mut self, latest: Option<i64>) {
        self.latest = self.latest.max(latest);
    }

    /// Whether clocks are changed near the time of a stamp.
    pub fn is_near_a_change(&self, stamp: &[u8]) -> bool {
        let time = civil(stamp).and_then(|time| self.clock.at(time));
        time.is_some_and(|second| self.clock.is_near_a_change(second))
    }

    /// The time of a stamp, `None` where it is none.
    pub fn read(&mut self, stamp: &[u8]) -> Option<i64> {
        let (readings, seconds) = self.look_up(stamp)?;
        Some(self.choose(readings, seconds))
    }

    /// The earlier one of what a stamp can be. It is not taken for where the log has come to.
    pub fn earliest(&mut self, stamp: &[u8]) -> Option<i64> {
        let ((first, _), seconds) = self.look_up(stamp)?;
        Some(first + seconds)
    }

    /// Both readings of a stamp's minute, and its seconds.
    fn look_up(&mut self, stamp: &[u8]) -> Option<((i64, i64), i64)> {
        let minute: &[u8; 16] = stamp.first_chunk()?;
        let seconds = i64::from(two(stamp, 17)?);
        if *minute != self.minute {
            self.readings = self.clock.readings(civil(stamp)?)?;
            self.minute = *minute;
        }
        Some((self.readings, seconds))
    }

    /// The second at which a time is, if it is one.
    pub fn at(&mut self, when: When) -> Option<i64> {
        Some(self.choose(self.clock.both(when)?, 0))
    }

    /// Which of two readings it is, going by what was read before.
    fn choose(&mut self, (first, second): (i64, i64), seconds: i64) -> i64 {
        let is_known = self
            .second_pass
            .is_some_and(|known| (known - second).abs() < 2 * 3600);
        let is_shown = || {
            self.latest
                .is_some_and(|latest| latest > first + seconds + DISORDER)
        };
        let again = second <= self.clock.now + DISORDER && (is_known || is_shown());
        let time = if again { second } else { first } + seconds;
        // A line from the future (a clock that was wrong for a while) does not say where the log has come to.
        if time <= self.clock.now + DISORDER {
            self.latest = self.latest.max(Some(time));
        }
        time
    }
}

/// The minute of a stamp.
fn civil(stamp: &[u8]) -> Option<DateTime> {
    if stamp.len() < STAMP {
        return None;
    }
    let part = |at| two(stamp, at).and_then(|n| i8::try_from(n).ok());
    let year = i16::from(part(0)?) * 100 + i16::from(part(2)?);
    DateTime::new(year, part(5)?, part(8)?, part(11)?, part(14)?, 0, 0).ok()
}

fn two(stamp: &[u8], at: usize) -> Option<u8> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| byte - b'0');
    Some(digit(*stamp.get(at)?)? * 10 + digit(*stamp.get(at + 1)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(zone: &str, now: &str) -> Clock {
        Clock::new(TimeZone::get(zone).unwrap(), now.parse().unwrap())
    }

    #[test]
    fn stamps_are_local_time() {
        let clock = clock("Europe/Vienna", "2026-11-23T06:00:00Z");
        let mut times = Reckoner::new(&clock, None);
        let five = times.read(b"2026/11/23 05:00:00").unwrap();
        assert_eq!(
            five,
            "2026-11-23T04:00:00Z"
                .parse::<Timestamp>()
                .unwrap()
                .as_second()
        );
        assert_eq!(times.read(b"2026/11/23 05:00:59"), Some(five + 59));
        assert_eq!(clock.minute(five + 59), "2026-11-23T05:00");
        assert_eq!(clock.second(five + 59), "2026-11-23T05:00:59");
        for wrong in [
            "2026/13/23 05:00:00",
            "2026/11/23 25:00:00",
            "2026/1x/23 05:00:00",
            "x",
        ] {
            assert_eq!(times.read(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_hour_that_comes_twice_is_told_apart_by_the_order_of_the_lines() {
        // Vienna put its clocks back on 2026-10-25 at 03:00 summer time, 01:00 UTC.
        let clock = clock("Europe/Vienna", "2026-10-25T06:00:00Z");
        let mut times = Reckoner::new(&clock, None);
        let utc = |text: &str| Some(text.parse::<Timestamp>().unwrap().as_second());
        for (stamp, time) in [
            ("2026/10/25 01:59:59", "2026-10-24T23:59:59Z"),
            ("2026/10/25 02:30:00", "2026-10-25T00:30:00Z"),
            ("2026/10/25 02:59:59", "2026-10-25T00:59:59Z"),
            ("2026/10/25 02:00:00", "2026-10-25T01:00:00Z"),
            ("2026/10/25 02:30:00", "2026-10-25T01:30:00Z"),
            ("2026/10/25 03:00:00", "2026-10-25T02:00:00Z"),
        ] {
            assert_eq!(times.read(stamp.as_bytes()), utc(time), "{stamp}");
        }
    }
}
