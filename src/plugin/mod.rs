//! The contract with Icinga and Nagios; knows nothing of HTTP, ports or nginx.
//!
//! A plugin gives its options and a function from options to a [`Report`]; [`run()`] does the rest: reads the
//! command line, sets the deadline, minds signals, repeats when asked to, writes the report once, and turns
//! errors and panics into one UNKNOWN line. Exit codes are decided here and nowhere else.
//!
//! | module | owns |
//! |---|---|
//! | [`options`] | the options that all plugins share, and how a command line is read |
//! | [`range`] | Nagios ranges: parse, print, judge |
//! | [`clean`] | the one function that makes outside text harmless |
//! | [`metric`] | one number of the performance data |
//! | [`report`] | state, words and numbers to the text and JSON forms |
//! | [`openmetrics`], [`munin`] | the same report for Prometheus and Munin |
//! | [`output`] | the only writer to standard output; last words after a panic or a missed deadline |
//! | [`wrap`](mod@wrap) | a report's lines broken between words, for a terminal |
//! | [`start`] | the way into a binary: what comes before [`run()`] |
//! | [`run`](mod@run) | one run's clock: deadline, SIGTERM and SIGINT |
//! | [`repeat`] | `--until` and `--forever` |
//! | [`window`] | what a loop has tried in the last hour and the last day |
//! | [`secret`] | passwords from a file or the environment |
//! | [`state_file`] | what a plugin remembers between two runs |
//! | [`journal`] | what runs append to a file as they measure |
//! | [`submit`] | `--submit`: results to Icinga's API |

pub mod clean;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod journal;
pub mod metric;
pub mod munin;
pub mod openmetrics;
pub mod options;
pub mod output;
pub mod range;
pub mod repeat;
pub mod report;
pub mod run;
pub mod secret;
pub mod start;
pub mod state_file;
pub mod submit;
pub mod window;
pub mod wrap;

pub use metric::{Metric, Unit};
pub use nagiosplugin::ServiceState as State;
pub use options::{Arguments, Common};
pub use range::{Limit, Limits, Range};
pub use report::{Finding, Progress, Report};
pub use run::{End, Run};

/// What [`run()`] needs to know of a plugin.
pub struct Plugin<A> {
    /// The word that starts the first line, as in `HTTP OK: …`.
    pub name: &'static str,
    /// The name of the binary, as in the JSON document's `plugin`.
    pub binary: &'static str,
    /// One measurement: options and the run's clock in, a report out. An error is the plugin's own trouble
    /// and ends as UNKNOWN; a failure of what is checked is a fact and belongs into the report.
    pub check: fn(&A, &Run) -> anyhow::Result<Report>,
}

impl<A> Plugin<A> {
    /// How it is called.
    pub const fn names(&self) -> Names {
        Names {
            name: self.name,
            binary: self.binary,
        }
    }
}

/// How a plugin is called, apart from what it does.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// The word that starts the first line.
    pub name: &'static str,
    /// The name of the binary.
    pub binary: &'static str,
}

/// Reads the command line, runs the plugin and reports: the whole of every `main`, which has the exit code from here.
pub fn run<A: Arguments>(plugin: &Plugin<A>) -> u8 {
    output::introduce(plugin.names());
    output::report_panics();
    let args = match options::parse::<A>(plugin.name, std::env::args_os()) {
        Ok(args) => args,
        Err(answer) => return output::finish(&answer, State::Unknown),
    };
    output::speak_as(args.common());
    match repeat::run(plugin, &args) {
        Ok((text, state)) => output::finish(&text, state),
        Err(error) => {
            let report = Report::unknown(&error);
            output::finish(
                &report.render(plugin.names(), args.common(), None),
                State::Unknown,
            )
        }
    }
}
