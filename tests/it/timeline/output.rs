//! What it puts out: a line where it fails, text for a terminal, and files.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{example, of_example, timeline};
use crate::support::plugin::{Outcome, outcome};

/// Runs it where it has to fail, and gives the one line that it says.
fn trouble(arguments: &[&str], folder: &Path) -> String {
    let Outcome { code, text } = outcome(timeline().current_dir(folder).args(arguments));
    assert_eq!(
        (code, text.lines().count()),
        (Some(3), 1),
        "{arguments:?}: {text}"
    );
    assert!(text.starts_with("TIMELINE UNKNOWN: "), "{text}");
    text
}

#[test]
fn trouble_of_its_own_is_one_line_and_3() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    for (arguments, words) in [
        (&[][..], "nothing to read"),
        (&["--bad"], "there is no option --bad"),
        (&["-e", "none.log"], "cannot read none.log"),
        (
            &["-e", "access.log"],
            "is of the form of an nginx error log",
        ),
        (&["-a", "error.log"], "--log-format"),
        (
            &[
                "-e",
                "error.log",
                "--since",
                "2026-11-23 06:00",
                "--before",
                "2026-11-23 05:00",
            ],
            "--since",
        ),
        (
            &["-e", "error.log", "--since", "soon"],
            "--since: 'soon' is no time",
        ),
        (&["-e", "error.log", "--mark", "deploy"], "--mark"),
        (&["-e", "error.log", "--step", "7s"], "--step: give one of"),
        (
            &["-e", "error.log", "--log-format", "$status"],
            "--log-format: the format has no $time_local",
        ),
        (
            &["-e", "error.log", "-o", "x.pdf"],
            "its ending has to say the form",
        ),
        (
            &["-e", "error.log", "-o", "none/x.html"],
            "cannot write none/x.html",
        ),
        (&["-e", "-", "-a", "-"], "only once"),
    ] {
        let text = trouble(arguments, folder.path());
        assert!(text.contains(words), "{words} not in {text}");
    }
    assert_eq!(outcome(timeline().arg("--help")).code, Some(3));
    let version = outcome(timeline().arg("-V")).text;
    assert!(version.starts_with("incident_timeline "), "{version}");
}

#[test]
fn help_and_text_fit_80_columns() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let help = outcome(timeline().arg("--help").env("COLUMNS", "200")).text;
    let text = outcome(of_example(folder.path()).args([
        "--mark",
        "2026-11-23 05:59 a deploy that has a long name, longer than there is room",
    ]))
    .text;
    for line in help.lines().chain(text.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(text.contains("bind-in-use") && text.contains('█'), "{text}");
}

#[test]
fn files_are_written_whole_and_never_through_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    example(folder.path());
    fs::write(at("r.html"), "old").unwrap();
    let mut command = of_example(folder.path());
    for ending in ["html", "svg", "png", "json", "csv", "txt"] {
        command.args(["-o", &format!("r.{ending}")]);
    }
    let told = outcome(&mut command);
    assert_eq!(
        (told.code, told.text.lines().count()),
        (Some(0), 7),
        "{}",
        told.text
    );
    let start = |name: &str| fs::read(at(name)).unwrap()[..8].to_vec();
    assert_eq!(start("r.png"), b"\x89PNG\r\n\x1a\n");
    assert_eq!(start("r.html"), b"<!DOCTYP");
    assert_eq!(start("r.svg"), b"<svg xml");
    assert_eq!(start("r.csv"), b"time,gro");
    serde_json::from_slice::<Value>(&fs::read(at("r.json")).unwrap()).unwrap();
    std::os::unix::fs::symlink(at("r.txt"), at("link.txt")).unwrap();
    let before = fs::read(at("r.txt")).unwrap();
    let text = trouble(&["-e", "error.log", "-o", "link.txt"], folder.path());
    assert!(text.contains("link"), "{text}");
    assert_eq!(fs::read(at("r.txt")).unwrap(), before);
    let left = fs::read_dir(folder.path()).unwrap().flatten();
    assert!(
        left.map(|entry| entry.file_name())
            .all(|name| !name.to_string_lossy().contains(".new"))
    );
}

#[test]
fn a_report_keeps_its_code_when_nobody_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let mut command = of_example(folder.path());
    assert_eq!(command.stdout(writer).status().unwrap().code(), Some(0));
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let mut command = of_example(folder.path());
    assert_eq!(
        command.stdout(full.unwrap()).status().unwrap().code(),
        Some(0)
    );
}
