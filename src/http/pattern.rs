//! POSIX extended regular expressions, as `-r` and `-R` take them, on the regex crate's engine: time and memory stay
//! bounded whatever the page holds.

use std::fmt::Write as _;
use std::sync::OnceLock;

use anyhow::Context;
use regex::bytes::{Regex, RegexBuilder};

/// The most memory that a compiled expression may take.
const SIZE_LIMIT: usize = 4 << 20;

/// An expression that is held against pages.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// For a page in UTF-8: a character is one, however many bytes it takes.
    by_character: Regex,
    /// For any other page: each byte is a character, as for the C library in the locale C. Compiled for the first such
    /// page; `None` where the expression asks for characters that no byte is (`\pL`).
    by_byte: OnceLock<Option<Regex>>,
    expression: String,
    ignore_case: bool,
    linespan: bool,
}

impl Pattern {
    /// Compiles one. Without `linespan` neither a `.` nor a `[^x]` matches a line feed, and `^` and `$` match at each
    /// line.
    pub fn compile(expression: &str, ignore_case: bool, linespan: bool) -> anyhow::Result<Self> {
        let by_character = compile(expression, ignore_case, linespan, Unit::Character)?;
        Ok(Self {
            by_character,
            by_byte: OnceLock::new(),
            expression: expression.to_owned(),
            ignore_case,
            linespan,
        })
    }

    /// Whether it matches anywhere in a page, of which the end may be cut off. The page alone decides what a character
    /// is: in UTF-8, a byte that is none would match neither a `.` nor a `[^x]`.
    pub fn is_match(&self, page: &[u8], cut: bool) -> bool {
        let regex = match std::str::from_utf8(page) {
            Ok(_) => &self.by_character,
            // The cut went through a character.
            Err(error) if cut && error.error_len().is_none() => &self.by_character,
            Err(_) => self.by_byte().unwrap_or(&self.by_character),
        };
        regex.is_match(page)
    }

    fn by_byte(&self) -> Option<&Regex> {
        let compiled = || {
            compile(
                &self.expression,
                self.ignore_case,
                self.linespan,
                Unit::Byte,
            )
        };
        self.by_byte.get_or_init(|| compiled().ok()).as_ref()
    }
}

/// What a `.` matches one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Character,
    Byte,
}

fn compile(
    expression: &str,
    ignore_case: bool,
    linespan: bool,
    unit: Unit,
) -> anyhow::Result<Regex> {
    RegexBuilder::new(&translate(expression, linespan, unit))
        .case_insensitive(ignore_case)
        .multi_line(!linespan)
        .dot_matches_new_line(linespan)
        .unicode(unit == Unit::Character)
        .size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| {
            // The message draws the expression over several lines; its last one says what is wrong.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            anyhow::anyhow!("{}", last.trim_start_matches("error: "))
        })
        .with_context(|| format!("cannot compile the regular expression '{expression}'"))
}

/// Between brackets POSIX knows no escapes, no nesting and no set operations: what would be one is escaped. A parenthesis
/// that closes nothing is one of the text, and an interval may begin with its comma.
fn translate(expression: &str, linespan: bool, unit: Unit) -> String {
    let mut out = String::with_capacity(expression.len() + 8);
    let mut rest = expression;
    let mut groups = 0;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == ')' && groups == 0 {
            out.push('\\');
        }
        push(c, unit, &mut out);
        match c {
            '(' => groups += 1,
            ')' if groups > 0 => groups -= 1,
            '{' if rest.starts_with(',') => out.push('0'),
            '\\' => {
                if let Some(escaped) = rest.chars().next() {
                    out.push(escaped);
                    rest = &rest[escaped.len_utf8()..];
                }
            }
            '[' => rest = bracket(rest, linespan, unit, &mut out),
            _ => {}
        }
    }
    out
}

/// Adds a character of the expression, or its bytes one by one.
fn push(c: char, unit: Unit, out: &mut String) {
    if unit == Unit::Character || c.is_ascii() {
        out.push(c);
        return;
    }
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

/// Copies a bracket expression from behind its `[` up to its `]`, and returns what follows.
fn bracket<'a>(text: &'a str, linespan: bool, unit: Unit, out: &mut String) -> &'a str {
    let mut rest = text;
    if let Some(inner) = rest.strip_prefix('^') {
        out.push('^');
        rest = inner;
        if !linespan {
            out.push('\n');
            // It would make a range with that.
            if let Some(inner) = rest.strip_prefix('-') {
                out.push_str("\\-");
                rest = inner;
            }
        }
    }
    if let Some(inner) = rest.strip_prefix(']') {
        out.push_str("\\]");
        rest = inner;
    }
    while let Some(c) = rest.chars().next() {
        let class = rest
            .strip_prefix("[:")
            .and_then(|inner| inner.find(":]"))
            .map(|at| at + 4);
        if let Some(length) = class {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        if c == ']' {
            out.push(c);
            break;
        }
        if matches!(c, '\\' | '[' | '&' | '~' | '^') || (c == '-' && out.ends_with('-')) {
            out.push('\\');
        }
        push(c, unit, out);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_posix_says() {
        for (expression, text, matches) in [
            ("^hel+o", "x\nhello", true),
            ("a.b", "a\nb", false),
            ("[[:digit:]]{2}", "a12", true),
            (r"[\d]", "5", false),
            (r"[\d]", "\\", true),
            ("[]a]", "]", true),
            ("[^]a]", "]", false),
            ("[[]", "[", true),
            ("[a&&b]", "&", true),
            ("[a-c]", "b", true),
            ("[a^]", "^", true),
            ("(ab|cd)+$", "xcd", true),
            (r"a\.b", "axb", false),
            ("ö", "schön", true),
            ("a[^x]b", "a\nb", false),
            ("a[^-x]b", "a\nb", false),
            ("a[^-x]b", "a-b", false),
            ("a[^-x]b", "ayb", true),
            ("^a[^]x]b$", "a\nb", false),
            ("ok)", "ok)", true),
            ("(o)k)", "ok)", true),
            (r"(o\)k)", "o)k", true),
            ("^o{,1}k$", "ok", true),
            ("^o{,1}k$", "ook", false),
        ] {
            let regex = Pattern::compile(expression, false, false).unwrap();
            assert_eq!(
                regex.is_match(text.as_bytes(), false),
                matches,
                "{expression} on {text}"
            );
        }
        for (expression, text) in [
            ("HELLO", "hello"),
            ("^[a-c]+$", "aBC"),
            ("^[[:upper:]]+$", "ab"),
            (r"caf\xe9", "CAFÉ"),
            (r"^\pL+$", "ok"),
            ("(?s)a.b", "A\nB"),
            ("ΛΌΓΟΣ", "λόγος"),
        ] {
            let regex = Pattern::compile(expression, true, false).unwrap();
            assert!(
                regex.is_match(text.as_bytes(), false),
                "{expression} on {text}"
            );
        }
        for expression in ["(?i)ok", "^(?i)ok", "(?i:ok)"] {
            let regex = Pattern::compile(expression, false, false).unwrap();
            assert!(regex.is_match(b"OK", false));
        }
        for (expression, text) in [("a[^x]b", "a\nb"), ("world.$", "world\n")] {
            let regex = Pattern::compile(expression, false, true).unwrap();
            assert!(
                regex.is_match(text.as_bytes(), false),
                "{expression} on {text}"
            );
        }
    }

    /// What is matched here `check_http` matches in the locale C.
    #[test]
    fn a_byte_that_is_no_utf_8_was_matched_by_no_dot() {
        let page = b"<p>\nCaf\xe9 ist auf\nGr\xc3\xbc\xc3\x9fe";
        for (expression, matches) in [
            ("Caf.*auf", true),
            ("Caf. ist", true),
            ("Caf.. ist", false),
            ("Caf[^x] ist", true),
            ("^[^<]*auf$", true),
            ("p.*auf", false),
            ("p.[^x]*Caf", false),
            // Two bytes each.
            ("Gr....e$", true),
            ("Gr..e$", false),
            ("Gr\u{fc}\u{df}e", true),
            ("Gr[\u{fc}-\u{fd}]+\u{df}e", true),
            ("Gr[^\u{fc}]", false),
            (r"Caf\xe9 ist", true),
            ("Caf[[:alpha:]]", false),
            // No byte is this: as if the page were in UTF-8.
            (r"^\pL+ \pL+", false),
            (r"\pL+ auf$", true),
            (r"^G\pL+$", true),
        ] {
            let regex = Pattern::compile(expression, false, false).unwrap();
            assert_eq!(regex.is_match(page, false), matches, "{expression}");
        }
        let either_case = Pattern::compile("caf.* IST", true, false).unwrap();
        assert!(either_case.is_match(page, false));
        let over_lines = Pattern::compile("p.*auf.Gr", false, true).unwrap();
        assert!(over_lines.is_match(page, false));
        let regex = Pattern::compile("^sch.n", false, false).unwrap();
        for (page, cut, matches) in [
            (&b"sch\xc3\xb6n\xc3"[..], true, true),
            (b"sch\xc3\xb6n\xc3", false, false),
            (b"sch\xf6n\xc3", false, true),
        ] {
            assert_eq!(regex.is_match(page, cut), matches, "{page:?} {cut}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for expression in ["(", "[a", "a{5000}{5000}", "*"] {
            let error = format!(
                "{:#}",
                Pattern::compile(expression, false, false).unwrap_err()
            );
            assert!(
                error.starts_with("cannot compile") && !error.contains('\n'),
                "{error}"
            );
        }
    }
}
