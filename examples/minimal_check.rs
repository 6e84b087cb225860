//! The smallest check that the library makes a whole plugin of: how a fourth one would start.
//!
//! It also misbehaves when told to, which is how the tests see what the library does about that.
#![cfg_attr(all(target_os = "linux", target_env = "gnu"), no_main)]

use std::time::Duration;

use clap::{Parser, ValueEnum};
use proxy_checks::plugin::{Arguments, Common, Limits, Metric, Plugin, Range, Report, Run};

/// Counts to a number, a step each 10 ms
#[derive(Debug, Parser)]
#[command(name = "minimal_check", version, after_help = EXAMPLES)]
struct Args {
    /// How far to count
    #[arg(long, default_value_t = 3)]
    to: u64,

    /// Range for the number reached before WARNING
    #[arg(short, long, allow_hyphen_values = true)]
    warning: Option<Range>,

    /// Range for the number reached before CRITICAL
    #[arg(short, long, allow_hyphen_values = true)]
    critical: Option<Range>,

    /// What to do instead of counting
    #[arg(long, value_enum)]
    misbehave: Option<Misbehaviour>,

    #[command(flatten)]
    common: Common,
}

const EXAMPLES: &str = "Examples:
  minimal_check --to 5
  minimal_check --to 5 -w 4 -c 10
  minimal_check --to 1000 --deadline 2s";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Misbehaviour {
    Panic,
    PanicInThread,
    Hang,
    Fail,
}

impl Arguments for Args {
    fn common(&self) -> &Common {
        &self.common
    }
}

fn check(args: &Args, run: &Run) -> anyhow::Result<Report> {
    match args.misbehave {
        Some(Misbehaviour::Panic) => panic!("told to | \u{1b}[31m"),
        Some(Misbehaviour::PanicInThread) => {
            let _ = std::thread::spawn(|| panic!("told to")).join();
        }
        Some(Misbehaviour::Hang) => std::thread::sleep(Duration::from_hours(1)),
        Some(Misbehaviour::Fail) => anyhow::bail!("cannot count: no fingers"),
        None => {}
    }
    let mut reached = 0;
    while reached < args.to && run.sleep(Duration::from_millis(10)) {
        reached += 1;
    }
    let limits = Limits {
        warning: args.warning,
        critical: args.critical,
    };
    let mut report = Report::new(
        limits.judge(reached as f64),
        format!("counted {reached} of {}", args.to),
    );
    report
        .metrics
        .push(Metric::count("reached", reached).limits(args.warning, args.critical));
    report.line(1, "one finger at a time");
    report.details = serde_json::json!({"reached": reached});
    Ok(report)
}

const PLUGIN: Plugin<Args> = Plugin {
    name: "COUNT",
    binary: "minimal_check",
    check,
};

proxy_checks::plugin_main!(&PLUGIN);
