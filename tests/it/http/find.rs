//! `--find`: the lines of a real nginx that belong to failed probes.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::child;
use crate::support::netns::Netns;
use crate::support::nginx::Nginx;
use crate::support::plugin::{Outcome, binary_folder, check_output, outcome};

/// Every probe whose number in hexadecimal ends with 1 fails; what is in the log is up to the path.
const HTTP: &str = r#"
    map $http_x_request_id $bad { default 0; "~1$" 1; }
    log_format ports '$remote_addr:$remote_port [$time_local] $status "$request"';
    log_format own '$request_id $status';
    server {
        listen 192.0.2.1:80;
        access_log access.log traced;
        access_log combined.log combined;
        access_log ports.log ports;
        location = /mixed { if ($bad) { return 500; } return 200 "fine\n"; }
        location = /bad { return 500; }
        location = /own { add_header X-Request-Id $request_id always; access_log own.log own; return 500; }
    }
"#;

/// A namespace with nginx in it.
struct Proxy {
    nginx: Nginx,
    folder: tempfile::TempDir,
    ns: Netns,
}

impl Proxy {
    fn start() -> Self {
        let ns = Netns::new("find");
        ns.ip("addr add 192.0.2.1/24 dev lo");
        let folder = tempfile::tempdir().unwrap();
        let listen = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 80);
        let nginx = Nginx::start(&ns, folder.path(), "", HTTP, listen, None);
        Self { nginx, folder, ns }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = self.ns.command(binary_folder().join("check_http_retry"));
        command
            .args(["-I", "192.0.2.1"])
            .args(arguments.split(' ').filter(|word| !word.is_empty()));
        command
    }

    fn run(&self, log: &Path, arguments: &str) -> Outcome {
        outcome(self.command(arguments).arg("--find").arg(log))
    }

    /// What logrotate does: the log renamed, and nginx told to open another one.
    fn rotate(&self, to: &str) {
        fs::rename(self.log("access.log"), self.log(to)).unwrap();
        let pid = Pid::from_raw(i32::try_from(self.nginx.id()).unwrap()).unwrap();
        kill_process(pid, Signal::USR1).unwrap();
        let begun = Instant::now();
        while !self.log("access.log").exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "nginx opens no log"
            );
            std::thread::yield_now();
        }
    }
}

/// The lines found for each failure of the document, in the words of `by`.
fn found(failures: &Value, by: &str) -> Vec<String> {
    let failures = failures.as_array().unwrap();
    let lines = failures.iter().map(|failure| {
        let line = &failure["log"][0];
        assert_eq!(line["by"], by, "{failure}");
        line["line"].as_str().unwrap().to_owned()
    });
    lines.collect()
}

#[test]
fn each_failed_probe_is_found_by_its_request_id() {
    let proxy = Proxy::start();
    let log = proxy.log("access.log");
    proxy.run(&log, "-u /mixed --attempts 40");
    let document = proxy
        .run(&log, "-u /mixed --attempts 40 --format json")
        .json();
    let failures = &document["details"]["failures"];
    let lines = found(failures, "request-id");
    assert_eq!(lines.len(), 3);
    for (line, failure) in lines.iter().zip(failures.as_array().unwrap()) {
        let id = failure["request_id"].as_str().unwrap();
        let local = failure["local"].as_str().unwrap();
        let (_, port) = local.split_once(':').unwrap();
        assert!(
            line.contains(id) && line.contains(&format!(" {port} ")),
            "{line}"
        );
        assert!(line.contains("\"GET /mixed HTTP/1.0\" 500 "), "{line}");
    }
    let find = &document["details"]["find"];
    assert_eq!((&find["wanted"], &find["found"]), (&3.into(), &3.into()));
    // Only what this run has had nginx write was read.
    let written = fs::metadata(&log).unwrap().len();
    assert!(
        find["bytes_read"].as_u64().unwrap() <= written / 2 + 10,
        "{find}"
    );
    let text = proxy.run(&log, "-u /mixed --attempts 40").text;
    assert_eq!(
        text.matches(" 500: by its request id in ").count(),
        3,
        "{text}"
    );
    assert_eq!(text.matches("\n  192.0.2.1 - - [").count(), 3, "{text}");
    assert!(!text.contains("log_format"), "{text}");
}

#[test]
fn without_an_id_it_is_found_by_client_address_and_port() {
    let proxy = Proxy::start();
    for (log, arguments) in [
        ("access.log", "-u /bad --attempts 3 --no-request-id"),
        ("ports.log", "-u /bad --attempts 3"),
    ] {
        let document = proxy
            .run(&proxy.log(log), &format!("{arguments} --format json"))
            .json();
        let failures = &document["details"]["failures"];
        let lines = found(failures, "client-port");
        assert_eq!(lines.len(), 3);
        for (line, failure) in lines.iter().zip(failures.as_array().unwrap()) {
            let (_, port) = failure["local"].as_str().unwrap().split_once(':').unwrap();
            assert!(line.contains(port) && line.contains("500"), "{line}");
        }
    }
}

#[test]
fn nginx_own_request_id_is_known_from_the_reply() {
    let proxy = Proxy::start();
    let log = proxy.log("own.log");
    let document = proxy.run(&log, "-u /own --attempts 2 --format json").json();
    let lines = found(&document["details"]["failures"], "request-id");
    assert!(lines.iter().all(|line| line.ends_with(" 500")), "{lines:?}");
}

#[test]
fn what_is_in_no_line_is_said_with_the_two_lines_that_would_help() {
    let proxy = Proxy::start();
    let outcome = proxy.run(&proxy.log("combined.log"), "-u /bad --attempts 2");
    assert_eq!(outcome.code, Some(2));
    for words in [
        "\n2 of 2 failed probes are in no line of ",
        "\n  log_format probes '$remote_addr:$remote_port ",
        " $http_x_request_id ",
        "\n  access_log ",
    ] {
        assert!(outcome.text.contains(words), "{words}: {}", outcome.text);
    }
    // What never came to nginx is missed in no log, and nobody waits for it.
    let begun = Instant::now();
    let outcome = proxy.run(&proxy.log("access.log"), "-p 81 --attempts 2");
    assert!(
        begun.elapsed() < Duration::from_millis(900),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        outcome
            .text
            .contains("2 of 2 failed before a request was on its way"),
        "{}",
        outcome.text
    );
    assert!(!outcome.text.contains("log_format"), "{}", outcome.text);
    let outcome = proxy.run(&proxy.log("none.log"), "-u /bad --attempts 2");
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.text.contains("\n--find: cannot read "),
        "{}",
        outcome.text
    );
}

#[test]
fn a_log_that_is_rotated_while_the_probes_run_is_read_on() {
    let proxy = Proxy::start();
    let mut command = proxy.command("-u /mixed --attempts 80 --interval 20ms --format json");
    command.arg("--find").arg(proxy.log("access.log"));
    let run = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for to in ["access.log.2", "access.log.1"] {
        let begun = Instant::now();
        let log = proxy.log("access.log");
        while fs::metadata(&log).unwrap().len() < 3000 {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        proxy.rotate(to);
    }
    let document = check_output(&run.wait_with_output().unwrap(), &command).json();
    let find = &document["details"]["find"];
    assert!(find["wanted"].as_u64().unwrap() >= 2, "{find}");
    assert_eq!(find["wanted"], find["found"]);
}

#[test]
fn the_failed_probes_of_a_journal_are_found_afterwards_in_rotated_and_compressed_logs() {
    let proxy = Proxy::start();
    let journal = proxy.log("journal");
    let probe = |arguments: &str| outcome(proxy.command(arguments).arg("--journal").arg(&journal));
    probe("-u /mixed --attempts 20");
    proxy.rotate("access.log.2");
    probe("-u /mixed --attempts 20");
    proxy.rotate("access.log.1");
    probe("-u /mixed --attempts 20");
    probe("-p 81 --attempts 1");
    let packed = Command::new("gzip").arg(proxy.log("access.log.2")).status();
    assert!(packed.unwrap().success());
    let find = |log: &Path| {
        let mut command = Command::new(binary_folder().join("check_http_retry"));
        command
            .args(["--format", "json", "--failures-from"])
            .arg(&journal)
            .arg("--find")
            .arg(log)
            .stdin(Stdio::null());
        outcome(&mut command)
    };
    let outcome = find(&proxy.log("access.log"));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    let document = outcome.json();
    assert_eq!(document["details"]["attempts"], 61);
    assert_eq!(document["details"]["find"]["found"], 6);
    let failures = document["details"]["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 7);
    let lines = found(&failures[..6].to_vec().into(), "request-id");
    assert!(
        lines.iter().all(|line| line.contains("GET /mixed")),
        "{lines:?}"
    );
    let outcome = find(&proxy.log("combined.log"));
    assert_eq!(outcome.code, Some(1), "{}", outcome.text);
    let outcome = find(&proxy.log("none"));
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
}

#[test]
fn a_log_may_come_through_a_pipe() {
    let proxy = Proxy::start();
    let log = proxy.log("access.log");
    let mut tail = Command::new("tail")
        .args(["-n", "+1", "-F"])
        .arg(&log)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pipe = tail.stdout.take().unwrap();
    let mut command = proxy.command("-u /bad --attempts 3 --format json --find -");
    let document = outcome(command.stdin(Stdio::from(pipe))).json();
    child::end(&mut tail);
    assert_eq!(
        found(&document["details"]["failures"], "request-id").len(),
        3
    );

    let journal = proxy.log("journal");
    outcome(
        proxy
            .command("-u /bad --attempts 2")
            .arg("--journal")
            .arg(&journal),
    );
    let mut command = Command::new(binary_folder().join("check_http_retry"));
    command
        .args(["--find", "-", "--failures-from"])
        .arg(&journal)
        .stdin(fs::File::open(&log).unwrap());
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(
        outcome
            .headline()
            .contains("2 of 2 failed probes found in standard input"),
        "{}",
        outcome.text
    );
}

#[test]
fn of_a_huge_log_only_what_the_run_had_written_is_read() {
    let proxy = Proxy::start();
    // A hole of a terabyte; nginx appends behind it.
    let log = fs::OpenOptions::new()
        .write(true)
        .open(proxy.log("access.log"))
        .unwrap();
    log.set_len(1 << 40).unwrap();
    let outcome = proxy.run(
        &proxy.log("access.log"),
        "-u /bad --attempts 2 --format json",
    );
    let find = &outcome.json()["details"]["find"];
    assert_eq!(find["found"], 2, "{find}");
    assert!(find["bytes_read"].as_u64().unwrap() < 10_000, "{find}");
}

#[test]
fn of_a_long_log_only_what_is_near_the_probes_is_read_afterwards() {
    let proxy = Proxy::start();
    let journal = proxy.log("journal");
    outcome(
        proxy
            .command("-u /bad --attempts 2")
            .arg("--journal")
            .arg(&journal),
    );
    let real = fs::read_to_string(proxy.log("access.log")).unwrap();
    // A week of lines, one for each second, before those of the probes.
    let now = jiff::Timestamp::now();
    let path = proxy.log("long.log");
    let mut long = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    for second in (1..=7 * 86_400).rev() {
        let at = jiff::Timestamp::from_second(now.as_second() - second).unwrap();
        let at = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
        writeln!(
            long,
            "198.51.100.7 - - [{at}] \"GET / HTTP/1.1\" 200 12 \"-\" \"-\""
        )
        .unwrap();
    }
    long.write_all(real.as_bytes()).unwrap();
    long.into_inner().unwrap();
    let mut command = Command::new(binary_folder().join("check_http_retry"));
    command
        .args(["--format", "json", "--failures-from"])
        .arg(&journal)
        .arg("--find")
        .arg(&path)
        .stdin(Stdio::null());
    let find = &outcome(&mut command).json()["details"]["find"];
    assert_eq!(find["found"], 2, "{find}");
    assert!(find["bytes_read"].as_u64().unwrap() < 300_000, "{find}");
}

#[test]
fn what_makes_no_sense_is_said() {
    let run = |words: &[&str]| {
        let mut command = Command::new(binary_folder().join("check_http_retry"));
        outcome(command.args(words).stdin(Stdio::null()))
    };
    let project = crate::support::plugin::project();
    let readme = project.join("README.md");
    for (words, why) in [
        (&["--failures-from", "x"][..], "--find"),
        (&["--failures-from", "-", "--find", "-"], "can be read once"),
        (
            &["--failures-from", "/none", "--find", "-"],
            "cannot read /none",
        ),
        (
            &["--failures-from", readme.to_str().unwrap(), "--find", "-"],
            "no journal",
        ),
    ] {
        let outcome = run(words);
        assert_eq!(outcome.code, Some(3), "{words:?}: {}", outcome.text);
        assert!(
            outcome.headline().contains(why),
            "{words:?}: {}",
            outcome.text
        );
    }
}
