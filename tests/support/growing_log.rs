//! An nginx error log that grows and is rotated, with lines stamped relative to now.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::{Timestamp, ToSpan, Zoned};

use super::plugin::plugin;

/// A folder with a log and a folder for the state.
#[derive(Debug)]
pub struct GrowingLog {
    folder: tempfile::TempDir,
    connection: u64,
    /// What its lines are stamped relative to, where that is not the time of their writing.
    now: Option<Timestamp>,
}

impl GrowingLog {
    /// With an empty log.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        File::create(folder.path().join("error.log")).expect("a log");
        Self {
            folder,
            connection: 0,
            now: None,
        }
    }

    /// The same whose lines are stamped relative to this time.
    pub fn as_of(now: Timestamp) -> Self {
        Self {
            now: Some(now),
            ..Self::new()
        }
    }

    /// A path in its folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The log.
    pub fn path(&self) -> PathBuf {
        self.at("error.log")
    }

    /// The plugin, looking at this log, its state beside it.
    pub fn check(&self) -> Command {
        let mut command = plugin("check_nginx_upstream_bind");
        command
            .arg("-f")
            .arg(self.path())
            .env("NAGIOS_PLUGIN_STATE_DIRECTORY", self.at("state"));
        command
    }

    /// Appends bytes as they are.
    pub fn append(&self, bytes: impl AsRef<[u8]>) {
        append(&self.path(), bytes.as_ref());
    }

    /// A line of its own connection, so many seconds ago.
    pub fn line(&mut self, ago: i64, message: &str, upstream: &str) -> String {
        self.connection += 1;
        format!(
            "{} [crit] 7#7: *{} {message} while connecting to upstream, client: 192.0.2.9, server: shop.example, \
             request: \"GET /cart HTTP/1.1\", upstream: \"http://{upstream}/cart\", host: \"shop.example\"\n",
            stamp_before(self.now.unwrap_or_else(Timestamp::now), ago),
            self.connection
        )
    }

    /// Appends so many failed binds, so many seconds ago.
    pub fn binds(&mut self, number: usize, ago: i64) {
        for _ in 0..number {
            let line = self.line(ago, BIND, "log3:8080");
            self.append(line);
        }
    }

    /// Renames the log and begins a new one, as logrotate does with `create`.
    pub fn rename(&self, to: &str) {
        std::fs::rename(self.path(), self.at(to)).expect("the log is there");
        File::create(self.path()).expect("a new log");
    }

    /// Copies the log and empties it, as logrotate does with `copytruncate`.
    pub fn copytruncate(&self, to: &str) {
        std::fs::copy(self.path(), self.at(to)).expect("the log is there");
        File::create(self.path()).expect("the log is there");
    }
}

/// What nginx says when no port is left to bind to.
pub const BIND: &str = "bind(0.0.0.0) failed (98: Address already in use)";

/// Appends bytes to a file.
pub fn append(path: &Path, bytes: &[u8]) {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// nginx' time, so many seconds ago, in the zone of this process and its children.
pub fn stamp(ago: i64) -> String {
    stamp_before(Timestamp::now(), ago)
}

/// The middle of this minute: what is stamped relative to it does not come to lie in another minute.
pub fn middle_of_this_minute() -> Timestamp {
    let second = Timestamp::now().as_second();
    Timestamp::from_second(second - second.rem_euclid(60) + 30).expect("a time of this age")
}

fn stamp_before(now: Timestamp, ago: i64) -> String {
    let time: Zoned = now.to_zoned(jiff::tz::TimeZone::system());
    let time = time.saturating_sub(ago.seconds());
    time.strftime("%Y/%m/%d %H:%M:%S").to_string()
}
