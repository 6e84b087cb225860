//! The incident, replayed: a client, a proxy and a backend in network namespaces of their own, a real nginx on the
//! latter two, and a crowd of users that takes the proxy's last client ports.
//!
//! ```text
//! client 192.0.2.1 ── 192.0.2.2 proxy 198.51.100.1 ── 198.51.100.2 backend
//!                     nginx :80, 256 client ports      nginx :8080
//! ```
//!
//! Everything that takes a port is real, and is known to the last port:
//!
//! * *TIME_WAIT*: `/api/` goes to the backend over HTTP/1.1 with keep-alive but without a pool, so that the proxy
//!   closes first and its port is gone for 60 s. A burst of these makes the base.
//! * *ESTABLISHED*: `/archive` is a large file, and the crowd's clients do not read it. The proxy's connection to the
//!   backend stays for as long as they stay; since there is unread data on it, closing it is a reset, and the port
//!   is free at once.
//! * the page that gets probed is asked for over HTTP/1.0, nginx' default before 1.29.7, and sent without a length, so
//!   that the backend closes first: a probe gives its port back at once, and probing does not change what it measures.

use std::fs;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::crowd::{Crowd, fetch};
use super::netns::Netns;
use super::nginx::{Nginx, Request};
use super::plugin::binary_folder;
use super::tcp_table;

/// Where the proxy listens.
pub const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 80);
/// Where the backend listens: the destination whose ports run out.
pub const BACKEND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), 8080);
/// The proxy's first and last client port.
pub const RANGE: (u16, u16) = (20_000, 20_255);
/// How many there are.
pub const PORTS: usize = (RANGE.1 - RANGE.0 + 1) as usize;
/// How many of them the base of TIME_WAIT takes.
pub const BASE: usize = 100;
/// How many the crowd leaves when it gives way.
pub const SPARE: usize = 8;

/// The longest that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How nginx takes a client port, and so how it fails when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `bind(0.0.0.0)` before `connect()`, as nginx before 1.11.4 does for `proxy_bind`: a port must be free of every
    /// other connection.
    Bind,
    /// `connect()` alone: a port must be free towards this one destination.
    Connect,
}

impl Kind {
    /// What the client gets.
    pub fn status(self) -> u16 {
        match self {
            Self::Bind => 500,
            Self::Connect => 502,
        }
    }

    /// What `check_nginx_upstream_bind` calls it.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Bind => "bind-in-use",
            Self::Connect => "no-free-port",
        }
    }

    /// What a line of the error log holds that speaks of it, and no other line.
    pub fn error(self) -> &'static str {
        match self {
            Self::Bind => "bind(0.0.0.0) failed (98: ",
            Self::Connect => "connect() to 198.51.100.2:8080 failed (99: ",
        }
    }
}

/// Makes the kernel look like one that does not know `IP_BIND_ADDRESS_NO_PORT` (Linux before 4.2, some sandboxes).
const REFUSE_BIND_ADDRESS_NO_PORT: &str = r"#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>

int setsockopt(int fd, int level, int name, const void *value, socklen_t length) {
    int (*real)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, __func__);
    if (level == IPPROTO_IP && name == 24 /* IP_BIND_ADDRESS_NO_PORT */)
        return errno = ENOPROTOOPT, -1;
    return real(fd, level, name, value, length);
}
";

/// The running replay. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Incident {
    kind: Kind,
    crowd: Arc<Crowd>,
    nginx: Nginx,
    _backend_nginx: Nginx,
    /// Where the users and `check_http_retry` are.
    pub client: Arc<Netns>,
    /// Where the client ports run out.
    pub proxy: Netns,
    /// Where what stands behind the proxy is.
    pub backend: Netns,
    folder: TempDir,
    plugins: PathBuf,
}

impl Incident {
    /// Whether this machine can replay it; if not, why.
    pub fn possible() -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root, and this is not root".to_owned());
        }
        for program in ["ip", "setpriv", "nginx", "cc"] {
            let answer = Command::new(program).arg("-V").output();
            answer.map_err(|error| format!("cannot run {program}: {error}"))?;
        }
        Netns::possible()
    }

    /// Starts it: all is well, [`BASE`] ports are taken.
    pub fn start(kind: Kind) -> Self {
        Self::start_with(kind, binary_folder())
    }

    /// The same with plugins from another folder than this program's.
    pub fn start_with(kind: Kind, plugins: PathBuf) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("incident-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder");
        let client = Arc::new(Netns::new("client"));
        let (proxy, backend) = (Netns::new("proxy"), Netns::new("backend"));
        client.link("192.0.2.1/24", &proxy, "192.0.2.2/24");
        proxy.link("198.51.100.1/24", &backend, "198.51.100.2/24");
        proxy.set(
            "ipv4/ip_local_port_range",
            &format!("{} {}", RANGE.0, RANGE.1),
        );
        // Small buffers: a client that does not read holds up the backend after a few kilobytes.
        for netns in [&client, &proxy, &backend] {
            netns.set("ipv4/tcp_rmem", "4096 16384 32768");
            netns.set("ipv4/tcp_wmem", "4096 16384 32768");
        }
        let backend_nginx = start_backend(&backend, &folder.path().join("backend"));
        let nginx = start_proxy(kind, &proxy, &folder.path().join("proxy"));
        let incident = Self {
            kind,
            crowd: Arc::new(Crowd::default()),
            nginx,
            _backend_nginx: backend_nginx,
            client,
            proxy,
            backend,
            folder,
            plugins,
        };
        incident.make_time_wait(BASE);
        incident
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The proxy's nginx with its logs.
    pub fn nginx(&self) -> &Nginx {
        &self.nginx
    }

    /// A folder that goes with it; other users may look into it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn plugin(&self, netns: &Netns, name: &str) -> Command {
        netns.command(self.plugins.join(name))
    }

    /// `check_http_retry` where the users are, on the page that gets probed.
    pub fn check_http_retry(&self) -> Command {
        let mut command = self.plugin(&self.client, "check_http_retry");
        command.args([
            "-H",
            "service1.example",
            "-I",
            &PROXY.ip().to_string(),
            "-u",
            "/",
        ]);
        command
    }

    /// `check_port_exhaustion` where the ports run out.
    pub fn check_port_exhaustion(&self) -> Command {
        self.plugin(&self.proxy, "check_port_exhaustion")
    }

    /// `check_nginx_upstream_bind` on the proxy's error log, run in its folder; the state file goes with the incident.
    pub fn check_nginx_upstream_bind(&self) -> Command {
        let log = self.nginx.error_log();
        let mut command = self.plugin(&self.proxy, "check_nginx_upstream_bind");
        command.current_dir(log.parent().expect("a file lies in a folder"));
        command.args(["-f", "error.log", "--state-file", "state"]);
        command
    }

    /// What one more user gets for the page that gets probed.
    pub fn status(&self) -> u16 {
        self.client.within(|| fetch("/", "visitor"))
    }

    /// The crowd takes every port that is left: from now on every request fails.
    pub fn squeeze(&self) {
        self.client.within(|| self.crowd.fill());
        // A connection that was under way when the last port went may have given its own back.
        let deadline = Instant::now() + PATIENCE;
        while self.status() == 200 {
            assert!(Instant::now() < deadline, "the ports do not run out");
            self.client.within(|| self.crowd.fill());
        }
    }

    /// The crowd gives [`SPARE`] ports back: from now on every request succeeds.
    pub fn relax(&self) {
        self.crowd.leave(SPARE);
        self.wait_for_ports(PORTS - SPARE);
    }

    /// The crowd goes; the base of TIME_WAIT stays, and a few more where a client gave up on its request: then it is the
    /// proxy that closes first.
    pub fn calm(&self) {
        self.crowd.leave(usize::MAX);
        self.wait_for_ports(BASE + SPARE / 2);
    }

    /// The crowd goes and comes by itself until the answer is dropped: for `spare` it leaves some ports, for `full` it
    /// takes all.
    #[must_use]
    pub fn oscillate(&self, spare: Duration, full: Duration) -> Load<'_> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (client, crowd) = (Arc::clone(&self.client), Arc::clone(&self.crowd));
        let thread = std::thread::spawn(move || {
            client.within(move || crowd.go_and_come(spare, full, &stopped));
        });
        Load {
            stop: Some(stop),
            thread: Some(thread),
            incident: PhantomData,
        }
    }

    /// How many of the proxy's ports are taken towards the backend.
    pub fn ports_taken(&self) -> usize {
        self.proxy.within(|| tcp_table::connected_to(BACKEND))
    }

    /// The requests of one agent, once there are as many in the access log: nginx answers first and logs then.
    pub fn requests_of(&self, agent: &str, count: usize) -> Vec<Request> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut requests = self.nginx.requests();
            requests.retain(|request| request.agent == agent);
            if requests.len() >= count || Instant::now() > deadline {
                return requests;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until no more than so many of the proxy's ports are taken towards the backend.
    pub fn wait_for_ports(&self, at_most: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.ports_taken() > at_most {
            assert!(
                Instant::now() < deadline,
                "{} ports are still taken",
                self.ports_taken()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn make_time_wait(&self, count: usize) {
        self.client.within(|| {
            for _ in 0..count {
                assert_eq!(fetch("/api/status", "script"), 200);
            }
        });
        let taken = self.ports_taken();
        assert_eq!(taken, count, "the proxy keeps a TIME_WAIT for each request");
    }
}

/// The crowd goes and comes until this is dropped; then its thread has ended, and the ports that it holds at that
/// moment stay taken.
#[derive(Debug)]
pub struct Load<'a> {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    incident: PhantomData<&'a Incident>,
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(panic)) = ended
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn start_backend(netns: &Netns, folder: &Path) -> Nginx {
    let pages = folder.join("pages");
    fs::create_dir_all(pages.join("api")).expect("a folder for pages");
    let page = "<!DOCTYPE html>\n<title>service1</title>\n<p>All is well.</p>\n";
    fs::write(pages.join("index.html"), page).expect("a page");
    fs::write(pages.join("api/status"), "well\n").expect("a page");
    let archive = fs::File::create(pages.join("archive")).expect("an archive");
    archive.set_len(16 << 20).expect("a large one");
    // Whoever looks through a page for server-side includes cannot say its length beforehand.
    let http = format!(
        "sendfile on; send_timeout 1h; keepalive_requests 10000; access_log off;
    server {{
        listen {BACKEND} backlog=1024;
        root {};
        location = / {{ index index.html; }}
        location = /index.html {{ ssi on; }}
        location / {{ }}
    }}
",
        pages.display()
    );
    Nginx::start(netns, folder, "worker_processes 1;", &http, BACKEND, None)
}

fn start_proxy(kind: Kind, netns: &Netns, folder: &Path) -> Nginx {
    fs::create_dir_all(folder).expect("a folder for the proxy");
    let (bind, preload) = match kind {
        Kind::Bind => ("proxy_bind 0.0.0.0;", Some(build_preload(folder))),
        Kind::Connect => ("", None),
    };
    let http = format!(
        "send_timeout 1h; proxy_read_timeout 1h; proxy_max_temp_file_size 0;
    server {{
        listen {PROXY} backlog=1024;
        server_name service1.example;
        {bind}
        location / {{
            proxy_pass http://{BACKEND};
            proxy_http_version 1.0;
        }}
        location /api/ {{
            proxy_pass http://{BACKEND};
            proxy_http_version 1.1;
            proxy_set_header Connection keep-alive;
        }}
    }}
"
    );
    let main = "worker_processes 2;";
    Nginx::start(netns, folder, main, &http, PROXY, preload.as_deref())
}

/// Compiles [`REFUSE_BIND_ADDRESS_NO_PORT`].
fn build_preload(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("refuse.c"), folder.join("refuse.so"));
    fs::write(&source, REFUSE_BIND_ADDRESS_NO_PORT).expect("a C file");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .expect("a C compiler (apt-get install gcc libc6-dev)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cc: {errors}");
    library
}
