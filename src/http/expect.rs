//! What `check_http` cannot be told: which statuses are good, how long a phase may take, how bad a time-out is.

use std::str::FromStr;
use std::time::Duration;

use super::checks::{Judgement, milder};
use super::probe::{Kind, Phases};
use crate::plugin::metric::plain;
use crate::plugin::options::parse_state;
use crate::plugin::{Limits, Range, State};

/// Its options.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Judging a probe")]
pub struct ExpectArgs {
    /// The statuses that are good, as 200,204,301-303: any other is CRITICAL; other checks stay switched on
    #[arg(long, value_name = "LIST")]
    pub status: Option<Statuses>,

    /// Follow redirects first, and look for the texts of -e in the last reply
    #[arg(long)]
    pub expect_last: bool,

    /// The state where -r or -R do not hold [default: critical]
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    pub state_regex: Option<State>,

    /// The state of a probe that times out [default: critical]
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    pub timeout_result: Option<State>,

    /// The time in seconds for looking up the name above which a probe is a WARNING
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub dns_warning: Option<Range>,

    /// The same for CRITICAL
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub dns_critical: Option<Range>,

    /// The time for connecting, a proxy's tunnel included
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub connect_warning: Option<Range>,

    /// The same for CRITICAL
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub connect_critical: Option<Range>,

    /// The time for the TLS handshake
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub tls_warning: Option<Range>,

    /// The same for CRITICAL
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub tls_critical: Option<Range>,

    /// The time from the connection or handshake to the reply's first byte
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub first_byte_warning: Option<Range>,

    /// The same for CRITICAL
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub first_byte_critical: Option<Range>,

    /// The time from the first byte to the last one
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub transfer_warning: Option<Range>,

    /// The same for CRITICAL
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub transfer_critical: Option<Range>,
}

impl ExpectArgs {
    /// What each phase may take.
    pub fn phases(&self) -> PhaseLimits {
        let limits = |warning, critical| Limits { warning, critical };
        PhaseLimits([
            limits(self.dns_warning, self.dns_critical),
            limits(self.connect_warning, self.connect_critical),
            limits(self.tls_warning, self.tls_critical),
            limits(self.first_byte_warning, self.first_byte_critical),
            limits(self.transfer_warning, self.transfer_critical),
        ])
    }
}

/// A list of statuses, some of them as ranges with both ends in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    /// Judges a status: what is in the list is good, whatever it is.
    pub fn judge(&self, judgement: &mut Judgement) {
        let Some(status) = judgement.status else {
            return;
        };
        if self
            .0
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&status))
        {
            return;
        }
        judgement.words = format!("{} - status {status} is not in the list", judgement.words);
        judgement.worsen(State::Critical, Kind::of_status(status));
    }
}

impl FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let status = |word: &str| -> Option<u16> {
            let number = word.trim().parse().ok()?;
            (100..=999).contains(&number).then_some(number)
        };
        let range = |word: &str| match word.split_once('-') {
            Some((from, to)) => Some((status(from)?, status(to)?)).filter(|(from, to)| from <= to),
            None => status(word).map(|status| (status, status)),
        };
        let list: Option<Vec<_>> = text.split(',').map(range).collect();
        list.map(Self)
            .ok_or_else(|| format!("'{text}': give statuses as in 200,204,301-303"))
    }
}

/// Ranges in seconds for the phases, by [`Phases::NAMES`].
#[derive(Debug, Clone, Copy)]
pub struct PhaseLimits([Limits; 5]);

impl PhaseLimits {
    /// None at all.
    pub const NONE: Self = Self(
        [Limits {
            warning: None,
            critical: None,
        }; 5],
    );

    /// The limits by [`Phases::NAMES`].
    pub fn in_order(&self) -> [Limits; 5] {
        self.0
    }

    /// Judges the phases of a probe with a reply. One that was not reached, or that there was no need for, is none.
    pub fn judge(&self, judgement: &mut Judgement, phases: &Phases, waited: Duration) -> bool {
        let mut excused = false;
        if !judgement.sized {
            return excused;
        }
        for ((name, limits), phase) in Phases::NAMES.iter().zip(&self.0).zip(phases.in_order()) {
            let Some(phase) = phase else {
                continue;
            };
            let (state, milder) = milder(limits, phase, waited);
            excused |= milder;
            if state != State::Ok {
                let seconds = phase.as_secs_f64();
                let name = name.replace('_', " ");
                judgement.words = format!("{} - {name} took {} s", judgement.words, plain(seconds));
                judgement.worsen(state, Kind::Slow);
            }
        }
        excused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16) -> Judgement {
        Judgement {
            state: State::Ok,
            kind: None,
            words: "line".to_owned(),
            sized: true,
            status: Some(status),
        }
    }

    #[test]
    fn a_status_is_good_where_the_list_has_it() {
        let list: Statuses = "200,204, 301-303".parse().unwrap();
        for (status, kind) in [
            (200, None),
            (201, Some(Kind::Content)),
            (301, None),
            (303, None),
            (304, Some(Kind::Content)),
            (404, Some(Kind::Http4xx)),
            (500, Some(Kind::Http5xx)),
        ] {
            let mut judgement = reply(status);
            list.judge(&mut judgement);
            assert_eq!(judgement.kind, kind, "{status}");
        }
        for text in ["", "20", "200,", "303-301", "2xx", "-200", "1000", "200-"] {
            assert!(text.parse::<Statuses>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_phase_is_judged_where_there_is_one() {
        let limits = PhaseLimits(
            [Limits {
                warning: Some(Range::up_to(0.1)),
                critical: Some(Range::up_to(0.5)),
            }; 5],
        );
        let phases = Phases {
            connect: Some(Duration::from_millis(100)),
            first_byte: Some(Duration::from_micros(250_100)),
            ..Phases::default()
        };
        let mut judgement = reply(200);
        limits.judge(&mut judgement, &phases, Duration::ZERO);
        assert_eq!(judgement.words, "line - first byte took 0.2501 s");
        assert_eq!(
            (judgement.state, judgement.kind),
            (State::Warning, Some(Kind::Slow))
        );
        let mut missed = Judgement::final_word(State::Critical, Kind::Reset, String::new());
        limits.judge(&mut missed, &phases, Duration::ZERO);
        assert_eq!(missed.kind, Some(Kind::Reset));
    }
}
