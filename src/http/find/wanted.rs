//! Which line of a log belongs to which probe: the one with its request id, or else one that names the client's address
//! and port at about the right time. Nothing else is known of how the lines look.

use std::collections::HashMap;
use std::net::SocketAddr;

use memchr::memmem;

use super::super::probe::{Kind, Probe};
use crate::nginx::search::Times;
use crate::plugin::clean::clean_cut;
use crate::plugin::report::local_time;

/// How much of a line is kept.
const LINE_LIMIT: usize = 1500;

/// How many lines one probe has at most: each redirect writes one, and each log.
const LINES: usize = 4;

/// How many seconds before and behind a probe a line with its client port may be: the clocks of two hosts, a proxy
/// that goes on when its client has left, and no more, since ports come again.
const BEFORE: i64 = 30;
const BEHIND: i64 = 120;

/// The longest request id.
const KEY_LIMIT: usize = 64;

/// A failed probe whose line is sought.
#[derive(Debug, Clone)]
pub struct Sought {
    /// When it began, as it is shown.
    pub at: String,
    /// The same in seconds since 1970, and when it ended.
    pub began: i64,
    /// When it ended.
    pub ended: i64,
    /// Why it failed.
    pub kind: String,
    /// The status that it got.
    pub status: Option<u16>,
    /// The end of the connection from which the request came.
    pub client: Option<SocketAddr>,
    /// The ids that a line may hold: the one sent, the one in the reply.
    pub ids: Vec<String>,
}

/// What was found for a probe.
#[derive(Debug, Clone)]
pub struct Line {
    /// The log.
    pub log: String,
    /// The line, made harmless and cut.
    pub text: String,
    /// Whether it was the request id that told.
    pub by: By,
    /// How well it fits, less is better.
    misfit: (bool, i64),
}

/// What tells that a line belongs to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The request id.
    RequestId,
    /// Client address, client port and time.
    ClientPort,
}

impl By {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::RequestId => "request id",
            Self::ClientPort => "client port",
        }
    }

    /// As in the JSON document.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestId => "request-id",
            Self::ClientPort => "client-port",
        }
    }
}

/// All probes whose lines are sought, and what was found so far.
#[derive(Debug)]
pub struct Wanted {
    times: Times,
    all: Vec<(Sought, Vec<Line>)>,
    /// By the longest word of an id.
    keys: HashMap<Vec<u8>, Vec<usize>>,
    /// The lengths of these words.
    lengths: [bool; KEY_LIMIT + 1],
    shortest: usize,
    ports: HashMap<u16, Vec<usize>>,
    /// The addresses that these ports are of.
    addresses: Vec<String>,
    missing: usize,
}

impl Sought {
    /// A probe of this run.
    pub fn of(probe: &Probe) -> Self {
        let ids = [&probe.request_id, &probe.reply_id];
        let ended = probe.at.as_second() + i64::try_from(probe.elapsed.as_secs()).unwrap_or(0) + 1;
        Self {
            at: local_time(probe.at),
            began: probe.at.as_second(),
            ended,
            kind: probe.kind.map_or("", Kind::name).to_owned(),
            status: probe.status,
            client: probe.local,
            ids: ids.into_iter().flatten().cloned().collect(),
        }
    }

    /// Whether its request was on its way: of a connection that never came about no access log tells.
    pub fn was_sent(&self) -> bool {
        let before = [Kind::Tls, Kind::Certificate, Kind::Proxy];
        self.was_connected() && (self.status.is_some() || !self.is_any_of(&before))
    }

    /// Whether there was a connection: if not, a line with its client port is of another one.
    fn was_connected(&self) -> bool {
        let before = [
            Kind::Dns,
            Kind::Refused,
            Kind::Unreachable,
            Kind::ConnectTimeout,
        ];
        self.status.is_some() || !self.is_any_of(&before)
    }

    fn is_any_of(&self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| kind.name() == self.kind)
    }
}

impl Wanted {
    /// Nothing yet.
    pub fn new(times: Times) -> Self {
        Self {
            times,
            all: Vec::new(),
            keys: HashMap::new(),
            lengths: [false; KEY_LIMIT + 1],
            shortest: KEY_LIMIT,
            ports: HashMap::new(),
            addresses: Vec::new(),
            missing: 0,
        }
    }

    /// Another one to look for.
    pub fn add(&mut self, sought: Sought) {
        let number = self.all.len();
        for id in &sought.ids {
            let words = id.as_bytes().split(|b| !b.is_ascii_alphanumeric());
            let Some(key) = words.max_by_key(|word| word.len()) else {
                continue;
            };
            if (1..=KEY_LIMIT).contains(&key.len()) {
                self.lengths[key.len()] = true;
                self.shortest = self.shortest.min(key.len());
                self.keys.entry(key.to_vec()).or_default().push(number);
            }
        }
        if let Some(client) = sought.client.filter(|_| sought.was_connected()) {
            self.ports.entry(client.port()).or_default().push(number);
            let address = client.ip().to_canonical().to_string();
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
        self.missing += usize::from(sought.was_sent());
        self.all.push((sought, Vec::new()));
    }

    /// How many have no line yet that should have one.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The probes with their lines, in the order in which they came.
    pub fn all(&self) -> &[(Sought, Vec<Line>)] {
        &self.all
    }

    /// Looks whether a line belongs to any. `fresh` says that it was written just now, whatever its time.
    pub fn look_at(&mut self, line: &[u8], log: &str, fresh: bool) {
        self.look_for_ids(line, log);
        // Most lines are of other clients: this is sooner seen than what numbers they hold.
        let mut addresses = self.addresses.iter();
        if addresses.any(|address| memmem::find(line, address.as_bytes()).is_some()) {
            self.look_for_ports(line, log, fresh);
        }
    }

    /// A word is at least as long as the shortest that is sought, and so it has a byte at one of the places looked at.
    fn look_for_ids(&mut self, line: &[u8], log: &str) {
        let is_part = |b: &u8| b.is_ascii_alphanumeric();
        let mut at = self.shortest - 1;
        while !self.keys.is_empty() && at < line.len() {
            if is_part(&line[at]) {
                let before = line[..at].iter().rev().take_while(|b| is_part(b)).count();
                let behind = line[at..].iter().take_while(|b| is_part(b)).count();
                let word = &line[at - before..at + behind];
                if word.len() <= KEY_LIMIT && self.lengths[word.len()] {
                    self.try_id(line, word, log);
                }
                at += behind;
            }
            at += self.shortest;
        }
    }

    fn look_for_ports(&mut self, line: &[u8], log: &str, fresh: bool) {
        for word in line.split(|b| !b.is_ascii_alphanumeric()) {
            if (1..=5).contains(&word.len()) && word.iter().all(u8::is_ascii_digit) {
                self.try_port(line, word, log, fresh);
            }
        }
    }

    fn try_id(&mut self, line: &[u8], word: &[u8], log: &str) {
        let Some(numbers) = self.keys.get(word) else {
            return;
        };
        for number in numbers.clone() {
            let (sought, _) = &self.all[number];
            let whole = |id: &String| memmem::find(line, id.as_bytes()).is_some();
            if sought.ids.iter().any(whole) {
                self.keep(number, line, log, By::RequestId, (false, 0));
            }
        }
    }

    fn try_port(&mut self, line: &[u8], word: &[u8], log: &str, fresh: bool) {
        let port: Option<u16> = std::str::from_utf8(word).ok().and_then(|w| w.parse().ok());
        let Some(numbers) = port.and_then(|port| self.ports.get(&port)) else {
            return;
        };
        for number in numbers.clone() {
            let (sought, lines) = &self.all[number];
            let by_id = lines.iter().any(|line| line.by == By::RequestId);
            let address = sought.client.map(|client| client.ip().to_canonical());
            let Some(address) = address.filter(|_| !by_id) else {
                continue;
            };
            if !names(line, &address.to_string()) {
                continue;
            }
            let off = match self.times.of(line) {
                Some(at) if at < sought.began - BEFORE || at > sought.ended + BEHIND => continue,
                Some(at) => (at - sought.ended).abs(),
                None if fresh => 0,
                None => continue,
            };
            let status = sought.status.map(|status| status.to_string());
            let other_status = status.is_some_and(|status| !names(line, &status));
            self.keep(number, line, log, By::ClientPort, (other_status, off));
        }
    }

    fn keep(&mut self, number: usize, line: &[u8], log: &str, by: By, misfit: (bool, i64)) {
        let (sought, lines) = &mut self.all[number];
        let new = || Line {
            log: log.to_owned(),
            text: clean_cut(line, LINE_LIMIT),
            by,
            misfit,
        };
        let was_missing = lines.is_empty() && sought.was_sent();
        match by {
            By::RequestId => {
                lines.retain(|line| line.by == By::RequestId);
                let new = new();
                let known = lines.iter().any(|line| line.text == new.text);
                if lines.len() < LINES && !known {
                    lines.push(new);
                }
            }
            // A port may come again, a size may look like one: the best of all counts.
            By::ClientPort if lines.first().is_none_or(|line| misfit < line.misfit) => {
                *lines = vec![new()];
            }
            By::ClientPort => {}
        }
        self.missing -= usize::from(was_missing);
    }
}

/// Whether a line names this address or number, and not another one that holds it.
fn names(line: &[u8], text: &str) -> bool {
    let is_part = |b: &u8| b.is_ascii_alphanumeric();
    memmem::find_iter(line, text.as_bytes()).any(|at| {
        let (before, behind) = (&line[..at], &line[at + text.len()..]);
        // `1.192.0.2.4` and `192.0.2.4.1` are none of it; `::ffff:192.0.2.4` and `192.0.2.4:80` are.
        let goes_on = |rest: &mut dyn Iterator<Item = &u8>| match rest.next() {
            Some(b'.') => rest.next().is_some_and(u8::is_ascii_digit),
            Some(b) => is_part(b),
            None => false,
        };
        !goes_on(&mut before.iter().rev()) && !goes_on(&mut behind.iter())
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::plugin::Run;
    use crate::plugin::run::Signals;

    fn begin() -> Wanted {
        let signals = Signals::catch().unwrap();
        Wanted::new(Times::here(&Run::new(&signals, std::time::Duration::ZERO)))
    }

    fn sought(client: &str, ids: &[&str]) -> Sought {
        let at: Timestamp = "2026-11-23T05:00:10Z".parse().unwrap();
        Sought {
            at: local_time(at),
            began: at.as_second(),
            ended: at.as_second() + 2,
            kind: "http-5xx".to_owned(),
            status: Some(500),
            client: client.parse().ok(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    const ID: &str = "6f9315281fe0e17e0000000000000001";
    const UUID: &str = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

    #[test]
    fn a_line_is_known_by_its_request_id_wherever_it_stands() {
        for (line, found) in [
            (format!("x {ID}"), true),
            (ID.to_owned(), true),
            (format!("x=\"{ID}\",y"), true),
            (format!("x {ID}0"), false),
            (format!("x {}", &ID[..31]), false),
            (format!("{{\"id\":\"{UUID}\"}}"), true),
            ("f81d4fae-7dec-11d0-a765-00a0c91e6bf7".to_owned(), false),
            ("00a0c91e6bf6".to_owned(), false),
        ] {
            let mut wanted = begin();
            wanted.add(sought("", &[ID, UUID]));
            wanted.look_at(line.as_bytes(), "log", false);
            assert_eq!(wanted.missing() == 0, found, "{line}");
        }
    }

    #[test]
    fn a_line_is_known_by_client_address_port_and_time() {
        for (line, found) in [
            ("192.0.2.4:51236 [23/Nov/2026:05:00:12 +0000] 500", true),
            (
                "192.0.2.4 - - [23/Nov/2026:06:00:12 +0100] \"GET /\" 500 12 51236",
                true,
            ),
            ("::ffff:192.0.2.4 51236 [23/Nov/2026:05:01:12 +0000]", true),
            ("2026-11-23T05:00:12+00:00 192.0.2.4:51236 499", true),
            ("192.0.2.4:51236 [23/Nov/2026:05:03:12 +0000] 500", false),
            ("192.0.2.4:51236 [23/Nov/2026:04:59:12 +0000] 500", false),
            ("192.0.2.4:51237 [23/Nov/2026:05:00:12 +0000] 500", false),
            ("192.0.2.4:512360 [23/Nov/2026:05:00:12 +0000] 500", false),
            ("192.0.2.40:51236 [23/Nov/2026:05:00:12 +0000] 500", false),
            ("1.192.0.2.4:51236 [23/Nov/2026:05:00:12 +0000] 500", false),
            ("192.0.2.4:51236 500 and no time", false),
        ] {
            let mut wanted = begin();
            wanted.add(sought("192.0.2.4:51236", &[ID]));
            wanted.look_at(line.as_bytes(), "log", false);
            assert_eq!(wanted.missing() == 0, found, "{line}");
        }
        let mut wanted = begin();
        wanted.add(sought("[2001:db8::1]:51236", &[]));
        wanted.look_at(b"2001:db8::1 51236 no time", "log", true);
        assert_eq!(wanted.missing(), 0);
    }

    #[test]
    fn the_best_line_counts_and_an_id_beats_a_port() {
        let mut wanted = begin();
        wanted.add(sought("192.0.2.4:51236", &[ID]));
        let text = |wanted: &Wanted| wanted.all()[0].1[0].text.clone();
        // The size of another request looks like the port.
        let size = "192.0.2.4 [23/Nov/2026:05:00:12 +0000] 200 51236";
        wanted.look_at(size.as_bytes(), "log", false);
        assert_eq!(text(&wanted), size);
        let far = "192.0.2.4:51236 [23/Nov/2026:05:00:50 +0000] 500";
        wanted.look_at(far.as_bytes(), "log", false);
        assert_eq!(text(&wanted), far);
        let near = "192.0.2.4:51236 [23/Nov/2026:05:00:12 +0000] 500";
        wanted.look_at(near.as_bytes(), "log", false);
        wanted.look_at(far.as_bytes(), "log", false);
        assert_eq!(text(&wanted), near);
        let id = format!("elsewhere {ID}\x1b[2J|");
        wanted.look_at(id.as_bytes(), "log", false);
        wanted.look_at(id.as_bytes(), "log", false);
        wanted.look_at(near.as_bytes(), "log", false);
        assert_eq!(wanted.all()[0].1.len(), 1);
        assert_eq!(text(&wanted), format!("elsewhere {ID}\\x1b[2J!"));
    }

    #[test]
    fn of_what_was_never_sent_no_line_is_missed() {
        let mut wanted = begin();
        wanted.add(Sought {
            kind: "refused".to_owned(),
            status: None,
            ..sought("192.0.2.4:51236", &[ID])
        });
        assert_eq!(wanted.missing(), 0);
        wanted.look_at(ID.as_bytes(), "log", false);
        assert_eq!((wanted.missing(), wanted.all()[0].1.len()), (0, 1));
    }

    #[test]
    fn the_port_of_a_connection_that_never_came_about_is_in_no_line() {
        for (kind, found) in [
            ("refused", 0),
            ("connect-timeout", 0),
            ("tls", 1),
            ("certificate", 1),
            ("reset", 1),
        ] {
            let mut wanted = begin();
            wanted.add(Sought {
                kind: kind.to_owned(),
                status: None,
                ..sought("192.0.2.4:51236", &[ID])
            });
            let other = "192.0.2.4:51236 [23/Nov/2026:05:00:12 +0000] 200";
            wanted.look_at(other.as_bytes(), "log", false);
            assert_eq!(wanted.all()[0].1.len(), found, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn an_id_is_found_at_any_place(
            before in "[ -~]{0,80}", behind in "[ -~]{0,80}", ids in prop::collection::vec("[0-9a-f]{9,40}", 1..4),
        ) {
            let mut wanted = begin();
            for id in &ids {
                wanted.add(sought("", &[id]));
            }
            for id in &ids {
                wanted.look_at(format!("{before} {id}\"{behind}").as_bytes(), "log", true);
            }
            prop_assert_eq!(wanted.missing(), 0);
        }

        #[test]
        fn no_line_makes_it_stumble(line: Vec<u8>) {
            let mut wanted = begin();
            wanted.add(sought("192.0.2.4:5", &[ID, "x", "--------"]));
            wanted.look_at(&line, "log", true);
        }
    }
}
