//! Where in a log a time begins, without reading what lies before it.

use std::fs::File;
use std::io;

use memchr::{memchr, memmem};

use super::clock::{self, Clock, Reckoner};
use super::cursor::read_at;
use super::dialect::{Dialect, Form};
use super::forged::{Origin, Watch};
use super::source::behind_hole;

/// What is read at a place to find a line there.
const PIECE: u64 = 16 * 1024;

/// How many pieces in a row may hold no line of nginx'.
const PIECES: u64 = 64;

/// Stop halving here: reading the rest is cheaper.
const CLOSE: u64 = 64 * 1024;

/// Workers cache the time: lines may stand behind later ones by this many seconds.
const DISORDER: i64 = 60;

/// From when on a log is to be read, and how its times are read.
#[derive(Debug, Clone, Copy)]
pub struct Since<'a> {
    /// In seconds since 1970.
    pub second: i64,
    /// The log's time.
    pub clock: &'a Clock,
    /// Whose words it is written in, where that was given.
    pub dialect: Option<Dialect>,
}

/// A place from which on every line of this second or later is read. Lines stand in the order of time but for a
/// little disorder; where a clock was put back further, the place is early, never late, unless the lines behind
/// the jump are all there is.
pub fn start_of(file: &File, size: u64, since: Since<'_>) -> io::Result<u64> {
    let Since {
        second,
        clock,
        dialect,
    } = since;
    let form = Form::of(&read_at(file, 0, PIECE)?, dialect);
    // Of the two readings of an ambiguous time either will do: the search stays clear of them.
    let time = |line: &[u8]| Reckoner::new(clock, None).at(form.time(line)?);
    start_by(file, size, second, clock, &time)
}

/// The same for a log of any kind, whose lines' times `time` tells.
pub fn start_by(
    file: &File,
    size: u64,
    second: i64,
    clock: &Clock,
    time: &dyn Fn(&[u8]) -> Option<i64>,
) -> io::Result<u64> {
    let around_a_change = clock.is_near_a_change(second);
    // Within an hour that comes twice the order of local times says little: begin before it.
    let wanted = second - DISORDER - if around_a_change { 2 * 3600 } else { 0 };
    let times = Times {
        wanted,
        now: clock.now() + clock::DISORDER,
        time,
    };
    // All lines before `low` are too old; one soon behind `high` is not.
    let (mut low, mut high) = (0, size);
    while high - low > CLOSE {
        let middle = low + (high - low) / 2;
        match times.old_line(file, middle, high)? {
            Some(at) => low = at,
            None => high = middle,
        }
    }
    Ok(low)
}

/// What lines are judged by.
struct Times<'a> {
    /// Earlier ones are too old.
    wanted: i64,
    /// Later ones are of a clock that was wrong for a while.
    now: i64,
    /// Tells a line's.
    time: &'a dyn Fn(&[u8]) -> Option<i64>,
}

impl Times<'_> {
    /// The first line with a time that begins behind `from` and before `end`, where all lines of its piece are too old: a
    /// single one may be of a clock that was wrong for a moment. What a request wrote does not count, nor what is of the
    /// future, where anything else stands beside it.
    fn old_line(&self, file: &File, from: u64, end: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        for _ in 0..PIECES {
            at = behind_hole(file, at);
            if at >= end {
                return Ok(None);
            }
            let piece = read_at(file, at, PIECE)?;
            let mut watch = Watch::new(&piece, false);
            let (mut first, mut is_ahead) = (None, false);
            let mut start = memchr(b'\n', &piece).map_or(piece.len(), |feed| feed + 1);
            while start < piece.len() && at + (start as u64) < end {
                let stop = memchr(b'\n', &piece[start..]).map_or(piece.len(), |feed| start + feed);
                let line = &piece[start..stop];
                if let Some(time) = (self.time)(line) {
                    let fields = memmem::find(line, b", client: ").map_or(stop, |at| start + at);
                    let is_told = watch.origin(start, stop, fields) != Origin::Request;
                    is_ahead |= time > self.now;
                    if is_told && time <= self.now {
                        if time >= self.wanted {
                            return Ok(None);
                        }
                        first = first.or(Some(at + start as u64));
                    }
                }
                start = stop + 1;
            }
            if first.is_some() || is_ahead || (piece.len() as u64) < PIECE {
                return Ok(first);
            }
            // A line may lie across the border of two pieces.
            at += PIECE - 2048;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    fn line(second: i64) -> String {
        let time = TimeZone::UTC.to_datetime(Timestamp::from_second(second).unwrap());
        format!(
            "{} [error] 1#1: *1 connect() failed (111: x) while connecting to upstream\n",
            time.strftime("%Y/%m/%d %H:%M:%S")
        )
    }

    fn since(second: i64, clock: &Clock) -> Since<'_> {
        Since {
            second,
            clock,
            dialect: None,
        }
    }

    #[test]
    fn nothing_of_the_window_lies_before_its_start_and_little_that_is_older_behind_it() {
        let clock = Clock::new(
            TimeZone::UTC,
            Timestamp::from_second(1_800_000_000).unwrap(),
        );
        let mut file = tempfile::tempfile().unwrap();
        let begin = 1_799_900_000;
        let text: String = (0..50_000).map(|n| line(begin + n)).collect();
        file.write_all(text.as_bytes()).unwrap();
        let length = line(begin).len() as u64;
        for second in [
            begin - 5,
            begin,
            begin + 1,
            begin + 30_000,
            begin + 49_999,
            begin + 60_000,
        ] {
            let place = start_of(&file, text.len() as u64, since(second, &clock)).unwrap();
            let first = begin + i64::try_from(place / length).unwrap();
            assert_eq!(place % length, 0);
            assert!(first <= second.max(begin), "{second}");
            let spare = i64::try_from((CLOSE + PIECE) / length).unwrap() + DISORDER + 5;
            assert!(
                first + spare >= second.min(begin + 49_999),
                "{second} {first}"
            );
        }
    }

    #[test]
    fn holes_are_leapt_over() {
        let clock = Clock::new(
            TimeZone::UTC,
            Timestamp::from_second(1_800_000_000).unwrap(),
        );
        let mut file = tempfile::tempfile().unwrap();
        let begin = 1_799_900_000;
        let mut end = 0;
        for n in 0..10 {
            file.seek(SeekFrom::Start(n << 30)).unwrap();
            for m in 0..1000 {
                let second = begin + i64::try_from(n * 1000 + m).unwrap();
                file.write_all(line(second).as_bytes()).unwrap();
            }
            end = file.stream_position().unwrap();
        }
        let place = start_of(&file, end, since(begin + 7500, &clock)).unwrap();
        assert!(
            (6 << 30..=7 << 30).contains(&(place & !0xf_ffff)),
            "{place:x}"
        );
    }
}
