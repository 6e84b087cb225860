//! check_port_exhaustion against the kernel itself, in network namespaces.

mod forecast;
mod inputs;
mod mixtures;
mod namespaces;
mod udp;

use serde_json::Value;

use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, binary_folder, outcome};

/// Runs the plugin in a namespace.
fn check(ns: &Netns, args: &[&str]) -> Outcome {
    let binary = binary_folder().join("check_port_exhaustion");
    outcome(ns.command(binary).args(args))
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
