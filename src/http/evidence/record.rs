//! What goes over one connection for one exchange, both ways, as it came: filled on the way, so that it is there when
//! the exchange is cut off. Bounded; what is longer is counted and cut.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};
use rustls::{ClientConfig, KeyLog};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::flows::{Sniffer, Tap};
use crate::http::trace::Trace;

/// How much of each direction of an exchange is kept.
pub const LIMIT: usize = 64 * 1024;

/// How many exchanges of a probe are kept: the first ones, and the last one.
const HOPS: usize = 8;

/// The beginning of one direction.
#[derive(Debug, Default)]
pub struct Cut {
    /// The first bytes, up to [`LIMIT`].
    pub bytes: Vec<u8>,
    /// All of them, counted.
    pub size: u64,
}

impl Cut {
    /// Takes what comes next.
    pub fn take(&mut self, new: &[u8]) {
        self.size += new.len() as u64;
        let room = LIMIT.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&new[..new.len().min(room)]);
    }

    /// Whether all of it was kept.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.size
    }
}

/// One exchange's bytes, keys and connections.
#[derive(Debug, Default)]
pub struct Record {
    /// What this host sent, behind the encryption: first what opens a tunnel, then HTTP.
    pub sent: Cut,
    /// What it received.
    pub received: Cut,
    /// Where in the two HTTP begins; `None` before it does.
    pub http: Option<(usize, usize)>,
    /// How much of the two went before TLS; `None` where all of it is in clear.
    pub clear: Option<(usize, usize)>,
    /// Request and reply in the form of HTTP/1, where they went in that of HTTP/2.
    pub told: Option<Told>,
    /// Whether the connection is older than the exchange.
    pub goes_on: bool,
    /// The secrets of the TLS session.
    pub keys: Keys,
    /// The URL that was asked for.
    pub url: String,
    tap: Option<Tap>,
    /// When the last connection was begun, by the clock of the packets.
    dialled_at: Option<SystemTime>,
}

/// An exchange of HTTP/2 in the form of HTTP/1.
#[derive(Debug, Default)]
pub struct Told {
    /// Request line and headers.
    pub request: Vec<u8>,
    /// What was sent behind them.
    pub body: Cut,
    /// Status line and headers; empty where none came.
    pub reply: Vec<u8>,
    /// As much of the page as was kept.
    pub page: Vec<u8>,
    /// How much of it came.
    pub page_size: u64,
}

impl Record {
    /// Says where the next connection goes, before its first packet.
    pub fn dials(&mut self, remote: SocketAddr) {
        if let Some(tap) = &self.tap {
            tap.expect(remote);
            self.dialled_at = Some(SystemTime::now());
        }
    }

    /// Says which connection it is, as soon as the kernel has chosen its port.
    pub fn dialled(&mut self, local: SocketAddr, remote: SocketAddr) {
        if let (Some(tap), Some(since)) = (&mut self.tap, self.dialled_at) {
            tap.follow(local, remote, since);
        }
    }

    /// TLS begins: a connector that hands the session's secrets over, where packets are captured.
    pub fn keyed(&mut self, connector: &TlsConnector) -> Option<TlsConnector> {
        let clear = (self.sent.bytes.len(), self.received.bytes.len());
        self.clear.get_or_insert(clear);
        self.tap.as_ref()?;
        let mut config = ClientConfig::clone(connector.config());
        config.key_log = Arc::new(self.keys.clone());
        Some(Arc::new(config).into())
    }

    /// A connection of an earlier exchange goes on. How it began is not on this record: where it is encrypted, its
    /// packets stay closed.
    pub fn goes_on(&mut self, ends: Option<(SocketAddr, SocketAddr)>, encrypted: bool) {
        self.goes_on = true;
        if encrypted {
            self.clear = Some((0, 0));
        }
        if let (Some(tap), Some((local, remote))) = (&mut self.tap, ends) {
            tap.expect(remote);
            tap.follow(local, remote, SystemTime::now());
        }
    }

    /// HTTP begins here.
    pub fn begin_http(&mut self) {
        self.http = Some((self.sent.bytes.len(), self.received.bytes.len()));
    }

    /// Its packets, once the exchange is over.
    pub fn tap(&self) -> Option<&Tap> {
        self.tap.as_ref()
    }
}

/// Secrets of TLS sessions, as they are agreed on: label, client random, secret.
#[derive(Debug, Clone, Default)]
pub struct Keys(Arc<Mutex<Vec<Key>>>);

/// One secret.
#[derive(Clone)]
pub struct Key {
    /// What it is, by the names of the NSS key log.
    pub label: String,
    /// The random number of the client's greeting.
    pub client_random: Vec<u8>,
    /// The secret.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for Key {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.label)
    }
}

impl Keys {
    /// Those so far.
    pub fn all(&self) -> Vec<Key> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl KeyLog for Keys {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Key {
                label: label.to_owned(),
                client_random: client_random.to_vec(),
                secret: secret.to_vec(),
            });
    }

    /// What Wireshark has no use for is not kept.
    fn will_log(&self, label: &str) -> bool {
        label != "EXPORTER_SECRET"
    }
}

/// Makes records.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// What captures packets, where this host lets it.
    pub sniffer: Option<Arc<Sniffer>>,
}

impl Recorder {
    /// One for an exchange that begins.
    pub fn record(&self) -> Box<Record> {
        Box::new(Record {
            tap: self.sniffer.as_ref().map(Tap::new),
            ..Record::default()
        })
    }
}

/// All exchanges of a probe that is over.
#[derive(Debug)]
pub struct Recording {
    /// Those that were kept.
    pub hops: Vec<Trace>,
    /// How many between the last two of them were not.
    pub left_out: u32,
    /// When the probe was over, its end being that of the last exchange.
    pub ended: Instant,
    /// A moment on both clocks.
    began: (Timestamp, Instant),
}

impl Recording {
    /// One for a probe that begins.
    pub fn begin(at: Timestamp, started: Instant) -> Self {
        Self {
            hops: Vec::new(),
            left_out: 0,
            ended: started,
            began: (at, started),
        }
    }

    /// Takes an exchange that is over.
    pub fn add(&mut self, hop: Trace) {
        if self.hops.len() == HOPS {
            self.hops.pop();
            self.left_out += 1;
        }
        self.ended = hop.done.unwrap_or_else(Instant::now);
        if let Some(tap) = hop.tape.record.as_ref().and_then(|record| record.tap()) {
            tap.close();
        }
        self.hops.push(hop);
    }

    /// The time of day.
    pub fn time_of(&self, moment: Instant) -> Timestamp {
        let (at, started) = self.began;
        let since = moment.saturating_duration_since(started);
        SignedDuration::try_from(since)
            .ok()
            .and_then(|since| at.checked_add(since).ok())
            .unwrap_or(at)
    }
}

/// A connection before HTTP begins, with what goes over it on record.
#[derive(Debug)]
pub struct Noted<'a, S> {
    stream: &'a mut S,
    record: Option<&'a mut Record>,
}

impl<'a, S> Noted<'a, S> {
    /// Puts a connection on record.
    pub fn new(stream: &'a mut S, record: Option<&'a mut Record>) -> Self {
        Self { stream, record }
    }
}

impl Noted<'_, TcpStream> {
    /// Looks at what is there, and leaves it.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.peek(buffer).await
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *self.stream).poll_read(cx, buffer))?;
        if let Some(record) = &mut self.record {
            record.received.take(&buffer.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, bytes))?;
        if let Some(record) = &mut self.record {
            record.sent.take(&bytes[..written]);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
