//! A real Icinga 2 as a child process: Debian's daemon as its user nagios, with configuration, certificates and
//! state in a temporary folder, and its REST API on the loopback of a network namespace. Several make a cluster.
//!
//! It runs plugins as a service manager's Icinga would: bare environment, folder `/`, no terminal, not root.

pub mod conf;
pub mod setup;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::child;
use super::netns::Netns;

use setup::Node;

/// The longest that starting up, or one check, may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running Icinga 2; ended with all its processes when dropped.
#[derive(Debug)]
pub struct Icinga<'a> {
    netns: &'a Netns,
    child: Child,
    folder: TempDir,
    api: String,
}

impl<'a> Icinga<'a> {
    /// Starts one in a namespace, with the project's CheckCommands as they are shipped and these objects, and waits
    /// until its API answers. Ends with the calling thread, if that forgets.
    pub fn start(netns: &'a Netns, objects: &str) -> Self {
        Self::start_node(netns, &Node::alone().objects(objects))
    }

    /// The same for a node that may have more configuration and others beside it.
    pub fn start_node(netns: &'a Netns, node: &Node) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("icinga-")
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder");
        node.set_up(folder.path());
        let mut icinga = Self {
            netns,
            child: spawn(netns, folder.path()),
            api: node.api(),
            folder,
        };
        icinga.wait_until_it_answers();
        icinga
    }

    /// Ends the daemon as a reboot would, with all that it knows kept.
    pub fn shut_down(&mut self) {
        self.end();
    }

    /// Starts it again after [`Self::shut_down`].
    pub fn boot(&mut self) {
        self.child = spawn(self.netns, self.folder.path());
        self.wait_until_it_answers();
    }

    /// The folder that it lives in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self
            .request("GET", "/status/IcingaApplication", &Value::Null)
            .is_err()
        {
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "Icinga 2 does not answer: {}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The attributes of a service, given as `host!service`.
    pub fn service(&self, name: &str) -> Value {
        let path = format!("/objects/services/{}", percent_encode(name));
        let answer = self.api("GET", &path, &Value::Null);
        answer["results"][0]["attrs"].clone()
    }

    /// Has a service checked at once, and returns its attributes with the new result.
    pub fn check(&self, name: &str) -> Value {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let asked = now.expect("a clock after 1970").as_secs_f64();
        let body = json!({
            "type": "Service", "filter": "service.__name == name", "filter_vars": {"name": name}, "force": true,
        });
        let answer = self.api("POST", "/actions/reschedule-check", &body);
        assert_eq!(answer["results"][0]["code"], 200.0, "{name}: {answer}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let service = self.service(name);
            let started = &service["last_check_result"]["execution_start"];
            if started.as_f64().is_some_and(|started| started >= asked) {
                return service;
            }
            assert!(Instant::now() < deadline, "no result of {name}: {service}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Gives it a passive result of a host, or of a service as `host!service`.
    pub fn submit(&self, name: &str, code: u8, output: &str) {
        let kind = if name.contains('!') {
            "Service"
        } else {
            "Host"
        };
        let body = json!({
            "type": kind, "filter": "item.__name == name".replace("item", &kind.to_lowercase()), "filter_vars": {"name": name},
            "exit_status": code, "plugin_output": output,
        });
        let answer = self.api("POST", "/actions/process-check-result", &body);
        assert_eq!(answer["results"][0]["code"], 200.0, "{name}: {answer}");
    }

    /// The performance data of the last result as Icinga's own parser reads it: label to its `PerfdataValue`.
    pub fn perfdata(&self, name: &str) -> BTreeMap<String, Value> {
        let (host, service) = name.split_once('!').expect("host!service");
        let values = self.evaluate(&format!(
            "get_service(\"{host}\", \"{service}\").last_check_result.performance_data.map(x => parse_performance_data(x))"
        ));
        let values = values
            .as_array()
            .unwrap_or_else(|| panic!("{name}: {values}"));
        let label = |value: &Value| value["label"].as_str().expect("a label").to_owned();
        values
            .iter()
            .map(|value| (label(value), value.clone()))
            .collect()
    }

    /// The value of an expression in Icinga's language.
    pub fn evaluate(&self, script: &str) -> Value {
        let path = format!("/console/execute-script?command={}", percent_encode(script));
        self.api("POST", &path, &json!({}))["results"][0]["result"].clone()
    }

    /// Waits until a service's attributes are as wanted, and returns them.
    pub fn wait_for(
        &self,
        name: &str,
        what: &str,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let service = self.service(name);
            if wanted(&service) {
                return service;
            }
            assert!(Instant::now() < deadline, "{name} not {what}: {service}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until an expression in Icinga's language is true.
    pub fn wait_until(&self, script: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.evaluate(script) != true {
            assert!(
                Instant::now() < deadline,
                "never true: {script}{}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the daemon itself printed.
    fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }

    /// One request to the REST API.
    fn api(&self, method: &str, path: &str, body: &Value) -> Value {
        self.request(method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut command = self.netns.command("curl");
        command.arg("-K").arg(self.folder.path().join("curl.conf"));
        command.args(["-X", method, &format!("{}{path}", self.api)]);
        if !body.is_null() {
            command.args(["-d", &body.to_string()]);
        }
        let output = command.output().expect("curl (apt-get install curl)");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("{}{text}", String::from_utf8_lossy(&output.stderr)));
        }
        serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))
    }

    /// Ends it and returns the processes that are left of it, which should be none.
    pub fn stop(mut self) -> Vec<String> {
        self.end();
        let left = child::below(self.folder.path()).into_iter();
        left.map(|(_, line)| line).collect()
    }

    /// The end of its log, for whoever looks into a test that failed.
    fn tell_its_log(&self) {
        let log = fs::read_to_string(self.folder.path().join("log/icinga2.log"));
        let log = log.unwrap_or_default();
        let requests = |line: &&str| !line.contains("HttpServerConnection");
        let mut lines: Vec<_> = log.lines().filter(requests).collect();
        lines.drain(..lines.len().saturating_sub(40));
        let _ = writeln!(
            std::io::stdout(),
            "{} said last:\n{}\n",
            self.api,
            lines.join("\n")
        );
    }

    fn end(&mut self) {
        child::end(&mut self.child);
    }
}

impl Drop for Icinga<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_its_log();
        }
        self.end();
        child::kill_below(self.folder.path());
    }
}

/// The daemon of a folder that was set up.
fn spawn(netns: &Netns, folder: &Path) -> Child {
    let output = File::create(folder.join("output")).expect("a file for its output");
    let configuration = folder.join("etc/icinga2.conf");
    let configuration = configuration
        .to_str()
        .expect("a temporary folder's name is text");
    let words = ["daemon", "-c", configuration];
    let mut command = setup::as_daemon(netns.command("setpriv"), folder, &words);
    command
        .current_dir("/")
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
