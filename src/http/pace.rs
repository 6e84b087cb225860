//! How many probes, and how fast.

use std::time::Duration;

use crate::plugin::options::{parse_duration, parse_positive_duration};
use crate::stats;

/// The probes of a run that does not say.
const ATTEMPTS: u64 = 10;

/// Its options.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Probing")]
pub struct PaceArgs {
    /// Probes to send over each path, each on a new connection [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub attempts: Option<u64>,

    /// Send probes for this long instead
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub duration: Option<Duration>,

    /// Send as many probes over each path as it takes to see this failure rate with 95 % confidence: 1% takes 299
    #[arg(long, value_name = "P%", conflicts_with_all = ["attempts", "duration"], value_parser = parse_share)]
    pub detect: Option<f64>,

    /// The time from the start of one probe to the start of the next [default: back to back]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub interval: Option<Duration>,

    /// The probes to start in each second, as 50 or 50/s
    #[arg(long, value_name = "N/s", conflicts_with = "interval", value_parser = parse_rate)]
    pub rate: Option<Duration>,

    /// Probes in flight at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub concurrency: u32,

    /// Send requests over connections that are there already, as browsers and proxies do: what happens to new ones alone, a
    /// refusal, a full queue or a failing handshake, is not seen then
    #[arg(long)]
    pub keepalive: bool,
}

/// A run's pace.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The number of probes over each path, where it has an end.
    pub attempts: Option<u64>,
    /// For how long probes are started.
    pub duration: Option<Duration>,
    /// From the start of one probe to the start of the next; zero: back to back.
    pub interval: Duration,
    /// Probes in flight at the same time.
    pub concurrency: usize,
    /// Whether connections are reused.
    pub keepalive: bool,
}

impl From<&PaceArgs> for Pace {
    fn from(args: &PaceArgs) -> Self {
        Self {
            attempts: match (args.attempts, args.detect) {
                (Some(attempts), _) => Some(attempts),
                (None, Some(rate)) => Some(stats::trials_to_detect(rate)),
                (None, None) => args.duration.is_none().then_some(ATTEMPTS),
            },
            duration: args.duration,
            interval: args.interval.or(args.rate).unwrap_or(Duration::ZERO),
            concurrency: args.concurrency as usize,
            keepalive: args.keepalive,
        }
    }
}

/// A share above 0 and below 100 %, as a number between 0 and 1.
fn parse_share(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|percent| (0.0001..=99.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| format!("'{text}': give a percentage from 0.0001% to 99%"))
}

/// A rate, as the time between two probes.
fn parse_rate(text: &str) -> Result<Duration, String> {
    let number: Option<f64> = text.strip_suffix("/s").unwrap_or(text).parse().ok();
    number
        .filter(|rate| (0.001..=100_000.0).contains(rate))
        .map(|rate| Duration::from_secs_f64(1.0 / rate))
        .ok_or_else(|| format!("'{text}': give probes a second, from 0.001 to 100000"))
}
