//! A server that is a function of one connection: for what no web server would send, down to the bytes of TLS.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};

/// The server. It ends when dropped; each connection has a thread of its own, which ends with the connection.
#[derive(Debug)]
pub struct RawServer {
    /// Where it listens.
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
    /// The listener once more: shutting it down wakes the thread that accepts, in whatever namespace.
    closes: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

impl RawServer {
    /// Starts one on loopback. The function gets a connection and its number, from 0 on; when it returns, the
    /// connection is closed.
    pub fn start(serve: impl Fn(&TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        Self::on(listener, serve)
    }

    /// The same on a listener, which may belong to another network namespace.
    pub fn on(
        listener: TcpListener,
        serve: impl Fn(&TcpStream, usize) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let closes = listener.try_clone().expect("a second handle");
        let over = Arc::new(AtomicBool::new(false));
        let acceptor = std::thread::spawn({
            let over = Arc::clone(&over);
            let (serve, number) = (Arc::new(serve), AtomicUsize::new(0));
            move || {
                for stream in listener.incoming() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    // Whatever it waits for, a test does not hang.
                    let patience = Some(Duration::from_secs(20));
                    let _ = stream.set_read_timeout(patience);
                    let _ = stream.set_write_timeout(patience);
                    let _ = stream.set_nodelay(true);
                    let (serve, number) =
                        (Arc::clone(&serve), number.fetch_add(1, Ordering::SeqCst));
                    std::thread::spawn(move || serve(&stream, number));
                }
            }
        });
        Self {
            address,
            over,
            closes,
            acceptor: Some(acceptor),
        }
    }

    /// The port.
    pub fn port(&self) -> String {
        self.address.port().to_string()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = shutdown(&self.closes, Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Reads a request up to its empty line.
pub fn read_request(mut stream: impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 64 * 1024 {
        if stream.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.push(byte[0]);
    }
    Ok(head)
}

/// Reads until the other side is gone, or has said nothing for as long as a connection may take.
pub fn wait_until_gone(mut stream: impl Read) {
    let mut sink = [0; 1024];
    while matches!(stream.read(&mut sink), Ok(n) if n > 0) {}
}

/// Has the connection reset when it is closed.
pub fn reset_at_the_end(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO));
}
