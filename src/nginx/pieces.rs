//! A large file, read by two threads, each taking the next piece of it when it is done with one. What comes of it is the
//! same as with one thread.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use memchr::memchr;

use super::clock::Reckoner;
use super::count::{Apart, Counter};
use super::cursor;
use super::dialect::{Dialect, Form};
use super::follow::Part;
use super::line::{LONGEST, STAMP, has_header};
use super::scan::{End, Ended, Stop, Text};
use super::source;

/// Less than this is read faster than it is divided. (In tests, so that small logs are.)
const MUCH: u64 = if cfg!(test) { 4096 } else { 16 << 20 };

/// How long a piece is at least and at most, and which part of what is left in between: towards the end they get shorter,
/// so that neither thread waits long for the other. (The connections of a piece are told apart when it is joined: long
/// ones take memory, and the caches do not hold it.)
const LEAST: u64 = if cfg!(test) { 1024 } else { 1 << 20 };
const MOST: u64 = 8 << 20;
const SHARE: u64 = 16;
/// How many pieces there are at most before they get shorter.
const PIECES: u64 = 128;

/// Within so many bytes behind its place a line has to begin as nginx' do, or there is no border.
const REACH: u64 = 32 * 1024;

/// The pieces of a range, each beginning with a line of nginx'. A single one where one thread has to read it all.
pub fn pieces(
    file: &File,
    range: Range<u64>,
    form: Form,
    times: &Reckoner<'_>,
) -> io::Result<Vec<Range<u64>>> {
    let length = range.end.saturating_sub(range.start);
    let alone = || thread::available_parallelism().is_ok_and(|threads| threads.get() < 2);
    let mut pieces = Vec::new();
    let mut from = range.start;
    if form.dialect == Dialect::Nginx && length >= MUCH && !source::has_holes(file)? && !alone() {
        let most = MOST.max(length / PIECES);
        let step = |from: u64| ((range.end - from) / SHARE).clamp(LEAST, most);
        while range.end - from >= 2 * step(from) {
            let Some(border) = border(file, from + step(from), form, times)? else {
                break;
            };
            pieces.push(from..border);
            from = border;
        }
    }
    pieces.push(from..range.end);
    Ok(pieces)
}

/// The first place behind this one where a line of nginx' begins, if its time tells itself.
fn border(file: &File, from: u64, form: Form, times: &Reckoner<'_>) -> io::Result<Option<u64>> {
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

/// Counts the pieces, two or more.
pub fn count(
    part: &Part,
    pieces: &[Range<u64>],
    text: Text<'_>,
    counter: &mut Counter<'_>,
    ended: Ended<'_>,
) -> anyhow::Result<Stop> {
    let next = AtomicUsize::new(0);
    let is_in_vain = AtomicBool::new(false);
    let joint = Mutex::new(Joint {
        counter,
        apart: BTreeMap::new(),
        joined: 0,
        last: None,
    });
    let lock = || joint.lock().unwrap_or_else(PoisonError::into_inner);
    let stop = || is_in_vain.load(Ordering::Relaxed) || ended();
    let work = || {
        while !is_in_vain.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(number) else {
                break;
            };
            let fork = lock().counter.fork(number == 0);
            let is_last = number + 1 == pieces.len();
            let (read, apart) =
                fork.count(|counter| count_one(part, piece, is_last, text, counter, &stop));
            if lock().join(number, read, apart) {
                is_in_vain.store(true, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        let second = thread::Builder::new()
            .name("second reader".to_owned())
            .spawn_scoped(scope, work);
        work();
        // Without a second thread the first one has read all.
        if let Ok(second) = second
            && let Err(panic) = second.join()
        {
            std::panic::resume_unwind(panic);
        }
    });
    let joint = joint.into_inner().unwrap_or_else(PoisonError::into_inner);
    joint.last.context("no piece was read")?
}

fn count_one(
    part: &Part,
    piece: &Range<u64>,
    is_last: bool,
    text: Text<'_>,
    counter: &mut Counter<'_>,
    ended: Ended<'_>,
) -> anyhow::Result<Stop> {
    let shown = || format!("cannot read {}", text.name);
    let mut behind = Vec::new();
    if !is_last {
        let raw = cursor::read_at(&part.file, piece.end, LONGEST as u64).with_context(shown)?;
        text.form.wrapping.unwrap_batch(&raw, 0, &mut behind);
    }
    let text = Text {
        behind: &behind,
        ..text
    };
    text.count_piece(part, piece, counter, ended)
}

/// What the pieces are joined to, in their order.
struct Joint<'a, 'c> {
    counter: &'a mut Counter<'c>,
    /// Those that one before them is missing of.
    apart: BTreeMap<usize, (anyhow::Result<Stop>, Apart)>,
    /// How many were joined.
    joined: usize,
    /// How the last one of them ended.
    last: Option<anyhow::Result<Stop>>,
}

impl Joint<'_, '_> {
    /// Joins a piece, or keeps it until those before it are. Returns whether the rest is not wanted.
    fn join(&mut self, number: usize, read: anyhow::Result<Stop>, apart: Apart) -> bool {
        self.apart.insert(number, (read, apart));
        while let Some((read, apart)) = self.apart.remove(&self.joined) {
            let is_whole = matches!(&read, Ok(stop) if stop.end == End::All);
            if read.is_ok() {
                self.counter.join(apart);
            }
            let goes_on = is_whole && !self.counter.has_enough();
            self.last = Some(read);
            if !goes_on {
                self.joined = usize::MAX;
                return true;
            }
            self.joined += 1;
        }
        self.joined == usize::MAX
    }
}
