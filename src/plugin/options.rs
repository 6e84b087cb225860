//! The options that all plugins share, and how a command line is read: as the C plugins do it, so that a
//! `CheckCommand` written for them goes on working.

use std::ffi::OsString;
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, Parser, ValueEnum};
use jiff::{Span, SpanRelativeTo};

use super::submit::SubmitArgs;
use super::{State, clean};

/// A plugin's options: a clap parser that holds the common ones.
pub trait Arguments: Parser {
    /// The options that all plugins share.
    fn common(&self) -> &Common;

    /// The longest that one measurement may take. Where `-t` limits less than a whole run, override this.
    fn limit(&self) -> Duration {
        let common = self.common();
        common
            .timeout
            .map_or(common.limit(), |timeout| timeout.min(common.limit()))
    }

    /// Puts spellings that clap cannot read into ones that it can. An error is what is wrong with one.
    fn rewrite(argv: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
        Ok(argv)
    }
}

/// The options that all plugins share.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Seconds before a connection or a reading counts as timed out
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// The run ends and reports what it has by then; keep it below Icinga's 60 s [default: 50s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub deadline: Option<Duration>,

    /// Run again and again until this state is reached, then report it: ok, warning, critical or unknown
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    pub until: Option<State>,

    /// The time from the start of one run to the start of the next, with --until and --forever
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    pub every: Duration,

    /// Run again and again without an end
    #[arg(long, conflicts_with = "until")]
    pub forever: bool,

    /// The form of the report
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text, ignore_case = true)]
    pub format: Format,

    /// What to call the numbers in the forms openmetrics and munin, where one plugin runs more than once
    /// [default: the plugin's name]
    #[arg(long, value_name = "NAME")]
    pub series: Option<String>,

    /// More details below the first line; up to -vvv
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Where results go as passive check results.
    #[command(flatten)]
    pub submit: SubmitArgs,

    /// Print this help; -h prints a shorter one
    #[arg(short, long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

impl Common {
    /// The longest that one run may take.
    pub fn limit(&self) -> Duration {
        self.deadline.unwrap_or(Duration::from_secs(50))
    }
}

/// The form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// First line with performance data, details below.
    Text,
    /// One JSON document.
    Json,
    /// For Prometheus: a file for the node_exporter's textfile collector.
    Openmetrics,
    /// For Munin: the values.
    Munin,
    /// For Munin: what the values are, as a plugin answers to "config".
    MuninConfig,
}

impl Format {
    /// The exit code of a report. A Munin node throws away what a plugin printed that did not end with 0.
    pub fn exit_state(self, state: State) -> State {
        match self {
            Self::Text | Self::Json | Self::Openmetrics => state,
            Self::Munin | Self::MuninConfig => State::Ok,
        }
    }
}

/// Reads a command line. The error is the text to print before leaving with 3: help, version or what is wrong.
pub fn parse<A: Arguments>(name: &str, argv: impl Iterator<Item = OsString>) -> Result<A, String> {
    parse_with(&mut command::<A>(), name, argv)
}

/// The same with the definition at hand.
pub(crate) fn parse_with<A: Arguments>(
    command: &mut clap::Command,
    name: &str,
    argv: impl Iterator<Item = OsString>,
) -> Result<A, String> {
    let argv = A::rewrite(argv.collect()).map_err(|error| {
        format!(
            "{name} UNKNOWN: {}\n",
            clean::clean_cut(format!("{error:#}"), 300)
        )
    })?;
    command
        .try_get_matches_from_mut(argv)
        .and_then(|matches| A::from_arg_matches(&matches))
        .map_err(|error| explain(name, &error, command))
}

/// The command line's definition, with what all plugins have in common: the last of a repeated option counts,
/// long options may be abbreviated.
pub fn command<A: CommandFactory>() -> clap::Command {
    A::command()
        .infer_long_args(true)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .max_term_width(80)
}

/// Help and version as they are, an error as one line that Icinga shows, and how to learn more.
pub fn explain(name: &str, error: &clap::Error, command: &clap::Command) -> String {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.to_string(),
        _ => format!(
            "{name} UNKNOWN: {} - see {} --help\n",
            what_is_wrong(error),
            command.get_name()
        ),
    }
}

/// One line without the `<NAME>` that clap writes behind an option: Icinga Web would take it for HTML.
fn what_is_wrong(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(option_name(text)),
        Some(ContextValue::Strings(texts)) => Some(
            texts
                .iter()
                .map(|text| option_name(text))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        _ => None,
    };
    let option = context(ContextKind::InvalidArg).unwrap_or_default();
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.as_str(),
        _ => "",
    };
    let text = match error.kind() {
        ErrorKind::UnknownArgument => format!("there is no option {option}"),
        ErrorKind::MissingRequiredArgument => format!("missing {option}"),
        ErrorKind::InvalidValue if value.is_empty() => format!("{option} wants a value"),
        ErrorKind::InvalidValue => match context(ContextKind::ValidValue) {
            Some(valid) => format!("{option} '{value}': give one of {valid}"),
            None => format!("{option} '{value}' is not allowed"),
        },
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(|why| in_words(value, &why.to_string()));
            format!(
                "{option}: {}",
                why.unwrap_or_else(|| format!("'{value}' is not allowed"))
            )
        }
        ErrorKind::ArgumentConflict => {
            let other = context(ContextKind::PriorArg).unwrap_or_default();
            format!("{option} cannot stand with {other}")
        }
        _ => {
            let text = error.to_string();
            text.lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned()
        }
    };
    let suggestion = context(ContextKind::SuggestedArg).map(|arg| format!(", did you mean {arg}?"));
    clean::clean_cut(text + &suggestion.unwrap_or_default(), 300)
}

/// What is wrong with a number, for people: clap writes `70000 is not in 0..=65535`, the standard library `invalid digit
/// found in string`.
fn in_words(value: &str, why: &str) -> String {
    if [
        "invalid digit",
        "cannot parse",
        "number too",
        "invalid float",
    ]
    .iter()
    .any(|start| why.starts_with(start))
    {
        return format!("'{value}' is no number that fits");
    }
    let bounds = why
        .split_once(" is not in ")
        .and_then(|(_, bounds)| bounds.split_once(".."));
    match bounds.map(|(low, high)| (low, high.trim_start_matches('='))) {
        Some((low, "")) => format!("'{value}' is not allowed: give a number from {low} on"),
        Some((low, high)) => {
            format!("'{value}' is not allowed: give a number from {low} to {high}")
        }
        None => why.to_owned(),
    }
}

/// `--deadline <DURATION>` to `--deadline`.
fn option_name(text: &str) -> String {
    text.split([' ', '=']).next().unwrap_or_default().to_owned()
}

/// A duration: `10` and `0.5` are seconds, `500ms`, `10m` and `1h30m` say it themselves.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("'{text}' is no duration: give seconds, or a number with ms, s, m, h or d");
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let duration = if plain {
        text.parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    } else {
        // An ISO 8601 "PT5S" would pass as well; harmless.
        Span::from_str(text)
            .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
    };
    // What is longer than a year is a slip, and would overflow clocks.
    duration
        .filter(|d| d.as_secs() <= 366 * 86_400)
        .ok_or_else(wrong)
}

/// A duration that is longer than nothing.
pub fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err(format!("'{text}' is no time at all: give more")),
        duration => Ok(duration),
    }
}

/// A state, by its name or its exit code.
pub fn parse_state(text: &str) -> Result<State, String> {
    match text.to_ascii_lowercase().as_str() {
        "ok" | "0" => Ok(State::Ok),
        "warning" | "1" => Ok(State::Warning),
        "critical" | "2" => Ok(State::Critical),
        "unknown" | "3" => Ok(State::Unknown),
        _ => Err(format!(
            "'{text}' is no state: give ok, warning, critical or unknown"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_a_number_are_said_in_words() {
        for (value, why, words) in [
            (
                "70000",
                "70000 is not in 0..=65535",
                "'70000' is not allowed: give a number from 0 to 65535",
            ),
            (
                "0",
                "0 is not in 1..",
                "'0' is not allowed: give a number from 1 on",
            ),
            (
                "x",
                "invalid digit found in string",
                "'x' is no number that fits",
            ),
            ("x", "'x' is no duration", "'x' is no duration"),
        ] {
            assert_eq!(in_words(value, why), words);
        }
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [
            ("10", 10_000),
            ("0.5", 500),
            ("500ms", 500),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(
                parse_duration(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        for text in [
            "",
            "-5",
            "5x",
            "inf",
            "nan",
            "1e9",
            ".",
            "10000d",
            "5 apples",
            "-5s",
            "99999999999999999999",
        ] {
            assert!(parse_duration(text).is_err(), "{text} was taken");
        }
    }
}
