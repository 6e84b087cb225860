//! A real Icinga 2 with the shipped passive service, a site to watch, and what Icinga wrote down of the results.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::cutting_proxy::CuttingProxy;
use crate::support::fault_server::{Act, FaultServer, page};
use crate::support::icinga::Icinga;
use crate::support::icinga::setup::Node;
use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, binary_folder, check_output, outcome};

/// The service, made by `icinga2-conf/passive.conf`.
pub const SERVICE: &str = "web!watched-site";

/// The ApiUser as the file's comment has it, and one that may not ask. Every result is written down.
const OBJECTS: &str = r#"
object Host "web" {
  check_command = "dummy"
  enable_active_checks = false
  vars.watched_urls["site"] = { }
}
object Service "active" {
  host_name = "web"
  check_command = "dummy"
  enable_active_checks = false
  enable_passive_checks = false
  vars.proxy_checks_submit = true
}
object Service "other" {
  host_name = "web"
  check_command = "dummy"
  enable_active_checks = false
}
object ApiUser "sender" {
  password = "hush"
  permissions = [
    {
      permission = "actions/process-check-result"
      filter = {{ service.vars.proxy_checks_submit }}
    },
    {
      permission = "objects/query/Service"
      filter = {{ service.vars.proxy_checks_submit }}
    }
  ]
}
object ApiUser "blind" {
  password = "hush"
  permissions = [ "actions/process-check-result" ]
}
object ApiUser "looker" {
  password = "hush"
  permissions = [ "objects/query/Service" ]
}
object ApiUser "certificate" {
  client_cn = "icinga.test"
  permissions = [ "actions/process-check-result", "objects/query/Service" ]
}
object PerfdataWriter "written" {
  host_temp_path = SpoolDir + "/host-writing"
  host_perfdata_path = SpoolDir + "/host-written"
  service_temp_path = SpoolDir + "/writing"
  service_perfdata_path = SpoolDir + "/written"
  service_format_template = "$service.output$ $service.long_output$"
  // Once, at its end: a file is named by the second, and a second one in it would take its place.
  rotation_interval = 1h
}
"#;

/// Icinga and where its plugins keep what waits.
pub struct Lab<'a> {
    pub icinga: Icinga<'a>,
    pub folder: TempDir,
    pub port: u16,
    address: Ipv4Addr,
    /// Where the plugins run.
    netns: &'a Netns,
    /// What the daemons that were shut down wrote.
    written: Vec<String>,
}

impl<'a> Lab<'a> {
    /// Starts one on loopback.
    pub fn start(netns: &'a Netns) -> Self {
        Self::start_at(netns, Ipv4Addr::LOCALHOST)
    }

    /// The same on another address.
    pub fn start_at(netns: &'a Netns, address: Ipv4Addr) -> Self {
        let zones =
            "object Endpoint NodeName { }\nobject Zone ZoneName { endpoints = [ NodeName ] }\n";
        let node = Node::of_cluster("icinga.test", address, zones)
            .shipped("passive.conf")
            .objects(OBJECTS);
        Self {
            icinga: Icinga::start_node(netns, &node),
            folder: tempfile::tempdir().expect("a temporary folder"),
            port: 5665,
            address,
            netns,
            written: Vec::new(),
        }
    }

    /// Has the plugins run elsewhere.
    pub fn seen_from(self, netns: &'a Netns) -> Self {
        Self { netns, ..self }
    }

    /// Has the plugins go to another port.
    pub fn through(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// A proxy in front of the API.
    pub fn cutting_proxy(&self, port: u16) -> CuttingProxy {
        self.netns.within(|| {
            let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
            CuttingProxy::on(listener, SocketAddr::from((self.address, 5665)))
        })
    }

    /// A plugin that submits, without what it is to measure.
    pub fn submitting(&self, name: &str) -> Command {
        let mut command = self.bare(name);
        command
            .args(["--submit-ca".as_ref(), self.authority().as_os_str()])
            .args(["--submit-user", "sender"])
            .env("PROXY_CHECKS_SUBMIT_PASSWORD", "hush");
        command
    }

    /// The same without saying who it is and whom to trust.
    pub fn bare(&self, name: &str) -> Command {
        let mut command = self.netns.command(binary_folder().join(name));
        command
            .args(["--submit", &format!("https://icinga.test:{}", self.port)])
            .args(["--submit-address", &self.address.to_string()])
            .args(["--submit-service", SERVICE])
            .args(["--submit-queue".as_ref(), self.queue().as_os_str()])
            .env("NAGIOS_PLUGIN_STATE_DIRECTORY", self.folder.path());
        command
    }

    /// Runs a plugin that submits until a run has nothing but its own result to send, and sends it. A single run waits five
    /// seconds for Icinga; on a machine that is busy beyond that a later one sends what is left.
    pub fn submitted(&self, command: &mut Command) -> Outcome {
        let mut before = self.waiting().len();
        for _ in 0..8 {
            let outcome = outcome(command);
            let after = self.waiting().len();
            if before == 0 && after == 0 {
                return outcome;
            }
            before = after;
        }
        panic!("never without {:?}", self.waiting());
    }

    /// Has another plugin send what a loop could not: its end waits three seconds for Icinga.
    pub fn send_rest(&self) {
        if !self.waiting().is_empty() {
            self.submitted(&mut self.submitting("check_port_exhaustion"));
        }
    }

    /// `check_http_retry` on a site.
    pub fn plugin(&self, site: &Site, words: &[&str]) -> Command {
        let mut command = self.submitting("check_http_retry");
        command
            .args(["-I", "127.0.0.1", "-p", &site.port()])
            .args(words);
        command
    }

    /// The same in a loop.
    pub fn watch(&self, site: &Site, words: &[&str]) -> Loop {
        let mut command = self.plugin(site, words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("a plugin");
        Loop {
            child: Some(child),
            command,
        }
    }

    /// The authority of the API's certificate.
    pub fn authority(&self) -> PathBuf {
        self.icinga.folder().join("lib/certs/ca.crt")
    }

    /// Where the queues are.
    pub fn queue(&self) -> PathBuf {
        self.folder.path().join("queue")
    }

    /// The files of results that wait.
    pub fn waiting(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.queue()).into_iter().flatten().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten());
        let paths = files.flatten().map(|file| file.path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "result"))
            .collect()
    }

    /// The number of the request that the last result is of which Icinga processed.
    pub fn latest(&self) -> usize {
        let service = self.icinga.service(SERVICE);
        let output = service["last_check_result"]["output"].as_str();
        output.and_then(number).unwrap_or_default()
    }

    /// Ends the daemon and takes what it wrote. A daemon names a file by the second, one when it ends and an empty one when
    /// it starts: whatever lies there would be replaced by one that starts within the second.
    pub fn shut_down(&mut self) {
        self.icinga.shut_down();
        let spool = self.icinga.folder().join("spool");
        for entry in fs::read_dir(&spool).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.file_stem().is_some_and(|name| name == "written") {
                let text = fs::read_to_string(&path).expect("what Icinga wrote");
                self.written.extend(text.lines().map(str::to_owned));
                fs::remove_file(&path).expect("a file of ours");
            }
        }
    }

    /// The texts of all results that Icinga processed, in its order; it writes them down when it ends.
    pub fn written(mut self) -> Vec<String> {
        self.shut_down();
        self.written
    }
}

/// The numbers of the requests that these results are of.
pub fn numbers(written: &[String]) -> Vec<usize> {
    written.iter().filter_map(|line| number(line)).collect()
}

fn number(output: &str) -> Option<usize> {
    let (_, rest) = output.split_once("HTTP OK: HTTP/1.1 200 n")?;
    rest.split(' ').next()?.parse().ok()
}

/// A site that numbers its replies.
pub struct Site {
    server: FaultServer,
}

impl Site {
    /// Starts one with these pages, by the number of the request.
    pub fn start(netns: &Netns, page: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = netns.within(|| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
        let server = FaultServer::on(listener, None, move |seen| Act::Send(page(seen.number)));
        Self { server }
    }

    /// One whose status lines are numbered.
    pub fn numbered(netns: &Netns) -> Self {
        Self::start(netns, |number| page(&format!("200 n{number}"), "fine"))
    }

    /// Its port.
    pub fn port(&self) -> String {
        self.server.port()
    }

    /// How many requests came.
    pub fn seen(&self) -> usize {
        self.server.seen().len()
    }
}

/// A plugin in its loop; killed when dropped.
pub struct Loop {
    child: Option<Child>,
    command: Command,
}

impl Loop {
    /// Asks it to end and waits for what it says.
    pub fn end(&mut self, signal: Signal) -> Outcome {
        let child = self.child.take().expect("it runs");
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        let output = child.wait_with_output().expect("a child of ours");
        check_output(&output, &self.command)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !holds() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
