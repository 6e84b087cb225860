//! A real nginx in a namespace with ten ports.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, outcome, plugin};

/// nginx with its log, and an upstream that accepts and never answers.
struct Nginx {
    folder: tempfile::TempDir,
    master: Child,
    /// One message for each connection that the upstream accepted.
    accepted: Receiver<()>,
    _ns: Netns,
}

impl Nginx {
    fn start() -> Self {
        let ns = Netns::new("nginx");
        ns.set("ipv4/ip_local_port_range", "20000 20009");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        // Clients come through a unix socket: they take no ports.
        let configuration = format!(
            "daemon off; user root; worker_processes 1; pid {path}/pid; error_log {path}/error.log;
             events {{ worker_connections 256; }}
             http {{
               access_log off; client_body_temp_path {path}/t; proxy_temp_path {path}/t; fastcgi_temp_path {path}/t;
               uwsgi_temp_path {path}/t; scgi_temp_path {path}/t;
               server {{
                 listen unix:{path}/http; server_name shop.example;
                 location /hold {{ proxy_pass http://127.0.0.1:9002; }}
                 location /fixed {{ proxy_bind 127.0.0.1:30300; proxy_pass http://127.0.0.1:9002; }}
                 location /refused {{ proxy_pass http://127.0.0.1:9099; }}
               }}
             }}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
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
        let errors = std::fs::File::create(folder.path().join("stderr")).unwrap();
        let mut command = ns.command("/usr/sbin/nginx");
        command.arg("-p").arg(folder.path());
        command.arg("-c").arg(folder.path().join("nginx.conf"));
        let master = command
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        let nginx = Self {
            folder,
            master,
            accepted,
            _ns: ns,
        };
        nginx.wait_until("it listens", || {
            UnixStream::connect(nginx.at("http")).is_ok()
        });
        nginx
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(10);
        while !holds() {
            let said = std::fs::read_to_string(self.at("stderr")).unwrap_or_default();
            assert!(
                Instant::now() < until,
                "waited for nginx until {what}: {said}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
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
        std::fs::rename(self.at("error.log"), self.at("error.log.1")).unwrap();
        let master = Pid::from_raw(i32::try_from(self.master.id()).unwrap()).unwrap();
        kill_process(master, Signal::USR1).unwrap();
        self.wait_until("it has a new log", || self.at("error.log").exists());
    }

    fn check(&self) -> Outcome {
        let mut command = plugin("check_nginx_upstream_bind");
        command.arg("-f").arg(self.at("error.log"));
        outcome(command.env("NAGIOS_PLUGIN_STATE_DIRECTORY", self.at("state")))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(master) = i32::try_from(self.master.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(master, Signal::TERM);
        }
        let _ = self.master.wait();
    }
}

#[test]
fn what_a_real_nginx_logs_is_counted_exactly_across_a_rotation() {
    let nginx = Nginx::start();
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
