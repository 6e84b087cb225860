//! Writes the manual pages and the completions for bash, zsh and fish, from the same definitions as `--help`:
//!
//! ```text
//! cargo run --example manuals FOLDER
//! FOLDER/man/NAME.1  FOLDER/bash/NAME  FOLDER/zsh/_NAME  FOLDER/fish/NAME.fish
//! ```

use std::path::Path;
use std::{env, fs};

use anyhow::Context;
use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use proxy_checks::plugin::{Arguments, Plugin, options};
use proxy_checks::{http, nginx, ports, timeline};

/// All programs; one more is one line more. A test holds them against the binaries of Cargo.toml.
fn programs() -> Vec<Command> {
    vec![
        of(&http::PLUGIN),
        of(&ports::PLUGIN),
        of(&nginx::PLUGIN),
        options::command::<timeline::Args>(),
    ]
}

fn of<A: Arguments>(_: &Plugin<A>) -> Command {
    options::command::<A>()
}

fn main() -> anyhow::Result<()> {
    let folder = env::args_os()
        .nth(1)
        .context("where to? give a folder: manuals FOLDER")?;
    let folder = Path::new(&folder);
    for name in ["man", "bash", "zsh", "fish"] {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let programs = programs();
    for program in &programs {
        write(folder, program, &programs)
            .with_context(|| format!("cannot write into {}", folder.display()))?;
    }
    Ok(())
}

fn write(folder: &Path, program: &Command, all: &[Command]) -> anyhow::Result<()> {
    let name = program.get_name();
    let man = folder.join("man").join(format!("{name}.1"));
    fs::write(man, page(program, all)?)?;
    // bash-completion looks for a file that is called like the command.
    let bash = generate_to(Shell::Bash, &mut program.clone(), name, folder.join("bash"))?;
    fs::rename(bash, folder.join("bash").join(name))?;
    generate_to(Shell::Zsh, &mut program.clone(), name, folder.join("zsh"))?;
    generate_to(Shell::Fish, &mut program.clone(), name, folder.join("fish"))?;
    Ok(())
}

fn page(program: &Command, all: &[Command]) -> anyhow::Result<Vec<u8>> {
    let name = program.get_name().to_owned();
    let version = program.get_version().unwrap_or_default();
    let examples = program.get_after_help().map(ToString::to_string);
    let mut shown = program.clone();
    if shown.get_overridden_usage().is_none() {
        // Otherwise it would list all options.
        shown = shown.override_usage(format!("{name} [OPTIONS]"));
    }
    // No date: two builds give the same bytes.
    let man = Man::new(shown)
        .source(format!("proxy-checks {version}"))
        .manual("proxy-checks");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let mut roff = Roff::new();
    if let Some(examples) = examples {
        section_of_examples(&mut roff, &examples);
    }
    if name.starts_with("check_") {
        roff.control("SH", ["EXIT STATUS"]);
        for (code, state) in [
            ("0", "OK"),
            ("1", "WARNING"),
            ("2", "CRITICAL"),
            (
                "3",
                "UNKNOWN: trouble of the plugin's own; also --help and --version",
            ),
        ] {
            roff.control("TP", []);
            roff.text([bold(code)]);
            roff.text([roman(state)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text(see_also(&name, all));
    roff.control("PP", []);
    roff.text([roman(
        "What it measures and what its numbers mean: /usr/share/doc/proxy-checks, or docs/ in the source.",
    )]);
    roff.to_writer(&mut text)?;
    Ok(text)
}

/// A command line of the examples keeps its line, and what is said of it is indented below.
fn section_of_examples(roff: &mut Roff, text: &str) {
    roff.control("SH", ["EXAMPLES"]);
    for line in text.trim_start_matches("Examples:").lines() {
        match (line.trim(), line.starts_with("   ")) {
            ("", _) => roff.control("PP", []),
            (text, true) => {
                roff.control("RS", ["4"]);
                roff.text([roman(text)]);
                roff.control("RE", [])
            }
            (text, false) => {
                roff.control("br", []);
                roff.text([if line.starts_with(' ') {
                    bold(text)
                } else {
                    roman(text)
                }])
            }
        };
    }
}

fn see_also(name: &str, all: &[Command]) -> Vec<Inline> {
    let others = all
        .iter()
        .map(Command::get_name)
        .filter(|&other| other != name);
    let mut words = Vec::new();
    for other in others {
        if !words.is_empty() {
            words.push(roman(", "));
        }
        words.extend([bold(other), roman("(1)")]);
    }
    words
}
