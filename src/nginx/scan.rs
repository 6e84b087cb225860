//! One part of a log, read to its end and counted.

use std::io::{self, Read};
use std::ops::Range;

use anyhow::{Context, bail};
use memchr::memrchr;

use super::compressed::{self, Unpacked};
use super::correlate;
use super::count::Counter;
use super::cursor::{self, Cursor};
use super::dialect::{Dialect, Form};
use super::fold;
use super::follow::Part;
use super::pieces;
use super::reader::{Batch, Reader};
use super::source::Source;
use super::wrapping::Wrapping;

/// A log of nginx' shows a line of its own within so many bytes.
const FIRST_LOOK: u64 = 128 * 1024;

/// Whether to stop.
pub type Ended<'a> = &'a (dyn Fn() -> bool + Sync);

/// How reading came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There was no more.
    All,
    /// The rest is not wanted.
    Enough,
    /// The run has to end.
    Early,
}

/// Where and how reading came to its end.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// How far was read.
    pub offset: u64,
    /// Whether that is within a line longer than the buffer.
    pub skipping: bool,
    /// Why no further.
    pub end: End,
}

/// What is read: its name and what is around its lines.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// For a person.
    pub name: &'a str,
    /// How it is written.
    pub form: Form,
    /// What follows right behind it, as nginx wrote it, where another one reads on.
    pub behind: &'a [u8],
}

/// Reads a part to its end, or until `ended` says so. Returns where it stopped.
pub fn scan(
    part: &Part,
    counter: &mut Counter<'_>,
    ended: Ended<'_>,
) -> anyhow::Result<(Cursor, bool)> {
    let name = part.path.display().to_string();
    let shown = || format!("cannot read {name}");
    if part.is_compressed {
        return scan_compressed(part, &name, counter, ended);
    }
    // What grows meanwhile is left for the next run: a log that is written faster than read has no end.
    let size = part.file.metadata().with_context(shown)?.len();
    if size <= part.from {
        let cursor = Cursor::at(&part.file, part.from, part.skipping).with_context(shown)?;
        return Ok((cursor, false));
    }
    let head = cursor::read_at(&part.file, 0, cursor::HEAD * 16).with_context(shown)?;
    let known = counter.known_form();
    let form = Form::of_known(&head, counter.dialect(), known);
    let is_plain =
        form.is_none_or(|form| form.wrapping.is_none() && form.dialect == Dialect::Nginx);
    if is_plain && part.from == 0 && size > FIRST_LOOK {
        // Nothing shows that the lines of this one are nginx', whatever was read before.
        counter.seen.recognised = false;
    }
    let text = Text {
        name: &name,
        form: form.unwrap_or_else(|| Form::of(&head, counter.dialect())),
        behind: &[],
    };
    counter.know_form(text.form);
    let second_pass = fold::second_pass(
        &part.file,
        part.from..size,
        text.form,
        counter.times.clock(),
    );
    counter
        .times
        .know_second_pass(second_pass.with_context(shown)?);
    let pieces = pieces::pieces(&part.file, part.from..size, text.form, &counter.times);
    let pieces = pieces.with_context(shown)?;
    let Stop {
        offset,
        skipping,
        end,
    } = match &pieces[..] {
        [piece] => text.count_piece(part, piece, counter, ended)?,
        pieces => pieces::count(part, pieces, text, counter, ended)?,
    };
    let cursor = Cursor::at(&part.file, offset, skipping).with_context(shown)?;
    Ok((cursor, end == End::Early))
}

fn scan_compressed(
    part: &Part,
    name: &str,
    counter: &mut Counter<'_>,
    ended: Ended<'_>,
) -> anyhow::Result<(Cursor, bool)> {
    let shown = || format!("cannot read {name}");
    let Unpacked {
        source,
        head,
        before,
    } = compressed::open_at(&part.file, part.from).with_context(shown)?;
    let mut reader = Reader::new(Source::stream(source), part.from, &before, part.skipping);
    let text = Text {
        name,
        form: Form::of_known(&head, counter.dialect(), counter.known_form())
            .unwrap_or_else(|| Form::of(&head, counter.dialect())),
        behind: &[],
    };
    let end = text.count(&mut reader, counter, ended)?;
    let (offset, skipping) = (reader.offset(), reader.skipping());
    let cursor = Cursor::in_compressed(&part.file, offset, skipping, &head, reader.before());
    Ok((cursor.with_context(shown)?, end == End::Early))
}

/// What comes through a pipe.
pub struct Stream {
    /// How it begins.
    pub head: Vec<u8>,
    /// How it is written.
    pub form: Form,
    rest: Box<dyn Read + Send>,
}

impl Stream {
    /// Looks at its beginning.
    pub fn open(mut rest: Box<dyn Read + Send>, dialect: Option<Dialect>) -> io::Result<Self> {
        let mut head = Vec::new();
        rest.by_ref()
            .take(cursor::HEAD * 16)
            .read_to_end(&mut head)?;
        Ok(Self {
            form: Form::of(&head, dialect),
            head,
            rest,
        })
    }

    /// Reads it to its end. Returns whether it had to stop before.
    pub fn count(
        self,
        name: &str,
        counter: &mut Counter<'_>,
        ended: Ended<'_>,
    ) -> anyhow::Result<bool> {
        let text = Text {
            name,
            form: self.form,
            behind: &[],
        };
        let source = Source::stream(Box::new(io::Cursor::new(self.head).chain(self.rest)));
        let mut reader = Reader::new(source, 0, &[], false);
        Ok(text.count(&mut reader, counter, ended)? == End::Early)
    }
}

/// The last one of whole lines.
fn last_line(lines: &[u8]) -> &[u8] {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    &lines[memrchr(b'\n', lines).map_or(0, |feed| feed + 1)..]
}

/// A reader for some bytes of a part.
fn reader_of(part: &Part, range: Range<u64>) -> io::Result<Reader> {
    let before = cursor::before(&part.file, range.start)?;
    let skipping = part.skipping && range.start == part.from;
    let from = range.start;
    let source = Source::file(part.file.try_clone()?, range)?;
    Ok(Reader::new(source, from, &before, skipping))
}

impl Text<'_> {
    /// Counts the lines in some bytes of a part.
    pub fn count_piece(
        &self,
        part: &Part,
        piece: &Range<u64>,
        counter: &mut Counter<'_>,
        ended: Ended<'_>,
    ) -> anyhow::Result<Stop> {
        let reader = reader_of(part, piece.clone());
        let mut reader = reader.with_context(|| format!("cannot read {}", self.name))?;
        let end = self.count(&mut reader, counter, ended)?;
        Ok(Stop {
            offset: reader.offset(),
            skipping: reader.skipping(),
            end,
        })
    }

    /// Counts the lines that a reader gives.
    fn count(
        &self,
        reader: &mut Reader,
        counter: &mut Counter<'_>,
        ended: Ended<'_>,
    ) -> anyhow::Result<End> {
        let Self { name, form, .. } = *self;
        let wrapping = form.wrapping;
        counter.know_form(form);
        let from = reader.offset();
        let mut unwrapped = Vec::new();
        let mut end = End::All;
        while let Some(batch) = reader
            .next_batch()
            .with_context(|| format!("cannot read {name}"))?
        {
            // Lines of requests, and in a syslog file those of other programs, may stand before those of errors, however many
            // they are.
            let may_follow = !counter.seen.recognised
                && (!wrapping.is_none() || correlate::is_of_an_access_log(last_line(batch.bytes)));
            if form.dialect != Dialect::Nginx {
                counter.take_foreign(batch, form);
            } else if wrapping == Wrapping::None {
                counter.take(batch);
            } else {
                let fresh = wrapping.unwrap_batch(batch.bytes, batch.fresh, &mut unwrapped);
                counter.take(Batch {
                    bytes: &unwrapped,
                    fresh,
                });
            }
            let is_foreign =
                !counter.seen.recognised && !may_follow && reader.offset() > from + FIRST_LOOK;
            // Behind the end of a look back nothing is wanted.
            if is_foreign || counter.has_enough() {
                end = End::Enough;
                break;
            }
            if ended() {
                end = End::Early;
                break;
            }
        }
        if self.behind.is_empty() {
            counter.end(&wrapping.unwrap(reader.half()));
        } else {
            counter.end(self.behind);
        }
        if !counter.seen.recognised && (counter.seen.any_line || reader.overlong() > 0) {
            let proxy = form.dialect.proxy();
            match form.dialect {
                _ if wrapping == Wrapping::Syslog => bail!(
                    "{name} holds no line of {proxy} among those of syslog: if {proxy} logs there, wait for its first line; if \
                     they are another proxy's, say so with --dialect"
                ),
                Dialect::Nginx => bail!("{name} is no nginx error log: {}", form.dialect.example()),
                _ => bail!("{name} is no log of {proxy}: {}", form.dialect.example()),
            }
        }
        counter.add_overlong(reader.overlong());
        counter.seen.bytes += reader.offset().saturating_sub(from);
        Ok(end)
    }
}
