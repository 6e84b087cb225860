//! The forms of logs in a configuration of nginx: of the whole of it only `log_format` and `include` are understood.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::format::Format;

/// How much of one file is read, and how many files are.
const SIZE: u64 = 4 << 20;
const FILES: usize = 500;

/// How many forms are looked at.
const FORMATS: usize = 100;

/// All forms that a configuration and what it includes define; those that have no time or no status are left out.
pub fn log_formats(path: &Path) -> anyhow::Result<Vec<Format>> {
    // Relative paths are those of the folder of the main file.
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut files = vec![path.to_owned()];
    let mut formats = Vec::new();
    let mut next = 0;
    while let Some(file) = files.get(next).cloned() {
        next += 1;
        let text = match read(&file) {
            Ok(text) => text,
            Err(error) if next == 1 => return Err(error),
            // What it includes may not be there, as modules that this host does not have.
            Err(_) => continue,
        };
        for directive in directives(&text) {
            match &directive[..] {
                [name, _, parts @ ..] if name == "log_format" && formats.len() < FORMATS => {
                    let text: String = parts
                        .iter()
                        .filter(|part| !part.starts_with("escape="))
                        .cloned()
                        .collect();
                    formats.extend(Format::new(&text).ok());
                }
                [name, pattern] if name == "include" => {
                    let pattern = folder.join(pattern);
                    let room = FILES.saturating_sub(files.len());
                    let found = glob::glob(&pattern.to_string_lossy())
                        .into_iter()
                        .flatten()
                        .flatten();
                    let new: Vec<PathBuf> = found
                        .filter(|path| !files.contains(path))
                        .take(room)
                        .collect();
                    files.extend(new);
                }
                _ => {}
            }
        }
    }
    if formats.is_empty() {
        bail!(
            "{} and what it includes hold no log_format with a time and a status: give --log-format, or nothing where the logs are in the form combined",
            path.display()
        );
    }
    Ok(formats)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let shown = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(shown)?;
    if !file.metadata().with_context(shown)?.is_file() {
        bail!("{} is no regular file", path.display());
    }
    let mut bytes = Vec::new();
    file.take(SIZE)
        .read_to_end(&mut bytes)
        .with_context(shown)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What nginx makes of a backslash and this character; of others it makes nothing.
fn escape(character: char) -> Option<char> {
    Some(match character {
        '"' | '\'' | '\\' => character,
        't' => '\t',
        'r' => '\r',
        'n' => '\n',
        _ => return None,
    })
}

/// A text as it stands between quotes in a configuration, to what nginx makes of it.
pub fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek().copied().and_then(escape)) {
            ('\\', Some(meant)) => {
                chars.next();
                out.push(meant);
            }
            _ => out.push(c),
        }
    }
    out
}

/// The words of each directive, quotes taken off. Blocks are walked through.
pub(super) fn directives(text: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '#' if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' | '\'' if word.is_none() => {
                let mut quoted = String::new();
                while let Some(inner) = chars.next() {
                    match inner {
                        end if end == c => break,
                        '\\' => match chars.peek().copied().and_then(escape) {
                            Some(meant) => {
                                chars.next();
                                quoted.push(meant);
                            }
                            None => quoted.push('\\'),
                        },
                        other => quoted.push(other),
                    }
                }
                words.push(quoted);
            }
            ';' | '{' | '}'
                if !(c == '{' && word.as_deref().is_some_and(|word| word.ends_with('$'))) =>
            {
                words.extend(word.take());
                if !words.is_empty() {
                    all.push(std::mem::take(&mut words));
                }
            }
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_found_in_a_configuration_and_what_it_includes() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "nginx.conf",
            "user x; # log_format no '$status';\nevents { worker_connections 10; }\nhttp {\n include more.d/*.conf; include nginx.conf;\n log_format a '$remote_addr [$time_local] '\n   '\"$request\" $status';\n log_format b $bytes_sent;\n }\n",
        );
        std::fs::create_dir(folder.path().join("more.d")).unwrap();
        write(
            "more.d/x.conf",
            "log_format c escape=json '{\"t\":\"$time_iso8601\",\"s\":\"$status\"}';",
        );
        let formats = log_formats(&folder.path().join("nginx.conf")).unwrap();
        assert_eq!(formats.len(), 2);
        assert!(formats.iter().any(|format| {
            format
                .read(br#"1.2.3.4 [x] "GET / HTTP/1.1" 200"#)
                .is_some()
        }));
        assert!(
            formats
                .iter()
                .any(|format| format.read(br#"{"t":"x","s":"200"}"#).is_some())
        );
        write("bare.conf", "user x;");
        assert!(log_formats(&folder.path().join("bare.conf")).is_err());
        assert!(log_formats(&folder.path().join("none.conf")).is_err());
        assert!(log_formats(folder.path()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_configuration_makes_it_stumble(text in "[a-z \\n;{}#'\"\\\\$]{0,200}") {
            let _ = directives(&text);
        }
    }
}
