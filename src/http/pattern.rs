//! POSIX extended regular expressions, as `-r` and `-R` take them, on the regex crate's engine: time and memory stay
//! bounded whatever the page holds.

use anyhow::Context;
use regex::bytes::{Regex, RegexBuilder};

/// The most memory that a compiled expression may take.
const SIZE_LIMIT: usize = 4 << 20;

/// Compiles one. Without `linespan` neither a `.` nor a `[^x]` matches a line feed, and `^` and `$` match at each line.
pub fn compile(expression: &str, ignore_case: bool, linespan: bool) -> anyhow::Result<Regex> {
    RegexBuilder::new(&translate(expression, linespan))
        .case_insensitive(ignore_case)
        .multi_line(!linespan)
        .dot_matches_new_line(linespan)
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
fn translate(expression: &str, linespan: bool) -> String {
    let mut out = String::with_capacity(expression.len() + 8);
    let mut rest = expression;
    let mut groups = 0;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == ')' && groups == 0 {
            out.push('\\');
        }
        out.push(c);
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
            '[' => rest = bracket(rest, linespan, &mut out),
            _ => {}
        }
    }
    out
}

/// Copies a bracket expression from behind its `[` up to its `]`, and returns what follows.
fn bracket<'a>(text: &'a str, linespan: bool, out: &mut String) -> &'a str {
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
        out.push(c);
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
            let regex = compile(expression, false, false).unwrap();
            assert_eq!(
                regex.is_match(text.as_bytes()),
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
            let regex = compile(expression, true, false).unwrap();
            assert!(regex.is_match(text.as_bytes()), "{expression} on {text}");
        }
        for expression in ["(?i)ok", "^(?i)ok", "(?i:ok)"] {
            assert!(compile(expression, false, false).unwrap().is_match(b"OK"));
        }
        assert!(compile("a[^x]b", false, true).unwrap().is_match(b"a\nb"));
        assert!(
            compile("world.$", false, true)
                .unwrap()
                .is_match(b"world\n")
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for expression in ["(", "[a", "a{5000}{5000}", "*"] {
            let error = format!("{:#}", compile(expression, false, false).unwrap_err());
            assert!(
                error.starts_with("cannot compile") && !error.contains('\n'),
                "{error}"
            );
        }
    }
}
