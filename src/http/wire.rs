//! The stream under an exchange. It keeps what came in, as it came, and when; what reads from it need not.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, connect, send, socket_with};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::evidence::Record;
use super::trace::Trace;

/// What went over a stream during one exchange. Bytes are those of HTTP: behind the decryption.
#[derive(Debug, Default)]
pub struct Tape {
    /// The first bytes received, up to `limit`.
    pub received: Vec<u8>,
    /// How many bytes are kept.
    pub limit: usize,
    /// All bytes received.
    pub size: u64,
    /// When the first byte came.
    pub first_read: Option<Instant>,
    /// When the last byte was sent.
    pub last_write: Option<Instant>,
    /// Whether the other side has said that it is done.
    pub ended: bool,
    /// What is kept as evidence.
    pub record: Option<Box<Record>>,
    /// The bytes read since the clock was heard.
    pub turn: usize,
}

/// After so many bytes the clock is heard. What a server repeats without an end (interim replies, zeros of a chunk's
/// size, pings) may keep a reader of ours busy within a single look at it, and no time limit would be noticed.
const TURN: usize = 64 * 1024;

/// A stream with its tape.
#[derive(Debug)]
pub struct Wire<'a> {
    stream: &'a mut Stream,
    tape: &'a mut Tape,
}

/// A connection, in clear or not.
#[derive(Debug)]
pub enum Stream {
    /// In clear.
    Tcp(TcpStream),
    /// In clear, to a socket in the file system.
    Unix(UnixStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// Encrypted, to a socket in the file system.
    TlsUnix(Box<TlsStream<UnixStream>>),
    /// Encrypted, within the encrypted connection to a proxy.
    TlsTls(Box<TlsStream<TlsStream<TcpStream>>>),
}

impl Stream {
    /// Whether both sides agreed on HTTP/2.
    pub fn is_http2(&self) -> bool {
        let protocol = match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Self::TlsUnix(stream) => stream.get_ref().1.alpn_protocol(),
            Self::TlsTls(stream) => stream.get_ref().1.alpn_protocol(),
        };
        protocol == Some(b"h2")
    }

    /// The certificates that the server showed, its own first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        let session = match self {
            Self::Tcp(_) | Self::Unix(_) => return &[],
            Self::Tls(stream) => stream.get_ref().1,
            Self::TlsUnix(stream) => stream.get_ref().1,
            Self::TlsTls(stream) => stream.get_ref().1,
        };
        session.peer_certificates().unwrap_or_default()
    }

    /// Whether nothing has come since the last reply: no end, and nothing that nobody asked for. To look takes what there
    /// is, so that one that is not quiet is of no further use.
    pub async fn is_quiet(&mut self) -> bool {
        // The executor knows of what has come since when it has looked, which it does between two turns.
        tokio::task::yield_now().await;
        let mut byte = [0];
        poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut byte);
            Poll::Ready(Pin::new(&mut *self).poll_read(cx, &mut buffer).is_pending())
        })
        .await
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::TlsUnix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::TlsTls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => poll_send(stream, cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::TlsUnix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::TlsTls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::TlsUnix(stream) => Pin::new(stream).poll_flush(cx),
            Self::TlsTls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::TlsUnix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::TlsTls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl<'a> Wire<'a> {
    /// Puts a tape under a stream.
    pub fn new(stream: &'a mut Stream, tape: &'a mut Tape) -> Self {
        Self { stream, tape }
    }

    /// From now on keeps this much of what comes, if nothing was left out yet.
    pub fn keep(&mut self, limit: usize) {
        if self.tape.size == self.tape.received.len() as u64 {
            self.tape.limit = self.tape.limit.max(limit);
        }
    }

    /// What went over it so far.
    pub fn tape(&self) -> &Tape {
        self.tape
    }
}

impl AsyncRead for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.tape.turn >= TURN {
            self.tape.turn = 0;
            // Unlike waking oneself this has the executor look at its timers first.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let result = loop {
            let result = ready!(read_turn(Pin::new(&mut *self.stream), cx, buffer));
            if !is_interrupted(&result) {
                break result;
            }
        };
        match result {
            // Many servers end a TLS connection without the farewell that it should have. Whether the reply is whole
            // is told by its length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            other => other?,
        }
        let new = &buffer.filled()[before..];
        let tape = &mut *self.tape;
        tape.turn += new.len();
        if new.is_empty() {
            tape.ended = true;
        } else {
            tape.first_read.get_or_insert_with(Instant::now);
            tape.size += new.len() as u64;
            if let Some(record) = &mut tape.record {
                record.received.take(new);
            }
            let room = tape.limit.saturating_sub(tape.received.len());
            tape.received.extend_from_slice(&new[..new.len().min(room)]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = loop {
            let result = ready!(Pin::new(&mut *self.stream).poll_write(cx, bytes));
            if !is_interrupted(&result) {
                break result?;
            }
        };
        self.tape.last_write = Some(Instant::now());
        if let Some(record) = &mut self.tape.record {
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

/// Writes as `TcpStream` does, but without asking the executor first: whether a new connection can be written on it
/// learns by a system call of its own, and it nearly always can.
fn poll_send(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match send(&*stream, bytes, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => Pin::new(stream).poll_write(cx, bytes),
        result => Poll::Ready(result.map_err(Into::into)),
    }
}

/// Reads no more than one turn takes.
fn read_turn(
    stream: Pin<&mut Stream>,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if buffer.remaining() <= TURN {
        return stream.poll_read(cx, buffer);
    }
    let mut part = ReadBuf::new(buffer.initialize_unfilled_to(TURN));
    let result = stream.poll_read(cx, &mut part);
    let count = part.filled().len();
    buffer.advance(count);
    result
}

fn is_interrupted<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::Interrupted)
}

/// A socket to connect with.
pub fn tcp_socket(remote: SocketAddr) -> io::Result<OwnedFd> {
    let family = match remote {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

/// Connects, and tells this end's address as soon as the kernel has chosen it: with the first packet, so that a
/// connection that is refused or never answered has one as well. What captures packets is told as well.
pub async fn connect_tcp(
    socket: OwnedFd,
    remote: SocketAddr,
    trace: &mut Trace,
) -> io::Result<TcpStream> {
    if let Some(record) = &mut trace.tape.record {
        record.dials(remote);
    }
    match connect(&socket, &remote) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from_std(socket.into())?;
    trace.local = stream.local_addr().ok();
    if let (Some(record), Some(local)) = (&mut trace.tape.record, trace.local) {
        record.dialled(local, remote);
    }
    // To ask again tells how far it came, and why not. What is near is there by now, and nothing has to be waited for.
    let again = || -> io::Result<()> {
        match connect(&stream, &remote) {
            Ok(()) | Err(Errno::ISCONN) => Ok(()),
            Err(Errno::ALREADY | Errno::INPROGRESS | Errno::INTR) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(error.into()),
        }
    };
    match again() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            stream.async_io(Interest::WRITABLE, again).await?;
        }
        other => other?,
    }
    Ok(stream)
}
