//! A file in batches of whole lines, through buffers of fixed size, whatever the file holds.

use std::io;

use memchr::{memchr, memchr2, memrchr};

use super::line::LONGEST;
use super::source::{self, FRONT, Source};

/// Whole lines, and what stood before them.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Whole lines before, less than [`LONGEST`] bytes, then the new lines with their line feeds.
    pub bytes: &'a [u8],
    /// Where the new lines begin.
    pub fresh: usize,
}

/// Reads lines. A last line without its line feed is left for the next run.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    buffer: Vec<u8>,
    /// Where the bytes begin that were handed out before and stay for looking back.
    kept: usize,
    /// Where the bytes begin that were not handed out yet.
    fresh: usize,
    filled: usize,
    /// The place in the file of `fresh`.
    offset: u64,
    /// Within a line that is longer than the buffer: it is dropped up to its end.
    skipping: bool,
    overlong: u64,
}

impl Reader {
    /// A reader whose source stands at `offset`; `before` is what lies before it, for looking back.
    pub fn new(source: Source, offset: u64, before: &[u8], skipping: bool) -> Self {
        let before = &before[before.len().saturating_sub(LONGEST)..];
        let mut buffer = source::buffer();
        buffer[FRONT - before.len()..FRONT].copy_from_slice(before);
        Self {
            source,
            buffer,
            kept: FRONT - before.len(),
            fresh: FRONT,
            filled: FRONT,
            offset,
            skipping,
            overlong: 0,
        }
    }

    /// How far has been read: behind the last whole line.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether that is in the middle of a line that is longer than the buffer.
    pub fn skipping(&self) -> bool {
        self.skipping
    }

    /// What was handed out last, up to that place.
    pub fn before(&self) -> &[u8] {
        &self.buffer[self.fresh.saturating_sub(LONGEST).max(self.kept)..self.fresh]
    }

    /// The line at the end that has no line feed yet, as far as it was read.
    pub fn half(&self) -> &[u8] {
        &self.buffer[self.fresh..self.filled]
    }

    /// How many lines were longer than the buffer, and dropped.
    pub fn overlong(&self) -> u64 {
        self.overlong
    }

    /// The next lines; `None` at the end of the file.
    pub fn next_batch(&mut self) -> io::Result<Option<Batch<'_>>> {
        loop {
            self.kept = self.kept.max(self.fresh.saturating_sub(LONGEST));
            let rest = self.filled - self.kept;
            let piece = self.source.next(&mut self.buffer, self.kept..self.filled)?;
            if piece.length == 0 && piece.hole == 0 {
                // The buffer is as it was.
                return Ok(None);
            }
            self.fresh = FRONT - (self.filled - self.fresh);
            self.kept = FRONT - rest;
            self.filled = FRONT + piece.length;
            let mut searched = FRONT;
            if piece.hole > 0 {
                // What stands before a hole has lost its end in it.
                self.advance(FRONT);
                self.offset += piece.hole;
                self.skipping = false;
            }
            if self.skipping && !self.skip() {
                continue;
            }
            searched = searched.max(self.fresh);
            if let Some(feed) = memrchr(b'\n', &self.buffer[searched..self.filled]) {
                let end = searched + feed + 1;
                let earlier = &self.buffer[self.kept..self.fresh];
                // What was cut off may have begun in the middle of a line, which is no line.
                let is_cut = earlier.len() >= LONGEST;
                let whole = || memchr(b'\n', earlier).map_or(earlier.len(), |feed| feed + 1);
                let kept = self.kept + if is_cut { whole() } else { 0 };
                let fresh = self.fresh - kept;
                self.offset += (end - self.fresh) as u64;
                self.fresh = end;
                let bytes = &self.buffer[kept..end];
                return Ok(Some(Batch { bytes, fresh }));
            }
            if self.filled - self.fresh > FRONT - LONGEST {
                self.drop_what_has_no_end();
            }
        }
    }

    /// Drops up to the end of the overlong line. Returns whether that was found.
    fn skip(&mut self) -> bool {
        let rest = &self.buffer[self.fresh..self.filled];
        let end = memchr2(b'\n', 0, rest);
        self.skipping = end.is_none();
        self.advance(end.map_or(self.filled, |end| self.fresh + end + 1));
        !self.skipping
    }

    /// A buffer without a line feed. What a power failure left behind is a hole of NUL bytes, with a line of its
    /// own behind it; everything else is a line that nginx did not write.
    fn drop_what_has_no_end(&mut self) {
        let nul = memrchr(0, &self.buffer[self.fresh..self.filled]);
        if let Some(nul) = nul.filter(|nul| self.filled - self.fresh - nul <= FRONT - LONGEST) {
            self.advance(self.fresh + nul + 1);
        } else {
            self.advance(self.filled);
            self.skipping = true;
            self.overlong += 1;
        }
    }

    /// Goes on at this place of the buffer. What was dropped is nothing to look back at.
    fn advance(&mut self, to: usize) {
        self.offset += (to - self.fresh) as u64;
        self.fresh = to;
        self.kept = to;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::super::source::READ;
    use super::*;

    /// A source that gives a few bytes at a time.
    struct Drip(Vec<u8>, usize, usize);

    impl Read for Drip {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let rest = &self.0[self.1..];
            let n = self.2.min(into.len()).min(rest.len());
            into[..n].copy_from_slice(&rest[..n]);
            self.1 += n;
            Ok(n)
        }
    }

    fn drip(text: &[u8], step: usize) -> Source {
        Source::stream(Box::new(Drip(text.to_vec(), 0, step)))
    }

    fn read_all(text: &[u8], step: usize) -> (Vec<u8>, Reader) {
        let mut reader = Reader::new(drip(text, step), 0, b"", false);
        let mut all = Vec::new();
        while let Some(batch) = reader.next_batch().unwrap() {
            assert!(batch.bytes.ends_with(b"\n"));
            all.extend_from_slice(&batch.bytes[batch.fresh..]);
        }
        (all, reader)
    }

    proptest! {
        #[test]
        fn whole_lines_come_out_as_they_are_however_they_arrive(
            lines in prop::collection::vec("[a-z]{0,40}", 0..50), half in "[a-z]{0,9}", step in 1_usize..99,
        ) {
            let whole = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
            let text = format!("{whole}{half}");
            let (all, reader) = read_all(text.as_bytes(), step);
            prop_assert_eq!(all, whole.as_bytes());
            prop_assert_eq!(reader.offset(), whole.len() as u64);
        }
    }

    #[test]
    fn a_line_longer_than_the_buffer_is_dropped_and_counted() {
        let mut text = b"one\n".to_vec();
        text.resize(3 * READ, b'x');
        text.extend_from_slice(b"\ntwo\n");
        let (all, reader) = read_all(&text, READ);
        assert_eq!(all, b"one\ntwo\n");
        assert_eq!((reader.overlong(), reader.offset()), (1, text.len() as u64));
    }

    #[test]
    fn a_line_behind_a_hole_of_nul_bytes_is_read() {
        let mut text = b"one\nhalf".to_vec();
        text.resize(3 * READ, 0);
        text.extend_from_slice(b"two\n");
        let (all, reader) = read_all(&text, READ);
        let seen: Vec<u8> = all.into_iter().filter(|b| *b != 0).collect();
        assert_eq!(seen, b"one\ntwo\n");
        assert_eq!(reader.offset(), text.len() as u64);
    }

    #[test]
    fn earlier_lines_stay_for_looking_back() {
        let text = "0123456789abcde\n".repeat(100_000);
        let mut reader = Reader::new(drip(text.as_bytes(), 7777), 0, b"before\n", false);
        let mut total = 0;
        while let Some(batch) = reader.next_batch().unwrap() {
            assert!(batch.fresh >= 7 && batch.fresh <= LONGEST);
            total += batch.bytes.len() - batch.fresh;
        }
        assert_eq!(total, text.len());
    }
}
