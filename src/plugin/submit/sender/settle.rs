//! What Icinga has already, found out by asking it, and the times that a result needs to come behind that.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::runtime::Runtime;

use super::super::APART;
use super::super::client::{Last, Trouble};
use super::super::passive::{Name, Passive};
use super::{Sender, own_trouble};
use crate::plugin::report::local_time;

/// How long a result may be under way within Icinga after its connection broke.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// How long what is known of Icinga's last result stays good enough.
const FRESH: Duration = Duration::from_secs(1);

impl Sender {
    /// Makes sure that Icinga has what it said it took: up to 2.14 it says so while it shuts down, too, and of what
    /// began too early. Returns whether it has; if not, it has one that began later.
    pub(super) fn confirm(
        &mut self,
        runtime: &Runtime,
        name: &Name,
        result: &Passive,
    ) -> Result<bool, Trouble> {
        let last = match self.ask(runtime) {
            Ok(Some(last)) => last,
            Ok(None) => return Ok(true),
            Err(trouble) => {
                self.doubt = Some(name.clone());
                return Err(trouble);
            }
        };
        let began = self.learn(last, result);
        match last.has(result) {
            Some(false) if began > result.start => Ok(false),
            Some(false) => Err(own_trouble(
                "it took a result and has not got it: it may be shutting down".to_owned(),
            )),
            _ => Ok(true),
        }
    }

    /// Finds out whether a result has arrived already, where there is doubt, and when Icinga's last one began.
    pub(super) fn settle(
        &mut self,
        runtime: &Runtime,
        name: &Name,
        result: &Passive,
    ) -> Result<bool, Trouble> {
        let doubtful = self.unlisted || self.doubt.as_ref() == Some(name);
        if !doubtful && !self.is_late(result) {
            return Ok(false);
        }
        let Some(mut last) = self.ask(runtime)? else {
            if doubtful {
                self.shared.status().doubtful += 1;
                self.doubt = None;
            }
            return Ok(false);
        };
        if doubtful && last.has(result) == Some(false) {
            // Its connection broke, but Icinga may just be at it.
            std::thread::sleep(UNDER_WAY);
            last = self.ask(runtime)?.unwrap_or(last);
        }
        self.learn(last, result);
        let has = last.has(result);
        if doubtful && has.is_none() {
            self.shared.status().doubtful += 1;
        }
        if doubtful {
            self.doubt = None;
        }
        Ok(doubtful && has == Some(true))
    }

    /// Keeps by when Icinga's last result had begun, which may be this one.
    pub(super) fn learn(&mut self, last: Last, result: &Passive) -> i64 {
        let began = last.began_by([self.ours, (result.end, result.start)]);
        self.last = Some((began, Instant::now()));
        began
    }

    /// Whether a result of somebody else's may have begun since this one did.
    fn is_late(&self, result: &Passive) -> bool {
        let known = self.last.is_some_and(|(_, at)| at.elapsed() < FRESH);
        let age = Timestamp::now()
            .as_microsecond()
            .saturating_sub(result.start);
        !known && !self.mute && age > i64::try_from(FRESH.as_micros()).unwrap_or(i64::MAX)
    }

    /// Asks for Icinga's last result; `None` where this user may not.
    pub(super) fn ask(&mut self, runtime: &Runtime) -> Result<Option<Last>, Trouble> {
        match runtime.block_on(self.client.last()) {
            Ok(last) => {
                self.mute = false;
                Ok(Some(last))
            }
            // Sending it will say whether the service is there.
            Err(trouble) if matches!(trouble.code, Some(403 | 404)) => {
                self.mute = true;
                Ok(None)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Has a result begin later than what Icinga has, and keeps that, so that it is known again.
    pub(super) fn begin_later(&self, name: &Name, result: &mut Passive) {
        let earliest = self
            .last
            .map_or(0, |(start, _)| start.saturating_add(APART));
        let measured = result.start;
        if measured >= earliest && result.end >= self.ours.0.saturating_add(APART) {
            return;
        }
        result.start = measured.max(earliest);
        result.end = result
            .end
            .max(result.start)
            .max(self.ours.0.saturating_add(APART));
        if result.start.saturating_sub(measured) > 1_000_000
            && let Ok(time) = Timestamp::from_microsecond(measured)
        {
            let line = format!("\n(measured at {}, sent late)", local_time(time));
            if !result.output.contains("\n(measured at ") {
                result.output.push_str(&line);
            }
        }
        // If it cannot be kept, a result may be sent twice after this process was killed right now.
        let _ = self.shared.queue.rewrite(name, result);
    }
}
