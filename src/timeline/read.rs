//! Reads all sources, one after the other, through the library's search: rotated, compressed, of any size.

use std::ops::ControlFlow;
use std::path::Path;

use super::access::Access;
use super::errors::Errors;
use super::facts::{Facts, Source};
use super::journal;
use super::monitoring::Monitoring;
use super::plan::{Input, Kind};
use crate::nginx::clock::Clock;
use crate::nginx::search::{Search, Times};
use crate::plugin::Run;

/// How far behind the year 9999 a window without an end reaches.
const FAR: i64 = 250_000_000_000;

/// Reads a source into the facts. What stops that is said in its entry.
pub fn read(input: &Input, clock: &Clock, run: &Run, facts: &mut Facts<'_>) -> bool {
    let mut source = Source {
        path: input.path.display().to_string(),
        name: input.name.clone(),
        kind: input.kind.name(),
        ..Source::default()
    };
    let mut search = Search::new(run, &Times::by(clock.clone()));
    let all = facts.plan.inputs.iter();
    search.apart = all.map(|input| input.path.clone()).collect();
    let result = match input.kind {
        Kind::Error => {
            let mut errors = Errors::new(clock);
            let result = lines(
                &mut search,
                input,
                facts,
                &mut source,
                &mut |line, facts, source| {
                    errors.line(line, facts, source);
                },
            );
            errors.finish(facts, &mut source);
            result
        }
        Kind::Access => {
            search.leaves_syslog = true;
            let mut access = Access::new(&facts.plan.formats, input, clock);
            let result = lines(
                &mut search,
                input,
                facts,
                &mut source,
                &mut |line, facts, source| {
                    access.line(line, facts, source);
                },
            );
            access.finish(facts, &mut source);
            result
        }
        Kind::Monitoring => {
            let mut monitoring = Monitoring::new(clock);
            let result = lines(
                &mut search,
                input,
                facts,
                &mut source,
                &mut |line, facts, source| {
                    monitoring.line(line, facts, source);
                },
            );
            monitoring.finish(facts);
            result
        }
        Kind::Journal => lines(&mut search, input, facts, &mut source, &mut journal::line),
    };
    source.bytes = search.bytes;
    let cut_short = search.cut_short;
    if let Err(error) = result {
        source.trouble = Some(format!("{error:#}"));
    } else if cut_short {
        source.trouble =
            Some("not read to its end: the run had to end (--deadline, or a signal)".to_owned());
    } else if source.lines > 0 && source.unparsed == source.lines {
        source.trouble = Some(format!(
            "no line of it is of the form of {}",
            expected(input.kind)
        ));
    }
    facts.sources.push(source);
    !cut_short
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Error => "an nginx error log",
        Kind::Access => "this access log: give --log-format or --nginx-conf",
        Kind::Monitoring => "a log of Icinga 2 or Nagios",
        Kind::Journal => "a journal of check_http_retry or check_port_exhaustion",
    }
}

type EachLine<'f, 'p> = dyn FnMut(&[u8], &mut Facts<'p>, &mut Source) + 'f;

fn lines<'p>(
    search: &mut Search<'_>,
    input: &Input,
    facts: &mut Facts<'p>,
    source: &mut Source,
    each: &mut EachLine<'_, 'p>,
) -> anyhow::Result<()> {
    let (since, before) = (facts.plan.since, facts.plan.before);
    let mut take = |line: &[u8]| {
        if !line.is_empty() {
            source.lines += 1;
            each(line, facts, source);
        }
        ControlFlow::Continue(())
    };
    if input.path == Path::new("-") {
        search.read_stream(std::io::stdin(), &mut take)?;
        return Ok(());
    }
    match (since, before) {
        (None, None) => search.read_whole(&input.path, &mut take),
        (since, before) => search.read_between(
            &input.path,
            (since.unwrap_or(0), before.unwrap_or(FAR)),
            &mut take,
        ),
    }
}
