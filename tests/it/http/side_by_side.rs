//! The real `check_http` and ours on the same server: same exit codes, same words.

use std::process::Command;

use super::{Act, FaultServer, GOOD, Seen, outcome, page, page_with, plugin};

/// Debian's monitoring-plugins-basic has it.
pub const CHECK_HTTP: &str = "/usr/lib/nagios/plugins/check_http";

/// What `check_http` says, without what differs by nature: times, the name in front, and how it is set off.
pub fn words(line: &str) -> String {
    let text = line.split('|').next().unwrap_or_default().trim_end();
    let text = text.strip_prefix("HTTP ").unwrap_or(text);
    let text = match text.split_once(' ') {
        Some((state @ ("OK" | "WARNING" | "CRITICAL" | "UNKNOWN"), rest)) => {
            format!("{state}: {}", rest.trim_start_matches("- "))
        }
        Some((state @ ("OK:" | "WARNING:" | "CRITICAL:" | "UNKNOWN:"), rest)) => {
            format!("{state} {rest}")
        }
        _ => text.to_owned(),
    };
    // "in 0.123 second"
    match (text.find(" bytes in "), text.find(" second response")) {
        (Some(from), Some(to)) => format!("{} bytes in T{}", &text[..from], &text[to..]),
        _ => text,
    }
}

/// A comparison with a tool that is missing would hold for everything.
pub fn must_be_there(tool: &str) {
    assert!(
        std::path::Path::new(tool).exists(),
        "there is no {tool}: scripts/needs --install test"
    );
}

#[test]
fn one_attempt_says_and_does_what_check_http_does() {
    must_be_there(CHECK_HTTP);
    let answer = |seen: &Seen| {
        let to = |location: &str| {
            Act::Send(page_with(
                "301 Moved Permanently",
                &format!("Location: {location}\r\n"),
                "",
            ))
        };
        match seen.path() {
            path if path.starts_with("/status/") => Act::Send(page(&format!("{} Word", &path[8..]), "hello world\n")),
            "/redir" => to("/target"),
            "/relative" => to("target"),
            "/loop" => to("/loop"),
            "/loop2" => to("/loop3"),
            "/loop3" => to("/loop2"),
            "/noloc" => Act::Send(page("301 Moved Permanently", "")),
            "/bare" => Act::Send(b"HTTP/1.0 200 OK\n\nhello".to_vec()),
            "/headonly" => Act::Send(b"HTTP/1.1 200 OK\r\nServer: x\r\n".to_vec()),
            "/garbage" => Act::Send(b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()),
            "/badcode" => Act::Send(b"HTTP/1.1 abc Foo\r\n\r\n".to_vec()),
            "/empty" => Act::Send(Vec::new()),
            "/stall" => Act::SendAndStall(Vec::new()),
            "/chunked" => Act::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n".to_vec()),
            "/old" => Act::Send(page_with(GOOD, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nLast-Modified: Sun, 06 Nov 1994 06:49:37 GMT\r\n", "")),
            "/ancient" => Act::Send(page_with(GOOD, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nLast-Modified: Tue, 01 Nov 1994 06:49:37 GMT\r\n", "")),
            "/future" => Act::Send(page_with(GOOD, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nLast-Modified: Tue, 08 Nov 1994 06:49:37 GMT\r\n", "")),
            "/dateonly" => Act::Send(page_with(GOOD, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "")),
            "/auth" if seen.header("authorization") == Some("Basic dXNlcjpwYXNz") => Act::Send(page(GOOD, "in")),
            "/auth" => Act::Send(page("401 Unauthorized", "")),
            _ => Act::Send(page(GOOD, "hello world\n")),
        }
    };
    let clear = FaultServer::start(answer);
    let encrypted = FaultServer::start_tls(answer);
    let cases = [
        "",
        "-H www.test",
        "-H www.test:1234",
        "-w 5 -c 10",
        "-w @0:5",
        "-c @0:5",
        "-u /status/204",
        "-u /status/301",
        "-u /status/304",
        "-u /status/400",
        "-u /status/404",
        "-u /status/404 -w 5 -c 10",
        "-u /status/500",
        "-u /status/503",
        "-u /status/999",
        "-u /badcode",
        "-u /garbage",
        "-u /empty",
        "-u /bare",
        "-u /headonly",
        "-u /stall -t 1",
        "-e 200",
        "-e 200,404 -u /status/404",
        "-e 20 -u /status/204",
        "-e 200 -u /status/404",
        "-e 500 -u /status/500",
        "-e 200 -s nope",
        "-u /redir -f ok",
        "-u /redir -f warning",
        "-u /redir -f critical",
        "-u /redir -f unknown",
        "-u /redir -f follow",
        "-u /redir -f sticky",
        "-u /redir -f stickyport",
        "-u /relative -f follow",
        "-u /redir -f follow -s hello",
        "-u /redir -e 301 -f follow",
        "-u /redir -e 200 -f follow",
        "-H 127.0.0.1 -u /loop -f follow",
        "-u /loop2 -f follow",
        "-u /loop2 -f follow --max-redirs 2",
        "-u /redir -f follow --max-redirs 0",
        "-u /noloc -f follow",
        "-s hello",
        "-s goodbye",
        "-s goodbye -H www.test",
        "-s a-text-that-is-longer-than-thirty-letters",
        "-s abcdefghijklmnopqrstuvwxyz123",
        "-s abcdefghijklmnopqrstuvwxyz1234",
        "-u /status/404 -s hello",
        "-u /status/404 -s nope",
        "-r ^hel+o",
        "-r xyz",
        "-R HELLO",
        "-r hello --invert-regex",
        "-r xyz --invert-regex",
        "-l -r world.$",
        "-d fault",
        "-d X-Nope",
        "-d server:",
        "-d X-Nope -s goodbye -m 10000",
        "-u /chunked -s world",
        "-m 10000",
        "-m 1:10",
        "-m 1:10000",
        "-j HEAD",
        "-j OPTIONS -P data",
        "-P data -T text/plain",
        "-u /auth",
        "-u /auth -a user:pass",
        "-4",
        "-6",
        "-wt 5 -ct 10 -to 7",
        "-E",
        "-M 1h",
        "-u /old -M 1h",
        "-u /old -M 3h",
        "-u /old -M 7200",
        "-u /old -M 119m",
        "-u /ancient -M 1d",
        "-u /future -M 1d",
        "-u /dateonly -M 1d",
        "-N",
        "-N -s hello",
        "-B",
        "-n",
        "www.test",
        "-S1.2 www.test -s nope",
    ];
    for (server, scheme) in [
        (&clear, ""),
        (&encrypted, "-S"),
        (&encrypted, "-S1.2+ --sni"),
    ] {
        for case in cases {
            let arguments = format!("{scheme} {case}");
            let arguments = arguments.split(' ').filter(|word| !word.is_empty());
            let arguments = ["-I", "127.0.0.1", "-p", &server.port()]
                .into_iter()
                .chain(arguments)
                .map(str::to_owned)
                .collect::<Vec<_>>();
            compare(CHECK_HTTP, &arguments);
        }
    }
    let port = encrypted.port();
    for line in [
        format!("-I 127.0.0.1 -p {port} -C 14"),
        format!("-I 127.0.0.1 -p {port} -C 14 -u /status/500"),
        format!("-I 127.0.0.1 -p {port} -C 3000000"),
        format!("-I 127.0.0.1 -p {port} -C 3000000,2000000"),
        "-I 127.0.0.1 -p 1 -C 14".to_owned(),
    ] {
        compare(
            CHECK_HTTP,
            &line.split(' ').map(str::to_owned).collect::<Vec<_>>(),
        );
    }
    let port = clear.port();
    for line in [
        format!("127.0.0.1 -p {port} -s nope"),
        format!("127.0.0.1 www.test -p {port} -s nope"),
        format!("-p {port} 127.0.0.1 www.test -s nope"),
        format!("-H 127.0.0.1:{port} -s nope"),
        format!("--host 127.0.0.1 -p{port} -s nope"),
        format!("-I127.0.0.1 -EBp{port}"),
    ] {
        compare(
            CHECK_HTTP,
            &line.split(' ').map(str::to_owned).collect::<Vec<_>>(),
        );
    }
    for nobody in [
        "-I 127.0.0.1 -p 1",
        "-I 127.0.0.1 -p 1 -S",
        "-H name.invalid",
        "-I /nonexistent/socket",
    ] {
        let arguments: Vec<_> = nobody.split(' ').map(str::to_owned).collect();
        compare(CHECK_HTTP, &arguments);
    }
}

/// Runs both on the same server: exit code and words must agree.
pub fn compare(check_http: &str, arguments: &[String]) {
    let theirs = Command::new(check_http)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&theirs.stdout).into_owned();
    let line = text.lines().next().unwrap_or_default();
    let mut ours = plugin("check_http_retry");
    let ours = outcome(ours.args(arguments).args(["--attempts", "1"]));
    let expected = expected(&words(line), ours.headline());
    assert_eq!(words(ours.headline()), expected, "{arguments:?}");
    assert_eq!(ours.code, theirs.status.code(), "{arguments:?}");
}

/// Their words, with the state that they leave out where the connection failed.
pub fn expected(theirs: &str, ours: &str) -> String {
    let bare = [
        "connect to",
        "Address family",
        "Name or service",
        "No address associated",
        "Temporary failure",
    ];
    if theirs == "CRITICAL: Cannot make SSL connection." {
        // The reason is a line of OpenSSL's there, and on the first line here.
        let ours = words(ours);
        return if ours.starts_with(theirs) {
            ours
        } else {
            theirs.to_owned()
        };
    }
    if theirs.contains("redirection") && ours.contains("https://") {
        // It names a relative redirect of an https site by http.
        return theirs.replace("http://", "https://");
    }
    if bare.iter().any(|start| theirs.starts_with(start)) {
        // The name that could not be looked up is ours to add.
        let name = ours
            .strip_prefix("HTTP CRITICAL: ")
            .and_then(|text| text.strip_suffix(theirs));
        format!("CRITICAL: {}{theirs}", name.unwrap_or_default())
    } else {
        theirs.to_owned()
    }
}
