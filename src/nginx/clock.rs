//! nginx writes its local time without a zone: to seconds since 1970 and back.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

use super::line::STAMP;
pub use crate::plugin::report::local_zone;

/// How far a line may lag behind the one before it: workers cache the time, each on its own.
const DISORDER: i64 = 300;

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

    /// A local time given by a person; of two readings the earlier one.
    pub fn at(&self, time: DateTime) -> Option<i64> {
        self.readings(time).map(|(first, _)| first)
    }

    /// The local date.
    pub fn today(&self) -> jiff::civil::Date {
        self.civil(self.now).date()
    }

    /// The day before.
    pub fn yesterday(&self) -> Option<jiff::civil::Date> {
        self.today().checked_sub(1.day()).ok()
    }
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
}

impl<'a> Reckoner<'a> {
    /// One for a file whose lines up to `latest` are known.
    pub fn new(clock: &'a Clock, latest: Option<i64>) -> Self {
        Self {
            clock,
            latest,
            minute: [0; 16],
            readings: (0, 0),
        }
    }

    /// The latest time read so far.
    pub fn latest(&self) -> Option<i64> {
        self.latest
    }

    /// The time of a stamp, `None` where it is none.
    pub fn read(&mut self, stamp: &[u8]) -> Option<i64> {
        let minute: &[u8; 16] = stamp.first_chunk()?;
        let seconds = i64::from(two(stamp, 17)?);
        if *minute != self.minute {
            self.readings = self.clock.readings(civil(stamp)?)?;
            self.minute = *minute;
        }
        let (first, second) = self.readings;
        let again = second <= self.clock.now + DISORDER
            && self
                .latest
                .is_some_and(|latest| latest > first + seconds + DISORDER);
        let time = if again { second } else { first } + seconds;
        // A line from the future (a clock that was wrong for a while) does not say where the log has come to.
        if time <= self.clock.now + DISORDER {
            self.latest = self.latest.max(Some(time));
        }
        Some(time)
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
