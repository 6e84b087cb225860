//! A compressed log, as if it were none. It can only be read from its start, so that what lies before a place is
//! read and dropped.

use std::fs::File;
use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

use super::cursor::HEAD;
use super::line::LONGEST;

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
pub fn is_gzip(file: &File) -> io::Result<bool> {
    Ok(super::cursor::read_at(file, 0, 2)? == [0x1f, 0x8b])
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
fn decoder(file: &File) -> io::Result<MultiGzDecoder<FromStart>> {
    let file = file.try_clone()?;
    Ok(MultiGzDecoder::new(FromStart { file, at: 0 }))
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
