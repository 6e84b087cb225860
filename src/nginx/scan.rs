//! One part of a log, read to its end and counted.

use std::io::{self, Read};

use anyhow::{Context, bail};

use super::compressed::{self, Unpacked};
use super::count::Counter;
use super::cursor::{self, Cursor};
use super::follow::Part;
use super::reader::{Batch, Reader};
use super::source::Source;
use super::wrapping::Wrapping;

/// A log of nginx' shows a line of its own within so many bytes.
const FIRST_LOOK: u64 = 128 * 1024;

/// Reads a part to its end, or until `ended` says so. Returns where it stopped.
pub fn scan(
    part: &Part,
    counter: &mut Counter<'_>,
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
    let name = part.path.display().to_string();
    let early = read_lines(&mut reader, &name, Wrapping::of(&head), counter, ended)?;
    let (offset, skipping) = (reader.offset(), reader.skipping());
    let cursor = if part.is_compressed {
        Cursor::in_compressed(&part.file, offset, skipping, &head, reader.before())
    } else {
        Cursor::at(&part.file, offset, skipping)
    };
    Ok((cursor.with_context(shown)?, early))
}

/// Reads what comes through a pipe, to its end. Returns whether it had to stop before.
pub fn scan_stream(
    mut stream: Box<dyn Read + Send>,
    name: &str,
    counter: &mut Counter<'_>,
    ended: &dyn Fn() -> bool,
) -> anyhow::Result<bool> {
    let mut head = Vec::new();
    stream
        .by_ref()
        .take(cursor::HEAD * 16)
        .read_to_end(&mut head)
        .with_context(|| format!("cannot read {name}"))?;
    let wrapping = Wrapping::of(&head);
    let source = Source::stream(Box::new(io::Cursor::new(head).chain(stream)));
    let mut reader = Reader::new(source, 0, &[], false);
    read_lines(&mut reader, name, wrapping, counter, ended)
}

fn read_lines(
    reader: &mut Reader,
    name: &str,
    wrapping: Wrapping,
    counter: &mut Counter<'_>,
    ended: &dyn Fn() -> bool,
) -> anyhow::Result<bool> {
    let from = reader.offset();
    let shown = || format!("cannot read {name}");
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
        counter.take(batch);
        if !counter.seen.recognised && reader.offset() > from + FIRST_LOOK {
            break;
        }
        // Behind the end of a look back nothing is wanted.
        if counter.has_enough() {
            break;
        }
        if ended() {
            early = true;
            break;
        }
    }
    counter.end_file(&wrapping.unwrap(reader.half()));
    if !counter.seen.recognised && (counter.seen.any_line || reader.overlong() > 0) {
        bail!(
            "{name} is no nginx error log: no line of it begins with a time, a level and a process, as in \
             2026/11/23 05:00:00 [error] 7#7:"
        );
    }
    counter.add_overlong(reader.overlong());
    counter.seen.bytes += reader.offset().saturating_sub(from);
    Ok(early)
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
        } = compressed::open_at(&part.file, part.from)?;
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
