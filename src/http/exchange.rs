//! One request and its reply on a connection.
//!
//! hyper speaks HTTP here; where it gives up on a reply that `check_http` would take, the rest is read as it comes.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;

use super::checks::status_of;
use super::connect::{Means, Miss, of_this_host, without_number};
use super::http2;
use super::page::PageUse;
use super::pool::Carrier;
use super::probe::Kind;
use super::reply::{self, HEAD_LIMIT, Reply};
use super::trace::{Stage, Trace};
use super::unpack;
use super::wire::{Stream, Tape, Wire};

/// How long to wait for the server's end of the connection after a whole reply. Who closes first keeps the port in
/// TIME_WAIT for a minute: let it be the server, as it is with `check_http`.
const FAREWELL: Duration = Duration::from_millis(20);

/// The most to read while waiting for it.
const FAREWELL_BYTES: u64 = 64 * 1024;

/// How a reply ends that is not whole.
const CLOSED: &str = "the connection was closed";

/// A reply, and what was wrong with it.
#[derive(Debug)]
pub struct Received {
    /// The reply, as far as it came.
    pub reply: Reply,
    /// How it was cut off.
    pub damage: Option<(Kind, String)>,
    /// What can carry a further request, where that is wanted.
    pub rest: Option<Carrier>,
}

/// Sends a request and reads its reply.
pub async fn exchange(
    means: Means<'_>,
    carrier: Carrier,
    request: Request<Full<Bytes>>,
    trace: &mut Trace,
) -> Result<Received, Miss> {
    trace.stage = Stage::Talking;
    let mut stream = match carrier {
        Carrier::Stream(stream) if !stream.is_http2() => stream,
        two => return Box::pin(http2::exchange(means, two, request, trace)).await,
    };
    // The page of a reply that hyper reads is not kept twice.
    trace.tape.limit = HEAD_LIMIT;
    if let (Stream::Tcp(stream), false) = (&stream, request.body().is_end_stream()) {
        // The end of a long one must not wait for the receipt of its beginning.
        let _ = stream.set_nodelay(true);
    }
    if let Some(record) = &mut trace.tape.record {
        record.begin_http();
    }
    let mut wire = Wire::new(&mut stream, &mut trace.tape);
    let mut page = Page::new(means.page, *request.method() == Method::HEAD);
    let spoken = speak(&mut wire, request, &mut page, means.keep).await;
    let stays = matches!(spoken, Ok(true)) && !wire.tape().ended;
    let received = match spoken {
        Ok(_) => Ok(None),
        Err(error) => make_sense(&mut wire, &error, &mut page).await,
    };
    let ended = Instant::now();
    trace.done = Some(ended);
    trace.waited = Some(means.cpu_wait.at(ended));
    // A whole reply must not become a time-out by good manners.
    let time = means
        .until
        .is_none_or(|until| Instant::now() + FAREWELL < until);
    let whole = matches!(received, Ok(None)) && means.page != PageUse::Unread;
    if time && whole && !stays && !wire.tape().ended {
        let _ = tokio::time::timeout(FAREWELL, read_to_end(&mut wire)).await;
    }
    if let Err(Miss::Server(kind, _)) = &received {
        trace.gone = trace.tape.size == 0 && matches!(kind, Kind::Reset | Kind::Closed);
    }
    let damage = received?;
    Ok(Received {
        reply: page.with_head(&trace.tape),
        damage,
        rest: stays.then_some(Carrier::Stream(stream)),
    })
}

/// Sends the request and reads the reply to its end, with hyper. Returns whether a further request may follow on this
/// connection, where that is wanted: by what both sides said and by how the reply came.
async fn speak(
    wire: &mut Wire<'_>,
    request: Request<Full<Bytes>>,
    page: &mut Page,
    keep: bool,
) -> Result<bool, hyper::Error> {
    let (mut sender, mut connection) = http1::Builder::new()
        .title_case_headers(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .max_buf_size(HEAD_LIMIT)
        .handshake(TokioIo::new(wire))
        .await?;
    let mut open = true;
    // The connection is moved along by whoever waits for its results; its error reaches them as well.
    let mut drive = |cx: &mut std::task::Context<'_>| {
        if open && connection.poll_without_shutdown(cx).is_ready() {
            open = false;
        }
    };
    let mut response = pin!(sender.send_request(request));
    // A reply that has come is taken before the connection is moved along.
    let response = poll_fn(|cx| {
        let ready = response.as_mut().poll(cx);
        if ready.is_ready() {
            return ready;
        }
        drive(cx);
        response.as_mut().poll(cx)
    })
    .await?;
    page.begun = true;
    if page.unread {
        return Ok(false);
    }
    let mut body = response.into_body();
    while let Some(frame) = poll_fn(|cx| {
        drive(cx);
        Pin::new(&mut body).poll_frame(cx)
    })
    .await
    {
        if let Some(data) = frame?.data_ref() {
            page.take(data);
        }
    }
    drop(body);
    if !keep {
        return Ok(false);
    }
    // hyper, too, has to notice that the reply is over.
    poll_fn(|cx| {
        drive(cx);
        Poll::Ready(())
    })
    .await;
    Ok(open && sender.is_ready())
}

/// What there is to a reply that hyper gave up on. An error is that there is none.
async fn make_sense(
    wire: &mut Wire<'_>,
    error: &hyper::Error,
    page: &mut Page,
) -> Result<Option<(Kind, String)>, Miss> {
    let cause = root(error);
    let ours = |error: &io::Error| of_this_host(error).map_or(Ok(()), Err);
    cause.downcast_ref().map_or(Ok(()), ours)?;
    let broken = cause.downcast_ref::<io::Error>().map(why_broken);
    if page.begun {
        let damage = match broken {
            Some(damage) => damage,
            None if wire.tape().ended => (Kind::Truncated, CLOSED.to_owned()),
            None => (Kind::Protocol, cause.to_string()),
        };
        return Ok(Some(damage));
    }
    let mut broken = broken;
    if broken.is_none() && !wire.tape().ended && looks_like_http(&wire.tape().received) {
        wire.keep(page.limit);
        let read = read_reply(wire).await;
        read.as_ref().err().map_or(Ok(()), ours)?;
        broken = read.err().as_ref().map(why_broken);
    }
    let tape = wire.tape();
    match (tape.size, broken) {
        (0, Some((Kind::Tls, why))) => Err(Miss::Server(
            Kind::Tls,
            format!("Cannot make SSL connection. {why}"),
        )),
        (0, Some((kind, why))) => Err(Miss::Server(
            kind,
            format!("No data received from host: {why}"),
        )),
        (0, None) => Err(Miss::Server(
            Kind::Closed,
            "No data received from host".to_owned(),
        )),
        (_, Some(damage)) => Ok(Some(damage)),
        (_, None) => {
            page.take_raw(tape);
            Ok(unfinished(tape).or_else(|| page.missing(tape)))
        }
    }
}

/// Whether the server did not get to the reply itself: interim ones (100, 103) with nothing behind them, or headers
/// without an end. A header block that ends with the connection is one.
fn unfinished(tape: &Tape) -> Option<(Kind, String)> {
    let raw = &tape.received;
    match reply::split(raw) {
        Some((start, end, _)) if reply::is_interim(&raw[start..end]) => {
            Some((Kind::Truncated, "nothing came behind it".to_owned()))
        }
        None if raw.len() >= HEAD_LIMIT && looks_like_http(raw) => {
            let why = format!("its headers have no end within {} KiB", HEAD_LIMIT >> 10);
            Some((Kind::Protocol, why))
        }
        _ => None,
    }
}

/// Why a stream gave no more.
pub(super) fn why_broken(error: &io::Error) -> (Kind, String) {
    let tls = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    match (tls, error.raw_os_error(), error.kind()) {
        (Some(tls), _, _) => (Kind::Tls, tls.to_string()),
        (None, Some(_), _) => (Kind::Reset, without_number(error)),
        (None, None, io::ErrorKind::UnexpectedEof) => (Kind::Truncated, CLOSED.to_owned()),
        // hyper's own, as on a chunk without a length.
        (None, None, _) => (Kind::Protocol, error.to_string()),
    }
}

fn looks_like_http(raw: &[u8]) -> bool {
    raw.starts_with(b"HTTP/") || raw.starts_with(b"ICY ")
}

/// Reads on, to the announced length, to the end of the connection, or as far as a header block may reach.
async fn read_reply(wire: &mut Wire<'_>) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let tape = wire.tape();
        match reply::split(&tape.received) {
            Some((start, end, page)) => {
                let length = reply::content_length(&tape.received[start..end]);
                if length.is_some_and(|length| tape.size >= length.saturating_add(page as u64)) {
                    return Ok(());
                }
            }
            None if tape.received.len() >= HEAD_LIMIT => return Ok(()),
            None => {}
        }
        if wire.read(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Reads what comes behind the reply, within limits, until the server closes.
async fn read_to_end(wire: &mut Wire<'_>) -> io::Result<()> {
    let mut buffer = [0; 2048];
    let limit = wire.tape().size + FAREWELL_BYTES;
    while wire.tape().size < limit && wire.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// The page as it is read.
#[derive(Debug)]
pub(super) struct Page {
    /// How much is kept.
    limit: usize,
    /// Whether hyper took the header block.
    begun: bool,
    /// Whether it is not waited for.
    unread: bool,
    /// Whether none comes, whatever length is announced.
    absent: bool,
    bytes: Vec<u8>,
    cut: bool,
    /// Whether its chunks did not come to their end.
    broken: bool,
}

impl Page {
    pub(super) fn new(wanted: PageUse, absent: bool) -> Self {
        Self {
            limit: match wanted {
                PageUse::Kept(limit) => limit,
                PageUse::Unread | PageUse::Counted => 0,
            },
            unread: wanted == PageUse::Unread,
            begun: false,
            absent,
            bytes: Vec::new(),
            cut: false,
            broken: false,
        }
    }

    pub(super) fn take(&mut self, data: &[u8]) {
        let room = self.limit.saturating_sub(self.bytes.len());
        self.cut |= data.len() > room;
        self.bytes.extend_from_slice(&data[..data.len().min(room)]);
    }

    pub(super) fn unread(&self) -> bool {
        self.unread
    }

    /// What was kept, and whether there was more.
    pub(super) fn into_parts(self) -> (Vec<u8>, bool) {
        (self.bytes, self.cut)
    }

    /// The page of a reply that hyper did not read.
    fn take_raw(&mut self, tape: &Tape) {
        if let Some((start, end, page)) = reply::split(&tape.received) {
            let raw = &tape.received[page..];
            self.cut |= tape.size > tape.received.len() as u64;
            if reply::is_chunked(&tape.received[start..end]) {
                let (page, whole) = unpack::chunks(raw);
                self.broken = !whole && !self.cut;
                self.take(&page);
            } else {
                self.take(raw);
            }
        }
    }

    /// Whether such a reply ended before its announced length.
    fn missing(&self, tape: &Tape) -> Option<(Kind, String)> {
        if self.broken && !self.absent && !self.unread {
            return Some((Kind::Truncated, CLOSED.to_owned()));
        }
        // A header block that the connection's end has cut has announced its page all the same.
        let all = tape.received.len();
        let (start, end, page) = reply::split(&tape.received).unwrap_or((0, all, all));
        let head = &tape.received[start..end];
        let length = reply::content_length(head).filter(|_| !reply::is_chunked(head))?;
        let reply = Reply {
            head: head.to_vec(),
            ..Reply::default()
        };
        let status = status_of(&reply.status_line());
        if status.is_some_and(|status| matches!(status, 100..=199 | 204 | 304)) {
            return None;
        }
        (!self.absent && !self.unread && tape.size < length.saturating_add(page as u64))
            .then(|| (Kind::Truncated, CLOSED.to_owned()))
    }

    fn with_head(self, tape: &Tape) -> Reply {
        let raw = &tape.received;
        let head = match reply::split(raw) {
            Some((start, end, _)) => &raw[start..end],
            None => &raw[..raw.len().min(HEAD_LIMIT)],
        };
        Reply {
            head: head.to_vec(),
            page: self.bytes,
            page_cut: self.cut,
            http2: false,
        }
    }
}

/// The innermost error.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}
