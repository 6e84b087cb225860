//! Spellings that getopt reads and clap does not.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The one-letter options that take a value. A test holds it against the definition.
const WITH_VALUE: &[u8] = b"HIpujkAabPTfedsrRmMwctCJK";

/// Long spellings with a single dash, from before getopt.
const LEGACY: [(&str, &str); 5] = [
    ("-to", "-t"),
    ("-hn", "-H"),
    ("-wt", "-w"),
    ("-ct", "-c"),
    ("-nohtml", "-n"),
];

/// Puts `-S1.2+`, also behind other letters as in `-vS1.2`, into `--ssl=1.2+`: its value is optional and only ever
/// attached, so that a following argument is never swallowed. Values of other options are left alone.
pub fn rewrite(argv: Vec<OsString>) -> Vec<OsString> {
    let mut out = Vec::with_capacity(argv.len() + 1);
    let mut argv = argv.into_iter();
    out.extend(argv.next());
    while let Some(word) = argv.next() {
        if word == "--" {
            out.push(word);
            break;
        }
        let word = LEGACY
            .iter()
            .find(|(old, _)| word == **old)
            .map_or(word, |(_, new)| OsString::from(new));
        let takes_next = split(&word, &mut out);
        if takes_next {
            out.extend(argv.next());
        }
    }
    out.extend(argv);
    out
}

/// Adds one word, in two where it holds an `S`. Returns whether the next word is its value.
fn split(word: &OsStr, out: &mut Vec<OsString>) -> bool {
    let bytes = word.as_bytes();
    if bytes.len() < 2 || bytes[0] != b'-' || bytes[1] == b'-' {
        out.push(word.to_owned());
        return false;
    }
    let stop = bytes
        .iter()
        .skip(1)
        .position(|letter| *letter == b'S' || WITH_VALUE.contains(letter))
        .map(|at| at + 1);
    match stop {
        Some(at) if bytes[at] == b'S' => {
            if at > 1 {
                out.push(OsStr::from_bytes(&bytes[..at]).to_owned());
            }
            let version = &bytes[at + 1..];
            out.push(if version.is_empty() {
                "--ssl".into()
            } else {
                OsString::from_vec([b"--ssl=", version].concat())
            });
            false
        }
        Some(at) => {
            out.push(word.to_owned());
            at + 1 == bytes.len()
        }
        None => {
            out.push(word.to_owned());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Args;
    use crate::plugin::options;

    #[test]
    fn the_version_of_s_is_only_ever_attached() {
        for (given, read) in [
            ("-S", "--ssl"),
            ("-S1.2+", "--ssl=1.2+"),
            ("-S -p 1", "--ssl -p 1"),
            ("-S 1.2", "--ssl 1.2"),
            ("-vS1.2", "-v --ssl=1.2"),
            ("-vES", "-vE --ssl"),
            ("-s -S", "-s -S"),
            ("-sS", "-sS"),
            ("-u -S -S", "-u -S --ssl"),
            ("--ssl=1.2", "--ssl=1.2"),
            ("-- -S", "-- -S"),
            ("-wt 5 -ct 10 -to 7", "-w 5 -c 10 -t 7"),
            ("-I::1 -S", "-I::1 --ssl"),
        ] {
            let words = |text: &str| -> Vec<OsString> {
                ["check"]
                    .into_iter()
                    .chain(text.split(' '))
                    .map(Into::into)
                    .collect()
            };
            assert_eq!(rewrite(words(given)), words(read), "{given}");
        }
    }

    #[test]
    fn the_letters_that_take_a_value_are_those_of_the_definition() {
        let command = options::command::<Args>();
        let mut defined: Vec<u8> = command
            .get_arguments()
            .filter(|arg| arg.get_action().takes_values() && arg.get_id() != "ssl")
            .filter_map(|arg| arg.get_short().and_then(|short| u8::try_from(short).ok()))
            .collect();
        let mut listed = WITH_VALUE.to_vec();
        defined.sort_unstable();
        listed.sort_unstable();
        assert_eq!(
            String::from_utf8_lossy(&defined),
            String::from_utf8_lossy(&listed)
        );
    }
}
