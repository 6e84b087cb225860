//! The writer of reports against what real daemons stored for 153 plugin outputs.

use proxy_checks::plugin::{Finding, Metric, Report, State, Unit};
use serde_json::Value;

use crate::support::daemons;

/// A recorded case: what a plugin printed, and what the daemons made of it.
struct Case {
    id: String,
    stdout: String,
    recorded: Value,
}

/// The recordings. Bytes that are no UTF-8 stand there as half a surrogate pair, which no JSON parser of ours
/// takes: they become characters of the private use area.
fn cases() -> Vec<Case> {
    let file = include_str!("../fixtures/perfdata_cases.json").replace("\\udc", "\\uf7");
    let document: Value = serde_json::from_str(&file).unwrap();
    let cases = document["cases"].as_array().unwrap();
    let case = |case: &Value| Case {
        id: case["id"].as_str().unwrap().to_owned(),
        stdout: spell_out(&case["stdout"]),
        recorded: case.clone(),
    };
    cases.iter().map(case).collect()
}

fn spell_out(stdout: &Value) -> String {
    match stdout {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(spell_out).collect(),
        Value::Object(object) => {
            let [what, times] = object["repeat"].as_array().unwrap().as_slice() else {
                panic!("{object:?}")
            };
            what.as_str()
                .unwrap()
                .repeat(usize::try_from(times.as_u64().unwrap()).unwrap())
        }
        other => panic!("{other}"),
    }
}

/// The bytes that the case's plugin printed.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for c in text.chars() {
        match u32::from(c) {
            code @ 0xf780..=0xf7ff => bytes.push(u8::try_from(code - 0xf700).unwrap()),
            _ => bytes.extend(c.to_string().bytes()),
        }
    }
    bytes
}

#[test]
fn the_model_stores_what_the_daemons_stored() {
    let mut compared = 0;
    for case in cases() {
        let stored = &case.recorded["icinga"]["2.16.6"];
        let shortened = stored.to_string().contains(" characters)")
            || stored["performance_data_count"].as_u64() > Some(5);
        let replaced = case
            .stdout
            .chars()
            .any(|c| ('\u{f780}'..='\u{f7ff}').contains(&c));
        // Icinga adds words of its own then.
        let ended = case.recorded["exit"].as_i64() > Some(3) || !case.recorded["signal"].is_null();
        if stored.is_null() || shortened || replaced || ended || !case.recorded["stderr"].is_null()
        {
            continue;
        }
        let model = daemons::icinga(&case.stdout);
        assert_eq!(
            model.text,
            stored["output"].as_str().unwrap(),
            "{}",
            case.id
        );
        assert_eq!(
            Value::from(model.perfdata),
            stored["performance_data"],
            "{}",
            case.id
        );
        let nagios = &case.recorded["nagios"]["4.4.6"];
        if nagios.is_object()
            && nagios["state"].as_i64() <= Some(3)
            && !case.id.starts_with("exit-")
            && !case.stdout.trim().is_empty()
        {
            let (text, perfdata) = daemons::nagios(&case.stdout);
            assert_eq!(text, nagios["output"].as_str().unwrap(), "{}", case.id);
            assert_eq!(
                perfdata,
                nagios["performance_data"].as_str().unwrap(),
                "{}",
                case.id
            );
        }
        compared += 1;
    }
    assert!(compared >= 130, "only {compared} cases were compared");
}

/// A report that holds hostile text wherever outside text can stand, and two metrics of its own.
fn report_with(outside: &[u8]) -> Report {
    let outside = String::from_utf8_lossy(outside).into_owned();
    let mut report = Report::new(State::Critical, format!("HTTP/1.1 500 {outside}"));
    report.findings.push(Finding {
        cause: "http-5xx",
        state: State::Critical,
        text: outside.clone(),
        advice: outside.clone(),
    });
    report.line(0, &outside);
    report.line(0, format!("a blank line, then: \n\n{outside}"));
    report
        .metrics
        .push(Metric::seconds("time", 0.25).limits("1".parse().ok(), "5:".parse().ok()));
    report.metrics.push(Metric::new(outside, 7.0));
    report
}

#[test]
fn no_text_of_any_case_reaches_the_performance_data() {
    for case in cases() {
        let report = report_with(&bytes(&case.stdout));
        let text = report.text("HTTP", 3);
        let stored = daemons::icinga(&text);
        assert_eq!(stored.perfdata.len(), 2, "{}: {stored:?}", case.id);
        assert_eq!(stored.perfdata[0], "time=0.25s;1;5:;0;", "{}", case.id);
        let (label, value) = stored.perfdata[1].split_once('=').unwrap();
        assert!(
            label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_'),
            "{}: {label}",
            case.id
        );
        assert_eq!(value, "7;;;;", "{}", case.id);
        let (first, perfdata) = daemons::nagios(&text);
        assert_eq!(
            perfdata,
            format!("'time'=0.25s;1;5:;0; '{label}'=7;;;;"),
            "{}",
            case.id
        );
        assert!(
            first.starts_with("HTTP CRITICAL: HTTP/1.1 500"),
            "{}: {first}",
            case.id
        );
        assert!(
            !text.chars().any(|c| c.is_control() && c != '\n'),
            "{}",
            case.id
        );
        assert!(text.len() <= 64 * 1024, "{}: {} bytes", case.id, text.len());
    }
}

#[test]
fn every_number_that_a_daemon_stored_is_written_so_that_it_is_stored_again() {
    let mut written = 0;
    for case in cases() {
        for version in ["2.13.6", "2.14.6", "2.16.6"] {
            let Some(metrics) = case.recorded["icinga"][version]["metrics"].as_array() else {
                continue;
            };
            for recorded in metrics {
                let (Some(label), Some(value)) =
                    (recorded["label"].as_str(), recorded["value"].as_f64())
                else {
                    continue;
                };
                let stored = stored_again(label, value, recorded);
                let fields: Vec<_> = stored.split_once('=').unwrap().1.split(';').collect();
                assert_same(fields[0].trim_end_matches(['s', '%', 'B']), value, &case.id);
                for (field, name) in fields[1..].iter().zip(["warn", "crit", "min", "max"]) {
                    if let Some(bound) = recorded[name].as_f64() {
                        // A threshold below zero is the range from minus infinity up to it.
                        assert_same(field.trim_start_matches("~:"), bound, &case.id);
                    }
                }
                written += 1;
            }
        }
    }
    assert!(written >= 300, "only {written} numbers were written");
}

/// Writes a number as a daemon has it and gives the item that a daemon would store of that.
fn stored_again(label: &str, value: f64, recorded: &Value) -> String {
    let unit = match recorded["unit"].as_str() {
        Some("seconds") => Unit::Seconds,
        Some("percent") => Unit::Percent,
        Some("bytes") => Unit::Bytes,
        _ => Unit::None,
    };
    let range = |name: &str| {
        let number = recorded[name].as_f64()?;
        format!("{}{number}", if number < 0.0 { "~:" } else { "" })
            .parse()
            .ok()
    };
    let mut metric = Metric::new(label.to_owned(), value)
        .unit(unit)
        .limits(range("warn"), range("crit"));
    if let Some(min) = recorded["min"].as_f64() {
        metric = metric.min(min);
    }
    if let Some(max) = recorded["max"].as_f64() {
        metric = metric.max(max);
    }
    let mut report = Report::new(State::Ok, "fine");
    report.metrics.push(metric);
    let mut items = daemons::icinga(&report.text("TEST", 0)).perfdata;
    assert_eq!(items.len(), 1, "{items:?}");
    items.remove(0)
}

/// The same number up to six digits behind the point, where metric writers cut, and a double's precision.
fn assert_same(text: &str, number: f64, id: &str) {
    let back: f64 = text
        .parse()
        .unwrap_or_else(|_| panic!("{id}: {text} for {number}"));
    assert!(
        (back - number).abs() <= (number.abs() * 1e-12).max(5e-7),
        "{id}: {number} came back as {back}"
    );
}
