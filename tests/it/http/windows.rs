//! The rolling windows of a loop.

use serde_json::Value;

use super::{FaultServer, every, run};

#[test]
fn a_loop_reports_what_failed_within_the_last_hour_and_day_and_a_single_run_does_not() {
    let server = FaultServer::start(every(9));
    let arguments = "--attempts 3 --until critical --every 0";
    let text = run(&server, arguments).text;
    assert!(
        text.contains("\nlast hour: 1 of 9 probes failed (11.1 %, "),
        "{text}"
    );
    let server = FaultServer::start(every(9));
    let document = run(&server, &format!("{arguments} --format json")).json();
    let metric = |label: &str| {
        let all = document["perfdata"].as_array().unwrap();
        let found = all.iter().find(|metric| metric["label"] == label);
        found.unwrap_or_else(|| panic!("no {label}"))["value"].clone()
    };
    for (label, value) in [
        ("attempts", 3),
        ("attempts_1h", 9),
        ("failed_1h", 1),
        ("attempts_1d", 9),
        ("failed_1d", 1),
    ] {
        assert_eq!(metric(label), value, "{label}");
    }
    let windows = document["details"]["windows"].as_array().unwrap();
    let names: Vec<_> = windows.iter().map(|window| &window["name"]).collect();
    assert_eq!(names, ["1h", "1d"]);
    for window in windows {
        assert_eq!(
            (&window["attempts"], &window["failed"]),
            (&9.into(), &1.into())
        );
        let rate = &window["rate"];
        assert!(rate["low"].as_f64() < rate["estimate"].as_f64(), "{rate}");
        assert!(window["seconds"].as_f64().unwrap() < 60.0, "{window}");
    }
    let alone = run(&server, "--attempts 3 --format json").json();
    assert_eq!(alone["details"]["windows"], Value::Null);
    assert!(!alone["perfdata"].to_string().contains("_1h"), "{alone}");
}
