//! Properties of what reads a server's and a proxy's bytes, and this plugin's command line.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream as Pair;
use std::sync::LazyLock;
use std::thread::LocalKey;
use std::time::{Duration, Instant};

use hyper::Method;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use super::args::{Args, OnRedirect};
use super::certificate::{self, DaysLeft};
use super::checks::status_of;
use super::connect::Means;
use super::cookies::{Jar, Site};
use super::cpu_wait::CpuWait;
use super::exchange::{Received, exchange};
use super::page::PageUse;
use super::pattern::Pattern;
use super::plan::Plan;
use super::pool::Carrier;
use super::reply::{self, HEAD_LIMIT, Reply};
use super::target::{Target, host_and_port};
use super::trace::Trace;
use super::unpack::{chunks, unpack};
use super::wire::Stream;
use super::{age, argv, cookie_file, jsonpath, tunnel};
use crate::fuzzing::{Feed, assert_harmless, daemons};
use crate::plugin::{Report, options};

pub use super::evidence::fuzzing::{packets, secrets};

/// How much of a page is kept here.
const KEPT: usize = 10_000;

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread().enable_io().enable_time().build().expect("an executor"),
    );
}

fn plan_of(words: &[&str]) -> Plan {
    let argv = ["check_http_retry", "-I", "192.0.2.1"];
    let argv = argv.iter().chain(words).map(OsString::from);
    let arguments = options::parse::<Args>("HTTP", argv).expect("options");
    Plan::try_from(&arguments).expect("a plan")
}

/// A plan that looks at all of a reply.
static CURIOUS: LazyLock<Plan> = LazyLock::new(|| {
    plan_of(&[
        "-H",
        "www.test",
        "-u",
        "/a/b?c",
        "-s",
        "ok",
        "-r",
        "a+b",
        "-d",
        "X: y",
        "-m",
        "10:9000",
        "-M",
        "1d",
        "--json-path",
        "$.a[0]=1",
        "-f",
        "follow",
        "--enable-automatic-decompression",
        "-w",
        "5",
        "-c",
        "9",
    ])
});

/// The same for a HEAD.
static HEAD: LazyLock<Plan> = LazyLock::new(|| plan_of(&["-H", "www.test", "-j", "HEAD"]));

fn target() -> Target {
    Target {
        https: false,
        address: "192.0.2.1".to_owned(),
        name: None,
        port: 8080,
        host: Some("www.test".to_owned()),
        host_port: 8080,
        path: "/a/b?c".to_owned(),
    }
}

/// All that a server sends on a connection, up to its end: a reply or the reason why it is none, judged and told.
pub fn reply(data: &[u8]) {
    let Some((&choice, raw)) = data.split_first() else {
        return;
    };
    let plan = if choice & 1 == 0 { &*CURIOUS } else { &*HEAD };
    let page = match choice >> 1 & 3 {
        0 => PageUse::Unread,
        1 => PageUse::Counted,
        _ => PageUse::Kept(KEPT),
    };
    let target = target();
    let mut trace = Trace::begin(None);
    let cpu_wait = CpuWait::default();
    let means = Means {
        target: &target,
        family: plan.family,
        source: &plan.source,
        proxy: None,
        announce: false,
        tls: None,
        settings: &plan.tls,
        proxy_tls: None,
        trust: None,
        page,
        keep: false,
        until: Some(Instant::now() + Duration::from_secs(10)),
        cpu_wait: &cpu_wait,
    };
    let request = plan
        .request
        .build(&target, Some("0123456789abcdef"))
        .expect("a request");
    let is_head = *request.method() == Method::HEAD;
    let received = RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let stream = Stream::Unix(served(raw).1);
            exchange(means, Carrier::Stream(stream), request, &mut trace).await
        })
    });
    let Ok(mut received) = received else {
        return;
    };
    assert!(received.reply.head.len() <= HEAD_LIMIT.max(raw.len()));
    assert!(received.reply.page.len() <= KEPT);
    if !is_head && page != PageUse::Unread {
        assert_whole(&received, trace.tape.size);
    }
    let packed = unpack(&mut received.reply, KEPT).err();
    assert!(received.reply.page.len() <= KEPT);
    let judgement = plan
        .checks
        .judge_status(&received.reply, &target, plan.on_redirect)
        .map(|mut judgement| {
            plan.checks
                .judge_content(&mut judgement, &received, trace.tape.size, &target);
            judgement
        });
    let judgement = judgement.unwrap_or_else(|last| last);
    if let Some(location) = received.reply.header("location") {
        let _ = target.redirected(&location, plan.on_redirect, false);
    }
    let mut report = Report::new(judgement.state, judgement.words);
    report.line(0, packed.unwrap_or_default());
    report.line(0, String::from_utf8_lossy(&received.reply.head));
    let text = report.text("HTTP", 3);
    text.lines().for_each(assert_harmless);
    assert_eq!(daemons::icinga(&text).perfdata, [""; 0]);
    assert_eq!(daemons::nagios(&text).1, "");
}

/// Both ends of a connection, with all of this sent to the second.
fn served(raw: &[u8]) -> (Pair, UnixStream) {
    let (mut server, client) = Pair::pair().expect("a pair of sockets");
    // More does not fit into it while nobody reads.
    let raw = &raw[..raw.len().min(64 * 1024)];
    server.write_all(raw).expect("room in the socket");
    server.shutdown(Shutdown::Write).expect("it is open");
    client.set_nonblocking(true).expect("it is open");
    let client = UnixStream::from_std(client).expect("an executor");
    (server, client)
}

/// A reply that is shorter than it says is never taken for a whole one.
fn assert_whole(received: &Received, size: u64) {
    let Received { reply, damage, .. } = received;
    let status = status_of(&reply.status_line());
    let has_none = status.is_some_and(|status| matches!(status, 100..=199 | 204 | 304));
    let mut lengths = reply.all("content-length");
    let (Some(length), None) = (lengths.next(), lengths.next()) else {
        return;
    };
    let transfer = reply.all("transfer-encoding").next().is_some();
    if damage.is_some() || has_none || transfer || !length.iter().all(u8::is_ascii_digit) {
        return;
    }
    let told = std::str::from_utf8(&length)
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    // What is no number of 64 bits announces nothing.
    let Some(told) = told else { return };
    assert!(
        told <= size
            && (reply.page_cut
                || reply.page.len() as u64 >= told
                || KEPT == reply.page.len()
                || received.reply.page.is_empty()),
        "{told} bytes were announced, {size} came"
    );
}

/// The parts of a reply: heads, header fields, chunks.
pub fn parts(data: &[u8]) {
    if let Some((start, end, page)) = reply::split(data) {
        assert!(start < end && end < page && page <= data.len());
        assert!(data[end..page].iter().all(|b| b"\r\n".contains(b)));
    }
    let reply = Reply {
        head: data.to_vec(),
        ..Reply::default()
    };
    let line = reply.status_line();
    assert!(!line.contains('\n'));
    if let Some(status) = status_of(&line) {
        assert!(line.contains(&status.to_string()));
    }
    for name in ["content-length", "Date", "x", ""] {
        for value in reply.all(name) {
            assert!(!value.contains(&b'\n'));
        }
        assert_eq!(
            reply.header(name).is_some(),
            reply.all(name).next().is_some()
        );
    }
    if let Some(id) = reply.request_id() {
        assert!(id.is_ascii() && (8..=64).contains(&id.len()));
        assert_harmless(&id);
    }
    let _ = reply::is_chunked(data);
    let _ = reply::content_length(data);
    let _ = age::judge(&reply, Duration::from_hours(1));
    let (page, whole) = chunks(data);
    assert!(page.len() <= data.len());
    // What is put into chunks comes out of them.
    let mut feed = Feed(data);
    let mut raw = Vec::new();
    while !feed.0.is_empty() {
        let chunk = feed.some();
        if !chunk.is_empty() {
            raw.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            raw.extend_from_slice(chunk);
            raw.extend_from_slice(b"\r\n");
        }
    }
    raw.extend_from_slice(b"0\r\n\r\n");
    let (again, end) = chunks(&raw);
    assert!(end && again.len() <= data.len());
    let _ = whole;
}

/// Packed pages: never more than is kept, however they are packed.
pub fn unpacked(data: &[u8]) {
    let mut feed = Feed(data);
    let kinds = [
        "gzip",
        "deflate",
        "br",
        "zstd",
        "gzip, gzip",
        "zstd, br",
        "deflate,gzip,zstd,br",
    ];
    let kind = kinds[usize::from(feed.byte()) % kinds.len()];
    let limit = usize::from(feed.byte()) * 100;
    let mut reply = Reply {
        head: format!("HTTP/1.1 200 OK\r\nContent-Encoding: {kind}\r\n").into_bytes(),
        page: feed.0.to_vec(),
        ..Reply::default()
    };
    let result = unpack(&mut reply, limit);
    assert!(reply.page.len() <= limit.max(feed.0.len()));
    if result.is_ok() {
        assert!(reply.page.len() <= limit);
    }
}

/// Where a redirect leads: to http or https, in a form that leads to itself, and that can be asked for or not, but never
/// becomes more than one line.
pub fn redirect(data: &[u8]) {
    let Some((&choice, location)) = data.split_first() else {
        return;
    };
    let actions = [
        OnRedirect::Follow,
        OnRedirect::Sticky,
        OnRedirect::Stickyport,
        OnRedirect::Curl,
    ];
    let action = actions[usize::from(choice & 3)];
    // As it comes out of a line.
    let line = location.split(|b| *b == b'\n').next().unwrap_or_default();
    let location = String::from_utf8_lossy(line.trim_ascii());
    let from = Target {
        https: choice & 4 != 0,
        ..target()
    };
    let _ = host_and_port(&location);
    let Some(led) = from.redirected(&location, action, choice & 8 != 0) else {
        return;
    };
    let next = led.next;
    assert!(!next.is_file(), "{location:?} leads to a file");
    if matches!(action, OnRedirect::Sticky | OnRedirect::Stickyport) {
        assert_eq!(next.address, from.address);
    }
    if action == OnRedirect::Stickyport {
        assert_eq!(next.port, from.port);
    }
    let again = next
        .redirected(&next.url(), OnRedirect::Follow, false)
        .expect("its own address")
        .next;
    assert_eq!(again.url(), next.url().trim_ascii_end());
    if let Ok(request) = CURIOUS.request.build(&next, None) {
        let text = format!("{:?} {:?}", request.uri(), request.headers().get("host"));
        assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
        assert!(request.uri().to_string().bytes().all(|b| b > b' '));
    }
}

/// Cookies, out of a file and out of headers: what is kept can be stored and comes back, and steers nothing.
pub fn cookies(data: &[u8]) {
    let now = 1_700_000_000;
    let mut feed = Feed(data);
    let choice = feed.byte();
    let hosts = [
        "www.shop.test",
        "localhost",
        "192.0.2.1",
        "test",
        "a.b.shop.test",
    ];
    let site = Site {
        host: hosts[usize::from(choice) % hosts.len()],
        path: ["/", "/a/b", "/a"][usize::from(choice >> 4) % 3],
        https: choice & 8 != 0,
    };
    let text = String::from_utf8_lossy(feed.0);
    let mut jar = cookie_file::parse(&text).unwrap_or_default();
    jar.take(feed.0.split(|b| *b == b'\n'), site, now);
    let stored = cookie_file::told(jar.cookies());
    let mut again = cookie_file::parse(&stored).expect("what was stored can be read");
    assert_eq!(again.cookies(), jar.cookies());
    assert_eq!(cookie_file::told(again.cookies()), stored);
    let mut fresh = Jar::default();
    fresh.take(feed.0.split(|b| *b == b'\n'), site, now);
    for cookie in fresh.cookies() {
        let host = site.host;
        let below = host.strip_suffix(&*cookie.domain);
        assert!(
            below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            "{cookie:?}"
        );
        assert!(site.https || host == "localhost" || !cookie.secure);
    }
    let line = jar.line(site, now);
    assert_eq!(again.line(site, now), line);
    let line = line.unwrap_or_default();
    assert!(!line.contains(|c: char| c.is_ascii_control()) && line.len() <= 8190);
}

/// Assertions on a page: an expression, and the page that it is held against.
pub fn assertions(data: &[u8]) {
    let end = memchr::memchr(b'\n', data).unwrap_or(data.len());
    let (expression, page) = data.split_at(end);
    let Ok(expression) = std::str::from_utf8(expression) else {
        return;
    };
    let page = page.get(1..).unwrap_or_default();
    let reply = Reply {
        page: page.to_vec(),
        ..Reply::default()
    };
    if let Ok(check) = jsonpath::check(expression, None) {
        let words = jsonpath::judge(&[check], &reply);
        assert!(words.len() <= 1);
    }
    if expression.len() <= 64
        && let Ok(pattern) = Pattern::compile(expression, false, true)
    {
        let _ = pattern.is_match(page, false);
    }
}

/// Certificates as a server shows them.
pub fn certificate(data: &[u8]) {
    let now = Timestamp::from_second(1_700_000_000).expect("a time");
    let shown = [CertificateDer::from(data)];
    for link in certificate::chain(&shown, now) {
        let _ = link.until();
    }
    let limits = DaysLeft::parse("30,10").expect("days");
    let judged = certificate::judge(Some(data), limits, now);
    let report = Report::new(judged.state, judged.words);
    report.text("HTTP", 0).lines().for_each(assert_harmless);
}

/// What a proxy answers to CONNECT.
pub fn proxy_reply(data: &[u8]) {
    let mut stream = data;
    let answer =
        RUNTIME.with_borrow(|runtime| runtime.block_on(tunnel::answer_by_bytes(&mut stream)));
    if let Ok(head) = answer {
        assert!(data.starts_with(&head));
        if tunnel::judge(head).is_ok() {
            assert!(data.trim_ascii_start().starts_with(b"HTTP/1."));
        }
    }
}

thread_local! {
    static HTTP_OPTIONS: Definition = Definition::new(options::command::<Args>());
    static PORTS_OPTIONS: Definition = Definition::new(options::command::<crate::ports::Args>());
    static NGINX_OPTIONS: Definition = Definition::new(options::command::<crate::nginx::Args>());
}

/// A hundred options, which take far longer to lay out than a command line to read.
type Definition = RefCell<clap::Command>;

/// Why a command line is refused. Now and then it is also read with a definition that nothing was read with before, and
/// that says the same.
fn refusal<A: options::Arguments>(
    name: &str,
    definition: &'static LocalKey<Definition>,
    choice: u8,
    argv: Vec<OsString>,
) -> Option<String> {
    let fresh = (choice >= 240).then(|| options::parse::<A>(name, argv.clone().into_iter()).err());
    let refused = definition
        .with_borrow_mut(|command| options::parse_with::<A>(command, name, argv.into_iter()).err());
    assert!(fresh.is_none_or(|fresh| fresh == refused));
    refused
}

/// Command lines: taken, or refused in one clean line.
pub fn options(data: &[u8]) {
    let Some((&choice, words)) = data.split_first() else {
        return;
    };
    let words = words
        .split(|b| *b == 0)
        .map(|word| OsString::from_vec(word.to_vec()));
    let argv: Vec<_> = [OsString::from("check")]
        .into_iter()
        .chain(words)
        .take(40)
        .collect();
    let refused = match choice % 3 {
        0 => {
            let rewritten = argv::rewrite(argv.clone());
            assert_eq!(argv::rewrite(rewritten.clone()), rewritten, "{argv:?}");
            // It reads the file that it names.
            let names_file = |word: &OsString| word.as_encoded_bytes().starts_with(b"--e");
            if argv.iter().any(names_file) {
                return;
            }
            refusal::<Args>("HTTP", &HTTP_OPTIONS, choice, argv)
        }
        1 => refusal::<crate::ports::Args>("PORTS", &PORTS_OPTIONS, choice, argv),
        _ => refusal::<crate::nginx::Args>("NGINX", &NGINX_OPTIONS, choice, argv),
    };
    if let Some(text) = refused {
        let shown = text.starts_with("HTTP UNKNOWN: ")
            || text.starts_with("PORTS UNKNOWN: ")
            || text.starts_with("NGINX UNKNOWN: ");
        if shown {
            text.lines().for_each(assert_harmless);
        } else {
            // Help, or the version.
            assert!(text.contains("check"), "{text:?}");
        }
    }
}
