//! What every plugin promises Icinga, whatever it checks. Each test runs all binaries, and where it takes a check
//! that misbehaves, `examples/minimal_check.rs`.

mod endings;

use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::plugin::{example, outcome, plugin, project};

const PLUGINS: [&str; 3] = [
    "check_http_retry",
    "check_port_exhaustion",
    "check_nginx_upstream_bind",
];

fn minimal(args: &[&str]) -> Command {
    let mut command = example("minimal_check");
    command.args(args);
    command
}

/// The name of a binary and a command that runs it, for each of them.
fn everyone() -> impl Iterator<Item = (&'static str, Command)> {
    PLUGINS
        .into_iter()
        .map(|name| (name, plugin(name)))
        .chain([("minimal_check", minimal(&[]))])
}

#[test]
fn a_bad_option_is_one_unknown_line_that_names_it_and_says_where_help_is() {
    for (bad, option) in [
        (&["--no-such-option"][..], "--no-such-option"),
        (&["--deadline", "soon"], "--deadline"),
        (&["--until", "never"], "--until"),
        (&["-t"], "--timeout"),
        (&["--forever=yes"], "--forever"),
        (&["--format", "xml"], "--format"),
        (&["--until", "ok", "--forever"], "--forever"),
    ] {
        for (name, mut command) in everyone() {
            let outcome = outcome(command.args(bad));
            assert_eq!(outcome.code, Some(3), "{name} {bad:?}: {outcome:?}");
            assert_eq!(outcome.text.lines().count(), 1, "{outcome:?}");
            assert!(
                outcome.text.contains(" UNKNOWN: ") && outcome.text.contains(option),
                "{outcome:?}"
            );
            assert!(
                outcome.text.ends_with(&format!(" - see {name} --help\n")),
                "{outcome:?}"
            );
            assert!(!outcome.text.contains(['|', '<']), "{outcome:?}");
        }
    }
}

#[test]
fn hostile_arguments_cannot_steer_the_output() {
    for evil in [
        &b"--x\x1b[2J|a=1"[..],
        b"--x\nHTTP OK: all is well|time=0",
        b"--deadline=\x1b]0;x\x07|a=1",
        b"--deadline=\xff\xfe|a=1",
    ] {
        for (_, mut command) in everyone() {
            let outcome = outcome(command.arg(std::ffi::OsStr::from_bytes(evil)));
            assert_eq!(outcome.code, Some(3), "{outcome:?}");
            assert_eq!(outcome.text.lines().count(), 1, "{outcome:?}");
            assert!(
                !outcome.text.contains(['\u{1b}', '\u{7}', '|']),
                "{outcome:?}"
            );
        }
    }
}

#[test]
fn help_and_version_leave_with_3_as_the_c_plugins_do() {
    for option in ["-V", "--version"] {
        for (name, mut command) in everyone() {
            let outcome = outcome(command.arg(option));
            let version = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
            assert_eq!((outcome.code, outcome.text), (Some(3), version));
        }
    }
    for option in ["-h", "--help"] {
        for (name, mut command) in everyone() {
            let outcome = outcome(command.arg(option));
            assert_eq!(outcome.code, Some(3));
            assert!(
                outcome.text.contains(&format!("Usage: {name}")),
                "{}",
                outcome.text
            );
            assert!(outcome.text.contains("Examples:"), "{}", outcome.text);
            assert!(
                outcome.text.lines().all(|line| line.chars().count() <= 100),
                "{}",
                outcome.text
            );
        }
    }
}

#[test]
fn long_options_may_be_abbreviated_and_the_last_of_a_repeated_one_counts() {
    assert_eq!(
        outcome(&mut minimal(&["--warn", "0", "--warning", "5", "--t", "2"])).code,
        Some(3),
        "--t is ambiguous"
    );
    let outcome = outcome(&mut minimal(&[
        "--warn",
        "0",
        "--warning",
        "5",
        "--to",
        "9",
        "--to",
        "2",
    ]));
    assert_eq!(
        (outcome.code, outcome.headline()),
        (Some(0), "COUNT OK: counted 2 of 2")
    );
}

#[test]
fn a_threshold_may_begin_with_a_hyphen() {
    for threshold in [
        &["-w", "-5:5"][..],
        &["-w-5:5"],
        &["--warning", "-5:5"],
        &["--warning=-5:5"],
        &["-c", "-5:5", "-w", "-1:"],
    ] {
        let outcome = outcome(&mut minimal(threshold));
        assert_eq!(outcome.code, Some(0), "{threshold:?}: {outcome:?}");
    }
    let outcome = outcome(&mut minimal(&["-w", "-5:-1"]));
    assert_eq!(
        outcome.first_line(),
        "COUNT WARNING: counted 3 of 3|'reached'=3;-5:-1;;0;"
    );
}

#[test]
fn nobody_reading_does_not_change_the_exit_code() {
    for (name, mut command) in everyone() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        let status = command
            .arg("--version")
            .stdout(writer)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(3), "{name}");
    }
    for (args, code) in [
        (&[][..], 0),
        (&["-w", "1"], 1),
        (&["-c", "1"], 2),
        (&["--misbehave", "fail"], 3),
    ] {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        assert_eq!(
            minimal(args).stdout(writer).status().unwrap().code(),
            Some(code)
        );
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(
            minimal(args).stdout(full).status().unwrap().code(),
            Some(code)
        );
        assert_eq!(closed_stdout(args), Some(code));
    }
}

/// Each plugin with arguments that make it measure something, here and at once.
fn at_work() -> [Command; 3] {
    let [mut http, ports, mut nginx] = PLUGINS.map(plugin);
    http.args(["-I", "127.0.0.1", "-p", "1", "--attempts", "2"]);
    nginx.args([
        "-f",
        "tests/fixtures/nginx_error.log",
        "--since",
        "1970-01-01 00:00",
    ]);
    nginx.current_dir(project());
    [http, ports, nginx]
}

#[test]
fn a_real_run_keeps_its_code_when_nobody_reads_it() {
    for mut command in at_work() {
        let code = outcome(&mut command).code;
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        assert_eq!(
            command.stdout(writer).status().unwrap().code(),
            code,
            "{command:?}"
        );
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(
            command.stdout(full).status().unwrap().code(),
            code,
            "{command:?}"
        );
    }
}

#[test]
fn every_plugin_has_the_documents_fields_and_repeats_until_its_state_comes() {
    for mut command in at_work() {
        let text = outcome(&mut command);
        let state =
            ["OK", "WARNING", "CRITICAL", "UNKNOWN"][usize::try_from(text.code.unwrap()).unwrap()];
        assert!(text.headline().contains(&format!(" {state}: ")), "{text:?}");
        assert!(text.first_line().contains('|'), "{text:?}");
        let document = outcome(command.args(["--format", "json", "--until", state])).json();
        assert_eq!(document["state"], state);
        assert_eq!(document["exit_code"], text.code.unwrap());
        for field in [
            "plugin", "version", "summary", "started", "finished", "perfdata", "findings",
        ] {
            assert!(!document[field].is_null(), "{field}: {document}");
        }
        assert!(
            document["details"]
                .as_object()
                .is_some_and(|details| !details.is_empty())
        );
    }
}

/// Runs it with file descriptor 1 closed, as a careless parent may leave it.
fn closed_stdout(args: &[&str]) -> Option<i32> {
    let program = minimal(&[]).get_program().to_owned();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "exec \"$0\" \"$@\" >&-"])
        .arg(program)
        .args(args);
    shell.status().unwrap().code()
}

#[test]
fn a_panic_in_any_thread_is_one_unknown_line() {
    for how in ["panic", "panic-in-thread"] {
        let outcome = outcome(minimal(&["--misbehave", how]).env("RUST_BACKTRACE", "full"));
        assert_eq!(outcome.code, Some(3));
        assert_eq!(outcome.text.lines().count(), 1, "{outcome:?}");
        assert!(
            outcome
                .text
                .starts_with("COUNT UNKNOWN: internal error at examples/minimal_check.rs:"),
            "{outcome:?}"
        );
        assert!(
            outcome.text.contains(": told to") && !outcome.text.contains(['|', '\u{1b}']),
            "{outcome:?}"
        );
    }
}

#[test]
fn what_asks_for_json_gets_json_in_trouble_too() {
    for how in ["panic", "fail", "hang"] {
        let args = [
            "--misbehave",
            how,
            "--format",
            "json",
            "--deadline",
            "300ms",
        ];
        let outcome = outcome(&mut minimal(&args));
        assert_eq!(outcome.code, Some(3));
        let document = outcome.json();
        assert_eq!(document["state"], "UNKNOWN");
        assert!(
            document["summary"]
                .as_str()
                .unwrap()
                .starts_with("COUNT UNKNOWN: "),
            "{outcome:?}"
        );
    }
}

#[test]
fn the_json_document_has_the_fields_of_the_interface_and_agrees_with_the_text() {
    let text = outcome(&mut minimal(&["-w", "1"]));
    let json = outcome(&mut minimal(&["-w", "1", "--format", "json"]));
    assert_eq!(json.code, text.code);
    let document = json.json();
    let fields: Vec<_> = document
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        fields,
        [
            "plugin",
            "version",
            "state",
            "exit_code",
            "summary",
            "started",
            "finished",
            "perfdata",
            "findings",
            "details"
        ]
    );
    assert_eq!(document["summary"], text.headline());
    assert_eq!(document["exit_code"], 1);
    assert_eq!(document["state"], "WARNING");
    assert_eq!(
        document["perfdata"][0].to_string(),
        r#"{"label":"reached","value":3,"unit":"","warning":"1","critical":null,"min":0,"max":null}"#
    );
    let time = |name: &str| {
        document[name]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    };
    assert!(time("started") <= time("finished"));
}

#[test]
fn more_details_never_change_the_first_line() {
    let plain = outcome(&mut minimal(&[]));
    for verbose in ["-v", "-vv", "-vvv", "-vvvvvv"] {
        let told = outcome(&mut minimal(&[verbose]));
        assert_eq!(told.first_line(), plain.first_line());
        assert_eq!(told.text.lines().nth(1), Some("one finger at a time"));
    }
}

#[test]
fn an_environment_of_empty_or_odd_values_is_no_reason_to_fail() {
    for (key, value) in [
        ("TZ", ""),
        ("TZ", "Nowhere/Land"),
        ("LC_ALL", "xx_XX"),
        ("HOME", ""),
        ("COLUMNS", "-1"),
        ("NAGIOS_PLUGIN_STATE_DIRECTORY", ""),
    ] {
        let outcome = outcome(minimal(&[]).env(key, value));
        assert_eq!(
            (outcome.code, outcome.headline()),
            (Some(0), "COUNT OK: counted 3 of 3"),
            "{key}={value}"
        );
    }
    let outcome = outcome(minimal(&[]).env_clear());
    assert_eq!(outcome.code, Some(0));
}

#[test]
fn a_plugin_needs_neither_a_readable_folder_nor_open_inputs() {
    let mut command = minimal(&[]);
    command.current_dir("/proc/self").arg0("check");
    assert_eq!(outcome(&mut command).code, Some(0));
    let program = minimal(&[]).get_program().to_owned();
    let output = Command::new("/bin/sh")
        .args(["-c", "exec \"$0\" <&- 2>&-"])
        .arg(program)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.starts_with(b"COUNT OK: counted 3 of 3|"));
}

#[test]
fn a_reader_that_went_away_changes_nothing_of_the_exit_code() {
    let mut check = minimal(&["--to", "30", "-c", "1"]);
    let mut child = check.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

/// Else the next file that is opened would be its standard output.
#[test]
fn descriptors_that_the_parent_left_closed_lead_nowhere() {
    let program = minimal(&[]).get_program().to_owned();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec \"$0\" --to 100000 <&- >&- 2>&-"]);
    let mut child = shell.arg(program).spawn().unwrap();
    let folder = format!("/proc/{}/fd", child.id());
    let target = |name: &str| std::fs::read_link(format!("{folder}/{name}")).unwrap_or_default();
    // By then all that comes before the check is done.
    let busy = || std::fs::read_dir(&folder).is_ok_and(|open| open.count() > 4);
    let begun = Instant::now();
    while !(target("1") == Path::new("/dev/null") && busy()) {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            target("1")
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let targets = ["0", "1", "2"].map(target);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(targets, [const { "/dev/null" }; 3].map(PathBuf::from));
}
