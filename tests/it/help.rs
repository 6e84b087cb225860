//! `--help` and `-h` at any width.

use crate::support::plugin::{outcome, plugin};

const PROGRAMS: [&str; 4] = [
    "check_http_retry",
    "check_port_exhaustion",
    "check_nginx_upstream_bind",
    "incident_timeline",
];

/// What a program says on a terminal of so many columns, or in a pipe.
fn help(program: &str, option: &str, columns: Option<&str>) -> String {
    let mut command = plugin(program);
    command.arg(option).env_remove("COLUMNS");
    if let Some(columns) = columns {
        command.env("COLUMNS", columns);
    }
    outcome(&mut command).text
}

fn widest(text: &str) -> usize {
    text.lines()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or_default()
}

#[test]
fn help_is_80_columns_wide_at_most_on_any_terminal_and_in_a_pipe() {
    for program in PROGRAMS {
        for option in ["-h", "--help"] {
            let text = help(program, option, Some("80"));
            assert!((70..=80).contains(&widest(&text)), "{text}");
            for columns in [Some("200"), None] {
                assert_eq!(help(program, option, columns), text);
            }
        }
    }
}

#[test]
fn the_examples_of_the_help_can_be_copied_from_80_columns() {
    let examples = |text: &str| {
        let (_, rest) = text.split_once("Examples:\n").expect("examples");
        let (examples, _) = rest.split_once("\n\n").unwrap_or((rest.trim_end(), ""));
        examples.to_owned()
    };
    for program in PROGRAMS {
        for line in examples(&help(program, "--help", None)).lines() {
            let whole = line.starts_with(&format!("  {program}")) || line.starts_with("      ");
            assert!(whole, "broken before {line:?}");
        }
    }
}
