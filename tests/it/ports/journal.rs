//! `--journal`: what is written down of each look.

use std::fs;

use serde_json::{Value, json};

use super::{check, entry, namespace};
use crate::support::oracle::Scene;
use crate::support::sockets::Choice;

const A: &str = "192.0.2.1";
const TO: &str = "192.0.2.3:80";

fn records(path: &std::path::Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn each_look_is_a_line_that_says_what_the_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let journal = path.to_str().unwrap();
    let mut scene = Scene::new("journal", "20000 20099");
    scene.listen(TO);
    scene.connect(A, TO, 10, Choice::Connect);
    scene.time_wait(A, TO, 5, Choice::Connect);
    let outcome = check(&scene.ns, &["--format=json", "--journal", journal]);
    let told = namespace(&outcome);
    let seen = records(&path);
    assert_eq!(seen.len(), 1);
    let record = &seen[0];
    assert_eq!(record["record"], "ports");
    assert_eq!(record["namespace"], told["name"]);
    let tuple = entry(&told["destinations"], &[("port", json!(80))]);
    assert_eq!(record["tightest"], tuple);
    assert_eq!(record["budget"], "connect");
    assert_eq!(record["used"], tuple["used"]);
    assert_eq!(
        (&record["limit"], &record["time_wait"]),
        (&json!(100), &json!(5))
    );
    assert_eq!(
        record["leader"],
        json!({"destination": "192.0.2.3", "port": 80, "sockets": 15})
    );
    let source = entry(&told["sources"], &[("address", json!(A))]);
    assert_eq!(entry(&record["sources"], &[("address", json!(A))]), source);

    let outcome = check(
        &scene.ns,
        &["--sample", "300ms", "--format=json", "--journal", journal],
    );
    let looks = outcome.json()["details"]["journal"]["written"]
        .as_u64()
        .unwrap();
    assert!(looks > 1);
    assert_eq!(records(&path).len() as u64, 1 + looks);
}

#[test]
fn a_journal_that_cannot_be_written_changes_nothing_but_one_line() {
    let scene = Scene::new("journal", "20000 20099");
    let outcome = check(&scene.ns, &["--journal", "/dev/full"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(
        outcome
            .text
            .contains("\nthe journal /dev/full lacks 1 of 1 records of this run: "),
        "{}",
        outcome.text
    );
}
