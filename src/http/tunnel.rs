//! What is said on a connection before TLS and HTTP: CONNECT, the PROXY protocol; `socks` has the rest.
//!
//! A proxy is as little to be trusted as a server: its answers are bounded, and it is held to what they mean.
//! `check_http` does not look at the answer to CONNECT at all.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::checks::status_of;
use super::connect::{Miss, without_number};
use super::evidence::{Noted, Record};
use super::probe::Kind;
use super::proxy::{Proxy, ProxyKind};
use super::reply::{self, Reply};
use super::socks;
use super::target::{Target, bracketed};

/// The longest answer to CONNECT.
const ANSWER_LIMIT: usize = 16 * 1024;

/// A connection to a server, or to a proxy, which may be spoken to over TLS.
#[derive(Debug)]
pub enum Near {
    /// In clear.
    Clear(TcpStream),
    /// Encrypted: a proxy.
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// Asks a proxy for a way to a server; `address` where it is not to be told the name.
pub async fn open(
    proxy: &Proxy,
    target: &Target,
    address: Option<IpAddr>,
    near: &mut Near,
    record: Option<&mut Record>,
) -> Result<(), Miss> {
    let opened = match near {
        Near::Clear(stream) => {
            let stream = &mut Noted::new(stream, record);
            match proxy.kind {
                ProxyKind::Http | ProxyKind::Https | ProxyKind::Connect => {
                    connect(proxy, target, stream).await
                }
                ProxyKind::Socks4 | ProxyKind::Socks4Names => {
                    socks::version_4(proxy, target, address, stream).await
                }
                ProxyKind::Socks5 | ProxyKind::Socks5Names => {
                    socks::version_5(proxy, target, address, stream).await
                }
            }
        }
        Near::Encrypted(stream) => {
            let stream = &mut Noted::new(&mut **stream, record);
            connect_encrypted(proxy, target, stream).await
        }
    };
    opened.map_err(|refusal| {
        let (kind, why) = match refusal {
            Refusal::Said(kind, why) => (kind, why),
            Refusal::Broken(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                (Kind::Proxy, "it closed the connection".to_owned())
            }
            Refusal::Broken(error) => (Kind::Proxy, without_number(&error)),
        };
        let server = authority(target);
        Miss::Server(
            kind,
            format!("{} opens no way to {server}: {why}", proxy.name()),
        )
    })
}

/// Why there is no way.
pub(super) enum Refusal {
    /// In the proxy's words.
    Said(Kind, String),
    /// The connection to it broke.
    Broken(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

fn authority(target: &Target) -> String {
    format!("{}:{}", bracketed(&target.address), target.port)
}

async fn connect(
    proxy: &Proxy,
    target: &Target,
    stream: &mut Noted<'_, TcpStream>,
) -> Result<(), Refusal> {
    stream.write_all(&asked(proxy, target)).await?;
    judge(answer(stream).await?)
}

async fn connect_encrypted(
    proxy: &Proxy,
    target: &Target,
    stream: &mut Noted<'_, TlsStream<TcpStream>>,
) -> Result<(), Refusal> {
    stream.write_all(&asked(proxy, target)).await?;
    stream.flush().await?;
    judge(answer_by_bytes(stream).await?)
}

/// The request for a tunnel.
fn asked(proxy: &Proxy, target: &Target) -> Vec<u8> {
    let server = authority(target);
    let mut request =
        format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: ").into_bytes();
    request.extend_from_slice(proxy.agent.as_bytes());
    request.extend_from_slice(b"\r\nProxy-Connection: keep-alive\r\n");
    if let Some(value) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

pub(super) fn judge(head: Vec<u8>) -> Result<(), Refusal> {
    let answer = Reply {
        head,
        ..Reply::default()
    };
    let line = answer.status_line();
    match status_of(&line).filter(|_| line.starts_with("HTTP/1.")) {
        Some(200..=299) => Ok(()),
        _ => Err(Refusal::Said(Kind::Proxy, line.into_owned())),
    }
}

/// Reads an answer up to its empty line and not a byte more: what follows belongs to the tunnel.
async fn answer(stream: &mut Noted<'_, TcpStream>) -> Result<Vec<u8>, Refusal> {
    let mut answer = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let before = answer.len();
        let there = stream.peek(&mut buffer).await?;
        if there == 0 {
            if before == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            return Ok(answer);
        }
        answer.extend_from_slice(&buffer[..there]);
        let end = reply::split(&answer).map(|(_, _, end)| end);
        // The end was not among what came before.
        let taken = end.map_or(there, |end| end - before);
        stream.read_exact(&mut buffer[..taken]).await?;
        if let Some(end) = end {
            answer.truncate(end);
            return Ok(answer);
        }
        if answer.len() > ANSWER_LIMIT {
            return Err(endless());
        }
    }
}

/// The same where bytes cannot be looked at before they are taken. They are decrypted by then, and cheap to have one by
/// one.
pub(super) async fn answer_by_bytes(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Vec<u8>, Refusal> {
    let mut answer = Vec::new();
    let mut byte = [0];
    while answer.len() <= ANSWER_LIMIT {
        if stream.read(&mut byte).await? == 0 {
            if answer.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            return Ok(answer);
        }
        answer.push(byte[0]);
        if byte[0] == b'\n' && reply::split(&answer).is_some() {
            return Ok(answer);
        }
    }
    Err(endless())
}

fn endless() -> Refusal {
    Refusal::Said(Kind::Proxy, "its answer has no end".to_owned())
}

/// The header of the PROXY protocol, version 1, for a connection between these two.
pub fn announcement(ends: Option<(SocketAddr, SocketAddr)>) -> String {
    match ends {
        Some((from, to)) => {
            let family = if from.is_ipv4() { 4 } else { 6 };
            format!(
                "PROXY TCP{family} {} {} {} {}\r\n",
                from.ip(),
                to.ip(),
                from.port(),
                to.port()
            )
        }
        None => "PROXY UNKNOWN\r\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_that_of_the_specification() {
        let ends = |from: &str, to: &str| Some((from.parse().unwrap(), to.parse().unwrap()));
        for (ends, line) in [
            (
                ends("192.0.2.1:40000", "192.0.2.2:80"),
                "PROXY TCP4 192.0.2.1 192.0.2.2 40000 80\r\n",
            ),
            (
                ends("[::1]:40000", "[::2]:80"),
                "PROXY TCP6 ::1 ::2 40000 80\r\n",
            ),
            (None, "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(announcement(ends), line);
        }
    }
}
