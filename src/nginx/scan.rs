//! One part of a log, read to its end and counted.

use std::io;

use anyhow::{Context, bail};
use memchr::{memchr, memchr_iter, memmem, memrchr};

use super::cause::CauseSet;
use super::clock::Reckoner;
use super::cursor::{self, Cursor};
use super::follow::Part;
use super::forged::Watch;
use super::gzip::{self, Unpacked};
use super::line::{self, Level, Line, STAMP};
use super::reader::{Batch, Reader};
use super::source::Source;
use super::tally::Tally;
use super::wrapping::Wrapping;

/// A log of nginx' shows a line of its own within so many bytes.
const FIRST_LOOK: u64 = 128 * 1024;

/// What was seen in the parts of one log.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// How much was read.
    pub bytes: u64,
    /// The time of the first line read.
    pub first: Option<i64>,
    /// The time of the last line read.
    pub last: Option<i64>,
    /// The levels of the lines, as bits of [`Level`].
    pub levels: u8,
    /// Whether a line of nginx' was among them.
    pub recognised: bool,
    /// Whether any line was.
    pub any_line: bool,
}

/// How to count.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The causes that are listed by name.
    pub counted: CauseSet,
    /// Events up to this second are too old.
    pub after: i64,
    /// Events after this second do not count.
    pub until: i64,
    /// When the log has come so far, the rest of it is left.
    pub enough: i64,
    /// Tells apart the workers of several logs.
    pub file: usize,
}

/// Reads a part to its end, or until `ended` says so. Returns where it stopped.
pub fn scan(
    part: &Part,
    rules: &Rules,
    times: &mut Reckoner<'_>,
    tally: &mut Tally,
    seen: &mut Seen,
    ended: &dyn Fn() -> bool,
) -> anyhow::Result<(Cursor, bool)> {
    let shown = || format!("cannot read {}", part.path.display());
    let Opened {
        source,
        head,
        before,
    } = open_at(part).with_context(shown)?;
    let Some(source) = source else {
        let cursor = Cursor::at(&part.file, part.from, part.skipping).with_context(shown)?;
        return Ok((cursor, false));
    };
    let mut reader = Reader::new(source, part.from, &before, part.skipping);
    let wrapping = Wrapping::of(&head);
    let mut unwrapped = Vec::new();
    let mut early = false;
    while let Some(batch) = reader.next_batch().with_context(shown)? {
        let batch = if wrapping == Wrapping::None {
            batch
        } else {
            let fresh = wrapping.unwrap_batch(batch.bytes, batch.fresh, &mut unwrapped);
            Batch {
                bytes: &unwrapped,
                fresh,
            }
        };
        count(batch, rules, times, tally, seen);
        if !seen.recognised && reader.offset() > part.from + FIRST_LOOK {
            break;
        }
        // Behind the end of a look back nothing is wanted.
        if times.latest().is_some_and(|latest| latest > rules.enough) {
            break;
        }
        if ended() {
            early = true;
            break;
        }
    }
    if !seen.recognised && (seen.any_line || reader.overlong() > 0) {
        bail!(
            "{} is no nginx error log: no line of it begins with a time, a level and a process, as in \
             2026/11/23 05:00:00 [error] 7#7:",
            part.path.display()
        );
    }
    if let (Some(time), 1..) = (times.latest(), reader.overlong()) {
        tally.add_unparsed(time, reader.overlong());
    }
    seen.bytes += reader.offset().saturating_sub(part.from);
    let (offset, skipping) = (reader.offset(), reader.skipping());
    let cursor = if part.is_compressed {
        Cursor::in_compressed(&part.file, offset, skipping, &head, reader.before())
    } else {
        Cursor::at(&part.file, offset, skipping)
    };
    Ok((cursor.with_context(shown)?, early))
}

/// A part that is about to be read.
struct Opened {
    /// None where there is nothing new.
    source: Option<Source>,
    /// The first bytes of the whole.
    head: Vec<u8>,
    /// What stands before the place, for looking back.
    before: Vec<u8>,
}

fn open_at(part: &Part) -> io::Result<Opened> {
    if part.is_compressed {
        let Unpacked {
            source,
            head,
            before,
        } = gzip::open_at(&part.file, part.from)?;
        return Ok(Opened {
            source: Some(Source::stream(source)),
            head,
            before,
        });
    }
    // What grows meanwhile is left for the next run: a log that is written faster than read has no end.
    let size = part.file.metadata()?.len();
    if size <= part.from {
        return Ok(Opened {
            source: None,
            head: Vec::new(),
            before: Vec::new(),
        });
    }
    Ok(Opened {
        source: Some(Source::file(part.file.try_clone()?, part.from..size)?),
        head: cursor::read_at(&part.file, 0, cursor::HEAD * 16)?,
        before: cursor::before(&part.file, part.from)?,
    })
}

fn count(
    batch: Batch<'_>,
    rules: &Rules,
    times: &mut Reckoner<'_>,
    tally: &mut Tally,
    seen: &mut Seen,
) {
    let Batch { bytes, fresh } = batch;
    let mut watch = Watch::new(bytes, fresh);
    let has_nul = memchr(0, &bytes[fresh..]).is_some();
    let mut start = fresh;
    let mut levels = seen.levels;
    let mut last_stamp = None;
    seen.any_line = true;
    for feed in memchr_iter(b'\n', &bytes[fresh..]) {
        let end = fresh + feed;
        if has_nul && let Some(nul) = memrchr(0, &bytes[start..end]) {
            start += nul + 1;
        }
        let line = &bytes[start..end];
        if let Some(level) = line::level(line) {
            levels |= level as u8;
            last_stamp = Some(&line[..STAMP]);
            if !seen.recognised && line::has_header(line) {
                seen.recognised = true;
            }
            if seen.first.is_none() {
                seen.first = times.read(&line[..STAMP]);
            }
            let told = if level == Level::Low {
                Line::NoClient
            } else {
                line::read(line)
            };
            match told {
                Line::Event(event) => {
                    let forged = watch.is_forged(bytes, start, end);
                    add(&event, forged, rules, times, tally);
                    if event.fields.is_empty() {
                        watch.pass(bytes, start, end);
                    }
                }
                Line::Other => {}
                Line::NoClient => watch.pass(bytes, start, end),
            }
        } else if memmem::find(line, b" failed (").is_some()
            && !line.starts_with(b"nginx: [")
            && !watch.is_forged(bytes, start, end)
            && !is_end_of_message(line)
            && let Some(time) = times.latest()
        {
            tally.add_unparsed(time, 1);
        }
        start = end + 1;
    }
    seen.levels = levels;
    if let Some(time) = last_stamp.and_then(|stamp| times.read(stamp)) {
        seen.last = Some(time);
    }
}

fn add(
    event: &line::Event<'_>,
    forged: bool,
    rules: &Rules,
    times: &mut Reckoner<'_>,
    tally: &mut Tally,
) {
    if forged {
        // The time in it is as forged as the rest.
        if let Some(time) = times.latest().filter(|time| *time > rules.after) {
            tally.add_suspect(time);
        }
        return;
    }
    let Some(time) = times.read(event.stamp) else {
        if let Some(time) = times.latest() {
            tally.add_unparsed(time, 1);
        }
        return;
    };
    if time > rules.after && time <= rules.until {
        tally.add(time, event, rules.counted.has(event.cause), rules.file);
    }
}

/// The last line of a message that a path or a FastCGI server broke into several.
fn is_end_of_message(line: &[u8]) -> bool {
    memmem::find(line, b", client: ").is_some()
}
