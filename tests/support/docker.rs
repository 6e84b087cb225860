//! A real docker daemon of our own: Debian's `dockerd`, with everything it writes in a temporary folder, its control
//! groups below one of its own, and what it calls the host's network in a network namespace of ours. One that runs on
//! the machine already is not touched, and no registry is reached: images are made of files that are here.
//!
//! The tests that run at the same time share it. It ends with the last of them, a failed one too.

pub mod image;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::child;
use super::netns::Netns;
use super::skip::skip;

use image::Image;

/// The longest that the daemon may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// The one that the tests of this process share, and why there can be none.
static SHARED: Mutex<Shared> = Mutex::new(Shared {
    daemon: Weak::new(),
    impossible: None,
});

struct Shared {
    daemon: Weak<Docker>,
    impossible: Option<String>,
}

/// The daemon.
#[derive(Debug)]
pub struct Docker {
    client: PathBuf,
    images: Mutex<BTreeSet<String>>,
    keeper: Option<(Sender<()>, JoinHandle<()>)>,
    control_group: String,
    /// What `--network host` is.
    pub netns: Netns,
    folder: TempDir,
}

impl Docker {
    /// The running one, or a new one. Where docker cannot run there is none, and the calling test is skipped.
    pub fn here() -> Option<Arc<Self>> {
        Self::start().map_err(|why| skip(&why)).ok()
    }

    /// Where docker cannot run, says why.
    fn start() -> Result<Arc<Self>, String> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &shared.impossible {
            return Err(why.clone());
        }
        if let Some(daemon) = shared.daemon.upgrade() {
            return Ok(daemon);
        }
        match Self::launch() {
            Ok(daemon) => {
                let daemon = Arc::new(daemon);
                shared.daemon = Arc::downgrade(&daemon);
                Ok(daemon)
            }
            Err(why) => {
                shared.impossible = Some(why.clone());
                Err(why)
            }
        }
    }

    fn launch() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("docker's daemon needs root, and this is not root".to_owned());
        }
        let missing = |name: &str, package: &str| {
            format!("there is no {name} (apt-get install --no-install-recommends {package})")
        };
        // Not the first `docker` in the path: that may be somebody's client for another daemon.
        let daemon = program("dockerd").ok_or_else(|| missing("dockerd", "docker.io"))?;
        let client = program("docker").ok_or_else(|| missing("docker", "docker-cli"))?;
        Netns::possible()?;

        let folder = tempfile::Builder::new()
            .prefix("docker-")
            .permissions(fs::Permissions::from_mode(0o711))
            .tempdir()
            .map_err(|error| error.to_string())?;
        let netns = Netns::new("docker");
        // What goes from one bridge to another; and the daemon would complain about it at every run.
        netns.set("ipv4/ip_forward", "1");
        let control_group = netns.name().to_owned();
        let command = daemon_command(&daemon, &netns, folder.path(), &control_group);
        let (stop, stopped) = mpsc::channel();
        let output = folder.path().join("output");
        let keeper = std::thread::spawn(move || keep(command, &output, &stopped));
        let docker = Self {
            client,
            images: Mutex::default(),
            keeper: Some((stop, keeper)),
            control_group,
            netns,
            folder,
        };
        docker.wait_until_it_answers()?;
        docker.try_it()?;
        Ok(docker)
    }

    fn wait_until_it_answers(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !self
            .command(&["version"])
            .output()
            .is_ok_and(|output| output.status.success())
        {
            let ended = self
                .keeper
                .as_ref()
                .is_none_or(|(_, keeper)| keeper.is_finished());
            if ended || Instant::now() > deadline {
                return Err(format!(
                    "dockerd does not run here: {}",
                    self.last_complaint()
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// A machine may have a daemon that runs, and no way to run a container.
    fn try_it(&self) -> Result<(), String> {
        let program = Path::new("/bin/true");
        self.image("try", || Image::new().program(program, "/true"));
        let output = self
            .command(&["run", "--rm", "--network", "none", "try", "/true"])
            .output();
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "docker runs no container here: {}",
            errors.trim().replace('\n', " ")
        ))
    }

    /// What the daemon printed last that is worth a line.
    fn last_complaint(&self) -> String {
        let output = fs::read_to_string(self.folder.path().join("output")).unwrap_or_default();
        let serious = |line: &&str| !line.contains("level=info") && !line.contains("level=warning");
        let line = output
            .lines()
            .rfind(serious)
            .or_else(|| output.lines().last());
        line.unwrap_or("it printed nothing").to_owned()
    }

    /// The folder that it lives in; other users may look below it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where it keeps the files of its containers' network namespaces.
    pub fn namespaces(&self) -> PathBuf {
        self.folder.path().join("exec/netns")
    }

    /// `docker WORDS`.
    pub fn command(&self, words: &[impl AsRef<OsStr>]) -> Command {
        let mut command = self.client(&self.client);
        command.args(words);
        command
    }

    /// A client of this daemon, docker's own or another one.
    pub fn client(&self, program: impl AsRef<OsStr>) -> Command {
        let socket = self.folder.path().join("sock");
        let mut command = Command::new(program);
        command
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            // Nobody's settings, and the builder that needs no plugin.
            .env("DOCKER_CONFIG", self.folder.path().join("client"))
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs `docker WORDS`, and returns what it printed. It has to succeed.
    pub fn run(&self, words: &[impl AsRef<OsStr>]) -> String {
        let mut command = self.command(words);
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {errors}");
        String::from_utf8(output.stdout)
            .expect("docker prints UTF-8")
            .trim()
            .to_owned()
    }

    /// Makes an image, if there is none of this name yet.
    pub fn image(&self, name: &str, make: impl FnOnce() -> Image) {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if images.insert(name.to_owned()) {
            make().import(self, name);
        }
    }

    /// Starts a container in the background: `docker run -d WORDS`.
    pub fn container(&self, words: &[&str]) -> Container<'_> {
        let id = self.run(&[&["run", "--detach"], words].concat());
        Container { docker: self, id }
    }

    /// A bridge that leads nowhere, for the containers of one test.
    pub fn network(&self) -> Network<'_> {
        let name = format!("net-{:?}", std::thread::current().id());
        let name: String = name
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        self.run(&["network", "create", "--internal", &name]);
        Network { docker: self, name }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some((stop, keeper)) = self.keeper.take() {
            drop(stop);
            let _ = keeper.join();
        }
        remove_control_groups(&self.control_group);
    }
}

/// A program by its place in Debian, else from the path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = ["/usr/sbin", "/usr/bin"]
        .map(PathBuf::from)
        .into_iter()
        .chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// In a mount namespace of its own, so that nothing stays mounted, with a `/run` and an `/etc/docker` of its own.
fn daemon_command(daemon: &Path, netns: &Netns, folder: &Path, control_group: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", netns.path()))
        .args(["unshare", "--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs tmpfs /run; if [ -d /etc/docker ]; then mount -t tmpfs tmpfs /etc/docker; fi; exec \"$@\"")
        .args(["sh", "setpriv", "--pdeathsig", "TERM"])
        .arg(daemon)
        .arg("--host")
        .arg(format!("unix://{}", folder.join("sock").display()));
    for (option, name) in [
        ("--data-root", "data"),
        ("--exec-root", "exec"),
        ("--pidfile", "pid"),
    ] {
        command.arg(option).arg(folder.join(name));
    }
    command
        .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
        .args([
            "--exec-opt",
            "native.cgroupdriver=cgroupfs",
            "--shutdown-timeout",
            "2",
        ])
        .arg(format!("--cgroup-parent=/{control_group}"));
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"));
    // containerd writes its stacks there when dockerd finds it slow.
    command.env("TMPDIR", folder);
    command
}

/// Runs the daemon until told to stop. It gets a SIGTERM when the thread that started it dies, so that thread is one
/// that waits, and not a test's.
fn keep(mut command: Command, output: &Path, stopped: &Receiver<()>) {
    let file = File::create(output).expect("a file for its output");
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file)
        .process_group(0);
    let mut daemon: Child = match command.spawn() {
        Ok(daemon) => daemon,
        Err(error) => {
            let _ = fs::write(output, format!("cannot start {command:?}: {error}\n"));
            return;
        }
    };
    // Nothing is ever sent.
    while stopped.recv_timeout(Duration::from_millis(200)) == Err(mpsc::RecvTimeoutError::Timeout) {
        if !matches!(daemon.try_wait(), Ok(None)) {
            return;
        }
    }
    child::end(&mut daemon);
}

/// Removes the groups that docker leaves, in each hierarchy. They are empty, unless the daemon could not end what it had
/// started; whatever runs in a group of this name is ours, and is ended.
fn remove_control_groups(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        let group = hierarchy.join(name);
        for below in fs::read_dir(&group).into_iter().flatten().flatten() {
            if below.path().is_dir() {
                remove_control_group(&below.path());
            }
        }
        let _ = fs::remove_dir(group);
    }
}

fn remove_control_group(group: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::remove_dir(group).is_err() && group.is_dir() && Instant::now() < deadline {
        let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for pid in processes
            .lines()
            .filter_map(|line| Pid::from_raw(line.parse().ok()?))
        {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A container; removed when dropped.
#[derive(Debug)]
pub struct Container<'a> {
    docker: &'a Docker,
    /// Its id, all 64 digits.
    pub id: String,
}

impl Container<'_> {
    /// `docker exec CONTAINER WORDS`.
    pub fn exec(&self, words: &[&str]) -> Command {
        self.docker.command(&[&["exec", &self.id], words].concat())
    }

    /// `--network container:THIS`.
    pub fn network(&self) -> String {
        format!("--network=container:{}", self.id)
    }

    /// The process id of its first process.
    pub fn pid(&self) -> String {
        self.inspect("{{.State.Pid}}")
    }

    /// Its address on its one network.
    pub fn address(&self) -> String {
        self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    }

    /// What it printed, as docker keeps it.
    pub fn log(&self) -> PathBuf {
        self.inspect("{{.LogPath}}").into()
    }

    fn inspect(&self, form: &str) -> String {
        self.docker.run(&["inspect", "--format", form, &self.id])
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self
            .docker
            .command(&["rm", "--force", "--volumes", &self.id])
            .output();
    }
}

/// A network of containers; removed when dropped, which has to be after them.
#[derive(Debug)]
pub struct Network<'a> {
    docker: &'a Docker,
    /// Its name.
    pub name: String,
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        let _ = self.docker.command(&["network", "rm", &self.name]).output();
    }
}
