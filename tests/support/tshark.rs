//! The real tshark, as a second opinion on captures.

use std::path::Path;
use std::process::Command;

/// What it says of the packets of a file that a filter takes, one line for each packet; with fields, these divided by
/// tabs.
pub fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    // Ports of tests mean nothing to it: let it find out what it sees, and take keys from the file alone.
    command
        .args(["-n", "-o", "tls.keylog_file:", "-Y", filter, "-r"])
        .arg(file)
        .env("HOME", "/nonexistent");
    if !fields.is_empty() {
        command.args(["-T", "fields"]);
        command.args(fields.iter().flat_map(|field| ["-e", *field]));
    }
    lines(&mut command)
}

/// All that it can say of all packets.
pub fn everything(file: &Path) -> String {
    let mut command = Command::new("tshark");
    command.args(["-n", "-V", "-x", "-r"]).arg(file);
    lines(&mut command).join("\n")
}

fn lines(command: &mut Command) -> Vec<String> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error} (scripts/needs test)"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}
