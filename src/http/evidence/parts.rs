//! An exchange taken apart into what the files of an entry say of it: bytes, heads, bodies, with secrets masked. No I/O.

use super::mask::Mask;
use super::record::{LIMIT, Record, Recording};
use crate::http::reply::{self, Reply};
use crate::http::unpack::{chunks, unpack};

/// An exchange, as it may be shown.
#[derive(Debug, Default)]
pub struct Parts {
    /// What was sent: bytes as they were, a tunnel's opening among them. `None` where they cannot be shown.
    pub sent: Option<Vec<u8>>,
    /// What was received.
    pub received: Option<Vec<u8>>,
    /// Whether some of what was sent is hidden.
    pub sent_hidden: bool,
    /// The same of what was received.
    pub received_hidden: bool,
    /// Request line and headers, with their empty line.
    pub request: Vec<u8>,
    /// What was sent behind them, and how long it was.
    pub body: (Vec<u8>, u64),
    /// Status line and headers, with their empty line; empty where none came.
    pub reply: Vec<u8>,
    /// The status.
    pub status: u16,
    /// The page as a person reads it: out of its chunks and unpacked, as far as it was kept.
    pub page: Vec<u8>,
    /// Whether there was more of it.
    pub page_cut: bool,
    /// Whether it came packed, and why it still is.
    pub packed: Option<Result<(), String>>,
    /// Whether it came in chunks.
    pub chunked: bool,
    /// How long the page was on the wire.
    pub page_size: u64,
}

/// What to mask in a probe: what the user gave, and what its requests and replies hold. `None` for nothing.
pub fn mask_for(recording: &Recording, given: Option<&Mask>) -> Option<Mask> {
    let mut mask = given?.clone();
    for hop in &recording.hops {
        if let Some(record) = &hop.tape.record {
            mask.learn(&record.sent.bytes);
            mask.learn(&record.received.bytes);
            if let Some(told) = &record.told {
                mask.learn(&told.request);
                mask.learn(&told.reply);
            }
        }
    }
    Some(mask)
}

/// Takes an exchange apart.
pub fn parts(record: &Record, mask: Option<&Mask>) -> Parts {
    let mut parts = if record.told.is_some() {
        of_http2(record)
    } else {
        of_http1(record)
    };
    if let Some(mask) = mask {
        hide(record, mask, &mut parts);
    }
    parts
}

fn of_http1(record: &Record) -> Parts {
    let (sent, received) = (&record.sent, &record.received);
    let mut parts = Parts {
        sent: Some(sent.bytes.clone()),
        received: Some(received.bytes.clone()),
        ..Parts::default()
    };
    let Some((from, begin)) = record.http else {
        return parts;
    };
    let request = &sent.bytes[from..];
    let end = end_of_request(request);
    parts.request = request[..end].to_vec();
    parts.body = (
        request[end..].to_vec(),
        sent.size.saturating_sub((from + end) as u64),
    );
    let raw = &received.bytes[begin..];
    let (start, _, page) = reply::split(raw).unwrap_or((0, raw.len(), raw.len()));
    parts.page_size = received.size.saturating_sub((begin + page) as u64);
    let head = raw[start..page].to_vec();
    let whole = received.is_whole();
    parts.chunked = reply::is_chunked(&head);
    let (page, ended) = if parts.chunked {
        chunks(&raw[page..])
    } else {
        (raw[page..].to_vec(), true)
    };
    page_of(&mut parts, head, page, !whole || !ended);
    parts
}

fn of_http2(record: &Record) -> Parts {
    let mut parts = Parts {
        sent: Some(record.sent.bytes.clone()),
        received: Some(record.received.bytes.clone()),
        ..Parts::default()
    };
    if let Some(told) = &record.told {
        parts.request.clone_from(&told.request);
        parts.body = (told.body.bytes.clone(), told.body.size);
        parts.page_size = told.page_size;
        let cut = told.page_size > told.page.len() as u64;
        page_of(&mut parts, told.reply.clone(), told.page.clone(), cut);
    }
    parts
}

/// Fills in head and page, the page unpacked where that can be done.
fn page_of(parts: &mut Parts, head: Vec<u8>, page: Vec<u8>, cut: bool) {
    let mut reply = Reply {
        head,
        page: page.clone(),
        page_cut: cut,
        http2: false,
    };
    let unpacked = unpack(&mut reply, LIMIT);
    if unpacked.is_err() {
        reply.page = page;
    }
    parts.packed = reply.header("content-encoding").map(|_| unpacked);
    let line = reply.status_line();
    let mut words = line.split_ascii_whitespace();
    let version = words.next().unwrap_or_default();
    if version.starts_with("HTTP/") || version == "ICY" {
        parts.status = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    }
    parts.page_cut = reply.page_cut;
    parts.page = reply.page;
    parts.reply = reply.head;
}

/// Masks what is secret. A body that is sent is a form more often than not, and a form is a login.
fn hide(record: &Record, mask: &Mask, parts: &mut Parts) {
    let request = mask.apply(&mut parts.request);
    let body = !parts.body.0.is_empty();
    parts.body.0.fill(b'*');
    let reply = mask.apply(&mut parts.reply);
    let page = mask.apply(&mut parts.page);
    if record.told.is_some() {
        // Frames hold headers packed, where no mask finds them.
        parts.sent_hidden = request || body;
        parts.received_hidden = reply || page;
    } else {
        if let Some(sent) = &mut parts.sent {
            parts.sent_hidden = mask.apply(sent) || body;
            let opening = record.http.map_or(sent.len(), |(from, _)| from);
            // SOCKS sends user and password as they are.
            if matches!(sent.first(), Some(4 | 5)) {
                sent[..opening].fill(b'*');
                parts.sent_hidden = true;
            }
            let body = sent.len() - parts.body.0.len();
            sent[body..].fill(b'*');
        }
        if let Some(received) = &mut parts.received {
            parts.received_hidden = mask.apply(received);
        }
    }
    // What was not kept, or cannot be looked into, may hold what is looked for.
    let may_hold = !mask.is_empty();
    parts.sent_hidden |= may_hold && !record.sent.is_whole();
    parts.received_hidden |= may_hold && !record.received.is_whole();
    let closed = match &parts.packed {
        Some(Ok(())) => may_hold && parts.page_cut,
        Some(Err(_)) => may_hold,
        None => false,
    };
    if closed && matches!(parts.packed, Some(Err(_))) {
        parts.page.clear();
    }
    // In bytes that are packed, or cut into chunks, a mask does not find what it found in the page.
    if closed || (page && (parts.packed.is_some() || parts.chunked)) {
        parts.received = None;
        parts.received_hidden = true;
    }
    if record.told.is_some() {
        parts.sent = parts.sent.take().filter(|_| !parts.sent_hidden);
        parts.received = parts.received.take().filter(|_| !parts.received_hidden);
    }
}

/// Where the headers of a request end, behind their empty line.
fn end_of_request(raw: &[u8]) -> usize {
    memchr::memmem::find(raw, b"\r\n\r\n").map_or(raw.len(), |at| at + 4)
}
