//! Logs of Icinga 2 (main, debug, compat) and of Nagios: results that are not OK, runs of plugins that failed, and what
//! the daemon itself calls critical.

use memchr::{memchr, memmem};

use super::facts::{Facts, Source};
use super::group::Group;
use super::shares::Dimension;
use super::sort::{Origin, Sort};
use crate::nginx::clock::Clock;
use crate::nginx::search::Times;

/// Reads the lines of one log.
pub struct Monitoring {
    times: Times,
    /// The stamp that was read last, and its time.
    stamp: Vec<u8>,
    second: Option<i64>,
}

impl Monitoring {
    /// One for a log of this clock's.
    pub fn new(clock: &Clock) -> Self {
        Self {
            times: Times::by(clock.clone()),
            stamp: Vec::new(),
            second: None,
        }
    }

    /// Takes a line in.
    pub fn line(&mut self, line: &[u8], facts: &mut Facts<'_>, source: &mut Source) {
        let close = line
            .starts_with(b"[")
            .then(|| memchr(b']', &line[..line.len().min(40)]))
            .flatten();
        let Some(close) = close else {
            // Output of several lines goes on like this.
            source.unparsed += 1;
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
            return;
        }
        source.use_line(at);
        facts.grid.reach(at);
        let told = line[close + 1..].trim_ascii_start();
        if line[1..close].iter().all(u8::is_ascii_digit) {
            nagios(at, told, line, facts);
        } else {
            icinga(at, told, line, facts);
        }
    }
}

/// `SERVICE ALERT: host;service;CRITICAL;SOFT;1;output` and its like.
fn nagios(at: i64, told: &[u8], line: &[u8], facts: &mut Facts<'_>) {
    let Some(colon) = memmem::find(told, b": ") else {
        return;
    };
    let rest = &told[colon + 2..];
    let mut words = rest.split(|byte| *byte == b';');
    let mut next = || words.next().unwrap_or_default();
    let (name, state, output) = match &told[..colon] {
        b"SERVICE ALERT" => {
            let name = [next(), b"!", next()].concat();
            let state = next();
            (name, state, nth(rest, 5))
        }
        b"HOST ALERT" => (next().to_vec(), next(), nth(rest, 4)),
        b"PASSIVE SERVICE CHECK" => {
            let name = [next(), b"!", next()].concat();
            let state = next();
            (name, state, nth(rest, 3))
        }
        _ => return,
    };
    result(at, &name, state, output, line, facts);
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
    matches!(state, b"OK" | b"UP" | b"0" | b"PENDING")
}

fn result(at: i64, name: &[u8], state: &[u8], output: &[u8], line: &[u8], facts: &mut Facts<'_>) {
    let failed = !is_well(state);
    facts
        .shares
        .add(at, failed, (Origin::Checks, Dimension::Service), name, b"");
    if failed {
        facts.failure(at, Group::Check, name, line);
        facts.blame(at, Origin::Checks, Sort::of_words(output), Some(name));
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
            result(at, &rest[..end], state, b"", line, facts);
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
        facts.failure(at, Group::Daemon, &facility[..end], line);
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
    let code = &code[..memchr(b',', code).unwrap_or(code.len())];
    let shown = [stamp, b" ", &name, b" ", code].concat();
    facts.failure(at, Group::Daemon, &name, &shown);
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

/// A run of a plugin, named by what it looked at. Of its arguments only those are shown that name that: the others may
/// hold passwords.
fn run(at: i64, command: &[u8], code: &[u8], line: &[u8], facts: &mut Facts<'_>) {
    let words: Vec<&[u8]> = command
        .split(|byte| *byte == b'\'')
        .skip(1)
        .step_by(2)
        .take(100)
        .collect();
    let Some(program) = words.first() else { return };
    let failed = code != b"0";
    let mut name = program[memchr::memrchr(b'/', program).map_or(0, |at| at + 1)..].to_vec();
    let mut address = None;
    for pair in words.windows(2) {
        if !matches!(
            pair[0],
            b"-H" | b"-I" | b"-u" | b"-p" | b"--hostname" | b"--IP-address" | b"--url" | b"--port"
        ) {
            continue;
        }
        // What stands behind the question mark may be a secret.
        let value = &pair[1][..memchr(b'?', pair[1]).unwrap_or(pair[1].len())];
        name.extend_from_slice(b" ");
        name.extend_from_slice(value);
        if matches!(pair[0], b"-I" | b"--IP-address") {
            address = Some(value);
        }
    }
    facts
        .shares
        .add(at, failed, (Origin::Checks, Dimension::Service), &name, b"");
    if let Some(address) = address {
        facts.shares.add(
            at,
            failed,
            (Origin::Checks, Dimension::Address),
            &name,
            address,
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
