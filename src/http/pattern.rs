//! POSIX extended regular expressions, as `-r` and `-R` take them, on the regex crate's engine: time and memory stay
//! bounded whatever the page holds.

use anyhow::Context;
use regex::bytes::{Regex, RegexBuilder};

/// The most memory that a compiled expression may take.
const SIZE_LIMIT: usize = 4 << 20;

/// The last character that has another case (Unicode 16).
const LAST_WITH_CASES: char = '\u{1e943}';

/// Compiles one. Without `linespan` a `.` stops at line feeds, and `^` and `$` match at each line.
pub fn compile(expression: &str, ignore_case: bool, linespan: bool) -> anyhow::Result<Regex> {
    // Nothing of POSIX's, but what people write.
    let (inner, ignore_case) = match expression.strip_prefix("(?i)") {
        Some(inner) => (inner, true),
        None => (expression, ignore_case),
    };
    RegexBuilder::new(&translate(inner, ignore_case))
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

/// Between brackets POSIX knows no escapes, no nesting and no set operations: what would be one is escaped. Where case is
/// ignored each letter becomes both, as the C library has it: the engine's own tables of cases are a tenth of what a
/// run reads of the program.
fn translate(expression: &str, ignore_case: bool) -> String {
    let mut out = String::with_capacity(expression.len() + 8);
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        let (before, behind) = (rest, &rest[c.len_utf8()..]);
        rest = behind;
        match c {
            '\\' => rest = copied(before, escape_length(behind) + 1, &mut out),
            '(' if behind.starts_with('?') => {
                let end = behind.find([':', ')', '>']).unwrap_or(0);
                rest = copied(before, end + 1, &mut out);
            }
            '[' => {
                out.push(c);
                rest = bracket(behind, ignore_case, &mut out);
            }
            _ if ignore_case && other_cases(c).next().is_some() => {
                out.push('[');
                out.push(c);
                out.extend(other_cases(c));
                out.push(']');
            }
            _ => out.push(c),
        }
    }
    out
}

/// Copies so many bytes, and returns what follows.
fn copied<'a>(text: &'a str, length: usize, out: &mut String) -> &'a str {
    let (taken, rest) = text.split_at(length);
    out.push_str(taken);
    rest
}

/// How long what stands behind a backslash is: a character, with what is in braces behind it.
fn escape_length(text: &str) -> usize {
    let Some(c) = text.chars().next() else {
        return 0;
    };
    let behind = &text[c.len_utf8()..];
    let braces = behind.starts_with('{') && c.is_ascii_alphabetic();
    let more = braces.then(|| behind.find('}')).flatten();
    c.len_utf8() + more.map_or(0, |end| end + 1)
}

/// Copies a bracket expression from behind its `[` up to its `]`, and returns what follows.
fn bracket<'a>(text: &'a str, ignore_case: bool, out: &mut String) -> &'a str {
    let mut rest = text;
    if let Some(inner) = rest.strip_prefix('^') {
        out.push('^');
        rest = inner;
    }
    let mut is_first = true;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = class_length(rest) {
            out.push_str(match &rest[..length] {
                "[:upper:]" | "[:lower:]" if ignore_case => "[:alpha:]",
                class => class,
            });
            rest = &rest[length..];
        } else if c == ']' && !is_first {
            out.push(c);
            return &rest[1..];
        } else {
            rest = &rest[c.len_utf8()..];
            let last = range_end(rest).unwrap_or(c);
            push_literal(c, out);
            if last != c {
                rest = &rest[1 + last.len_utf8()..];
                out.push('-');
                push_literal(last, out);
            }
            if ignore_case {
                let within = c..=last;
                let cases = (c..=last.min(LAST_WITH_CASES)).flat_map(other_cases);
                out.extend(cases.filter(|other| !within.contains(other)));
            }
        }
        is_first = false;
    }
    rest
}

/// How long a class like `[:digit:]` is.
fn class_length(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("[:")?;
    inner.find(":]").map(|at| at + 4)
}

/// The end of a range, from behind its first character.
fn range_end(text: &str) -> Option<char> {
    let behind = text.strip_prefix('-')?;
    let last = behind.chars().next().filter(|c| *c != ']')?;
    class_length(behind).is_none().then_some(last)
}

/// A character between brackets that means itself.
fn push_literal(c: char, out: &mut String) {
    if matches!(c, '\\' | '[' | ']' | '&' | '~' | '^' | '-') {
        out.push('\\');
    }
    out.push(c);
}

/// A character in upper and in lower case, as far as it is another one.
fn other_cases(c: char) -> impl Iterator<Item = char> {
    fn one(mut chars: impl Iterator<Item = char>) -> Option<char> {
        let first = chars.next()?;
        chars.next().is_none().then_some(first)
    }
    let cases = [one(c.to_uppercase()), one(c.to_lowercase())];
    cases.into_iter().flatten().filter(move |other| *other != c)
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
        ] {
            let regex = compile(expression, false, false).unwrap();
            assert_eq!(
                regex.is_match(text.as_bytes()),
                matches,
                "{expression} on {text}"
            );
        }
        assert!(
            compile("world.$", false, true)
                .unwrap()
                .is_match(b"world\n")
        );
    }

    #[test]
    fn letters_mean_both_cases_where_case_is_ignored() {
        for (expression, text, matches) in [
            ("HELLO", "hello", true),
            ("hello", "HellO", true),
            ("^[a-c]+$", "aBC", true),
            ("^[^a-c]+$", "B", false),
            ("^[X-c]+$", "xYzABC", true),
            ("^[[:upper:]]+$", "ab", true),
            ("^[[:lower:][:digit:]]+$", "AB1", true),
            ("^[a-]+$", "A-", true),
            ("^[-a]+$", "A-", true),
            ("^[%--]+$", "-&", true),
            ("^a{2}$", "aA", true),
            (r"^\w\d\.$", "x5.", true),
            (r"^\w$", "-", false),
            ("^ä[ö-ü]$", "ÄÜ", true),
            ("straße", "STRAßE", true),
            ("ς", "Σ", true),
            ("(ab|cd)+$", "xABcd", true),
            (r"^\p{Lu}$", "É", true),
            ("^(?:ok|up)$", "OK", true),
            ("[\u{0}-\u{10ffff}]", "x", true),
        ] {
            let regex = compile(expression, true, false).unwrap();
            assert_eq!(
                regex.is_match(text.as_bytes()),
                matches,
                "{expression} on {text}"
            );
        }
        assert!(compile("(?i)ok", false, false).unwrap().is_match(b"OK"));
        assert!(!compile("ok", false, false).unwrap().is_match(b"OK"));
    }

    #[test]
    fn no_expression_ends_the_program() {
        let parts = [
            "[", "]", "^", "-", "\\", "(", "?", ":", "{", "}", "ä", "[:", ":]", "p",
        ];
        for number in 0..parts.len().pow(4) {
            let places = [1, 14, 196, 2744].map(|place| parts[number / place % parts.len()]);
            let translated = translate(&places.concat(), number % 2 == 0);
            assert!(translated.len() >= places.concat().len());
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for expression in [
            "(",
            "[a",
            "[",
            "[^",
            "[]",
            "\\",
            "a{5000}{5000}",
            "*",
            "[z-a]",
        ] {
            let error = format!("{:#}", compile(expression, false, false).unwrap_err());
            assert!(
                error.starts_with("cannot compile") && !error.contains('\n'),
                "{error}"
            );
        }
    }
}
