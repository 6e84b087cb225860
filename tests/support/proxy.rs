//! Proxies for tests: such that speak CONNECT, SOCKS 4 and SOCKS 5. Whatever server they are asked for, they
//! lead to the same one, and they keep what they were asked.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a proxy speaks.
#[derive(Debug, Clone)]
pub enum Speech {
    /// CONNECT.
    Connect,
    /// SOCKS 4 and 4a.
    Socks4,
    /// SOCKS 4, and this code for an answer.
    Socks4Error(u8),
    /// SOCKS 5, for these user and password.
    Socks5(Option<(String, String)>),
    /// SOCKS 5, and this code for an answer.
    Socks5Error(u8),
}

/// The proxy. It ends when dropped.
pub struct TestProxy {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    /// The listener once more: shutting it down wakes the thread that accepts, in whatever namespace.
    closes: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

impl TestProxy {
    /// Starts one on loopback that leads to this server.
    pub fn start(speech: Speech, server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let closes = listener.try_clone().expect("a second handle");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let over = Arc::new(AtomicBool::new(false));
        let acceptor = std::thread::spawn({
            let (asked, over) = (Arc::clone(&asked), Arc::clone(&over));
            move || {
                for stream in listener.incoming() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let (asked, speech) = (Arc::clone(&asked), speech.clone());
                    std::thread::spawn(move || {
                        // A client that goes away in between is what some tests are about.
                        let _ = serve(stream, &speech, server, &asked);
                    });
                }
            }
        });
        Self {
            address,
            asked,
            over,
            closes,
            acceptor: Some(acceptor),
        }
    }

    /// What it was asked: the header block of each CONNECT, or the place that SOCKS named.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = rustix::net::shutdown(&self.closes, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Takes TLS off whatever comes and passes it on: what makes a proxy of the above one that is spoken to over TLS.
pub struct TlsFront {
    /// Where it listens.
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
    /// The listener once more: shutting it down wakes the thread that accepts, in whatever namespace.
    closes: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl TlsFront {
    /// Starts one on loopback before this server.
    pub fn start(config: Arc<rustls::ServerConfig>, behind: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let closes = listener.try_clone().expect("a second handle");
        listener
            .set_nonblocking(true)
            .expect("a listener need not block");
        let over = Arc::<AtomicBool>::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the executor starts");
        let ends = Arc::clone(&over);
        let front = async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("it does not block");
            let acceptor = tokio_rustls::TlsAcceptor::from(config);
            while let Ok((stream, _)) = listener.accept().await {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut near = acceptor.accept(stream).await?;
                    let mut far = tokio::net::TcpStream::connect(behind).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        };
        Self {
            address,
            over,
            closes,
            thread: Some(std::thread::spawn(move || runtime.block_on(front))),
        }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = rustix::net::shutdown(&self.closes, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut client: TcpStream,
    speech: &Speech,
    server: SocketAddr,
    asked: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let note = |text: String| {
        asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    };
    match speech {
        Speech::Connect => {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                client.read_exact(&mut byte)?;
                head.push(byte[0]);
            }
            note(String::from_utf8_lossy(&head).into_owned());
            client.write_all(b"HTTP/1.0 200 Connection established\r\nVia: test\r\n\r\n")?;
        }
        Speech::Socks4 => {
            note(socks4(&mut client)?);
            client.write_all(&[0, 90, 0, 0, 0, 0, 0, 0])?;
        }
        Speech::Socks4Error(code) => {
            note(socks4(&mut client)?);
            client.write_all(&[0, *code, 0, 0, 0, 0, 0, 0])?;
            return Ok(());
        }
        Speech::Socks5(user) => {
            note(socks5(&mut client, user.as_ref())?);
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        }
        Speech::Socks5Error(code) => {
            note(socks5(&mut client, None)?);
            client.write_all(&[5, *code, 0, 1, 0, 0, 0, 0, 0, 0])?;
            return Ok(());
        }
    }
    relay(&client, &TcpStream::connect(server)?)
}

/// Where the client wants to go to, and as whom: `www.test 80 user`.
fn socks4(client: &mut TcpStream) -> io::Result<String> {
    let head = take(client, 8)?;
    let user = take_to_zero(client)?;
    let place = match &head[4..] {
        [0, 0, 0, last] if *last > 0 => take_to_zero(client)?,
        octets => {
            let octets: [u8; 4] = octets.try_into().expect("four bytes");
            Ipv4Addr::from(octets).to_string()
        }
    };
    let port = u16::from_be_bytes([head[2], head[3]]);
    Ok(format!("{place} {port} {user}"))
}

fn take_to_zero(client: &mut TcpStream) -> io::Result<String> {
    let mut text = Vec::new();
    loop {
        match take(client, 1)?[0] {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            byte => text.push(byte),
        }
    }
}

/// The talk up to the place that the client wants to go to.
fn socks5(client: &mut TcpStream, user: Option<&(String, String)>) -> io::Result<String> {
    let count = take(client, 2)?[1];
    let methods = take(client, count.into())?;
    let method = if user.is_some() { 2 } else { 0 };
    let known = methods.contains(&method);
    client.write_all(&[5, if known { method } else { 0xff }])?;
    if let Some((name, password)) = user.filter(|_| known) {
        take(client, 1)?;
        let good = take_text(client)? == *name && take_text(client)? == *password;
        client.write_all(&[1, u8::from(!good)])?;
    }
    let place = match take(client, 4)?[3] {
        1 => {
            let octets: [u8; 4] = take(client, 4)?.try_into().expect("four bytes");
            Ipv4Addr::from(octets).to_string()
        }
        4 => {
            let octets: [u8; 16] = take(client, 16)?.try_into().expect("sixteen bytes");
            Ipv6Addr::from(octets).to_string()
        }
        _ => take_text(client)?,
    };
    let port = take(client, 2)?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    Ok(format!("{place} {port}"))
}

fn take(client: &mut TcpStream, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A text behind its length.
fn take_text(client: &mut TcpStream) -> io::Result<String> {
    let length = take(client, 1)?[0];
    let bytes = take(client, length.into())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Carries bytes both ways until both ends are done.
fn relay(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let there = std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut &*server, &mut &*client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = there.join();
    Ok(())
}
