//! Real proxies of other makes in a namespace with ten ports, all of which are taken.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

use crate::support::child;
use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, outcome, plugin};
use crate::support::skip::skip;

/// The upstream towards which no port is left, one that is silent, one that closes, and one that is not there.
const FULL: &str = "127.0.0.1:9002";
const SILENT: &str = "127.0.0.1:9003";
const CLOSES: &str = "127.0.0.1:9004";
const NOBODY: &str = "127.0.0.1:9099";

/// A namespace in which no port is left towards one upstream.
struct Full {
    ns: Netns,
    folder: tempfile::TempDir,
    _held: Vec<TcpStream>,
    _listeners: [TcpListener; 2],
    closes: TcpListener,
}

impl Full {
    fn new(tag: &str) -> Self {
        let ns = Netns::new(tag);
        ns.set("ipv4/ip_local_port_range", "20000 20009");
        let listen = |address: &str| ns.within(|| TcpListener::bind(address).unwrap());
        let listeners = [listen(FULL), listen(SILENT)];
        let closes = listen(CLOSES);
        let accepting = closes.try_clone().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut connection, _)) = accepting.accept() {
                let _ = connection.read(&mut [0; 4096]);
            }
        });
        let held = ns.within(|| {
            let held = (0..10).map(|_| TcpStream::connect(FULL).unwrap());
            held.collect()
        });
        Self {
            ns,
            folder: tempfile::tempdir().unwrap(),
            _held: held,
            _listeners: listeners,
            closes,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn check(&self, log: &str) -> Outcome {
        let mut command = plugin("check_nginx_upstream_bind");
        command.arg("-f").arg(self.at(log)).arg("-v");
        outcome(command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", self.at("state")))
    }

    /// Starts a proxy in it, what it prints in files.
    fn start(&self, program: &str, arguments: &[&str]) -> Running {
        let mut command = self.ns.command("setpriv");
        command
            .args(["--pdeathsig", "TERM", program])
            .args(arguments);
        let file = |name| File::create(self.at(name)).unwrap();
        command.stdout(file("stdout")).stderr(file("stderr"));
        Running(command.process_group(0).spawn().unwrap())
    }

    fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !holds() {
            let said = fs::read_to_string(self.at("stderr")).unwrap_or_default();
            assert!(Instant::now() < until, "waited until {what}: {said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        // Nobody accepts there any more.
        let _ = shutdown(&self.closes, Shutdown::Both);
    }
}

/// A proxy; ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        child::end(&mut self.0);
    }
}

/// The status that a client gets.
fn status(mut stream: impl Read + Write, path: &str) -> u16 {
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status in {answer:?}"))
}

fn counts<const N: usize>(found: &Outcome, labels: [&str; N]) -> [Option<f64>; N] {
    labels.map(|label| found.metric(label))
}

#[test]
fn what_a_real_haproxy_says_is_counted_once() {
    if !Path::new("/usr/sbin/haproxy").exists() {
        return skip("there is no haproxy");
    }
    let full = Full::new("haproxy");
    let socket = full.at("socket");
    let configuration = format!(
        "global
  log stdout format rfc5424 local0
  log stderr format rfc3164 local0
defaults
  mode http
  log global
  option httplog
  timeout connect 2s
  timeout client 5s
  timeout server 300ms
  retries 2
frontend f
  bind unix@{}
  use_backend full if {{ path /full }}
  use_backend bound if {{ path /bound }}
  use_backend silent if {{ path /silent }}
  use_backend closes if {{ path /closes }}
  default_backend empty
backend full
  server s1 {FULL}
backend bound
  server s1 {SILENT} source 192.0.2.77
backend silent
  server s1 {SILENT}
backend closes
  server s1 {CLOSES}
backend empty
",
        socket.display()
    );
    fs::write(full.at("haproxy.cfg"), configuration).unwrap();
    let path = full.at("haproxy.cfg");
    let _haproxy = full.start("/usr/sbin/haproxy", &["-db", "-f", path.to_str().unwrap()]);
    full.wait_for("it listens", || UnixStream::connect(&socket).is_ok());
    for (path, expected) in [
        ("/full", 503),
        ("/full", 503),
        ("/bound", 503),
        ("/silent", 504),
        ("/closes", 502),
        ("/nowhere", 503),
    ] {
        let stream = UnixStream::connect(&socket).unwrap();
        assert_eq!(status(stream, path), expected, "{path}");
    }
    // Its log as RFC 5424 has it, and as RFC 3164 with what it says on standard error between.
    for log in ["stdout", "stderr"] {
        full.wait_for("all is logged", || {
            fs::read_to_string(full.at(log))
                .unwrap()
                .contains("GET /nowhere ")
        });
        let found = full.check(log);
        assert_eq!(found.code, Some(2), "{}", found.text);
        // Each request is tried three times; the line of the request itself adds none.
        let labels = [
            "no_free_port",
            "bind_in_use",
            "timeout",
            "closed_early",
            "no_live_upstreams",
            "other_upstream",
        ];
        assert_eq!(
            counts(&found, labels),
            [6.0, 3.0, 1.0, 1.0, 1.0, 0.0].map(Some),
            "{}",
            found.text
        );
        assert!(
            found
                .text
                .contains("upstreams: full 6 (67 %), bound 3 (33 %)"),
            "{}",
            found.text
        );
        assert!(found.text.contains("clients get 503"), "{}", found.text);
        assert!(!found.text.contains("proxy_bind"), "{}", found.text);
    }
}

#[test]
fn what_a_real_apache_says_is_counted_once() {
    let modules = Path::new("/usr/lib/apache2/modules");
    if !Path::new("/usr/sbin/apache2").exists() || !modules.join("mod_proxy_http.so").exists() {
        return skip("there is no apache2");
    }
    let full = Full::new("apache");
    // Its clients take ports of another namespace.
    let clients = Netns::new("apache-clients");
    full.ns.link("192.0.2.1/24", &clients, "192.0.2.2/24");
    let load = ["mpm_event", "authz_core", "proxy", "proxy_http"].map(|name| {
        let file = modules.join(format!("mod_{name}.so"));
        format!("LoadModule {name}_module {}", file.display())
    });
    let load = load.join("\n");
    let folder = full.folder.path().display();
    let configuration = format!(
        "ServerRoot {folder}\nPidFile {folder}/pid\nDefaultRuntimeDir {folder}\nMutex pthread\n\
         Listen 192.0.2.1:8080\nServerName shop.example\nErrorLog {folder}/error.log\nLogLevel warn\n{load}\n\
         StartServers 1\nProxyTimeout 1\n\
         ProxyPass /full http://{FULL}/ retry=0\n\
         ProxyPass /nobody http://{NOBODY}/ retry=0\n\
         ProxyPass /silent http://{SILENT}/ retry=0\n\
         ProxyPass /closes http://{CLOSES}/ retry=0\n"
    );
    fs::write(full.at("apache.conf"), configuration).unwrap();
    let path = full.at("apache.conf");
    let _apache = full.start(
        "/usr/sbin/apache2",
        &["-DFOREGROUND", "-f", path.to_str().unwrap()],
    );
    let connect = || clients.within(|| TcpStream::connect("192.0.2.1:8080"));
    full.wait_for("it listens", || connect().is_ok());
    for (path, expected) in [
        ("/full", 503),
        ("/full", 503),
        ("/full", 503),
        ("/nobody", 503),
        ("/silent", 502),
        ("/closes", 502),
    ] {
        assert_eq!(status(connect().unwrap(), path), expected, "{path}");
    }
    let found = full.check("error.log");
    assert_eq!(found.code, Some(2), "{}", found.text);
    let labels = [
        "no_free_port",
        "refused",
        "timeout",
        "closed_early",
        "resolver",
        "other_upstream",
    ];
    assert_eq!(
        counts(&found, labels),
        [3.0, 1.0, 1.0, 1.0, 0.0, 0.0].map(Some),
        "{}",
        found.text
    );
    assert!(
        found.text.contains("upstreams: 127.0.0.1:9002 3 (100 %)"),
        "{}",
        found.text
    );
    assert!(found.text.contains("clients get 503"), "{}", found.text);
    // Given another proxy's words it finds nothing that it knows.
    let mut command = plugin("check_nginx_upstream_bind");
    command
        .args(["--dialect", "nginx", "-f"])
        .arg(full.at("error.log"));
    let other = outcome(command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", full.at("state")));
    assert_eq!(other.code, Some(3), "{}", other.text);
}
