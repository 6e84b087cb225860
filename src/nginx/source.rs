//! Where bytes come from: a file or a stream, read a piece at a time; holes are leapt over. Reads, never a mapping:
//! under copytruncate that would be a SIGBUS.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::SeekFrom;

/// What one read asks for: with the buffers, half of what a second-level cache holds.
pub const READ: usize = 128 * 1024;

/// What lies before it in a buffer: the end of the last piece, a line begun and what is looked back at.
pub const FRONT: usize = 128 * 1024;

/// What came next.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Bytes of a hole that was leapt over before it.
    pub hole: u64,
    /// Bytes in the buffer, behind [`FRONT`]. None of either: this is the end.
    pub length: usize,
}

/// A source of bytes.
#[derive(Debug)]
pub struct Source(Bytes);

impl Source {
    /// What lies in a file from one place to another.
    pub fn file(file: File, range: Range<u64>) -> io::Result<Self> {
        let has_holes = has_holes(&file)?;
        Ok(Self(Bytes::File {
            file,
            range,
            has_holes,
        }))
    }

    /// What a decoder or a pipe gives.
    pub fn stream(stream: Box<dyn Read + Send>) -> Self {
        Self(Bytes::Stream(stream))
    }

    /// The next piece, and right before it in the buffer what is left of the last one. At the end the buffer is as
    /// it was.
    pub fn next(&mut self, buffer: &mut [u8], rest: Range<usize>) -> io::Result<Piece> {
        let front = FRONT - rest.len();
        buffer.copy_within(rest.clone(), front);
        let piece = self.0.fill(buffer)?;
        if piece.length == 0 && piece.hole == 0 {
            buffer.copy_within(front..FRONT, rest.start);
        }
        Ok(piece)
    }
}

enum Bytes {
    File {
        file: File,
        /// Where to go on, and where to stop: what grows meanwhile is left for the next run.
        range: Range<u64>,
        has_holes: bool,
    },
    Stream(Box<dyn Read + Send>),
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bytes")
    }
}

impl Bytes {
    /// Reads on behind [`FRONT`].
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<Piece> {
        let mut hole = 0;
        if let Self::File {
            file,
            range,
            has_holes: true,
        } = self
        {
            let data = behind_hole(file, range.start).min(range.end);
            // A small one is read along.
            if data.saturating_sub(range.start) >= READ as u64 {
                hole = data - range.start;
                range.start = data;
            }
        }
        loop {
            let read = match self {
                Self::File { file, range, .. } => {
                    let left = range.end.saturating_sub(range.start);
                    let wanted = usize::try_from(left).unwrap_or(READ).min(READ);
                    file.read_at(&mut buffer[FRONT..FRONT + wanted], range.start)
                        .inspect(|read| range.start += *read as u64)
                }
                Self::Stream(stream) => stream.read(&mut buffer[FRONT..FRONT + READ]),
            };
            match read {
                Ok(length) => return Ok(Piece { hole, length }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// An empty buffer. Zeroed memory comes from the kernel when it is first touched.
pub fn buffer() -> Vec<u8> {
    vec![0; FRONT + READ]
}

/// Whether parts of a file take no room on the disk.
pub fn has_holes(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok(metadata.blocks() * 512 < metadata.len())
}

/// The next place that holds data, in a sparse file.
pub fn behind_hole(file: &File, at: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(place) => place,
        Err(rustix::io::Errno::NXIO) => u64::MAX, // nothing but a hole up to the end
        Err(_) => at,                             // a file system that does not know holes
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::reader::Reader;
    use super::*;

    fn lines(reader: &mut Reader) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(batch) = reader.next_batch().unwrap() {
            all.extend_from_slice(&batch.bytes[batch.fresh..]);
        }
        all
    }

    #[test]
    fn holes_are_leapt_over_and_counted_as_read() {
        for gap in [1_u64 << 20, 1 << 30] {
            let file = tempfile::tempfile().unwrap();
            file.write_at(b"one\nhalf", 0).unwrap();
            file.write_at(b"\0two\n", gap).unwrap();
            file.set_len(3 * gap).unwrap();
            let source = Source::file(file, 0..3 * gap).unwrap();
            let mut reader = Reader::new(source, 0, b"", false);
            let seen: Vec<u8> = lines(&mut reader).into_iter().filter(|b| *b != 0).collect();
            assert_eq!(String::from_utf8(seen).unwrap(), "one\ntwo\n", "{gap}");
            assert_eq!(reader.offset(), 3 * gap);
            assert_eq!(reader.overlong(), 0);
        }
    }
}
