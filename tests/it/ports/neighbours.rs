//! The limits that look alike, reached for real.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::check;
use crate::support::netns::Netns;
use crate::support::skip::skip;
use crate::support::sockets;

const SERVER: &str = "192.0.2.2:80";

/// Starts as many connections and does not wait for them.
fn start(ns: &Netns, count: usize) -> Vec<std::os::fd::OwnedFd> {
    let to: SocketAddr = SERVER.parse().unwrap();
    ns.within(|| {
        let start = |_| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
            assert_eq!(connect(&socket, &to), Err(Errno::INPROGRESS));
            socket
        };
        (0..count).map(start).collect()
    })
}

#[test]
fn a_snat_rule_without_a_port_left_shows_though_no_client_sees_an_error() {
    let (client, server) = (Netns::new("snat"), Netns::new("server"));
    client.link("192.0.2.1/24", &server, "192.0.2.2/24");
    let rule = "-t nat -A POSTROUTING -p tcp -d 192.0.2.2 -j MASQUERADE --to-ports 40000-40009";
    let made = client.command("iptables").args(rule.split(' ')).output();
    let refused = match &made {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    if !made.is_ok_and(|output| output.status.success()) {
        return skip(&format!("needs iptables and NAT: {refused}"));
    }
    let to: SocketAddr = SERVER.parse().unwrap();
    let _listener = server.within(|| sockets::listener(to, false));
    let folder = tempfile::tempdir().unwrap();
    let state = format!("--state-file={}", folder.path().join("own/state").display());
    let first = check(&client, &[&state]);
    assert_eq!(first.code, Some(0), "{}", first.text);
    assert_eq!(first.metric("conntrack_insert_failed"), Some(0.0));

    let held: Vec<_> = client.within(|| {
        (0..10)
            .map(|_| sockets::connected_unbound(to).unwrap())
            .collect()
    });
    let refused = start(&client, 5);
    let told = check(&client, &[&state]);
    assert_eq!(told.code, Some(1), "{}", told.text);
    assert!(
        told.headline()
            .contains("; connection tracking failed to insert "),
        "{}",
        told.text
    );
    assert!(told.text.contains("a SNAT rule has no port left"));
    let count = |label| told.metric(label).unwrap();
    assert!(count("conntrack_insert_failed") + count("conntrack_drop") >= 5.0);
    assert!(count("conntrack_used") >= 10.0 && count("conntrack_limit") > 0.0);

    // Nothing tries again, so that there is nothing new.
    drop(refused);
    let again = check(&client, &[&state]);
    let later = check(&client, &[&state]);
    assert_eq!(later.code, Some(0), "{}{}", again.text, later.text);
    drop(held);
}

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_proxy_that_is_near_its_own_limit_of_files_is_found_by_its_program() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("nginx");
    crate::support::plugin::copy_program("/bin/sleep", &program);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 16; exec \"$0\" 60"])
        .arg(&program)
        .stdin(Stdio::null());
    let proxy = Ended(command.spawn().unwrap());
    let exe = format!("/proc/{}/exe", proxy.0.id());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while std::fs::read_link(&exe).ok().as_deref() != Some(program.as_path()) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let ns = Netns::new("files");
    let told = check(&ns, &["--limits-warning=10", "--limits-critical=100"]);
    assert_eq!(told.code, Some(1), "{}", told.text);
    // Standard input, output and error, and what the test has inherited.
    let used = told.metric("open_files_used").unwrap();
    assert!((3.0..16.0).contains(&used), "{}", told.text);
    assert_eq!(told.metric("open_files_limit"), Some(16.0));
    let found = format!("open files of a proxy's process against its own limit: {used} of 16 used");
    assert!(told.text.contains(&found), "{}", told.text);
}
