//! Runs a plugin the way Icinga does: no input, one pipe for both outputs kept apart only to see that one is empty.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Once, OnceLock};

/// The folder that holds the three binaries and, below `examples`, the example checks.
pub fn binary_folder() -> PathBuf {
    // A test runs from target/PROFILE/deps, an example from target/PROFILE/examples.
    let this = std::env::current_exe().expect("this program has a path");
    this.ancestors()
        .nth(2)
        .expect("a program of cargo's lies two folders deep")
        .to_owned()
}

/// A command that runs this plugin.
pub fn plugin(name: &str) -> Command {
    let mut command = Command::new(binary_folder().join(name));
    command
        .stdin(Stdio::null())
        .env_remove("NAGIOS_PLUGIN_STATE_DIRECTORY");
    command
}

/// A command that runs this example check. `cargo test --test it` alone does not build examples, so this does, but for a
/// place without cargo: `scripts/test-in` has built them.
pub fn example(name: &str) -> Command {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        if Path::new(env!("CARGO")).exists() {
            run(cargo().arg("--examples"));
        }
    });
    plugin(&format!("examples/{name}"))
}

/// Copies a program, to be run from there. Another program does it: while this one held the copy open for writing, what
/// another test starts meanwhile would hold it too, and it could not be run ("Text file busy").
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    run(Command::new("cp").arg(from.as_ref()).arg(to.as_ref()));
}

/// A search path with the plugins in front, and what Debian keeps out of everybody's behind.
pub fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!(
        "{}:{path}:/usr/sbin:/sbin:/usr/lib/nagios/plugins",
        binary_folder().display()
    )
}

/// The folder of the binaries linked statically, as an image without a C library needs them. What they are made of is
/// there already: only the last step is done anew.
pub fn static_folder() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let library = library();
        let profile = binary_folder();
        let folder = profile.join("static");
        // Made beside it and renamed: tests of another run may be starting what is there.
        let new = tempfile::tempdir_in(&profile).expect("cargo's folder is ours");
        fs::create_dir_all(&folder).expect("a folder");
        for source in fs::read_dir(project().join("bin")).expect("they are there") {
            let source = source.expect("an entry").path();
            let name = source.file_stem().expect("a name");
            let mut link = rustc();
            link.args([
                "--edition=2024",
                "-Ctarget-feature=+crt-static",
                "--crate-name",
            ])
            .arg(name)
            .arg(format!("--extern=proxy_checks={}", library.display()))
            .arg(format!("-Ldependency={}", profile.join("deps").display()))
            .arg("-o")
            .arg(new.path().join(name))
            .arg(&source);
            if profile.ends_with("release") {
                // What cargo leaves there is for the optimiser alone.
                link.args([
                    "-Clto=fat",
                    "-Copt-level=3",
                    "-Ccodegen-units=1",
                    "-Cpanic=abort",
                ]);
            }
            run(&mut link);
            fs::rename(new.path().join(name), folder.join(name)).expect("one file system");
        }
        folder
    })
    .clone()
}

/// The compiler as cargo starts it.
fn rustc() -> Command {
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    // Such as makes programs count what is run through (scripts/coverage).
    match std::env::var_os("RUSTC_WORKSPACE_WRAPPER") {
        Some(wrapper) => {
            let mut command = Command::new(wrapper);
            command.arg(rustc);
            command
        }
        None => Command::new(rustc),
    }
}

/// The file of the library that this program was built with.
fn library() -> PathBuf {
    let output = cargo()
        .args(["--examples", "--message-format", "json"])
        .output()
        .expect("cargo starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let message = messages.find(|message| {
        message["target"]["name"] == "proxy_checks" && message["target"]["kind"][0] == "lib"
    });
    let message = message.unwrap_or_else(|| panic!("no library: {output:?}"));
    let files = message["filenames"].as_array().into_iter().flatten();
    let mut files = files.filter_map(|file| file.as_str()).map(PathBuf::from);
    let file = files.find(|file| file.extension().is_some_and(|end| end == "rlib"));
    file.expect("a library is one")
}

/// `cargo build` for the profile of this program.
fn cargo() -> Command {
    let release = binary_folder().ends_with("release").then_some("--release");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(project())
        .args(["build", "--quiet", "--offline"])
        .args(release);
    // What cargo tells a test of its package would make some build scripts run again, and all behind them.
    for (key, _) in std::env::vars_os() {
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "OUT_DIR"];
        if told
            .iter()
            .any(|start| key.to_string_lossy().starts_with(start))
        {
            cargo.env_remove(key);
        }
    }
    cargo
}

fn run(command: &mut Command) {
    assert!(
        command.status().is_ok_and(|status| status.success()),
        "{command:?}"
    );
}

/// What a plugin printed and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Everything it printed.
    pub text: String,
}

impl Outcome {
    /// The first line.
    pub fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The first line up to the performance data.
    pub fn headline(&self) -> &str {
        self.first_line().split('|').next().unwrap_or_default()
    }

    /// The value of a metric of the performance data.
    pub fn metric(&self, label: &str) -> Option<f64> {
        let (_, perfdata) = self.first_line().split_once('|')?;
        let quoted = format!("'{label}'=");
        let item = perfdata
            .split(' ')
            .find_map(|item| item.strip_prefix(&quoted))?;
        let value = item
            .split(';')
            .next()?
            .trim_end_matches(|c: char| !c.is_ascii_digit());
        value.parse().ok()
    }

    /// The text as one JSON document.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {}", self.text))
    }
}

/// Runs it to its end. That it says nothing on standard error and does not die of a signal holds for every plugin
/// in every test.
pub fn outcome(command: &mut Command) -> Outcome {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    check_output(&output, command)
}

/// The same for an output that was collected in another way.
pub fn check_output(output: &Output, command: &Command) -> Outcome {
    let text = String::from_utf8(output.stdout.clone()).expect("a plugin prints UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.is_empty(),
        "{command:?} wrote to standard error: {errors}"
    );
    assert!(
        output.status.code().is_some(),
        "{command:?} died: {}",
        output.status
    );
    Outcome {
        code: output.status.code(),
        text,
    }
}

/// The project's folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
