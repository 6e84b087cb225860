//! A web server that does what a test tells it to: answers, lies, stalls, resets. Plain threads and blocking sockets.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rustix::net::{Shutdown, shutdown};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::identity::{DAY, Identity};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its number, from 0 on, over all connections.
    pub number: usize,
    /// The client's address.
    pub peer: SocketAddr,
    /// The header block; for what does not look like HTTP, the first bytes.
    pub head: String,
    /// As much behind it as it announces.
    pub body: String,
}

impl Seen {
    /// The path that was asked for.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Send these bytes and close.
    Send(Vec<u8>),
    /// Send these bytes and wait for the next request.
    Keep(Vec<u8>),
    /// The same, and close when this long nothing has come.
    KeepFor(Vec<u8>, Duration),
    /// Send these bytes and reset the connection.
    SendAndReset(Vec<u8>),
    /// Send these bytes, then nothing until the client goes.
    SendAndStall(Vec<u8>),
    /// Send these bytes, then these again and again until the client goes.
    SendForever(Vec<u8>, Vec<u8>),
    /// Send these bytes one by one, with a pause behind each, until the client goes.
    Trickle(Vec<u8>, Duration),
}

/// A status line and a page with the right length, as bytes.
pub fn page(status: &str, body: &str) -> Vec<u8> {
    page_with(status, "", body)
}

/// The same with further header lines, each with its line feed.
pub fn page_with(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nServer: fault\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

/// A page with the right length, behind which the connection stays.
pub fn kept_page(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nServer: fault\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

type Handler = dyn Fn(&Seen) -> Act + Send + Sync;

/// The server. It ends when dropped.
pub struct FaultServer {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    /// The listener once more: shutting it down wakes the thread that accepts, in whatever namespace.
    closes: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    handler: Box<Handler>,
    tls: Option<Arc<ServerConfig>>,
    seen: Mutex<Vec<Seen>>,
    /// The clients' addresses, whether or not a request followed.
    peers: Mutex<Vec<SocketAddr>>,
    over: AtomicBool,
}

impl FaultServer {
    /// Starts one on loopback, at a free port.
    pub fn start(handler: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        Self::on(listener, None, handler)
    }

    /// The same over TLS, with a certificate of its own making for `localhost`.
    pub fn start_tls(handler: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        Self::on(listener, Some(localhost().server(&[], None)), handler)
    }

    /// The same, for clients with a certificate alone; returned with one and its key, in PEM.
    pub fn start_mutual_tls(
        handler: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> (Self, String, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let authority = Identity::authority();
        let client = Identity::signed("client", SystemTime::now() + DAY, &authority);
        let config = localhost().server(&[], Some(&authority));
        let server = Self::on(listener, Some(config), handler);
        (server, client.pem(), client.key_pem())
    }

    /// Starts one on a listener, which may belong to another network namespace.
    pub fn on(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let closes = listener.try_clone().expect("a second handle");
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            tls,
            seen: Mutex::default(),
            peers: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self {
            address,
            shared,
            closes,
            acceptor: Some(acceptor),
        }
    }

    /// The port.
    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// The clients so far, in the order of their connections.
    pub fn peers(&self) -> Vec<SocketAddr> {
        lock(&self.shared.peers).clone()
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = shutdown(&self.closes, Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(peer) = stream.peer_addr() else {
            continue;
        };
        lock(&shared.peers).push(peer);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A client that goes away in between is what many tests are about.
            let _ = serve(&stream, peer, &shared);
            // The client hears of it now: a child of another test has a copy of the descriptor up to its exec, and closing
            // ours alone would say nothing. Where closing resets, it is to be left to that.
            let resets =
                rustix::net::sockopt::socket_linger(&stream).is_ok_and(|time| time.is_some());
            if !resets {
                let _ = shutdown(&stream, Shutdown::Write);
            }
        });
    }
}

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

fn serve(socket: &TcpStream, peer: SocketAddr, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut stream: Box<dyn Both> = match &shared.tls {
        None => Box::new(socket.try_clone()?),
        Some(config) => {
            let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(session, socket.try_clone()?))
        }
    };
    while answer(&mut *stream, socket, peer, shared)? {}
    stream.flush()
}

/// Takes a request and does with it what the test says. Returns whether a further one may come.
fn answer(
    stream: &mut dyn Both,
    socket: &TcpStream,
    peer: SocketAddr,
    shared: &Shared,
) -> io::Result<bool> {
    let head = read_head(stream)?;
    let body = read_body(stream, &head)?;
    let seen = {
        let mut all = lock(&shared.seen);
        let seen = Seen {
            number: all.len(),
            peer,
            head,
            body,
        };
        all.push(seen.clone());
        seen
    };
    match (shared.handler)(&seen) {
        Act::Send(bytes) => stream.write_all(&bytes)?,
        Act::Keep(bytes) => {
            stream.write_all(&bytes)?;
            return Ok(true);
        }
        Act::KeepFor(bytes, time) => {
            stream.write_all(&bytes)?;
            socket.set_read_timeout(Some(time))?;
            return Ok(true);
        }
        Act::SendAndReset(bytes) => {
            stream.write_all(&bytes)?;
            stream.flush()?;
            // Closing with a linger time of zero resets. A reset overtakes what the client has not read yet, and when
            // it has cannot be seen from here: the one place that sleeps.
            if !bytes.is_empty() {
                std::thread::sleep(Duration::from_millis(50));
            }
            rustix::net::sockopt::set_socket_linger(socket.as_fd(), Some(Duration::ZERO))?;
        }
        Act::SendAndStall(bytes) => {
            stream.write_all(&bytes)?;
            stream.flush()?;
            wait_until_gone(stream);
        }
        Act::SendForever(bytes, again) => {
            stream.write_all(&bytes)?;
            while !shared.over.load(Ordering::SeqCst) {
                stream.write_all(&again)?;
            }
        }
        Act::Trickle(bytes, pause) => {
            for byte in bytes {
                stream.write_all(&[byte])?;
                std::thread::sleep(pause);
            }
        }
    }
    Ok(false)
}

/// Reads up to the empty line. A TLS greeting is taken as it comes.
fn read_head(stream: &mut dyn Both) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.push(byte[0]);
        if head[0] == 0x16 || head.len() > 64 * 1024 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn read_body(stream: &mut dyn Both, head: &str) -> io::Result<String> {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    let mut body = vec![0; length.and_then(|text| text.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn wait_until_gone(stream: &mut dyn Both) {
    let mut sink = [0; 1024];
    while matches!(stream.read(&mut sink), Ok(n) if n > 0) {}
}

/// What a server shows that was told nothing else.
fn localhost() -> Identity {
    Identity::self_signed("localhost")
}
