//! Passwords, tokens and keys: where they come from, and that they stay there.

use crate::support::fault_server::page_with;

use super::{Act, FaultServer, GOOD, always, command, outcome, page};

#[test]
fn secrets_come_from_files_and_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "user:pass\n").unwrap();
    let file = file.to_str().unwrap();
    let header_file = format!("X-Key={file}");
    let server = always(page(GOOD, ""));
    let basic = "Basic dXNlcjpwYXNz";
    for (arguments, variable, value, header, expected) in [
        (
            &["--authorization-file", file][..],
            "",
            "",
            "authorization",
            basic,
        ),
        (
            &["--proxy-authorization-file", file],
            "",
            "",
            "proxy-authorization",
            basic,
        ),
        (
            &["--bearer-token-file", file],
            "",
            "",
            "authorization",
            "Bearer user:pass",
        ),
        (
            &["--header-file", &header_file],
            "",
            "",
            "x-key",
            "user:pass",
        ),
        (&[], "AUTHORIZATION", "user:pass", "authorization", basic),
        (
            &[],
            "PROXY_AUTHORIZATION",
            "user:pass",
            "proxy-authorization",
            basic,
        ),
        (
            &[],
            "BEARER_TOKEN",
            "t0ken",
            "authorization",
            "Bearer t0ken",
        ),
        (&[], "HEADERS", "X-A: 1\nX-B: 2\n", "x-b", "2"),
        // The command line goes first, and what is empty is not there.
        (
            &["-a", "user:pass"],
            "AUTHORIZATION",
            "other:x",
            "authorization",
            basic,
        ),
        (
            &["--authorization-file", file],
            "BEARER_TOKEN",
            "t0ken",
            "authorization",
            basic,
        ),
        (
            &["-a", "user:pass"],
            "BEARER_TOKEN",
            "",
            "authorization",
            basic,
        ),
    ] {
        let before = server.seen().len();
        let mut command = command(&server, "--attempts 1");
        command.args(arguments);
        if !variable.is_empty() {
            command.env(format!("CHECK_HTTP_RETRY_{variable}"), value);
        }
        let outcome = outcome(&mut command);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        let seen = &server.seen()[before];
        assert_eq!(
            seen.header(header),
            Some(expected),
            "{arguments:?} {variable}"
        );
    }
}

#[test]
fn a_secret_that_cannot_be_had_is_unknown_and_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let empty = write("empty", b"\n");
    let large = write("large", &vec![b'x'; 70_000]);
    let control = write("control", b"hush\x07hush");
    let server = FaultServer::start(|_| Act::Send(page(GOOD, "")));
    let file = |path: &str| format!("X-Key={path}");
    for (arguments, words) in [
        (
            ["--authorization-file", "/nonexistent"],
            "--authorization-file: cannot read /nonexistent",
        ),
        (["--bearer-token-file", &empty], "is empty"),
        (
            ["--proxy-authorization-file", &large],
            "longer than any password",
        ),
        (
            ["--header-file", &file(&control)],
            "cannot stand in a header",
        ),
        (["--header-file", "X-Key"], "give NAME=FILE"),
    ] {
        let outcome = outcome(command(&server, "").args(arguments));
        assert_eq!(outcome.code, Some(3), "{}", outcome.text);
        assert!(outcome.text.contains(words), "{}", outcome.text);
        assert!(!outcome.text.contains("hush"), "{}", outcome.text);
    }
    let mut both = command(&server, "");
    both.env("CHECK_HTTP_RETRY_AUTHORIZATION", "hush:hush")
        .env("CHECK_HTTP_RETRY_BEARER_TOKEN", "hush");
    let outcome = outcome(&mut both);
    assert_eq!(outcome.code, Some(3), "{}", outcome.text);
    assert!(!outcome.text.contains("hush"), "{}", outcome.text);
}

#[test]
fn a_redirect_to_another_name_takes_no_secret_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "hush").unwrap();
    let other = always(page(GOOD, ""));
    let port = other.address.port();
    for (name, kept) in [("localhost", false), ("127.0.0.1", true)] {
        let header = format!("Location: http://{name}:{port}/there\r\n");
        let server = FaultServer::start(move |_| Act::Send(page_with("302 Found", &header, "")));
        let before = other.seen().len();
        let mut command = command(&server, "--attempts 1 -f follow -a user:pass -b proxy:pass");
        command
            .args(["-k", "Cookie: id=1", "-k", "X-Open: 1"])
            .args(["--header-file", &format!("X-Key={}", file.display())]);
        let outcome = outcome(&mut command);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        let seen = &other.seen()[before];
        assert_eq!(seen.header("x-open"), Some("1"));
        for secret in ["authorization", "proxy-authorization", "cookie", "x-key"] {
            assert_eq!(seen.header(secret).is_some(), kept, "{name}: {secret}");
        }
    }
}
