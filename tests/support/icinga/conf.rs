//! Reads objects out of the shipped configuration: as much of Icinga's language as these files are written in, one
//! attribute to a line. A real Icinga reads them in other tests.

use serde_json::{Map, Value, json};

/// An `object` or a `template` of a file.
#[derive(Debug)]
pub struct Block {
    /// Its name.
    pub name: String,
    /// What it imports.
    pub imports: Vec<String>,
    /// Its attributes; a dictionary is an object, a function the text between its braces as `{"type", "body"}`, a
    /// duration a number of seconds.
    pub attributes: Map<String, Value>,
    /// Its custom variables; a duration is text, as a plugin takes it.
    pub vars: Map<String, Value>,
}

/// The blocks of a file that begin like this, as in `object CheckCommand`.
pub fn blocks(text: &str, start: &str) -> Vec<Block> {
    let start = format!("{start} \"");
    let mut lines = text.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(name) = line
            .strip_prefix(&start)
            .and_then(|rest| rest.strip_suffix("\" {"))
        {
            blocks.push(block(name, &mut lines));
        }
    }
    blocks
}

fn block<'a>(name: &str, lines: &mut impl Iterator<Item = &'a str>) -> Block {
    let mut block = Block {
        name: name.to_owned(),
        imports: Vec::new(),
        attributes: Map::new(),
        vars: Map::new(),
    };
    while let Some(line) = next(lines) {
        if let Some(import) = line.strip_prefix("import ") {
            block.imports.push(import.trim_matches('"').to_owned());
            continue;
        }
        let (key, value) = line
            .split_once(" = ")
            .unwrap_or_else(|| panic!("{name}: {line}"));
        if let Some(variable) = key.strip_prefix("vars.") {
            block.vars.insert(variable.to_owned(), literal(value));
        } else if value == "{" {
            block.attributes.insert(key.to_owned(), dictionary(lines));
        } else {
            block.attributes.insert(key.to_owned(), seconds(value));
        }
    }
    block
}

/// The next line up to the end of this block: not empty, without blanks around it and no comment.
fn next<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let line = lines
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('/'))?;
    (line != "}").then_some(line)
}

fn dictionary<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Value {
    let mut entries = Map::new();
    while let Some(line) = next(lines) {
        let (key, value) = line
            .split_once(" = ")
            .unwrap_or_else(|| panic!("no entry: {line}"));
        let value = if value == "{" {
            dictionary(lines)
        } else {
            literal(value)
        };
        entries.insert(key.trim_matches('"').to_owned(), value);
    }
    entries.into()
}

fn literal(text: &str) -> Value {
    if let Some(body) = text
        .strip_prefix("{{ ")
        .and_then(|rest| rest.strip_suffix(" }}"))
    {
        return json!({"type": "Function", "body": body});
    }
    // Texts, numbers, booleans and lists are written as in JSON; durations and expressions are taken as they are.
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn seconds(text: &str) -> Value {
    let duration = proxy_checks::plugin::options::parse_duration(text);
    match duration {
        Ok(duration) if text.ends_with(['s', 'm', 'h']) => duration.as_secs().into(),
        _ => literal(text),
    }
}
