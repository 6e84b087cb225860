//! A real nginx as a child process: its own configuration, logs and folders, nothing of the system's.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddrV4;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::child;
use super::netns::Netns;
use super::tcp_table;

/// What is the same for every nginx of ours. The access log is nginx' "combined" and, behind it, what brings a
/// probe and its line together: seconds, request id, client port, upstream.
const COMMON: &str = r#"daemon off;
user root;
pid nginx.pid;
error_log error.log error;
worker_rlimit_nofile 4096;
events { worker_connections 1024; }
http {
    default_type text/html;
    server_tokens off;
    client_body_temp_path tmp;
    proxy_temp_path tmp;
    fastcgi_temp_path tmp;
    uwsgi_temp_path tmp;
    scgi_temp_path tmp;
    log_format traced '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
                      '"$http_referer" "$http_user_agent" $request_time "$http_x_request_id" '
                      '$remote_port $upstream_addr';
    access_log access.log traced;
"#;

/// A running nginx; ended and waited for when dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    folder: PathBuf,
}

impl Nginx {
    /// Starts one in a namespace and waits until it listens on `listen`. `main` and `http` go into
    /// those two blocks of its configuration; `preload` is a shared library that it loads first.
    ///
    /// It ends with the thread that called, should that die without having dropped it.
    pub fn start(
        netns: &Netns,
        folder: &Path,
        main: &str,
        http: &str,
        listen: SocketAddrV4,
        preload: Option<&Path>,
    ) -> Self {
        Self::start_as("nginx", netns, folder, main, http, listen, preload)
    }

    /// The same with a program of another name, which then is no proxy to `check_port_exhaustion`: that looks at each
    /// nginx of the host.
    pub fn start_as(
        program: impl AsRef<OsStr>,
        netns: &Netns,
        folder: &Path,
        main: &str,
        http: &str,
        listen: SocketAddrV4,
        preload: Option<&Path>,
    ) -> Self {
        fs::create_dir_all(folder.join("tmp")).expect("a folder for nginx");
        fs::write(
            folder.join("nginx.conf"),
            format!("{main}\n{COMMON}{http}}}\n"),
        )
        .expect("a configuration for nginx");
        let mut command = netns.command("setpriv");
        command.args(["--pdeathsig", "TERM", "env"]);
        if let Some(library) = preload {
            command.arg(format!("LD_PRELOAD={}", library.display()));
        }
        // The prefix needs its slash: nginx puts it in front of every relative path as it is.
        command
            .arg(program)
            .args(["-c", "nginx.conf", "-e", "error.log", "-p"])
            .arg(folder.join(""));
        let child = Self::spawn(&mut command, folder);
        let mut nginx = Self {
            child,
            folder: folder.to_owned(),
        };
        nginx.wait_until_it_listens(netns, listen);
        nginx
    }

    fn spawn(command: &mut Command, folder: &Path) -> Child {
        let output = File::create(folder.join("output")).expect("a file for nginx' output");
        command
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            // Ctrl-C on the terminal is for us; we end nginx ourselves.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
    }

    /// Looks for the listener rather than connect to it: that would take a client port.
    fn wait_until_it_listens(&mut self, netns: &Netns, listen: SocketAddrV4) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while netns.within(|| tcp_table::listening_on(listen)) == 0 {
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "nginx does not listen on {listen}: {}{}",
                fs::read_to_string(self.folder.join("output")).unwrap_or_default(),
                fs::read_to_string(self.error_log()).unwrap_or_default(),
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process id of the master.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The path of its error log.
    pub fn error_log(&self) -> PathBuf {
        self.folder.join("error.log")
    }

    /// The path of its access log.
    pub fn access_log(&self) -> PathBuf {
        self.folder.join("access.log")
    }

    /// How many lines of the error log hold this text.
    pub fn error_lines(&self, needle: &str) -> usize {
        let log = fs::read(self.error_log()).expect("nginx has an error log");
        String::from_utf8_lossy(&log)
            .lines()
            .filter(|line| line.contains(needle))
            .count()
    }

    /// The requests that it has logged, in order.
    pub fn requests(&self) -> Vec<Request> {
        let log = fs::read_to_string(self.access_log()).expect("nginx has an access log");
        log.lines().map(Request::read).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        child::end(&mut self.child);
    }
}

/// One line of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The request line.
    pub line: String,
    /// The status that the client got.
    pub status: u16,
    /// The User-Agent; `-` for none.
    pub agent: String,
    /// The X-Request-Id; `-` for none.
    pub id: String,
    /// The client's port.
    pub port: u16,
}

impl Request {
    fn read(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|| panic!("not of our log format: {text}"))
    }

    fn parse(text: &str) -> Option<Self> {
        // `address - user [time] "request" status bytes "referer" "agent" seconds "id" port upstream`; a quote
        // within a field is \x22.
        let parts: Vec<_> = text.split('"').collect();
        let [_, line, numbers, _, _, agent, _, id, ends] = parts[..] else {
            return None;
        };
        let first = |part: &str| part.split_whitespace().next()?.parse().ok();
        Some(Self {
            line: line.to_owned(),
            status: first(numbers)?,
            agent: agent.to_owned(),
            id: id.to_owned(),
            port: first(ends)?,
        })
    }
}
