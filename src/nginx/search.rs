//! The lines of a log of any kind, for those who look for something in them: all that was written since some moment, or
//! what lies around some time, with the earlier files of the log, compressed or not. Whatever its size, one buffer of it
//! is in memory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use memchr::memchr_iter;

use super::bisect;
use super::clock::{self, Clock, When};
use super::compressed;
use super::correlate;
use super::cursor::read_at;
use super::generation::generations;
use super::links;
use super::owner;
use super::reader::Reader;
use super::source::Source;
use super::wrapping::{Wrapping, has_syslog_header};
use crate::plugin::Run;

/// How far lines may stand from where their times would have them: nginx may be told to keep lines back for minutes.
const SLACK: i64 = 600;

/// What tells how lines are wrapped.
const HEAD: u64 = 16 * 1024;

/// So much of a file is read even where the run has to end: it takes no longer than what the run keeps for its report.
const AT_ONCE: u64 = 16 << 20;

/// So many bytes of lines that are all later than what is looked for show that no more of it follows. One line does not:
/// a clock may have been wrong when it was written, or a request may have written it.
const LATE: usize = 1 << 20;

/// What is done with a line, its line feed taken off, and whether to go on.
pub type Each<'a> = dyn FnMut(&[u8]) -> ControlFlow<()> + 'a;

/// Understands the times of lines.
#[derive(Debug, Clone)]
pub struct Times(Clock);

impl Times {
    /// Those of this host, where a line does not name its zone.
    pub fn here(run: &Run) -> Self {
        Self(Clock::new(clock::local_zone(), run.started()))
    }

    /// Those of a clock, where a line does not name its zone.
    pub fn by(clock: Clock) -> Self {
        Self(clock)
    }

    /// The time of a line in seconds since 1970, where it has one that is understood.
    pub fn of(&self, line: &[u8]) -> Option<i64> {
        correlate::time(line, &self.0)
    }

    /// The same where the line may stand in a syslog file. A time with its zone at the start is right whosever it is; one
    /// without is syslog's, and what stands behind the tag knows better.
    fn of_shared(&self, line: &[u8]) -> Option<i64> {
        let stamp = Wrapping::Syslog.time(line);
        let Some(stamp) = stamp.filter(|_| has_syslog_header(line)) else {
            return self.of(line);
        };
        let at = || Some(self.0.both(stamp)?.0);
        match stamp {
            When::Second(_) => at(),
            _ => self.of(&Wrapping::Syslog.unwrap(line)).or_else(at),
        }
    }
}

/// What all reading of one run has in common.
#[derive(Debug)]
pub struct Search<'a> {
    run: &'a Run,
    times: Times,
    /// How much was read.
    pub bytes: u64,
    /// Whether the run had to end before all was read.
    pub cut_short: bool,
    /// Logs that are read by themselves, and not as another one's earlier files.
    pub apart: Vec<PathBuf>,
    /// Whether what syslog puts around lines is left there, for a reader who knows the form of an access log: lines of
    /// such a form may begin as syslog's do.
    pub leaves_syslog: bool,
}

/// A log whose end was marked, to read what is written behind it.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// The file that has the name, and before it the one that had it: a worker of nginx' may go on writing to that for a
    /// moment. With each how far it was read, or is not to be read.
    files: Vec<(File, u64)>,
    /// When it was marked, in seconds since 1970.
    since: i64,
    /// The files of earlier generations that were read, by device and inode.
    read: BTreeSet<(u64, u64)>,
}

impl Tail {
    /// Marks the end of a log.
    pub fn mark(path: &Path, run: &Run) -> anyhow::Result<Self> {
        let file = open(path)?;
        let offset = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            files: vec![(file, offset)],
            since: run.started().as_second(),
            read: BTreeSet::new(),
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl<'a> Search<'a> {
    /// For this run.
    pub fn new(run: &'a Run, times: &Times) -> Self {
        Self {
            run,
            times: times.clone(),
            bytes: 0,
            cut_short: false,
            apart: Vec::new(),
            leaves_syslog: false,
        }
    }

    /// Reads what was written to a log since it was marked, or since it was read the last time; rotated meanwhile or not.
    pub fn read_new(&mut self, tail: &mut Tail, each: &mut Each) -> io::Result<()> {
        for (file, offset) in &mut tail.files {
            let size = file.metadata()?.len();
            if size < *offset {
                // It was copied and emptied.
                *offset = 0;
            }
            let (end, stop) = self.read_plain(file, *offset..size, i64::MAX, each)?;
            *offset = end;
            if stop {
                return Ok(());
            }
        }
        let Ok(now) = links::open(&tail.path) else {
            return Ok(()); // it is just being rotated
        };
        let number = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
        for (file, _) in &tail.files {
            tail.read.insert(number(file)?);
        }
        if !tail.read.insert(number(&now)?) {
            return Ok(());
        }
        for generation in generations(&tail.path, &now, &self.apart)? {
            let is_new = tail.read.insert(number(&generation.file)?);
            if !is_new || generation.modified < tail.since {
                continue;
            }
            if self.read_part(&generation.file, (tail.since, i64::MAX), each)? {
                return Ok(());
            }
        }
        let size = now.metadata()?.len();
        let (end, _) = self.read_plain(&now, 0..size, i64::MAX, each)?;
        tail.files.push((now, end));
        if tail.files.len() > 2 {
            tail.files.remove(0);
        }
        Ok(())
    }

    /// Reads what lies around a time in a log and its earlier files.
    pub fn read_between(
        &mut self,
        path: &Path,
        (from, to): (i64, i64),
        each: &mut Each,
    ) -> anyhow::Result<()> {
        let shown = || format!("cannot read {}", path.display());
        let file = open(path)?;
        let (from, to) = (from - SLACK, to + SLACK);
        for earlier in generations(path, &file, &self.apart).unwrap_or_default() {
            if earlier.modified < from {
                continue;
            }
            let stop = self
                .read_part(&earlier.file, (from, to), each)
                .with_context(|| format!("cannot read {}", earlier.path.display()))?;
            if stop {
                return Ok(());
            }
        }
        self.read_part(&file, (from, to), each)
            .with_context(shown)?;
        Ok(())
    }

    /// Reads all of a file, compressed or not.
    pub fn read_whole(&mut self, path: &Path, each: &mut Each) -> anyhow::Result<()> {
        let file = open(path)?;
        self.read_part(&file, (i64::MIN, i64::MAX), each)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(())
    }

    /// Reads all that comes. A last line needs no line feed.
    pub fn read_stream(
        &mut self,
        stream: impl Read + Send + 'static,
        each: &mut Each,
    ) -> io::Result<()> {
        let stream = compressed::of_stream(stream)?;
        let stream = Source::stream(stream);
        self.read_lines(Reader::new(stream, 0, b"", false), None, i64::MAX, each)?;
        Ok(())
    }

    /// One file, from its place for a time on. Returns whether that was enough.
    fn read_part(
        &mut self,
        file: &File,
        (from, to): (i64, i64),
        each: &mut Each,
    ) -> io::Result<bool> {
        if compressed::is_compressed(file)? {
            let unpacked = compressed::open_at(file, 0)?;
            let wrapping = Wrapping::of(&unpacked.head);
            let reader = Reader::new(Source::stream(unpacked.source), 0, b"", false);
            let (_, stop) = self.read_lines(reader, Some(wrapping), to, each)?;
            return Ok(stop);
        }
        let size = file.metadata()?.len();
        let start = if from == i64::MIN {
            0
        } else {
            let wrapping = Wrapping::of(&read_at(file, 0, HEAD)?);
            let time = |line: &[u8]| self.time(line, wrapping);
            bisect::start_by(file, size, from, &self.times.0, &time)?
        };
        self.read_plain(file, start..size, to, each)
            .map(|(_, stop)| stop)
    }

    /// What lies between two places of a file. Returns where it stopped, and whether that was enough.
    fn read_plain(
        &mut self,
        file: &File,
        range: std::ops::Range<u64>,
        to: i64,
        each: &mut Each,
    ) -> io::Result<(u64, bool)> {
        if range.is_empty() {
            return Ok((range.start, false));
        }
        let wrapping = Wrapping::of(&read_at(file, 0, HEAD)?);
        let start = range.start;
        let source = Source::file(file.try_clone()?, range)?;
        let reader = Reader::new(source, start, b"", false);
        self.read_lines(reader, Some(wrapping), to, each)
    }

    /// All lines of a reader, up to where all of them are later than `to`. Returns where it stopped, and whether nobody
    /// wants more.
    fn read_lines(
        &mut self,
        mut reader: Reader,
        mut wrapping: Option<Wrapping>,
        to: i64,
        each: &mut Each,
    ) -> io::Result<(u64, bool)> {
        let begun = reader.offset();
        let mut stop = false;
        let mut late = 0;
        while let Some(batch) = reader.next_batch()? {
            let lines = &batch.bytes[batch.fresh..];
            let wrapping = *wrapping.get_or_insert_with(|| Wrapping::of(lines));
            let taken_off = match wrapping {
                Wrapping::Syslog if self.leaves_syslog => Wrapping::None,
                wrapping => wrapping,
            };
            let mut start = 0;
            for end in memchr_iter(b'\n', lines) {
                let line = taken_off.unwrap(&lines[start..end]);
                start = end + 1;
                stop = each(line.strip_suffix(b"\r").unwrap_or(&line)).is_break();
                if stop {
                    break;
                }
            }
            match self.is_late(lines, wrapping, to) {
                Some(true) => late += lines.len(),
                Some(false) => late = 0,
                None => {}
            }
            if stop || late >= LATE {
                break;
            }
            let read = reader.offset() - begun;
            if read > AT_ONCE && self.run.ended().is_some() {
                self.cut_short = true;
                stop = true;
                break;
            }
        }
        self.bytes += reader.offset() - begun;
        Ok((reader.offset(), stop))
    }

    /// The time of a line as it stands in a file.
    fn time(&self, line: &[u8], wrapping: Wrapping) -> Option<i64> {
        if self.leaves_syslog && wrapping.is_none() {
            return self.times.of_shared(line);
        }
        self.times.of(&wrapping.unwrap(line))
    }

    /// Whether all lines are later than `to`. `None` where that does not show.
    fn is_late(&self, lines: &[u8], wrapping: Wrapping, to: i64) -> Option<bool> {
        if to == i64::MAX {
            return None;
        }
        let time = |line: &[u8]| self.time(line, wrapping);
        let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
        let mut backwards = lines.rsplit(|byte| *byte == b'\n');
        // Mostly the last line says that more is wanted.
        if time(backwards.next()?)? <= to {
            return Some(false);
        }
        let now = self.times.0.now() + clock::DISORDER;
        let mut is_late = None;
        for line in lines.split(|byte| *byte == b'\n') {
            match time(line) {
                Some(at) if at <= to => return Some(false),
                // A line from the future says nothing of where the log has come to.
                Some(at) if at <= now => is_late = Some(true),
                _ => {}
            }
        }
        is_late
    }
}

/// The logs that are named, patterns filled in; earlier files of another one in the list are left out, they are read
/// along with it.
pub fn expand(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    super::look::expand(named)
}

/// All files that are named, patterns filled in, earlier ones and compressed ones as well; where `read_along`, those of
/// another one in the list are left out.
pub fn expand_all(named: &[PathBuf], read_along: bool) -> anyhow::Result<Vec<PathBuf>> {
    super::look::expand_all(named, read_along)
}

fn open(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    let file = match links::open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("may not read {shown}: {}", owner::hint(path))
        }
        file => file.with_context(|| format!("cannot read {shown}"))?,
    };
    if !file.metadata()?.is_file() {
        bail!("{shown} is no regular file");
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn a_line_in_a_syslog_file_has_its_own_time() {
        let now = |text: &str| text.parse::<Timestamp>().unwrap();
        let clock = Clock::new(TimeZone::UTC, now("2026-11-23T12:00:00Z"));
        let five = now("2026-11-23T05:00:00Z").as_second();
        let times = Times::by(clock);
        let combined = "192.0.2.1 - - [23/Nov/2026:05:00:00 +0000] \"GET / HTTP/1.1\" 200 5";
        for line in [
            combined.to_owned(),
            format!("<190>Nov 23 06:00:00 vm nginx: {combined}"),
            "<190>Nov 23 05:00:00 vm nginx[7]: {\"t\":7,\"uri\":\"/[7]\"}".to_owned(),
            "2026-11-23T05:00:00+00:00 vm nginx[7]: {\"status\":\"200\"}".to_owned(),
            "2026-11-23T05:00:00+00:00 192.0.2.4:51236 GET /x: [7]".to_owned(),
            "<190>1 2026-11-23T05:00:00Z vm nginx - - - {\"status\":\"200\"}".to_owned(),
        ] {
            assert_eq!(times.of_shared(line.as_bytes()), Some(five), "{line}");
        }
    }
}
