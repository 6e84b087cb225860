//! What the plugins are made of: their own code that is not safe Rust, and the code of others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::plugin::project;
use crate::support::skip::skip;

/// All Rust files below a folder.
fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn unsafe_code_stands_where_the_documentation_says_and_gives_its_reasons() {
    let document = fs::read_to_string(project().join("docs/threat-model.md")).expect("a page");
    let mut files = Vec::new();
    for folder in ["src", "bin"] {
        sources(&project().join(folder), &mut files);
    }
    let mut found = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        let name = file
            .strip_prefix(project())
            .expect("it is below")
            .display()
            .to_string();
        let lines: Vec<_> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let begins = |word: &str| code.contains(&format!("unsafe {word}"));
            // A declaration does nothing; its use stands in a block.
            if begins("extern") || !["{", "impl", "fn"].into_iter().any(begins) {
                continue;
            }
            let before = &lines[at.saturating_sub(5)..at];
            assert!(
                before.iter().any(|line| line.contains("// SAFETY: ")),
                "{name}:{}: no reason is given",
                at + 1
            );
            found.insert(name.clone());
        }
    }
    let named: BTreeSet<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `src/")?.split_once('`'))
        .map(|(name, _)| format!("src/{name}"))
        .collect();
    assert_eq!(found, named, "the table in docs/threat-model.md");
}

#[test]
fn the_bill_of_materials_holds_together_and_says_of_each_crate_what_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bill = |name: &str| {
        let file = folder.path().join(name);
        let output = Command::new(project().join("scripts/sbom"))
            .arg(&file)
            .output();
        let output = output.expect("bash is there");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(fs::read_to_string(&file).expect("it was written"))
        } else {
            Err(errors)
        }
    };
    let text = match bill("one") {
        Ok(text) => text,
        // It wants jq, and crates that cargo test has no need of.
        Err(why) => return skip(why.lines().last().unwrap_or("scripts/sbom failed")),
    };
    assert_eq!(
        bill("two").as_ref(),
        Ok(&text),
        "the same sources give the same bytes"
    );
    let bill: Value = serde_json::from_str(&text).expect("a JSON document");
    assert_eq!(
        (&bill["bomFormat"], &bill["specVersion"]),
        (&"CycloneDX".into(), &"1.6".into())
    );
    let serial = bill["serialNumber"].as_str().expect("a serial number");
    let groups: Vec<_> = serial
        .strip_prefix("urn:uuid:")
        .expect("a UUID")
        .split('-')
        .map(str::len)
        .collect();
    assert_eq!(groups, [8, 4, 4, 4, 12]);

    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let root = word(&bill["metadata"]["component"]["bom-ref"]);
    let mut scopes = BTreeMap::new();
    for component in list(&bill["components"]) {
        let name = word(&component["name"]);
        assert!(
            !list(&component["licenses"]).is_empty(),
            "{name} has no licence"
        );
        let reference = word(&component["bom-ref"]);
        if reference.starts_with("pkg:cargo/") {
            let hash = word(&component["hashes"][0]["content"]);
            assert!(hash.len() == 64, "{name} has no checksum");
        }
        assert!(!name.starts_with("aws-lc"), "{name} is banned");
        let known = scopes.insert(reference, word(&component["scope"]));
        assert!(known.is_none(), "{name} stands there twice");
    }
    let scope = |name: &str| {
        let start = format!("pkg:cargo/{name}@");
        scopes
            .iter()
            .find(|(reference, _)| reference.starts_with(&start))
            .map(|(_, scope)| &**scope)
    };
    for (name, expected) in [
        ("rustls", Some("required")),
        ("serde_derive", Some("excluded")),
        ("proptest", None),
    ] {
        assert_eq!(scope(name), expected, "{name}");
    }
    let mut reached = BTreeSet::from([root.clone()]);
    let edges: BTreeMap<_, _> = list(&bill["dependencies"])
        .iter()
        .map(|edge| {
            (
                word(&edge["ref"]),
                list(&edge["dependsOn"])
                    .iter()
                    .map(word)
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    let mut next = vec![root.clone()];
    while let Some(from) = next.pop() {
        for to in &edges[&from] {
            if reached.insert(to.clone()) {
                next.push(to.clone());
            }
        }
    }
    reached.remove(&root);
    assert_eq!(
        reached,
        scopes.into_keys().collect(),
        "all that is listed is needed by somebody"
    );
}
