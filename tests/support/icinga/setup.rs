//! The folder of one Icinga 2: its configuration, the plugins, its certificate.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::plugin::{binary_folder, copy_program, project};

const USER: &str = "nagios";
/// Where Debian keeps the plugins of others.
const SYSTEM_PLUGINS: &str = "/usr/lib/nagios/plugins";

/// What makes one node: alone, or one of a cluster.
#[derive(Debug)]
pub struct Node {
    name: String,
    address: Ipv4Addr,
    zones: String,
    files: Vec<(String, String)>,
    objects: String,
    authority: Option<PathBuf>,
}

impl Node {
    /// One without others, with the project's CheckCommands as they are shipped.
    pub fn alone() -> Self {
        let zones =
            "object Endpoint NodeName { }\nobject Zone ZoneName { endpoints = [ NodeName ] }\n";
        Self::of_cluster("icinga.test", Ipv4Addr::LOCALHOST, zones).shipped("commands.conf")
    }

    /// One of several: its name, an address for its API and for the others, and its `zones.conf`.
    pub fn of_cluster(name: &str, address: Ipv4Addr, zones: &str) -> Self {
        Self {
            name: name.to_owned(),
            address,
            zones: zones.to_owned(),
            files: Vec::new(),
            objects: String::new(),
            authority: None,
        }
    }

    /// Adds objects that only the test needs.
    #[must_use]
    pub fn objects(mut self, objects: &str) -> Self {
        self.objects.push_str(objects);
        self
    }

    /// Adds a file of the shipped configuration to `conf.d`.
    #[must_use]
    pub fn shipped(self, name: &str) -> Self {
        let text = shipped(name);
        self.file(&format!("conf.d/{name}"), &text)
    }

    /// Adds a file below the folder of the configuration.
    #[must_use]
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    /// Has its certificate signed by another node, given by its folder, instead of itself.
    #[must_use]
    pub fn signed_by(mut self, folder: &Path) -> Self {
        self.authority = Some(folder.to_owned());
        self
    }

    /// Where its API is.
    pub(super) fn api(&self) -> String {
        format!("https://{}:5665/v1", self.name)
    }

    /// Makes all that the daemon needs, in an empty folder.
    pub(super) fn set_up(&self, folder: &Path) {
        self.lay_out(folder);
        self.make_certificate(folder);
    }

    /// The folders, the plugins and the configuration, owned by the daemon's user.
    fn lay_out(&self, folder: &Path) {
        for name in [
            "etc/conf.d",
            "etc/zones.d",
            "lib/certs",
            "lib/api",
            "log/compat",
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
            copy_program(
                binary_folder().join(name),
                folder.join("plugins").join(name),
            );
        }
        let password = password();
        let configuration = format!(
            r#"const PluginDir = "{SYSTEM_PLUGINS}"
const PluginContribDir = "{plugins}"
const NodeName = "{name}"
const ZoneName = NodeName
include <itl>
include <plugins>
include "zones.conf"
object CheckerComponent "checker" {{ }}
object NotificationComponent "notification" {{ }}
object FileLogger "main-log" {{ path = LogDir + "/icinga2.log" }}
object ApiListener "api" {{
  bind_host = "{address}"
  accept_config = true
  accept_commands = true
}}
object ApiUser "test" {{
  password = "{password}"
  permissions = [ "*" ]
}}
include_recursive "conf.d"
{objects}
"#,
            plugins = folder.join("plugins").display(),
            name = self.name,
            address = self.address,
            objects = self.objects,
        );
        let etc = folder.join("etc");
        fs::write(etc.join("icinga2.conf"), configuration).expect("a configuration");
        fs::write(etc.join("zones.conf"), &self.zones).expect("a configuration");
        for (path, text) in &self.files {
            let path = etc.join(path);
            fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
            fs::write(path, text).expect("a configuration");
        }
        let curl = format!(
            "silent\nshow-error\nfail-with-body\nmax-time = 20\nheader = \"Accept: application/json\"\n\
             user = \"test:{password}\"\ncacert = \"{}\"\nresolve = \"{}:5665:{}\"\n",
            folder.join("lib/certs/ca.crt").display(),
            self.name,
            self.address,
        );
        fs::write(folder.join("curl.conf"), curl).expect("curl's configuration");
        give_to_user(folder);
    }

    /// A certificate for the API, and an authority that signs it where none is given.
    fn make_certificate(&self, folder: &Path) {
        let certs = folder.join("lib/certs");
        let file = |end: &str| path_text(&certs.join(format!("{}.{end}", self.name)));
        let (key, csr, crt) = (file("key"), file("csr"), file("crt"));
        let authority = self.authority.as_deref().unwrap_or(folder);
        if self.authority.is_none() {
            pki(folder, &["new-ca"]);
        }
        let words = ["new-cert", "--cn", &self.name, "--key", &key, "--csr", &csr];
        pki(folder, &words);
        pki(authority, &["sign-csr", "--csr", &csr, "--cert", &crt]);
        fs::copy(authority.join("lib/ca/ca.crt"), certs.join("ca.crt"))
            .expect("the authority's certificate");
    }
}

/// The text of a file of the shipped configuration.
pub fn shipped(name: &str) -> String {
    let path = project().join("icinga2-conf").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs `icinga2 pki` in a folder.
fn pki(folder: &Path, words: &[&str]) {
    let words = [&["pki"], words].concat();
    let output = as_daemon(Command::new("setpriv"), folder, &words)
        .output()
        .expect("setpriv (util-linux)");
    assert!(output.status.success(), "icinga2 {words:?}: {output:?}");
}

/// Makes a `setpriv` one that runs icinga2 with these words: as its user, in a bare environment, its folders in ours.
pub(super) fn as_daemon(mut setpriv: Command, folder: &Path, words: &[&str]) -> Command {
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
