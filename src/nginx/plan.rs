//! The options made whole: parsed, consistent, nothing left to check later.

use std::path::PathBuf;

use anyhow::{Context, bail};
use jiff::Timestamp;
use jiff::civil::{DateTime, Time};

use super::Args;
use super::args::By;
use super::cause::{Cause, CauseSet};
use super::clock::Clock;
use super::correlate::Other;
use super::dialect::Dialect;
use super::verdict::{Also, Thresholds};

/// The log that Debian's and nginx.org's packages write.
const USUAL_LOG: &str = "/var/log/nginx/error.log";

/// What to look at, and how to judge it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Logs, and patterns for logs.
    pub files: Vec<PathBuf>,
    /// A unit whose lines are read from the journal.
    pub journal_unit: Option<String>,
    /// Whose words they are written in; `None` to find out.
    pub dialect: Option<Dialect>,
    /// What counts for the state.
    pub counted: CauseSet,
    /// Whether nothing is counted beside these and those with limits of their own.
    pub only: bool,
    /// When.
    pub window: Window,
    /// How many are too many.
    pub thresholds: Thresholds,
    /// Other causes with limits of their own.
    pub also: Vec<Also>,
    /// How to list the counted events.
    pub by: Vec<By>,
    /// Logs to compare the minutes with.
    pub correlate: Vec<Other>,
    /// The zone that was given for the log, as it was understood.
    pub zone: Option<String>,
    /// Where to keep the minutes.
    pub state_file: Option<PathBuf>,
}

/// Which part of the logs' time to look at: after `from`, up to `to`, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Not part of the window itself.
    pub from: i64,
    /// The last second of the window.
    pub to: i64,
    /// Whether it moves with the time, so that a state makes sense.
    pub moves: bool,
}

impl Window {
    /// Its length in seconds.
    pub fn length(&self) -> i64 {
        self.to - self.from
    }
}

impl Plan {
    /// Reads the options against a clock.
    pub fn new(args: &Args, clock: &Clock) -> anyhow::Result<Self> {
        Ok(Self {
            files: files(args),
            journal_unit: args.journal_unit.clone(),
            dialect: args.dialect.known(),
            counted: args.cause.iter().copied().collect(),
            only: args.only,
            window: window(args, clock)?,
            thresholds: Thresholds::new(
                (args.warning, args.critical),
                (args.per_minute_warning, args.per_minute_critical),
            ),
            also: args.also.clone(),
            by: args.by.clone(),
            correlate: args.correlate.iter().map(|text| Other::new(text)).collect(),
            zone: args.log_tz.as_ref().map(|zone| format!("{zone:?}")),
            state_file: args.state_file.clone(),
        })
    }

    /// The causes that are counted at all.
    pub fn wanted(&self) -> CauseSet {
        if self.only {
            let also = self.also.iter().map(|also| also.cause);
            self.counted.iter().chain(also).collect()
        } else {
            Cause::ALL.into_iter().collect()
        }
    }

    /// What decides which minutes a state has to hold: with other settings it answers another question.
    pub fn settings(&self) -> String {
        let causes: Vec<_> = self.counted.iter().map(Cause::name).collect();
        let zone = self.zone.as_deref().unwrap_or_default();
        let unit = self.journal_unit.as_deref().unwrap_or_default();
        let only: Vec<_> = if self.only {
            self.wanted().iter().map(Cause::name).collect()
        } else {
            Vec::new()
        };
        format!(
            "{:?} {} {}{zone}{unit}{}{}",
            self.files,
            causes.join(","),
            self.window.length(),
            only.join(","),
            self.dialect.map_or("", Dialect::proxy)
        )
    }
}

/// The logs that are named, or the usual one.
pub fn files(args: &Args) -> Vec<PathBuf> {
    if args.file.is_empty() && args.journal_unit.is_none() {
        vec![PathBuf::from(USUAL_LOG)]
    } else {
        args.file.clone()
    }
}

fn window(args: &Args, clock: &Clock) -> anyhow::Result<Window> {
    // Fractions of a second do not exist in the log; a window shorter than one would be empty.
    let last = i64::try_from(args.last.as_secs())
        .unwrap_or(i64::MAX)
        .max(1);
    if args.since.is_none() && args.before.is_none() {
        return Ok(Window {
            from: clock.now() - last,
            to: clock.now(),
            moves: true,
        });
    }
    let (since, before) = span(args.since.as_deref(), args.before.as_deref(), clock)?;
    // The first second belongs to the window, the last one does not.
    let to = before.unwrap_or(clock.now() + 1) - 1;
    let from = since.map_or(to - last, |since| since - 1);
    if from >= to {
        bail!("--since has to lie before --before");
    }
    Ok(Window {
        from,
        to,
        moves: false,
    })
}

/// What `--since` and `--before` say. Where only the one has a date, or none, the other is the last such time before it: at
/// 05:10, 05:00 to 06:30 is a time of yesterday.
pub fn span(
    since: Option<&str>,
    before: Option<&str>,
    clock: &Clock,
) -> anyhow::Result<(Option<i64>, Option<i64>)> {
    let before = before.map(|text| point(text, clock).context("--before"));
    let before = before.transpose()?;
    let by = before.map_or(clock.now(), |before| before - 1);
    let since = since.map(|text| point_by(text, clock, by).context("--since"));
    Ok((since.transpose()?, before))
}

/// A point in time as a person writes it; without a date the last time that the clock showed this.
fn point(text: &str, clock: &Clock) -> anyhow::Result<i64> {
    point_by(text, clock, clock.now())
}

/// The same; without a date the last time by this second that the clock showed this.
pub fn point_by(text: &str, clock: &Clock, by: i64) -> anyhow::Result<i64> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_second());
    }
    let wrong = || format!("'{text}' is no time: give HH:MM, YYYY-MM-DD HH:MM[:SS] or RFC 3339");
    let forms = ["%H:%M:%S", "%H:%M"];
    if let Some(time) = forms
        .iter()
        .find_map(|form| Time::strptime(form, text).ok())
    {
        let day = clock.date(by);
        let on = |day| clock.at(DateTime::from_parts(day, time));
        return on(day)
            .filter(|second| *second <= by)
            .or_else(|| on(day.yesterday().ok()?))
            .with_context(wrong);
    }
    [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M",
        "%Y/%m/%d %H:%M:%S",
        "%Y/%m/%d %H:%M",
    ]
    .iter()
    .find_map(|form| DateTime::strptime(form, text).ok())
    .and_then(|time| clock.at(time))
    .with_context(wrong)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        let now = "2026-11-23T06:15:00Z";
        let clock = Clock::new(
            TimeZone::get("Europe/Vienna").unwrap(),
            now.parse().unwrap(),
        );
        for (text, time) in [
            ("05:00", "2026-11-23T04:00:00Z"),
            ("07:14:59", "2026-11-23T06:14:59Z"),
            ("08:00", "2026-11-22T07:00:00Z"),
            ("2022-11-15 05:28", "2022-11-15T04:28:00Z"),
            ("2022-07-15T05:28:31", "2022-07-15T03:28:31Z"),
            ("2022-11-15T05:28:00+00:00", "2022-11-15T05:28:00Z"),
        ] {
            let expected = time.parse::<Timestamp>().unwrap().as_second();
            assert_eq!(point(text, &clock).unwrap(), expected, "{text}");
        }
        let second = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        for (since, before, window) in [
            (
                "05:00",
                "06:30",
                ["2026-11-23T04:00:00Z", "2026-11-23T05:30:00Z"],
            ),
            // It is 07:15: before the window's end.
            (
                "07:00",
                "08:30",
                ["2026-11-22T06:00:00Z", "2026-11-22T07:30:00Z"],
            ),
            (
                "23:00",
                "01:00",
                ["2026-11-22T22:00:00Z", "2026-11-23T00:00:00Z"],
            ),
            (
                "06:00",
                "2022-11-15 05:28",
                ["2022-11-14T05:00:00Z", "2022-11-15T04:28:00Z"],
            ),
        ] {
            let [from, to] = window.map(|text| Some(second(text)));
            let found = span(Some(since), Some(before), &clock).unwrap();
            assert_eq!(found, (from, to), "{since} {before}");
        }
        for wrong in ["", "25:00", "yesterday", "2022-13-01 00:00", "5"] {
            assert!(point(wrong, &clock).is_err(), "{wrong}");
        }
    }
}
