//! One request and its reply over HTTP/2, told in the form of HTTP/1: a status line, headers, a page.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Context;
use std::time::Instant;

use bytes::Bytes;
use h2::client;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use hyper::{Request, Response, Uri, Version};

use super::connect::{Means, Miss, of_this_host};
use super::evidence::{LIMIT, Told};
use super::exchange::{Page, Received, why_broken};
use super::probe::Kind;
use super::reply::{HEAD_LIMIT, Reply};
use super::trace::{Stage, Trace};
use super::wire::{Stream, Wire};

/// How much the server may send before it has to wait: no probe should.
const WINDOW: u32 = 1 << 20;

/// Sends a request and reads its reply.
pub async fn exchange(
    means: Means<'_>,
    stream: Stream,
    request: Request<Full<Bytes>>,
    trace: &mut Trace,
) -> Result<Received, Miss> {
    trace.stage = Stage::Talking;
    let mut wire = Wire::new(stream, &mut trace.tape);
    let mut page = Page::new(means.page, false);
    let mut came = Came::default();
    let (request, body) = in_form(request).await;
    if let Some(record) = wire.record() {
        record.told = Some(told_request(&request, &body));
    }
    let spoken = speak(&mut wire, (request, body), &mut page, &mut came).await;
    trace.done = Some(Instant::now());
    let Came {
        head,
        size,
        asked,
        replied,
    } = came;
    // What both sides say about the connection itself is neither request nor reply.
    trace.tape.last_write = asked.or(trace.tape.last_write);
    trace.tape.first_read = replied;
    let broken = spoken.as_ref().err().and_then(h2::Error::get_io);
    if let Some(miss) = broken.and_then(of_this_host) {
        return Err(miss);
    }
    let damage = spoken.err().map(|error| what(&error));
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

async fn speak(
    wire: &mut Wire<'_>,
    (request, body): (Request<()>, Bytes),
    page: &mut Page,
    came: &mut Came,
) -> Result<(), h2::Error> {
    let (sender, connection) = client::Builder::new()
        .enable_push(false)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(u32::try_from(HEAD_LIMIT).unwrap_or(u32::MAX))
        .handshake(wire)
        .await?;
    let mut connection = pin!(connection);
    let mut open = true;
    // The connection is moved along by whoever waits for its results; its error reaches them as well.
    let mut drive = |cx: &mut Context<'_>| {
        if open && connection.as_mut().poll(cx).is_ready() {
            open = false;
        }
    };
    let mut ready = pin!(sender.ready());
    let mut sender = poll_fn(|cx| {
        drive(cx);
        ready.as_mut().poll(cx)
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
        // Many small frames come from a single read: let the clock be heard in between.
        tokio::task::coop::consume_budget().await;
    }
    Ok(())
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
