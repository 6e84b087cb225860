//! Pages of JSON.

use super::{Act, FaultServer, GOOD, always, command, outcome, page};

#[test]
fn a_page_of_json_is_held_against_paths_values_and_ranges() {
    let text = r#"{"status": "degraded", "queue": 120, "parts": [{"name": "db", "up": true}, {"name": "mq", "up": false}]}"#;
    let server = always(page(GOOD, text));
    for (arguments, code, words) in [
        (&["--json-path", "$.status"][..], 0, "HTTP/1.1 200 OK - "),
        (
            &["--json-path", "$.status=degraded"],
            0,
            "HTTP/1.1 200 OK - ",
        ),
        (
            &["--json-path=$.status=up", "--json-path=$.nothing"],
            2,
            "HTTP/1.1 200 OK - JSON $.status is \"degraded\", not up, JSON $.nothing selects nothing",
        ),
        (
            &["--json-path", "$.parts[*].up=true"],
            2,
            "HTTP/1.1 200 OK - JSON $.parts[*].up is false, not true",
        ),
        (
            &["--json-path", "$.parts[?@.name=='db'].up=true"],
            0,
            "HTTP/1.1 200 OK - ",
        ),
        (
            &[
                "--json-warning",
                "$.queue=100",
                "--json-critical",
                "$.queue=500",
            ],
            1,
            "HTTP/1.1 200 OK - JSON $.queue is 120, outside of 100",
        ),
        (
            &[
                "--json-warning",
                "$.queue=50",
                "--json-critical",
                "$.queue=100",
            ],
            2,
            "HTTP/1.1 200 OK - JSON $.queue is 120, outside of 50, JSON $.queue is 120, outside of 100",
        ),
        (
            &["--json-path", "status"],
            3,
            "--json-path status: this is no JSONPath",
        ),
        (
            &["--json-critical", "$.queue=soon"],
            3,
            "--json-critical $.queue=soon: 'soon' is no range",
        ),
        (&["--json-path", ""], 0, "HTTP/1.1 200 OK - "),
    ] {
        let outcome = outcome(command(&server, "--attempts 1").args(arguments));
        assert_eq!(outcome.code, Some(code), "{arguments:?}: {}", outcome.text);
        let (_, text) = outcome.headline().split_once(": ").unwrap();
        assert!(text.starts_with(words), "{arguments:?}: {}", outcome.text);
    }
    let outcome = outcome(
        command(&server, "--attempts 3 --format json").args(["--json-path", "$.status=up"]),
    );
    assert_eq!(
        outcome.json()["details"]["kinds"]["content"],
        3,
        "{}",
        outcome.text
    );
}

#[test]
fn hostile_json_is_a_failure_like_any_other() {
    let deep = "[".repeat(1_000_000);
    let large = format!("[{}0]", "0,".repeat(3_000_000));
    for (body, words) in [
        ("<html>", "the page is no JSON: expected value"),
        (&deep, "the page is no JSON: recursion limit"),
        (&large, "the page is too large to be read as JSON"),
        (
            r#"{"a": "x|y=1\u001b[2J"}"#,
            "JSON $.a is \"x!y=1\\x1b[2J\", not up",
        ),
        (
            r#"{"a": 1e999}"#,
            "the page is no JSON: number out of range",
        ),
    ] {
        let body = body.to_owned();
        let server = FaultServer::start(move |_| Act::Send(page(GOOD, &body)));
        let outcome = outcome(command(&server, "--attempts 1").args(["--json-path", "$.a=up"]));
        assert_eq!(outcome.code, Some(2), "{}", outcome.text);
        assert!(outcome.headline().contains(words), "{}", outcome.text);
    }
}
