//! What can be asked for beyond `check_http`: statuses, phases, time-outs, redirects as curl follows them, where a
//! connection leaves.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use super::{Act, BAD, FaultServer, GOOD, Seen, always, outcome, page, page_with, plugin, run};
use crate::support::identity::Identity;
use crate::support::netns::Netns;

fn site(seen: &Seen) -> Act {
    let to = |status: &str, location: &str| {
        Act::Send(page_with(status, &format!("Location: {location}\r\n"), ""))
    };
    match seen.path() {
        "/moved" => to("301 Moved Permanently", "/good"),
        "/gone" => to("302 Found", "/404"),
        "/loop" => to("302 Found", "/loop"),
        "/ping" => to("307 Temporary Redirect", "/pong"),
        "/pong" => to("308 Permanent Redirect", "/good"),
        "/nowhere" => Act::Send(page("301 Moved Permanently", "hello")),
        "/404" => Act::Send(page("404 Not Found", "hello")),
        "/odd" => Act::Send(page("20 OK", "hello")),
        "/500" => Act::Send(page(BAD, "hello")),
        "/silent" => Act::SendAndStall(Vec::new()),
        _ => Act::Send(page(GOOD, "hello")),
    }
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn each_wish_has_its_state_and_its_words() {
    let server = FaultServer::start(site);
    for (arguments, code, words) in [
        ("-u /404 --status 200,404", 0, "HTTP/1.1 404 Not Found - "),
        (
            "-u /500 --status 500-599",
            0,
            "HTTP/1.1 500 Internal Server Error - ",
        ),
        (
            "--status 204",
            2,
            "HTTP/1.1 200 OK - status 200 is not in the list",
        ),
        (
            "-u /404 --status 200,404 -s nope",
            2,
            "HTTP/1.1 404 Not Found - string 'nope' not found",
        ),
        (
            "-u /404 --status 404 -e 404 -s hello",
            0,
            "Status line output matched",
        ),
        (
            "-u /404 --status 200 -e 404",
            2,
            "Status line output matched \"404\" - status 404 is not",
        ),
        (
            "-u /moved --status 301 -f critical",
            0,
            "HTTP/1.1 301 Moved Permanently - ",
        ),
        ("-u /moved --status 200 -f follow", 0, "HTTP/1.1 200 OK - "),
        (
            "-u /gone --status 200 -f follow",
            2,
            "HTTP/1.1 404 Not Found - status 404 is not in the list",
        ),
        (
            "-u /moved -e 200 -f follow",
            2,
            "Invalid HTTP response received",
        ),
        (
            "-u /moved -e 200 -f follow --expect-last",
            0,
            "Status line output matched \"200\"",
        ),
        (
            "-u /moved -e 301 -f follow --expect-last",
            2,
            "Invalid HTTP response received",
        ),
        (
            "-u /moved -e 301 --expect-last",
            0,
            "Status line output matched \"301\"",
        ),
        (
            "-u /moved -e 200 -f curl",
            0,
            "Status line output matched \"200\"",
        ),
        (
            "-u /nowhere -f curl --status 200",
            2,
            "HTTP/1.1 301 Moved Permanently - status 301 is not in the list",
        ),
        (
            "-u /nowhere -f curl -e 200",
            2,
            "Invalid HTTP response received from host",
        ),
        (
            "-u /odd --status 200 -e HTTP/1.1",
            2,
            "Invalid Status Line (HTTP/1.1 20 OK)",
        ),
        ("-u /ping -f curl -s hello", 0, "HTTP/1.1 200 OK - "),
        (
            "-u /loop -f curl --max-redirs 3",
            2,
            "Maximum (3) redirects followed",
        ),
        (
            "-u /nowhere -f curl -s hello",
            0,
            "HTTP/1.1 301 Moved Permanently - ",
        ),
        (
            "-r nope --state-regex warning",
            1,
            "HTTP/1.1 200 OK - pattern not found",
        ),
        (
            "-r hello --invert-regex --state-regex unknown",
            3,
            "HTTP/1.1 200 OK - pattern found",
        ),
        (
            "-u /silent -t 0.2 --timeout-result warning",
            1,
            "Socket timeout after 0.2 seconds",
        ),
        (
            "-u /silent -t 0.2 --timeout-result unknown",
            3,
            "Socket timeout after 0.2 seconds",
        ),
        (
            "--first-byte-warning @0:9",
            1,
            "HTTP/1.1 200 OK - first byte took ",
        ),
        (
            "--transfer-critical @0:9 --connect-warning @0:9",
            2,
            "HTTP/1.1 200 OK - connect took ",
        ),
        (
            "--dns-critical @0:9 --tls-critical @0:9 --connect-critical 9",
            0,
            "HTTP/1.1 200 OK - ",
        ),
    ] {
        let outcome = run(&server, &format!("{arguments} --attempts 1"));
        assert_eq!(outcome.code, Some(code), "{arguments}: {}", outcome.text);
        let (_, text) = outcome.headline().split_once(": ").unwrap();
        assert!(text.starts_with(words), "{arguments}: {}", outcome.text);
    }
    let slow = run(
        &server,
        "--first-byte-warning @0:9 --first-byte-critical 5 --format json",
    );
    let json = slow.json();
    assert_eq!(json["details"]["kinds"]["slow"], 10, "{json}");
    let metric = json["perfdata"]
        .as_array()
        .unwrap()
        .iter()
        .find(|metric| metric["label"] == "first_byte_p95");
    assert_eq!(metric.unwrap()["warning"], "@9", "{json}");
    assert_eq!(metric.unwrap()["critical"], "5", "{json}");
    let half = run(
        &server,
        "--first-byte-warning @0:9 --transfer-critical 9 --percentile 50",
    );
    assert_eq!(half.code, Some(1), "{}", half.text);
    // All of it may have been spent waiting for a CPU, which is left out: then it is 0.
    assert!(
        half.headline().contains(" - p50 of the first byte 0"),
        "{}",
        half.text
    );
    assert!(
        half.headline().ends_with(", 10 of 10 probes good"),
        "{}",
        half.text
    );
}

#[test]
fn a_post_that_is_redirected_goes_on_as_a_get_where_curl_would() {
    let server = FaultServer::start(site);
    let methods = |arguments: &str| {
        let before = server.seen().len();
        let outcome = run(&server, &format!("{arguments} --attempts 1"));
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        let seen = server.seen();
        let method = |seen: &Seen| seen.head.split(' ').next().unwrap_or_default().to_owned();
        seen[before..].iter().map(method).collect::<Vec<_>>()
    };
    assert_eq!(methods("-u /moved -P a=1 -f curl"), ["POST", "GET"]);
    assert_eq!(methods("-u /moved -P a=1 -f follow"), ["POST", "POST"]);
    assert_eq!(methods("-u /ping -P a=1 -f curl"), ["POST", "POST", "POST"]);
    assert_eq!(methods("-u /moved -P a=1 -j PUT -f curl"), ["PUT", "PUT"]);
}

#[test]
fn a_connection_leaves_by_the_address_and_interface_that_are_asked_for() {
    let server = always(page(GOOD, ""));
    let outcome = run(&server, "--local-address 127.0.0.9 --attempts 3");
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(
        server
            .peers()
            .iter()
            .all(|peer| peer.ip().to_string() == "127.0.0.9")
    );
    for (arguments, words) in [
        (
            "--local-address 192.0.2.77",
            "--local-address 192.0.2.77: Cannot assign requested address - this host does not have it",
        ),
        ("--interface none0", "--interface none0: No such device"),
        (
            "--interface no/thing",
            "--interface no/thing: this is no interface's name",
        ),
        ("--local-address here", "--local-address: "),
    ] {
        let outcome = run(&server, arguments);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text);
        assert!(outcome.text.contains(words), "{}", outcome.text);
    }
    let other = run(&server, "--local-address ::1 --attempts 1");
    assert!(other.text.contains("Address family"), "{}", other.text);
    assert_eq!(run(&server, "--interface lo --attempts 1").code, Some(0));
    // Out by another interface there is no way to loopback.
    let ns = Netns::new("leave");
    ns.ip("link add wan type veth peer name lan");
    ns.ip("addr add 192.0.2.1/24 dev wan");
    ns.ip("link set wan up");
    let listener = ns.within(|| TcpListener::bind(("127.0.0.1", 8080)).unwrap());
    let inside = FaultServer::on(listener, None, |_| Act::Send(page(GOOD, "")));
    let mut command = ns.command(plugin("check_http_retry").get_program());
    command.args("-I 127.0.0.1 -p 8080 --attempts 1 -t 0.5 --interface wan".split(' '));
    let wrong = super::outcome(&mut command);
    assert_eq!(wrong.code, Some(2), "{}", wrong.text);
    assert!(inside.seen().is_empty());
}

#[test]
fn a_local_address_takes_no_port_of_its_own() {
    // Two ports in all, and two destinations: bind() would take each port for one of them alone.
    let ns = Netns::new("share");
    ns.set("ipv4/ip_local_port_range", "40000 40001");
    let listen = |port| ns.within(move || TcpListener::bind(("127.0.0.1", port)).unwrap());
    let hold = |_: &Seen| Act::SendAndStall(Vec::new());
    let servers = [8080, 8081].map(|port| FaultServer::on(listen(port), None, hold));
    let probe = |port: &str| {
        let mut command = ns.command(plugin("check_http_retry").get_program());
        let words = "-I 127.0.0.1 --local-address 127.0.0.1 --attempts 2 --concurrency 2 -t 1 -p";
        command.args(words.split(' ')).arg(port);
        command.stdout(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let both = ["8080", "8081"].map(probe);
    for child in both {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Socket timeout"), "{text}");
    }
    drop(servers);
}

#[test]
fn https_is_spoken_over_a_socket_in_the_file_system() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let config = Identity::self_signed("localhost").server(&[], None);
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, stream);
        let mut request = vec![0; 1024];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(&page(GOOD, "hello")).unwrap();
        stream.flush().unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let mut command = plugin("check_http_retry");
    let path = path.to_str().unwrap();
    let outcome = outcome(command.args([
        "-S",
        "-I",
        path,
        "-H",
        "x",
        "--attempts",
        "1",
        "-s",
        "hello",
    ]));
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(server.join().unwrap().starts_with("GET / HTTP/1.1\r\n"));
}

#[test]
fn an_interface_that_one_may_not_choose_is_unknown_and_the_capability_named() {
    let server = always(page(GOOD, ""));
    let mut command = super::command(&server, "--interface lo");
    // Linux before 5.7 says so, and many a container's filter: here it is one of our own.
    // SAFETY: all that it does are two system calls, which touch nothing of the parent.
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, forbid_interfaces) };
    let outcome = super::outcome(&mut command);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    let words = "HTTP UNKNOWN: --interface lo: Operation not permitted - this takes CAP_NET_RAW (setcap cap_net_raw+ep on the plugin), or Linux 5.7";
    assert!(outcome.text.starts_with(words), "{}", outcome.text);
    assert!(server.peers().is_empty());
}

/// Has `setsockopt(_, SOL_SOCKET, SO_BINDTODEVICE, …)` fail with EPERM from now on, in whatever this process becomes.
fn forbid_interfaces() -> std::io::Result<()> {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, c_ulong, sock_filter};
    let step = |code: u32, jt: u8, jf: u8, k: u32| sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt,
        jf,
        k,
    };
    let load = |at: u32| step(BPF_LD | BPF_W | BPF_ABS, 0, 0, at);
    let unless = |value: u32, skip: u8| step(BPF_JMP | BPF_JEQ | BPF_K, 0, skip, value);
    let number = u32::try_from(libc::SYS_setsockopt).unwrap_or(0);
    let device = u32::try_from(libc::SO_BINDTODEVICE).unwrap_or(0);
    // Of `struct seccomp_data`: the number is at 0, the third argument's lower half at 32.
    let mut steps = [
        load(0),
        unless(number, 3),
        load(32),
        unless(device, 1),
        step(
            BPF_RET | BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(),
        ),
        step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 6,
        filter: steps.as_mut_ptr(),
    };
    let on: c_ulong = 1;
    let off: c_ulong = 0;
    let filter = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program is valid for the time of the call, and its length is that of `steps`.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, off, off, off) != 0
            || libc::prctl(
                libc::PR_SET_SECCOMP,
                c_ulong::from(filter),
                &raw const program,
            ) != 0
    };
    if failed {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
