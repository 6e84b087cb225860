//! Certificates: verified with `-D`, shown with `-J`, and those that are not as they should be.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::side_by_side::{CHECK_HTTP, must_be_there, words};
use super::{Act, FaultServer, every, outcome, plugin, run};
use crate::support::identity::{DAY, Identity, server_of_file};
use crate::support::plugin::{Outcome, project};

/// Alerts of TLS, by their numbers.
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;

struct Site {
    folder: tempfile::TempDir,
    authority: Identity,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: Identity::authority(),
        };
        site.write("ca.pem", &site.authority.pem());
        site
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn verified(&self, server: &FaultServer, host: &str, more: &[&str]) -> Outcome {
        verified_by(&self.folder.path().join("ca.pem"), server, host, more)
    }
}

fn verified_by(file: &Path, server: &FaultServer, host: &str, more: &[&str]) -> Outcome {
    let mut command = plugin("check_http_retry");
    command.args(["-I", "127.0.0.1", "-H", host, "-p", &server.port()]);
    command.args(["-D", "--attempts", "2", "--ca-cert"]);
    outcome(command.arg(file).args(more))
}

fn start(identity: &Identity, chain: &[&Identity]) -> FaultServer {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    FaultServer::on(listener, Some(identity.server(chain, None)), every(99))
}

#[test]
fn a_certificate_is_verified_where_that_is_asked_for() {
    let site = Site::new();
    let now = SystemTime::now();
    let good = Identity::signed("localhost", now + 30 * DAY + DAY / 2, &site.authority);
    let server = start(&good, &[&site.authority]);
    let outcome = site.verified(&server, "localhost", &["-v"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    for line in [
        "certificate 1 of 2: 'localhost' by 'test authority', 30 days left, until ",
        "certificate 2 of 2: 'test authority' by 'test authority', ",
    ] {
        assert!(outcome.text.contains(line), "{}", outcome.text);
    }
    let json = site
        .verified(&server, "localhost", &["--format", "json"])
        .json();
    assert_eq!(
        json["details"]["certificates"][0]["days_left"], 30,
        "{json}"
    );

    let expired = Identity::signed("localhost", now - 2 * DAY, &site.authority);
    let stranger = Identity::authority();
    let forged = Identity::signed("localhost", now + DAY, &stranger);
    for (identity, host, why) in [
        (&good, "www.other", "it is not for 'www.other'"),
        (&expired, "localhost", "a certificate has expired"),
        (&forged, "localhost", "a signature in it is wrong"),
        (
            &Identity::self_signed("localhost"),
            "localhost",
            "no trusted authority vouches for it",
        ),
    ] {
        let server = start(identity, &[]);
        let outcome = site.verified(&server, host, &["--format", "json"]);
        let json = outcome.json();
        assert_eq!(outcome.code, Some(2), "{json}");
        assert_eq!(json["details"]["kinds"]["certificate"], 2, "{json}");
        let words = format!("HTTP CRITICAL: Certificate verification failed: {why} - 2 of 2");
        assert!(
            json["summary"].as_str().unwrap().starts_with(&words),
            "{json}"
        );
        assert!(
            json["details"]["certificates"][0]["name"] == "localhost",
            "{json}"
        );
        assert!(server.seen().is_empty(), "no request is sent");
    }
}

#[test]
fn a_certificate_that_is_in_the_file_itself_is_trusted() {
    let site = Site::new();
    let own = Identity::self_signed("localhost");
    let file = site.write("own.pem", &own.pem());
    let server = start(&own, &[]);
    let good = verified_by(&file, &server, "localhost", &[]);
    assert_eq!(good.code, Some(0), "{}", good.text);
    let wrong = verified_by(&file, &server, "www.other", &[]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.text);
}

#[test]
fn the_end_of_a_certificate_was_said_in_local_time() {
    must_be_there(CHECK_HTTP);
    let server = FaultServer::start_tls(every(99));
    let said = |command: &mut Command| {
        let line = ["-I", "127.0.0.1", "-p", &server.port(), "-C", "14"];
        words(outcome(command.args(line).env("TZ", "ZONE-5")).first_line())
    };
    let ours = said(plugin("check_http_retry").args(["--attempts", "1"]));
    assert!(ours.ends_with(" +0000."), "{ours}");
    assert_eq!(
        ours,
        said(Command::new(CHECK_HTTP).env_clear().env("LC_ALL", "C"))
    );
}

#[test]
fn what_cannot_be_trusted_is_said_before_any_probe() {
    let site = Site::new();
    let server = start(&Identity::self_signed("localhost"), &[]);
    let empty = site.write("empty.pem", "");
    for (file, words) in [
        (
            Path::new("/nonexistent"),
            "HTTP UNKNOWN: --ca-cert /nonexistent: cannot read",
        ),
        (&empty, "HTTP UNKNOWN: --ca-cert "),
    ] {
        let outcome = verified_by(file, &server, "localhost", &[]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text);
        assert!(outcome.text.starts_with(words), "{}", outcome.text);
    }
    assert!(server.peers().is_empty());
    // As with check_curl, the file alone asks for https and for nothing else.
    let file = site.folder.path().join("ca.pem");
    let alone = run(
        &server,
        &format!("--ca-cert {} --attempts 1", file.display()),
    );
    assert_eq!(alone.code, Some(0), "{}", alone.text);
}

#[test]
fn a_client_certificate_may_be_as_old_as_x509_version_1() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let config = Identity::self_signed("localhost").server_for_anybody_with_a_certificate();
    let server = FaultServer::on(listener, Some(config), every(99));
    let fixture = |name: &str| project().join("tests/fixtures").join(name);
    let mut command: Command = super::command(&server, "--attempts 2");
    command.arg("-J").arg(fixture("client_v1.pem"));
    command.arg("-K").arg(fixture("client_v1.key"));
    let shown = outcome(&mut command);
    assert_eq!(shown.code, Some(0), "{}", shown.text);
    assert_eq!(
        run(&server, "-S --attempts 1").code,
        Some(2),
        "without one it is not let in"
    );
}

#[test]
fn a_certificate_without_a_common_name_is_judged_by_its_days_as_any_other() {
    let server = start(&Identity::nameless(), &[]);
    let outcome = run(&server, "-C 14 --attempts 1 -v");
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    let words = "HTTP OK: Certificate 'Unknown CN' will expire on ";
    assert!(outcome.text.starts_with(words), "{}", outcome.text);
    assert!(
        outcome
            .text
            .contains("certificate 1 of 1: 'localhost' by 'Unknown CN'"),
        "{}",
        outcome.text
    );
}

#[test]
fn a_certificate_that_cannot_be_verified_here_is_unknown_and_named() {
    let fixture = |name: &str| project().join("tests/fixtures").join(name);
    for (shown, key, authority, version) in [
        ("client_v1.pem", "client_v1.key", "authority_p521.pem", ""),
        (
            "client_v1.pem",
            "client_v1.key",
            "authority_p521.pem",
            "-S1.2",
        ),
        ("client_v1.pem", "client_v1.key", "client_v1.pem", ""),
        (
            "signed_by_p521.pem",
            "signed_by_p521.pem",
            "authority_p521.pem",
            "",
        ),
        (
            "signed_by_p521.pem",
            "signed_by_p521.pem",
            "authority_p521.pem",
            "-S1.2",
        ),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let config = server_of_file(&fixture(shown), &fixture(key));
        let server = FaultServer::on(listener, Some(config), every(99));
        let more: Vec<_> = version.split(' ').filter(|word| !word.is_empty()).collect();
        let outcome = verified_by(&fixture(authority), &server, "localhost", &more);
        assert_eq!(outcome.code, Some(3), "{shown} {version} {}", outcome.text);
        let words = "HTTP UNKNOWN: -D: this program cannot verify such a certificate (";
        assert!(
            outcome.text.starts_with(words),
            "{shown} {version} {}",
            outcome.text
        );
        assert!(
            outcome.text.contains("use check_curl -D"),
            "{}",
            outcome.text
        );
        assert!(server.seen().is_empty());
        // Without -D it is nobody's business.
        let unverified = run(&server, "-S --attempts 1");
        assert_eq!(unverified.code, Some(0), "{}", unverified.text);
    }
}

#[test]
fn a_server_that_wants_what_this_program_has_not_is_unknown_and_one_that_others_got_through_to_is_not()
 {
    let alert = |number: u8| Act::Send(vec![0x15, 3, 3, 0, 2, 2, number]);
    for (number, arguments, code, words) in [
        (
            HANDSHAKE_FAILURE,
            "-S",
            3,
            "a host name (--sni), or RSA key exchange",
        ),
        (
            HANDSHAKE_FAILURE,
            "-S --sni -H www.test",
            3,
            "it wants RSA key exchange",
        ),
        (HANDSHAKE_FAILURE, "-S1.2", 3, "use check_http"),
        (
            PROTOCOL_VERSION,
            "-S",
            3,
            "neither TLS 1.2 nor 1.3, and -S no older one here",
        ),
        (PROTOCOL_VERSION, "-S1.3", 2, "ProtocolVersion"),
    ] {
        let server = FaultServer::start(move |_| alert(number));
        let outcome = run(&server, &format!("{arguments} --attempts 2"));
        assert_eq!(outcome.code, Some(code), "{arguments}: {}", outcome.text);
        assert!(outcome.headline().contains(words), "{}", outcome.text);
        assert!(outcome.headline().contains("2 of 2 probes failed"));
    }
    // The same alert behind the certificate: what it wants is a certificate of the client's.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let config = Identity::self_signed("localhost").server_for_anybody_with_a_certificate();
    let server = FaultServer::on(listener, Some(config), every(99));
    assert_eq!(run(&server, "-S --attempts 1").code, Some(2));
    // Now and then, whichever comes first.
    let good = FaultServer::start_tls(every(99));
    let refuses = FaultServer::start(move |_| alert(HANDSHAKE_FAILURE));
    let via = format!(
        "-S --via good=127.0.0.1:{} --via refuses=127.0.0.1:{}",
        good.port(),
        refuses.port()
    );
    for _ in 0..4 {
        let mixed = run(&good, &format!("{via} --attempts 1"));
        assert_eq!(mixed.code, Some(2), "{}", mixed.text);
    }
}

#[test]
fn a_key_that_cannot_be_used_is_unknown_and_says_what_to_do() {
    let site = Site::new();
    let server = start(&Identity::self_signed("localhost"), &[]);
    let certificate = site.folder.path().join("ca.pem");
    let ed448 = "-----BEGIN PRIVATE KEY-----
MEcCAQAwBQYDK2VxBDsEObvJjLMoO0OILKR5bM+F7IgN3HeZQ4pFvC1j/ICbX98R
CoCVdeYjrC2Td6NttA7GsTH2IByRp/FwHQ==
-----END PRIVATE KEY-----\n";
    for (key, words) in [
        (ed448, "cannot use this kind of key: it takes RSA"),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMEcC\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "this key is encrypted",
        ),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMEcC\n-----END RSA PRIVATE KEY-----\n",
            "this key is encrypted",
        ),
        ("", "there is no private key in PEM in it"),
    ] {
        let path = site.write("some.key", key);
        let mut command = super::command(&server, "--attempts 1");
        command.arg("-J").arg(&certificate).arg("-K").arg(&path);
        let outcome = outcome(&mut command);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text);
        let start = format!("HTTP UNKNOWN: -K {}: ", path.display());
        assert!(outcome.text.starts_with(&start), "{}", outcome.text);
        assert!(outcome.text.contains(words), "{}", outcome.text);
        assert!(!outcome.text.contains("MEcC"), "{}", outcome.text);
    }
    assert!(server.peers().is_empty());
}
