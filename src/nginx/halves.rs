//! A large file, read by two threads at once, each one half of it. What comes of it is the same as with one.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Context;
use memchr::memchr;

use super::clock::Reckoner;
use super::count::Counter;
use super::cursor;
use super::dialect::{Dialect, Form};
use super::follow::Part;
use super::line::{LONGEST, STAMP, has_header};
use super::reader::Reader;
use super::scan::{End, Ended, Text, reader_of};
use super::source;

/// Less than this is read faster than it is divided. (In tests, so that small logs are.)
const MUCH: u64 = if cfg!(test) { 4096 } else { 16 << 20 };

/// Within so many bytes behind the middle a line has to begin as nginx' do.
const REACH: u64 = 64 * 1024;

/// A place in the middle where a line of nginx' begins; `None` where one thread has to read it all.
pub fn middle(
    file: &File,
    range: Range<u64>,
    form: Form,
    times: &Reckoner<'_>,
) -> io::Result<Option<u64>> {
    let length = range.end.saturating_sub(range.start);
    let alone = || thread::available_parallelism().is_ok_and(|threads| threads.get() < 2);
    if form.dialect != Dialect::Nginx || length < MUCH || source::has_holes(file)? || alone() {
        return Ok(None);
    }
    let from = range.start + length / 2;
    let piece = cursor::read_at(file, from, REACH)?;
    let mut start = memchr(b'\n', &piece).map_or(piece.len(), |feed| feed + 1);
    while let Some(feed) = memchr(b'\n', &piece[start..]) {
        let line = form.wrapping.unwrap(&piece[start..start + feed]);
        if has_header(&line) {
            // Which of two hours it is, only what stands before it can tell.
            let is_sure = !times.is_near_a_change(&line[..STAMP]);
            return Ok(is_sure.then_some(from + start as u64));
        }
        start += feed + 1;
    }
    Ok(None)
}

/// Counts both halves. Returns the reader that came further.
pub fn count(
    part: &Part,
    middle: u64,
    end: u64,
    text: Text<'_>,
    counter: &mut Counter<'_>,
    ended: Ended<'_>,
) -> anyhow::Result<(Reader, End)> {
    let shown = || format!("cannot read {}", text.name);
    let behind = cursor::read_at(&part.file, middle, LONGEST as u64).with_context(shown)?;
    let mut unwrapped = Vec::new();
    text.form.wrapping.unwrap_batch(&behind, 0, &mut unwrapped);
    let first = Text {
        behind: &unwrapped,
        ..text
    };
    let mut first_half = reader_of(part, part.from..middle).with_context(shown)?;
    let mut second_half = reader_of(part, middle..end).with_context(shown)?;
    let fork = counter.fork();
    let is_in_vain = AtomicBool::new(false);
    let stop = || is_in_vain.load(Ordering::Relaxed) || ended();
    thread::scope(|scope| {
        let second = thread::Builder::new()
            .name("second half".to_owned())
            .spawn_scoped(scope, || {
                let result = fork.count(|counter| text.count(&mut second_half, counter, &stop));
                (result, second_half)
            });
        let Ok(second) = second else {
            let mut whole = reader_of(part, part.from..end).with_context(shown)?;
            let end = text.count(&mut whole, counter, ended)?;
            return Ok((whole, end));
        };
        let result = first.count(&mut first_half, counter, ended);
        if !matches!(result, Ok(End::All)) {
            is_in_vain.store(true, Ordering::Relaxed);
        }
        let joined = second.join();
        let ((second, apart), second_half) =
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match result? {
            End::All => {
                let end = second?;
                counter.join(apart);
                Ok((second_half, end))
            }
            end => Ok((first_half, end)),
        }
    })
}
