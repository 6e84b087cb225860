//! Pages that came packed, and pages in chunks that hyper did not take apart. No I/O; what comes out is bounded.

use std::borrow::Cow;
use std::io::{self, Read};

use brotli_decompressor::Decompressor;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::reply::Reply;

/// How often a page may be packed.
const LAYERS: usize = 3;

/// Unpacks a page by its `Content-Encoding`, up to `limit` bytes. An error says why it cannot be.
pub fn unpack(reply: &mut Reply, limit: usize) -> Result<(), String> {
    let Some(encodings) = reply.header("content-encoding").map(Cow::into_owned) else {
        return Ok(());
    };
    // The last one named is the outermost.
    for (at, encoding) in encodings.split(',').rev().enumerate() {
        let encoding = encoding.trim().to_ascii_lowercase();
        if encoding.is_empty() || encoding == "identity" {
            continue;
        }
        let packed = std::mem::take(&mut reply.page);
        let reader = decoder(&encoding, &packed).filter(|_| at < LAYERS);
        let mut reader = reader.ok_or_else(|| format!("it is packed as '{encoding}'"))?;
        // One more than is kept tells that there is more.
        let most = (limit as u64).saturating_add(1);
        let result = reader.by_ref().take(most).read_to_end(&mut reply.page);
        let over = reply.page.len() > limit;
        reply.page.truncate(limit);
        if let Err(error) = result
            && !reply.page_cut
        {
            return Err(format!("as {encoding}: {error}"));
        }
        reply.page_cut |= over;
    }
    Ok(())
}

fn decoder<'a>(encoding: &str, packed: &'a [u8]) -> Option<Box<dyn Read + 'a>> {
    Some(match encoding {
        "gzip" | "x-gzip" => Box::new(MultiGzDecoder::new(packed)),
        // Meant is zlib's form (RFC 1950), whose first two bytes are a multiple of 31; some send it bare.
        "deflate" => match packed {
            [first, second, ..]
                if first & 15 == 8
                    && (u16::from(*first) << 8 | u16::from(*second)).is_multiple_of(31) =>
            {
                Box::new(ZlibDecoder::new(packed))
            }
            _ => Box::new(DeflateDecoder::new(packed)),
        },
        "br" => Box::new(Whole(Decompressor::new(packed, 4096))),
        _ => return None,
    })
}

/// A reader whose errors say what the others' say.
struct Whole<R>(R);

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0
            .read(buffer)
            .map_err(|error| io::Error::new(error.kind(), "corrupt brotli stream"))
    }
}

/// A page out of its chunks, and whether it came to its end.
pub fn chunks(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut page = Vec::new();
    while let Some(end) = memchr::memchr(b'\n', raw) {
        let line = raw[..end].trim_ascii();
        let digits = line.split(|b| b";\t ".contains(b)).next();
        let length = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| usize::from_str_radix(digits, 16).ok());
        raw = &raw[end + 1..];
        match length {
            Some(0) => return (page, true),
            Some(length) if length <= raw.len() => {
                page.extend_from_slice(&raw[..length]);
                raw = &raw[length..];
                raw = raw.strip_prefix(b"\r").unwrap_or(raw);
                raw = raw.strip_prefix(b"\n").unwrap_or(raw);
            }
            _ => {
                page.extend_from_slice(raw);
                return (page, false);
            }
        }
    }
    (page, false)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn reply(encoding: &str, page: Vec<u8>) -> Reply {
        Reply {
            head: format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n").into_bytes(),
            page,
            ..Reply::default()
        }
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(data).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn pages_come_out_as_they_went_in() {
        let text = b"hello world, hello world";
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(text).unwrap();
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::fast());
        bare.write_all(text).unwrap();
        for (encoding, packed) in [
            ("gzip", gzip(text)),
            ("x-gzip", gzip(text)),
            ("GZIP, identity", gzip(text)),
            ("gzip, gzip", gzip(&gzip(text))),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", bare.finish().unwrap()),
            ("", text.to_vec()),
        ] {
            let mut reply = reply(encoding, packed);
            unpack(&mut reply, 1000).unwrap();
            assert_eq!(reply.page, text, "{encoding}");
            assert!(!reply.page_cut);
        }
    }

    #[test]
    fn a_bomb_comes_out_no_larger_than_what_is_kept() {
        let mut reply = reply("gzip", gzip(&vec![b'x'; 10_000_000]));
        unpack(&mut reply, 1000).unwrap();
        assert_eq!((reply.page.len(), reply.page_cut), (1000, true));
    }

    #[test]
    fn what_cannot_be_unpacked_is_said() {
        for (encoding, page, words) in [
            ("gzip", &b"hello"[..], "as gzip: "),
            ("br", b"\xff\xff\xff", "as br: "),
            ("zstd", b"x", "it is packed as 'zstd'"),
            ("gzip", &gzip(b"hello world")[..20], "as gzip: "),
        ] {
            let error = unpack(&mut reply(encoding, page.to_vec()), 1000).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
        // What was not kept whole cannot end well, and is not held against it.
        let mut cut = reply("gzip", gzip(b"hello world")[..20].to_vec());
        cut.page_cut = true;
        unpack(&mut cut, 1000).unwrap();
    }

    #[test]
    fn chunks_are_taken_apart() {
        for (raw, page, whole) in [
            (
                &b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"[..],
                &b"hello world"[..],
                true,
            ),
            (b"5\nhello\n0\n", b"hello", true),
            (b"5\r\nhel", b"hel", false),
            (b"zz\r\nhello", b"hello", false),
            (b"ffffffffffffffffffff\r\nx", b"x", false),
            (b"", b"", false),
        ] {
            assert_eq!(chunks(raw), (page.to_vec(), whole));
        }
    }
}
