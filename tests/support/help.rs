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

/// The options of a binary, in the order of its help.
pub fn entries(name: &str) -> Vec<Entry> {
    let text = outcome(plugin(name).arg("--help")).text;
    let mut entries: Vec<Entry> = Vec::new();
    let mut heading = String::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let depth = line.len() - trimmed.len();
        match depth {
            0 if line.starts_with("Examples") => break,
            0 if line.ends_with(':') => line.trim_end_matches(':').clone_into(&mut heading),
            2 | 6 if trimmed.starts_with('-') => entries.push(Entry {
                heading: heading.clone(),
                head: trimmed.to_owned(),
                text: String::new(),
            }),
            10 if !trimmed.starts_with("- ") && !trimmed.starts_with("Possible values") => {
                if let Some(entry) = entries.last_mut() {
                    let space = if entry.text.is_empty() { "" } else { " " };
                    entry.text.push_str(space);
                    entry.text.push_str(trimmed.trim_end());
                }
            }
            _ => {}
        }
    }
    assert!(entries.len() > 15, "{name}: {entries:?}");
    entries
}
