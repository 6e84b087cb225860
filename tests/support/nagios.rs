//! A real Nagios Core 4 as a child process, with the objects of Debian's own example around the project's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use super::child;
use super::debian::Unpacked;
use super::netns::Netns;
use super::plugin::{binary_folder, copy_program};

/// The longest that a check may take to give what is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// The packages that it takes; libwrap0 is for NRPE.
pub const PACKAGES: [&str; 5] = [
    "nagios4-core",
    "nagios4-common",
    "nagios-nrpe-server",
    "nagios-nrpe-plugin",
    "libwrap0",
];

/// What the example of the packages leaves to another package.
const MORE: &str = "define command {
    command_name check-host-alive
    command_line /bin/true
}
";

/// A folder with the plugins for a daemon that runs as nagios: the project's, and `check_nrpe`.
pub fn plugins(packages: &Unpacked, folder: &Path) -> PathBuf {
    let plugins = folder.join("plugins");
    fs::create_dir_all(&plugins).expect("a folder for plugins");
    for name in [
        "check_http_retry",
        "check_port_exhaustion",
        "check_nginx_upstream_bind",
    ] {
        copy_program(binary_folder().join(name), plugins.join(name));
    }
    let nrpe = packages.path("/usr/lib/nagios/plugins/check_nrpe");
    symlink(nrpe, plugins.join("check_nrpe")).expect("a link");
    plugins
}

/// A daemon of these packages that stays in the foreground, run in a namespace as nagios; ended when dropped.
#[derive(Debug)]
pub struct Daemon(Child);

impl Daemon {
    /// Starts one; what it prints goes to `output`.
    pub fn start(netns: &Netns, packages: &Unpacked, words: &[&str], output: &Path) -> Self {
        let file = File::create(output).expect("a file for its output");
        let mut command: Command = netns.command("setpriv");
        command
            .args(["--reuid", "nagios", "--regid", "nagios", "--init-groups"])
            .args(["--pdeathsig", "TERM"])
            .args(words)
            .env("LD_LIBRARY_PATH", packages.libraries())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .process_group(0);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        child::end(&mut self.0);
    }
}

/// A running Nagios Core.
#[derive(Debug)]
pub struct Nagios {
    daemon: Daemon,
    folder: TempDir,
}

impl Drop for Nagios {
    fn drop(&mut self) {
        child::end(&mut self.daemon.0);
        child::kill_below(self.folder.path());
    }
}

impl Nagios {
    /// Starts one in a namespace with these object files, its minute `minute` seconds long.
    pub fn start(
        netns: &Netns,
        packages: &Unpacked,
        objects: &[(&str, &str)],
        minute: u32,
    ) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("nagios-")
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder");
        let path = folder.path();
        for name in ["objects", "state", "state/rw"] {
            fs::create_dir_all(path.join(name)).expect("a folder for Nagios");
        }
        for name in ["state", "state/rw"] {
            let everybody = fs::Permissions::from_mode(0o777);
            fs::set_permissions(path.join(name), everybody).expect("it is ours");
        }
        for name in ["templates", "contacts", "timeperiods", "commands"] {
            let name = format!("{name}.cfg");
            let sample = packages.path(&format!("/etc/nagios4/objects/{name}"));
            fs::copy(sample, path.join("objects").join(name)).expect("Debian's example");
        }
        for (name, text) in objects.iter().chain([&("more.cfg", MORE)]) {
            fs::write(path.join("objects").join(format!("our-{name}")), text).expect("objects");
        }
        let plugins = plugins(packages, path);
        let resource = format!("$USER1$={}\n", plugins.display());
        fs::write(path.join("resource.cfg"), resource).expect("a file");
        let configuration = path.join("nagios.cfg");
        fs::write(&configuration, main_file(path, minute)).expect("a configuration");

        let program = packages.path("/usr/sbin/nagios4");
        let words = [&program, &configuration].map(|path| path.to_str().expect("text"));
        let daemon = Daemon::start(netns, packages, &words, &path.join("output"));
        Self { daemon, folder }
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("state/nagios.log")
    }

    /// Leaves a passive result of a service in its spool, as its external commands and NSCA do.
    pub fn submit(&self, host: &str, service: &str, code: u8, output: &str) {
        // Its name is `c` and six characters, and it counts once there is one with `.ok` behind it.
        let spool = self.folder.path().join("state/cproxy1");
        let text = format!(
            "file_time=1\n\nhost_name={host}\nservice_description={service}\ncheck_type=1\nscheduled_check=0\nearly_timeout=0\nexited_ok=1\n\
             return_code={code}\noutput={output}\n\n"
        );
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.expect("a clock after 1970").as_secs();
        let text = text.replace("file_time=1\n", &format!("file_time={now}\n"));
        let text = text.replace(
            "exited_ok",
            &format!("start_time={now}.0\nfinish_time={now}.0\nexited_ok"),
        );
        fs::write(&spool, text).expect("a file for Nagios");
        let account = std::os::unix::fs::MetadataExt::uid(
            &fs::metadata("/var/lib/nagios").expect("its home"),
        );
        std::os::unix::fs::chown(&spool, Some(account), None).expect("root may give files away");
        fs::write(spool.with_extension("ok"), "").expect("a file for Nagios");
    }

    /// Waits until a service of the host is as wanted, and returns its block of `status.dat`.
    pub fn wait_for(
        &self,
        service: &str,
        what: &str,
        wanted: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> BTreeMap<String, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = fs::read_to_string(self.folder.path().join("state/status.dat"));
            let status = status.unwrap_or_default();
            let block = service_block(&status, service);
            if wanted(&block) {
                return block;
            }
            assert!(
                Instant::now() < deadline,
                "{service} not {what}: {block:?} {}",
                fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What `status.dat` says of a service.
fn service_block(status: &str, service: &str) -> BTreeMap<String, String> {
    let wanted = format!("\tservice_description={service}\n");
    let block = status
        .split("servicestatus {\n")
        .skip(1)
        .find(|block| block.contains(&wanted));
    let lines = block.unwrap_or_default().split("\t}\n").next();
    let fields = lines.unwrap_or_default().lines();
    let fields = fields.filter_map(|line| line.trim().split_once('='));
    fields
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn main_file(folder: &Path, minute: u32) -> String {
    let state = folder.join("state");
    let state = state.display();
    format!(
        "cfg_dir={folder}/objects
resource_file={folder}/resource.cfg
log_file={state}/nagios.log
object_cache_file={state}/objects.cache
precached_object_file={state}/objects.precache
status_file={state}/status.dat
status_update_interval=1
check_external_commands=0
command_file={state}/rw/nagios.cmd
query_socket={state}/rw/nagios.qh
lock_file={state}/nagios.pid
temp_file={state}/nagios.tmp
temp_path={state}
log_archive_path={state}
check_result_path={state}
check_result_reaper_frequency=1
use_syslog=0
interval_length={minute}
check_for_updates=0
retain_state_information=0
enable_notifications=0
",
        folder = folder.display(),
    )
}
