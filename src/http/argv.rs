//! Spellings that getopt reads and clap does not.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The one-letter options that take a value. A test holds it against the definition.
const WITH_VALUE: &[u8] = b"HIpujkAabPTfedsrRmMwctCJKx";

/// Long spellings with a single dash, from before getopt.
const LEGACY: [(&str, &str); 5] = [
    ("-to", "-t"),
    ("-hn", "-H"),
    ("-wt", "-w"),
    ("-ct", "-c"),
    ("-nohtml", "-n"),
];

/// The long options of `check_http`: their abbreviations mean them, whatever else begins alike here.
const CHECK_HTTP: [&str; 41] = [
    "IP-address",
    "authorization",
    "certificate",
    "client-cert",
    "content-type",
    "continue-after-certificate",
    "critical",
    "ereg",
    "eregi",
    "expect",
    "extended-perfdata",
    "header",
    "header-string",
    "help",
    "hostname",
    "invert-regex",
    "linespan",
    "link",
    "max-age",
    "max-redirs",
    "method",
    "no-body",
    "nohtml",
    "onredirect",
    "pagesize",
    "port",
    "post",
    "private-key",
    "proxy-authorization",
    "regex",
    "show-body",
    "sni",
    "ssl",
    "string",
    "timeout",
    "url",
    "use-ipv4",
    "use-ipv6",
    "verbose",
    "version",
    "warning",
];

/// Those of them that take no value, or one that is only ever attached.
const FLAGS: [&str; 15] = [
    "continue-after-certificate",
    "extended-perfdata",
    "help",
    "invert-regex",
    "linespan",
    "link",
    "no-body",
    "nohtml",
    "show-body",
    "sni",
    "ssl",
    "use-ipv4",
    "use-ipv6",
    "verbose",
    "version",
];

/// Options that it does not have and that one of its own begins with.
const BEGINNINGS: [&str; 1] = ["proxy"];

/// Options of `check_http` that are left out where their value is empty: Icinga passes a variable that is not set so.
/// (It takes most of them for none as well.)
const EMPTY_IS_NONE: [(&str, &str); 9] = [
    ("-w", "--warning"),
    ("-c", "--critical"),
    ("-m", "--pagesize"),
    ("-M", "--max-age"),
    ("-t", "--timeout"),
    ("-u", "--url"),
    ("-j", "--method"),
    ("-H", "--hostname"),
    ("-p", "--port"),
];

/// Puts `-S1.2+`, also behind other letters as in `-vS1.2`, into `--ssl=1.2+`: its value is optional and only ever
/// attached, so that a following argument is never swallowed. Values of other options are left alone.
pub fn rewrite(argv: Vec<OsString>) -> Vec<OsString> {
    let mut out = Vec::with_capacity(argv.len() + 1);
    let mut argv = argv.into_iter().peekable();
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
        let word = complete(word);
        let apart = || {
            EMPTY_IS_NONE
                .iter()
                .any(|(short, long)| word == *short || word == *long)
        };
        if argv.peek().is_some_and(|next| next.is_empty()) && apart() {
            argv.next();
            continue;
        }
        let attached = word.to_str().and_then(|word| word.strip_suffix('='));
        if attached.is_some_and(|name| EMPTY_IS_NONE.iter().any(|(_, long)| *long == name)) {
            continue;
        }
        let takes_next = split(&word, &mut out);
        if takes_next {
            out.extend(argv.next());
        }
    }
    out.extend(argv);
    out
}

/// Writes out an abbreviated long option of `check_http`, where it has one alone that begins so.
fn complete(word: OsString) -> OsString {
    let Some(text) = word.to_str().and_then(|word| word.strip_prefix("--")) else {
        return word;
    };
    let end = text.find('=').unwrap_or(text.len());
    let (name, value) = text.split_at(end);
    if name.is_empty() || CHECK_HTTP.contains(&name) || BEGINNINGS.contains(&name) {
        return word;
    }
    let mut fitting = CHECK_HTTP.iter().filter(|option| option.starts_with(name));
    match (fitting.next(), fitting.next()) {
        (Some(option), None) => format!("--{option}{value}").into(),
        _ => word,
    }
}

/// Adds one word, in two where it holds an `S` or a value that begins with `=`. Returns whether the next word is its value.
fn split(word: &OsStr, out: &mut Vec<OsString>) -> bool {
    let bytes = word.as_bytes();
    if bytes.len() < 2 || bytes[0] != b'-' || bytes[1] == b'-' {
        let long = word.to_str().and_then(|word| word.strip_prefix("--"));
        out.push(word.to_owned());
        return long.is_some_and(|name| CHECK_HTTP.contains(&name) && !FLAGS.contains(&name));
    }
    let stop = bytes
        .iter()
        .skip(1)
        .position(|letter| *letter == b'S' || WITH_VALUE.contains(letter))
        .map(|at| at + 1);
    match stop {
        Some(at) if bytes[at] == b'S' => {
            // One by one: together they may look like one of the old spellings.
            let letters = bytes[1..at].iter();
            out.extend(letters.map(|letter| OsString::from_vec(vec![b'-', *letter])));
            let version = &bytes[at + 1..];
            out.push(if version.is_empty() {
                "--ssl".into()
            } else {
                OsString::from_vec([b"--ssl=", version].concat())
            });
            false
        }
        Some(at) if bytes.get(at + 1) == Some(&b'=') => {
            // To getopt it is one of the value.
            let (letters, value) = bytes.split_at(at + 1);
            out.extend([letters, value].map(|part| OsString::from_vec(part.to_vec())));
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
            ("-vES", "-v -E --ssl"),
            ("-hnS1.2", "-h -n --ssl=1.2"),
            ("-s -S", "-s -S"),
            ("-sS", "-sS"),
            ("-w=5 -vu=/ok -S -p==", "-w =5 -vu =/ok --ssl -p =="),
            ("-u -S -S", "-u -S --ssl"),
            ("--ssl=1.2", "--ssl=1.2"),
            ("-- -S", "-- -S"),
            ("-wt 5 -ct 10 -to 7", "-w 5 -c 10 -t 7"),
            ("-I::1 -S", "-I::1 --ssl"),
            ("--auth a:b --cert=5", "--authorization a:b --certificate=5"),
            ("-w  -c 5 -H ", "-c 5"),
            ("--warn= --url=/ -k  -E", "--url=/ -k  -E"),
            ("-s  -S", "-s  --ssl"),
            ("--head x --header-f y", "--head x --header-f y"),
            ("--proxy-a a:b --s x", "--proxy-authorization a:b --s x"),
            ("--string -S -S", "--string -S --ssl"),
            ("--str --time=  -S", "--string --time=  --ssl"),
            ("--time --time= ", "--timeout --time= "),
            ("--sni -S", "--sni --ssl"),
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
    fn an_abbreviation_means_what_it_means_in_check_http() {
        let command = options::command::<Args>();
        let ours: Vec<_> = command
            .get_arguments()
            .filter_map(clap::Arg::get_long)
            .collect();
        for option in CHECK_HTTP {
            let aliases = command
                .get_arguments()
                .filter_map(clap::Arg::get_all_aliases);
            let known = ours.contains(&option) || aliases.flatten().any(|alias| alias == option);
            assert!(known, "{option}");
        }
        for option in FLAGS {
            assert!(CHECK_HTTP.contains(&option), "{option}");
        }
        for arg in command.get_arguments() {
            let own = arg.get_long().into_iter();
            let names = own.chain(arg.get_all_aliases().into_iter().flatten());
            let takes = arg.get_action().takes_values() && arg.get_id() != "ssl";
            for name in names.filter(|name| CHECK_HTTP.contains(name)) {
                assert_eq!(takes, !FLAGS.contains(&name), "{name}");
            }
        }
        let begins_one = |name: &&&str| {
            !CHECK_HTTP.contains(name) && CHECK_HTTP.iter().any(|option| option.starts_with(**name))
        };
        let beginnings: Vec<_> = ours.iter().filter(begins_one).copied().collect();
        assert_eq!(beginnings, BEGINNINGS);
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
