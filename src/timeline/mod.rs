//! `incident_timeline`: what the logs of an incident say, side by side, and with figures what coincides.
//!
//! ```text
//! argv -> Args -> Plan -> [ read ] -> Facts -> Document -> text, JSON, CSV, HTML, SVG, PNG
//!                         the only I/O         ---------- pure functions ----------
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `args`, `plan` | the options, and the options made whole |
//! | `conf`, `format` | nginx' `log_format`: found in a configuration, and taken apart |
//! | `read` | each source through the library's search |
//! | `errors`, `access`, `monitoring`, `journal` | the lines of one kind of source |
//! | `command` | what of a plugin's command line may be shown |
//! | `heard` | what several logs of monitoring tell of the same result |
//! | `group`, `grid`, `series` | time in bins, counts in lanes, and the bins in which they stand out |
//! | `shares`, `common` | how many of how many failed, and what the failing ones share |
//! | `sort`, `strangers`, `gauge`, `causes`, `next` | sorts of trouble, the candidates with what speaks for and against them, what to run next |
//! | `coincide`, `pairs` | which lanes stand out together, against chance |
//! | `document` with `summary` | the report that all forms show |
//! | `text`, `html` with `plots`, `scene` with `svg` and `png` | the forms |
//! | `ticks` | round times for their axes |
//! | `output` | files written whole |

mod access;
mod args;
mod causes;
mod coincide;
mod command;
mod common;
mod conf;
mod document;
mod errors;
mod facts;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gauge;
mod grid;
mod group;
mod heard;
mod html;
mod journal;
mod monitoring;
mod next;
mod output;
mod pairs;
mod plan;
mod plots;
mod png;
mod read;
mod scene;
mod series;
mod shares;
mod sort;
mod strangers;
mod summary;
mod svg;
mod text;
mod ticks;
mod words;

use std::fmt::Write;

use anyhow::{Context, bail};
use clap::FromArgMatches;
use jiff::Timestamp;

pub use args::Args;

use self::args::Form;
use self::document::Document;
use self::facts::Facts;
use self::plan::Plan;
use crate::nginx::clock::{Clock, local_zone};
use crate::plugin::clean::clean_cut;
use crate::plugin::run::Signals;
use crate::plugin::{Names, Run, State, options, output as stdout};

/// How it is called.
const NAMES: Names = Names {
    name: "TIMELINE",
    binary: "incident_timeline",
};

/// Reads the command line and the sources, and reports. The whole of `main`, whose exit code it gives: 0 when the report
/// is made, 3 when it could not be.
pub fn run() -> u8 {
    stdout::introduce(NAMES);
    stdout::report_panics();
    let mut command = options::command::<Args>();
    let args = command
        .try_get_matches_from_mut(std::env::args_os())
        .and_then(|matches| Args::from_arg_matches(&matches));
    let args = match args {
        Ok(args) => args,
        Err(error) => {
            return stdout::finish(
                &options::explain(NAMES.name, &error, &command),
                State::Unknown,
            );
        }
    };
    match report(&args) {
        Ok(text) => stdout::finish_as_it_is(&text, State::Ok),
        Err(error) => {
            let line = format!(
                "{} UNKNOWN: {}\n",
                NAMES.name,
                clean_cut(format!("{error:#}"), 500)
            );
            stdout::finish(&line, State::Unknown)
        }
    }
}

fn report(args: &Args) -> anyhow::Result<String> {
    let signals = Signals::catch()?;
    let run = Run::new(&signals, args.deadline);
    let zone = args.log_tz.clone().unwrap_or_else(local_zone);
    let clock = Clock::new(zone, Timestamp::now());
    let plan = Plan::new(args, &clock)?;
    let mut facts = Facts::new(&plan);
    for input in &plan.inputs {
        if !read::read(input, &clock, &run, &mut facts) {
            break;
        }
    }
    if facts
        .sources
        .iter()
        .all(|source| source.trouble.is_some() && source.used == 0)
    {
        let why: Vec<_> = facts
            .sources
            .iter()
            .filter_map(|source| Some(format!("{}: {}", source.path, source.trouble.as_ref()?)))
            .collect();
        bail!("nothing could be read: {}", why.join("; "));
    }
    let document = document::document(facts, &clock, run.started().as_second());
    let mut written = String::new();
    for (path, form) in &plan.outputs {
        output::write(path, &render(&document, *form)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        // Writing to a String cannot fail.
        let _ = writeln!(written, "written: {}", path.display());
    }
    match plan.form {
        Some(form) => Ok(String::from_utf8_lossy(&render(&document, form)?).into_owned()),
        None => Ok(format!("TIMELINE: {}\n{written}", document.summary)),
    }
}

/// The report in one of its forms.
fn render(document: &Document, form: Form) -> anyhow::Result<Vec<u8>> {
    Ok(match form {
        Form::Text => text::text(document).into_bytes(),
        Form::Csv => text::csv(document).into_bytes(),
        Form::Json => {
            let mut json = serde_json::to_vec(document)?;
            json.push(b'\n');
            json
        }
        Form::Html => html::html(document)?.into_bytes(),
        Form::Svg => svg::svg(&scene::scene(document)).into_bytes(),
        Form::Png => png::png(&scene::scene(document))?,
    })
}
