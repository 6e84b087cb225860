//! Where bytes come from: a file, read a piece at a time, or read ahead by a thread where there is much of it; holes
//! are leapt over. Reads, never a mapping: under copytruncate that would be a SIGBUS.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::fs::SeekFrom;

/// What one read asks for: with the buffers, half of what a second-level cache holds.
pub const READ: usize = 128 * 1024;

/// What lies before it in a buffer: the end of the last piece, a line begun and what is looked back at.
pub const FRONT: usize = 128 * 1024;

/// From so many bytes on a thread reads ahead.
const MUCH: u64 = 8 << 20;

/// How many buffers are on their way.
const AHEAD: usize = 3;

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
pub struct Source(Kind);

#[derive(Debug)]
enum Kind {
    Here(Bytes),
    Ahead {
        full: Receiver<io::Result<(Vec<u8>, Piece)>>,
        empty: SyncSender<Vec<u8>>,
    },
}

impl Source {
    /// What lies in a file from one place to another.
    pub fn file(file: File, range: Range<u64>) -> io::Result<Self> {
        let much = range.end.saturating_sub(range.start) >= MUCH;
        let metadata = file.metadata()?;
        let has_holes = metadata.blocks() * 512 < metadata.len();
        let bytes = Bytes::File {
            file,
            range,
            has_holes,
        };
        Ok(if much {
            bytes.ahead()
        } else {
            Self(Kind::Here(bytes))
        })
    }

    /// What a decoder or a pipe gives.
    pub fn stream(stream: Box<dyn Read + Send>) -> Self {
        Self(Kind::Here(Bytes::Stream(stream)))
    }

    /// The next piece, and right before it in the buffer what is left of the last one. At the end the buffer is as
    /// it was.
    pub fn next(&mut self, buffer: &mut Vec<u8>, rest: Range<usize>) -> io::Result<Piece> {
        match &mut self.0 {
            Kind::Here(bytes) => {
                let front = FRONT - rest.len();
                buffer.copy_within(rest.clone(), front);
                let piece = bytes.fill(buffer)?;
                if piece.length == 0 && piece.hole == 0 {
                    buffer.copy_within(front..FRONT, rest.start);
                }
                Ok(piece)
            }
            Kind::Ahead { full, empty } => {
                // The thread ends with an error or with an empty piece.
                let Ok(next) = full.recv() else {
                    return Ok(Piece { hole: 0, length: 0 });
                };
                let (mut next, piece) = next?;
                if piece.length > 0 || piece.hole > 0 {
                    next[FRONT - rest.len()..FRONT].copy_from_slice(&buffer[rest]);
                    std::mem::swap(buffer, &mut next);
                }
                // The thread may have ended.
                let _ = empty.send(next);
                Ok(piece)
            }
        }
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

    /// The same, read by a thread of its own; by this one where there can be none.
    fn ahead(mut self) -> Source {
        let (to_reader, full) = sync_channel(AHEAD);
        let (empty, buffers) = sync_channel::<Vec<u8>>(AHEAD + 1);
        for _ in 0..AHEAD {
            let _ = empty.send(buffer());
        }
        let (hand_over, taken) = sync_channel::<Self>(1);
        let thread = std::thread::Builder::new()
            .name("read".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || {
                let Ok(mut bytes) = taken.recv() else { return };
                while let Ok(mut buffer) = buffers.recv() {
                    let piece = bytes.fill(&mut buffer);
                    let goes_on = piece
                        .as_ref()
                        .is_ok_and(|piece| piece.length > 0 || piece.hole > 0);
                    let sent = to_reader.send(piece.map(|piece| (buffer, piece)));
                    if sent.is_err() || !goes_on {
                        return;
                    }
                }
            });
        if thread.is_ok() {
            match hand_over.send(self) {
                Ok(()) => return Source(Kind::Ahead { full, empty }),
                Err(back) => self = back.0,
            }
        }
        Source(Kind::Here(self))
    }
}

/// An empty buffer. Zeroed memory comes from the kernel when it is first touched.
pub fn buffer() -> Vec<u8> {
    vec![0; FRONT + READ]
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
    use std::io::Write;
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
    fn what_a_thread_reads_ahead_is_the_same() {
        let mut file = tempfile::tempfile().unwrap();
        let lines_of = |n: u32| format!("line number {n} of many\n");
        let text = (0..400_000).map(lines_of).collect::<Vec<_>>().concat();
        assert!(text.len() as u64 > MUCH);
        file.write_all(text.as_bytes()).unwrap();
        file.write_all(b"half a line").unwrap();
        let end = file.metadata().unwrap().len();
        let source = Source::file(file, 0..end).unwrap();
        assert!(matches!(source.0, Kind::Ahead { .. }));
        let mut reader = Reader::new(source, 0, b"", false);
        assert!(lines(&mut reader) == text.as_bytes());
        assert_eq!(reader.offset(), text.len() as u64);
        assert!(reader.before().ends_with(b"of many\n"));
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
