//! Lines of other proxies than nginx to counts by time: every line is looked at, with what is around it.

use memchr::memchr_iter;

use super::cause::Cause;
use super::count::{Counter, Rules};
use super::dialect::{Form, Told};
use super::line::Level;
use super::reader::Batch;
use super::wrapping::Wrapping;

/// How many upstreams are remembered whose failure was told and not summed up yet.
const EXPLAINED: usize = 16;

/// Upstreams whose failures were told, and how often. The line of the request that comes behind sums up its tries, and
/// does not count. It comes when the request is over, maybe after others have begun to fail.
#[derive(Debug, Default)]
pub struct Explained(Vec<(Box<[u8]>, u32)>);

impl Explained {
    /// Whether this failure was told before.
    fn covers(&mut self, told: &Told<'_>) -> bool {
        let upstream = told.parties.upstream.unwrap_or_default();
        if let Some(tries) = told.sums_up {
            let backend = upstream.split(|byte| *byte == b'/').next();
            let known = |name: &[u8]| name == upstream || Some(name) == backend;
            let place = self.0.iter().position(|(name, _)| known(name));
            // A failure that says nothing but that there was one.
            let is_vague = matches!(told.cause, Cause::OtherUpstream | Cause::NoLiveUpstreams);
            return place.is_some_and(|place| {
                self.0[place].1 = self.0[place].1.saturating_sub(tries);
                if self.0[place].1 == 0 {
                    self.0.remove(place);
                }
                is_vague
            });
        }
        if let Some((_, count)) = self.0.iter_mut().find(|(name, _)| **name == *upstream) {
            *count = count.saturating_add(1);
        } else {
            self.0.truncate(EXPLAINED - 1);
            self.0.insert(0, (upstream.into(), 1));
        }
        false
    }
}

impl Counter<'_> {
    /// Takes in the new lines of a batch as they stand in the log.
    pub fn take_foreign(&mut self, batch: Batch<'_>, form: Form) {
        let Batch { bytes, fresh } = batch;
        self.seen.any_line = true;
        // That some level is hidden is a matter of nginx' logs.
        self.seen.levels |= Level::Low as u8;
        let mut start = fresh;
        let mut last = None;
        for feed in memchr_iter(b'\n', &bytes[fresh..]) {
            let raw = &bytes[start..fresh + feed];
            start = fresh + feed + 1;
            let when = || form.wrapping.time(raw);
            if form.wrapping == Wrapping::Syslog && when().is_none() {
                // HAProxy says some things on its standard error once more.
                continue;
            }
            let text = form.wrapping.unwrap(raw);
            if self.seen.first.is_none() || !self.seen.recognised {
                self.seen.recognised |= form.dialect.knows(raw, &text);
                let when = form.dialect.time(raw, &text, form.wrapping);
                self.seen.first = self
                    .seen
                    .first
                    .or(when.and_then(|when| self.times.at(when)));
            }
            last = Some(raw);
            let Some(told) = form.dialect.read(&text) else {
                continue;
            };
            if self.explained.covers(&told) || !self.rules.wanted.has(told.cause) {
                continue;
            }
            let when = form.dialect.time(raw, &text, form.wrapping);
            // What has no time was written when the line before it was.
            let time = when.map_or(self.times.latest(), |when| self.times.at(when));
            match time {
                Some(time) => self.add_told(time, &told),
                None => self.add_unparsed(),
            }
        }
        let when = last.and_then(|raw| {
            let text = form.wrapping.unwrap(raw);
            form.dialect.time(raw, &text, form.wrapping)
        });
        if let Some(time) = when.and_then(|when| self.times.at(when)) {
            self.seen.last = Some(time);
            self.see_how_late(time, &bytes[fresh..], |times, raw| {
                let text = form.wrapping.unwrap(raw);
                let when = form.dialect.time(raw, &text, form.wrapping)?;
                times.clock().both(when).map(|(first, _)| first)
            });
        }
    }

    fn add_told(&mut self, time: i64, told: &Told<'_>) {
        let Rules {
            after,
            until,
            counted,
            ..
        } = self.rules;
        if time <= after || time > until {
            return;
        }
        if counted.has(told.cause) {
            self.tally.add_listed(time, told.cause, told.parties, None);
        } else {
            self.tally.add_cause(time, told.cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::fields::Parties;

    #[test]
    fn a_request_that_failed_after_all_its_tries_were_told_does_not_count_once_more() {
        let told = |upstream: &'static str, sums_up| Told {
            cause: Cause::OtherUpstream,
            parties: Parties {
                upstream: Some(upstream.as_bytes()),
                ..Parties::default()
            },
            sums_up,
        };
        let mut explained = Explained::default();
        // Two requests of three tries each, the first one summed up when the second has begun to fail.
        for _ in 0..5 {
            assert!(!explained.covers(&told("b", None)));
        }
        assert!(explained.covers(&told("b/s1", Some(3))));
        assert!(!explained.covers(&told("b", None)));
        assert!(explained.covers(&told("b/s1", Some(3))));
        // The third one was refused, of which nothing was told.
        assert!(!explained.covers(&told("b/s1", Some(3))));
        assert!(!explained.covers(&told("c/s1", Some(1))));
    }
}
