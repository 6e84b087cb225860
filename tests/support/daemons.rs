//! How Icinga 2 and Nagios Core take a plugin's output apart, written after what they were seen to store
//! (`tests/fixtures/perfdata_cases.json`), so that the writer can be held against it without starting a daemon for
//! every case. The test `the_model_stores_what_the_daemons_stored` holds this model to the recordings.

/// What a daemon stores of an output.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    pub text: String,
    pub perfdata: Vec<String>,
}

/// Icinga 2.16: in each line a pipe that an equals sign follows starts performance data.
pub fn icinga(output: &str) -> Stored {
    let output = output
        .trim_matches(['\n', '\r', ' ', '\t'])
        .replace('\r', "\n");
    let mut lines = Vec::new();
    let mut perfdata = Vec::new();
    for line in output.split('\n') {
        match line.split_once('|') {
            Some((text, data)) if data.contains('=') => {
                lines.push(text);
                perfdata.push(data);
            }
            _ => lines.push(line),
        }
    }
    Stored {
        text: lines.join("\n"),
        perfdata: items(perfdata.join(" ").trim()),
    }
}

/// An item runs from behind the last one's value to its own equals sign and on to the next blank.
fn items(mut data: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut prefix = String::new();
    while let Some((label, rest)) = data.split_once('=') {
        let (value, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut label = label.trim_start().to_owned();
        if label.len() > 2 && label.starts_with('\'') && label.ends_with('\'') {
            label = label[1..label.len() - 1].to_owned();
        }
        // A label with `::` names a plugin for all the items after it.
        let own_prefix = label.rfind("::");
        if own_prefix.is_some() {
            prefix.clear();
        }
        if !prefix.is_empty() {
            label = format!("{prefix}::{label}");
        }
        let quote = if label.contains(' ') { "'" } else { "" };
        items.push(format!("{quote}{label}{quote}={value}"));
        if let Some(at) = own_prefix {
            label[..at].clone_into(&mut prefix);
        }
        data = rest;
    }
    items
}

/// Nagios Core 4.4: the first pipe of the first line, and the second one of the text below, equals sign or not.
/// Gives the first line's text and all performance data in one string.
pub fn nagios(output: &str) -> (String, String) {
    let output = output.split('\0').next().unwrap_or_default();
    let mut lines = output.split('\n');
    let first = lines.next().unwrap_or_default();
    let (text, data) = first.split_once('|').unwrap_or((first, ""));
    let text = if first.trim().is_empty() {
        "(No output returned from plugin)"
    } else {
        text
    };
    let mut perfdata = vec![data.trim().to_owned()];
    let below: Vec<_> = lines.collect();
    if let Some((_, more)) = below.join("\n").split_once('|') {
        perfdata.extend(more.split('\n').map(|line| line.trim_end().to_owned()));
    }
    perfdata.retain(|data| !data.is_empty());
    // A semicolon separates fields in Nagios' own files.
    (text.trim().replace(';', ":"), perfdata.join(" "))
}
