//! One request and its reply over HTTP/2, told in the form of HTTP/1: a status line, headers, a page.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;
use std::{io, mem};

use bytes::Bytes;
use h2::Reason;
use h2::client::{self, Connection, SendRequest};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use hyper::{Request, Response, Uri, Version};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::{Means, Miss, of_this_host};
use super::evidence::{LIMIT, Told};
use super::exchange::{Page, Received, why_broken};
use super::pool::Carrier;
use super::probe::Kind;
use super::reply::{HEAD_LIMIT, Reply};
use super::trace::Trace;
use super::wire::{Stream, Tape, Wire};

/// How much the server may send before it has to wait: no probe should.
const WINDOW: u32 = 1 << 20;

/// A connection that both sides speak HTTP/2 on. It takes one request after the other.
#[derive(Debug)]
pub struct Session {
    sender: SendRequest<Bytes>,
    connection: Connection<SharedWire, Bytes>,
    /// The tape that lies under it during an exchange.
    tape: Arc<Mutex<Tape>>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Session {
    async fn begin(stream: Stream, tape: &Arc<Mutex<Tape>>) -> Result<Self, h2::Error> {
        let certificates = stream.certificates().to_vec();
        let wire = SharedWire {
            stream,
            tape: Arc::clone(tape),
        };
        let (sender, connection) = client::Builder::new()
            .enable_push(false)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(u32::try_from(HEAD_LIMIT).unwrap_or(u32::MAX))
            .handshake(wire)
            .await?;
        Ok(Self {
            sender,
            connection,
            tape: Arc::clone(tape),
            certificates,
        })
    }

    /// The certificates that the server showed, its own first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Whether it can take a further request. The server may have said something about the connection meanwhile.
    pub async fn is_open(&mut self) -> bool {
        // The executor knows of what has come since when it has looked, which it does between two turns.
        tokio::task::yield_now().await;
        self.takes_more().await
    }

    /// The same, by what is known.
    async fn takes_more(&mut self) -> bool {
        poll_fn(|cx| {
            let over = Pin::new(&mut self.connection).poll(cx).is_ready();
            let takes = !over && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())));
            Poll::Ready(takes)
        })
        .await
    }

    async fn speak(
        &mut self,
        (request, body): (Request<()>, Bytes),
        page: &mut Page,
        came: &mut Came,
    ) -> Result<(), h2::Error> {
        let Self {
            sender, connection, ..
        } = self;
        let mut open = true;
        // The connection is moved along by whoever waits for its results; its error reaches them as well.
        let mut drive = |cx: &mut Context<'_>| {
            if open && Pin::new(&mut *connection).poll(cx).is_ready() {
                open = false;
            }
        };
        poll_fn(|cx| {
            drive(cx);
            sender.poll_ready(cx)
        })
        .await?;
        let (response, mut sending) = sender.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            sending.send_data(body, true)?;
        }
        let mut response = pin!(response);
        let response = poll_fn(|cx| {
            drive(cx);
            came.asked.get_or_insert_with(Instant::now);
            response.as_mut().poll(cx)
        })
        .await?;
        came.replied = Some(Instant::now());
        came.head = told(&response);
        if page.unread() {
            return Ok(());
        }
        let mut body = response.into_body();
        while let Some(data) = poll_fn(|cx| {
            drive(cx);
            body.poll_data(cx)
        })
        .await
        {
            let data = data?;
            came.size += data.len() as u64;
            page.take(&data);
            body.flow_control().release_capacity(data.len())?;
        }
        Ok(())
    }
}

/// A stream that is not done with when an exchange is, with the tape of the one that is under way.
#[derive(Debug)]
struct SharedWire {
    stream: Stream,
    tape: Arc<Mutex<Tape>>,
}

impl SharedWire {
    fn with<T>(&mut self, act: impl FnOnce(Pin<&mut Wire<'_>>) -> T) -> T {
        let mut tape = lock(&self.tape);
        act(Pin::new(&mut Wire::new(&mut self.stream, &mut tape)))
    }
}

impl AsyncRead for SharedWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|wire| wire.poll_read(cx, buffer))
    }
}

impl AsyncWrite for SharedWire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|wire| wire.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|wire| wire.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|wire| wire.poll_shutdown(cx))
    }
}

/// Lays the tape of an exchange under a session, and gives it back, however that ends.
struct Lent<'a> {
    own: &'a mut Tape,
    shared: &'a Mutex<Tape>,
}

impl<'a> Lent<'a> {
    fn new(own: &'a mut Tape, shared: &'a Mutex<Tape>) -> Self {
        mem::swap(own, &mut *lock(shared));
        Self { own, shared }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.own = mem::take(&mut *lock(self.shared));
    }
}

fn lock(tape: &Mutex<Tape>) -> MutexGuard<'_, Tape> {
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a request and reads its reply.
pub async fn exchange(
    means: Means<'_>,
    carrier: Carrier,
    request: Request<Full<Bytes>>,
    trace: &mut Trace,
) -> Result<Received, Miss> {
    let mut page = Page::new(means.page, false);
    let mut came = Came::default();
    let (request, body) = in_form(request).await;
    if let Some(record) = &mut trace.tape.record {
        record.begin_http();
        record.told = Some(told_request(&request, &body));
    }
    let tape = match &carrier {
        Carrier::Stream(_) => Arc::default(),
        Carrier::Session(session) => Arc::clone(&session.tape),
    };
    let lent = Lent::new(&mut trace.tape, &tape);
    let begun = match carrier {
        Carrier::Stream(stream) => Session::begin(stream, &tape).await.map(Box::new),
        Carrier::Session(session) => Ok(session),
    };
    let spoken = match begun {
        Ok(mut session) => match session.speak((request, body), &mut page, &mut came).await {
            Ok(()) => Ok(session),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let ended = Instant::now();
    let waited = means.cpu_wait.at(ended);
    let (session, error) = match spoken {
        Ok(mut session) => {
            let stays = means.keep && session.takes_more().await;
            (stays.then_some(session), None)
        }
        Err(error) => (None, Some(error)),
    };
    drop(lent);
    trace.done = Some(ended);
    trace.waited = Some(waited);
    let Came {
        head,
        size,
        asked,
        replied,
    } = came;
    // What both sides say about the connection itself is neither request nor reply.
    trace.tape.last_write = asked.or(trace.tape.last_write);
    trace.tape.first_read = replied;
    let broken = error.as_ref().and_then(h2::Error::get_io);
    if let Some(miss) = broken.and_then(of_this_host) {
        return Err(miss);
    }
    trace.gone = head.is_empty() && error.as_ref().is_some_and(is_gone);
    let damage = error.as_ref().map(what);
    if head.is_empty() {
        let (kind, why) = damage.unwrap_or((Kind::Closed, "no reply".to_owned()));
        let words = format!("No data received from host: {why}");
        return Err(Miss::Server(kind, words));
    }
    // Frames are not what anybody counts: the size is that of headers and page, as with check_curl.
    trace.tape.received.clone_from(&head);
    trace.tape.size = head.len() as u64 + size;
    let (page, page_cut) = page.into_parts();
    let record = trace.tape.record.as_mut();
    if let Some(told) = record.and_then(|record| record.told.as_mut()) {
        told.reply.clone_from(&head);
        told.page = page[..page.len().min(LIMIT)].to_vec();
        told.page_size = size;
    }
    Ok(Received {
        reply: Reply {
            head,
            page,
            page_cut,
            http2: true,
        },
        damage,
        rest: session.map(Carrier::Session),
    })
}

/// What came of a request.
#[derive(Debug, Default)]
struct Came {
    /// Status line and headers of the reply, told.
    head: Vec<u8>,
    /// The size of its page.
    size: u64,
    /// When the request was out.
    asked: Option<Instant>,
    /// When the reply began.
    replied: Option<Instant>,
}

/// A request of HTTP/1 as one of HTTP/2: the host stands in the address, and nothing is said of the connection.
async fn in_form(request: Request<Full<Bytes>>) -> (Request<()>, Bytes) {
    let (mut parts, body) = request.into_parts();
    // A body that is all there cannot fail.
    let Ok(body) = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let host = parts.headers.remove(HOST);
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        parts.headers.remove(name);
    }
    if !body.is_empty() {
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
    }
    let mut address = parts.uri.clone().into_parts();
    if address.authority.is_none() {
        address.scheme = "https".parse().ok();
        address.authority = host.and_then(|host| host.to_str().ok()?.parse().ok());
    }
    if let Ok(uri) = Uri::from_parts(address) {
        parts.uri = uri;
    }
    parts.version = Version::HTTP_2;
    (Request::from_parts(parts, ()), body)
}

fn told(response: &Response<h2::RecvStream>) -> Vec<u8> {
    let line = format!("HTTP/2 {} \r\n", response.status().as_u16());
    told_headers(line, response.headers())
}

fn told_request(request: &Request<()>, body: &Bytes) -> Told {
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let authority = request.uri().authority().map_or("", |a| a.as_str());
    let line = format!(
        "{} {path} HTTP/2\r\n:authority: {authority}\r\n",
        request.method()
    );
    let mut told = Told {
        request: told_headers(line, request.headers()),
        ..Told::default()
    };
    told.body.take(body);
    told
}

fn told_headers(line: String, headers: &HeaderMap) -> Vec<u8> {
    let mut head = line.into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Why an exchange broke off.
fn what(error: &h2::Error) -> (Kind, String) {
    if let Some(error) = error.get_io() {
        return why_broken(error);
    }
    let kind = if error.is_remote() {
        Kind::Reset
    } else {
        Kind::Protocol
    };
    (kind, format!("HTTP/2: {error}"))
}

/// Whether an error is the connection's, and none of the request's: the server takes no more on it.
fn is_gone(error: &h2::Error) -> bool {
    let refused = error.reason() == Some(Reason::REFUSED_STREAM);
    let over = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    error.is_io() || refused || over
}
