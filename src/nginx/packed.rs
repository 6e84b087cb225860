//! Sorted numbers as the differences between them, seven bits to a byte, in hexadecimal: connections are numbered
//! in turn, so that most take two characters.

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
