//! Rows of numbers as one text: five bits to a character. What is small takes one, and reading it back is a loop, which
//! counts where a check runs every minute and mostly finds nothing new.

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
    let mut packer = Packer::default();
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
#[derive(Debug, Default)]
pub struct Packer(String);

impl Packer {
    /// One number: the lowest bits first, and whether more follow.
    pub fn push(&mut self, mut number: u64) {
        while number >= 0x20 {
            self.symbol((number & 0x1f) | 0x20);
            number >>= 5;
        }
        self.symbol(number);
    }

    /// `#` and what follows in ASCII, but for the backslash, which JSON would double.
    fn symbol(&mut self, value: u64) {
        let symbol = b'#' + u8::try_from(value).unwrap_or(0);
        let symbol = symbol + u8::from(symbol >= b'\\');
        self.0.push(char::from(symbol));
    }

    /// Numbers that can be left packed when they are read.
    pub fn block(&mut self, block: &Block) {
        self.push(block.0.len() as u64);
        self.0.push_str(&block.0);
    }
}

/// What is left of the numbers.
#[derive(Debug)]
pub struct Unpacker<'a>(&'a [u8]);

impl Unpacker<'_> {
    /// The next number.
    #[inline]
    pub fn next(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (symbol, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = symbol.wrapping_sub(b'#' + u8::from(*symbol > b'\\'));
            if bits > 0x3f || shift > 63 {
                return None;
            }
            value |= u64::from(bits & 0x1f) << shift;
            shift += 5;
            if bits & 0x20 == 0 {
                return Some(value);
            }
        }
    }

    /// The next items, behind their number. Each takes a character or more.
    pub fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.length()?;
        let mut items = Vec::with_capacity(length.min(4096));
        for _ in 0..length {
            items.push(item(self)?);
        }
        Some(items)
    }

    /// How many characters or items follow.
    pub fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.next()?).ok()?;
        (length <= self.0.len()).then_some(length)
    }

    /// What [`Packer::block`] wrote.
    pub fn block(&mut self) -> Option<Block> {
        let length = self.length()?;
        let (block, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(Block(str::from_utf8(block).ok()?.into()))
    }
}

/// Numbers left packed: most of what is kept is written again as it was.
#[derive(Debug, Clone, Default)]
pub struct Block(Box<str>);

impl Block {
    /// What is written to a packer.
    pub fn of(write: impl FnOnce(&mut Packer)) -> Self {
        let mut packer = Packer::default();
        write(&mut packer);
        Self(packer.0.into_boxed_str())
    }

    /// How many characters it takes.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// Its numbers.
    pub fn numbers(&self) -> Unpacker<'_> {
        Unpacker(self.0.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn numbers_come_back_as_they_were(numbers: Vec<u64>, small in proptest::collection::vec(0_u64..99, 0..9)) {
            let push = |packer: &mut Packer| small.iter().for_each(|number| packer.push(*number));
            let mut packer = Packer::default();
            packer.push(numbers.len() as u64);
            for number in &numbers {
                packer.push(*number);
            }
            packer.block(&Block::of(push));
            let text = serde_json::to_string(&packer.0).unwrap();
            assert_eq!(text.len(), packer.0.len() + 2, "nothing is escaped");
            let mut unpacker = Unpacker(packer.0.as_bytes());
            assert_eq!(unpacker.list(Unpacker::next), Some(numbers));
            let block = unpacker.block().unwrap();
            let mut inner = block.numbers();
            assert_eq!(std::iter::from_fn(|| inner.next()).collect::<Vec<_>>(), small);
            assert_eq!(unpacker.next(), None);
        }

        #[test]
        fn no_text_makes_it_stumble(text in "[#-c]{0,40}|.{0,9}") {
            let mut unpacker = Unpacker(text.as_bytes());
            let _ = unpacker.list(Unpacker::next);
            let _ = unpacker.block();
            let _ = unpacker.list(Unpacker::block);
        }
    }
}
