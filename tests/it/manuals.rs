//! Manual pages and completions: made from the definitions behind `--help`, and saying the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::help::{Entry, entries};
use crate::support::plugin::{example, project};
use crate::support::skip::skip;

/// The names of all binaries, from Cargo.toml.
pub fn binaries() -> Vec<String> {
    let manifest = fs::read_to_string(project().join("Cargo.toml")).expect("it is there");
    let sections = manifest.split("[[bin]]").skip(1);
    let names = sections.filter_map(|text| text.split('"').nth(1).map(str::to_owned));
    names.collect()
}

fn written() -> TempDir {
    let folder = TempDir::with_prefix("manuals-").expect("a temporary folder");
    let status = example("manuals").arg(folder.path()).status();
    assert!(status.is_ok_and(|status| status.success()));
    folder
}

/// A page's source as running text.
fn running_text(page: &str) -> String {
    let mut text = String::new();
    for line in page.lines().filter(|line| !line.starts_with('.')) {
        text.push_str(line);
        text.push(' ');
    }
    let text = text
        .replace("\\&", "")
        .replace("\\-", "-")
        .replace("\\*(Aq", "'")
        .replace("\\\\", "\\")
        .replace("\\fB", "")
        .replace("\\fI", "")
        .replace("\\fR", "");
    squeezed(&text)
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_manual_page_says_of_every_option_what_help_says() {
    let folder = written();
    for name in binaries() {
        let page = fs::read_to_string(folder.path().join("man").join(format!("{name}.1")))
            .unwrap_or_else(|error| panic!("{name} has no manual page: {error}"));
        let text = running_text(&page);
        for entry in entries(&name) {
            for option in entry.names() {
                assert!(
                    text.split([' ', ',', '=', '[']).any(|word| word == option),
                    "{name}: {option} is not in the manual"
                );
            }
            let words = squeezed(&entry.text);
            // The help wraps between words, so that this is all of it but for defaults and values.
            let start = words.split(" [").next().unwrap_or_default();
            assert!(text.contains(start), "{name} {entry:?}: {start:?}\n{text}");
        }
        let mut sections = page.lines().filter_map(|line| line.strip_prefix(".SH "));
        assert_eq!(sections.next(), Some("NAME"));
        for wanted in ["SYNOPSIS", "DESCRIPTION", "EXAMPLES", "\"SEE ALSO\""] {
            assert!(
                sections.any(|section| section == wanted),
                "{name}: no {wanted}"
            );
        }
    }
}

#[test]
fn completions_know_the_options_of_help_and_no_others() {
    let folder = written();
    for name in binaries() {
        let entries = entries(&name);
        let names = entries.iter().flat_map(Entry::names);
        let names = names.chain(entries.iter().flat_map(Entry::aliases));
        let long: BTreeSet<String> = names
            .filter(|option| option.starts_with("--"))
            .map(str::to_owned)
            .collect();
        let bash = fs::read_to_string(folder.path().join("bash").join(&name)).expect("for bash");
        let opts = bash
            .lines()
            .find_map(|line| line.trim().strip_prefix("opts=\"-"))
            .expect("it lists the options");
        let of_bash = opts
            .trim_end_matches('"')
            .split(' ')
            .filter(|word| word.starts_with("--"));
        assert_eq!(of_bash.map(str::to_owned).collect::<BTreeSet<_>>(), long);

        let fish = folder.path().join("fish").join(format!("{name}.fish"));
        let fish = fs::read_to_string(fish).expect("for fish");
        let of_fish = fish.lines().filter_map(|line| {
            let option = line.split(" -l ").nth(1)?.split(' ').next()?;
            Some(format!("--{option}"))
        });
        // To fish an option has one name; its aliases are left to those who know them.
        let names = entries.iter().flat_map(Entry::names);
        let first: BTreeSet<String> = names
            .filter(|option| option.starts_with("--"))
            .map(str::to_owned)
            .collect();
        assert_eq!(of_fish.collect::<BTreeSet<_>>(), first, "{name}");

        let zsh = folder.path().join("zsh").join(format!("_{name}"));
        let zsh = fs::read_to_string(zsh).expect("for zsh");
        for option in &long {
            assert!(
                zsh.contains(&format!("{option}[")) || zsh.contains(&format!("{option}=[")),
                "{name}: {option} is not in zsh's"
            );
        }
    }
}

#[test]
fn bash_completes_an_option_from_its_first_letters() {
    let folder = written();
    for name in binaries() {
        let file = folder.path().join("bash").join(&name);
        // As bash calls it, with the plugin's whole path as the command.
        let script = format!(
            "source {}; COMP_WORDS=(/usr/lib/nagios/plugins/{name} --forev) COMP_CWORD=1
            _{name} \"$COMP_WORDS\" --forev \"$COMP_WORDS\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"; complete -p {name}",
            file.display()
        );
        let output = Command::new("bash").args(["-c", &script]).output();
        let output = output.expect("bash");
        let text = String::from_utf8_lossy(&output.stdout);
        let entries = entries(&name);
        if entries
            .iter()
            .flat_map(Entry::names)
            .any(|option| option == "--forever")
        {
            assert_eq!(text.lines().next(), Some("--forever"), "{text}");
        }
        assert!(text.contains("complete "), "{text}");
    }
}

#[test]
fn man_zsh_and_fish_find_no_fault_in_them() {
    let folder = written();
    let mut missing = Vec::new();
    for (program, arguments, below) in [
        (
            "man",
            &["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"][..],
            "man",
        ),
        ("zsh", &["-n"], "zsh"),
        ("fish", &["-n"], "fish"),
    ] {
        for file in fs::read_dir(folder.path().join(below)).expect("it was made") {
            let file = file.expect("an entry").path();
            match run(program, arguments, &file) {
                Some(errors) => assert_eq!(errors, "", "{program} {}", file.display()),
                None => missing.push(program),
            }
        }
    }
    missing.dedup();
    if !missing.is_empty() {
        skip(&format!("not installed here: {}", missing.join(", ")));
    }
}

/// What a program says of a file on standard error; nothing where there is no such program.
fn run(program: &str, arguments: &[&str], file: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8").env("MANROFFSEQ", "");
    let output = command.args(arguments).arg(file).output().ok()?;
    assert!(output.status.success(), "{program} {}", file.display());
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}
