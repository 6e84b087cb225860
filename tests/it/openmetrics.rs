//! The form for Prometheus, read back by the rules of the text format and through a real node_exporter.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::docs::shown;
use crate::support::child;
use crate::support::netns::Netns;
use crate::support::plugin::{binary_folder, outcome, plugin, search_path};
use crate::support::skip::skip;

/// Name to value of an exposition in which every family has its type and help before its one sample.
fn samples(text: &str, check: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let mut samples = BTreeMap::new();
    let mut family = "";
    let mut told = Vec::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let (what, rest) = rest.split_once(' ').expect("a word");
            let (name, value) = rest.split_once(' ').expect("a name");
            if what == "TYPE" {
                assert_eq!(value, "gauge");
                family = name;
                told.clear();
            }
            assert_eq!(name, family, "{line}");
            assert!(
                what != "UNIT" || name.ends_with(&format!("_{value}")),
                "{line}"
            );
            told.push(what);
            continue;
        }
        assert!(told.contains(&"TYPE") && told.contains(&"HELP"), "{line}");
        let (name, value) = line.split_once(' ').expect("a value");
        let label = format!("{{check=\"{check}\"}}");
        assert_eq!(name.strip_suffix(&label), Some(family), "{line}");
        let value = value.parse().expect("a number");
        assert_eq!(samples.insert(family.to_owned(), value), None, "{line}");
    }
    samples
}

#[test]
fn every_number_is_a_gauge_of_its_own_and_the_exit_code_stays() {
    // Nobody listens on port 1: three failures that are there every time.
    let run = |format: &str| {
        outcome(plugin("check_http_retry").args([
            "-I",
            "127.0.0.1",
            "-p",
            "1",
            "--attempts",
            "3",
            "--series",
            "nobody",
            "--format",
            format,
        ]))
    };
    let outcome = run("openmetrics");
    assert_eq!(outcome.code, Some(2));
    let samples = samples(&outcome.text, "nobody");
    let json = run("json").json();
    let items = json["perfdata"].as_array().expect("a list");
    // One more for the state.
    assert_eq!(samples.len(), items.len() + 1, "{samples:?}");
    for item in items {
        let label = item["label"].as_str().expect("text");
        let start = format!("check_http_retry_{label}");
        assert!(
            samples.keys().any(|name| name.starts_with(&start)),
            "{label}"
        );
    }
    assert!((samples["check_http_retry_state"] - 2.0).abs() < f64::EPSILON);
    assert!((samples["check_http_retry_failed"] - 3.0).abs() < f64::EPSILON);
}

#[test]
fn a_loop_says_nothing_beside_its_document() {
    let until = "-I 127.0.0.1 -p 1 --attempts 1 --until critical --every 0.1 --format";
    for (format, begins) in [("openmetrics", "# TYPE "), ("munin", "multigraph ")] {
        let mut check = plugin("check_http_retry");
        let outcome = outcome(check.args(until.split(' ')).arg(format));
        assert!(outcome.text.starts_with(begins), "{}", outcome.text);
    }
}

/// Where Debian puts it.
const EXPORTER: &str = "/usr/bin/prometheus-node-exporter";

/// A real node_exporter with its textfile collector alone, in a namespace of its own; ended when dropped.
struct Exporter {
    ns: Netns,
    child: Child,
    folder: TempDir,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        child::end(&mut self.child);
    }
}

impl Exporter {
    /// Starts one; where there is none, the test is skipped.
    fn start() -> Option<Self> {
        if !std::path::Path::new(EXPORTER).exists() {
            skip("there is no node_exporter (apt-get install prometheus-node-exporter)");
            return None;
        }
        let ns = Netns::new("exporter");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let texts = format!("--collector.textfile.directory={}", folder.path().display());
        let mut command = ns.command("setpriv");
        command
            .args(["--pdeathsig", "TERM", EXPORTER])
            .args(["--collector.disable-defaults", "--collector.textfile"])
            .args([&*texts, "--web.listen-address=127.0.0.1:9100"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.process_group(0).spawn().expect("setpriv");
        Some(Self { ns, child, folder })
    }

    /// Runs a check there as the documentation has it: into a new file, which takes the place of the old one.
    fn run(&self, name: &str, options: &str) {
        let check = binary_folder().join(name);
        let file = self.folder.path().join(format!("{name}.prom"));
        let (check, file) = (check.display(), file.display());
        let words =
            format!("{check} {options} --format openmetrics > {file}.new; mv {file}.new {file}");
        let mut command = self.ns.command("sh");
        command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", self.folder.path());
        let status = command.args(["-c", &words]).status();
        assert!(status.is_ok_and(|status| status.success()), "{words}");
    }

    /// What Prometheus would scrape: name and labels to value.
    fn scrape(&self) -> BTreeMap<String, f64> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let mut command = self.ns.command("curl");
            let output = command
                .args(["-sf", "http://127.0.0.1:9100/metrics"])
                .output();
            let output = output.expect("curl");
            if output.status.success() {
                return values(&String::from_utf8(output.stdout).expect("text"));
            }
            assert!(Instant::now() < until, "node_exporter does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The samples of an exposition, whatever stands around them.
fn values(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.rsplit_once(' '));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.parse().expect("a number")));
    pairs.collect()
}

#[test]
fn a_real_node_exporter_hands_on_every_number() {
    let Some(exporter) = Exporter::start() else {
        return;
    };
    let log = exporter.folder.path().join("error.log");
    fs::write(&log, "").expect("a log");
    exporter.run(
        "check_http_retry",
        "-I 127.0.0.1 -p 1 --attempts 3 --series nobody",
    );
    exporter.run("check_port_exhaustion", "");
    exporter.run(
        "check_nginx_upstream_bind",
        &format!("-f {}", log.display()),
    );
    let scraped = exporter.scrape();
    assert!(
        scraped["node_textfile_scrape_error"].abs() < f64::EPSILON,
        "{scraped:?}"
    );
    let failed = "check_http_retry_failed{check=\"nobody\"}";
    assert!((scraped[failed] - 3.0).abs() < f64::EPSILON, "{scraped:?}");
    for name in [
        "check_http_retry",
        "check_port_exhaustion",
        "check_nginx_upstream_bind",
    ] {
        let text = fs::read_to_string(exporter.folder.path().join(format!("{name}.prom")));
        let written = values(&text.expect("it was written"));
        let state = format!("{name}_state");
        assert!(
            written.keys().any(|name| name.starts_with(&state)),
            "{written:?}"
        );
        for (name, value) in &written {
            assert_eq!(scraped.get(name), Some(value), "{name}");
        }
    }
}

#[test]
fn the_lines_of_the_page_reach_a_node_exporter() {
    let Some(exporter) = Exporter::start() else {
        return;
    };
    let folder = exporter.folder.path().to_string_lossy();
    let file = shown("icinga.md", "f=", &[("/var/lib/node_exporter", &folder)]);
    let sample = [("--sample 5s", "--sample 1s")];
    let run = shown("icinga.md", "check_port_exhaustion ", &sample);
    let mut shell = exporter.ns.command("sh");
    shell
        .env("PATH", search_path())
        .env("NAGIOS_PLUGIN_STATE_DIRECTORY", exporter.folder.path());
    let status = shell.args(["-c", &format!("{file}\n{run}")]).status();
    assert!(status.is_ok_and(|status| status.success()), "{run}");
    let scraped = exporter.scrape();
    let state = scraped
        .iter()
        .find(|(name, _)| name.starts_with("check_port_exhaustion_state"));
    assert_eq!(
        state.map(|(_, value)| value.to_bits()),
        Some(0),
        "{scraped:?}"
    );
}
