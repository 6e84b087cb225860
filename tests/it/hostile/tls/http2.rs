//! HTTP/2 that means harm, above a handshake that is well.

use std::io::{Read, Write};
use std::sync::Arc;

use super::super::judge;
use super::{case, session};
use crate::support::identity::Identity;
use crate::support::raw_server::wait_until_gone;

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a small frame")
        .to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[test]
fn frames_of_http_2_neither_hang_a_probe_nor_make_it_grow() {
    let mut config = Identity::self_signed("localhost").server(&[], None);
    Arc::get_mut(&mut config)
        .expect("nobody has it yet")
        .alpn_protocols = vec![b"h2".to_vec()];
    let settings = frame(4, 0, 0, &[]);
    let ok = frame(1, 4, 1, &[0x88]);
    // A literal header that is put into the table, named by many references to it.
    let large = [&[0x40, 1, b'x', 0x7f, 0xe1, 0x1e][..], &[b'y'; 4064]].concat();
    let bomb = [&[0x88][..], &large, &vec![0xbe; 12_000][..]].concat();
    let any: &[&str] = &[
        "protocol",
        "timeout",
        "truncated",
        "reset",
        "closed",
        "http-5xx",
        "content",
    ];
    let mut cases = Vec::new();
    for (name, first, again) in [
        (
            "settings without an end",
            settings.clone(),
            settings.repeat(50),
        ),
        (
            "pings without an end",
            settings.clone(),
            frame(6, 0, 0, &[0; 8]).repeat(50),
        ),
        (
            "empty data without an end",
            [&settings[..], &ok].concat(),
            frame(0, 0, 1, &[]).repeat(50),
        ),
        (
            "data without an end",
            [&settings[..], &ok].concat(),
            frame(0, 0, 1, &[b'x'; 8192]),
        ),
        (
            "header blocks without an end",
            [&settings[..], &frame(1, 0, 1, &[0x88])].concat(),
            frame(9, 0, 1, &[0x88; 4000]),
        ),
        (
            "empty continuations without an end",
            [&settings[..], &frame(1, 0, 1, &[0x88])].concat(),
            frame(9, 0, 1, &[]).repeat(50),
        ),
        (
            "a bomb of headers",
            [&settings[..], &frame(1, 4, 1, &bomb)].concat(),
            Vec::new(),
        ),
        (
            "frames of no kind",
            settings.clone(),
            frame(0x77, 0xff, 0, &[0; 100]).repeat(50),
        ),
        (
            "window updates without an end",
            settings.clone(),
            frame(8, 0, 0, &1_u32.to_be_bytes()).repeat(50),
        ),
        (
            "a window that overflows",
            [
                &settings[..],
                &frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            ]
            .concat(),
            Vec::new(),
        ),
        (
            "a frame larger than any",
            vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
            vec![0; 8192],
        ),
        (
            "pushes",
            settings.clone(),
            frame(5, 4, 1, &[0, 0, 0, 2, 0x82, 0x86, 0x84, 0x41, 0]).repeat(50),
        ),
        (
            "farewell",
            [
                &settings[..],
                &frame(7, 0, 0, b"\0\0\0\0\0\0\0\x0b\x1b[2J|x=1\r\n"),
            ]
            .concat(),
            Vec::new(),
        ),
        (
            "reset",
            [&settings[..], &frame(3, 0, 1, &2_u32.to_be_bytes())].concat(),
            Vec::new(),
        ),
        (
            "informational without an end",
            settings.clone(),
            frame(1, 4, 1, &[0x48, 3, b'1', b'0', b'3']).repeat(50),
        ),
    ] {
        let config = Arc::clone(&config);
        cases.push(case(
            name,
            "--http-version 2",
            &[2],
            any,
            move |stream, _| {
                let mut session = session(&config, stream);
                let _ = session.read(&mut [0; 4096]);
                let _ = session.write_all(&first);
                let _ = session.flush();
                while !again.is_empty() && session.write_all(&again).is_ok() {}
                wait_until_gone(stream);
            },
        ));
    }
    judge(cases);
}
