//! Properties of what all plugins share: ranges, durations, the report, what is kept between two runs.

use std::str::FromStr;

use super::options::{parse_duration, parse_positive_duration, parse_state};
use super::state_file;
use super::submit;
use super::{Finding, Limit, Metric, Names, Range, Report, State, Unit, clean};
use crate::fuzzing::{Feed, assert_harmless, daemons};

/// Ranges, limits, durations and states: what is taken prints as something that means the same.
pub fn ranges(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(range) = Range::from_str(text) {
        let again = Range::from_str(&range.to_string()).expect("what a range prints is a range");
        for value in [0.0, -1.0, 0.5, 10.0, 1e9, -1e9, range.end(), -range.end()] {
            // What is printed is cut at six digits.
            let distance = (value - range.end()).abs();
            let near = distance < 1e-5 && distance > 0.0;
            assert!(
                near || range.alerts(value) == again.alerts(value) || text.contains('.'),
                "{text} is not {again} at {value}"
            );
        }
        assert_eq!(Range::from_str(&again.to_string()), Ok(again));
        let _ = range.scaled(100.0).to_string();
    }
    if let Ok(limit) = Limit::from_str(text) {
        let again = Limit::from_str(&limit.to_string()).expect("what a limit prints is a limit");
        assert_eq!(Limit::from_str(&again.to_string()), Ok(again));
        let _ = limit.alerts(1.0, 0.0);
        let _ = limit.as_count(300.0).to_string();
    }
    let plain = parse_duration(text);
    if let Ok(duration) = parse_positive_duration(text) {
        assert_eq!(Ok(duration), plain);
        assert!(!duration.is_zero());
        // Nothing that is added to the present time may overflow.
        let _ = std::time::Instant::now()
            .checked_add(duration)
            .expect("a time to come");
    }
    let _ = parse_state(text);
    for error in [Range::from_str(text).err(), Limit::from_str(text).err()] {
        assert!(error.is_none_or(|error| !error.is_empty()));
    }
}

/// A report of any texts and numbers, against a model of how Icinga and Nagios take it apart.
pub fn report(data: &[u8]) {
    let mut feed = Feed(data);
    let states = [State::Ok, State::Warning, State::Critical, State::Unknown];
    let state = states[usize::from(feed.byte() & 3)];
    let verbosity = feed.byte() & 3;
    let text = |feed: &mut Feed<'_>| String::from_utf8_lossy(feed.some()).into_owned();
    let mut report = Report::new(state, text(&mut feed));
    let units = [Unit::None, Unit::Seconds, Unit::Bytes, Unit::Percent];
    for _ in 0..feed.byte() & 7 {
        let label = text(&mut feed);
        let mut metric = Metric::new(label, f64::from_bits(feed.number()))
            .unit(units[usize::from(feed.byte() & 3)]);
        let range = |feed: &mut Feed<'_>| std::str::from_utf8(feed.some()).ok()?.parse().ok();
        metric = metric.limits(range(&mut feed), range(&mut feed));
        if feed.byte() & 1 == 1 {
            metric = metric
                .min(f64::from_bits(feed.number()))
                .max(f64::from_bits(feed.number()));
        }
        report.metrics.push(metric);
    }
    for _ in 0..feed.byte() & 3 {
        report.findings.push(Finding {
            cause: "cause",
            state,
            text: text(&mut feed),
            advice: text(&mut feed),
        });
    }
    report.line(feed.byte() & 3, String::from_utf8_lossy(feed.0));
    report.details = serde_json::json!({ "outside": String::from_utf8_lossy(feed.0) });

    let printed = report.text("NAME", verbosity);
    let known: Vec<_> = report
        .metrics
        .iter()
        .filter(|metric| metric.is_known())
        .collect();
    let (first, below) = printed.split_once('\n').expect("a line feed at the end");
    let (words, perfdata) = first.split_once('|').unwrap_or((first, ""));
    assert!(words.starts_with(&format!("NAME {state}:")), "{words}");
    assert_harmless(words);
    assert_eq!(perfdata.is_empty(), known.is_empty());
    assert!(!perfdata.contains('|') && perfdata.is_ascii());
    below.lines().for_each(assert_harmless);
    let stored = daemons::icinga(&printed);
    assert_eq!(stored.perfdata.len(), known.len(), "{printed}");
    for (item, metric) in stored.perfdata.iter().zip(&known) {
        let (label, value) = item.split_once('=').expect("an item has a value");
        assert_eq!(label, metric.label());
        let digits = value.split(';').next().unwrap_or_default();
        let digits = digits.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
        let read: f64 = digits.parse().expect("a value is a number");
        let off = (read - metric.value()).abs();
        assert!(off <= 1e-6 + metric.value().abs() * 1e-9, "{item}");
        assert!(value.split(';').count() <= 5, "{item}");
    }
    let (_, all) = daemons::nagios(&printed);
    assert_eq!(all, perfdata.trim());

    let names = Names {
        name: "NAME",
        binary: "check_name",
    };
    let document = report.json(names, None);
    let value: serde_json::Value = serde_json::from_str(&document).expect("one document");
    assert_eq!(
        value["perfdata"].as_array().map(Vec::len),
        Some(known.len())
    );
    assert!(document.ends_with('\n') && document.lines().count() == 1);
    for text in [
        super::openmetrics::render(&report, names, Some("a series")),
        super::munin::values(&report, names, None),
        super::munin::config(&report, names, None),
    ] {
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(steers), "{text:?}");
    }
    let once = clean::clean(feed.0);
    assert_eq!(clean::clean(&once), once);
    let _ = super::wrap::wrap(&printed, 40 + usize::from(feed.byte()));
}

/// The frame around a state.
pub fn state_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(content) = state_file::content(&text, "check_name", 7) {
        let framed = state_file::framed(content, "check_name", 7);
        // The version may be written with a plus, the checksum in capitals.
        let again = state_file::content(&framed, "check_name", 7);
        assert_eq!(again, Ok(content));
        assert!(state_file::content(&text, "check_name", 8).is_err());
        assert!(state_file::content(&text, "check_other", 7).is_err());
    }
    let framed = state_file::framed(&text, "check_name", 7);
    let read = state_file::content(&framed, "check_name", 7);
    assert_eq!(read, Ok(&*text));
}

/// Results that wait for Icinga, and the names of their files.
pub fn queue(data: &[u8]) {
    submit::fuzzing::queue(data);
}
