//! What every plugin promises Icinga, whatever it checks. Each test runs all binaries, and where it takes a check
//! that misbehaves, `examples/minimal_check.rs`.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::plugin::{Outcome, check_output, example, outcome, plugin, project};

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
fn an_error_is_one_unknown_line() {
    let outcome = outcome(&mut minimal(&["--misbehave", "fail"]));
    assert_eq!(
        (outcome.code, outcome.text.as_str()),
        (Some(3), "COUNT UNKNOWN: cannot count: no fingers\n")
    );
}

#[test]
fn the_deadline_ends_a_run_with_what_it_has() {
    let outcome = outcome(&mut minimal(&["--to", "1000000", "--deadline", "300ms"]));
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.metric("reached").unwrap() >= 1.0, "{outcome:?}");
    assert!(
        outcome.text.ends_with("\nended early by its deadline\n"),
        "{outcome:?}"
    );
}

#[test]
fn a_check_that_hangs_is_ended_by_its_deadline_with_one_line() {
    let begun = Instant::now();
    let outcome = outcome(&mut minimal(&[
        "--misbehave",
        "hang",
        "--deadline",
        "500ms",
    ]));
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!((outcome.code, outcome.text.lines().count()), (Some(3), 1));
    assert!(
        outcome.text.starts_with("COUNT UNKNOWN: no result within"),
        "{outcome:?}"
    );
}

/// Starts it, waits until it has caught its signals, sends one and collects the result.
fn signalled(mut command: Command, signal: Signal) -> Outcome {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until_it_catches_signals(&mut child);
    kill_process(Pid::from_child(&child), signal).unwrap();
    check_output(&child.wait_with_output().unwrap(), &command)
}

fn wait_until_it_catches_signals(child: &mut Child) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        // SIGINT is signal 2 and SIGTERM 15: bits 1 and 14.
        if caught & (1 << 1) != 0 && caught & (1 << 14) != 0 {
            return;
        }
        assert!(
            Instant::now() < until && child.try_wait().unwrap().is_none(),
            "it never caught its signals"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_signal_ends_a_run_with_a_complete_report() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let outcome = signalled(minimal(&["--to", "1000000"]), signal);
        assert_eq!(outcome.code, Some(0));
        assert!(outcome.metric("reached").is_some(), "{outcome:?}");
        assert!(
            outcome
                .text
                .ends_with(&format!("\nended early by {name}\n")),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_signal_ends_each_plugins_loop_with_a_report() {
    for mut command in at_work() {
        command.args(["--forever", "--every", "1h"]);
        let outcome = signalled(command, Signal::TERM);
        assert!(outcome.code.is_some_and(|code| code <= 3), "{outcome:?}");
        let last = outcome.text.lines().last().unwrap();
        assert!(last.starts_with("ended by SIGTERM after "), "{outcome:?}");
    }
}

#[test]
fn a_check_that_does_not_heed_a_signal_is_ended_before_icinga_would_kill_it() {
    let begun = Instant::now();
    let outcome = signalled(minimal(&["--misbehave", "hang"]), Signal::TERM);
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(outcome.code, Some(3));
    assert!(
        outcome.text.starts_with("COUNT UNKNOWN: SIGTERM came"),
        "{outcome:?}"
    );
}

#[test]
fn a_reader_that_never_reads_does_not_hold_a_plugin_up_for_ever() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    fill(&writer);
    let mut command = minimal(&["-w", "1", "--deadline", "1s"]);
    let mut child = command.stdout(writer).spawn().unwrap();
    assert_eq!(
        child.wait().unwrap().code(),
        Some(1),
        "the result's own code"
    );
    drop(reader);
}

fn fill(pipe: &impl std::os::fd::AsFd) {
    let flags = rustix::fs::fcntl_getfl(pipe).unwrap();
    rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(pipe, &[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(pipe, flags).unwrap();
}

#[test]
fn until_runs_on_to_the_state_and_leaves_with_it() {
    let outcome = outcome(&mut minimal(&[
        "--until", "WARNING", "--every", "10ms", "-w", "1",
    ]));
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome
            .first_line()
            .starts_with("COUNT WARNING: counted 3 of 3|'reached'=3;1;"),
        "{outcome:?}"
    );
    assert!(
        outcome.text.contains("reached after 1 run in "),
        "{outcome:?}"
    );
}

#[test]
fn until_tells_each_change_with_its_time_and_sums_up_when_interrupted() {
    let mut command = minimal(&["--until", "critical", "--every", "20ms", "-v"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first dated line says that the first run is over.
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0];
    stdout.read_exact(&mut first).unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut text = String::from_utf8(first.to_vec()).unwrap();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    let lines: Vec<_> = text.lines().collect();
    let (time, line) = lines[0].split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{text}");
    assert_eq!(line, "COUNT OK: counted 3 of 3");
    assert!(lines[1].starts_with("COUNT OK: counted"), "{text}");
    assert!(
        lines.last().unwrap().starts_with("ended by SIGINT after "),
        "{text}"
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains("COUNT OK"))
            .count(),
        2,
        "no line without a change: {text}"
    );
}

#[test]
fn forever_with_json_is_a_document_a_line() {
    let outcome = outcome(&mut minimal(&[
        "--forever",
        "--every",
        "10ms",
        "--format",
        "json",
        "--deadline",
        "500ms",
    ]));
    assert_eq!(outcome.code, Some(0));
    let documents: Vec<serde_json::Value> = outcome
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(documents.len() >= 2, "{outcome:?}");
    assert!(
        documents
            .iter()
            .all(|document| document["plugin"] == "minimal_check")
    );
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
