//! Cookies: where they go, what servers may do to them, and the file that keeps them; side by side with `check_curl`.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::side_by_side::must_be_there;
use super::transcript::CHECK_CURL;
use super::{Act, FaultServer, GOOD, Outcome, Seen, outcome, page, page_with, plugin};

const FUTURE: &str = "Expires=Fri,%2009%20Jun%202062%2010:18:14%20GMT";

fn answer(seen: &Seen) -> Act {
    let (path, query) = seen.path().split_once('?').unwrap_or((seen.path(), ""));
    match path {
        "/login" => Act::Send(page_with(
            "302 Found",
            "Set-Cookie: session=hush; HttpOnly\r\nLocation: /home\r\n",
            "",
        )),
        "/home"
            if seen
                .header("cookie")
                .is_some_and(|c| c.contains("session=hush")) =>
        {
            Act::Send(page(GOOD, "welcome"))
        }
        "/home" => Act::Send(page("403 Forbidden", "")),
        "/count" => {
            let cookie = seen.header("cookie").unwrap_or_default();
            let count: u32 = cookie.trim_start_matches("n=").parse().unwrap_or(0);
            let header = format!("Set-Cookie: n={}\r\n", count + 1);
            Act::Send(page_with(GOOD, &header, ""))
        }
        "/set" => {
            let headers = query
                .replace("%20", " ")
                .replace("%22", "\"")
                .replace('&', "\r\nSet-Cookie: ");
            Act::Send(page_with(GOOD, &format!("Set-Cookie: {headers}\r\n"), ""))
        }
        "/logout" => Act::Send(page_with(GOOD, "Set-Cookie: session=; Max-Age=0\r\n", "")),
        _ => Act::Send(page(GOOD, "hello")),
    }
}

fn run(server: &FaultServer, jar: &Path, arguments: &[&str]) -> Outcome {
    let mut command = plugin("check_http_retry");
    command.args(["-I", "127.0.0.1", "-p", &server.port()]);
    outcome(command.arg("--cookie-jar").arg(jar).args(arguments))
}

#[test]
fn a_session_begins_in_one_run_and_goes_on_in_the_next() {
    let server = FaultServer::start(answer);
    let folder = tempfile::tempdir().unwrap();
    let jar = folder.path().join("jar");
    let login = run(
        &server,
        &jar,
        &["-u", "/login", "-f", "follow", "--attempts", "1"],
    );
    assert_eq!(login.code, Some(0), "{}", login.text);
    let metadata = std::fs::metadata(&jar).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    let text = std::fs::read_to_string(&jar).unwrap();
    assert!(
        text.ends_with("\n#HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\thush\n"),
        "{text}"
    );
    let home = run(&server, &jar, &["-u", "/home", "-vvv", "--format", "json"]);
    assert_eq!(home.code, Some(0), "{}", home.text);
    assert!(!home.text.contains("hush"), "{}", home.text);
    // Nothing that was new: it is not written again.
    assert_eq!(std::fs::metadata(&jar).unwrap().ino(), metadata.ino());
    let own = run(
        &server,
        &jar,
        &["-u", "/home", "-k", "Cookie: own=1", "--attempts", "1"],
    );
    assert_eq!(own.code, Some(0), "{}", own.text);
    let seen = server.seen();
    assert_eq!(
        seen[seen.len() - 1].header("cookie"),
        Some("session=hush; own=1")
    );
    run(&server, &jar, &["-u", "/logout", "--attempts", "1"]);
    let home = run(&server, &jar, &["-u", "/home", "--attempts", "1"]);
    assert_eq!(home.code, Some(1), "{}", home.text);
    assert!(!std::fs::read_to_string(&jar).unwrap().contains("\tsession"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn probes_of_one_run_take_cookies_over_as_runs_in_a_row_would() {
    let server = FaultServer::start(answer);
    let folder = tempfile::tempdir().unwrap();
    let jar = folder.path().join("jar");
    run(&server, &jar, &["-u", "/count", "--attempts", "4"]);
    run(&server, &jar, &["-u", "/count", "--attempts", "1"]);
    let sent: Vec<_> = server
        .seen()
        .iter()
        .map(|s| s.header("cookie").map(str::to_owned))
        .collect();
    let expected = [None, Some("n=1"), Some("n=2"), Some("n=3"), Some("n=4")];
    assert_eq!(sent, expected.map(|text| text.map(str::to_owned)));
    // Without a file there is nothing that a next run would find.
    let before = server.seen().len();
    let fresh = run(&server, Path::new(""), &["-u", "/count", "--attempts", "3"]);
    assert_eq!(fresh.code, Some(0), "{}", fresh.text);
    assert!(
        server.seen()[before..]
            .iter()
            .all(|seen| seen.header("cookie").is_none())
    );
    let login = run(&server, Path::new(""), &["-u", "/login", "-f", "follow"]);
    assert_eq!(login.code, Some(0), "{}", login.text);
}

#[test]
fn a_cookie_jar_that_is_none_is_left_alone() {
    let server = FaultServer::start(answer);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("notes"), "milk\neggs\n").unwrap();
    std::fs::write(path("real"), "").unwrap();
    symlink(path("real"), path("link")).unwrap();
    std::fs::create_dir(path("folder")).unwrap();
    for (name, words) in [
        ("notes", "line 1 is none of a Netscape cookie file"),
        ("link", "this is a link"),
        ("folder", "no regular file"),
        ("notes/jar", "cannot read it"),
    ] {
        let outcome = run(&server, &path(name), &["-u", "/count"]);
        assert_eq!(outcome.code, Some(3), "{}", outcome.text);
        assert!(outcome.first_line().contains(words), "{}", outcome.text);
        assert!(
            outcome.first_line().contains("--cookie-jar "),
            "{}",
            outcome.text
        );
    }
    assert_eq!(std::fs::read(path("notes")).unwrap(), b"milk\neggs\n");
    assert!(server.seen().is_empty());
    // What the server said counts, and that its cookies are lost is told.
    let nowhere = run(
        &server,
        &path("missing/jar"),
        &["-u", "/count", "--attempts", "1"],
    );
    assert_eq!(nowhere.code, Some(0), "{}", nowhere.text);
    assert!(
        nowhere.text.contains("\n--cookie-jar: cannot write "),
        "{}",
        nowhere.text
    );
    // A link that comes in between is replaced, not followed.
    std::fs::set_permissions(path("real"), std::fs::Permissions::from_mode(0o644)).unwrap();
    run(&server, &path("real"), &["-u", "/count", "--attempts", "1"]);
    assert_eq!(
        std::fs::metadata(path("real")).unwrap().mode() & 0o7777,
        0o600
    );
}

#[test]
fn what_a_server_sets_is_kept_as_check_curl_keeps_it() {
    must_be_there(CHECK_CURL);
    let server = FaultServer::start(answer);
    let folder = tempfile::tempdir().unwrap();
    for (at, query) in [
        format!("/set?a=1;Path=/;{FUTURE}&c=3;secure&d=4;Domain=www.test&e=5;Path=/sub"),
        "/set?bad;Path=/&f=%22q%20v%22&=noname&__Host-x=1;path=/&g=evil;domain=other.test&h=x;domain=.test".to_owned(),
        "/set?del=;Max-Age=0&i=;HttpOnly&j=a=b&k%20=1&m=1;Domain=".to_owned(),
        "/set?n=1;Expires=nonsense&p=1;Domain=WWW.TEST&q=1;Domain=..www.test".to_owned(),
        format!("/set?r=1;{FUTURE};Max-Age=0&s=1;Expires=Mon,%2001-Jan-2001%2000:00:01%20GMT&t=1;{FUTURE};Secure;Path=/x"),
        "/set?__Secure-u=1&__Secure-v=1;Secure&__Host-w=1;Secure;Path=/&__Host-x=1;Secure;Path=/;Domain=www.test".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        for host in ["www.test", "localhost", "127.0.0.1", "a.www.test"] {
            let ask = |command: &mut Command, path: &str, jar: &Path| {
                let output = command
                    .args(["-I", "127.0.0.1", "-H", host, "-p", &server.port(), "-u", path])
                    .arg(format!("--cookie-jar={}", jar.display()))
                    .output()
                    .unwrap();
                assert_eq!(output.status.code(), Some(0), "{command:?} {output:?}");
            };
            let jars = ["curl", "ours"].map(|who| folder.path().join(format!("{who}{at}{host}")));
            for path in [&**query, "/sub/page", "/"] {
                ask(&mut Command::new(CHECK_CURL), path, &jars[0]);
                ask(plugin("check_http_retry").args(["--attempts", "1"]), path, &jars[1]);
                let seen = server.seen();
                let [.., theirs, ours] = &*seen else { panic!() };
                assert_eq!(cookies(ours), cookies(theirs), "{host} {query} {path}");
            }
            assert_eq!(lines(&jars[1]), lines(&jars[0]), "{host} {query}");
            // Each reads what the other one has written.
            ask(&mut Command::new(CHECK_CURL), "/sub/x", &jars[1]);
            ask(plugin("check_http_retry").args(["--attempts", "1"]), "/sub/x", &jars[0]);
            let seen = server.seen();
            let [.., theirs, ours] = &*seen else { panic!() };
            assert_eq!(cookies(ours), cookies(theirs), "{host} {query}");
        }
    }
}

/// In which order those of equal rank are sent and stored is nobody's business.
fn cookies(seen: &Seen) -> Vec<&str> {
    let mut cookies: Vec<_> = seen
        .header("cookie")
        .unwrap_or_default()
        .split("; ")
        .collect();
    cookies.sort_unstable();
    cookies
}

fn lines(jar: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(jar).unwrap_or_default();
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains('\t'))
        // It writes a domain down as it was told.
        .map(str::to_lowercase)
        .collect();
    lines.sort_unstable();
    lines
}
