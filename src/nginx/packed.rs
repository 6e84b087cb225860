//! Rows of numbers as one text: five bits to a character. What is small takes one, and reading it back is a loop, which
//! counts where a check runs every minute and mostly finds nothing new.

/// What can be written as numbers.
pub trait Pack: Sized {
    /// Writes itself.
    fn pack(&self, into: &mut Packer);
    /// Reads itself back; `None` where the numbers make no sense.
    fn unpack(from: &mut Unpacker<'_>) -> Option<Self>;
}

/// Items to text.
pub fn pack<T: Pack>(items: &[T]) -> String {
    let mut packer = Packer::default();
    packer.push(items.len() as u64);
    for item in items {
        item.pack(&mut packer);
    }
    packer.0
}

/// Text to items; `None` where it is no such text.
pub fn unpack<T: Pack>(text: &str) -> Option<Vec<T>> {
    let mut unpacker = Unpacker::new(text);
    let items = unpacker.list(T::unpack);
    items.filter(|_| unpacker.left() == 0)
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

    /// `?` and what follows in ASCII, up to `~`.
    fn symbol(&mut self, value: u64) {
        let symbol = FIRST + u8::try_from(value).unwrap_or(0);
        self.0.push(char::from(symbol));
    }

    /// Numbers that can be left packed when they are read.
    pub fn block(&mut self, block: &Block) {
        self.push(block.0.len() as u64);
        self.0.push_str(&block.0);
    }
}

/// The symbol of zero.
const FIRST: u8 = b'?';

/// What is left of the numbers.
#[derive(Debug)]
pub struct Unpacker<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Unpacker<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// How many characters are left.
    fn left(&self) -> usize {
        self.text.len() - self.at
    }

    /// The next number.
    #[inline]
    pub fn next(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let symbol = self.text.as_bytes().get(self.at)?;
            self.at += 1;
            let bits = symbol.wrapping_sub(FIRST);
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
        (length <= self.left()).then_some(length)
    }

    /// What [`Packer::block`] wrote.
    pub fn block(&mut self) -> Option<Block> {
        let length = self.length()?;
        let block = self.text.get(self.at..self.at + length)?;
        self.at += length;
        Some(Block(block.into()))
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
        Unpacker::new(&self.0)
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
            let mut unpacker = Unpacker::new(&packer.0);
            assert_eq!(unpacker.list(Unpacker::next), Some(numbers));
            let block = unpacker.block().unwrap();
            let mut inner = block.numbers();
            assert_eq!(std::iter::from_fn(|| inner.next()).collect::<Vec<_>>(), small);
            assert_eq!(unpacker.next(), None);
        }

        #[test]
        fn no_text_makes_it_stumble(text in "[?-~]{0,40}|.{0,9}") {
            let mut unpacker = Unpacker::new(&text);
            let _ = unpacker.list(Unpacker::next);
            let _ = unpacker.block();
            let _ = unpacker.list(Unpacker::block);
        }
    }
}
