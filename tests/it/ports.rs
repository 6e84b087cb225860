//! check_port_exhaustion against the kernel itself, in network namespaces.

mod dice;
mod forecast;
mod inputs;
mod journal;
mod mixtures;
mod namespaces;
mod neighbours;
mod surroundings;
mod udp;
mod words;

use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::Value;

use crate::support::netns::Netns;
use crate::support::oracle::Scene;
use crate::support::plugin::{Outcome, binary_folder, outcome};
use crate::support::seccomp;

/// Runs the plugin in a namespace.
fn check(ns: &Netns, args: &[&str]) -> Outcome {
    let binary = binary_folder().join("check_port_exhaustion");
    outcome(ns.command(binary).args(args))
}

/// Runs the plugin with every netlink socket refused by seccomp.
fn check_without_netlink(scene: &Scene, args: &[&str]) -> Outcome {
    // ip needs netlink itself.
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", scene.ns.path()))
        .arg(binary_folder().join("check_port_exhaustion"))
        .args(args);
    // SAFETY: between fork and exec the function makes two system calls and nothing else.
    unsafe { command.pre_exec(seccomp::refuse_netlink) };
    outcome(&mut command)
}

/// The namespace of the JSON document.
fn namespace(outcome: &Outcome) -> Value {
    outcome.json()["details"]["namespaces"][0].clone()
}

/// The entry of a list whose fields have these values.
fn entry(list: &Value, fields: &[(&str, Value)]) -> Value {
    let entries = list.as_array().expect("a list");
    entries
        .iter()
        .find(|entry| fields.iter().all(|(key, value)| entry[key] == *value))
        .unwrap_or_else(|| panic!("no {fields:?} in {list}"))
        .clone()
}
