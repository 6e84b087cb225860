//! What `--help` says, taken apart again.

use super::plugin::{outcome, plugin};

/// One option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The group that it stands in.
    pub heading: String,
    /// As in `-t, --timeout <SECONDS>`.
    pub head: String,
    /// What is said of it, on one line.
    pub text: String,
    /// Its possible values, each with what it means, where there are such.
    pub values: Vec<(String, String)>,
}

impl Entry {
    /// Its spellings, as in `-t` and `--timeout`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.head.split(['<', '[']).next().unwrap_or_default();
        names
            .split([',', ' '])
            .map(|name| name.trim_end_matches(['.', '=']))
            .filter(|name| name.starts_with('-'))
    }

    /// Other spellings, which its text names.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        let listed = self.text.split("[alias").nth(1).unwrap_or_default();
        let listed = listed.split(']').next().unwrap_or_default();
        listed
            .split([' ', ','])
            .filter(|name| name.starts_with('-'))
    }
}

fn append(text: &mut String, more: &str) {
    let space = if text.is_empty() { "" } else { " " };
    text.push_str(space);
    text.push_str(more.trim_end());
}

/// The options of a binary, in the order of its help.
pub fn entries(name: &str) -> Vec<Entry> {
    let text = outcome(plugin(name).arg("--help")).text;
    let mut entries: Vec<Entry> = Vec::new();
    let mut heading = String::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let depth = line.len() - trimmed.len();
        match (depth, entries.last_mut()) {
            (0, _) if line.starts_with("Examples") => break,
            (0, _) if line.ends_with(':') => line.trim_end_matches(':').clone_into(&mut heading),
            // A word without an option stands in brackets.
            (2 | 6, _) if trimmed.starts_with(['-', '[', '<']) => entries.push(Entry {
                heading: heading.clone(),
                head: trimmed.to_owned(),
                text: String::new(),
                values: Vec::new(),
            }),
            (10, Some(entry)) if trimmed.starts_with("- ") => {
                let (name, meaning) = trimmed[2..].split_once(':').unwrap_or((&trimmed[2..], ""));
                let meaning = meaning.trim().to_owned();
                entry.values.push((name.trim().to_owned(), meaning));
            }
            (10, Some(entry)) if !trimmed.is_empty() && !trimmed.starts_with("Possible values") => {
                append(&mut entry.text, trimmed);
            }
            // What does not fit on the line of a value goes on below it.
            (12.., Some(entry)) => {
                if let Some((_, meaning)) = entry.values.last_mut() {
                    append(meaning, trimmed);
                }
            }
            _ => {}
        }
    }
    assert!(entries.len() > 15, "{name}: {entries:?}");
    entries
}
