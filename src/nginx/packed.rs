//! Sorted numbers as the differences between them, seven bits to a byte, in hexadecimal: connections are numbered
//! in turn, so that most take two characters. And lists of counts without what is nothing.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Numbers to text.
pub fn serialize<S: Serializer>(numbers: &[u64], to: S) -> Result<S::Ok, S::Error> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut text = String::with_capacity(sorted.len() * 2 + 8);
    let mut last = 0;
    for number in sorted {
        let mut rest = number - last;
        last = number;
        while rest >= 0x80 {
            push(&mut text, (rest & 0x7f) | 0x80);
            rest >>= 7;
        }
        push(&mut text, rest);
    }
    to.serialize_str(&text)
}

fn push(text: &mut String, byte: u64) {
    for digit in [byte >> 4 & 15, byte & 15] {
        text.push(char::from(
            b"0123456789abcdef"[usize::try_from(digit).unwrap_or(0)],
        ));
    }
}

/// Text to numbers.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
    let text = String::deserialize(from)?;
    let (mut numbers, mut last, mut value, mut shift) = (Vec::new(), 0_u64, 0_u64, 0);
    for pair in text.as_bytes().chunks(2) {
        let digit = |at: usize| pair.get(at).and_then(|&b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(D::Error::custom("no hexadecimal digits"));
        };
        let byte = u64::from(high << 4 | low);
        if shift > 63 {
            return Err(D::Error::custom("a number too long"));
        }
        value |= (byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            last = last.wrapping_add(value);
            numbers.push(last);
            (value, shift) = (0, 0);
        }
    }
    Ok(numbers)
}

/// Counts by cause: pairs of a cause's number and its count, those that are not zero.
pub mod sparse {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::super::cause::CAUSES;

    /// Counts to pairs.
    pub fn serialize<S: Serializer>(counts: &[u64; CAUSES], to: S) -> Result<S::Ok, S::Error> {
        let pairs = (0_u64..).zip(counts).filter(|(_, count)| **count > 0);
        to.collect_seq(pairs.flat_map(|(cause, count)| [cause, *count]))
    }

    /// Pairs to counts.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u64; CAUSES], D::Error> {
        let mut counts = [0; CAUSES];
        for pair in Vec::<u64>::deserialize(from)?.chunks(2) {
            let place = usize::try_from(pair[0]).unwrap_or(usize::MAX);
            match (counts.get_mut(place), pair.get(1)) {
                (Some(place), Some(count)) => *place = *count,
                _ => return Err(D::Error::custom("no count of a cause")),
            }
        }
        Ok(counts)
    }
}

/// Counts by name: three lists, each a flat one of names' numbers and counts.
pub mod who {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// What is listed.
    type Lists = [Vec<(u32, u64)>; 3];

    /// Lists of pairs to flat ones.
    pub fn serialize<S: Serializer>(lists: &Lists, to: S) -> Result<S::Ok, S::Error> {
        let flat = |list: &Vec<(u32, u64)>| -> Vec<u64> {
            list.iter()
                .flat_map(|&(name, count)| [name.into(), count])
                .collect()
        };
        to.collect_seq(lists.iter().map(flat))
    }

    /// Flat lists to lists of pairs.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Lists, D::Error> {
        let flat = <[Vec<u64>; 3]>::deserialize(from)?;
        let pair = |pair: &[u64]| Some((u32::try_from(pair[0]).ok()?, *pair.get(1)?));
        let mut lists = Lists::default();
        for (list, flat) in lists.iter_mut().zip(&flat) {
            let pairs: Option<Vec<_>> = flat.chunks(2).map(pair).collect();
            *list = pairs.ok_or_else(|| D::Error::custom("no count of a name"))?;
        }
        Ok(lists)
    }
}
