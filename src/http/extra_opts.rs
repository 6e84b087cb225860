//! `--extra-opts`: options from a file, as monitoring-plugins read them. They come before those of the command line,
//! so that the command line goes first where both name one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

const OPTION: &[u8] = b"--extra-opts";

/// The sections that are read where none is named; the first that is there.
const SECTIONS: [&str; 2] = ["check_http_retry", "check_http"];

/// The names of a file in a folder of `NAGIOS_CONFIG_PATH`.
const NAMES: [&str; 3] = [
    "monitoring-plugins.ini",
    "plugins.ini",
    "nagios-plugins.ini",
];

/// Where a file is looked for otherwise: the places of monitoring-plugins.
const PLACES: [&str; 11] = [
    "/usr/local/etc/monitoring-plugins/monitoring-plugins.ini",
    "/usr/local/etc/monitoring-plugins.ini",
    "/etc/monitoring-plugins/monitoring-plugins.ini",
    "/etc/monitoring-plugins.ini",
    "/etc/nagios/plugins.ini",
    "/usr/local/nagios/etc/plugins.ini",
    "/usr/local/etc/nagios/plugins.ini",
    "/etc/opt/nagios/plugins.ini",
    "/etc/nagios-plugins.ini",
    "/usr/local/etc/nagios-plugins.ini",
    "/etc/opt/nagios-plugins.ini",
];

/// The most that is read of a file.
const LIMIT: u64 = 1 << 20;

/// Replaces each `--extra-opts[=[SECTION][@FILE]]` by what the file holds.
pub fn expand(argv: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    if !argv.iter().any(|word| word.as_bytes().starts_with(OPTION)) {
        return Ok(argv);
    }
    let mut words = argv.into_iter().peekable();
    let program = words.next();
    let (mut extra, mut rest) = (Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        let locator = match word.as_bytes().strip_prefix(OPTION) {
            Some(b"") => words.next_if(|next| !is_option(next)).unwrap_or_default(),
            Some([b'=', locator @ ..]) => OsStr::from_bytes(locator).to_owned(),
            _ => {
                rest.push(word);
                continue;
            }
        };
        extra.extend(read(&locator)?);
    }
    Ok(program.into_iter().chain(extra).chain(rest).collect())
}

/// One or two dashes to begin with.
fn is_option(word: &OsStr) -> bool {
    let dashes = word.as_bytes().iter().take_while(|byte| **byte == b'-');
    matches!(dashes.count(), 1 | 2)
}

/// The options behind `[SECTION][@FILE]`.
#[cold]
fn read(locator: &OsStr) -> anyhow::Result<Vec<OsString>> {
    let bytes = locator.as_bytes();
    let at = memchr::memchr(b'@', bytes);
    let section = &bytes[..at.unwrap_or(bytes.len())];
    let path = match at {
        Some(at) => PathBuf::from(OsStr::from_bytes(&bytes[at + 1..])),
        None => usual_place().with_context(|| {
            format!(
                "--extra-opts: there is no {} where monitoring-plugins look for it: name the file as in SECTION@FILE",
                NAMES.join(" nor ")
            )
        })?,
    };
    let text =
        text_of(&path).with_context(|| format!("--extra-opts: cannot read {}", path.display()))?;
    let sections: Vec<&[u8]> = if section.is_empty() {
        SECTIONS.iter().map(|name| name.as_bytes()).collect()
    } else {
        vec![section]
    };
    for section in &sections {
        let options =
            parse(&text, section).with_context(|| format!("--extra-opts: {}", path.display()))?;
        if let Some(options) = options {
            return Ok(options);
        }
    }
    bail!(
        "--extra-opts: there is no section '{}' in {}, or it is empty",
        String::from_utf8_lossy(&sections.join(&b"', nor '"[..])),
        path.display()
    )
}

fn text_of(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    if path == Path::new("-") {
        io::stdin().take(LIMIT + 1).read_to_end(&mut text)?;
    } else {
        File::open(path)?.take(LIMIT + 1).read_to_end(&mut text)?;
    }
    ensure!(text.len() as u64 <= LIMIT, "it is longer than 1 MiB");
    Ok(text)
}

/// `MP_CONFIG_FILE`, a file in a folder of `NAGIOS_CONFIG_PATH`, or one of the usual places.
fn usual_place() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = variable("MP_CONFIG_FILE") {
        return Some(path.into());
    }
    let folders = variable("NAGIOS_CONFIG_PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).filter(|folder| !folder.as_os_str().is_empty());
    folders
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .chain(PLACES.map(PathBuf::from))
        .find(|path| path.exists())
}

/// The options of a section; `None` where it is not there, or holds nothing.
fn parse(text: &[u8], section: &[u8]) -> anyhow::Result<Option<Vec<OsString>>> {
    let mut here = None;
    let mut options = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        match line {
            [] | [b'#' | b';', ..] => {}
            [b'[', name @ ..] => {
                let end = memchr::memchr(b']', name).unwrap_or(name.len());
                here = Some(name[..end].trim_ascii() == section);
            }
            _ => match here {
                None => bail!("line {} stands before any section", number + 1),
                Some(false) => {}
                Some(true) => {
                    let option = option(line);
                    let option =
                        option.with_context(|| format!("line {} is no NAME=VALUE", number + 1))?;
                    options.push(option);
                }
            },
        }
    }
    Ok((!options.is_empty()).then_some(options))
}

/// `name = value` as `--name=value`, one letter as `-nvalue`; without a value it is a switch.
fn option(line: &[u8]) -> Option<OsString> {
    let at = memchr::memchr(b'=', line)?;
    let (name, value) = (line[..at].trim_ascii(), line[at + 1..].trim_ascii());
    let word = match (name, value) {
        ([], _) => return None,
        ([_], _) => [b"-", name, value].concat(),
        (_, []) => [b"--", name].concat(),
        _ => [b"--", name, b"=", value].concat(),
    };
    Some(OsString::from_vec(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_gives_its_options() {
        let text = b"# a comment\n; another\n[other]\nhostname=no\n[ site ]\n  hostname = www.test \nssl=\np=18099\n\
                     url=/a=b # c\n\n[other]\nx=y\n[site]\nsni=\n";
        let options = parse(text, b"site").unwrap().unwrap();
        let words = [
            "--hostname=www.test",
            "--ssl",
            "-p18099",
            "--url=/a=b # c",
            "--sni",
        ];
        assert_eq!(options, words.map(OsString::from));
        assert_eq!(parse(text, b"sit").unwrap(), None);
        assert_eq!(parse(b"[site]\n", b"site").unwrap(), None);
        for text in [
            &b"x=y\n[site]\n"[..],
            b"[site]\nhostname\n",
            b"[site]\n=x\n",
        ] {
            assert!(parse(text, b"site").is_err());
        }
        assert!(parse(b"\xff[\xff]\n[site\n\xff=\0", b"site").is_err());
    }

    #[test]
    fn what_has_no_such_option_stays_as_it_is() {
        let words = ["check", "-s", "--extra", "x"].map(OsString::from).to_vec();
        assert_eq!(expand(words.clone()).unwrap(), words);
    }
}
