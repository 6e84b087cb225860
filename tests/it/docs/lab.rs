//! The laboratory that the pages' commands run in: the incident, with a way past the proxy, and a site with two
//! addresses, the first of which fails now and then.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::blocks::{Block, blocks};
use crate::support::fault_server::{Act, FaultServer, page};
use crate::support::identity::{DAY, Identity};
use crate::support::incident::{Incident, Kind, Load};
use crate::support::names::{Answer, Names};
use crate::support::netns::Netns;
use crate::support::plugin::search_path;

/// What stands for something left out.
const CUT: &str = "[…]";
/// The widest line that is written.
const WIDTH: usize = 100;
/// How long the crowd leaves some ports, and how long it takes all.
const SPARE: Duration = Duration::from_millis(600);
const FULL: Duration = Duration::from_millis(500);

/// Puts the incident's logs, and folders to write to, where the pages have them. `ip netns exec` runs this with mounts of
/// its own.
const FOLDERS: &str =
    "mount --bind var/log /var/log; mount --bind var/lib /var/lib; mount --bind . /var/log/nginx;";
/// The same site at both addresses.
const SITE: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 2), Ipv4Addr::new(203, 0, 113, 6)];
/// Every so many times the first one fails.
const FAILS: usize = 8;
/// How long a command may take that does not end by itself.
const PATIENCE: &str = "5s";

/// Whether what is in a block is run here.
pub fn runs(block: &Block) -> bool {
    block.is_run() || matches!(block.runner(), Some("client" | "proxy"))
}

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
    client.link("203.0.113.5/30", backend, "203.0.113.6/30");
    client.ip("route add 198.51.100.2/32 via 203.0.113.2");
    for name in ["var/log/nginx", "var/lib/nagios"] {
        fs::create_dir_all(logs(&incident).join(name)).expect("a folder");
    }
    let _names = names(client);
    let site = site(backend);
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
        } else if runs(&block) {
            try_block(&incident, &block);
        }
    }
    // A server is woken at its address to end.
    backend.within(|| drop(site));
    done
}

fn names(client: &Netns) -> Names {
    let addresses =
        |all: &[Ipv4Addr]| Answer::Addresses(all.iter().copied().map(IpAddr::V4).collect());
    let proxy = Ipv4Addr::new(192, 0, 2, 2);
    Names::of(
        client,
        &[
            ("www.example.org", addresses(&SITE)),
            ("service1.example", addresses(&[proxy])),
        ],
    )
}

/// A server for http and one for https at each address of the site.
fn site(backend: &Netns) -> Vec<FaultServer> {
    let authority = Identity::authority();
    let identity = Identity::signed("www.example.org", SystemTime::now() + 90 * DAY, &authority);
    let ports = SITE
        .iter()
        .flat_map(|address| [(*address, 80), (*address, 443)]);
    let start = |place: (Ipv4Addr, u16)| {
        let listener = backend.within(|| TcpListener::bind(place).expect("a free port"));
        let tls = (place.1 == 443).then(|| identity.server(&[], None));
        let fails = place.0 == SITE[0];
        FaultServer::on(listener, tls, move |seen| {
            let fails = fails && seen.number % FAILS == FAILS - 1;
            let status = if fails {
                "500 Internal Server Error"
            } else {
                "200 OK"
            };
            Act::Send(page(status, "well\n"))
        })
    };
    ports.map(start).collect()
}

/// Runs the commands of a block that shows no output: each of them does what it is there for.
fn try_block(incident: &Incident, block: &Block) {
    for command in block.command_lines() {
        let mut shell = shell(incident, block, "timeout");
        shell.args(["--signal=INT", "--kill-after=20s", PATIENCE, "sh", "-c"]);
        let output = shell.arg(format!("{FOLDERS} {command}")).output();
        let output = output.expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let place = format!("{command}\n{text}{errors}");
        assert!(errors.is_empty(), "{place}");
        assert!(!text.contains(" UNKNOWN: "), "{place}");
        assert!(
            !matches!(output.status.code(), Some(3 | 126 | 127)),
            "{place}"
        );
    }
}

/// Where the proxy's nginx has its logs.
fn logs(incident: &Incident) -> PathBuf {
    let log = incident.nginx().error_log();
    log.parent().expect("a file lies in a folder").to_owned()
}

/// A program in the folder of the proxy's logs, where the block's mark says.
fn shell(incident: &Incident, block: &Block, program: &str) -> Command {
    let netns = match block.mark.split(' ').nth(1) {
        Some("client") => &*incident.client,
        Some("proxy") => &incident.proxy,
        other => panic!("where is {other:?}?"),
    };
    let mut shell = netns.command(program);
    shell
        .current_dir(logs(incident))
        .env("PATH", search_path())
        .env(
            "NAGIOS_PLUGIN_STATE_DIRECTORY",
            incident.folder().join("state"),
        );
    shell
}

fn run_block(incident: &Incident, block: &Block) -> String {
    let limit = block
        .mark
        .split(' ')
        .find_map(|word| word.strip_prefix("max="));
    let limit = limit.map_or(usize::MAX, |number| number.parse().expect("a number"));
    let mut text = String::new();
    // As it was written, with its continued lines.
    for command in commands(&block.text) {
        let mut shell = shell(incident, block, "sh");
        let line = command.replace("\\\n", " ");
        shell.args(["-c", &format!("{FOLDERS} {{ {line}\n}} 2>&1")]);
        let output = shell.output().expect("a shell");
        let output = String::from_utf8_lossy(&output.stdout);
        text.push_str("$ ");
        text.push_str(&command);
        text.push('\n');
        text.push_str(&shortened(&output, limit));
    }
    text
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
