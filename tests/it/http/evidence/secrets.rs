//! What nobody else may read: masked in every file, unless somebody says that it need not be.

use std::fs;
use std::path::Path;

use super::super::protocol::http2_server;
use super::{Act, BAD, FaultServer, Kept, command, every, outcome, page_with, plugin, text};
use crate::support::identity::Identity;
use crate::support::proxy::{Speech, TestProxy, TlsFront};
use crate::support::tshark::{everything, tshark};

/// Secrets of the kinds that there are, and what base64 makes of one.
const SECRETS: [&str; 9] = [
    "hush-password",
    "dXNlcjpodXNoLXBhc3N3b3Jk",
    "hush-header",
    "hush-cookie",
    "hush-session",
    "hush-query",
    "hush-posted",
    "hush-key",
    "hush-proxy",
];

/// Whether any of them can be read in any file of an entry, as bytes or as tshark decodes them. tshark shows bytes in
/// lines of its own, so that its text is looked at as well.
fn leaks(entry: &Path) -> Vec<String> {
    let mut leaks = Vec::new();
    for file in fs::read_dir(entry).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let mut contents = vec![String::from_utf8_lossy(&bytes).into_owned()];
        if path.extension().is_some_and(|kind| kind == "pcapng") {
            let shown = everything(&path);
            contents.push(columns(&shown));
            contents.push(shown);
        }
        for secret in SECRETS {
            if contents.iter().any(|text| text.contains(secret)) {
                leaks.push(format!("{secret} in {}", path.display()));
            }
        }
    }
    leaks
}

/// The text beside tshark's hexadecimal bytes, without the breaks.
fn columns(shown: &str) -> String {
    let lines = shown.lines().filter(|line| line.len() > 56);
    lines.filter_map(|line| line.get(56..)).collect()
}

/// Answers with a 500 that sets a cookie and shows the request.
fn telling() -> impl Fn(&super::Seen) -> Act + Send + Sync + 'static {
    |seen| {
        let cookie = "Set-Cookie: id=hush-session; Path=/; HttpOnly\r\n";
        Act::Send(page_with(
            BAD,
            cookie,
            &format!("{}{}", seen.head, seen.body),
        ))
    }
}

const SECRET_ARGUMENTS: [&str; 10] = [
    "-H",
    "www.test",
    "-a",
    "user:hush-password",
    "-k",
    "Cookie: a=hush-cookie; lang=de",
    "-k",
    "X-Api-Key: hush-key",
    "-u",
    "/x?token=hush-query&y=1",
];

fn with_secrets(server: &FaultServer, kept: &Kept, more: &[&str]) -> super::Outcome {
    let mut command = command(server, "--attempts 1 -v");
    command
        .args(SECRET_ARGUMENTS)
        .args(more)
        .env("CHECK_HTTP_RETRY_HEADERS", "X-Plain: hush-header")
        .arg("--evidence")
        .arg(kept.path());
    outcome(&mut command)
}

#[test]
fn no_file_holds_a_secret_over_http_or_https() {
    for more in [
        &[][..],
        &["-S1.2"],
        &["-S1.3"],
        &["-P", "user=x&password=hush-posted"],
    ] {
        let server = if more.iter().any(|word| word.starts_with("-S")) {
            FaultServer::start_tls(telling())
        } else {
            FaultServer::start(telling())
        };
        let kept = Kept::new();
        let outcome = with_secrets(&server, &kept, more);
        assert_eq!(outcome.code, Some(2), "{}", outcome.text);
        let entry = kept.entry();
        assert_eq!(leaks(&entry), [""; 0], "{more:?}");
        for secret in SECRETS {
            assert!(!outcome.text.contains(secret), "{secret}: {}", outcome.text);
        }
        // What is around them is there.
        let sent = text(entry.join("failed-1.sent"));
        for words in [
            "\r\nAuthorization: Basic ****",
            "Cookie: a=***********; lang=**\r\n",
            "&y=1 HTTP",
        ] {
            assert!(sent.contains(words), "no {words}: {sent}");
        }
        assert_eq!(
            sent.len(),
            server.seen()[0].head.len() + server.seen()[0].body.len()
        );
        let received = text(entry.join("failed-1.received"));
        let words = "Set-Cookie: id=************; Path=/; HttpOnly\r\n";
        assert!(received.contains(words), "{received}");
        assert!(text(entry.join("summary.txt")).contains("secrets masked"));
    }
}

#[test]
fn secrets_are_kept_for_who_asks_for_them() {
    for more in [
        &["--evidence-secrets"][..],
        &["--evidence-secrets", "-S1.2"],
        &["--evidence-secrets", "-S1.3"],
    ] {
        let server = if more.len() > 1 {
            FaultServer::start_tls(telling())
        } else {
            FaultServer::start(telling())
        };
        let kept = Kept::new();
        with_secrets(&server, &kept, more);
        let entry = kept.entry();
        let sent = text(entry.join("failed-1.sent"));
        assert_eq!(sent, server.seen()[0].head);
        assert!(text(entry.join("failed.har")).contains("hush-header"));
        let fields = ["http.authbasic", "http.cookie"];
        let seen = tshark(&entry.join("failed.pcapng"), "http.request", &fields);
        assert_eq!(
            seen,
            ["user:hush-password\ta=hush-cookie; lang=de"],
            "{more:?}"
        );
    }
}

#[test]
fn a_secret_in_the_request_does_not_hide_the_reply() {
    for arguments in ["", "-S1.3"] {
        let server = if arguments.is_empty() {
            FaultServer::start(every(1))
        } else {
            FaultServer::start_tls(every(1))
        };
        let kept = Kept::new();
        kept.run(
            &server,
            &format!("-H a.test -a user:hush-password --attempts 1 {arguments}"),
        );
        let entry = kept.entry();
        assert_eq!(leaks(&entry), [""; 0]);
        let codes = tshark(
            &entry.join("failed.pcapng"),
            "http.response",
            &["http.response.code"],
        );
        assert_eq!(codes, ["500"], "{arguments}");
    }
    // TLS 1.2 has one key for both.
    let server = FaultServer::start_tls(every(1));
    let kept = Kept::new();
    kept.run(
        &server,
        "-H a.test -a user:hush-password --attempts 1 -S1.2",
    );
    let entry = kept.entry();
    assert!(tshark(&entry.join("failed.pcapng"), "http", &[]).is_empty());
    assert!(!tshark(&entry.join("failed.pcapng"), "tls.handshake", &[]).is_empty());
    let summary = text(entry.join("summary.txt"));
    assert!(
        summary.contains("keys to encrypted secrets withheld"),
        "{summary}"
    );
}

#[test]
fn a_page_that_shows_the_secrets_packed_or_in_chunks_is_not_kept_as_bytes() {
    let gzip = |text: &str| {
        use std::io::Write;
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    };
    let server = FaultServer::start_tls(move |seen| {
        let (first, second) = seen
            .head
            .split_at(seen.head.find("hush-password").unwrap_or(80));
        Act::Send(match seen.path() {
            "/gzip" => {
                let body = gzip(&seen.head);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 500 Oops\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
                );
                [head.into_bytes(), body].concat()
            }
            "/unknown" => page_with(BAD, "Content-Encoding: rot13\r\n", &seen.head),
            _ => format!(
                "HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
                first.len(),
                second.len()
            )
            .into_bytes(),
        })
    });
    for path in ["/gzip", "/unknown", "/chunks"] {
        let kept = Kept::new();
        with_secrets(&server, &kept, &["-u", path, "-S1.3"]);
        let entry = kept.entry();
        assert_eq!(leaks(&entry), [""; 0], "{path}");
        assert!(!entry.join("failed-1.received").exists(), "{path}");
        assert!(tshark(&entry.join("failed.pcapng"), "http", &[]).is_empty());
        let page = text(entry.join("failed.har"));
        assert_eq!(
            page.contains("Authorization: Basic ***"),
            path != "/unknown",
            "{page}"
        );
    }
}

#[test]
fn http_2_packs_its_headers_so_that_its_bytes_are_left_out() {
    let port = http2_server().to_string();
    let kept = Kept::new();
    let mut command = plugin("check_http_retry");
    command.args(["-I", "127.0.0.1", "-S", "--http-version", "2", "-p", &port]);
    command
        .args(SECRET_ARGUMENTS)
        .args(["-u", "/500", "--attempts", "1"]);
    outcome(command.arg("--evidence").arg(kept.path()));
    let entry = kept.entry();
    assert_eq!(leaks(&entry), [""; 0]);
    assert!(!entry.join("failed-1.sent").exists());
    let summary = text(entry.join("summary.txt"));
    assert!(
        summary.contains("failed-1.sent: left out: it is packed"),
        "{summary}"
    );
}

#[test]
fn what_a_proxy_is_told_is_masked_and_what_is_behind_it_opens() {
    let server = FaultServer::start_tls(every(1));
    for (scheme, speech) in [
        ("http", Speech::Connect),
        ("https", Speech::Connect),
        ("socks4a", Speech::Socks4),
        (
            "socks5",
            Speech::Socks5(Some(("user".into(), "hush-proxy".into()))),
        ),
    ] {
        let proxy = TestProxy::start(speech, server.address);
        let shown = Identity::self_signed("proxy").server(&[], None);
        let front = TlsFront::start(shown, proxy.address);
        let kept = Kept::new();
        let place = if scheme == "https" {
            front.address
        } else {
            proxy.address
        };
        let url = format!("{scheme}://{place}");
        let mut command = plugin("check_http_retry");
        command.args(["-I", "127.0.0.1", "-p", &server.port(), "-S1.3", "-x", &url]);
        command.args(["-b", "user:hush-proxy", "--attempts", "1"]);
        let outcome = outcome(command.arg("--evidence").arg(kept.path()));
        assert_eq!(outcome.code, Some(2), "{}", outcome.text);
        let entry = kept.entry();
        assert_eq!(leaks(&entry), [""; 0], "{scheme}");
        let failed = entry.join("failed.pcapng");
        let codes = tshark(&failed, "http.response.code == 500", &[]);
        // TLS within TLS is more than tshark takes apart without the CONNECT, which is hidden.
        let opens = usize::from(scheme != "https");
        assert_eq!(codes.len(), opens, "{scheme}");
    }
}

#[test]
fn what_until_shows_of_a_reply_is_masked() {
    let server = FaultServer::start(telling());
    let shown = outcome(&mut command(&server, "--attempts 1 --until critical"));
    let words = "< Set-Cookie: id=************; Path=/; HttpOnly\n";
    assert!(shown.text.contains(words), "{}", shown.text);
    let shown = outcome(&mut command(
        &server,
        "--attempts 1 --until critical --evidence-secrets",
    ));
    assert!(shown.text.contains("id=hush-session;"), "{}", shown.text);
}
