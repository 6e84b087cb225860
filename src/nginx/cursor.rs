//! Where reading stopped, and whether a file is still the one that was read.
//!
//! An inode may be given to a new file, a device number changes with a reboot, a size says nothing after
//! copytruncate. What was read is known again by its bytes: those at its head, and those before the place where
//! reading stopped, which hold the time of the last line.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use serde::{Deserialize, Serialize};

use super::line::LONGEST;
use crate::plugin::state_file::checksum;

/// How many bytes of the head are compared.
pub const HEAD: u64 = 1024;

/// A place in a file, and how to know the file again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    device: u64,
    inode: u64,
    /// How far the file was read.
    pub offset: u64,
    head: u64,
    tail: u64,
    /// Whether `offset` is within a line that is longer than the buffer.
    #[serde(default)]
    pub skipping: bool,
}

impl Cursor {
    /// This place in this file.
    pub fn at(file: &File, offset: u64, skipping: bool) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            offset,
            head: fingerprint(file, 0, offset.min(HEAD))?,
            tail: tail(file, offset)?,
            skipping,
        })
    }

    /// This place in what a compressed file holds, given the bytes at its head and before the place.
    pub fn in_compressed(
        file: &File,
        offset: u64,
        skipping: bool,
        head: &[u8],
        before: &[u8],
    ) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            offset,
            head: checksum(&head[..head_length(offset).min(head.len())]),
            tail: checksum(before),
            skipping,
        })
    }

    /// Whether a log with this head is the one that was read.
    pub fn has_head(&self, head: &[u8]) -> bool {
        let length = head_length(self.offset);
        length > 0 && head.len() >= length && checksum(&head[..length]) == self.head
    }

    /// Whether this is, by its number, the same file. (Its device may have another number after a reboot.)
    pub fn is_inode_of(&self, file: &File) -> io::Result<bool> {
        Ok(self.inode == file.metadata()?.ino())
    }

    /// Whether the file begins with what was read, up to the place where reading stopped.
    pub fn fits(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        if metadata.len() < self.offset {
            return Ok(false);
        }
        if self.offset == 0 {
            return Ok(metadata.ino() == self.inode && metadata.dev() == self.device);
        }
        let head = fingerprint(file, 0, self.offset.min(HEAD))?;
        Ok(head == self.head && tail(file, self.offset)? == self.tail)
    }

    /// Whether this is a place in the file of the other cursor, as far as their numbers tell.
    pub fn is_earlier_part_of(&self, other: &Self) -> bool {
        let same_file = self.inode == other.inode && self.device == other.device;
        let same_head = self.offset < HEAD || self.head == other.head;
        same_file && same_head && self.offset <= other.offset
    }
}

fn head_length(offset: u64) -> usize {
    usize::try_from(offset.min(HEAD)).unwrap_or(0)
}

/// What stands before this place, for looking back.
pub fn before(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let length = offset.min(LONGEST as u64);
    read_at(file, offset - length, length)
}

/// The fingerprint of the bytes before this place: enough of them to hold the time of a line.
fn tail(file: &File, offset: u64) -> io::Result<u64> {
    let length = offset.min(LONGEST as u64);
    fingerprint(file, offset - length, length)
}

fn fingerprint(file: &File, from: u64, length: u64) -> io::Result<u64> {
    Ok(checksum(&read_at(file, from, length)?))
}

/// Up to `length` bytes from this place; fewer at the end of the file.
pub fn read_at(file: &File, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(1 << 20)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_known_again_by_what_was_read_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            File::open(&path).unwrap()
        };
        let body = "line\n".repeat(1000);
        let file = write(&format!("a{body}"));
        let cursor = Cursor::at(&file, 5001, false).unwrap();
        assert!(cursor.fits(&file).unwrap());
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"more\n")
            .unwrap();
        assert!(cursor.fits(&file).unwrap(), "it grew");
        assert!(!cursor.fits(&write(&body)).unwrap(), "shorter");
        assert!(
            !cursor.fits(&write(&format!("b{body}more\n"))).unwrap(),
            "another head"
        );
        let other_end = format!("a{}liXe\nmore\n", "line\n".repeat(999));
        assert!(
            !cursor.fits(&write(&other_end)).unwrap(),
            "the same head and size, another end"
        );
    }
}
