//! What holds of a report whatever its logs hold.

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::access::Access;
use super::args::Form;
use super::conf;
use super::document::document;
use super::errors::Errors;
use super::facts::{Facts, Source};
use super::format::Format;
use super::grid;
use super::journal;
use super::monitoring::Monitoring;
use super::plan::{Input, Kind, Plan};
use crate::fuzzing::Feed;
use crate::nginx::clock::Clock;

/// The time of the seeds.
const NOW: i64 = 1_700_000_000;

/// The logs, in the order of their bytes.
const KINDS: [Kind; 4] = [Kind::Error, Kind::Access, Kind::Monitoring, Kind::Journal];

/// A form of the report, a `log_format`, and a log of each kind, with a NUL byte between them.
pub fn report(data: &[u8]) {
    let mut feed = Feed(data);
    let form = feed.byte();
    let text = String::from_utf8_lossy(feed.some()).into_owned();
    let clock = Clock::new(TimeZone::UTC, Timestamp::from_second(NOW).expect("a time"));
    let mut formats: Vec<_> = Format::new(&conf::unescaped(&text)).into_iter().collect();
    formats.push(Format::combined());
    for directive in conf::directives(&text) {
        assert!(directive.iter().all(|word| word.len() <= text.len()));
    }
    let plan = plan(formats);
    let mut facts = Facts::new(&plan);
    for (input, log) in plan.inputs.iter().zip(feed.0.split(|byte| *byte == 0)) {
        let source = read(input, log, &clock, &mut facts);
        assert!(source.used + source.unparsed <= 2 * source.lines);
        facts.sources.push(source);
    }
    let document = document(facts, &clock, NOW);
    let bins = i64::try_from(document.window.bins).expect("some thousands");
    assert!(bins <= grid::MOST_BINS + 2);
    let form = match form % 4 {
        0 => Form::Json,
        1 => Form::Csv,
        2 => Form::Html,
        _ => Form::Text,
    };
    let shown = super::render(&document, form).expect("it can be shown");
    let shown = String::from_utf8(shown).expect("it is text");
    let steers = |c: char| c.is_control() && c != '\n';
    assert!(!shown.contains(steers), "{shown:?}");
    match form {
        Form::Json => {
            serde_json::from_str::<serde_json::Value>(&shown).expect("JSON");
        }
        // Its own scripts, and no other.
        Form::Html => assert_eq!(shown.matches("<script").count(), SCRIPTS, "{shown}"),
        _ => {}
    }
}

/// How many scripts a page has.
const SCRIPTS: usize = 2;

/// Logs of each kind, access logs in these forms, and nothing else asked for.
pub(super) fn plan(formats: Vec<Format>) -> Plan {
    let input = |kind: Kind| Input {
        kind,
        path: PathBuf::from("log"),
        name: None,
    };
    Plan {
        inputs: KINDS.map(input).to_vec(),
        formats,
        since: None,
        before: None,
        step: None,
        marks: Vec::new(),
        outputs: Vec::new(),
        form: None,
        top: 8,
    }
}

fn read(input: &Input, log: &[u8], clock: &Clock, facts: &mut Facts<'_>) -> Source {
    let mut source = Source {
        path: "log".to_owned(),
        kind: input.kind.name(),
        ..Source::default()
    };
    let lines: Vec<_> = log
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .collect();
    source.lines = lines.len() as u64;
    match input.kind {
        Kind::Error => {
            let mut errors = Errors::new(clock);
            for line in lines {
                errors.line(line, facts, &mut source);
            }
            errors.finish(facts, &mut source);
        }
        Kind::Access => {
            let mut access = Access::new(&facts.plan.formats, input, clock);
            for line in lines {
                access.line(line, facts, &mut source);
            }
            access.finish(facts, &mut source);
        }
        Kind::Monitoring => {
            let mut monitoring = Monitoring::new(clock);
            for line in lines {
                monitoring.line(line, facts, &mut source);
            }
            monitoring.finish(facts);
        }
        Kind::Journal => {
            for line in lines {
                journal::line(line, facts, &mut source);
            }
        }
    }
    source
}
