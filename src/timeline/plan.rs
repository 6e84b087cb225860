//! The options made whole: what to read, from when to when, and where the report goes.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::civil::Time;

use super::Args;
use super::args::Form;
use super::conf;
use super::format::Format;
use super::grid::{LADDER, step_for};
use crate::nginx::clock::Clock;
use crate::nginx::{point_by, search, span};

/// How many markers there may be.
const MARKS: usize = 100;

/// What a source is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// nginx' error log.
    Error,
    /// nginx' access log.
    Access,
    /// Icinga's or Nagios' log.
    Monitoring,
    /// A journal of this suite's checks.
    Journal,
}

impl Kind {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error-log",
            Self::Access => "access-log",
            Self::Monitoring => "icinga-log",
            Self::Journal => "journal",
        }
    }
}

/// One file to read.
#[derive(Debug, Clone)]
pub struct Input {
    /// As what.
    pub kind: Kind,
    /// Where; `-` for standard input.
    pub path: PathBuf,
    /// What the user calls the machine that it comes from.
    pub name: Option<String>,
}

/// A moment that the user knows of.
#[derive(Debug, Clone)]
pub struct Mark {
    /// In seconds since 1970.
    pub at: i64,
    /// What happened.
    pub text: String,
    /// The time of day, where that was all that was given.
    pub time: Option<Time>,
}

/// What to do.
#[derive(Debug)]
pub struct Plan {
    /// What to read, in this order.
    pub inputs: Vec<Input>,
    /// Forms that access logs may have: the one that reads most of a log's first lines is taken.
    pub formats: Vec<Format>,
    /// The first second, and the first behind the last; `None` for all that there is.
    pub since: Option<i64>,
    pub before: Option<i64>,
    /// The width of a bin where it is fixed.
    pub step: Option<i64>,
    /// Moments to show.
    pub marks: Vec<Mark>,
    /// Files to write.
    pub outputs: Vec<(PathBuf, Form)>,
    /// The form on standard output; `None`: one line.
    pub form: Option<Form>,
    /// How many lanes of a kind are shown.
    pub top: usize,
}

impl Plan {
    /// Reads the options against a clock.
    pub fn new(args: &Args, clock: &Clock) -> anyhow::Result<Self> {
        let mut inputs = Vec::new();
        let has_window = args.since.is_some() || args.before.is_some();
        for (kind, texts) in [
            (Kind::Journal, &args.journal),
            (Kind::Error, &args.error_log),
            (Kind::Access, &args.access_log),
            (Kind::Monitoring, &args.icinga_log),
        ] {
            for text in texts {
                add_inputs(&mut inputs, kind, text, has_window)?;
            }
        }
        if inputs.is_empty() {
            bail!(
                "nothing to read: give --error-log, --access-log, --icinga-log or --journal, as in -e /var/log/nginx/error.log"
            );
        }
        if inputs
            .iter()
            .filter(|input| input.path == Path::new("-"))
            .count()
            > 1
        {
            bail!("standard input (-) can be read only once");
        }
        let (since, before) = span(args.since.as_deref(), args.before.as_deref(), clock)?;
        if since
            .zip(before)
            .is_some_and(|(since, before)| since >= before)
        {
            bail!("--since has to lie before --before");
        }
        if args.mark.len() > MARKS {
            bail!("more than {MARKS} times --mark");
        }
        let by = before.map_or(clock.now(), |before| before - 1);
        let marks = args.mark.iter().map(|text| mark(text, clock, by));
        let outputs = args
            .output
            .iter()
            .map(|path| Ok((path.clone(), form_of(path)?)));
        let form = match args.format {
            None if args.output.is_empty() => Some(Form::Text),
            form => form,
        };
        Ok(Self {
            inputs,
            formats: formats(args)?,
            since,
            before,
            step: step(args, since, before)?,
            marks: marks.collect::<anyhow::Result<_>>()?,
            outputs: outputs.collect::<anyhow::Result<_>>()?,
            form,
            top: usize::from(args.top),
        })
    }

    /// Whether a second is part of the window.
    pub fn holds(&self, at: i64) -> bool {
        self.since.is_none_or(|since| at >= since) && self.before.is_none_or(|before| at < before)
    }
}

/// `FILE`, `NAME=FILE`, each also as a pattern. In a window the earlier files of a log are read along with it.
fn add_inputs(
    inputs: &mut Vec<Input>,
    kind: Kind,
    text: &str,
    has_window: bool,
) -> anyhow::Result<()> {
    let (name, path) = match text.split_once('=') {
        Some((name, path))
            if !name.is_empty() && !name.contains('/') && !Path::new(text).exists() =>
        {
            (Some(name.to_owned()), path)
        }
        _ => (None, text),
    };
    let named = [PathBuf::from(path)];
    let paths = if path == "-" {
        named.to_vec()
    } else {
        search::expand_all(&named, has_window)?
    };
    inputs.extend(paths.into_iter().map(|path| Input {
        kind,
        path,
        name: name.clone(),
    }));
    Ok(())
}

fn formats(args: &Args) -> anyhow::Result<Vec<Format>> {
    if let Some(text) = &args.log_format {
        let format = Format::new(&conf::unescaped(text)).context("--log-format")?;
        return Ok(vec![format]);
    }
    let mut formats = match &args.nginx_conf {
        Some(path) => conf::log_formats(path).context("--nginx-conf")?,
        None => Vec::new(),
    };
    formats.push(Format::combined());
    Ok(formats)
}

fn step(args: &Args, since: Option<i64>, before: Option<i64>) -> anyhow::Result<Option<i64>> {
    let Some(step) = args.step else {
        return Ok(since
            .zip(before)
            .map(|(since, before)| step_for(before - since)));
    };
    let seconds = i64::try_from(step.as_secs()).unwrap_or(i64::MAX);
    if step.subsec_nanos() > 0 || !LADDER.contains(&seconds) {
        bail!("--step: give one of 1s, 10s, 1m, 10m, 1h and 1d");
    }
    if let Some((since, before)) = since.zip(before)
        && (before - since) / seconds >= super::grid::MOST_BINS
    {
        bail!(
            "--step: the window has more than {} bins of it: give a wider one",
            super::grid::MOST_BINS
        );
    }
    Ok(Some(seconds))
}

/// `05:10 deploy`, `2026-11-23 05:10 deploy`, `2026-11-23T05:10:00Z deploy`.
fn mark(text: &str, clock: &Clock, by: i64) -> anyhow::Result<Mark> {
    let words: Vec<_> = text.trim().splitn(3, ' ').collect();
    let (time, rest) = match words[..] {
        [date, time, rest] if date.contains(['-', '/']) && !date.contains('T') => {
            (format!("{date} {time}"), rest.to_owned())
        }
        [time, ref rest @ ..] if !rest.is_empty() => (time.to_owned(), rest.join(" ")),
        _ => bail!("--mark '{text}': give a time and a text, as in '05:10 deploy of service1'"),
    };
    let at = point_by(&time, clock, by).with_context(|| format!("--mark '{text}'"))?;
    let forms = ["%H:%M:%S", "%H:%M"];
    let clock_time = forms
        .iter()
        .find_map(|form| Time::strptime(form, &time).ok());
    Ok(Mark {
        at,
        text: rest,
        time: clock_time,
    })
}

fn form_of(path: &Path) -> anyhow::Result<Form> {
    let ending = path
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    Ok(match ending.to_ascii_lowercase().as_str() {
        "html" | "htm" => Form::Html,
        "svg" => Form::Svg,
        "png" => Form::Png,
        "json" => Form::Json,
        "csv" => Form::Csv,
        "txt" => Form::Text,
        _ => bail!(
            "-o {}: its ending has to say the form: .html, .svg, .png, .json, .csv or .txt",
            path.display()
        ),
    })
}
