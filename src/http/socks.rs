//! What is said to SOCKS proxies. Their answers are as little to be trusted as a server's.

use std::net::IpAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::evidence::Noted;
use super::probe::Kind;
use super::proxy::{Proxy, ProxyKind};
use super::target::Target;
use super::tunnel::Refusal;

/// The protocol as its author wrote it down, with the extension 4a where the proxy looks names up.
pub(super) async fn version_4(
    proxy: &Proxy,
    target: &Target,
    address: Option<IpAddr>,
    stream: &mut Noted<'_, TcpStream>,
) -> Result<(), Refusal> {
    let said = |why: &str| Refusal::Said(Kind::Proxy, why.to_owned());
    let known = address.or_else(|| target.address.parse().ok());
    let (octets, name) = match known {
        Some(IpAddr::V4(address)) => (address.octets(), None),
        None if proxy.kind == ProxyKind::Socks4Names => ([0, 0, 0, 1], Some(&target.address)),
        _ => return Err(said("SOCKS 4 knows IPv4 alone")),
    };
    let mut request = vec![4, 1];
    request.extend_from_slice(&target.port.to_be_bytes());
    request.extend_from_slice(&octets);
    if let Some((user, _)) = &proxy.pair {
        request.extend_from_slice(user.as_bytes());
    }
    request.push(0);
    if let Some(name) = name {
        request.extend_from_slice(name.as_bytes());
        request.push(0);
    }
    stream.write_all(&request).await?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await?;
    match answer {
        [0, 90, ..] => Ok(()),
        [0, 91, ..] => Err(said("rejected, or the server cannot be reached")),
        [0, 92 | 93, ..] => Err(said("it wants an identd on this host that knows the user")),
        [0, code, ..] => Err(said(&format!("error {code}"))),
        _ => Err(said("what answers is no SOCKS 4 proxy")),
    }
}

/// RFC 1928, and RFC 1929 for user and password.
pub(super) async fn version_5(
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
