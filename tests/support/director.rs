//! A real Icinga Director on a real database, both with everything in a temporary folder and in a network namespace of
//! their own.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::child;
use super::icinga_web::{self, MODULES};
use super::netns::Netns;

/// The longest that the database may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// The Director; ended with its database when dropped.
#[derive(Debug)]
pub struct Director {
    database: Child,
    folder: TempDir,
    netns: Netns,
}

impl Director {
    /// Starts a new one. Where its packages are not installed, says so.
    pub fn start() -> Result<Self, String> {
        let programs = [
            "/usr/bin/icingacli",
            "/usr/sbin/mariadbd",
            "/usr/sbin/icinga2",
        ];
        let module = format!("{MODULES}/director");
        if let Some(missing) = programs
            .iter()
            .chain([&&*module])
            .find(|path| !Path::new(path).exists())
        {
            return Err(format!(
                "there is no {missing} (apt-get install --no-install-recommends icingacli icingaweb2-module-director \
                 php-mysql mariadb-server)"
            ));
        }
        let folder = tempfile::Builder::new()
            .prefix("director-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder");
        let netns = Netns::new("director");
        let database = start_database(&netns, folder.path());
        let mut director = Self {
            database,
            folder,
            netns,
        };
        director.wait_for_the_database();
        director.set_up();
        Ok(director)
    }

    fn wait_for_the_database(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self
            .client("")
            .arg("-e")
            .arg("select 1")
            .output()
            .is_ok_and(|output| output.status.success())
        {
            let ended = self.database.try_wait().expect("a child of ours");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "MariaDB does not answer: {}",
                fs::read_to_string(self.folder.path().join("database.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn set_up(&self) {
        run(self.client("").arg("-e").arg(
            "create database director character set utf8;
             create user director@'127.0.0.1' identified by 'director', director@localhost identified by 'director';
             grant all on director.* to director@'127.0.0.1', director@localhost;",
        ));
        let web = self.folder.path().join("web");
        icinga_web::configure(
            &web,
            &["ipl", "reactbundle", "incubator", "director"],
            &[
                (
                    "resources.ini",
                    "[director]\ntype = \"db\"\ndb = \"mysql\"\nhost = \"127.0.0.1\"\nport = \"3306\"\ndbname = \"director\"\n\
                     username = \"director\"\npassword = \"director\"\ncharset = \"utf8\"\n",
                ),
                (
                    "modules/director/config.ini",
                    "[db]\nresource = \"director\"\n",
                ),
            ],
        );
        self.cli(&["migration", "run"], "");
        // As after a kick-start on a single master.
        self.sql(
            "insert into icinga_zone (uuid, object_name, object_type, disabled, is_global) \
             values (unhex(replace(uuid(), '-', '')), 'master', 'external_object', 'n', 'n')",
        );
    }

    /// `icingacli director WORDS` with this input; what it printed.
    pub fn cli(&self, words: &[&str], input: &str) -> String {
        let mut command = self.netns.command("icingacli");
        command
            .arg("director")
            .args(words)
            .env("ICINGAWEB_CONFIGDIR", self.folder.path().join("web"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("icingacli");
        // A command that does not read its input closes it.
        let _ = child
            .stdin
            .take()
            .expect("it is piped")
            .write_all(input.as_bytes());
        let output = child.wait_with_output().expect("a child of ours");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && errors.is_empty(),
            "{command:?}: {text}{errors}"
        );
        text
    }

    /// Restores a basket.
    pub fn restore(&self, basket: &str) {
        self.cli(&["basket", "restore"], basket);
    }

    /// The value of a query, or its lines.
    pub fn sql(&self, query: &str) -> String {
        let mut client = self.client("director");
        let output = run(client.args(["--raw", "-e", query]));
        output.trim_end_matches('\n').to_owned()
    }

    fn client(&self, database: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args([
            "--no-defaults",
            "--user=root",
            "--skip-column-names",
            "--batch",
        ]);
        command
            .arg(format!(
                "--socket={}",
                self.folder.path().join("db/sock").display()
            ))
            .arg(database);
        command
    }

    /// The configuration that it makes of what it has: path to text.
    pub fn render(&self) -> Vec<(String, String)> {
        self.cli(&["config", "render"], "");
        let paths = self.sql("select distinct file_path from director_generated_config_file");
        let text = |path: &str| {
            self.sql(&format!(
                "select f.content from director_generated_config_file c join director_generated_file f \
                 on f.checksum = c.file_checksum where c.file_path = '{path}' limit 1"
            ))
        };
        paths
            .lines()
            .map(|path| (path.to_owned(), text(path)))
            .collect()
    }

    /// What `icinga2 daemon -C` says to a configuration, and whether it is taken.
    pub fn validate(&self, files: &[(String, String)]) -> (bool, String) {
        let root: PathBuf = self.folder.path().join("icinga");
        for (path, text) in files {
            let path = root.join("conf").join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let text = format!(
            "const PluginDir = \"/usr/lib/nagios/plugins\"\nconst NodeName = \"director.test\"\nconst ZoneName = \"master\"\n\
             object Endpoint NodeName {{ }}\nobject Zone ZoneName {{ endpoints = [ NodeName ] }}\n\
             object Zone \"director-global\" {{ global = true }}\ninclude <itl>\ninclude_zones \"director\", \"{}\"\n",
            root.join("conf/zones.d").display()
        );
        let file = root.join("icinga2.conf");
        fs::write(&file, text).expect("a file");
        let mut command = Command::new("icinga2");
        command
            .env("ICINGA2_USER", "root")
            .env("ICINGA2_GROUP", "root")
            .args(["daemon", "-C", "-c"])
            .arg(file);
        for (constant, name) in [
            ("ConfigDir", "etc"),
            ("ZonesDir", "zones.d"),
            ("DataDir", "lib"),
            ("LogDir", "log"),
            ("CacheDir", "cache"),
            ("SpoolDir", "spool"),
            ("InitRunDir", "run"),
        ] {
            let path = root.join(name);
            fs::create_dir_all(&path).expect("a folder");
            command
                .arg("-D")
                .arg(format!("{constant}={}", path.display()));
        }
        let output = command.output().expect("icinga2");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.success(),
            text + &String::from_utf8_lossy(&output.stderr),
        )
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        child::end(&mut self.database);
    }
}

fn start_database(netns: &Netns, folder: &Path) -> Child {
    let data = folder.join("db");
    fs::create_dir(&data).expect("a folder");
    run(Command::new("chown").arg("mysql:").arg(&data));
    // The folder for temporary files is not everybody's.
    let temporary = format!("--tmpdir={}", data.display());
    let data = format!("--datadir={}", data.display());
    run(Command::new("mariadb-install-db")
        .args([
            "--no-defaults",
            "--force",
            &data,
            &temporary,
            "--user=mysql",
        ])
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"]));
    let log = File::create(folder.join("database.log")).expect("a file for its output");
    netns
        .command("setpriv")
        .args([
            "--pdeathsig",
            "TERM",
            "mariadbd",
            "--no-defaults",
            &data,
            &temporary,
            "--user=mysql",
        ])
        .arg(format!("--socket={}", folder.join("db/sock").display()))
        .arg(format!("--pid-file={}", folder.join("db/pid").display()))
        .args(["--bind-address=127.0.0.1", "--skip-log-bin"])
        // All that it has can be lost.
        .args([
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
        ])
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("mariadbd")
}

/// Runs a command that has to succeed; what it printed.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}
