//! One request and its reply on a new connection.
//!
//! hyper speaks HTTP here; where it gives up on a reply that `check_http` would take, the rest is read as it comes. A
//! [`Trace`] is filled on the way, so that what was reached is known even when the exchange is cut off from outside.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::plan::{Family, PageUse};
use super::probe::{Kind, Phases};
use super::reply::{self, HEAD_LIMIT, Reply};
use super::target::Target;
use super::wire::{Stream, Tape, Wire, connect_tcp};

/// How long to wait for the server's end of the connection after a whole reply. Who closes first keeps the port in
/// TIME_WAIT for a minute: let it be the server, as it is with `check_http`.
const FAREWELL: Duration = Duration::from_millis(20);

/// The most to read while waiting for it.
const FAREWELL_BYTES: u64 = 64 * 1024;

/// How a reply ends that is not whole.
const CLOSED: &str = "the connection was closed";

/// What is known of an exchange, whether it came to its end or not.
#[derive(Debug)]
pub struct Trace {
    started: Instant,
    resolved: Option<Instant>,
    connected: Option<Instant>,
    secured: Option<Instant>,
    done: Option<Instant>,
    /// What it is doing.
    pub stage: Stage,
    /// This host's end.
    pub local: Option<SocketAddr>,
    /// The server's end.
    pub remote: Option<SocketAddr>,
    /// What came in.
    pub tape: Tape,
}

/// What an exchange is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Asking for an address.
    Resolving,
    /// Waiting for the connection.
    Connecting,
    /// Shaking hands.
    Securing,
    /// Sending and receiving.
    Talking,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum Miss {
    /// A fact about the server, in `check_http`'s words.
    Server(Kind, String),
    /// This host could not even try: no free port, no file descriptor, no memory.
    Host(String),
}

/// A reply, and what was wrong with it.
#[derive(Debug)]
pub struct Received {
    /// The reply, as far as it came.
    pub reply: Reply,
    /// How it was cut off.
    pub damage: Option<(Kind, String)>,
}

/// What an exchange needs beside its request.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// Where it goes.
    pub target: &'a Target,
    /// The address family to keep to.
    pub family: Family,
    /// For https.
    pub tls: Option<&'a TlsConnector>,
    /// What becomes of the page.
    pub page: PageUse,
    /// When the probe counts as timed out.
    pub until: Option<Instant>,
}

impl Trace {
    /// An exchange that begins now.
    pub fn begin() -> Self {
        Self {
            started: Instant::now(),
            resolved: None,
            connected: None,
            secured: None,
            done: None,
            stage: Stage::Resolving,
            local: None,
            remote: None,
            tape: Tape::default(),
        }
    }

    /// Where the time went.
    pub fn phases(&self) -> Phases {
        let between =
            |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let ready = self.secured.or(self.connected);
        Phases {
            dns: between(Some(self.started), self.resolved),
            connect: between(self.resolved.or(Some(self.started)), self.connected),
            tls: between(self.connected, self.secured),
            send: between(ready, self.tape.last_write),
            first_byte: between(ready, self.tape.first_read),
            transfer: between(self.tape.first_read, self.done),
        }
    }

    /// When the last byte was there; the farewell does not count.
    pub fn done(&self) -> Option<Instant> {
        self.done
    }
}

/// Connects, and shakes hands where it is https.
pub async fn open(means: Means<'_>, trace: &mut Trace) -> Result<Stream, Miss> {
    if means.target.is_file() {
        return connect_file(&means.target.address, trace).await;
    }
    let stream = connect(means, trace).await?;
    secure(means, stream, trace).await
}

/// Sends a request and reads its reply.
pub async fn exchange(
    means: Means<'_>,
    stream: Stream,
    request: Request<Full<Bytes>>,
    trace: &mut Trace,
) -> Result<Received, Miss> {
    trace.stage = Stage::Talking;
    trace.tape.limit = match means.page {
        PageUse::Kept(limit) => HEAD_LIMIT.max(limit),
        PageUse::Unread | PageUse::Counted => HEAD_LIMIT,
    };
    let mut wire = Wire::new(stream, &mut trace.tape);
    let mut page = Page::new(means.page, *request.method() == Method::HEAD);
    let spoken = speak(&mut wire, request, &mut page).await;
    let received = match spoken {
        Ok(()) => Ok(None),
        Err(error) => make_sense(&mut wire, &error, &mut page).await,
    };
    trace.done = Some(Instant::now());
    // A whole reply must not become a time-out by good manners.
    let time = means
        .until
        .is_none_or(|until| Instant::now() + FAREWELL < until);
    if time && matches!(received, Ok(None)) && !wire.tape().ended && means.page != PageUse::Unread {
        let _ = tokio::time::timeout(FAREWELL, read_to_end(&mut wire)).await;
    }
    let damage = received?;
    Ok(Received {
        reply: page.with_head(&trace.tape),
        damage,
    })
}

async fn connect(means: Means<'_>, trace: &mut Trace) -> Result<TcpStream, Miss> {
    let addresses = resolve(means, trace).await?;
    trace.stage = Stage::Connecting;
    let mut last = None;
    for address in addresses {
        let remote = SocketAddr::new(address, means.target.port);
        trace.remote = Some(remote);
        match connect_tcp(remote, &mut trace.local).await {
            Ok(stream) => {
                trace.connected = Some(Instant::now());
                return Ok(stream);
            }
            Err(error) => last = Some((remote, error)),
        }
    }
    // `resolve` gives one address at least.
    let (remote, error) = last.ok_or_else(|| Miss::Server(Kind::Dns, "no address".to_owned()))?;
    Err(no_connection(remote, &error))
}

async fn connect_file(path: &str, trace: &mut Trace) -> Result<Stream, Miss> {
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
    Ok(Stream::Unix(stream))
}

fn no_connection(remote: SocketAddr, error: &io::Error) -> Miss {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let text = without_number(error);
    let address = remote.ip();
    let port = remote.port();
    let trouble = match errno {
        Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => {
            "this host has no client port or source address left for it (check_port_exhaustion tells more)"
        }
        Some(Errno::MFILE | Errno::NFILE) => {
            "this host has no file descriptor left (ulimit -n, fs.file-max)"
        }
        Some(Errno::NOBUFS | Errno::NOMEM) => "this host has no memory left for sockets",
        Some(Errno::ACCESS | Errno::PERM) => "this host does not permit it (a firewall rule?)",
        Some(Errno::AFNOSUPPORT) => "this host does not speak this kind of address",
        _ => {
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
        }
    };
    Miss::Host(format!(
        "connect to address {address} and port {port}: {text} - {trouble}"
    ))
}

async fn resolve(means: Means<'_>, trace: &mut Trace) -> Result<Vec<IpAddr>, Miss> {
    let fits = |address: &IpAddr| match means.family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    };
    let name = &means.target.address;
    let addresses: Vec<IpAddr> = if let Ok(address) = name.parse() {
        vec![address]
    } else {
        let found = tokio::net::lookup_host((&**name, means.target.port)).await;
        trace.resolved = Some(Instant::now());
        found
            .map_err(|error| no_address(name, &error))?
            .map(|address| address.ip())
            .collect()
    };
    let fitting: Vec<_> = addresses.into_iter().filter(fits).collect();
    if fitting.is_empty() {
        return Err(Miss::Server(
            Kind::Dns,
            "Address family for hostname not supported".to_owned(),
        ));
    }
    Ok(fitting)
}

fn no_address(name: &str, error: &io::Error) -> Miss {
    let text = without_number(error);
    if let Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) =
        error.raw_os_error().map(Errno::from_raw_os_error)
    {
        Miss::Host(format!("cannot look up {name}: {text}"))
    } else {
        let why = text.rsplit(": ").next().unwrap_or_default();
        Miss::Server(Kind::Dns, format!("{name}: {why}"))
    }
}

async fn secure(means: Means<'_>, stream: TcpStream, trace: &mut Trace) -> Result<Stream, Miss> {
    let Some(connector) = means.tls.filter(|_| means.target.https) else {
        return Ok(Stream::Tcp(stream));
    };
    trace.stage = Stage::Securing;
    let host = means.target.host.as_ref().unwrap_or(&means.target.address);
    // What cannot be a server name is not sent as one; the name has no other use here.
    let name = ServerName::try_from(host.clone()).unwrap_or_else(|_| {
        let address = trace
            .remote
            .map_or(IpAddr::from([0, 0, 0, 0]), |remote| remote.ip());
        ServerName::IpAddress(address.into())
    });
    match connector.connect(name, stream).await {
        Ok(stream) => {
            trace.secured = Some(Instant::now());
            Ok(Stream::Tls(Box::new(stream)))
        }
        Err(error) => Err(Miss::Server(Kind::Tls, no_session(&error))),
    }
}

fn no_session(error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        _ => without_number(error),
    };
    format!("Cannot make SSL connection. {why}")
}

/// Sends the request and reads the reply to its end, with hyper.
async fn speak(
    wire: &mut Wire<'_>,
    request: Request<Full<Bytes>>,
    page: &mut Page,
) -> Result<(), hyper::Error> {
    let (mut sender, mut connection) = http1::Builder::new()
        .title_case_headers(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .max_buf_size(HEAD_LIMIT)
        .handshake(TokioIo::new(wire))
        .await?;
    let mut open = true;
    // The connection is moved along by whoever waits for its results; its error reaches them as well.
    let mut drive = |cx: &mut std::task::Context<'_>| {
        if open && connection.poll_without_shutdown(cx).is_ready() {
            open = false;
        }
    };
    let mut response = pin!(sender.send_request(request));
    let response = poll_fn(|cx| {
        drive(cx);
        response.as_mut().poll(cx)
    })
    .await?;
    page.begun = true;
    if page.unread {
        return Ok(());
    }
    let mut body = response.into_body();
    while let Some(frame) = poll_fn(|cx| {
        drive(cx);
        Pin::new(&mut body).poll_frame(cx)
    })
    .await
    {
        if let Some(data) = frame?.data_ref() {
            page.take(data);
        }
        // Chunks of one byte come by the hundred thousand from a single read: let the clock be heard in between.
        tokio::task::coop::consume_budget().await;
    }
    Ok(())
}

/// What there is to a reply that hyper gave up on. An error is that there is none.
async fn make_sense(
    wire: &mut Wire<'_>,
    error: &hyper::Error,
    page: &mut Page,
) -> Result<Option<(Kind, String)>, Miss> {
    let cause = root(error);
    let broken = cause.downcast_ref::<io::Error>().map(why_broken);
    if page.begun {
        let damage = match broken {
            Some(damage) => damage,
            None if wire.tape().ended => (Kind::Truncated, CLOSED.to_owned()),
            None => (Kind::Protocol, cause.to_string()),
        };
        return Ok(Some(damage));
    }
    let mut broken = broken;
    if broken.is_none() && !wire.tape().ended && looks_like_http(&wire.tape().received) {
        broken = read_reply(wire).await.err().as_ref().map(why_broken);
    }
    let tape = wire.tape();
    match (tape.size, broken) {
        (0, Some((Kind::Tls, why))) => Err(Miss::Server(
            Kind::Tls,
            format!("Cannot make SSL connection. {why}"),
        )),
        (0, Some((kind, why))) => Err(Miss::Server(
            kind,
            format!("No data received from host: {why}"),
        )),
        (0, None) => Err(Miss::Server(
            Kind::Closed,
            "No data received from host".to_owned(),
        )),
        (_, Some(damage)) => Ok(Some(damage)),
        (_, None) => {
            page.take_raw(tape);
            Ok(page.missing(tape))
        }
    }
}

/// Why a stream gave no more.
fn why_broken(error: &io::Error) -> (Kind, String) {
    let tls = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    match (tls, error.raw_os_error(), error.kind()) {
        (Some(tls), _, _) => (Kind::Tls, tls.to_string()),
        (None, Some(_), _) => (Kind::Reset, without_number(error)),
        (None, None, io::ErrorKind::UnexpectedEof) => (Kind::Truncated, CLOSED.to_owned()),
        // hyper's own, as on a chunk without a length.
        (None, None, _) => (Kind::Protocol, error.to_string()),
    }
}

fn looks_like_http(raw: &[u8]) -> bool {
    raw.starts_with(b"HTTP/") || raw.starts_with(b"ICY ")
}

/// Reads on, to the announced length, to the end of the connection, or as far as a header block may reach.
async fn read_reply(wire: &mut Wire<'_>) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let tape = wire.tape();
        match reply::split(&tape.received) {
            Some((start, end, page)) => {
                let length = reply::content_length(&tape.received[start..end]);
                if length.is_some_and(|length| tape.size >= page as u64 + length) {
                    return Ok(());
                }
            }
            None if tape.received.len() >= HEAD_LIMIT => return Ok(()),
            None => {}
        }
        if wire.read(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Reads what comes behind the reply, within limits, until the server closes.
async fn read_to_end(wire: &mut Wire<'_>) -> io::Result<()> {
    let mut buffer = [0; 2048];
    let limit = wire.tape().size + FAREWELL_BYTES;
    while wire.tape().size < limit && wire.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// The page as it is read.
#[derive(Debug)]
struct Page {
    /// How much is kept.
    limit: usize,
    /// Whether hyper took the header block.
    begun: bool,
    /// Whether it is not waited for.
    unread: bool,
    /// Whether none comes, whatever length is announced.
    absent: bool,
    bytes: Vec<u8>,
    cut: bool,
}

impl Page {
    fn new(wanted: PageUse, absent: bool) -> Self {
        Self {
            limit: match wanted {
                PageUse::Kept(limit) => limit,
                PageUse::Unread | PageUse::Counted => 0,
            },
            unread: wanted == PageUse::Unread,
            begun: false,
            absent,
            bytes: Vec::new(),
            cut: false,
        }
    }

    fn take(&mut self, data: &[u8]) {
        let room = self.limit.saturating_sub(self.bytes.len());
        self.cut |= data.len() > room;
        self.bytes.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// The page of a reply that hyper did not read.
    fn take_raw(&mut self, tape: &Tape) {
        if let Some((_, _, page)) = reply::split(&tape.received) {
            self.take(&tape.received[page..]);
            self.cut |= tape.size > tape.received.len() as u64;
        }
    }

    /// Whether such a reply ended before its announced length.
    fn missing(&self, tape: &Tape) -> Option<(Kind, String)> {
        let (start, end, page) = reply::split(&tape.received)?;
        let head = &tape.received[start..end];
        let length = reply::content_length(head).filter(|_| !reply::is_chunked(head))?;
        (!self.absent && !self.unread && tape.size < page as u64 + length)
            .then(|| (Kind::Truncated, CLOSED.to_owned()))
    }

    fn with_head(self, tape: &Tape) -> Reply {
        let raw = &tape.received;
        let head = match reply::split(raw) {
            Some((start, end, _)) => &raw[start..end],
            None => &raw[..raw.len().min(HEAD_LIMIT)],
        };
        Reply {
            head: head.to_vec(),
            page: self.bytes,
            page_cut: self.cut,
        }
    }
}

/// The innermost error.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// An error's text without the "(os error 111)" that the standard library adds.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
