//! A TCP proxy that cuts a connection where it hurts most: between a request that arrived and its reply.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The proxy; its threads end with the connections and with the test.
pub struct CuttingProxy {
    /// Where it listens.
    pub address: SocketAddr,
    cuts: Arc<AtomicU32>,
    over: Arc<AtomicBool>,
    /// The listener once more: shutting it down wakes the thread that accepts, in whatever namespace.
    closes: TcpListener,
}

impl CuttingProxy {
    /// Starts one on a listener, for a server that is reached from the calling thread's network namespace.
    pub fn on(listener: TcpListener, server: SocketAddr) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let closes = listener.try_clone().expect("a second handle");
        let cuts = Arc::new(AtomicU32::new(0));
        let over = Arc::new(AtomicBool::new(false));
        std::thread::spawn({
            let (cuts, over) = (Arc::clone(&cuts), Arc::clone(&over));
            move || {
                for client in listener.incoming() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(client) = client else { continue };
                    let Ok(server) = TcpStream::connect(server) else {
                        continue;
                    };
                    let cuts = Arc::clone(&cuts);
                    std::thread::spawn(move || relay(&client, &server, &cuts));
                }
            }
        });
        Self {
            address,
            cuts,
            over,
            closes,
        }
    }

    /// Has the replies to so many of the next requests lost, with their connections.
    pub fn cut(&self, count: u32) {
        self.cuts.store(count, Ordering::SeqCst);
    }

    /// How many are still to be lost.
    pub fn left(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = rustix::net::shutdown(&self.closes, rustix::net::Shutdown::Both);
    }
}

/// Carries bytes both ways. A handshake goes through: its client speaks once and again before any request of it.
fn relay(client: &TcpStream, server: &TcpStream, cuts: &AtomicU32) {
    let spoken = &AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            copy(client, server, |_| {
                spoken.fetch_add(1, Ordering::SeqCst);
                true
            });
            let _ = server.shutdown(Shutdown::Write);
        });
        copy(server, client, |_| {
            // Hello, the end of the handshake, the request: the server's next words are the reply.
            let replies = spoken.load(Ordering::SeqCst) >= 3;
            let cut = |left: u32| left.checked_sub(1);
            !(replies
                && cuts
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, cut)
                    .is_ok())
        });
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, mut goes_on: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !goes_on(&buffer[..count]) || to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}
