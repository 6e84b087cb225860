//! nginx' access log: all requests counted, those that failed by status, service, path and backend.

use super::facts::{Facts, Source};
use super::format::{Entry, Field, Format, list, path_prefix};
use super::group::Group;
use super::plan::Input;
use super::shares::Dimension;
use super::sort::{Origin, Sort};
use crate::nginx::clock::Clock;
use crate::nginx::search::Times;

/// How many lines are looked at to find a log's form.
const LOOK: usize = 50;

/// The lane of requests that nobody waited for: no failure of the server's by itself.
pub const GAVE_UP: &str = "499 (client gave up)";

/// What a service is called whose name no line tells.
const UNNAMED: &[u8] = b"(one service)";

/// Reads the lines of one access log.
pub struct Access<'a> {
    formats: &'a [Format],
    /// The form, once it was found, and the first lines, until then.
    format: Option<&'a Format>,
    waiting: Vec<Vec<u8>>,
    /// What the proxy is called.
    proxy: String,
    times: Times,
    /// The time that was read last, as it stands in the line.
    stamp: Vec<u8>,
    second: Option<i64>,
    /// Requests of that second that were not counted yet.
    requests: u64,
}

impl<'a> Access<'a> {
    /// One for a log of one of these forms.
    pub fn new(formats: &'a [Format], input: &Input, clock: &Clock) -> Self {
        Self {
            formats,
            format: None,
            waiting: Vec::new(),
            proxy: input
                .name
                .clone()
                .unwrap_or_else(|| input.path.display().to_string()),
            times: Times::by(clock.clone()),
            stamp: Vec::new(),
            second: None,
            requests: 0,
        }
    }

    /// Takes a line in.
    pub fn line(&mut self, line: &[u8], facts: &mut Facts<'_>, source: &mut Source) {
        if let Some(format) = self.format {
            self.take(format, line, facts, source);
            return;
        }
        self.waiting.push(line.to_vec());
        if self.waiting.len() == LOOK {
            self.choose(facts, source);
        }
    }

    /// Counts what was kept back.
    pub fn finish(&mut self, facts: &mut Facts<'_>, source: &mut Source) {
        if self.format.is_none() {
            self.choose(facts, source);
        }
        self.count(facts);
    }

    /// Takes the form that reads most of the first lines.
    fn choose(&mut self, facts: &mut Facts<'_>, source: &mut Source) {
        let waiting = std::mem::take(&mut self.waiting);
        // The one that reads most lines, and of several the one that finds most in them.
        let read = |format: &&Format| {
            let entries = waiting.iter().filter_map(|line| format.read(line));
            let good = entries.filter(|entry| status(entry).is_some() && self.is_time(entry));
            good.fold((0, 0), |(lines, fields), entry| {
                (lines + 1, fields + entry.count())
            })
        };
        let best = self.formats.iter().rev().max_by_key(read);
        let Some(best) = best else { return };
        self.format = Some(best);
        for line in waiting {
            self.take(best, &line, facts, source);
        }
    }

    fn is_time(&self, entry: &Entry<'_>) -> bool {
        entry
            .get(Field::Time)
            .is_some_and(|stamp| time(stamp, &self.times).is_some())
    }

    fn take(&mut self, format: &Format, line: &[u8], facts: &mut Facts<'_>, source: &mut Source) {
        let entry = format.read(line);
        let Some((entry, stamp, status)) =
            entry.and_then(|entry| Some((entry, entry.get(Field::Time)?, status(&entry)?)))
        else {
            source.unparsed += 1;
            return;
        };
        if stamp != self.stamp {
            self.count(facts);
            self.stamp.clear();
            self.stamp.extend_from_slice(stamp);
            self.second = time(stamp, &self.times);
        }
        let Some(at) = self.second else {
            source.unparsed += 1;
            return;
        };
        if !facts.plan.holds(at) {
            source.leave_line(at);
            return;
        }
        source.use_line(at);
        self.requests += 1;
        self.request(at, status, &entry, line, facts);
    }

    fn count(&mut self, facts: &mut Facts<'_>) {
        if let Some(at) = self.second.filter(|_| self.requests > 0) {
            facts
                .grid
                .add(at, Group::Requests, b"requests", self.requests as f64, None);
        }
        self.requests = 0;
    }

    fn request(&self, at: i64, status: u16, entry: &Entry<'_>, line: &[u8], facts: &mut Facts<'_>) {
        let failed = status >= 500;
        let server = entry
            .get(Field::Server)
            .filter(|name| *name != b"_" && *name != b"localhost");
        let named = server.or(entry.get(Field::Host));
        let service = named.unwrap_or(UNNAMED);
        let path = entry.target().map_or(&b"(none)"[..], path_prefix);
        let of = |dimension| (Origin::AccessLog, dimension);
        facts
            .shares
            .add(at, failed, of(Dimension::Service), service, b"");
        facts.shares.add(
            at,
            failed,
            of(Dimension::Proxy),
            service,
            self.proxy.as_bytes(),
        );
        facts
            .shares
            .add(at, failed, of(Dimension::Path), service, path);
        backends(at, service, status, entry, facts);
        if !failed && status != 499 {
            return;
        }
        // Statuses are three digits.
        let mut digits = [0; 3];
        digits.copy_from_slice(
            &[status / 100, status / 10 % 10, status % 10]
                .map(|digit| b'0' + digit.to_le_bytes()[0]),
        );
        if status == 499 {
            facts
                .grid
                .add(at, Group::Status, GAVE_UP.as_bytes(), 1.0, Some(line));
            return;
        }
        facts.failure(at, Group::Status, &digits, line);
        if named.is_some() {
            facts.also(at, Group::Service, service);
        }
        facts.also(at, Group::Path, path);
        let sort = (status == 504).then_some(Sort::SlowUpstream);
        facts.blame(at, Origin::AccessLog, sort, entry.get(Field::Upstream));
    }
}

/// Each try at a backend by itself: nginx may have gone on to the next one.
fn backends(at: i64, service: &[u8], status: u16, entry: &Entry<'_>, facts: &mut Facts<'_>) {
    let slowest = entry
        .get(Field::UpstreamTime)
        .into_iter()
        .flat_map(list)
        .chain(entry.get(Field::RequestTime))
        .filter_map(seconds)
        .fold(None, |most: Option<f64>, one| {
            Some(most.map_or(one, |most| most.max(one)))
        });
    let Some(upstreams) = entry.get(Field::Upstream) else {
        if let Some(slowest) = slowest {
            facts.grid.add(at, Group::Time, service, slowest, None);
        }
        return;
    };
    let mut statuses = entry.get(Field::UpstreamStatus).into_iter().flat_map(list);
    let mut times = entry.get(Field::UpstreamTime).into_iter().flat_map(list);
    let mut left = list(upstreams).take(32).peekable();
    while let Some(upstream) = left.next() {
        // Without statuses of their own: all tries but the last one have failed.
        let failed = match statuses.next().map(number) {
            Some(Some(status)) => status >= 500,
            Some(None) => true,
            None => left.peek().is_some() || status >= 500,
        };
        facts.shares.add(
            at,
            failed,
            (Origin::AccessLog, Dimension::Backend),
            service,
            upstream,
        );
        if failed {
            facts.also(at, Group::Backend, upstream);
        }
        let alone = times.next().and_then(seconds);
        if let Some(time) = alone.or(slowest) {
            facts.grid.add(at, Group::Time, upstream, time, None);
        }
    }
}

fn status(entry: &Entry<'_>) -> Option<u16> {
    entry.get(Field::Status).and_then(number)
}

/// A status: three digits.
fn number(text: &[u8]) -> Option<u16> {
    let [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = *text else {
        return None;
    };
    Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
}

/// `0.123`, of a day at most.
fn seconds(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let seconds: f64 = text.parse().ok()?;
    (0.0..=86_400.0).contains(&seconds).then_some(seconds)
}

/// What stands in `$time_local`, `$time_iso8601` or `$msec`.
fn time(stamp: &[u8], times: &Times) -> Option<i64> {
    let text = std::str::from_utf8(stamp).ok()?;
    if let Some((seconds, _)) = text.split_once('.')
        && let Ok(second) = seconds.parse::<i64>()
    {
        return (0..=250_000_000_000).contains(&second).then_some(second);
    }
    if stamp.get(2) == Some(&b'/') {
        let mut line = Vec::with_capacity(stamp.len() + 2);
        line.push(b'[');
        line.extend_from_slice(stamp);
        line.push(b']');
        return times.of(&line);
    }
    times.of(stamp)
}
