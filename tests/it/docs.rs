//! The pages of the documentation: what they show is run, what they name is there.
//!
//! A block that is marked `console` is run, on the incident in the laboratory, and what it shows is what comes out, but for
//! numbers and times; `[…]` stands for what is left out. Words behind the mark say where (`client`, `proxy`) and how many
//! lines to show (`max=9`); a comment such as `<!-- lab: squeeze -->` changes the scene. `make docs` writes what comes out
//! into the pages.
//!
//! A block that is marked `sh` shows commands alone. They are run in the same laboratory where `client` or `proxy` stands
//! behind the mark; else the path of the test stands there that takes them from the page ([`shown`]) and runs them in a
//! scene of its own. There are no other blocks with commands, but for those of the README that the demo prints.

mod blocks;
mod lab;
mod labels;
mod options;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use proxy_checks::plugin::{Arguments, options as plugin_options};
use proxy_checks::{http, nginx, ports, timeline};

use self::blocks::{Block, blocks};
use crate::support::incident::Incident;
use crate::support::plugin::project;
use crate::support::skip::skip;

/// Set, the pages are written instead of held against what comes out.
const WRITE: &str = "PROXY_CHECKS_WRITE_DOCS";

/// The pages that people read.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(project().join("docs")).expect("there are pages");
    let docs = docs.map(|entry| entry.expect("an entry").path());
    let mut pages: Vec<_> = docs
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    pages.push(project().join("README.md"));
    pages.push(project().join("CONTRIBUTING.md"));
    pages.sort();
    pages
}

/// The command of a page's `sh` block that begins so, for a shell, with each of these texts replaced by what stands for
/// it in the scene of a test.
pub fn shown(page: &str, beginning: &str, here: &[(&str, &str)]) -> String {
    let text = fs::read_to_string(project().join("docs").join(page)).expect("it is there");
    let blocks = blocks(&text);
    let all = blocks.iter().filter(|block| block.runner().is_some());
    let found = all
        .flat_map(Block::command_lines)
        .find(|line| line.starts_with(beginning));
    let mut line = found.unwrap_or_else(|| panic!("{page} does not show {beginning}"));
    for (there, here) in here {
        assert!(line.contains(there), "there is no {there} in {line}");
        line = line.replace(there, here);
    }
    line
}

fn name(page: &std::path::Path) -> String {
    let name = page.file_name().expect("a page has a name");
    name.to_string_lossy().into_owned()
}

#[test]
fn what_a_console_block_shows_is_what_comes_out() {
    if let Err(why) = Incident::possible() {
        return skip(&why);
    }
    for page in pages() {
        let text = fs::read_to_string(&page).expect("it is there");
        if !blocks(&text).iter().any(lab::runs) {
            continue;
        }
        if std::env::var_os(WRITE).is_some() {
            fs::write(&page, lab::written(&text)).expect("it is ours");
            continue;
        }
        // Which moment of the load a command meets is left to chance: a line that is there mostly may be missing once.
        let mut differences = Vec::new();
        let agrees = (0..3).any(|_| {
            differences = lab::differences(&text);
            differences.is_empty()
        });
        assert!(agrees, "{}: {}", page.display(), differences.join("\n\n"));
    }
}

#[test]
fn a_plugin_takes_every_command_line_that_the_pages_show() {
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("it is there");
        for line in blocks(&text).iter().flat_map(Block::command_lines) {
            let Some(words) = blocks::plugin_words(&line) else {
                continue;
            };
            let answer = match words[0].as_str() {
                "check_http_retry" => taken::<http::Args>(&words),
                "check_port_exhaustion" => taken::<ports::Args>(&words),
                "check_nginx_upstream_bind" => taken::<nginx::Args>(&words),
                "incident_timeline" => plugin_options::command::<timeline::Args>()
                    .try_get_matches_from(&words)
                    .map(|_| ())
                    .map_err(|error| error.to_string()),
                _ => continue,
            };
            assert_eq!(answer, Ok(()), "{}: {line}", name(&page));
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn there_is_a_test_that_runs_each_command_of_the_pages() {
    let program = std::env::current_exe().expect("this program");
    let list = Command::new(program).arg("--list").output().expect("it");
    let tests = String::from_utf8(list.stdout).expect("text");
    for page in pages() {
        let text = fs::read_to_string(&page).expect("it is there");
        for block in blocks(&text) {
            // The demo prints what these show.
            let told = block.mark == "text" && name(&page) == "README.md";
            if lab::runs(&block) || told {
                continue;
            }
            let place = format!("{}: {}", name(&page), block.text);
            if let Some(test) = block.runner() {
                let is_test = |line: &str| line.strip_suffix(": test") == Some(test);
                assert!(tests.lines().any(is_test), "nobody runs {place}");
                continue;
            }
            assert!(!block.mark.starts_with("sh"), "nobody runs {place}");
            let ours = crate::manuals::binaries();
            let commands = block.command_lines();
            let mut plugins = commands
                .iter()
                .filter_map(|line| blocks::plugin_words(line));
            let plugin = plugins.find(|words| ours.contains(&words[0]));
            assert_eq!(plugin, None, "nobody runs {place}");
        }
    }
}

/// As `plugin::run` reads it: getopt's spellings are rewritten first.
fn taken<A: Arguments>(words: &[String]) -> Result<(), String> {
    let words = words.iter().map(Into::into);
    plugin_options::parse::<A>("X", words).map(|_| ())
}

#[test]
fn the_page_of_a_plugin_has_all_options_of_its_help() {
    for binary in crate::manuals::binaries() {
        let page = project().join("docs").join(format!("{binary}.md"));
        let text = fs::read_to_string(&page).unwrap_or_else(|_| panic!("{binary} has no page"));
        let wanted = options::with_table(&text, &binary);
        if std::env::var_os(WRITE).is_some() {
            fs::write(&page, wanted).expect("it is ours");
        } else {
            let page = page.display();
            assert!(
                text == wanted,
                "the table of options in {page} is not that of --help: make docs"
            );
        }
    }
}

#[test]
fn a_link_within_the_pages_leads_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).expect("it is there");
        let here = page.parent().expect("a page lies in a folder");
        for target in blocks::links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let other = if file.is_empty() {
                page.clone()
            } else {
                here.join(file)
            };
            assert!(other.exists(), "{}: {target}", page.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&other).expect("a page");
                let found = blocks::anchors(&text).any(|name| name == anchor);
                assert!(found, "{}: {target}", page.display());
            }
        }
    }
}

#[test]
fn the_book_has_every_page() {
    let summary = fs::read_to_string(project().join("docs/SUMMARY.md")).expect("it is there");
    let listed: BTreeSet<_> = blocks::links(&summary).into_iter().collect();
    for page in pages() {
        let name = name(&page);
        if page.parent().is_some_and(|folder| folder.ends_with("docs")) && name != "SUMMARY.md" {
            assert!(listed.contains(&name), "{name} is not in docs/SUMMARY.md");
        }
    }
    let book = fs::read_to_string(project().join("book.toml")).expect("it is there");
    assert!(book.contains("src = \"docs\""), "{book}");
}
