//! The shipped command line for `check_by_ssh`, with the real one, a real ssh and a real sshd on the proxy.
//!
//! sshd runs as the monitoring user itself, with keys of its own, and both ends see an account of that user that has a
//! home and a shell: nothing of the machine's is touched.

use std::fmt::Write;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::child;
use crate::support::debian::Unpacked;
use crate::support::incident::{Incident, Kind, PROXY};
use crate::support::netns::Netns;
use crate::support::plugin::{binary_folder, copy_program, outcome, project};
use crate::support::skip::skip;
use crate::support::tcp_table;

/// The command line of a command in `nagios/commands.cfg`.
fn command_line(name: &str) -> String {
    let text = fs::read_to_string(project().join("nagios/commands.cfg")).expect("it is shipped");
    let (_, block) = text.split_once(&format!("{name}\n")).expect("the command");
    let line = block
        .lines()
        .find_map(|line| line.trim().strip_prefix("command_line"));
    line.expect("a command line").trim().to_owned()
}

/// The arguments that `nagios/services.cfg` gives to a command in its comments.
fn suggested(name: &str) -> Vec<String> {
    let text = fs::read_to_string(project().join("nagios/services.cfg")).expect("it is shipped");
    let start = format!("# By ssh: {name}!");
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(&start));
    lines.map(str::to_owned).collect()
}

/// A server on the proxy and a client beside it, of the monitoring user.
struct Ssh<'a> {
    packages: &'a Unpacked,
    home: PathBuf,
    server: Option<Child>,
}

impl Drop for Ssh<'_> {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            child::end(server);
        }
    }
}

impl<'a> Ssh<'a> {
    fn start(incident: &Incident, packages: &'a Unpacked) -> Self {
        let home = incident.folder().join("home");
        lay_out(&home, packages);
        incident.proxy.set("ipv4/ip_unprivileged_port_start", "0");
        let mut ssh = Self {
            packages,
            home,
            server: None,
        };
        let mut command = ssh.command(&incident.proxy);
        let log =
            fs::File::create(incident.folder().join("sshd.log")).expect("a file for its output");
        command
            .arg(packages.path("/usr/sbin/sshd"))
            .args(["-D", "-e", "-f"])
            .arg(ssh.home.join("sshd_config"));
        command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0);
        ssh.server = Some(command.spawn().expect("sshd"));
        let address = std::net::SocketAddrV4::new(*PROXY.ip(), 22);
        let deadline = Instant::now() + Duration::from_secs(20);
        while incident.proxy.within(|| tcp_table::listening_on(address)) == 0 {
            let output = fs::read_to_string(incident.folder().join("sshd.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "sshd does not listen: {output}");
            std::thread::sleep(Duration::from_millis(20));
        }
        ssh
    }

    /// A command that runs as the monitoring user, where that has this home and a shell.
    fn command(&self, netns: &Netns) -> Command {
        let script = "mount --bind \"$0\" /etc/passwd && libraries=$1 && shift && \
                      exec setpriv --reuid nagios --regid nagios --init-groups --pdeathsig TERM \
                      env LD_LIBRARY_PATH=\"$libraries\" \"$@\"";
        let mut command = netns.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        command
            .arg(self.home.join("passwd"))
            .arg(self.packages.libraries());
        command
    }
}

/// Keys and settings of both ends; the shipped command lines know nothing of them.
fn lay_out(home: &Path, packages: &Unpacked) {
    let path = |name: &str| home.join(name).display().to_string();
    fs::create_dir_all(home.join(".ssh")).expect("a folder");
    let accounts = fs::read_to_string("/etc/passwd").expect("the accounts");
    let mut ours = String::new();
    for line in accounts.lines() {
        let fields: Vec<_> = line.split(':').collect();
        let _ = match fields[..] {
            ["nagios", _, uid, gid, ..] => {
                writeln!(ours, "nagios:x:{uid}:{gid}::{}:/bin/sh", home.display())
            }
            _ => writeln!(ours, "{line}"),
        };
    }
    for name in ["host", "user"] {
        let mut keygen = Command::new("ssh-keygen");
        let status = keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-f", &path(name)])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{keygen:?}");
    }
    let mut server = format!(
        "ListenAddress {}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n",
        PROXY.ip(),
        path("host"),
        path("user.pub")
    );
    // From OpenSSH 9.8 on it is several programs.
    for (option, program) in [
        ("SshdSessionPath", "sshd-session"),
        ("SshdAuthPath", "sshd-auth"),
    ] {
        let program = packages.path(&format!("/usr/lib/openssh/{program}"));
        if program.exists() {
            let _ = writeln!(server, "{option} {}", program.display());
        }
    }
    let client = format!(
        "IdentityFile {}\nUserKnownHostsFile {}\n",
        path("user"),
        path("known")
    );
    let key = fs::read_to_string(home.join("host.pub")).expect("a key");
    for (name, text) in [
        ("passwd", ours),
        ("sshd_config", server),
        (".ssh/config", client),
        ("known", format!("{} {key}", PROXY.ip())),
    ] {
        fs::write(home.join(name), text).expect("a file");
    }
    let status = Command::new("chown")
        .args(["-R", "nagios:nagios", &path(".")])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "chown {}",
        home.display()
    );
}

#[test]
fn the_shipped_line_for_check_by_ssh_runs_the_plugins_on_the_proxy() {
    let packages = match Unpacked::packages(&["openssh-server", "libwrap0"]) {
        Ok(packages) => packages,
        Err(why) => return skip(&why),
    };
    let incident = Incident::start(Kind::Connect);
    incident.squeeze();
    let ssh = Ssh::start(&incident, &packages);
    // Where the user may execute them: the build's folder may be closed to it.
    let folder = incident.folder().join("plugins");
    fs::create_dir(&folder).expect("a folder");
    let suggested = suggested("check_proxy_by_ssh");
    assert_eq!(suggested.len(), 2);
    let log = incident.nginx().error_log().display().to_string();
    for (argument, start) in suggested
        .iter()
        .zip(["PORTS CRITICAL: ", "NGINX CRITICAL: "])
    {
        let name = argument
            .rsplit_once("check_")
            .and_then(|(_, rest)| rest.split(' ').next());
        let name = format!("check_{}", name.expect("a plugin"));
        copy_program(binary_folder().join(&name), folder.join(&name));
        let argument = argument
            .replace("/usr/lib/nagios/plugins", &folder.display().to_string())
            .replace("/var/log/nginx/error.log", &log);
        let line = command_line("check_proxy_by_ssh")
            .replace("$USER1$", "/usr/lib/nagios/plugins")
            .replace("$HOSTADDRESS$", &PROXY.ip().to_string())
            .replace("$ARG1$", &argument);
        let found = outcome(ssh.command(&incident.client).args(["sh", "-c", &line]));
        assert_eq!(found.code, Some(2), "{line}: {}", found.text);
        assert!(
            found.headline().starts_with(start),
            "{line}: {}",
            found.text
        );
        assert!(found.first_line().contains("|'"), "{line}: {}", found.text);
        assert!(
            found.text.contains("\n[CRITICAL] "),
            "{line}: {}",
            found.text
        );
    }
}
