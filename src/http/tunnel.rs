//! What is said on a connection before TLS and HTTP: CONNECT, SOCKS 5, the PROXY protocol.
//!
//! A proxy is as little to be trusted as a server: its answers are bounded, and it is held to what they mean.
//! `check_http` does not look at the answer to CONNECT at all.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::checks::status_of;
use super::connect::{Miss, without_number};
use super::evidence::Noted;
use super::probe::Kind;
use super::proxy::{Proxy, ProxyKind};
use super::reply::{self, Reply};
use super::target::{Target, bracketed};

/// The longest answer to CONNECT.
const ANSWER_LIMIT: usize = 16 * 1024;

/// Asks a proxy for a way to a server; `address` where it is not to be told the name.
pub async fn open(
    proxy: &Proxy,
    target: &Target,
    address: Option<IpAddr>,
    stream: &mut Noted<'_, TcpStream>,
) -> Result<(), Miss> {
    let opened = match proxy.kind {
        ProxyKind::Http | ProxyKind::Connect => connect(proxy, target, stream).await,
        ProxyKind::Socks5 | ProxyKind::Socks5Names => socks5(proxy, target, address, stream).await,
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
enum Refusal {
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
    stream.write_all(&request).await?;
    let answer = Reply {
        head: answer(stream).await?,
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
            let why = "its answer has no end".to_owned();
            return Err(Refusal::Said(Kind::Proxy, why));
        }
    }
}

/// RFC 1928, and RFC 1929 for user and password.
async fn socks5(
    proxy: &Proxy,
    target: &Target,
    address: Option<IpAddr>,
    stream: &mut Noted<'_, TcpStream>,
) -> Result<(), Refusal> {
    let said = |why: &str| Refusal::Said(Kind::Proxy, why.to_owned());
    let no_socks = || said("what answers is no SOCKS 5 proxy");
    let methods: &[u8] = if proxy.pair.is_some() {
        &[5, 2, 0, 2]
    } else {
        &[5, 1, 0]
    };
    stream.write_all(methods).await?;
    let mut choice = [0; 2];
    stream.read_exact(&mut choice).await?;
    match (choice, &proxy.pair) {
        ([5, 0], _) => {}
        ([5, 2], Some((user, password))) => {
            let mut request = vec![1];
            push_text(&mut request, user);
            push_text(&mut request, password);
            stream.write_all(&request).await?;
            let mut verdict = [0; 2];
            stream.read_exact(&mut verdict).await?;
            if verdict[1] != 0 {
                return Err(said("it does not take this user and password"));
            }
        }
        ([5, 0xff], None) => return Err(said("it wants a user and a password (-b)")),
        ([5, _], _) => return Err(said("it wants an authentication that is not supported")),
        _ => return Err(no_socks()),
    }
    let mut request = vec![5, 1, 0];
    match address.or_else(|| target.address.parse().ok()) {
        Some(IpAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
        None => {
            request.push(3);
            push_text(&mut request, &target.address);
        }
    }
    request.extend_from_slice(&target.port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    if answer[0] != 5 {
        return Err(no_socks());
    }
    if answer[1] != 0 {
        let (kind, why) = socks_error(answer[1]);
        return Err(Refusal::Said(kind, why));
    }
    let rest = match answer[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(no_socks()),
    };
    // The address at the proxy's other end, and its port.
    stream.read_exact(&mut vec![0; rest + 2]).await?;
    Ok(())
}

/// Pushes a text behind its length. No name and no password is longer than 255 bytes: the plan has seen to it.
fn push_text(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(255)];
    out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(bytes);
}

/// What the codes of RFC 1928 say; those about the server are the server's failures.
fn socks_error(code: u8) -> (Kind, String) {
    let (kind, text) = match code {
        1 => (Kind::Proxy, "general failure"),
        2 => (Kind::Proxy, "its rules do not allow it"),
        3 => (Kind::Unreachable, "Network is unreachable"),
        4 => (Kind::Unreachable, "Host is unreachable"),
        5 => (Kind::Refused, "Connection refused"),
        6 => (Kind::ConnectTimeout, "time to live exceeded"),
        7 => (Kind::Proxy, "it does not know CONNECT"),
        8 => (Kind::Proxy, "it does not know this kind of address"),
        code => return (Kind::Proxy, format!("error {code}")),
    };
    (kind, text.to_owned())
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
