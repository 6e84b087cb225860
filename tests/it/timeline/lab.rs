//! A proxy with backends on the loopback of a network namespace, users that go on asking, and the logs of it all.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{document, timeline};
use crate::support::netns::Netns;
use crate::support::nginx::Nginx;
use crate::support::plugin::{copy_program, search_path};

/// Where the proxy listens.
pub const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8000);

/// What the access log says.
const FORM: &str = r#"log_format lab '$remote_addr [$time_local] "$request" $status $host $request_time "$upstream_addr" "$upstream_status" "$upstream_response_time"'; access_log requests.log lab;"#;

/// The namespace and its files.
pub struct Lab {
    pub netns: Arc<Netns>,
    folder: TempDir,
}

/// The address of a backend.
pub fn backend(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, number), 8080)
}

impl Lab {
    /// An empty one.
    pub fn new(tag: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("timeline-")
            .tempdir()
            .expect("a temporary folder");
        Self {
            netns: Arc::new(Netns::new(tag)),
            folder,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the proxy; `http` goes beside its server, `server` into it.
    pub fn proxy(&self, main: &str, http: &str, server: &str) -> Nginx {
        self.proxy_as("nginx".as_ref(), main, http, server)
    }

    /// The same whose program has another name: whoever judges all nginx of this host does not judge it.
    pub fn hidden_proxy(&self, main: &str, http: &str, server: &str) -> Nginx {
        let path = search_path();
        let mut programs = std::env::split_paths(&path).map(|folder| folder.join("nginx"));
        let program = self.path("program");
        copy_program(
            programs.find(|path| path.is_file()).expect("nginx"),
            &program,
        );
        self.proxy_as(&program, main, http, server)
    }

    fn proxy_as(&self, program: &Path, main: &str, http: &str, server: &str) -> Nginx {
        let http = format!(
            "{http}\nserver {{ {FORM}\nlisten {PROXY}; server_name service1.example; {server} }}\n"
        );
        // A log_format stands beside servers.
        let http = http.replacen(FORM, "access_log requests.log lab;", 1);
        let form = FORM.split(" access_log").next().expect("a first part");
        Nginx::start_as(
            program,
            &self.netns,
            &self.path("proxy"),
            main,
            &format!("{form}\n{http}"),
            PROXY,
            None,
        )
    }

    /// Starts a backend that is an nginx.
    pub fn nginx(&self, listen: SocketAddrV4, server: &str) -> Nginx {
        let folder = self.path(&format!("backend-{}", listen.ip()));
        let http =
            format!("access_log off; server {{ {server} location / {{ return 200 well; }} }}\n");
        Nginx::start(
            &self.netns,
            &folder,
            "worker_processes 1;",
            &http,
            listen,
            None,
        )
    }

    /// Users ask for so long, one request every few milliseconds, whatever they get.
    pub fn ask_for(&self, time: Duration) {
        self.netns.within(|| {
            let until = Instant::now() + time;
            let mut number = 0;
            while Instant::now() < until {
                let service = ["service1.example", "intra1.example"][number % 2];
                number += 1;
                let _ = ask(service);
                std::thread::sleep(Duration::from_millis(15));
            }
        });
    }

    /// What the timeline makes of it.
    pub fn report(&self, more: &[&str]) -> Value {
        let folder = self.path("proxy");
        let mut command = timeline();
        command.current_dir(&folder).args([
            "-e",
            "error.log",
            "-a",
            "requests.log",
            "--nginx-conf",
            "nginx.conf",
        ]);
        document(command.args(more))
    }
}

/// One request, read to its end.
fn ask(service: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(PROXY)?;
    let patience = Some(Duration::from_millis(800));
    stream.set_read_timeout(patience)?;
    write!(stream, "GET /api/v1 HTTP/1.0\r\nHost: {service}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// That this is the top-ranked cause, and that nobody blames the ports.
pub fn assert_cause(document: &Value, cause: &str) {
    let causes = document["causes"].as_array().expect("a list");
    assert_eq!(causes[0]["cause"], cause, "{causes:#?}");
    assert!(
        causes[0]["score"].as_f64().expect("a number") > 0.5,
        "{causes:#?}"
    );
    assert!(
        !causes[0]["for"].as_array().expect("a list").is_empty(),
        "{causes:#?}"
    );
    assert!(
        !causes[0]["next"].as_array().expect("a list").is_empty(),
        "{causes:#?}"
    );
    let ports = causes
        .iter()
        .find(|one| one["cause"] == "client-ports")
        .expect("always there");
    assert_eq!(ports["score"], 0.0, "{ports}");
    assert!(
        !ports["against"].as_array().expect("a list").is_empty(),
        "{ports}"
    );
}

/// A backend that misbehaves on command; ends with the test's process.
pub struct Odd(Arc<AtomicU8>);

/// How it answers.
pub const WELL: u8 = 0;
pub const LATE: u8 = 1;
pub const CLOSES: u8 = 2;

impl Odd {
    /// Starts it.
    pub fn start(lab: &Lab, listen: SocketAddrV4) -> Self {
        let how = Arc::new(AtomicU8::new(WELL));
        let listener = lab
            .netns
            .within(|| TcpListener::bind(SocketAddr::V4(listen)))
            .expect("the address is free");
        let mood = Arc::clone(&how);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mood = mood.load(Ordering::SeqCst);
                std::thread::spawn(move || serve(stream, mood));
            }
        });
        Self(how)
    }

    /// From now on it answers like this.
    pub fn turn(&self, how: u8) {
        self.0.store(how, Ordering::SeqCst);
    }
}

fn serve(mut stream: TcpStream, mood: u8) -> std::io::Result<()> {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request)?;
    match mood {
        LATE => std::thread::sleep(Duration::from_millis(900)),
        CLOSES => return Ok(()),
        _ => {}
    }
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nwell")
}

/// The text of a file of the lab.
pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
