//! What a page of JSON must hold, by JSONPath (RFC 9535). No I/O.

use std::cmp::Ordering;

use anyhow::Context;
use regex::RegexBuilder;
use serde_json::Value;
use serde_json_path::JsonPath;
use serde_json_path::functions::{LogicalType, ValueType};

use super::reply::Reply;
use crate::plugin::metric::plain;
use crate::plugin::{Range, State};

/// The largest page that is read as JSON: its values take many times its bytes.
pub const JSON_LIMIT: usize = 4 << 20;

/// The most memory that a compiled expression may take: one that was given, and one that stands in the page.
const EXPRESSION_LIMIT: usize = 10 << 20;
const PAGE_EXPRESSION_LIMIT: usize = 1 << 20;

/// No more brackets than this within each other: where a path is wrong the parser takes longer with each, a minute with
/// some dozens.
const DEEPEST: usize = 16;

/// How much of a text of the page is shown.
const SHOWN: usize = 60;

/// Its options.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Judging a probe")]
pub struct JsonArgs {
    /// What the page must hold as JSON: a JSONPath that selects something, with =VALUE all of it that value, with !=VALUE none
    #[arg(long, value_name = "PATH[=VALUE]", allow_hyphen_values = true)]
    pub json_path: Vec<String>,

    /// A JSONPath to numbers, and the range outside of which one of them is a WARNING (repeat)
    #[arg(long, value_name = "PATH=RANGE", allow_hyphen_values = true)]
    pub json_warning: Vec<String>,

    /// The same for CRITICAL
    #[arg(long, value_name = "PATH=RANGE", allow_hyphen_values = true)]
    pub json_critical: Vec<String>,
}

impl JsonArgs {
    /// Whether anything is asked for.
    pub fn any(&self) -> bool {
        let lists = [&self.json_path, &self.json_warning, &self.json_critical];
        lists.into_iter().flatten().any(|text| !text.is_empty())
    }
}

/// One thing that a page of JSON must hold.
#[derive(Debug, Clone)]
pub struct JsonCheck {
    /// As given.
    text: String,
    path: JsonPath,
    demand: Demand,
}

#[derive(Debug, Clone)]
enum Demand {
    /// There is something.
    Exists,
    /// All of it is this.
    Equals(String),
    /// None of it is this.
    Differs(String),
    /// All of it is numbers of this range; how bad it is where not.
    Within(Range, State),
}

/// What the options ask for.
pub fn compile(args: &JsonArgs) -> anyhow::Result<Vec<JsonCheck>> {
    let mut checks = Vec::new();
    let demands = [
        ("--json-path", &args.json_path, None),
        ("--json-warning", &args.json_warning, Some(State::Warning)),
        (
            "--json-critical",
            &args.json_critical,
            Some(State::Critical),
        ),
    ];
    for (option, texts, state) in demands {
        // Icinga passes a macro that is empty as an empty argument.
        for text in texts.iter().filter(|text| !text.is_empty()) {
            let check = check(text, state).with_context(|| format!("{option} {text}"))?;
            checks.push(check);
        }
    }
    Ok(checks)
}

pub(super) fn check(text: &str, state: Option<State>) -> anyhow::Result<JsonCheck> {
    let (path, value) = split(text);
    let value = value.map(str::trim);
    let (path, differs) = match path.strip_suffix('!') {
        Some(path) if value.is_some() => (path, true),
        _ => (path, false),
    };
    let demand = match (value, state) {
        (None, Some(_)) => anyhow::bail!("give PATH=RANGE"),
        (Some(range), Some(state)) => {
            let range = range.parse().map_err(anyhow::Error::msg)?;
            Demand::Within(range, state)
        }
        (None, None) => Demand::Exists,
        (Some(value), None) if differs => Demand::Differs(value.to_owned()),
        (Some(value), None) => Demand::Equals(value.to_owned()),
    };
    let path = path.trim();
    anyhow::ensure!(
        depth(path) <= DEEPEST,
        "more than {DEEPEST} brackets within each other"
    );
    Ok(JsonCheck {
        text: path.to_owned(),
        path: JsonPath::parse(path)
            .context("this is no JSONPath as RFC 9535 has them, as in $.status")?,
        demand,
    })
}

/// How many brackets are open at once, at most.
fn depth(path: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in path.bytes() {
        match byte {
            b'[' | b'(' => open += 1,
            b']' | b')' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// The path, and what follows the first `=` that does not belong to it: within brackets and quotes one does.
fn split(text: &str) -> (&str, Option<&str>) {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) => quote = Some(open).filter(|open| *open != c),
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '(') => depth += 1,
            (None, ']' | ')') => depth = depth.saturating_sub(1),
            (None, '=') if depth == 0 => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

/// RFC 9535's `match()`: whether the whole text matches.
#[serde_json_path::function(name = "match")]
fn matches(text: ValueType, expression: ValueType) -> LogicalType {
    matching(&text, &expression, |inner| format!("^({inner})$"))
}

/// RFC 9535's `search()`: whether a part of the text matches.
#[serde_json_path::function(name = "search")]
fn search(text: ValueType, expression: ValueType) -> LogicalType {
    matching(&text, &expression, |inner| format!("({inner})"))
}

/// Of the library's own functions of these names one cannot say what an expression of the page's may take; and they bring
/// tables of Unicode's that I-Regexp (RFC 9485) knows nothing of.
fn matching(
    text: &ValueType<'_>,
    expression: &ValueType<'_>,
    whole: fn(&str) -> String,
) -> LogicalType {
    let limit = match expression {
        ValueType::Node(_) => PAGE_EXPRESSION_LIMIT,
        _ => EXPRESSION_LIMIT,
    };
    let text_of = |value: &ValueType<'_>| value.as_value()?.as_str().map(str::to_owned);
    let (Some(text), Some(expression)) = (text_of(text), text_of(expression)) else {
        return LogicalType::False;
    };
    // With `.` as I-Regexp has it: neither a line feed nor a carriage return. One that is none is false (RFC 9535, 2.4.6).
    let built = RegexBuilder::new(&whole(&expression))
        .crlf(true)
        .size_limit(limit)
        .build();
    built.is_ok_and(|regex| regex.is_match(&text)).into()
}

/// Judges a page: what is wrong with it, and how bad that is.
pub fn judge(checks: &[JsonCheck], reply: &Reply) -> Vec<(State, String)> {
    if checks.is_empty() {
        return Vec::new();
    }
    if reply.page_cut || reply.page.len() > JSON_LIMIT {
        let words = format!(
            "the page is too large to be read as JSON (more than {} MiB)",
            JSON_LIMIT >> 20
        );
        return vec![(State::Critical, words)];
    }
    let page = reply
        .page
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(&reply.page);
    match serde_json::from_slice::<Value>(page) {
        Ok(page) => checks
            .iter()
            .filter_map(|check| check.judge(&page))
            .collect(),
        Err(error) => vec![(State::Critical, format!("the page is no JSON: {error}"))],
    }
}

impl JsonCheck {
    fn judge(&self, page: &Value) -> Option<(State, String)> {
        let found = self.path.query(page);
        let path = &self.text;
        let bad = |words: String| Some((State::Critical, format!("JSON {path} {words}")));
        if found.is_empty() {
            return match &self.demand {
                Demand::Differs(_) => None,
                _ => bad("selects nothing".to_owned()),
            };
        }
        match &self.demand {
            Demand::Exists => None,
            Demand::Equals(wanted) => {
                let wrong = found.iter().find(|value| !is(value, wanted))?;
                bad(format!("is {}, not {wanted}", shown(wrong)))
            }
            Demand::Differs(unwanted) => {
                let wrong = found.iter().find(|value| is(value, unwanted))?;
                bad(format!("is {}", shown(wrong)))
            }
            Demand::Within(range, state) => found.iter().find_map(|value| match number(value) {
                None => bad(format!("is {}, no number", shown(value))),
                Some(number) if range.alerts(number) => {
                    let words = format!("JSON {path} is {}, outside of {range}", plain(number));
                    Some((*state, words))
                }
                Some(_) => None,
            }),
        }
    }
}

/// Whether a value is what was given: as JSON, or a text as it stands there.
fn is(value: &Value, given: &str) -> bool {
    if value.as_str() == Some(given) {
        return true;
    }
    let Ok(given) = serde_json::from_str::<Value>(given) else {
        return false;
    };
    let whole = |value: &Value| value.is_i64() || value.is_u64();
    if whole(value) && whole(&given) {
        // Of 64 bits, of which a f64 holds 53.
        return *value == given;
    }
    match (value.as_f64(), given.as_f64()) {
        // 1 is 1.0.
        (Some(one), Some(other)) => one.partial_cmp(&other) == Some(Ordering::Equal),
        _ => *value == given,
    }
}

/// A number, also one that is written as a text.
fn number(value: &Value) -> Option<f64> {
    let number = value
        .as_f64()
        .or_else(|| value.as_str()?.trim().parse().ok());
    number.filter(|number| number.is_finite())
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => {
            let head: String = text.chars().take(SHOWN).collect();
            let more = if head.len() < text.len() { "..." } else { "" };
            format!("\"{head}{more}\"")
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"{"status": "up", "n": 5, "half": 0.5, "text": "7", "none": null, "ok": true,
        "parts": [{"name": "db", "state": "up", "ms": 3}, {"name": "mq=1", "state": "down", "ms": 30}]}"#;

    fn judged(text: &str, state: Option<State>) -> Vec<(State, String)> {
        let reply = Reply {
            page: PAGE.as_bytes().to_vec(),
            ..Reply::default()
        };
        judge(&[check(text, state).unwrap()], &reply)
    }

    #[test]
    fn whole_numbers_are_compared_to_the_last_digit() {
        let value: Value = serde_json::from_str("1234567890123456700").unwrap();
        assert!(is(&value, "1234567890123456700"));
        assert!(!is(&value, "1234567890123456789"));
        for (one, other, same) in [
            ("1", "1.0", true),
            ("1.50", "1.5", true),
            ("-0.5", "-5e-1", true),
            ("18446744073709551615", "18446744073709551614", false),
            ("-1", "18446744073709551615", false),
            ("0", "-0.0", true),
            ("0.1", "0.10000001", false),
        ] {
            let value: Value = serde_json::from_str(one).unwrap();
            assert_eq!(is(&value, other), same, "{one} and {other}");
        }
    }

    #[test]
    fn a_page_holds_what_is_asked_for_or_it_is_said_what_it_holds() {
        for (text, words) in [
            ("$.status", None),
            ("$.status=up", None),
            ("$.status=\"up\"", None),
            ("$.status = up ", None),
            ("$.n=5.0", None),
            ("$.ok=true", None),
            ("$.none=null", None),
            ("$.missing", Some("selects nothing")),
            ("$.missing=1", Some("selects nothing")),
            ("$.missing!=1", None),
            ("$.status!=down", None),
            ("$.parts[*].state!=down", Some("is \"down\"")),
            ("$.parts[*].state=up", Some("is \"down\", not up")),
            ("$.parts=x", Some("is an array, not x")),
            ("$.parts[?@.name=='mq=1'].state=down", None),
            ("$['status']=up", None),
            ("$.parts[?@.state == 'failed']", Some("selects nothing")),
            ("$[?length(@) > 1]", None),
            ("$.parts[?match(@.name, 'd.')].state=up", None),
            ("$.parts[?match(@.name, 'd')]", Some("selects nothing")),
            ("$.parts[?search(@.name, '=[0-9]')].ms=30", None),
            ("$.parts[?match(@.name, '\\\\p{L}+')].name=db", None),
            ("$.parts[?match(@.name, '\\\\w{1,32}')].name=db", None),
            ("$.parts[?search(@.state, '(?i)UP')].state=up", None),
            ("$.parts[?match(@.ms, '3')]", Some("selects nothing")),
            ("$.parts[?match(@.name, '(')]", Some("selects nothing")),
        ] {
            let expected = words.map(|words| {
                let path = split(text).0.trim_end_matches(['!', ' ']);
                (State::Critical, format!("JSON {path} {words}"))
            });
            assert_eq!(judged(text, None).into_iter().next(), expected, "{text}");
        }
    }

    /// The expression can be one of the page's.
    #[test]
    fn an_expression_that_takes_much_memory_matches_nothing() {
        let page = r#"{"text": "a", "one": "a{1,9}", "other": "(((a{1,99}){1,99}){1,99})"}"#;
        let reply = Reply {
            page: page.as_bytes().to_vec(),
            ..Reply::default()
        };
        for (text, wrong) in [
            ("$[?match($.text, $.one)]", 0),
            ("$[?match($.text, $.other)]", 1),
        ] {
            let judged = judge(&[check(text, None).unwrap()], &reply);
            assert_eq!(judged.len(), wrong, "{text}");
        }
    }

    #[test]
    fn numbers_are_held_against_ranges() {
        for (text, state, words) in [
            ("$.n=5", State::Warning, None),
            (
                "$.n=6:",
                State::Warning,
                Some((State::Warning, "JSON $.n is 5, outside of 6:")),
            ),
            (
                "$.parts[*].ms=10",
                State::Critical,
                Some((State::Critical, "JSON $.parts[*].ms is 30, outside of 10")),
            ),
            (
                "$.text=5",
                State::Warning,
                Some((State::Warning, "JSON $.text is 7, outside of 5")),
            ),
            (
                "$.status=5",
                State::Warning,
                Some((State::Critical, "JSON $.status is \"up\", no number")),
            ),
        ] {
            let found = judged(text, Some(state)).into_iter().next();
            let expected = words.map(|(state, words)| (state, words.to_owned()));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (text, state) in [
            ("status", None),
            ("$.a[", None),
            ("$.a", Some(State::Warning)),
            ("$.a=x", Some(State::Warning)),
            (&"$[?f(".repeat(40), None),
        ] {
            assert!(check(text, state).is_err(), "{text}");
        }
        let checks = [check("$", None).unwrap()];
        for (page, cut, words) in [
            (
                &b"<html>"[..],
                false,
                "the page is no JSON: expected value at line 1 column 1",
            ),
            (
                b"",
                false,
                "the page is no JSON: EOF while parsing a value at line 1 column 0",
            ),
            (
                b"{}",
                true,
                "the page is too large to be read as JSON (more than 4 MiB)",
            ),
            (
                &[b'['; 1000],
                false,
                "the page is no JSON: recursion limit exceeded at line 1 column 128",
            ),
        ] {
            let reply = Reply {
                page: page.to_vec(),
                page_cut: cut,
                ..Reply::default()
            };
            assert_eq!(
                judge(&checks, &reply),
                [(State::Critical, words.to_owned())]
            );
        }
        let reply = Reply {
            page: b"\xef\xbb\xbf {}\n".to_vec(),
            ..Reply::default()
        };
        assert_eq!(judge(&checks, &reply), []);
    }
}
