//! One reply and what was asked of it, to a state and `check_http`'s words. No I/O.

use std::time::Duration;

use memchr::memmem;

use super::age;
use super::args::OnRedirect;
use super::exchange::Received;
use super::expect::{PhaseLimits, Statuses};
use super::jsonpath::{self, JsonCheck};
use super::pattern::Pattern;
use super::probe::Kind;
use super::reply::Reply;
use super::target::Target;
use crate::plugin::{Limits, Range, State};

/// What stands in place of the end of a longer text, and how long a text of the user's is shown.
const SHOWN: usize = 26;

/// What is asked of a reply.
#[derive(Debug, Clone)]
pub struct Checks {
    /// Texts, divided by commas, of which the status line must hold one. With it the status itself does not count.
    pub expect: Option<String>,
    /// It is the last reply that must hold it, behind the redirects.
    pub expect_last: bool,
    /// The statuses that are good.
    pub statuses: Option<Statuses>,
    /// What the headers must hold.
    pub header: Option<String>,
    /// What the page must hold.
    pub string: Option<String>,
    /// What the page must match.
    pub regex: Option<Pattern>,
    /// It must not match instead.
    pub invert_regex: bool,
    /// What the page must hold as JSON.
    pub json: Vec<JsonCheck>,
    /// How bad it is where the expression does not hold.
    pub state_regex: State,
    /// How much older than the server's time the page may be.
    pub max_age: Option<Duration>,
    /// The size it must have.
    pub size: Option<Size>,
    /// Seconds that a probe may take.
    pub time: Limits,
    /// The same as given, also where they are for a percentile: what performance data shows.
    pub run_time: Limits,
    /// Seconds that its phases may take.
    pub phases: PhaseLimits,
    /// The same as given.
    pub run_phases: PhaseLimits,
}

/// Bounds of a size in bytes, headers included; 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

impl Size {
    /// The sizes that are good, where it is not all of them. Of two bounds that cross, the lower one is held against a
    /// size last.
    pub fn as_range(self) -> Option<Range> {
        let text = match (self.min, self.max) {
            (0, 0) => return None,
            (min, max) if max < min => format!("{min}:"),
            (min, max) => format!("{min}:{max}"),
        };
        text.parse().ok()
    }
}

/// What is thought of a reply, or of an exchange without one.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// How bad it is.
    pub state: State,
    /// Why it counts as failed.
    pub kind: Option<Kind>,
    /// In words.
    pub words: String,
    /// Whether size and time belong to the words.
    pub sized: bool,
    /// The status, where there is one.
    pub status: Option<u16>,
}

impl Judgement {
    /// One that ends a probe then and there.
    pub fn final_word(state: State, kind: Kind, words: String) -> Self {
        Self {
            state,
            kind: Some(kind),
            words,
            sized: false,
            status: None,
        }
    }

    /// Makes it at least as bad as this; the first reason stays.
    pub fn worsen(&mut self, state: State, kind: Kind) {
        if state > self.state {
            self.state = state;
        }
        if state != State::Ok {
            self.kind.get_or_insert(kind);
        }
    }

    /// Whether the reply points elsewhere and `-f` says to go there.
    pub fn follows(&self, checks: &Checks, action: OnRedirect) -> bool {
        (checks.expect.is_none() || checks.expect_last) && leads_on(self.status, action)
    }
}

impl Checks {
    /// Judges status line and status. `Err`: that is the last word.
    pub fn judge_status(
        &self,
        reply: &Reply,
        target: &Target,
        action: OnRedirect,
    ) -> Result<Judgement, Judgement> {
        let line = reply.status_line();
        let status = status_of(&line);
        let critical = |words| {
            let kind = status.map_or(Kind::Protocol, Kind::of_status);
            Err(Judgement {
                status,
                ..Judgement::final_word(State::Critical, kind, words)
            })
        };
        let on_the_way = leads_on(status, action) && !stays(reply, action);
        let expect = self.expect.as_deref();
        let expect = expect.filter(|_| !(self.expect_last && on_the_way));
        let expected = expect.unwrap_or(if reply.http2 { "HTTP/2" } else { "HTTP/1." });
        let mut texts = expected.split(',').filter(|text| !text.is_empty());
        if !texts.any(|text| line.contains(text)) {
            let port = match target.port {
                80 => String::new(),
                port => format!(" on port {port}"),
            };
            return critical(format!(
                "Invalid HTTP response received from host{port}: {line}"
            ));
        }
        let mut judgement = Judgement {
            state: State::Ok,
            kind: None,
            words: line.clone().into_owned(),
            sized: true,
            status,
        };
        let listed = self.statuses.as_ref().filter(|_| !on_the_way);
        if expect.is_some() {
            judgement.words = format!("Status line output matched \"{expected}\"");
        }
        if let Some(statuses) = listed
            && status.is_some()
        {
            statuses.judge(&mut judgement);
            return Ok(judgement);
        }
        if expect.is_some() && listed.is_none() {
            return Ok(judgement);
        }
        match status {
            None => return critical(format!("Invalid Status Line ({line})")),
            Some(500..=599) => judgement.worsen(State::Critical, Kind::Http5xx),
            Some(400..=499) => judgement.worsen(State::Warning, Kind::Http4xx),
            Some(300..=399) => judgement.worsen(redirect_state(action), Kind::Redirect),
            Some(100..=299) => {}
            Some(_) => return critical(format!("Invalid Status ({line})")),
        }
        Ok(judgement)
    }

    /// Judges the rest: headers, page, size, and whether all of it came.
    pub fn judge_content(
        &self,
        judgement: &mut Judgement,
        received: &Received,
        size: u64,
        target: &Target,
    ) {
        let reply = &received.reply;
        let mut notes = Vec::new();
        let mut note = |state, kind, text: String| {
            judgement.worsen(state, kind);
            notes.push(text);
        };
        if let Some((kind, why)) = &received.damage {
            let text = format!("the reply was cut off after {size} bytes: {why}");
            note(State::Critical, *kind, text);
        }
        if let Some((state, text)) = self.max_age.and_then(|age| age::judge(reply, age)) {
            note(state, Kind::Content, text);
        }
        let missing = |text: &str| format!("'{}' not found on '{}'", shown(text), target.url());
        if let Some(text) = &self.header
            && memmem::find(reply.headers(), text.as_bytes()).is_none()
        {
            let text = format!("header {}", missing(text));
            note(State::Critical, Kind::Content, text);
        }
        let cut = if reply.page_cut {
            format!(" (the first {} bytes were searched)", reply.page.len())
        } else {
            String::new()
        };
        if let Some(text) = &self.string
            && memmem::find(&reply.page, text.as_bytes()).is_none()
        {
            let text = format!("string {}{cut}", missing(text));
            note(State::Critical, Kind::Content, text);
        }
        if let Some(regex) = &self.regex {
            let found = regex.is_match(&reply.page, reply.page_cut);
            if found == self.invert_regex {
                let not = if found { "" } else { "not " };
                let text = format!("pattern {not}found{cut}");
                note(self.state_regex, Kind::Content, text);
            }
        }
        for (state, text) in jsonpath::judge(&self.json, reply) {
            note(state, Kind::Content, text);
        }
        if let Some(bounds) = self.size {
            if bounds.max > 0 && size > bounds.max {
                let text = format!("page size {size} too large");
                note(State::Warning, Kind::Content, text);
            } else if bounds.min > 0 && size < bounds.min {
                let text = format!("page size {size} too small");
                note(State::Warning, Kind::Content, text);
            }
        }
        if !notes.is_empty() {
            judgement.words = format!("{} - {}", judgement.words, notes.join(", "));
        }
    }

    /// Judges the time that a probe with a reply took, some of it waiting for a CPU. Returns whether it is good for that alone.
    pub fn judge_time(
        &self,
        judgement: &mut Judgement,
        elapsed: Duration,
        waited: Duration,
    ) -> bool {
        if !judgement.sized {
            return false;
        }
        let (state, excused) = milder(&self.time, elapsed, waited);
        judgement.worsen(state, Kind::Slow);
        excused
    }
}

/// What a time comes to, when some of it may have been spent waiting for a CPU of this host: how much of it the server
/// took meanwhile nobody knows, and only what is slow in any case is. Also whether the wait made a difference.
pub fn milder(limits: &Limits, time: Duration, waited: Duration) -> (State, bool) {
    let state = limits.judge(time.as_secs_f64());
    if state == State::Ok || waited.is_zero() {
        return (state, false);
    }
    let least = limits.judge(time.saturating_sub(waited).as_secs_f64());
    (state.min(least), least < state)
}

/// Whether a status points elsewhere and `-f` says to go there.
/// Whether a redirect names no place to go to, which is the last reply for curl.
pub fn stays(reply: &Reply, action: OnRedirect) -> bool {
    action == OnRedirect::Curl && reply.header("location").is_none()
}

fn leads_on(status: Option<u16>, action: OnRedirect) -> bool {
    status.is_some_and(|status| (300..400).contains(&status))
        && matches!(
            action,
            OnRedirect::Follow | OnRedirect::Sticky | OnRedirect::Stickyport | OnRedirect::Curl
        )
}

fn redirect_state(action: OnRedirect) -> State {
    match action {
        OnRedirect::Warning => State::Warning,
        OnRedirect::Critical => State::Critical,
        OnRedirect::Unknown => State::Unknown,
        OnRedirect::Ok
        | OnRedirect::Follow
        | OnRedirect::Sticky
        | OnRedirect::Stickyport
        | OnRedirect::Curl => State::Ok,
    }
}

/// The three digits behind the first blank, and nothing but three.
pub fn status_of(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once(' ')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 3 {
        rest[..3].parse().ok()
    } else {
        None
    }
}

/// A text of the user's, cut where `check_http` cuts it.
fn shown(text: &str) -> String {
    if text.len() < SHOWN + 4 {
        return text.to_owned();
    }
    let end = (0..=SHOWN).rev().find(|at| text.is_char_boundary(*at));
    format!("{}...", &text[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Limits = Limits {
        warning: None,
        critical: None,
    };

    fn checks() -> Checks {
        Checks {
            expect: None,
            expect_last: false,
            statuses: None,
            header: None,
            string: None,
            regex: None,
            invert_regex: false,
            state_regex: State::Critical,
            json: Vec::new(),
            max_age: None,
            size: None,
            time: NONE,
            run_time: NONE,
            phases: PhaseLimits::NONE,
            run_phases: PhaseLimits::NONE,
        }
    }

    fn target() -> Target {
        Target {
            https: false,
            address: "127.0.0.1".to_owned(),
            name: None,
            port: 8080,
            host: None,
            host_port: 8080,
            path: "/".to_owned(),
        }
    }

    fn judge(checks: &Checks, head: &str, page: &str, action: OnRedirect) -> Judgement {
        let received = Received {
            reply: Reply {
                head: head.as_bytes().to_vec(),
                page: page.as_bytes().to_vec(),
                page_cut: false,
                http2: false,
            },
            damage: None,
            rest: None,
        };
        let judgement = checks.judge_status(&received.reply, &target(), action);
        judgement.map_or_else(
            |last| last,
            |mut judgement| {
                checks.judge_content(&mut judgement, &received, 121, &target());
                judgement
            },
        )
    }

    #[test]
    fn the_status_decides_as_in_check_http() {
        use OnRedirect::{Critical, Follow, Ok, Unknown};
        for (line, action, state, kind, words) in [
            ("HTTP/1.1 200 OK", Ok, State::Ok, None, "HTTP/1.1 200 OK"),
            (
                "HTTP/1.1 204 No Content",
                Ok,
                State::Ok,
                None,
                "HTTP/1.1 204 No Content",
            ),
            (
                "HTTP/1.1 301 Moved",
                Ok,
                State::Ok,
                None,
                "HTTP/1.1 301 Moved",
            ),
            (
                "HTTP/1.1 301 Moved",
                Critical,
                State::Critical,
                Some(Kind::Redirect),
                "HTTP/1.1 301 Moved",
            ),
            (
                "HTTP/1.1 301 Moved",
                Unknown,
                State::Unknown,
                Some(Kind::Redirect),
                "HTTP/1.1 301 Moved",
            ),
            (
                "HTTP/1.1 404 No",
                Follow,
                State::Warning,
                Some(Kind::Http4xx),
                "HTTP/1.1 404 No",
            ),
            (
                "HTTP/1.1 500 Oops",
                Ok,
                State::Critical,
                Some(Kind::Http5xx),
                "HTTP/1.1 500 Oops",
            ),
            (
                "HTTP/1.1 999 Foo",
                Ok,
                State::Critical,
                Some(Kind::Content),
                "Invalid Status (HTTP/1.1 999 Foo)",
            ),
            (
                "HTTP/1.1 abc Foo",
                Ok,
                State::Critical,
                Some(Kind::Protocol),
                "Invalid Status Line (HTTP/1.1 abc Foo)",
            ),
            (
                "HTTP/1.1 2000 OK",
                Ok,
                State::Critical,
                Some(Kind::Protocol),
                "Invalid Status Line (HTTP/1.1 2000 OK)",
            ),
            (
                "SSH-2.0-x",
                Ok,
                State::Critical,
                Some(Kind::Protocol),
                "Invalid HTTP response received from host on port 8080: SSH-2.0-x",
            ),
        ] {
            let judgement = judge(&checks(), line, "", action);
            assert_eq!(
                (judgement.state, judgement.kind, &*judgement.words),
                (state, kind, words),
                "{line}"
            );
        }
    }

    #[test]
    fn expected_texts_switch_the_status_off() {
        let checks = Checks {
            expect: Some("200,500".to_owned()),
            ..checks()
        };
        let good = judge(&checks, "HTTP/1.1 500 Oops\r\n", "", OnRedirect::Ok);
        assert_eq!(good.words, "Status line output matched \"200,500\"");
        assert_eq!((good.state, good.kind), (State::Ok, None));
        let bad = judge(&checks, "HTTP/1.1 404 Not Found\r\n", "", OnRedirect::Ok);
        assert_eq!(
            (bad.state, bad.kind),
            (State::Critical, Some(Kind::Http4xx))
        );
        assert!(!bad.sized);
    }

    #[test]
    fn what_is_missing_is_named_with_the_url() {
        let checks = Checks {
            header: Some("X-Nope".to_owned()),
            string: Some("a text that is longer than thirty".to_owned()),
            size: Some(Size { min: 500, max: 0 }),
            ..checks()
        };
        let judgement = judge(
            &checks,
            "HTTP/1.1 404 No\r\nServer: lab\r\n",
            "hello",
            OnRedirect::Ok,
        );
        assert_eq!(
            judgement.words,
            "HTTP/1.1 404 No - header 'X-Nope' not found on 'http://127.0.0.1:8080/', string 'a text \
             that is longer than...' not found on 'http://127.0.0.1:8080/', page size 121 too small"
        );
        assert_eq!(judgement.state, State::Critical);
        assert_eq!(judgement.kind, Some(Kind::Http4xx));
    }
}
