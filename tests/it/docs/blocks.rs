//! Pages taken apart: fenced blocks, command lines, links.

use std::ops::Range;

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// What stands behind the fence.
    pub mark: String,
    /// The lines between the fences.
    pub text: String,
    /// Where these lie in the page.
    pub place: Range<usize>,
}

impl Block {
    /// Whether it is run, and shows what comes out.
    pub fn is_run(&self) -> bool {
        self.mark.split(' ').next() == Some("console")
    }

    /// Who runs what is in it, where it shows no more than commands: a place in the laboratory, or the path of a test.
    pub fn runner(&self) -> Option<&str> {
        self.mark.strip_prefix("sh ")
    }

    /// Its command lines: those behind a `$`, or all where there is none. A backslash goes on with the next line.
    pub fn command_lines(&self) -> Vec<String> {
        let joined = self.text.replace("\\\n", " ");
        let prompted: Vec<_> = joined
            .lines()
            .filter_map(|line| line.strip_prefix("$ "))
            .map(str::to_owned)
            .collect();
        if prompted.is_empty() {
            joined.lines().map(str::to_owned).collect()
        } else {
            prompted
        }
    }
}

/// The fenced blocks of a page.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        if let Some(mark) = line.strip_prefix("```") {
            open = match open {
                None => Some((mark.trim().to_owned(), end)),
                Some((mark, start)) => {
                    blocks.push(Block {
                        mark,
                        text: text[start..at].to_owned(),
                        place: start..at,
                    });
                    None
                }
            };
        }
        at = end;
    }
    assert!(open.is_none(), "a block does not end");
    blocks
}

/// The words of the plugin's own command line in a shell's, if there is one: nothing before its name, nothing behind a
/// pipe or a redirection.
pub fn plugin_words(line: &str) -> Option<Vec<String>> {
    let words = words(line);
    let starts = |word: &String| {
        let name = word.rsplit('/').next().unwrap_or_default();
        (name.starts_with("check_") || name == "incident_timeline") && !name.contains('.')
    };
    let first = words.iter().position(starts)?;
    // What is no command, but prose or output, has something else in front.
    let before = &words[..first];
    let command = before.is_empty()
        || ["docker", "sudo", "ip"].contains(&before[0].as_str())
        || before.iter().all(|word| word.contains('='));
    let mut own: Vec<_> = words[first..]
        .iter()
        .take_while(|word| !["|", ">", ";", "&", "2>&1"].contains(&word.as_str()))
        .cloned()
        .collect();
    let name = own[0].rsplit('/').next().unwrap_or_default().to_owned();
    own[0] = name;
    (command && !own.iter().any(|word| word.starts_with('…'))).then_some(own)
}

/// As a shell splits a line, without expanding anything. Operators are words of their own.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '|' | ';' | '>') => {
                words.extend(word.take());
                words.push(c.to_string());
            }
            (None, '#') if word.is_none() => break,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Where a page's links lead.
pub fn links(text: &str) -> Vec<String> {
    let mut prose = text.to_owned();
    for block in blocks(text).iter().rev() {
        prose.replace_range(block.place.clone(), "");
    }
    let parts = prose.split("](").skip(1);
    let targets = parts.filter_map(|part| part.split(')').next());
    targets.map(str::to_owned).collect()
}

/// The anchors that a page's headings get.
pub fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c => c.is_alphanumeric().then_some(c),
        });
        kept.collect()
    })
}
