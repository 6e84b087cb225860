//! Captures, opened with the real tshark: all that it needs is in the file.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use super::super::protocol::{http2_probe, http2_server};
use super::{Act, BAD, FaultServer, GOOD, Kept, command, every, outcome, page, text};
use crate::docs::shown;
use crate::support::netns::Netns;
use crate::support::plugin::{binary_folder, copy_program};
use crate::support::tshark::tshark;

/// Runs the plugin in a namespace.
fn within(netns: &Netns, kept: &Kept, words: &[&str]) -> crate::support::plugin::Outcome {
    let mut command = netns.command(binary_folder().join("check_http_retry"));
    command.args(words).arg("--evidence").arg(kept.path());
    outcome(&mut command)
}

#[test]
fn tshark_reads_the_500_out_of_the_file_alone() {
    for (tls, arguments) in [
        (false, ""),
        (true, "-S1.2"),
        (true, "-S1.3"),
        (true, "-S1.3 --concurrency 4"),
    ] {
        let server = if tls {
            FaultServer::start_tls(every(4))
        } else {
            FaultServer::start(every(4))
        };
        let kept = Kept::new();
        kept.run(&server, &format!("-H localhost --attempts 4 {arguments}"));
        let entry = kept.entry();
        let failed = entry.join("failed.pcapng");
        let replies = tshark(
            &failed,
            "http.response",
            &["http.response.code", "http.file_data"],
        );
        assert_eq!(replies.len(), 1, "{arguments}: {replies:?}");
        assert!(replies[0].starts_with("500\t"), "{arguments}: {replies:?}");
        let requests = tshark(
            &failed,
            "http.request",
            &["http.request.uri", "tcp.srcport"],
        );
        let summary = text(entry.join("summary.txt"));
        let port = requests[0].split('\t').nth(1).unwrap();
        assert!(
            summary.contains(&format!("from 127.0.0.1:{port} to")),
            "{summary}"
        );
        if tls {
            let inside = tshark(&failed, "tls && http.response", &[]);
            assert_eq!(inside.len(), 1, "{arguments}");
        }
        let good = tshark(
            &entry.join("good.pcapng"),
            "http.response",
            &["http.response.code"],
        );
        assert_eq!(good, ["200"], "{arguments}");
        // Each packet once, from the first to the last, and nobody else's.
        // What is sent again has a number of its own.
        let fields = [
            "tcp.srcport",
            "ip.id",
            "tcp.seq",
            "tcp.ack",
            "tcp.flags",
            "tcp.stream",
        ];
        let all = tshark(&failed, "tcp", &fields);
        assert!(all.len() >= 7, "{all:?}");
        assert!(all.iter().all(|line| line.ends_with("\t0")), "{all:?}");
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "{all:?}");
        let ends = tshark(&failed, "tcp.flags.syn == 1 || tcp.flags.fin == 1", &[]);
        assert!(ends.len() >= 3, "{ends:?}");
    }
}

#[test]
fn tshark_reads_http_2_out_of_the_file_alone() {
    let kept = Kept::new();
    let mut command = http2_probe(http2_server());
    command.args(["-u", "/503", "--attempts", "1"]);
    outcome(command.arg("--evidence").arg(kept.path()));
    let failed = kept.entry().join("failed.pcapng");
    let statuses = tshark(&failed, "http2.headers.status", &["http2.headers.status"]);
    assert_eq!(statuses, ["503"]);
}

#[test]
fn all_connections_of_a_probe_are_in_its_file() {
    let second = FaultServer::start(|_| Act::Send(page(BAD, "")));
    let location = format!("Location: http://{}/there\r\n", second.address);
    let first =
        FaultServer::start(move |_| Act::Send(super::page_with("302 Found", &location, "")));
    let kept = Kept::new();
    kept.run(&first, "-H www.test -f follow --attempts 1");
    let failed = kept.entry().join("failed.pcapng");
    let replies = tshark(&failed, "http.response", &["http.response.code"]);
    assert_eq!(replies, ["302", "500"]);
}

#[test]
fn the_connections_of_others_to_the_same_server_are_in_no_file() {
    let server = FaultServer::start(|seen| {
        Act::Send(page(if seen.path() == "/probe" { BAD } else { GOOD }, ""))
    });
    let address = server.address;
    let over = std::sync::atomic::AtomicBool::new(false);
    let kept = Kept::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::{Read, Write};
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"GET /other HTTP/1.1\r\n\r\n").unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        kept.run(&server, "-u /probe --attempts 20 --interval 5ms");
        over.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let others = server
        .seen()
        .iter()
        .filter(|s| s.path() == "/other")
        .count();
    assert!(others > 20, "{others}");
    for entry in kept.entries() {
        let uris = tshark(
            &entry.join("failed.pcapng"),
            "http.request",
            &["http.request.uri"],
        );
        assert_eq!(uris, ["/probe"], "{}", entry.display());
    }
}

#[test]
fn a_link_of_any_kind_and_ipv6_are_captured() {
    let (client, far) = (Netns::new("ev"), Netns::new("ev"));
    client.link("192.0.2.1/24", &far, "192.0.2.2/24");
    for (netns, address) in [(&client, "2001:db8::1"), (&far, "2001:db8::2")] {
        let device = netns.within(|| {
            let list = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let name = list.lines().filter_map(|line| line.split_once(':'));
            let mut name = name.map(|(name, _)| name.trim().to_owned());
            name.find(|name| name.starts_with('v')).unwrap()
        });
        netns.ip(&format!("addr add {address}/64 dev {device} nodad"));
    }
    for listen in ["192.0.2.2:80", "[2001:db8::2]:80"] {
        let listener = far.within(|| TcpListener::bind(listen).unwrap());
        let server = FaultServer::on(listener, None, every(2));
        let kept = Kept::new();
        let address = server.address.ip().to_string();
        let outcome = within(&client, &kept, &["-I", &address, "--attempts", "2"]);
        assert_eq!(outcome.code, Some(2), "{}", outcome.text);
        let failed = kept.entry().join("failed.pcapng");
        let replies = tshark(
            &failed,
            "http.response",
            &["http.response.code", "frame.interface_name"],
        );
        assert_eq!(replies.len(), 1, "{listen}: {replies:?}");
        assert!(replies[0].starts_with("500\tv"), "{replies:?}");
        // In the order of the wire, with the direction of each.
        let kinds = tshark(
            &failed,
            "tcp.flags.syn == 1",
            &["sll.pkttype", "tcp.flags.ack"],
        );
        assert_eq!(kinds, ["4\t0", "0\t1"], "{kinds:?}");
    }
}

#[test]
fn a_connection_that_came_to_nothing_is_captured() {
    let netns = Netns::new("ev");
    let kept = Kept::new();
    let refused = within(
        &netns,
        &kept,
        &["-I", "127.0.0.1", "-p", "9", "--attempts", "1"],
    );
    assert_eq!(refused.code, Some(2), "{}", refused.text);
    let flags = tshark(
        &kept.entry().join("failed.pcapng"),
        "tcp",
        &["tcp.flags.syn", "tcp.flags.reset"],
    );
    assert_eq!(flags, ["1\t0", "0\t1"]);
}

#[test]
fn without_the_privilege_everything_else_works_and_a_line_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).unwrap();
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(12345), Some(12345)).unwrap();
    let program = folder.path().join("check_http_retry");
    copy_program(binary_folder().join("check_http_retry"), &program);
    let server = FaultServer::start(every(2));
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "12345", "--regid", "12345", "--clear-groups"])
            .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
            .arg(&program)
            .args(["-I", "127.0.0.1", "-p", &server.port()])
            .args(arguments)
            .arg("--evidence")
            .arg(own.join("evidence"));
        outcome(&mut command)
    };
    let failed = as_nobody(&["--attempts", "2"]);
    assert_eq!(failed.code, Some(2), "{}", failed.text);
    let lines: Vec<_> = failed
        .text
        .lines()
        .filter(|l| l.contains("CAP_NET_RAW"))
        .collect();
    let expected = format!(
        "--evidence: no packets are kept: this takes CAP_NET_RAW: setcap cap_net_raw+ep {}, or docker run --cap-add NET_RAW; everything else is kept",
        program.display()
    );
    assert_eq!(lines, [expected]);
    let mut entries = std::fs::read_dir(own.join("evidence")).unwrap();
    let entry = entries.find_map(|entry| {
        let path = entry.unwrap().path();
        path.is_dir().then_some(path)
    });
    let expected = [
        "failed-1.received",
        "failed-1.sent",
        "failed.har",
        "good-1.received",
        "good-1.sent",
        "good.har",
        "summary.txt",
    ];
    assert_eq!(super::names(&entry.unwrap()), expected);
    // Where nothing failed nobody needs to know.
    let good = as_nobody(&["--attempts", "1"]);
    assert!(!good.text.contains("CAP_NET_RAW"), "{}", good.text);
    let asked = as_nobody(&["--attempts", "0", "-v"]);
    assert_eq!(asked.code, Some(3), "{}", asked.text);
}

#[test]
fn the_privilege_of_a_file_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).unwrap();
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(12345), Some(12345)).unwrap();
    let program = folder.path().join("check_http_retry");
    copy_program(binary_folder().join("check_http_retry"), &program);
    let setcap = shown(
        "evidence.md",
        "setcap ",
        &[("/usr/lib/nagios/plugins", &folder.path().to_string_lossy())],
    );
    let granted = Command::new("sh").args(["-c", &setcap]).status();
    assert!(
        granted.is_ok_and(|status| status.success()),
        "setcap (scripts/needs test)"
    );
    let server = FaultServer::start_tls(every(1));
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "12345", "--regid", "12345", "--clear-groups"])
        .arg(&program)
        .args([
            "-I",
            "127.0.0.1",
            "-p",
            &server.port(),
            "-S",
            "--attempts",
            "1",
        ])
        .arg("--evidence")
        .arg(own.join("evidence"));
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let path = outcome.headline().rsplit(", evidence in ").next().unwrap();
    let failed = std::path::Path::new(path).join("failed.pcapng");
    let tshark = shown(
        "evidence.md",
        "tshark ",
        &[("failed.pcapng", &failed.to_string_lossy())],
    );
    let told = Command::new("sh").args(["-c", &tshark]).output();
    let told = told.expect("a shell").stdout;
    let told = String::from_utf8_lossy(&told);
    assert!(told.starts_with("\t\n500\tServer: fault"), "{told}");
}

#[test]
fn a_page_that_is_larger_than_what_is_kept_of_it_costs_no_more() {
    let long = "x".repeat(8 << 20);
    let server = FaultServer::start(move |_| Act::Send(page(BAD, &long)));
    let kept = Kept::new();
    let outcome = outcome(
        command(&server, "--attempts 1")
            .arg("--evidence")
            .arg(kept.path()),
    );
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    let entry = kept.entry();
    let size = std::fs::metadata(entry.join("failed.pcapng"))
        .unwrap()
        .len();
    assert!((500_000..1_200_000).contains(&size), "{size}");
    let summary = text(entry.join("summary.txt"));
    assert!(summary.contains(" more were too many"), "{summary}");
    let codes = tshark(
        &entry.join("failed.pcapng"),
        "tcp.flags.syn == 1",
        &["tcp.flags.ack"],
    );
    assert_eq!(codes, ["0", "1"]);
}
