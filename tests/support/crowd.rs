//! The crowd of the incident: users that come, take a port each and hold on to it, and go.
//!
//! What connects has to be called in the client's namespace.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::incident::{PATIENCE, PORTS, PROXY, SPARE};

/// Users that fetch `/archive` and do not read it.
#[derive(Debug, Default)]
pub struct Crowd {
    held: Mutex<Vec<TcpStream>>,
}

impl Crowd {
    fn held(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more user; returns whether there was a port for it.
    fn join(&self) -> bool {
        let (status, stream) = request("/archive", "crowd");
        if status == 200 {
            self.held().push(stream);
        }
        status == 200
    }

    /// Users come until one finds no port.
    pub fn fill(&self) {
        for _ in 0..=PORTS {
            if !self.join() {
                return;
            }
        }
        panic!("more users than ports, and none was refused");
    }

    /// This many go.
    pub fn leave(&self, count: usize) {
        let mut held = self.held();
        let stay = held.len().saturating_sub(count);
        // There is unread data, so this resets the connections.
        held.truncate(stay);
    }

    pub fn go_and_come(&self, spare: Duration, full: Duration, stopped: &Receiver<()>) {
        let wait = |time| stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        loop {
            self.leave(SPARE);
            if !wait(spare) {
                return;
            }
            let until = Instant::now() + full;
            while Instant::now() < until {
                // Who is refused comes again, and takes what a probe has given back.
                self.fill();
                if !wait(Duration::from_millis(40)) {
                    return;
                }
            }
        }
    }
}

/// Sends one request to the proxy and reads the status; the rest of the answer is left on the connection.
fn request(path: &str, agent: &str) -> (u16, TcpStream) {
    let mut stream =
        TcpStream::connect_timeout(&PROXY.into(), PATIENCE).expect("the proxy accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let text =
        format!("GET {path} HTTP/1.0\r\nHost: service1.example\r\nUser-Agent: {agent}\r\n\r\n");
    stream.write_all(text.as_bytes()).expect("the proxy reads");
    let mut start = [0; 12];
    stream.read_exact(&mut start).expect("the proxy answers");
    let status = std::str::from_utf8(&start[9..]).ok();
    let status = status.and_then(|digits| digits.parse().ok());
    (
        status.unwrap_or_else(|| panic!("no status line: {start:?}")),
        stream,
    )
}

/// The status of one request that is read to its end.
pub fn fetch(path: &str, agent: &str) -> u16 {
    let (status, mut stream) = request(path, agent);
    std::io::copy(&mut stream, &mut std::io::sink()).expect("the answer has an end");
    status
}
