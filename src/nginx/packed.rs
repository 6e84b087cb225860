//! Rows of numbers as one text: seven bits to a byte, in hexadecimal. What is small takes two characters, and reading
//! it back is a loop, which counts where a check runs every minute and mostly finds nothing new.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// What can be written as numbers.
pub trait Pack: Sized {
    /// Writes itself.
    fn pack(&self, into: &mut Packer);
    /// Reads itself back; `None` where the numbers make no sense.
    fn unpack(from: &mut Unpacker<'_>) -> Option<Self>;
}

/// Items to text.
pub fn serialize<S: Serializer, T: Pack>(items: &[T], to: S) -> Result<S::Ok, S::Error> {
    let mut packer = Packer(String::new());
    packer.push(items.len() as u64);
    for item in items {
        item.pack(&mut packer);
    }
    to.serialize_str(&packer.0)
}

/// Text to items.
pub fn deserialize<'de, D: Deserializer<'de>, T: Pack>(from: D) -> Result<Vec<T>, D::Error> {
    // Nothing in it is escaped: it need not be copied.
    let text = <&str>::deserialize(from)?;
    let mut unpacker = Unpacker(text.as_bytes());
    let items = unpacker.list(T::unpack);
    items
        .filter(|_| unpacker.0.is_empty())
        .ok_or_else(|| D::Error::custom("no packed numbers"))
}

/// Where numbers are written.
#[derive(Debug)]
pub struct Packer(String);

impl Packer {
    /// One number.
    pub fn push(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte((number & 0x7f) | 0x80);
            number >>= 7;
        }
        self.byte(number);
    }

    fn byte(&mut self, byte: u64) {
        for digit in [byte >> 4 & 15, byte & 15] {
            let digit = usize::try_from(digit).unwrap_or(0);
            self.0.push(char::from(b"0123456789abcdef"[digit]));
        }
    }

    /// Sorted numbers, as the differences between them: connections are numbered in turn.
    pub fn sorted(&mut self, numbers: &[u64]) {
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        self.push(sorted.len() as u64);
        let mut last = 0;
        for number in sorted {
            self.push(number - last);
            last = number;
        }
    }
}

/// What is left of the numbers.
#[derive(Debug)]
pub struct Unpacker<'a>(&'a [u8]);

impl Unpacker<'_> {
    /// The next number.
    pub fn next(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (pair, rest) = self.0.split_first_chunk::<2>()?;
            self.0 = rest;
            let byte = u64::from(digit(pair[0])? << 4 | digit(pair[1])?);
            if shift > 63 {
                return None;
            }
            value |= (byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    }

    /// The next items, behind their number. Each takes two characters or more.
    pub fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = usize::try_from(self.next()?).ok()?;
        if length > self.0.len() / 2 {
            return None;
        }
        (0..length).map(|_| item(self)).collect()
    }

    /// What [`Packer::sorted`] wrote.
    pub fn sorted(&mut self) -> Option<Vec<u64>> {
        let mut numbers = self.list(Self::next)?;
        let mut last = 0_u64;
        for number in &mut numbers {
            last = last.checked_add(*number)?;
            *number = last;
        }
        Some(numbers)
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn numbers_come_back_as_they_were(numbers: Vec<u64>, mut sorted: Vec<u64>) {
            let mut packer = Packer(String::new());
            packer.push(numbers.len() as u64);
            for number in &numbers {
                packer.push(*number);
            }
            packer.sorted(&sorted);
            sorted.sort_unstable();
            sorted.dedup();
            let mut unpacker = Unpacker(packer.0.as_bytes());
            assert_eq!(unpacker.list(Unpacker::next), Some(numbers));
            assert_eq!(unpacker.sorted(), Some(sorted));
            assert_eq!(unpacker.next(), None);
        }

        #[test]
        fn no_text_makes_it_stumble(text in "[0-9a-f]{0,40}|.{0,9}") {
            let mut unpacker = Unpacker(text.as_bytes());
            let _ = unpacker.list(Unpacker::next);
            let _ = unpacker.sorted();
        }
    }
}
