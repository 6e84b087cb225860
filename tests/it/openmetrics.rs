//! The form for Prometheus, read back by the rules of the text format.

use std::collections::BTreeMap;

use crate::support::plugin::{outcome, plugin};

/// Name to value of an exposition in which every family has its type and help before its one sample.
fn samples(text: &str, check: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let mut samples = BTreeMap::new();
    let mut family = "";
    let mut told = Vec::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let (what, rest) = rest.split_once(' ').expect("a word");
            let (name, value) = rest.split_once(' ').expect("a name");
            if what == "TYPE" {
                assert_eq!(value, "gauge");
                family = name;
                told.clear();
            }
            assert_eq!(name, family, "{line}");
            assert!(
                what != "UNIT" || name.ends_with(&format!("_{value}")),
                "{line}"
            );
            told.push(what);
            continue;
        }
        assert!(told.contains(&"TYPE") && told.contains(&"HELP"), "{line}");
        let (name, value) = line.split_once(' ').expect("a value");
        let label = format!("{{check=\"{check}\"}}");
        assert_eq!(name.strip_suffix(&label), Some(family), "{line}");
        let value = value.parse().expect("a number");
        assert_eq!(samples.insert(family.to_owned(), value), None, "{line}");
    }
    samples
}

#[test]
fn every_number_is_a_gauge_of_its_own_and_the_exit_code_stays() {
    // Nobody listens on port 1: three failures that are there every time.
    let run = |format: &str| {
        outcome(plugin("check_http_retry").args([
            "-I",
            "127.0.0.1",
            "-p",
            "1",
            "--attempts",
            "3",
            "--series",
            "nobody",
            "--format",
            format,
        ]))
    };
    let outcome = run("openmetrics");
    assert_eq!(outcome.code, Some(2));
    let samples = samples(&outcome.text, "nobody");
    let json = run("json").json();
    let items = json["perfdata"].as_array().expect("a list");
    // One more for the state.
    assert_eq!(samples.len(), items.len() + 1, "{samples:?}");
    for item in items {
        let label = item["label"].as_str().expect("text");
        let start = format!("check_http_retry_{label}");
        assert!(
            samples.keys().any(|name| name.starts_with(&start)),
            "{label}"
        );
    }
    assert!((samples["check_http_retry_state"] - 2.0).abs() < f64::EPSILON);
    assert!((samples["check_http_retry_failed"] - 3.0).abs() < f64::EPSILON);
}
