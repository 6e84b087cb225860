//! The table of all options at the end of a plugin's page.

use std::fmt::Write;

use crate::support::help::{Entry, entries};

const BEGIN: &str = "<!-- From --help, by make docs. -->\n";
const END: &str = "<!-- Up to here. -->\n";

/// The page with the table as `--help` has it now, in the place of the one that is there, or at its end.
pub fn with_table(page: &str, binary: &str) -> String {
    let table = format!("{BEGIN}{}\n{END}", table(binary));
    match (page.find(BEGIN), page.find(END)) {
        (Some(begin), Some(end)) => {
            format!("{}{table}{}", &page[..begin], &page[end + END.len()..])
        }
        _ => format!("{page}\n## All options\n\n{table}"),
    }
}

fn table(binary: &str) -> String {
    let mut text = String::new();
    let mut heading = String::new();
    for entry in entries(binary) {
        if entry.heading != heading {
            heading.clone_from(&entry.heading);
            let _ = write!(text, "\n**{heading}**\n\n| option | meaning |\n|---|---|\n");
        }
        let head = entry.head.replace(['<', '>'], "");
        let cell = |text: &str| {
            text.replace('|', "\\|")
                .replace('<', "&lt;")
                .replace('*', "\\*")
        };
        let _ = writeln!(
            text,
            "| `{}` | {} |",
            head.replace('|', "\\|"),
            cell(&meaning(&entry))
        );
    }
    text
}

/// What is said of an option, and of each value that it takes, its default at the end.
fn meaning(entry: &Entry) -> String {
    if entry.values.is_empty() {
        return entry.text.clone();
    }
    let values: Vec<_> = entry
        .values
        .iter()
        .map(|(name, meaning)| match meaning.as_str() {
            "" => format!("`{name}`"),
            meaning => format!("`{name}` ({meaning})"),
        })
        .collect();
    let values = values.join(", ");
    match entry.text.rsplit_once("[default: ") {
        Some((text, default)) => format!("{}: {values} [default: {default}", text.trim_end()),
        None => format!("{}: {values}", entry.text),
    }
}
