//! Network namespaces of our own: what happens in them touches nothing else, and they are gone at the end.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A namespace with loopback up, deleted when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Whether this machine lets us make one with an interface in it; if not, what `ip` says.
    pub fn possible() -> Result<(), String> {
        let name = format!("pc-try-{}-0", std::process::id());
        let ip = |words: &[&str]| {
            let output = Command::new("ip").args(words).output();
            let output = output.map_err(|error| format!("cannot run ip: {error}"))?;
            let errors = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                Ok(())
            } else {
                Err(format!("ip {}: {}", words.join(" "), errors.trim()))
            }
        };
        ip(&["netns", "add", &name])?;
        let link = ip(&[
            "-n", &name, "link", "add", "one", "type", "veth", "peer", "name", "two",
        ]);
        let _ = ip(&["netns", "del", &name]);
        link
    }

    /// Makes one. Needs root; says so where that is missing.
    pub fn new(tag: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let name = format!("pc-{tag}-{}-{number}", std::process::id());
        run(&["ip", "netns", "add", &name]);
        let ns = Self { name };
        ns.ip("link set lo up");
        ns
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// A command that runs in it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs `ip ARGUMENTS` in it.
    pub fn ip(&self, arguments: &str) {
        let words = ["ip", "-n", &self.name]
            .into_iter()
            .chain(arguments.split(' '));
        run(&words.collect::<Vec<_>>());
    }

    /// Sets a sysctl below `net`, as in `set("ipv4/ip_local_port_range", "20000 20099")`.
    pub fn set(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/net/{key}");
        self.within(|| std::fs::write(&path, value))
            .unwrap_or_else(|error| panic!("{path} = {value}: {error}"));
    }

    /// Runs a function in a thread that has moved into it. Sockets made there belong to it for good, wherever they
    /// go; threads started there stay in it.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).expect("the namespace has a file");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    Some(LinkNameSpaceType::Network),
                )
                .expect("root may move a thread into a namespace");
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Connects this one and another with a veth pair: `ours` and `theirs` as in `192.0.2.1/24`.
    pub fn link(&self, ours: &str, other: &Self, theirs: &str) {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let (near, far) = (format!("v{number}a"), format!("v{number}b"));
        self.ip(&format!(
            "link add {near} type veth peer name {far} netns {}",
            other.name
        ));
        for (ns, device, address) in [(self, &near, ours), (other, &far, theirs)] {
            ns.ip(&format!("addr add {address} dev {device}"));
            ns.ip(&format!("link set {device} up"));
        }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

fn run(words: &[&str]) {
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{words:?}: {errors}(network namespaces need root: sudo make test)"
    );
}
