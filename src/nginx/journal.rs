//! The lines of a unit from systemd's journal, through `journalctl -o export`, from the entry on that was read last.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};

/// How much of a field is kept; nginx writes no more than 2 KiB at once.
const FIELD: usize = 16 * 1024;

/// How much of what journalctl complains about.
const COMPLAINT: u64 = 4096;

/// Where it may be.
const FOLDERS: [&str; 4] = [
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
    "/run/current-system/sw/bin",
];

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub enum From<'a> {
    /// Behind this entry.
    Cursor(&'a str),
    /// At this second.
    Second(i64),
    /// At the last entry that there is.
    Last,
}

/// A journalctl at work.
#[derive(Debug)]
pub struct Journal {
    child: Child,
    last: Arc<Mutex<Option<String>>>,
}

impl Journal {
    /// Starts it for a unit; the lines come out of the second part.
    pub fn open(
        unit: &str,
        from: From<'_>,
        until: Option<i64>,
    ) -> anyhow::Result<(Self, Export<BufReader<ChildStdout>>)> {
        let program = find().context(
            "--journal-unit: there is no journalctl on this host: give the log's file with -f, or pipe it into -f -",
        )?;
        let mut command = Command::new(&program);
        command.args(["--no-pager", "--output=export"]);
        command.arg(format!("--unit={unit}"));
        command.arg(match from {
            From::Cursor(cursor) => format!("--after-cursor={cursor}"),
            From::Second(second) => format!("--since=@{second}"),
            From::Last => "--lines=1".to_owned(),
        });
        command.args(until.map(|second| format!("--until=@{second}")));
        let mut child = command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("journalctl has no output")?;
        let last = Arc::new(Mutex::new(None));
        let export = Export::new(BufReader::new(output), last.clone());
        Ok((Self { child, last }, export))
    }

    /// What the run has come to: the entry that was read last, if any was. An error where journalctl could not do
    /// what it was asked for.
    pub fn end(mut self) -> anyhow::Result<Option<String>> {
        let mut said = Vec::new();
        if let Some(errors) = self.child.stderr.take() {
            errors.take(COMPLAINT).read_to_end(&mut said)?;
        }
        let status = self.child.wait()?;
        let said = String::from_utf8_lossy(&said);
        if said.contains("insufficient permissions") || said.contains("not seeing messages") {
            bail!(
                "may not read the journal: make this user a member of systemd-journal (usermod -aG systemd-journal …)"
            );
        }
        if said.contains("No journal files were") {
            bail!("there is no journal on this host: give the log's file with -f");
        }
        if !status.success() {
            let why = said.lines().next().unwrap_or("it says nothing");
            bail!("journalctl failed ({status}): {why}");
        }
        Ok(self.last.lock().map_or(None, |mut last| last.take()))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to kill, and nothing to wait for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there is any entry of a unit at all. Of one that nobody has heard of the journal says nothing, and so does a quiet
/// one within the window.
pub fn knows(unit: &str) -> anyhow::Result<bool> {
    let (journal, mut export) = Journal::open(unit, From::Last, None)?;
    io::copy(&mut export, &mut io::sink())?;
    Ok(journal.end()?.is_some())
}

/// journalctl by its full path. `PATH` is not asked: it may be anybody's.
fn find() -> Option<PathBuf> {
    FOLDERS
        .iter()
        .map(|folder| PathBuf::from(folder).join("journalctl"))
        .find(|program| {
            program.is_file() && rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok()
        })
}

/// The journal's export format as lines: of each entry its message. (A field is `NAME=text`, or its name alone, eight
/// bytes of length and so many bytes; an empty line ends the entry.)
#[derive(Debug)]
pub struct Export<R> {
    input: R,
    /// The entry that was read last.
    last: Arc<Mutex<Option<String>>>,
    line: Vec<u8>,
    given: usize,
}

impl<R: BufRead> Export<R> {
    fn new(input: R, last: Arc<Mutex<Option<String>>>) -> Self {
        Self {
            input,
            last,
            line: Vec::new(),
            given: 0,
        }
    }

    /// The next entry's message, with a line feed at its end. `false` where there is none.
    fn next_entry(&mut self) -> io::Result<bool> {
        let (mut cursor, mut message, mut second) = (None, None, None);
        loop {
            let mut field = Vec::new();
            if !self.read_field(&mut field)? {
                // An entry that was cut is left for the next run.
                return Ok(false);
            }
            if field.is_empty() {
                break;
            }
            if let Some(text) = field.strip_prefix(b"__CURSOR=") {
                cursor = String::from_utf8(text.to_vec()).ok();
            } else if let Some(text) = field.strip_prefix(b"MESSAGE=") {
                message = Some(text.to_vec());
            } else if let Some(text) = field.strip_prefix(b"__REALTIME_TIMESTAMP=") {
                let micros = std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| text.parse::<u64>().ok());
                second = micros.map(|micros| micros / 1_000_000);
            }
        }
        if let (Ok(mut last), Some(cursor)) = (self.last.lock(), cursor) {
            *last = Some(cursor);
        }
        // As a container's log has it, whose time is there for those lines that have none of their own.
        self.line = format!("@{} stderr F ", second.unwrap_or_default()).into_bytes();
        let from = self.line.len();
        self.line.extend_from_slice(&message.unwrap_or_default());
        // One entry is one line: what else it holds must not begin another one.
        for byte in self.line[from..].iter_mut().filter(|byte| **byte == b'\n') {
            *byte = b' ';
        }
        self.line.push(b'\n');
        self.given = 0;
        Ok(true)
    }

    /// One field as `NAME=value`, its end cut off where it is long. `false` at the end.
    fn read_field(&mut self, field: &mut Vec<u8>) -> io::Result<bool> {
        if !self.read_until_feed(field)? {
            return Ok(false);
        }
        if field.is_empty() || field.contains(&b'=') {
            return Ok(true);
        }
        let mut length = [0; 8];
        if let Err(error) = self.input.read_exact(&mut length) {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => Ok(false),
                _ => Err(error),
            };
        }
        field.push(b'=');
        let length = u64::from_le_bytes(length);
        let mut value = self.input.by_ref().take(length);
        value.by_ref().take(FIELD as u64).read_to_end(field)?;
        io::copy(&mut value, &mut io::sink())?;
        let mut feed = Vec::new();
        self.read_until_feed(&mut feed)
    }

    /// Up to a line feed, which is taken and not given.
    fn read_until_feed(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let end = memchr::memchr(b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            line.extend_from_slice(&part[..part.len().min(FIELD.saturating_sub(line.len()))]);
            let taken = part.len() + usize::from(end.is_some());
            self.input.consume(taken);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

impl<R: BufRead> Read for Export<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.line.len() {
            if !self.next_entry()? {
                return Ok(0);
            }
        }
        let rest = &self.line[self.given..];
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        self.given += length;
        Ok(length)
    }
}

/// The messages of an export as lines, and the last whole entry's cursor.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn messages(input: impl BufRead) -> (Vec<u8>, Option<String>) {
    let last = Arc::new(Mutex::new(None));
    let mut export = Export::new(input, last.clone());
    let mut text = Vec::new();
    export.read_to_end(&mut text).expect("bytes in memory");
    let last = last.lock().expect("nobody else has it").clone();
    (text, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> (String, Option<String>) {
        let (text, last) = messages(bytes);
        (String::from_utf8_lossy(&text).into_owned(), last)
    }

    #[test]
    fn messages_come_out_as_lines_and_the_last_whole_entry_is_remembered() {
        let mut bytes =
            b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=7999999\nPRIORITY=3\nMESSAGE=one\n\n".to_vec();
        bytes.extend_from_slice(b"__CURSOR=s=1;i=3\nMESSAGE\n");
        bytes.extend_from_slice(&9_u64.to_le_bytes());
        bytes.extend_from_slice(b"caf\xe9\n two\n_PID=7\n\n");
        bytes.extend_from_slice(
            format!("__CURSOR=c\nMESSAGE={}\n\n", "x".repeat(99_999)).as_bytes(),
        );
        let (text, last) = lines(&bytes);
        let long = "x".repeat(FIELD - 8);
        let expected =
            format!("@7 stderr F one\n@0 stderr F caf\u{fffd}  two\n@0 stderr F {long}\n");
        assert!(text == expected, "{}", &text[..40]);
        assert_eq!(last.as_deref(), Some("c"));
        let cut = b"__CURSOR=a\nMESSAGE=one\n\n__CURSOR=b\nMESSAGE=two\n";
        assert_eq!(
            lines(cut),
            ("@0 stderr F one\n".to_owned(), Some("a".to_owned()))
        );
        assert_eq!(lines(b"-- No entries --\n"), (String::new(), None));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_stumble(bytes: Vec<u8>) {
            let (text, _) = lines(&bytes);
            assert!(text.is_empty() || text.ends_with('\n'));
        }
    }
}
