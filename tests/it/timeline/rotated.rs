//! A window in logs that were rotated, by gzip and by the real zstd compressed.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{document, example, of_example, row, timeline};
use crate::support::plugin::outcome;
use crate::support::skip::skip;

/// The example from 05:05 to 05:30.
fn window(folder: &Path) -> Value {
    let window = [
        "--since",
        "2026-11-23 05:05",
        "--before",
        "2026-11-23 05:30",
    ];
    document(of_example(folder).args(window))
}

/// That the same was found in a log that was rotated.
fn assert_same(rotated: &Value, whole: &Value) {
    for field in [
        "lanes",
        "causes",
        "coincidences",
        "services",
        "first",
        "window",
    ] {
        assert_eq!(rotated[field], whole[field], "{field}");
    }
}

/// Takes the first half of a log away, and returns it.
fn first_half(log: &Path) -> String {
    let mut text = fs::read_to_string(log).unwrap();
    let middle = text[..text.len() / 2].rfind('\n').unwrap() + 1;
    let rest = text.split_off(middle);
    fs::write(log, rest).unwrap();
    text
}

#[test]
fn the_window_is_found_in_rotated_and_compressed_logs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    example(folder.path());
    let whole = window(folder.path());
    assert_eq!(
        (
            &whole["window"]["bins"],
            &row(&whole, "status", "500")["total"]
        ),
        (&25.into(), &9.0.into())
    );
    assert_eq!(row(&whole, "requests", "requests")["total"], 150.0);
    // The first half goes into an earlier file, compressed.
    for name in ["access.log", "error.log"] {
        let text = first_half(&at(name));
        let file = fs::File::create(at(&format!("{name}.1.gz"))).unwrap();
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
        packed.finish().unwrap();
    }
    assert_same(&window(folder.path()), &whole);
}

/// Packs a text by gzip.
fn gzip(path: &Path, text: &str) {
    let file = fs::File::create(path).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
    packed.finish().unwrap();
}

#[test]
fn without_a_window_a_pattern_stands_for_all_files_that_it_catches() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let binds = |minute: u32, number: usize| {
        format!(
            "2026/11/23 05:{minute:02}:00 [crit] 9#9: *7 bind(0.0.0.0) failed (98: Address in use) while connecting to \
             upstream, client: 192.0.2.7, server: a, request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.1:80/\", \
             host: \"a\"\n"
        )
        .repeat(number)
    };
    fs::write(at("error.log"), binds(30, 10)).unwrap();
    fs::write(at("error.log.1"), binds(20, 30)).unwrap();
    gzip(&at("error.log.2.gz"), &binds(10, 7));
    fs::write(at("error.log.3.xz"), "not read").unwrap();
    // While it is being packed both are there.
    gzip(&at("error.log.1.gz"), &binds(20, 3));
    let window = [
        "--since",
        "2026-11-23 05:00",
        "--before",
        "2026-11-23 06:00",
    ];
    let found = |patterns: &[&str], options: &[&str]| {
        let mut command = timeline();
        for pattern in patterns {
            command.arg("-e").arg(at(pattern));
        }
        let document = document(command.args(options));
        row(&document, "error", "bind-in-use")["total"].clone()
    };
    for (patterns, total, of_the_window) in [
        (&["error.log*"][..], 47.0, 47.0),
        (&["*.2.gz"], 7.0, 7.0),
        (&["error.log.*"], 37.0, 37.0),
        (&["error.lo?"], 10.0, 47.0),
        (&["error.log", "error.log.1"], 40.0, 47.0),
    ] {
        assert_eq!(found(patterns, &[]), total, "{patterns:?}");
        assert_eq!(found(patterns, &window), of_the_window, "{patterns:?}");
    }
}

/// What the real zstd makes of a text with these options.
fn zstd(text: &str, folder: &Path, options: &[&str]) -> Vec<u8> {
    let plain = folder.join("plain");
    fs::write(&plain, text).unwrap();
    let output = Command::new("zstd")
        .args(["-q", "-c"])
        .args(options)
        .arg(&plain)
        .output()
        .expect("zstd");
    assert!(output.status.success(), "{output:?}");
    fs::remove_file(plain).unwrap();
    output.stdout
}

/// Frames as `zstd` writes them by itself, as small, as fast, and as far back as it can; and several in one file.
#[test]
fn logs_that_the_real_zstd_compressed_are_read_as_the_plain_ones() {
    if Command::new("zstd").arg("--version").output().is_err() {
        return skip("there is no zstd");
    }
    let whole = tempfile::tempdir().unwrap();
    example(whole.path());
    let (all, expected) = (
        document(&mut of_example(whole.path())),
        window(whole.path()),
    );
    for options in [
        &[][..],
        &["-19"],
        &["--fast=5", "--no-check"],
        &["--ultra", "-22", "--long=27"],
        &["-B4KB", "-T2", "-1"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        example(folder.path());
        for name in ["access.log", "error.log"] {
            let text = first_half(&at(name));
            let (one, other) = text.split_at(text.len() / 3);
            let frames = [one, other].map(|part| zstd(part, folder.path(), options));
            fs::write(at(&format!("{name}.1.zst")), frames.concat()).unwrap();
        }
        assert_same(&window(folder.path()), &expected);
        // The same without a window, by name.
        for name in ["access.log", "error.log", "icinga.log", "ports.jsonl"] {
            let mut text = fs::read_to_string(at(name)).unwrap();
            if at(&format!("{name}.1.zst")).exists() {
                text = fs::read_to_string(whole.path().join(name)).unwrap();
            }
            fs::write(
                at(&format!("{name}.zst")),
                zstd(&text, folder.path(), options),
            )
            .unwrap();
        }
        let mut command = timeline();
        command.current_dir(folder.path());
        for (option, name) in [
            ("-e", "error.log"),
            ("-a", "access.log"),
            ("-i", "icinga.log"),
            ("-j", "ports.jsonl"),
        ] {
            command.args([option, &format!("{name}.zst")]);
        }
        let named = document(command.args(["--log-format", super::FORM]));
        assert_eq!(named["lanes"], all["lanes"]);
    }
}

#[test]
fn a_zstd_file_that_was_cut_off_is_named() {
    if Command::new("zstd").arg("--version").output().is_err() {
        return skip("there is no zstd");
    }
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let text = fs::read_to_string(folder.path().join("access.log")).unwrap();
    let mut packed = zstd(&text, folder.path(), &["-B4KB", "-T2"]);
    packed.truncate(packed.len() / 2);
    fs::write(folder.path().join("access.zst"), packed).unwrap();
    let mut command = timeline();
    command
        .current_dir(folder.path())
        .args(["-a", "access.zst", "-e", "error.log"])
        .args(["--log-format", super::FORM, "--format", "json"]);
    let told = outcome(&mut command);
    assert_eq!(told.code, Some(0), "{}", told.text);
    let source = &told.json()["sources"][1];
    let trouble = source["trouble"].as_str().unwrap_or_default();
    assert!(
        trouble.contains("access.zst") || trouble.contains("zstd"),
        "{source}"
    );
}
