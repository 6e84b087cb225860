//! A compressed log, as if it were none. It can only be read from its start, so that what lies before a place is
//! read and dropped.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::cursor::HEAD;
use super::line::LONGEST;

/// How they begin.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A compressed log, from some place on.
pub struct Unpacked {
    /// What follows.
    pub source: Box<dyn Read + Send>,
    /// The first bytes of the whole.
    pub head: Vec<u8>,
    /// What stands before the place, for looking back.
    pub before: Vec<u8>,
}

/// Whether a file is compressed: by its first bytes, whatever its name says.
pub fn is_compressed(file: &File) -> io::Result<bool> {
    let start = super::cursor::read_at(file, 0, 4)?;
    Ok(start.starts_with(&GZIP) || start == ZSTD)
}

/// The first bytes of what was compressed.
pub fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    decoder(file)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// What was compressed, from this place of it on.
pub fn open_at(file: &File, from: u64) -> io::Result<Unpacked> {
    let mut decoder = decoder(file)?;
    let mut head = Vec::new();
    decoder.by_ref().take(HEAD).read_to_end(&mut head)?;
    if from <= head.len() as u64 {
        let at = usize::try_from(from).unwrap_or(head.len());
        let rest = io::Cursor::new(head[at..].to_vec());
        let before = head[..at].to_vec();
        return Ok(Unpacked {
            source: Box::new(rest.chain(decoder)),
            head,
            before,
        });
    }
    let mut before = head.clone();
    let mut left = from - head.len() as u64;
    let mut piece = vec![0; 64 * 1024];
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let read = decoder.read(&mut piece[..wanted])?;
        if read == 0 {
            break;
        }
        left -= read as u64;
        before.extend_from_slice(&piece[..read]);
        before.drain(..before.len().saturating_sub(LONGEST));
    }
    Ok(Unpacked {
        source: Box::new(decoder),
        head,
        before,
    })
}

/// A decoder over a descriptor of its own, so that the file's is left where it is.
fn decoder(file: &File) -> io::Result<Box<dyn Read + Send>> {
    let source = FromStart {
        file: file.try_clone()?,
        at: 0,
    };
    Ok(if super::cursor::read_at(file, 0, 4)? == ZSTD {
        Box::new(Zstd::Between(BufReader::new(source)))
    } else {
        Box::new(MultiGzDecoder::new(source))
    })
}

/// The lines of a stream, compressed or not, as its first bytes tell; each with its end.
pub fn of_stream(mut stream: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut start = Vec::new();
    stream
        .by_ref()
        .take(ZSTD.len() as u64)
        .read_to_end(&mut start)?;
    let (is_gzip, is_zstd) = (start.starts_with(&GZIP), start == ZSTD);
    let whole = io::Cursor::new(start).chain(stream);
    let rest: Box<dyn Read + Send> = if is_gzip {
        Box::new(MultiGzDecoder::new(whole))
    } else if is_zstd {
        Box::new(Zstd::Between(BufReader::new(whole)))
    } else {
        Box::new(whole)
    };
    Ok(Box::new(WholeLines { rest, last: None }))
}

/// A stream whose last line has its end: unlike that of a file, nobody goes on with it.
struct WholeLines {
    rest: Box<dyn Read + Send>,
    /// The byte that was read last.
    last: Option<u8>,
}

impl Read for WholeLines {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.rest.read(into)?;
        if let Some(last) = into[..read].last() {
            self.last = Some(*last);
            return Ok(read);
        }
        let lacks_its_end = self.last.is_some_and(|last| last != b'\n');
        match into.first_mut() {
            Some(first) if lacks_its_end => {
                *first = b'\n';
                self.last = Some(b'\n');
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

/// One frame of zstd behind the other.
enum Zstd<R: Read> {
    Within(Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
    Between(R),
    Broken,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(self, Self::Broken) {
                Self::Broken => return Err(io::Error::other("damaged zstd data")),
                Self::Between(mut source) => {
                    if source.fill_buf()?.is_empty() {
                        *self = Self::Between(source);
                        return Ok(0);
                    }
                    let frame = StreamingDecoder::new(source).map_err(io::Error::other)?;
                    *self = Self::Within(Box::new(frame));
                }
                Self::Within(mut frame) => {
                    let read = frame.read(into)?;
                    if read > 0 || into.is_empty() {
                        *self = Self::Within(frame);
                        return Ok(read);
                    }
                    *self = Self::Between(frame.into_inner());
                }
            }
        }
    }
}

/// A file read from its start, whatever others that share it do.
struct FromStart {
    file: File,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = std::os::unix::fs::FileExt::read_at(&self.file, into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn frames_of_zstd_are_read_one_behind_the_other_from_any_place_on() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (one, two) = text.split_at(123_456);
        let mut file = tempfile::tempfile().unwrap();
        for part in [one, two] {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            let packed = ruzstd::encoding::compress_to_vec(part, level);
            file.write_all(&packed).unwrap();
        }
        assert!(is_compressed(&file).unwrap());
        for from in [0, 500, 123_456, 700_000, 800_000] {
            let mut unpacked = open_at(&file, from).unwrap();
            let mut rest = Vec::new();
            unpacked.source.read_to_end(&mut rest).unwrap();
            let from = usize::try_from(from).unwrap();
            assert!(rest == text[from..], "{from}");
            assert!(text[..from].ends_with(&unpacked.before), "{from}");
        }
        file.set_len(file.metadata().unwrap().len() - 10).unwrap();
        let mut unpacked = open_at(&file, 0).unwrap();
        assert!(unpacked.source.read_to_end(&mut Vec::new()).is_err());
    }
}
