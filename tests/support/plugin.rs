//! Runs a plugin the way Icinga does: no input, one pipe for both outputs kept apart only to see that one is empty.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;

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
            build(cargo().arg("--examples"));
        }
    });
    plugin(&format!("examples/{name}"))
}

/// The folder of the three plugins linked statically, as an image without a C library needs them. The first call of a
/// new checkout builds them, with all their dependencies, once more.
pub fn static_folder() -> PathBuf {
    static BUILT: Once = Once::new();
    let target = binary_folder();
    let profile = target
        .file_name()
        .expect("target/PROFILE has a name")
        .to_owned();
    // `target/PROFILE`, or `target/TRIPLE/PROFILE` where cargo was given one.
    let root = target
        .ancestors()
        .skip(1)
        .find(|folder| folder.join("CACHEDIR.TAG").exists());
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = root
        .expect("cargo marks its folder")
        .join(&triple)
        .join(profile);
    BUILT.call_once(|| {
        // With a target, the flags are for it alone, and not for what runs while building.
        build(
            cargo()
                .args(["--bins", "--target", &triple])
                .env("RUSTFLAGS", "-C target-feature=+crt-static"),
        );
    });
    folder
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
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_"];
        if told
            .iter()
            .any(|start| key.to_string_lossy().starts_with(start))
        {
            cargo.env_remove(key);
        }
    }
    cargo
}

fn build(cargo: &mut Command) {
    assert!(
        cargo.status().is_ok_and(|status| status.success()),
        "{cargo:?}"
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
