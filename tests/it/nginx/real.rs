//! A real nginx in a namespace with ten ports.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::netns::Netns;
use crate::support::nginx::Nginx;
use crate::support::plugin::{Outcome, outcome, plugin};

/// nginx with its log, and an upstream that accepts and never answers.
struct Proxy {
    nginx: Nginx,
    folder: tempfile::TempDir,
    /// One message for each connection that the upstream accepted.
    accepted: Receiver<()>,
    ns: Netns,
}

impl Proxy {
    fn start() -> Self {
        let ns = Netns::new("nginx");
        ns.set("ipv4/ip_local_port_range", "20000 20009");
        let folder = tempfile::tempdir().unwrap();
        // Clients come through a unix socket: they take no ports.
        let http = format!(
            "server {{
               listen 127.0.0.1:8080; listen unix:{}; server_name shop.example;
               location /hold {{ proxy_pass http://127.0.0.1:9002; }}
               location /fixed {{ proxy_bind 127.0.0.1:30300; proxy_pass http://127.0.0.1:9002; }}
               location /refused {{ proxy_pass http://127.0.0.1:9099; }}
             }}\n",
            folder.path().join("http").display()
        );
        let upstream = ns.within(|| TcpListener::bind("127.0.0.1:9002").unwrap());
        let (sender, accepted) = channel();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((connection, _)) = upstream.accept() {
                held.push(connection);
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
        let listen: SocketAddrV4 = "127.0.0.1:8080".parse().unwrap();
        let main = "worker_processes 1;";
        let nginx = Nginx::start(&ns, folder.path(), main, &http, listen, None);
        Self {
            nginx,
            folder,
            accepted,
            ns,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn send(&self, path: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.at("http")).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// The status that a client gets.
    fn status(&self, path: &str) -> u16 {
        let mut answer = String::new();
        let mut stream = self.send(path);
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status in {answer:?}"))
    }

    /// A request that is never answered, and holds a port.
    fn hold(&self, path: &str) -> UnixStream {
        let stream = self.send(path);
        self.accepted.recv_timeout(Duration::from_secs(10)).unwrap();
        stream
    }

    /// As logrotate does it: rename, then USR1.
    fn rotate(&self) {
        let log = self.nginx.error_log();
        std::fs::rename(&log, self.at("error.log.1")).unwrap();
        let master = Pid::from_raw(i32::try_from(self.nginx.id()).unwrap()).unwrap();
        kill_process(master, Signal::USR1).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while !log.exists() {
            assert!(Instant::now() < until, "nginx makes no new log");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn check(&self) -> Outcome {
        let mut command = plugin("check_nginx_upstream_bind");
        command.arg("-f").arg(self.at("error.log"));
        outcome(command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", self.at("state")))
    }
}

#[test]
fn what_a_real_nginx_logs_is_counted_exactly_across_a_rotation() {
    let nginx = Proxy::start();
    assert_eq!(nginx.check().code, Some(0));
    for _ in 0..3 {
        assert_eq!(nginx.status("/refused"), 502);
    }
    let found = nginx.check();
    assert_eq!(
        (found.code, found.metric("refused")),
        (Some(0), Some(3.0)),
        "{}",
        found.text
    );

    // Ten ports, ten connections: the eleventh finds none.
    let mut held: Vec<_> = (0..10).map(|_| nginx.hold("/hold")).collect();
    for _ in 0..7 {
        assert_eq!(nginx.status("/hold"), 502);
    }
    // A fixed port serves one connection at a time.
    held.push(nginx.hold("/fixed"));
    for _ in 0..4 {
        assert_eq!(nginx.status("/fixed"), 500);
    }
    let found = nginx.check();
    assert_eq!(found.code, Some(2), "{}", found.text);
    let counts = |found: &Outcome| {
        ["no_free_port", "bind_in_use", "refused"].map(|label| found.metric(label))
    };
    assert_eq!(
        counts(&found),
        [Some(7.0), Some(4.0), Some(3.0)],
        "{}",
        found.text
    );
    assert!(
        found.text.contains("upstreams: 127.0.0.1:9002 11 (100 %)"),
        "{}",
        found.text
    );
    assert!(
        found.text.contains("servers: shop.example 11 (100 %)"),
        "{}",
        found.text
    );

    assert_eq!(nginx.status("/hold"), 502);
    nginx.rotate();
    for _ in 0..5 {
        assert_eq!(nginx.status("/hold"), 502);
    }
    for _ in 0..2 {
        let found = nginx.check();
        assert_eq!(
            counts(&found),
            [Some(13.0), Some(4.0), Some(3.0)],
            "{}",
            found.text
        );
        assert_eq!(found.metric("connections"), Some(17.0), "{}", found.text);
    }
    drop(held);
}

#[test]
fn what_to_change_is_explained_by_the_ports_of_the_proxy() {
    let nginx = Proxy::start();
    let held: Vec<_> = (0..10).map(|_| nginx.hold("/hold")).collect();
    assert_eq!(nginx.status("/hold"), 502);
    let explained = |command: &mut std::process::Command| {
        command
            .arg("--explain")
            .arg("-f")
            .arg(nginx.at("error.log"));
        outcome(command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", nginx.at("state")))
    };
    // From beside it, as an agent on its host runs, and from outside of its container.
    let mut beside = nginx
        .ns
        .command(plugin("check_nginx_upstream_bind").get_program());
    for found in [
        explained(&mut beside),
        explained(&mut plugin("check_nginx_upstream_bind")),
    ] {
        assert_eq!(found.code, Some(2), "{}", found.text);
        for words in [
            "127.0.0.1:9002 from 127.0.0.1: 10 of 10 ports used (100 %)",
            "ports 20000-20009",
            "What to change, what helps most first",
        ] {
            assert!(found.text.contains(words), "{words}: {}", found.text);
        }
    }
    drop(held);
}
