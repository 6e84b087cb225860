//! Another log beside ours: whether its failures fall into the same minutes, and what chance alone would give. It can
//! tell that two things coincide, never that one causes the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use memchr::{memchr, memchr_iter, memmem, memrchr};

use super::clock::Clock;
use super::links;
use super::plan::Window;
use super::reader::Reader;
use super::scan::Ended;
use super::source::Source;
use crate::stats;

/// How many minutes earlier or later are tried.
const LAGS: i64 = 5;

/// How many names are told apart.
const NAMES: usize = 256;

/// A log to compare with, and what makes a line of it a failure where its form does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Where it is.
    pub path: PathBuf,
    /// A text that a failure holds.
    pub pattern: Option<String>,
}

impl Other {
    /// `FILE`, or `FILE=TEXT`.
    pub fn new(text: &str) -> Self {
        let whole = || Self {
            path: PathBuf::from(text),
            pattern: None,
        };
        match text.split_once('=') {
            Some((path, pattern)) if !pattern.is_empty() && !Path::new(text).exists() => Self {
                path: PathBuf::from(path),
                pattern: Some(pattern.to_owned()),
            },
            _ => whole(),
        }
    }
}

/// How far two logs go together.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlation {
    /// Which log.
    pub path: PathBuf,
    /// The minutes that both logs speak of.
    pub common: u64,
    /// Minutes with a failure in it.
    pub minutes: u64,
    /// How many of them are minutes of ours.
    pub overlap: u64,
    /// How many that would be by chance.
    pub expected: f64,
    /// How likely chance alone gives as many or more.
    pub p_value: f64,
    /// By how many minutes its failures come later than ours where most of them meet, and how many do then.
    pub best_lag: (i64, u64),
    /// Its failures in the common minutes by name, largest first.
    pub what: Vec<(String, u64)>,
    /// What clients got in these, where it is an access log, by status.
    pub statuses: BTreeMap<u16, u64>,
}

/// Reads another log and compares.
pub fn correlate(
    other: &Other,
    ours: &BTreeMap<i64, u64>,
    window: Window,
    clock: &Clock,
    ended: Ended<'_>,
) -> anyhow::Result<Correlation> {
    let path = &other.path;
    let shown = || format!("--correlate: cannot read {}", path.display());
    let file = links::open(path).with_context(shown)?;
    let metadata = file.metadata().with_context(shown)?;
    if !metadata.is_file() {
        bail!("--correlate: {} is no regular file", path.display());
    }
    let source = Source::file(file, 0..metadata.len()).with_context(shown)?;
    let mut reader = Reader::new(source, 0, b"", false);
    let mut seen = Seen::default();
    while let Some(batch) = reader.next_batch().with_context(shown)? {
        seen.take(&batch.bytes[batch.fresh..], other, window, clock);
        if ended() {
            bail!(
                "--correlate: {} was not read to its end in time",
                path.display()
            );
        }
    }
    let Some((first, last)) = seen.span else {
        bail!(
            "--correlate: {} has no line with a time that can be read",
            path.display()
        );
    };
    Ok(compare(
        path,
        &seen,
        ours,
        (first.max(window.from + 1), last.min(window.to)),
    ))
}

/// What was found in the other log.
#[derive(Debug, Default)]
struct Seen {
    /// The times of its first and last line.
    span: Option<(i64, i64)>,
    /// Failures by minute and name.
    failures: BTreeMap<i64, BTreeMap<String, u64>>,
    /// The same by status, in an access log.
    statuses: BTreeMap<i64, BTreeMap<u16, u64>>,
    names: BTreeSet<String>,
}

impl Seen {
    fn take(&mut self, lines: &[u8], other: &Other, window: Window, clock: &Clock) {
        let mut start = 0;
        let mut last = None;
        for end in memchr_iter(b'\n', lines) {
            let line = &lines[start..end];
            start = end + 1;
            last = Some(line);
            if self.span.is_none() {
                self.reach(line, clock);
            }
            if !is_failure(line, other.pattern.as_deref()) {
                continue;
            }
            let Some(time) = time(line, clock).filter(|at| *at > window.from && *at <= window.to)
            else {
                continue;
            };
            let mut name = name(line);
            if !self.names.contains(&name) {
                if self.names.len() == NAMES {
                    name = String::from("(others)");
                }
                self.names.insert(name.clone());
            }
            let minute = time - time.rem_euclid(60);
            let names = self.failures.entry(minute).or_default();
            *names.entry(name).or_default() += 1;
            if let Some(status) = access_status(line).and_then(number) {
                let statuses = self.statuses.entry(minute).or_default();
                *statuses.entry(status).or_default() += 1;
            }
        }
        if let Some(line) = last {
            self.reach(line, clock);
        }
    }

    fn reach(&mut self, line: &[u8], clock: &Clock) {
        if let Some(at) = time(line, clock) {
            let (first, last) = self.span.unwrap_or((at, at));
            self.span = Some((first.min(at), last.max(at)));
        }
    }
}

fn compare(path: &Path, seen: &Seen, ours: &BTreeMap<i64, u64>, span: (i64, i64)) -> Correlation {
    let (first, last) = (span.0.div_euclid(60), span.1.div_euclid(60));
    let within = |minute: &&i64| (first..=last).contains(&minute.div_euclid(60));
    let theirs: BTreeSet<i64> = seen.failures.keys().filter(within).copied().collect();
    let ours: BTreeSet<i64> = ours.keys().filter(within).copied().collect();
    let common = u64::try_from(last - first + 1).unwrap_or(0);
    let meet = |lag: i64| {
        let shifted = ours
            .iter()
            .filter(|minute| theirs.contains(&(*minute + lag * 60)));
        shifted.count() as u64
    };
    let (minutes, marked, overlap) = (theirs.len() as u64, ours.len() as u64, meet(0));
    let best_lag = (-LAGS..=LAGS)
        .map(|lag| (lag, meet(lag)))
        .max_by_key(|(lag, meeting)| (*meeting, -lag.abs()))
        .unwrap_or((0, overlap));
    let mut statuses = BTreeMap::new();
    let of_ours = |(minute, _): &(&i64, _)| ours.contains(minute);
    for (status, count) in seen.statuses.iter().filter(of_ours).flat_map(|(_, by)| by) {
        *statuses.entry(*status).or_default() += count;
    }
    let mut what: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, names) in seen
        .failures
        .iter()
        .filter(|(minute, _)| ours.contains(minute))
    {
        for (name, count) in names.iter().filter(|(name, _)| !name.is_empty()) {
            *what.entry(name).or_default() += count;
        }
    }
    let mut what: Vec<_> = what
        .into_iter()
        .map(|(name, n)| (name.to_owned(), n))
        .collect();
    what.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    what.truncate(10);
    Correlation {
        path: path.to_owned(),
        common,
        minutes,
        overlap,
        expected: minutes as f64 * marked as f64 / common.max(1) as f64,
        p_value: stats::hypergeometric_tail(common, marked, minutes, overlap),
        best_lag,
        what,
        statuses,
    }
}

/// Whether a line tells of a failure: by the text that was given, else by what its log calls one.
fn is_failure(line: &[u8], pattern: Option<&str>) -> bool {
    if let Some(pattern) = pattern {
        return memmem::find(line, pattern.as_bytes()).is_some();
    }
    if let Some(status) = access_status(line) {
        return status.starts_with(b"5");
    }
    [
        &b"CRITICAL"[..],
        b";DOWN;",
        b"] critical/",
        b"terminated with exit code 2",
    ]
    .iter()
    .any(|word| memmem::find(line, word).is_some())
}

/// Whether a line is one of a request, as an access log has it.
pub fn is_of_an_access_log(line: &[u8]) -> bool {
    access_status(line).is_some()
}

/// The status in an access log: the three digits behind the quoted request.
fn access_status(line: &[u8]) -> Option<&[u8]> {
    let request = memmem::find(line, b"] \"")? + 3;
    let end = memmem::find(&line[request..], b"\" ")? + request + 2;
    let status = line.get(end..end + 3)?;
    status.iter().all(u8::is_ascii_digit).then_some(status)
}

fn number(status: &[u8]) -> Option<u16> {
    std::str::from_utf8(status).ok()?.parse().ok()
}

/// What failed: the path's first step, a host and service, or nothing.
fn name(line: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    if access_status(line).is_some() {
        let request = memmem::find(line, b"] \"").map_or(&line[..0], |at| &line[at + 3..]);
        let path = memchr(b' ', request).map_or(&line[..0], |at| &request[at + 1..]);
        let mut steps = 0;
        let end = path.iter().position(|byte| {
            steps += u8::from(*byte == b'/');
            steps == 3 || b"?# \"".contains(byte)
        });
        return text(&path[..end.unwrap_or(path.len())]);
    }
    // Nagios: [time] SERVICE ALERT: host;service;CRITICAL;…
    if let Some(at) = memmem::find(line, b" ALERT: ") {
        let rest = &line[at + 8..];
        let words: Vec<_> = rest.split(|byte| *byte == b';').take(2).map(text).collect();
        return words.join("!");
    }
    // Icinga 2: … 'host!service' …
    let quoted = |line| {
        let from: &[u8] = memchr(b'\'', line).map(|at| &line[at + 1..])?;
        memchr(b'\'', from).map(|end| &from[..end])
    };
    quoted(line).map_or_else(String::new, text)
}

/// The time of a line: that of an access log, of Icinga 2, of Nagios, or one as ISO 8601 writes it near its start.
pub fn time(line: &[u8], clock: &Clock) -> Option<i64> {
    // A bracket within a record of JSON is no time's: a namespace has a number in it.
    let reach = if line.starts_with(b"{") {
        0
    } else {
        line.len().min(300)
    };
    // In an access log the user's name, which a request chooses, stands before the time.
    let of_a_request = || {
        let end = memmem::find(line, b"] \"")?;
        if line.starts_with(b"[") && access_status(line).is_none() {
            return None;
        }
        memrchr(b'[', &line[..end])
    };
    let open = if reach == 0 { None } else { of_a_request() };
    if let Some(open) = open.or_else(|| memchr(b'[', &line[..reach])) {
        let rest = &line[open + 1..];
        let inner =
            std::str::from_utf8(&rest[..memchr(b']', &rest[..rest.len().min(40)])?]).ok()?;
        if let Ok(second) = inner.parse::<i64>() {
            // A time beyond the year 9999 is a broken line's.
            return Timestamp::from_second(second)
                .ok()
                .map(Timestamp::as_second);
        }
        for form in ["%d/%b/%Y:%H:%M:%S %z", "%Y-%m-%d %H:%M:%S %z"] {
            if let Ok(time) = strtime::parse(form, inner).and_then(|time| time.to_timestamp()) {
                return Some(time.as_second());
            }
        }
    }
    let digit = line.iter().take(80).position(u8::is_ascii_digit)?;
    let rest = &line[digit..];
    let ascii = rest
        .iter()
        .take(40)
        .take_while(|byte| byte.is_ascii() && **byte != b'[');
    let text = std::str::from_utf8(&rest[..ascii.count()]).ok()?;
    let word = text.split([' ', '"']).next()?;
    if let Ok(time) = word.parse::<Timestamp>() {
        return Some(time.as_second());
    }
    let civil = text.get(..19)?;
    [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S",
        "%Y/%m/%d %H:%M:%S",
    ]
    .iter()
    .find_map(|form| DateTime::strptime(form, civil).ok())
    .and_then(|time| clock.at(time))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn clock() -> Clock {
        Clock::new(TimeZone::UTC, "2026-11-23T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn times_failures_and_names_of_many_logs_are_read() {
        let five = "2026-11-23T05:00:00Z"
            .parse::<Timestamp>()
            .unwrap()
            .as_second();
        for (line, fails, what) in [
            (
                r#"1.2.3.4 - - [23/Nov/2026:06:00:00 +0100] "GET /api/v1/x?a HTTP/1.1" 502 150 "-" "curl""#,
                true,
                "/api/v1",
            ),
            (
                r#"1.2.3.4 - - [23/Nov/2026:05:00:00 +0000] "GET /500 HTTP/1.1" 200 150 "-" "curl""#,
                false,
                "/500",
            ),
            (
                "[2026-11-23 05:00:00 +0000] information/Checkable: Checkable 'web1!http' is CRITICAL",
                true,
                "web1!http",
            ),
            (
                "[2026-11-23 05:00:00 +0000] critical/TcpSocket: Invalid socket",
                true,
                "",
            ),
            (
                "[2026-11-23 05:00:00 +0000] information/ConfigObject: Dumping",
                false,
                "",
            ),
            (
                "[1795410000] SERVICE ALERT: web1;http;CRITICAL;SOFT;1;HTTP 500",
                true,
                "web1!http",
            ),
            ("2026-11-23T05:00:00.123Z backup started CRITICAL", true, ""),
            ("2026-11-23 05:00:00 INFO nothing", false, ""),
            (
                r#"{"record":"ports","at":"2026-11-23T06:00:00.000+01:00","namespace":"net:[4026531840]"}"#,
                false,
                "",
            ),
        ] {
            assert_eq!(time(line.as_bytes(), &clock()), Some(five), "{line}");
            assert_eq!(is_failure(line.as_bytes(), None), fails, "{line}");
            assert_eq!(name(line.as_bytes()), what, "{line}");
        }
        // The name of a user is a request's to choose.
        for user in [
            "[9999999999]",
            "[1]",
            "[1] [2]",
            "[01/Jan/2020:00:00:00 +0000]",
            &"[1]".repeat(200),
        ] {
            for behind in [
                "\"GET / HTTP/1.1\" 500 1",
                "\"proxy1\" \"GET / HTTP/1.1\" 500 1",
            ] {
                let line = format!("192.0.2.1 - {user} [23/Nov/2026:05:00:00 +0000] {behind}");
                assert_eq!(time(line.as_bytes(), &clock()), Some(five), "{line}");
            }
        }
        let told = "[2026-11-23 05:00:00 +0000] information/Checkable: web1 [7] \"x\"";
        assert_eq!(time(told.as_bytes(), &clock()), Some(five));
        let millennia = "[655361795404955] SERVICE ALERT: a;b;OK;SOFT;1;x";
        for line in [
            "",
            "[",
            "no time",
            "[x] y",
            "99999",
            "2026-11-23",
            millennia,
        ] {
            assert_eq!(time(line.as_bytes(), &clock()), None, "{line}");
        }
    }

    #[test]
    fn what_coincides_is_told_from_what_chance_gives() {
        let mut seen = Seen::default();
        for minute in [10, 11, 12, 13, 14, 40] {
            let names = BTreeMap::from([("backup".to_owned(), 2)]);
            seen.failures.insert(minute * 60, names);
            seen.statuses
                .insert(minute * 60, [(500, 1), (502, 1)].into());
        }
        let ours: BTreeMap<i64, u64> = [9, 10, 11, 12, 13].map(|minute| (minute * 60, 7)).into();
        let found = compare(Path::new("x"), &seen, &ours, (0, 99 * 60));
        assert_eq!((found.common, found.minutes, found.overlap), (100, 6, 4));
        assert!((found.expected - 0.3).abs() < 1e-9 && found.p_value < 1e-4);
        assert_eq!(found.best_lag, (1, 5));
        assert_eq!(found.what, [("backup".to_owned(), 8)]);
        assert_eq!(found.statuses, [(500, 4), (502, 4)].into());
        let elsewhere = compare(Path::new("x"), &seen, &ours, (20 * 60, 99 * 60));
        assert_eq!((elsewhere.overlap, elsewhere.p_value), (0, 1.0));
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_stumble(line: Vec<u8>, start in "\\[?[0-9]{0,4}[-/ ]?.{0,30}") {
            let line = [start.as_bytes(), &line].concat();
            let _ = (time(&line, &clock()), is_failure(&line, None), name(&line));
        }
    }
}
