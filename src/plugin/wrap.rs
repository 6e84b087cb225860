//! Breaks a report's lines between words, for a person at a terminal. What Icinga reads from a pipe is never touched.

/// How much further than its line what is left of it starts.
const INDENT: usize = 2;

/// Breaks each line that is wider than this, and puts performance data on lines of its own. A word that is wider stays
/// whole; a line that begins with a carriage return is a live line, which has been cut to fit.
pub fn wrap(text: &str, width: usize) -> String {
    let mut wrapped = String::with_capacity(text.len() + text.len() / 16);
    for line in text.split_inclusive('\n') {
        if line.starts_with('\r') || (line.chars().count() <= width && !line.contains("|'")) {
            wrapped.push_str(line);
            continue;
        }
        let (line, end) = line
            .strip_suffix('\n')
            .map_or((line, ""), |line| (line, "\n"));
        let indent = line.len() - line.trim_start().len();
        let indent = if indent * 2 < width { indent } else { 0 };
        // Text of others has no pipe any more: this one begins the performance data.
        match line.split_once("|'") {
            Some((words, perfdata)) => {
                break_line(words, indent, indent + INDENT, width, &mut wrapped);
                wrapped.push('\n');
                break_line(
                    &format!("|'{perfdata}"),
                    INDENT,
                    INDENT,
                    width,
                    &mut wrapped,
                );
            }
            None => break_line(line, 0, indent + INDENT, width, &mut wrapped),
        }
        wrapped.push_str(end);
    }
    wrapped
}

/// One line, the first and the others indented like this.
fn break_line(line: &str, first: usize, others: usize, width: usize, to: &mut String) {
    to.extend(std::iter::repeat_n(' ', first));
    let mut column = first;
    let mut empty = true;
    for word in line.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if column + length > width && !empty {
            to.truncate(to.trim_end_matches(' ').len());
            to.push('\n');
            to.extend(std::iter::repeat_n(' ', others));
            column = others;
        }
        to.push_str(word);
        column += word.chars().count();
        empty &= length == 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_go_on_indented() {
        for (text, wrapped) in [
            ("short\n", "short\n"),
            ("", ""),
            ("one two three four\n", "one two\n  three\n  four\n"),
            ("  one two three\nnext", "  one two\n    three\nnext"),
            ("averyverylongword two\n", "averyverylongword\n  two\n"),
            ("  averyverylongword\n", "  averyverylongword\n"),
            ("grün grün grün\n", "grün grün\n  grün\n"),
            ("\r\x1b[Kone two three four", "\r\x1b[Kone two three four"),
        ] {
            assert_eq!(wrap(text, 9), wrapped, "{text:?}");
        }
    }

    #[test]
    fn performance_data_stands_below_its_line() {
        let text = "HTTP OK: fine|'time'=1s;;;0; 'size'=3B;;;0;\nmore\n";
        let wrapped = "HTTP OK: fine\n  |'time'=1s;;;0;\n  'size'=3B;;;0;\nmore\n";
        assert_eq!(wrap(text, 20), wrapped);
        assert_eq!(wrap("OK|'a'=1;;;0;", 80), "OK\n  |'a'=1;;;0;");
    }

    #[test]
    fn no_line_is_too_wide_and_no_word_is_lost() {
        let text =
            "state: a number of words of any length, some of them quite long ones\n".repeat(3);
        for width in 20..60 {
            let wrapped = wrap(&text, width);
            assert!(
                wrapped.lines().all(|line| line.chars().count() <= width),
                "{wrapped}"
            );
            let words = |text: &str| {
                text.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert_eq!(words(&wrapped), words(&text));
        }
    }
}
