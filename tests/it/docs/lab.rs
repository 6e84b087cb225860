//! The laboratory that the pages' commands run in: the incident, with a way past the proxy.

use std::path::Path;
use std::time::Duration;

use super::blocks::{Block, blocks};
use crate::support::incident::{Incident, Kind, Load};
use crate::support::plugin::binary_folder;

/// What stands for something left out.
const CUT: &str = "[…]";
/// The widest line that is written.
const WIDTH: usize = 100;
/// How long the crowd leaves some ports, and how long it takes all.
const SPARE: Duration = Duration::from_millis(600);
const FULL: Duration = Duration::from_millis(500);

/// The page with what came out in its blocks.
pub fn written(page: &str) -> String {
    let mut text = page.to_owned();
    for (block, shown) in run(page).into_iter().rev() {
        text.replace_range(block.place, &shown);
    }
    text
}

/// Where the page shows something else than what came out.
pub fn differences(page: &str) -> Vec<String> {
    let differs = |(block, shown): &(Block, String)| !agree(&block.text, shown);
    run(page)
        .into_iter()
        .filter(differs)
        .map(|(block, shown)| format!("shown:\n{}came out:\n{shown}", block.text))
        .collect()
}

/// Runs the blocks of a page one after the other.
fn run(page: &str) -> Vec<(Block, String)> {
    let incident = Incident::start(Kind::Bind);
    let (client, backend) = (&incident.client, &incident.backend);
    client.link("203.0.113.1/30", backend, "203.0.113.2/30");
    client.ip("route add 198.51.100.2/32 via 203.0.113.2");
    let mut load: Option<Load<'_>> = None;
    let mut done = Vec::new();
    let mut before = 0;
    for block in blocks(page) {
        for line in page[before..block.place.start].lines() {
            if let Some(scene) = line.strip_prefix("<!-- lab: ") {
                drop(load.take());
                match scene.trim_end_matches(" -->") {
                    "squeeze" => incident.squeeze(),
                    "oscillate" => {
                        incident.squeeze();
                        incident.relax();
                        load = Some(incident.oscillate(SPARE, FULL));
                    }
                    "calm" => incident.calm(),
                    other => panic!("there is no scene {other}"),
                }
            }
        }
        before = block.place.end;
        if block.is_run() {
            let shown = run_block(&incident, &block);
            done.push((block, shown));
        }
    }
    done
}

fn run_block(incident: &Incident, block: &Block) -> String {
    let netns = match block.mark.split(' ').nth(1) {
        Some("client") => &*incident.client,
        Some("proxy") => &incident.proxy,
        other => panic!("where is {other:?}?"),
    };
    let limit = block
        .mark
        .split(' ')
        .find_map(|word| word.strip_prefix("max="));
    let limit = limit.map_or(usize::MAX, |number| number.parse().expect("a number"));
    let log = incident.nginx().error_log();
    let mut text = String::new();
    // As it was written, with its continued lines.
    for command in commands(&block.text) {
        let mut shell = netns.command("sh");
        shell
            .args([
                "-c",
                &format!("{{ {}\n}} 2>&1", command.replace("\\\n", " ")),
            ])
            .current_dir(log.parent().expect("a file lies in a folder"))
            .env("PATH", path())
            .env(
                "NAGIOS_PLUGIN_STATE_DIRECTORY",
                incident.folder().join("state"),
            );
        let output = shell.output().expect("a shell");
        let output = String::from_utf8_lossy(&output.stdout);
        text.push_str("$ ");
        text.push_str(&command);
        text.push('\n');
        text.push_str(&shortened(&output, limit));
    }
    text
}

fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!(
        "{}:{path}:/usr/sbin:/sbin",
        Path::new(&binary_folder()).display()
    )
}

/// The commands of a block as they were written, without their `$`.
fn commands(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        if let (true, Some(command)) = (goes_on, commands.last_mut()) {
            command.push('\n');
            command.push_str(line);
        } else if let Some(command) = line.strip_prefix("$ ") {
            commands.push(command.to_owned());
        } else {
            continue;
        }
        goes_on = line.ends_with('\\');
    }
    commands
}

/// What was printed, for a page: lines broken between words, of the performance data its beginning.
fn shortened(output: &str, limit: usize) -> String {
    let mut lines = Vec::new();
    for line in output.lines() {
        let (line, perfdata) = match line.split_once('|') {
            Some((line, perfdata)) if perfdata.starts_with('\'') => (line, Some(perfdata)),
            _ => (line, None),
        };
        lines.extend(wrapped(line));
        if let Some(perfdata) = perfdata {
            let first: Vec<_> = perfdata.split(' ').take(4).collect();
            lines.push(format!("  |{} {CUT}", first.join(" ")));
        }
    }
    if lines.len() > limit {
        lines.truncate(limit);
        lines.push(CUT.to_owned());
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn wrapped(line: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut width = 0;
    for word in line.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if width + length > WIDTH && width > 2 {
            lines.push("  ".to_owned());
            width = 2;
        }
        lines.last_mut().expect("there is one").push_str(word);
        width += word.chars().count();
    }
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// Whether two texts are the same but for numbers and spaces, where the first may leave things out.
fn agree(shown: &str, came: &str) -> bool {
    let came = plain(came).replace(CUT, "");
    let came: Vec<_> = came.split_whitespace().collect();
    let shown = plain(shown);
    let pieces: Vec<Vec<_>> = shown
        .split(CUT)
        .map(|piece| piece.split_whitespace().collect())
        .collect();
    let mut at = 0;
    for (number, piece) in pieces.iter().enumerate() {
        let found = if number == 0 {
            came.starts_with(piece).then_some(0)
        } else if number + 1 == pieces.len() {
            came[at..]
                .ends_with(piece)
                .then(|| came.len() - piece.len())
        } else {
            (at..=came.len().saturating_sub(piece.len()))
                .find(|&start| came[start..].starts_with(piece))
        };
        match found {
            Some(start) => at = start + piece.len(),
            None => return false,
        }
    }
    pieces.len() > 1 || at == came.len()
}

/// Numbers, times, ids and bars all look the same, and so do the days of a week and the months.
fn plain(text: &str) -> String {
    let days = r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b";
    let months = r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b";
    let text = regex::Regex::new(&format!("{days}|{months}"))
        .expect("it is one")
        .replace_all(text, "#");
    let text = regex::Regex::new(r"[0-9a-f]{16,}|[0-9]+(\.[0-9]+)?")
        .expect("it is one")
        .replace_all(&text, "#")
        .into_owned();
    regex::Regex::new("[▁▂▃▄▅▆▇█]+")
        .expect("it is one")
        .replace_all(&text, "▁")
        .into_owned()
}

#[test]
fn texts_agree_but_for_numbers_and_what_is_left_out() {
    for (shown, came, agrees) in [
        ("1 of 2 at 08:15\n", "30 of 40 at 09:16\n", true),
        ("a […] d\n", "a b c d\n", true),
        ("a\n[…]\n", "a b c\n", true),
        ("a\n", "a b\n", false),
        ("a […] x […] d", "a b c d", false),
        ("id 75714e33e501e1d2\n", "id abcdefabcdefabcdef\n", true),
        ("Mon, 23 Nov 2026\n", "Sun, 06 Dec 2026\n", true),
        ("OK\n", "CRITICAL\n", false),
    ] {
        assert_eq!(agree(shown, came), agrees, "{shown:?} {came:?}");
    }
}
