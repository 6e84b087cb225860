//! A file in batches of whole lines, through one buffer of fixed size, whatever the file holds.

use std::io::{self, Read};

use memchr::{memchr2, memrchr};

use super::line::LONGEST;

/// What one read asks for.
const READ: usize = 256 * 1024;

/// The buffer: a read, what was left of the last one, and what stays for looking back.
const BUFFER: usize = READ + 64 * 1024 + LONGEST;

/// Whole lines, and what stood before them.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Up to [`LONGEST`] bytes of earlier lines, then the new lines with their line feeds.
    pub bytes: &'a [u8],
    /// Where the new lines begin.
    pub fresh: usize,
}

/// Reads lines. A last line without its line feed is left for the next run.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
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

impl<R: Read> Reader<R> {
    /// A reader whose source stands at `offset`; `before` is what lies before it, for looking back.
    pub fn new(source: R, offset: u64, before: &[u8], skipping: bool) -> Self {
        let before = &before[before.len().saturating_sub(LONGEST)..];
        let mut buffer = Vec::with_capacity(BUFFER);
        buffer.extend_from_slice(before);
        buffer.resize(BUFFER, 0);
        Self {
            source,
            buffer,
            kept: 0,
            fresh: before.len(),
            filled: before.len(),
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
        &self.buffer[self.fresh.saturating_sub(LONGEST)..self.fresh]
    }

    /// How many lines were longer than the buffer, and dropped.
    pub fn overlong(&self) -> u64 {
        self.overlong
    }

    /// The next lines; `None` at the end of the file.
    pub fn next_batch(&mut self) -> io::Result<Option<Batch<'_>>> {
        loop {
            self.make_room();
            let space = READ.min(self.buffer.len() - self.filled);
            let before = self.filled;
            let read = match self.source.read(&mut self.buffer[before..before + space]) {
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.filled += read;
            if self.skipping && !self.skip() {
                continue;
            }
            let searched = before.max(self.fresh);
            if let Some(feed) = memrchr(b'\n', &self.buffer[searched..self.filled]) {
                let end = searched + feed + 1;
                let (kept, fresh) = (self.kept, self.fresh - self.kept);
                self.offset += (end - self.fresh) as u64;
                self.fresh = end;
                let bytes = &self.buffer[kept..end];
                return Ok(Some(Batch { bytes, fresh }));
            }
            if self.filled - self.fresh > READ {
                self.drop_what_has_no_end();
            }
        }
    }

    /// Moves what is still needed to the front.
    fn make_room(&mut self) {
        self.kept = self.fresh.saturating_sub(LONGEST);
        if self.buffer.len() - self.filled < READ {
            self.buffer.copy_within(self.kept..self.filled, 0);
            self.fresh -= self.kept;
            self.filled -= self.kept;
            self.kept = 0;
        }
    }

    /// Drops up to the end of the overlong line. Returns whether that was found.
    fn skip(&mut self) -> bool {
        let rest = &self.buffer[self.fresh..self.filled];
        let end = memchr2(b'\n', 0, rest);
        self.skipping = end.is_none();
        let dropped = end.map_or(rest.len(), |end| end + 1);
        self.advance(dropped);
        !self.skipping
    }

    /// A buffer without a line feed. What a power failure left behind is a hole of NUL bytes, with a line of its
    /// own behind it; everything else is a line that nginx did not write.
    fn drop_what_has_no_end(&mut self) {
        let rest = &self.buffer[self.fresh..self.filled];
        if let Some(nul) = memrchr(0, rest) {
            self.advance(nul + 1);
        } else {
            let all = rest.len();
            self.advance(all);
            self.skipping = true;
            self.overlong += 1;
        }
    }

    fn advance(&mut self, by: usize) {
        self.fresh += by;
        self.offset += by as u64;
        // What was dropped is nothing to look back at.
        self.buffer.copy_within(self.fresh..self.filled, 0);
        self.filled -= self.fresh;
        self.fresh = 0;
        self.kept = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A source that gives a few bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(into.len()).min(self.0.len());
            into[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn read_all(text: &[u8], step: usize) -> (Vec<u8>, Reader<Drip<'_>>) {
        let mut reader = Reader::new(Drip(text, step), 0, b"", false);
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
        text.resize(3 * BUFFER, b'x');
        text.extend_from_slice(b"\ntwo\n");
        let (all, reader) = read_all(&text, READ);
        assert_eq!(all, b"one\ntwo\n");
        assert_eq!((reader.overlong(), reader.offset()), (1, text.len() as u64));
    }

    #[test]
    fn a_line_behind_a_hole_of_nul_bytes_is_read() {
        let mut text = b"one\nhalf".to_vec();
        text.resize(3 * BUFFER, 0);
        text.extend_from_slice(b"two\n");
        let (all, reader) = read_all(&text, READ);
        let seen: Vec<u8> = all.into_iter().filter(|b| *b != 0).collect();
        assert_eq!(seen, b"one\ntwo\n");
        assert_eq!(reader.offset(), text.len() as u64);
    }

    #[test]
    fn earlier_lines_stay_for_looking_back() {
        let text = "0123456789abcde\n".repeat(100_000);
        let mut reader = Reader::new(Drip(text.as_bytes(), 7777), 0, b"before\n", false);
        let mut total = 0;
        while let Some(batch) = reader.next_batch().unwrap() {
            assert!(batch.fresh >= 7 && batch.fresh <= LONGEST);
            total += batch.bytes.len() - batch.fresh;
        }
        assert_eq!(total, text.len());
    }
}
