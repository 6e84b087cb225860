//! Small replies that are dear to read: packed ones, and deep ones.

use std::io::Write;

use super::super::{Case, judge};
use super::{BAD, HEAD, Harm, case, with};

/// Of a few bytes each, 64 MiB come out.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    let zeros = vec![0; 1 << 20];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        gzip.write_all(&zeros).expect("memory");
        zlib.write_all(&zeros).expect("memory");
    }
    let gzip = gzip.finish().expect("memory");
    let mut again = GzEncoder::new(Vec::new(), Compression::best());
    again.write_all(&gzip).expect("memory");
    // A window of 4 MiB, and blocks that repeat a byte (RFC 8878, 3.1.1.2), 128 KiB each.
    let mut zstd = b"\x28\xb5\x2f\xfd\x00\x60".to_vec();
    for left in (0..512_u32).rev() {
        let header = (128 << 10 << 3) | (1 << 1) | u32::from(left == 0);
        zstd.extend(&header.to_le_bytes()[..3]);
        zstd.push(0);
    }
    // Made with brotli 1.0.9.
    let brotli = unhex(BROTLI);
    vec![
        ("gzip", gzip.clone()),
        ("gzip, gzip", again.finish().expect("memory")),
        ("deflate", zlib.finish().expect("memory")),
        ("zstd", zstd),
        ("br", brotli),
        ("gzip, gzip, gzip, gzip, gzip, gzip, gzip, gzip", gzip),
    ]
}

const BROTLI: &str = "cbffff3ff82700e2b14020f7fe8fffff7ff04f00c4611180eefd1fffffffe09f0088c30200ddfb3ffeffffc13f0110870500baf77ffcffff837f02200e0b0074effff8ffff07ff04401c1600e8defff1ffff0ffe0980382c00d0bdffe3ffff1ffc1300715800a07bff37";

fn unhex(text: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).expect("a hexadecimal digit");
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).expect("a byte"))
        .collect()
}

#[test]
fn a_small_reply_that_unpacks_into_a_large_page_stays_small() {
    let mut cases = Vec::new();
    for (encoding, packed) in bombs() {
        for arguments in ["-s never", "-r ^never$ -l", "--json-path $.a -B", ""] {
            let arguments = format!("--attempts 2 --enable-automatic-decompression {arguments}");
            let length = packed.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {length}\r\n\r\n"
            );
            let bytes = with(head.as_bytes(), &packed);
            cases.push(Case {
                codes: &[0, 2],
                ..case("a bomb", &arguments, Harm::Send(bytes), BAD, &["content"])
            });
        }
    }
    // Not packed, but as dear to read.
    let deep = with(HEAD, &with(b"\r\n", &vec![b'['; 2 << 20]));
    for arguments in ["--json-path $..a..b..c", "-r (a*)*b", "-r (\\[?){50}\\["] {
        cases.push(case(
            "deep JSON",
            arguments,
            Harm::Send(deep.clone()),
            &[0, 2],
            &["content"],
        ));
    }
    for case in &mut cases {
        if !case.kinds.is_empty() && case.codes.contains(&0) {
            case.kinds = ANY_CONTENT;
        }
    }
    judge(cases);
}

const ANY_CONTENT: &[&str] = &["content", "timeout"];
