//! Logs of Icinga 2 (main, debug, compat) and of Nagios: results that are not OK, runs of plugins that failed, and what
//! the daemon itself calls critical.

use std::collections::VecDeque;

use memchr::{memchr, memmem};

use super::command::{self, Shown};
use super::facts::{Facts, Source};
use super::group::Group;
use super::heard::{APART, New};
use super::shares::Dimension;
use super::sort::{Origin, Sort};
use crate::nginx::clock::Clock;
use crate::nginx::search::Times;

/// How many passive results of a moment are kept waiting for their alerts.
const WAITING: usize = 1000;

/// Reads the lines of one log.
pub struct Monitoring {
    times: Times,
    /// The stamp that was read last, and its time.
    stamp: Vec<u8>,
    second: Option<i64>,
    /// Passive results that were told a moment ago.
    waiting: VecDeque<Told>,
}

impl Monitoring {
    /// One for a log of this clock's.
    pub fn new(clock: &Clock) -> Self {
        Self {
            times: Times::by(clock.clone()),
            stamp: Vec::new(),
            second: None,
            waiting: VecDeque::new(),
        }
    }

    /// Takes a line in.
    pub fn line(&mut self, line: &[u8], facts: &mut Facts<'_>, source: &mut Source) {
        let close = line
            .starts_with(b"[")
            .then(|| memchr(b']', &line[..line.len().min(40)]))
            .flatten();
        let Some(close) = close else {
            // Output and messages of several lines go on like this.
            source.unparsed += u64::from(self.second.is_none());
            return;
        };
        if line[..=close] != self.stamp[..] {
            self.stamp.clear();
            self.stamp.extend_from_slice(&line[..=close]);
            self.second = self.times.of(&self.stamp);
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
        facts.grid.reach(at);
        let told = line[close + 1..].trim_ascii_start();
        self.settle(at - APART, facts);
        if !line[1..close].iter().all(u8::is_ascii_digit) {
            icinga(at, told, line, facts);
        } else if let Some((told, is_passive)) = nagios(at, told, line) {
            if is_passive {
                // Nagios 4.4 writes the state that was before, and the new one in the alert behind it.
                self.waiting.push_back(told);
                return;
            }
            self.waiting.retain(|waiting| waiting.name != told.name);
            result(&told, facts);
        }
    }

    /// Counts what no alert followed.
    fn settle(&mut self, until: i64, facts: &mut Facts<'_>) {
        while self
            .waiting
            .front()
            .is_some_and(|told| told.at < until || self.waiting.len() > WAITING)
        {
            if let Some(told) = self.waiting.pop_front() {
                result(&told, facts);
            }
        }
    }

    /// The log is at its end.
    pub fn finish(&mut self, facts: &mut Facts<'_>) {
        self.settle(i64::MAX, facts);
        facts.heard.end();
    }
}

/// A result of a host, or of a service as `host!service`.
struct Told {
    at: i64,
    name: Vec<u8>,
    state: Vec<u8>,
    output: Vec<u8>,
    line: Vec<u8>,
}

/// `SERVICE ALERT: host;service;CRITICAL;SOFT;1;output` and its like, and whether it is a passive result.
fn nagios(at: i64, told: &[u8], line: &[u8]) -> Option<(Told, bool)> {
    let colon = memmem::find(told, b": ")?;
    let rest = &told[colon + 2..];
    let mut words = rest.split(|byte| *byte == b';');
    let mut next = || words.next().unwrap_or_default();
    let (name, state, output) = match &told[..colon] {
        b"SERVICE ALERT" => ([next(), b"!", next()].concat(), next(), nth(rest, 5)),
        b"HOST ALERT" => (next().to_vec(), next(), nth(rest, 4)),
        b"PASSIVE SERVICE CHECK" => {
            let name = [next(), b"!", next()].concat();
            (name, service_state(next()), nth(rest, 3))
        }
        b"PASSIVE HOST CHECK" => (next().to_vec(), host_state(next()), nth(rest, 2)),
        _ => return None,
    };
    let told_now = Told {
        at,
        name,
        state: state.to_vec(),
        output: output.to_vec(),
        line: line.to_vec(),
    };
    Some((told_now, told.starts_with(b"PASSIVE")))
}

/// The word for a number, as alerts have it.
fn service_state(code: &[u8]) -> &[u8] {
    match code {
        b"0" => b"OK",
        b"1" => b"WARNING",
        b"2" => b"CRITICAL",
        _ => b"UNKNOWN",
    }
}

fn host_state(code: &[u8]) -> &[u8] {
    match code {
        b"0" => b"UP",
        b"1" => b"DOWN",
        _ => b"UNREACHABLE",
    }
}

/// What stands behind so many semicolons.
fn nth(mut text: &[u8], count: usize) -> &[u8] {
    for _ in 0..count {
        let Some(at) = memchr(b';', text) else {
            return &[];
        };
        text = &text[at + 1..];
    }
    text
}

fn is_well(state: &[u8]) -> bool {
    matches!(state, b"OK" | b"UP" | b"PENDING")
}

fn result(told: &Told, facts: &mut Facts<'_>) {
    let (at, name, failed) = (told.at, &told.name[..], !is_well(&told.state));
    let sort = Sort::of_words(&told.output).filter(|_| failed);
    match facts.heard.result(at, name, &told.state, sort.is_some()) {
        New::Everything => {}
        New::Sort => return facts.explain(at, Origin::Checks, sort, Some(name)),
        New::Nothing => return,
    }
    facts
        .shares
        .add(at, failed, (Origin::Checks, Dimension::Service), name, b"");
    if failed {
        facts.failure(at, Group::Check, name, &told.line);
        facts.blame(at, Origin::Checks, sort, Some(name));
    }
}

/// `notice/Checkable: State Change: Checkable 'web1!http' soft state change from OK to CRITICAL detected.`, the ends of
/// plugins' processes, plugins that are none, and lines of level critical.
fn icinga(at: i64, told: &[u8], line: &[u8], facts: &mut Facts<'_>) {
    if let Some(rest) = behind(told, b"/Checkable: State Change: Checkable '") {
        let Some(end) = memmem::find(rest, b"' ") else {
            return;
        };
        if let Some(states) = behind(&rest[end..], b" to ") {
            let state = &states[..memchr(b' ', states).unwrap_or(states.len())];
            let told = Told {
                at,
                name: rest[..end].to_vec(),
                state: state.to_vec(),
                output: Vec::new(),
                line: line.to_vec(),
            };
            result(&told, facts);
        }
    } else if let Some(rest) = behind(told, b"/Process: PID ") {
        if let Some((command, code)) = ended(rest) {
            run(at, command, code, line, facts);
        }
    } else if let Some(rest) = behind(told, b"/PluginCheckTask: Check command for object '") {
        broken_plugin(at, rest, line, facts);
    } else if told.starts_with(b"critical/") {
        let facility = &told[9..];
        let end = memchr(b':', facility).unwrap_or(facility.len());
        if facts.heard.is_new(line) {
            facts.failure(at, Group::Daemon, &facility[..end], line);
        }
    }
}

/// `web1!http' (PID: 7, arguments: '/x/check_http' '-a' 'me:secret') terminated with exit code 128, output: …`: no result of
/// a check but none at all, and in the main log, too. What the plugin was told is not shown.
fn broken_plugin(at: i64, rest: &[u8], line: &[u8], facts: &mut Facts<'_>) {
    let ended = b") terminated with exit code ";
    let (Some(end), Some(code)) = (memmem::find(rest, b"' (PID: "), memmem::rfind(rest, ended))
    else {
        return;
    };
    let stamp = &line[..memchr(b']', line).map_or(0, |at| at + 1)];
    let name = [b"plugin of ", &rest[..end]].concat();
    let code = &rest[code + 2..];
    let (code, output) = code.split_at(memchr(b',', code).unwrap_or(code.len()));
    let says = |words: &[u8]| memmem::find(output, words).is_some();
    let why: &[u8] = if says(b"output: execvpe(") {
        b": it could not be started"
    } else if says(b"<Timeout exceeded.>") {
        b": it did not end in time"
    } else {
        b""
    };
    let shown = [stamp, b" ", &name, b" ", code, why].concat();
    if facts.heard.is_new(line) {
        facts.failure(at, Group::Daemon, &name, &shown);
    }
}

/// What stands behind a text near the start.
fn behind<'a>(told: &'a [u8], text: &[u8]) -> Option<&'a [u8]> {
    let reach = &told[..told.len().min(300)];
    memmem::find(reach, text).map(|at| &told[at + text.len()..])
}

/// `26503 ('/usr/lib/nagios/plugins/check_http' '-I' '192.0.2.7') terminated with exit code 2`
fn ended(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let open = memmem::find(rest, b" (")?;
    let close = memmem::rfind(rest, b") terminated with exit code ")?;
    let code = &rest[close + b") terminated with exit code ".len()..];
    (open + 2 <= close).then(|| (&rest[open + 2..close], code.trim_ascii()))
}

/// A run of a plugin, named by what it looked at.
fn run(at: i64, command: &[u8], code: &[u8], line: &[u8], facts: &mut Facts<'_>) {
    let Some(Shown { name, address }) = command::shown(command) else {
        return;
    };
    let failed = code != b"0";
    facts
        .shares
        .add(at, failed, (Origin::Checks, Dimension::Service), &name, b"");
    if let Some(address) = address {
        facts.shares.add(
            at,
            failed,
            (Origin::Checks, Dimension::Address),
            &name,
            &address,
        );
    }
    if failed {
        // The line itself has all arguments.
        let stamp = &line[..memchr(b']', line).map_or(0, |at| at + 1)];
        let shown = [stamp, b" ", &name, b" terminated with exit code ", code].concat();
        facts.failure(at, Group::Run, &name, &shown);
        facts.blame(at, Origin::Checks, None, None);
    }
}
