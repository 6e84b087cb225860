//! How the ports for bind() go on, over all destinations: each connection that was bound before it was connected takes
//! a port of its own, whose TIME_WAIT nobody takes over. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use super::TIME_WAIT_MS;
use super::census::{Census, Usage};
use super::forecast::{Ages, Forecast, Now};

/// The TIME_WAITs that hold a port each, by local address.
#[derive(Debug, Default)]
pub struct Closing(HashMap<IpAddr, Waiting>);

#[derive(Debug, Clone, Default)]
struct Waiting {
    count: u32,
    ages: Ages,
    /// There are some without a timer.
    unknown: bool,
}

impl Waiting {
    fn add(&mut self, usage: &Usage) {
        self.count += usage.time_wait;
        match &usage.ages {
            Some(ages) => self.ages.add_all(ages),
            None => self.unknown |= usage.time_wait > 0,
        }
    }
}

impl Closing {
    /// Those of the tuples that count, by their numbers in the census.
    pub fn of(census: &Census, counts: impl Fn(usize) -> bool) -> Self {
        let mut by_address: HashMap<IpAddr, Waiting> = HashMap::new();
        for (number, (tuple, usage)) in census.tuples().iter().enumerate() {
            if counts(number) {
                by_address.entry(tuple.source).or_default().add(usage);
            }
        }
        Self(by_address)
    }

    /// When the last of this many free ports goes, in seconds; `None` for never. A wildcard needs a port that no address of
    /// its family has in use, IPv6's one that nobody has.
    pub fn seconds_left(&self, address: IpAddr, free: u32) -> Option<f64> {
        let none = Waiting::default();
        let all = if address.is_unspecified() {
            &self.of_wildcard(address)
        } else {
            self.0.get(&address).unwrap_or(&none)
        };
        let forecast = Forecast::of(&Now {
            free,
            waiting: all.count,
            ages: (!all.unknown).then_some(&all.ages),
            hold: TIME_WAIT_MS,
        });
        forecast.seconds_left
    }

    fn of_wildcard(&self, wildcard: IpAddr) -> Waiting {
        let mut all = Waiting::default();
        let covered = self.0.iter();
        for (_, waiting) in covered.filter(|(address, _)| wildcard.is_ipv6() || address.is_ipv4()) {
            all.count += waiting.count;
            all.ages.add_all(&waiting.ages);
            all.unknown |= waiting.unknown;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::census::tests::{socket, sysctl};
    use crate::ports::evidence::{Evidence, Memory};
    use crate::ports::headroom::{Headroom, Named};
    use crate::ports::socket::{Socket, State};

    /// Four destinations whose closes the ports could bear each by itself: all of them take ports of one address.
    #[test]
    fn whoever_binds_first_fills_the_ports_of_all_destinations() {
        let waiting = |seconds: u32, ports: std::ops::Range<u16>, expires: u32| -> Vec<Socket> {
            let of = |port: u16| Socket {
                expires: Some(expires - 1000 * (u32::from(port) % seconds)),
                ..socket(
                    State::TimeWait,
                    &format!("192.0.2.1:{port}"),
                    &format!("192.0.2.9:{}", 80 + port % 8),
                )
            };
            ports.step_by(2).map(of).collect()
        };
        // 36 closes in 5 s, 64 ports left: 7.2 a second.
        let mut census = Census::new(&sysctl(1000, 1099), &[]);
        for socket in waiting(5, 1001..1073, 59_500) {
            census.add(&socket);
        }
        let headroom = Headroom::of(&census, &Named::default(), &mut Memory::default(), None);
        assert_eq!(headroom.bind_before_connect, Evidence::Yes);
        let left = 64.0 / 7.2;
        for source in &headroom.sources {
            let seconds = source.seconds_left.unwrap();
            assert!((seconds - left).abs() < 0.01, "{source:?}");
        }
        for destination in &headroom.destinations {
            let seconds = destination.forecast.seconds_left.unwrap();
            assert!((seconds - left).abs() < 0.01, "{destination:?}");
        }
    }
}
