//! The one function that makes text from outside harmless: for the terminal, for the performance data parser
//! and for Icinga Web, which takes `<word…>` for HTML.

use std::fmt::Write;

/// Makes bytes from outside fit to be printed within one line of text.
///
/// What could steer a terminal or a parser is shown, not dropped, so that the reader sees what came: control
/// characters and bytes that are no UTF-8 as `\x1b`, line feeds as `\n`, a pipe as `!` (an `=` behind a pipe makes
/// performance data of the rest), characters that turn the writing direction or cannot be seen as `\u{202e}`.
/// A `<` that would open an HTML tag gets a blank behind it. Cleaning twice changes nothing.
pub fn clean(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid().chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '|' => out.push('!'),
                '\t' => out.push(' '),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '<' if rest
                    .peek()
                    .is_some_and(|&next| next.is_alphabetic() || "/!?|".contains(next)) =>
                {
                    out.push_str("< ");
                }
                c if c.is_control() => push_escape(&mut out, c),
                c if is_invisible(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// [`clean`], and cut to at most `limit` characters, with `...` at the end where something was cut.
pub fn clean_cut(bytes: impl AsRef<[u8]>, limit: usize) -> String {
    let bytes = bytes.as_ref();
    // No character takes more than four bytes: what lies behind cannot be among the first `limit`.
    let head = &bytes[..bytes.len().min(limit.saturating_mul(4).saturating_add(4))];
    cut(clean(head), limit)
}

/// Cuts text to at most `limit` characters, with `...` at the end where something was cut.
pub fn cut(mut text: String, limit: usize) -> String {
    if let Some((_, _)) = text.char_indices().nth(limit) {
        let keep = limit.saturating_sub(3);
        let end = text
            .char_indices()
            .nth(keep)
            .map_or(text.len(), |(at, _)| at);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// A performance data label: `[A-Za-z0-9_]`, everything else becomes `_`.
pub fn label(text: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    if text.is_empty() {
        "_".to_owned()
    } else {
        text.chars().take(64).map(clean).collect()
    }
}

fn push_escape(out: &mut String, c: char) {
    let code = u32::from(c);
    // C1 controls are two bytes in UTF-8; \u{..} keeps them apart from stray bytes.
    let _ = if code < 0x80 {
        write!(out, "\\x{code:02x}")
    } else {
        write!(out, "\\u{{{code:x}}}")
    };
}

/// Format characters that reorder, hide or break text on a terminal: Unicode Annex 9 directional controls,
/// zero-width characters, line and paragraph separators, tag characters.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_text_is_shown_and_disarmed() {
        for (dirty, harmless) in [
            (&b"200 OK"[..], "200 OK"),
            (b"x|time=0s;;;", "x!time=0s;;;"),
            (b"a\r\nHTTP OK: b", "a\\r\\nHTTP OK: b"),
            (b"\x1b[2J\x1b]0;t\x07", "\\x1b[2J\\x1b]0;t\\x07"),
            (b"caf\xe9 \xff", "caf\\xe9 \\xff"),
            ("größer ✓".as_bytes(), "größer ✓"),
            (
                "\u{9b}31m \u{202e}x\u{2028}".as_bytes(),
                "\\u{9b}31m \\u{202e}x\\u{2028}",
            ),
            (
                b"<script>alert(1)</script> 1 < 2",
                "< script>alert(1)< /script> 1 < 2",
            ),
            (b"a\tb\0", "a b\\x00"),
            (b"<|x", "< !x"),
        ] {
            assert_eq!(clean(dirty), harmless);
        }
    }

    #[test]
    fn cutting_counts_characters_and_says_so() {
        assert_eq!(clean_cut("äöüäöü", 6), "äöüäöü");
        assert_eq!(clean_cut("äöüäöüä", 6), "äöü...");
        assert_eq!(clean_cut(vec![0xff; 100], 8), "\\xff\\...");
    }

    #[test]
    fn labels_hold_nothing_that_a_parser_could_trip_over() {
        assert_eq!(label("a b=c'|::d"), "a_b_c____d");
        assert_eq!(label(""), "_");
        assert_eq!(label("größe"), "gr__e");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_one_printable_line(bytes: Vec<u8>) {
            let text = clean(&bytes);
            prop_assert!(!text.contains(['|', '\n', '\r', '\t']));
            prop_assert!(!text.chars().any(|c| c.is_control() || is_invisible(c)));
            prop_assert_eq!(clean(&text), text);
        }
    }
}
