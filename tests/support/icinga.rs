//! A real Icinga 2 as a child process: Debian's daemon as its user nagios, with configuration, certificates and
//! state in a temporary folder, and its REST API on the loopback of a network namespace.
//!
//! It runs plugins as a service manager's Icinga would: bare environment, folder `/`, no terminal, not root.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::child;
use super::netns::Netns;
use super::plugin::{binary_folder, project};

const USER: &str = "nagios";
const API: &str = "https://icinga.test:5665/v1";
/// The longest that starting up, or one check, may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running Icinga 2; ended with all its processes when dropped.
#[derive(Debug)]
pub struct Icinga<'a> {
    netns: &'a Netns,
    child: Child,
    folder: TempDir,
}

impl<'a> Icinga<'a> {
    /// Starts one in a namespace, with the project's CheckCommands as they are shipped and these objects, and waits
    /// until its API answers. Ends with the calling thread, if that forgets.
    pub fn start(netns: &'a Netns, objects: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("icinga-")
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder");
        lay_out(folder.path(), objects);
        make_certificate(folder.path());
        let output = File::create(folder.path().join("output")).expect("a file for its output");
        let configuration = path_text(&folder.path().join("etc/icinga2.conf"));
        let words = ["daemon", "-c", &configuration];
        let mut command = as_daemon(netns.command("setpriv"), folder.path(), &words);
        let child = command
            .current_dir("/")
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut icinga = Self {
            netns,
            child,
            folder,
        };
        icinga.wait_until_it_answers();
        icinga
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
                fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
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

    /// The performance data of the last result as Icinga's own parser reads it: label to its `PerfdataValue`.
    pub fn perfdata(&self, name: &str) -> BTreeMap<String, Value> {
        let (host, service) = name.split_once('!').expect("host!service");
        let script = format!(
            "get_service(\"{host}\", \"{service}\").last_check_result.performance_data.map(x => parse_performance_data(x))"
        );
        let path = format!(
            "/console/execute-script?command={}",
            percent_encode(&script)
        );
        let answer = self.api("POST", &path, &json!({}));
        let values = &answer["results"][0]["result"];
        let values = values
            .as_array()
            .unwrap_or_else(|| panic!("{name}: {answer}"));
        let label = |value: &Value| value["label"].as_str().expect("a label").to_owned();
        values
            .iter()
            .map(|value| (label(value), value.clone()))
            .collect()
    }

    /// One request to the REST API.
    fn api(&self, method: &str, path: &str, body: &Value) -> Value {
        self.request(method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut command = self.netns.command("curl");
        command.arg("-K").arg(self.folder.path().join("curl.conf"));
        command.args(["-X", method, &format!("{API}{path}")]);
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
        processes_below(self.folder.path())
    }

    fn end(&mut self) {
        child::end(&mut self.child);
    }
}

impl Drop for Icinga<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Command lines that name a file below this folder.
fn processes_below(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("a temporary folder's name is text");
    let entries = fs::read_dir("/proc").expect("/proc");
    let lines = entries.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(folder)).collect()
}

/// The folders, the plugins and the configuration, owned by the daemon's user.
fn lay_out(folder: &Path, objects: &str) {
    for name in [
        "etc",
        "lib/certs",
        "lib/api",
        "log",
        "cache",
        "spool",
        "run",
        "plugins",
    ] {
        fs::create_dir_all(folder.join(name)).expect("a folder for Icinga");
    }
    for name in [
        "check_http_retry",
        "check_port_exhaustion",
        "check_nginx_upstream_bind",
    ] {
        // Copies: the daemon's user need not be able to reach the build folder.
        fs::copy(
            binary_folder().join(name),
            folder.join("plugins").join(name),
        )
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    fs::copy(
        project().join("icinga2-conf/commands.conf"),
        folder.join("etc/commands.conf"),
    )
    .expect("the CheckCommands");
    let password = password();
    let configuration = format!(
        r#"const PluginDir = "{plugins}"
const PluginContribDir = "{plugins}"
const NodeName = "icinga.test"
const ZoneName = NodeName
include <itl>
include <plugins>
include "commands.conf"
object Endpoint NodeName {{ }}
object Zone ZoneName {{ endpoints = [ NodeName ] }}
object CheckerComponent "checker" {{ }}
object ApiListener "api" {{ bind_host = "127.0.0.1" }}
object ApiUser "test" {{
  password = "{password}"
  permissions = [ "*" ]
}}
{objects}
"#,
        plugins = folder.join("plugins").display()
    );
    fs::write(folder.join("etc/icinga2.conf"), configuration).expect("a configuration");
    let curl = format!(
        "silent\nshow-error\nfail-with-body\nmax-time = 20\nheader = \"Accept: application/json\"\n\
         user = \"test:{password}\"\ncacert = \"{}\"\nresolve = \"icinga.test:5665:127.0.0.1\"\n",
        folder.join("lib/certs/ca.crt").display()
    );
    fs::write(folder.join("curl.conf"), curl).expect("curl's configuration");
    give_to_user(folder);
}

/// A certificate authority of its own, and a certificate for the API.
fn make_certificate(folder: &Path) {
    let certs = folder.join("lib/certs");
    let file = |name: &str| {
        certs
            .join(name)
            .to_str()
            .expect("a path of text")
            .to_owned()
    };
    let (key, csr, crt) = (
        file("icinga.test.key"),
        file("icinga.test.csr"),
        file("icinga.test.crt"),
    );
    for arguments in [
        &["new-ca"][..],
        &[
            "new-cert",
            "--cn",
            "icinga.test",
            "--key",
            &key,
            "--csr",
            &csr,
        ],
        &["sign-csr", "--csr", &csr, "--cert", &crt],
    ] {
        let words = [&["pki"], arguments].concat();
        let output = as_daemon(Command::new("setpriv"), folder, &words)
            .output()
            .expect("setpriv (util-linux)");
        assert!(
            output.status.success(),
            "icinga2 pki {arguments:?}: {output:?}"
        );
    }
    fs::copy(folder.join("lib/ca/ca.crt"), certs.join("ca.crt"))
        .expect("the authority's certificate");
}

/// Makes a `setpriv` one that runs icinga2 with these words: as its user, in a bare environment, its folders in ours.
fn as_daemon(mut setpriv: Command, folder: &Path, words: &[&str]) -> Command {
    setpriv.args([
        "--reuid",
        USER,
        "--regid",
        USER,
        "--init-groups",
        "--pdeathsig",
        "TERM",
        "env",
        "-i",
    ]);
    setpriv.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]);
    setpriv.args([
        format!("ICINGA2_USER={USER}"),
        format!("ICINGA2_GROUP={USER}"),
    ]);
    setpriv.arg("icinga2").args(words);
    for (constant, name) in [
        ("ConfigDir", "etc"),
        ("ZonesDir", "etc/zones.d"),
        ("DataDir", "lib"),
        ("LogDir", "log"),
        ("CacheDir", "cache"),
        ("SpoolDir", "spool"),
        ("InitRunDir", "run"),
    ] {
        let path = folder.join(name);
        setpriv
            .arg("-D")
            .arg(format!("{constant}={}", path.display()));
    }
    setpriv
}

fn path_text(path: &Path) -> String {
    path.to_str()
        .expect("a temporary folder's name is text")
        .to_owned()
}

fn give_to_user(folder: &Path) {
    let accounts = fs::read_to_string("/etc/passwd").expect("the accounts");
    let prefix = format!("{USER}:");
    let account = accounts.lines().find(|line| line.starts_with(&prefix));
    let account = account.expect("the user nagios (apt-get install icinga2-common)");
    let numbers: Vec<_> = account
        .split(':')
        .filter_map(|field| field.parse().ok())
        .collect();
    let [uid, gid] = numbers[..] else {
        panic!("no account: {account}");
    };
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        chown(&folder, Some(uid), Some(gid)).expect("root may give files away");
        for entry in fs::read_dir(&folder).expect("a folder of ours") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                chown(&path, Some(uid), Some(gid)).expect("root may give files away");
            }
        }
    }
}

/// From the kernel, as a uuid.
fn password() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid")
        .expect("the kernel makes uuids")
        .trim()
        .to_owned()
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
