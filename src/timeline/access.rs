//! nginx' access log: all requests counted, those that failed by status, service, path and backend.

use std::borrow::Cow;

use super::facts::{Facts, Source};
use super::format::{Entry, Field, Format, list, path_prefix};
use super::group::Group;
use super::plan::Input;
use super::shares::Dimension;
use super::sort::{Origin, Sort};
use crate::nginx::clock::Clock;
use crate::nginx::search::Times;
use crate::nginx::wrapping::{Wrapping, has_syslog_header};

/// How many lines are looked at to find a log's form.
const LOOK: usize = 50;

/// The lane of requests that nobody waited for: no failure of the server's by itself.
pub const GAVE_UP: &str = "499 (client gave up)";

/// What a service is called whose name no line tells.
const UNNAMED: &[u8] = b"(one service)";

/// How a log is written.
#[derive(Debug, Clone, Copy)]
struct Form<'a> {
    format: &'a Format,
    /// Whether lines may stand behind syslog's header. Such a line may well be of the format with its header, as a host
    /// called `<190>Nov`, and one without a header may begin as those do, with a time.
    in_syslog: bool,
}

impl Form<'_> {
    /// A line as nginx wrote it.
    fn unwrap<'b>(&self, line: &'b [u8]) -> Cow<'b, [u8]> {
        if self.in_syslog && has_syslog_header(line) {
            return Wrapping::Syslog.unwrap(line);
        }
        Cow::Borrowed(line)
    }
}

/// Reads the lines of one access log.
pub struct Access<'a> {
    formats: &'a [Format],
    /// The form, once it was found, and the first lines, until then.
    form: Option<Form<'a>>,
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
            form: None,
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
        if let Some(form) = self.form {
            self.take(form, line, facts, source);
            return;
        }
        self.waiting.push(line.to_vec());
        if self.waiting.len() == LOOK {
            self.choose(facts, source);
        }
    }

    /// Counts what was kept back.
    pub fn finish(&mut self, facts: &mut Facts<'_>, source: &mut Source) {
        if self.form.is_none() {
            self.choose(facts, source);
        }
        self.count(facts);
    }

    /// Takes the form that reads most of the first lines.
    fn choose(&mut self, facts: &mut Facts<'_>, source: &mut Source) {
        let waiting = std::mem::take(&mut self.waiting);
        // The one that reads most lines, of several the one that finds most in them, and of these the one that knows
        // syslog's header as such.
        let read = |form: &Form<'_>| {
            let texts = waiting.iter().map(|line| form.unwrap(line));
            texts.fold((0, 0), |(lines, fields), text| {
                match form.format.read(&text) {
                    Some(entry) if status(&entry).is_some() && self.is_time(&entry) => {
                        (lines + 1, fields + entry.count())
                    }
                    _ => (lines, fields),
                }
            })
        };
        let headers = waiting.iter().filter(|line| has_syslog_header(line));
        let may_be_syslog = headers.count() * 2 > waiting.len();
        let forms = self
            .formats
            .iter()
            .rev()
            .flat_map(|format| [false, true].map(|in_syslog| Form { format, in_syslog }))
            .filter(|form| may_be_syslog || !form.in_syslog);
        let Some(best) = forms.max_by_key(read) else {
            return;
        };
        self.form = Some(best);
        for line in waiting {
            self.take(best, &line, facts, source);
        }
    }

    fn is_time(&self, entry: &Entry<'_>) -> bool {
        entry
            .get(Field::Time)
            .is_some_and(|stamp| time(stamp, &self.times).is_some())
    }

    fn take(&mut self, form: Form<'_>, line: &[u8], facts: &mut Facts<'_>, source: &mut Source) {
        let line = &form.unwrap(line)[..];
        let entry = form.format.read(line);
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::super::plan::Kind;
    use super::*;
    use crate::timeline::fuzzing;

    const TOLD: &str = r#"$host $remote_addr - $remote_user [$time_local] "$request" $status"#;
    const JSON: &str = r#"{"at":"$time_iso8601","host":"$host","status":"$status"}"#;
    const ISO: &str = r#"$time_iso8601 $remote_addr "$request" $status $host"#;

    /// The services that failed, and how many lines were not understood.
    fn failed(format: &str, lines: &[String]) -> (Vec<String>, u64) {
        let input = Input {
            kind: Kind::Access,
            path: PathBuf::from("log"),
            name: None,
        };
        let plan = fuzzing::plan(vec![Format::new(format).unwrap(), Format::combined()]);
        let now = Timestamp::from_second(1_795_500_000).unwrap();
        let clock = Clock::new(TimeZone::UTC, now);
        let (mut facts, mut source) = (Facts::new(&plan), Source::default());
        let mut access = Access::new(&plan.formats, &input, &clock);
        for line in lines {
            access.line(line.as_bytes(), &mut facts, &mut source);
        }
        access.finish(&mut facts, &mut source);
        let rows = facts.grid.finish(8).1;
        let services = rows.iter().filter(|lane| lane.group == Group::Service);
        let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        let mut names: Vec<_> = services.map(|lane| name(&lane.name)).collect();
        names.sort();
        (names, source.unparsed)
    }

    fn told(host: &str, status: u16) -> String {
        format!(r#"{host} 192.0.2.1 - - [23/Nov/2026:05:00:00 +0000] "GET / HTTP/1.1" {status}"#)
    }

    #[test]
    fn a_service_is_not_called_what_syslog_puts_before_it() {
        let json = r#"{"at":"2026-11-23T05:00:00+00:00","host":"a.example","status":"502"}"#;
        let iso = r#"2026-11-23T05:00:00+00:00 192.0.2.1 "GET / HTTP/1.1" 502 a.example"#;
        for header in [
            "",
            "<190>Nov 23 05:00:00 vm nginx: ",
            "<190>Nov 23 05:00:00 nginx: ",
            "Nov  3 05:00:00 vm proxy1: ",
            "2026-11-23T05:00:00.123456+00:00 vm nginx: ",
            "2026-11-23T05:00:00+00:00 vm nginx[7]: ",
            "<190>1 2026-11-23T05:00:00Z vm nginx - - - ",
        ] {
            for (format, line) in [
                (TOLD, &told("a.example", 502)[..]),
                (JSON, json),
                (ISO, iso),
            ] {
                // Lines of an error log and of others stand beside them.
                let others = [
                    "sshd[7]: Invalid user a",
                    "nginx: 2026/11/23 05:00:00 [error] 7#7: x",
                ];
                let mut lines = vec![format!("{header}{line}"); 60];
                let of_others = others.map(|other| format!("Nov 23 05:00:00 vm {other}"));
                lines.splice(0..0, of_others);
                let found = failed(format, &lines);
                assert_eq!(found, (vec!["a.example".to_owned()], 2), "{header}{line}");
            }
        }
    }

    #[test]
    fn lines_that_look_like_syslogs_change_no_others() {
        // A request of which the form begins with what it chose.
        let mut lines = vec![told("a.example", 502); 30];
        let forged = format!("Nov 23 05:00:00 vm nginx: {}", told("b.example", 502));
        lines.extend(vec![forged.clone(); 29]);
        lines.extend(vec![forged; 50]);
        assert_eq!(failed(TOLD, &lines).0, ["Nov", "a.example"]);
        // Lines of a form with a time at its begin, with what stands behind a tag further on.
        let line = r#"2026-11-23T05:00:00+00:00 192.0.2.1 "GET /: HTTP/1.1" 502 a.example"#;
        let found = failed(ISO, &vec![line.to_owned(); 60]);
        assert_eq!(found, (vec!["a.example".to_owned()], 0));
    }

    #[test]
    fn a_log_that_was_plain_before_syslog_had_it_is_read_in_both_parts() {
        let header = "<190>Nov 23 05:00:00 vm nginx: ";
        let mut lines = vec![format!("{header}{}", told("a.example", 502)); 50];
        lines.push(told("b.example", 502));
        let (names, unparsed) = failed(TOLD, &lines);
        assert_eq!(
            (names, unparsed),
            (vec!["a.example".to_owned(), "b.example".to_owned()], 0)
        );
    }
}
