//! From a name to a connection that a request can be sent on, and what stood in the way.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use rustix::io::Errno;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::cpu_wait::CpuWait;
use super::page::PageUse;
use super::plan::{Family, Tls};
use super::probe::Kind;
use super::proxy::{Proxy, ProxyKind};
use super::resolve::{resolve, with_zone};
use super::source::Source;
use super::target::{Target, literal};
use super::tls;
use super::trace::{Stage, Trace};
use super::tunnel::{self, Near};
use super::verify::{self, Trust};
use super::wire::{Stream, connect_tcp, tcp_socket};

/// What an exchange needs beside its request.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// Where it goes.
    pub target: &'a Target,
    /// The address family to keep to.
    pub family: Family,
    /// The proxy that it goes through.
    pub proxy: Option<&'a Proxy>,
    /// Whether the connection begins with a header of the PROXY protocol.
    pub announce: bool,
    /// Where the connection leaves this host.
    pub source: &'a Source,
    /// For https.
    pub tls: Option<&'a TlsConnector>,
    /// What it is built of.
    pub settings: &'a Tls,
    /// For a proxy that is spoken to over TLS.
    pub proxy_tls: Option<&'a TlsConnector>,
    /// Whom such a proxy has to be vouched for by.
    pub trust: Option<&'a Trust>,
    /// What becomes of the page.
    pub page: PageUse,
    /// Whether the connection is wanted for further requests.
    pub keep: bool,
    /// When the probe counts as timed out.
    pub until: Option<Instant>,
    /// What this thread waits for a CPU.
    pub cpu_wait: &'a CpuWait,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum Miss {
    /// A fact about the server, in `check_http`'s words.
    Server(Kind, String),
    /// The server wants something that this program does not have: who is to blame cannot be told.
    NoMatch(String),
    /// This host could not even try: no free port, no file descriptor, no memory.
    Host(String),
}

/// Connects, and shakes hands where it is https.
pub async fn open(means: Means<'_>, trace: &mut Trace) -> Result<Stream, Miss> {
    if means.target.is_file() {
        let mut stream = connect_file(&means.target.address, trace).await?;
        if means.announce {
            announce(&mut stream, None, trace).await?;
        }
        return match means.tls {
            Some(connector) => {
                let session = Box::pin(secure(connector, means, stream, trace)).await?;
                Ok(Stream::TlsUnix(session))
            }
            None => Ok(Stream::Unix(stream)),
        };
    }
    let near = if let Some(proxy) = means.proxy {
        connect_through(proxy, means, trace).await?
    } else {
        let target = means.target;
        Near::Clear(connect(means, &target.address, target.port, trace).await?)
    };
    match near {
        Near::Clear(mut stream) => {
            if means.announce {
                let ends = ends(&stream);
                announce(&mut stream, ends, trace).await?;
            }
            match means.tls {
                Some(connector) => {
                    // The end of the handshake and the request are two small writes: the second must not wait for the
                    // first's receipt.
                    let _ = stream.set_nodelay(true);
                    let session = Box::pin(secure(connector, means, stream, trace)).await?;
                    Ok(Stream::Tls(session))
                }
                None => Ok(Stream::Tcp(stream)),
            }
        }
        Near::Encrypted(mut stream) => {
            if means.announce {
                let ends = ends(stream.get_ref().0);
                announce(&mut stream, ends, trace).await?;
            }
            match means.tls {
                Some(connector) => {
                    let session = Box::pin(secure(connector, means, *stream, trace)).await?;
                    Ok(Stream::TlsTls(session))
                }
                None => Ok(Stream::Tls(stream)),
            }
        }
    }
}

fn ends(stream: &TcpStream) -> Option<(SocketAddr, SocketAddr)> {
    stream.local_addr().ok().zip(stream.peer_addr().ok())
}

async fn connect_through(proxy: &Proxy, means: Means<'_>, trace: &mut Trace) -> Result<Near, Miss> {
    let target = means.target;
    let address = if proxy.wants_address() {
        let addresses = resolve(means, &target.address, target.port, trace).await?;
        let fitting = |address: &IpAddr| address.is_ipv4() || proxy.kind != ProxyKind::Socks4;
        addresses.iter().map(SocketAddr::ip).find(fitting)
    } else {
        None
    };
    let mut near = reach(proxy, means, trace)
        .await
        .map_err(|miss| match miss {
            Miss::Server(kind, words) => Miss::Server(kind, format!("{}: {words}", proxy.name())),
            other => other,
        })?;
    if proxy.tunnels(target) {
        trace.stage = Stage::Tunnelling;
        let record = trace.tape.record.as_deref_mut();
        tunnel::open(proxy, target, address, &mut near, record).await?;
        trace.connected = Some(Instant::now());
    }
    Ok(near)
}

/// Connects to a proxy, and shakes hands where it wants that.
async fn reach(proxy: &Proxy, means: Means<'_>, trace: &mut Trace) -> Result<Near, Miss> {
    let stream = connect(means, &proxy.host, proxy.port, trace).await?;
    let Some(connector) = means.proxy_tls else {
        return Ok(Near::Clear(stream));
    };
    let _ = stream.set_nodelay(true);
    trace.stage = Stage::Tunnelling;
    let itself = proxy.target();
    let record = trace.tape.record.as_mut();
    let keyed = record.and_then(|record| record.keyed(connector));
    let connector = keyed.as_ref().unwrap_or(connector);
    let session = connector
        .connect(server_name(&itself, trace.remote), stream)
        .await
        .map_err(|error| no_session(&error, None))?;
    if let Some(trust) = means.trust {
        let shown = session.get_ref().1.peer_certificates();
        trust.judge(shown.unwrap_or_default(), &itself)?;
    }
    // For the server's phases, the handshake with the proxy belongs to the connection.
    trace.connected = Some(Instant::now());
    Ok(Near::Encrypted(Box::new(session)))
}

/// Says where the connection comes from, by a header of the PROXY protocol.
async fn announce(
    stream: &mut (impl AsyncWrite + Unpin),
    ends: Option<(SocketAddr, SocketAddr)>,
    trace: &mut Trace,
) -> Result<(), Miss> {
    let line = tunnel::announcement(ends);
    stream.write_all(line.as_bytes()).await.map_err(|error| {
        let words = format!("No data received from host: {}", without_number(&error));
        Miss::Server(Kind::Reset, words)
    })?;
    if let Some(record) = &mut trace.tape.record {
        record.sent.take(line.as_bytes());
    }
    Ok(())
}

async fn connect(
    means: Means<'_>,
    name: &str,
    port: u16,
    trace: &mut Trace,
) -> Result<TcpStream, Miss> {
    let addresses = resolve(means, name, port, trace).await?;
    trace.stage = Stage::Connecting;
    let mut most_telling: Option<Failed> = None;
    for remote in addresses {
        trace.remote = Some(remote);
        trace.local = None;
        let connected = match tcp_socket(remote) {
            Ok(socket) => {
                means.source.apply(&socket).map_err(Miss::Host)?;
                connect_tcp(socket, remote, trace).await
            }
            Err(error) => Err(error),
        };
        match connected {
            Ok(stream) => {
                trace.connected = Some(Instant::now());
                return Ok(stream);
            }
            Err(error) => {
                let failed = Failed::new(trace, name, remote, &error);
                if most_telling
                    .as_ref()
                    .is_none_or(|most| most.tells <= failed.tells)
                {
                    most_telling = Some(failed);
                }
            }
        }
    }
    // `resolve` gives one address at least.
    let failed = most_telling.ok_or_else(|| Miss::Server(Kind::Dns, "no address".to_owned()))?;
    (trace.remote, trace.local) = (Some(failed.remote), failed.local);
    Err(failed.miss)
}

/// How much is to be learned from an address that there was no connection to, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tells {
    /// This host has no address of that family: a server with two families is not to blame.
    Nothing,
    /// There is no way to it.
    NoWay,
    /// This host could not try.
    Ourselves,
    /// Something there refused, or did not answer.
    Them,
}

/// An address that there was no connection to.
struct Failed {
    tells: Tells,
    remote: SocketAddr,
    local: Option<SocketAddr>,
    miss: Miss,
}

impl Failed {
    /// `name` is what was looked up for `remote`.
    fn new(trace: &Trace, name: &str, remote: SocketAddr, error: &io::Error) -> Self {
        // An address is told as it was given, as check_http does it.
        let address = literal(name).map_or_else(|| with_zone(remote), |_| name.to_owned());
        let (tells, miss) = if error.kind() == io::ErrorKind::AddrNotAvailable && no_source(remote)
        {
            (Tells::Nothing, no_address_of_ours(&address, remote, error))
        } else {
            let miss = no_connection(&address, remote.port(), error);
            let tells = match miss {
                Miss::Server(Kind::Unreachable, _) => Tells::NoWay,
                Miss::Host(_) => Tells::Ourselves,
                _ => Tells::Them,
            };
            (tells, miss)
        };
        Self {
            tells,
            remote,
            local: trace.local,
            miss,
        }
    }
}

/// Whether this host has no address from which it could go there. Nothing is sent: to connect a UDP socket only looks for the
/// way and the address, and UDP has ports of its own.
fn no_source(remote: SocketAddr) -> bool {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let connected = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(remote));
    connected.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

fn no_address_of_ours(address: &str, remote: SocketAddr, error: &io::Error) -> Miss {
    let family = if remote.is_ipv4() { "IPv4" } else { "IPv6" };
    Miss::Host(format!(
        "connect to address {address} and port {}: {} - this host has no {family} address to go there from",
        remote.port(),
        without_number(error)
    ))
}

async fn connect_file(path: &str, trace: &mut Trace) -> Result<UnixStream, Miss> {
    trace.stage = Stage::Connecting;
    let stream = UnixStream::connect(path).await.map_err(|error| {
        let words = format!("connect to file socket {path}: {}", without_number(&error));
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ACCESS) => {
                Miss::Host(words)
            }
            _ => Miss::Server(Kind::Refused, words),
        }
    })?;
    trace.connected = Some(Instant::now());
    Ok(stream)
}

fn no_connection(address: &str, port: u16, error: &io::Error) -> Miss {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let text = without_number(error);
    let trouble = match errno {
        Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => Some(
            "this host has no client port or source address left for it (check_port_exhaustion tells more)",
        ),
        Some(Errno::AGAIN) => Some("this host's routing table has no room left"),
        Some(Errno::AFNOSUPPORT) => Some("this host does not speak this kind of address"),
        other => other.and_then(lack),
    };
    let Some(trouble) = trouble else {
        let kind = match errno {
            Some(Errno::TIMEDOUT) => Kind::ConnectTimeout,
            Some(Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN) => {
                Kind::Unreachable
            }
            Some(Errno::CONNRESET) => Kind::Reset,
            _ => Kind::Refused,
        };
        let words = format!("connect to address {address} and port {port}: {text}");
        return Miss::Server(kind, words);
    };
    Miss::Host(format!(
        "connect to address {address} and port {port}: {text} - {trouble}"
    ))
}

async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    connector: &TlsConnector,
    means: Means<'_>,
    stream: S,
    trace: &mut Trace,
) -> Result<Box<TlsStream<S>>, Miss> {
    trace.stage = Stage::Securing;
    let name = server_name(means.target, trace.remote);
    let record = trace.tape.record.as_mut();
    let keyed = record.and_then(|record| record.keyed(connector));
    let connector = keyed.as_ref().unwrap_or(connector);
    match connector.connect(name, stream).await {
        Ok(stream) => {
            trace.secured = Some(Instant::now());
            Ok(Box::new(stream))
        }
        Err(error) => Err(no_session(&error, Some(means.settings))),
    }
}

/// What a handshake calls a server. What cannot be a name is not sent as one; it has no other use there.
fn server_name(target: &Target, remote: Option<SocketAddr>) -> ServerName<'static> {
    ServerName::try_from(target.certified_name().to_owned()).unwrap_or_else(|_| {
        let address = remote.map_or(IpAddr::from([0, 0, 0, 0]), |remote| remote.ip());
        ServerName::IpAddress(address.into())
    })
}

fn no_session(error: &io::Error, settings: Option<&Tls>) -> Miss {
    if let Some(miss) = verify::beyond_us(error).or_else(|| of_this_host(error)) {
        return miss;
    }
    if let Some(why) = settings.and_then(|tls| tls::no_match(error, tls)) {
        return Miss::NoMatch(format!("Cannot make SSL connection. {why}"));
    }
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        _ => without_number(error),
    };
    Miss::Server(Kind::Tls, format!("Cannot make SSL connection. {why}"))
}

/// What a connection breaks of that is no doing of the other side.
pub fn of_this_host(error: &io::Error) -> Option<Miss> {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error)?;
    let trouble = lack(errno)?;
    Some(Miss::Host(format!("{} - {trouble}", without_number(error))))
}

/// What this host lacks or forbids, where an error is about that.
fn lack(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::MFILE | Errno::NFILE => {
            "this host has no file descriptor left (ulimit -n, fs.file-max)"
        }
        Errno::NOBUFS | Errno::NOMEM => "this host has no memory left for sockets",
        Errno::NOSPC => "this host may not watch more sockets (fs.epoll.max_user_watches)",
        Errno::ACCESS | Errno::PERM => "this host does not permit it (a firewall rule?)",
        _ => return None,
    })
}

/// An error's text without the "(os error 111)" that the standard library adds.
pub fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
