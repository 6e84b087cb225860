//! Pages that came packed, and pages in chunks that hyper did not take apart. No I/O; what comes out is bounded.

use std::borrow::Cow;
use std::io::{self, Read};

use brotli_decompressor::Decompressor;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::reply::Reply;

/// How often a page may be packed.
const LAYERS: usize = 3;

/// How far back zstd may reach in what it has unpacked, by RFC 9659; so much memory it takes.
const ZSTD_WINDOW: u64 = 8 << 20;

/// The most frames of zstd in a page, empty ones and such to be skipped included: each takes its time.
const ZSTD_FRAMES: usize = 4096;

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
        "zstd" => Box::new(Zstd::new(packed)),
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

/// Frames of zstd, one behind the other.
struct Zstd<'a> {
    frame: Option<StreamingDecoder<&'a [u8], FrameDecoder>>,
    /// What is behind the frame.
    rest: &'a [u8],
    frames: usize,
}

impl<'a> Zstd<'a> {
    fn new(packed: &'a [u8]) -> Self {
        Self {
            frame: None,
            rest: packed,
            frames: 0,
        }
    }

    fn next_frame(&mut self) -> io::Result<()> {
        self.frames += 1;
        if self.frames > ZSTD_FRAMES {
            return Err(io::Error::other("too many frames"));
        }
        match StreamingDecoder::new_with_max_window_size(self.rest, ZSTD_WINDOW) {
            Ok(frame) => self.frame = Some(frame),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let next = usize::try_from(length).ok().and_then(|n| n.checked_add(8));
                let rest = next.and_then(|next| self.rest.get(next..));
                self.rest = rest.ok_or(io::ErrorKind::UnexpectedEof)?;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(())
    }
}

impl Read for Zstd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(buffer)?;
                if read > 0 {
                    return Ok(read);
                }
                self.rest = frame.get_ref();
                self.frame = None;
            }
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next_frame()?;
        }
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

    fn zstd(data: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// `hello world, hello world`, as brotli 1.0.9 packs it.
    const BROTLI: &[u8] =
        b"\x1f\x17\x00\xf8\xa5\xcb\xd0\xd8\xde\xd4\x2a\xc0\x54\x03\x28\x91\xba\x1d\x06";

    /// A frame of zstd that holds nothing to be unpacked.
    const SKIPPED: &[u8] = b"\x50\x2a\x4d\x18\x03\x00\x00\x00any";

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
            ("br", BROTLI.to_vec()),
            ("zstd", zstd(text)),
            (
                "zstd",
                [
                    zstd(b"hello world, "),
                    SKIPPED.to_vec(),
                    zstd(b"hello world"),
                ]
                .concat(),
            ),
            ("zstd, gzip", gzip(&zstd(text))),
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
        let large = vec![b'x'; 10_000_000];
        for (encoding, packed) in [("gzip", gzip(&large)), ("zstd", zstd(&large))] {
            let mut reply = reply(encoding, packed);
            unpack(&mut reply, 1000).unwrap();
            assert_eq!(
                (reply.page.len(), reply.page_cut),
                (1000, true),
                "{encoding}"
            );
        }
        // A window of 64 MiB, as `zstd --long` would have it.
        let wide = b"\x28\xb5\x2f\xfd\x00\x80\x01\x00\x00";
        let error = unpack(&mut reply("zstd", wide.to_vec()), 1000).unwrap_err();
        assert!(error.starts_with("as zstd: "), "{error}");
        let endless = SKIPPED.repeat(ZSTD_FRAMES + 1);
        let error = unpack(&mut reply("zstd", endless), 1000).unwrap_err();
        assert_eq!(error, "as zstd: too many frames");
    }

    #[test]
    fn what_cannot_be_unpacked_is_said() {
        for (encoding, page, words) in [
            ("gzip", &b"hello"[..], "as gzip: "),
            ("br", b"\xff\xff\xff", "as br: "),
            ("zstd", b"hello", "as zstd: "),
            ("zstd", &zstd(b"hello world")[..15], "as zstd: "),
            ("zstd", &SKIPPED[..10], "as zstd: "),
            ("lzma", b"x", "it is packed as 'lzma'"),
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
