//! A command that another program starts: one that limits, measures or disturbs it.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// The command `program arguments… command…`, with the environment and folder of the command.
pub fn wrapped<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
    command: &Command,
) -> Command {
    let mut whole = Command::new(program);
    whole.args(arguments);
    whole.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(key, value),
            None => whole.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        whole.current_dir(folder);
    }
    whole.stdin(Stdio::null());
    whole
}
