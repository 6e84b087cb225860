//! What the TIME_WAIT timers foretell. Each lasts 60 s, so that one look holds the closes of the last minute and
//! the moment at which each of their ports comes back.

use super::TIME_WAIT_MS;

/// Seconds of a TIME_WAIT, rounded up: one slot for each.
const SLOTS: usize = 60;
/// The rate is that of the last seconds, so that a load that has just risen counts as it is now.
const RECENT: usize = 5;

/// TIME_WAITs by the second in which they end.
#[derive(Debug, Clone)]
pub struct Ages([u32; SLOTS]);

impl Default for Ages {
    fn default() -> Self {
        Self::NONE
    }
}

/// Whether a TIME_WAIT that ends in `expires` milliseconds began within the last seconds.
pub fn recent(expires: u32) -> bool {
    expires.div_ceil(1000) as usize > SLOTS - RECENT
}

impl Ages {
    /// Of nobody.
    pub const NONE: Self = Self([0; SLOTS]);

    /// Counts one that ends in `expires` milliseconds.
    pub fn add(&mut self, expires: u32) {
        let slot = (expires.min(TIME_WAIT_MS - 1) / 1000) as usize;
        self.0[slot] += 1;
    }

    /// Counts those of another one, too.
    pub fn add_all(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }

    /// How many end within this many seconds.
    fn ended_within(&self, seconds: usize) -> u32 {
        self.0.iter().take(seconds).sum()
    }

    /// How many began within this many seconds.
    fn begun_within(&self, seconds: usize) -> u32 {
        self.0.iter().rev().take(seconds).sum()
    }
}

/// What is known of a tuple's ports.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// Ports free now.
    pub free: u32,
    /// Ports that TIME_WAITs hold, less those that may be taken over.
    pub waiting: u32,
    /// When its TIME_WAITs end; `None` where that is not known.
    pub ages: Option<&'a Ages>,
    /// After how many milliseconds a TIME_WAIT gives its port back: 60 000, or sooner where it may be taken over.
    pub hold: u32,
}

/// How it goes on. Rates that are not known are no numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Connections that this side closed, a second.
    pub closed_per_second: f64,
    /// The rate of closing that the ports which no live connection holds can bear.
    pub limit_per_second: f64,
    /// When the last port is gone at this rate; `None` for never.
    pub seconds_left: Option<f64>,
}

impl Forecast {
    /// Where nothing is known.
    pub const UNKNOWN: Self = Self {
        closed_per_second: f64::NAN,
        limit_per_second: f64::NAN,
        seconds_left: None,
    };

    /// Looks ahead: each second takes ports at the present rate and gives those back whose TIME_WAIT ends.
    pub fn of(now: &Now) -> Self {
        let hold_ms = now.hold.clamp(1, TIME_WAIT_MS);
        let hold = f64::from(hold_ms) / 1000.0;
        let limit_per_second = f64::from(now.free + now.waiting) / hold;
        let Some(ages) = now.ages else {
            return Self {
                limit_per_second,
                seconds_left: (now.free == 0).then_some(0.0),
                ..Self::UNKNOWN
            };
        };
        let recent = RECENT.min((hold_ms / 1000).max(1) as usize);
        let rate = f64::from(ages.begun_within(recent)) / recent as f64;
        let seconds_left = if now.free == 0 {
            Some(0.0)
        } else if now.hold < TIME_WAIT_MS {
            // Ports come back within a second or two: the steady state is as good as here.
            (rate > limit_per_second).then(|| f64::from(now.free) / rate)
        } else {
            time_to_fill(f64::from(now.free), rate, ages)
        };
        Self {
            closed_per_second: rate,
            limit_per_second,
            seconds_left,
        }
    }
}

/// The time at which `free` ports are used up, within the minute after which all that is known has been given back
/// and the ports in TIME_WAIT stay at 60 s of the rate.
fn time_to_fill(free: f64, rate: f64, ages: &Ages) -> Option<f64> {
    let left_at =
        |second: usize| free + f64::from(ages.ended_within(second)) - rate * second as f64;
    for second in 1..=SLOTS {
        let (before, after) = (left_at(second - 1), left_at(second));
        if after <= 0.0 {
            let part = if before > after {
                before / (before - after)
            } else {
                0.0
            };
            return Some((second - 1) as f64 + part);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many closes a second for the last `seconds`, after `earlier` a second before that.
    fn ages(earlier: u32, rate: u32, seconds: usize) -> Ages {
        let mut ages = Ages::default();
        for age in 0..SLOTS {
            let count = if age < seconds { rate } else { earlier };
            ages.0[SLOTS - 1 - age] = count;
        }
        ages
    }

    fn forecast(capacity: u32, live: u32, ages: &Ages) -> Forecast {
        let waiting = ages.ended_within(SLOTS);
        Forecast::of(&Now {
            free: (capacity - live).saturating_sub(waiting),
            waiting,
            ages: Some(ages),
            hold: TIME_WAIT_MS,
        })
    }

    #[test]
    fn a_load_that_the_ports_can_bear_never_fills_them() {
        let steady = forecast(2000, 0, &ages(15, 15, SLOTS));
        assert!((steady.closed_per_second - 15.0).abs() < 1e-9);
        assert!((steady.limit_per_second - 2000.0 / 60.0).abs() < 1e-9);
        assert_eq!(steady.seconds_left, None);
        // 60 * 15 = 900 fit beside 1099 live ones, and not beside 1150.
        assert_eq!(
            forecast(2000, 1099, &ages(15, 15, SLOTS)).seconds_left,
            None
        );
    }

    #[test]
    fn a_risen_load_fills_them_at_the_foreseen_time() {
        // 15 a second, for the last 5 s 55: 900 - 75 + 275 = 1100 of 2000 taken, 40 a second more than come back.
        let risen = forecast(2000, 0, &ages(15, 55, 5));
        assert!((risen.closed_per_second - 55.0).abs() < 1e-9);
        let left = risen.seconds_left.unwrap();
        assert!((left - 900.0 / 40.0).abs() < 0.1, "{left}");
    }

    #[test]
    fn no_ports_left_is_now_and_no_closes_is_never() {
        assert_eq!(
            forecast(900, 0, &ages(15, 15, SLOTS)).seconds_left,
            Some(0.0)
        );
        let idle = Forecast::of(&Now {
            free: 10,
            waiting: 0,
            ages: Some(&Ages::NONE),
            hold: TIME_WAIT_MS,
        });
        assert_eq!((idle.closed_per_second, idle.seconds_left), (0.0, None));
    }

    #[test]
    fn a_port_that_is_taken_over_after_a_second_bears_sixty_times_as_much() {
        let forecast = Forecast::of(&Now {
            free: 500,
            waiting: 100,
            ages: Some(&ages(0, 100, 1)),
            hold: 1000,
        });
        assert!((forecast.limit_per_second - 600.0).abs() < 1e-9);
        assert_eq!(forecast.seconds_left, None);
    }

    #[test]
    fn timers_beyond_a_minute_count_as_new() {
        let mut ages = Ages::default();
        ages.add(u32::MAX);
        ages.add(60_000);
        ages.add(0);
        assert_eq!((ages.begun_within(1), ages.ended_within(1)), (2, 1));
    }
}
