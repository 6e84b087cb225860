//! The page in a real browser: its lanes and figures, and that nothing from a log runs in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{BAD, example, of_example};
use crate::support::plugin::{outcome, project};
use crate::support::skip::skip;

/// A browser with a profile of its own that talks to nobody.
fn chromium(profile: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["60", "chromium"]).args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--virtual-time-budget=2000",
    ]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.env("HOME", profile).stdin(Stdio::null());
    command
}

fn is_there() -> bool {
    let version = Command::new("chromium").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

/// What the page has become when its script has run.
fn dom(folder: &Path, fragment: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let page = format!("file://{}{fragment}", folder.join("r.html").display());
    let output = chromium(profile.path())
        .args(["--dump-dom", &page])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_page_shows_its_lanes_and_figures_in_a_real_browser() {
    if !is_there() {
        return skip("there is no chromium");
    }
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let mut command = of_example(folder.path());
    command.args(["--mark", "2026-11-23 05:25 deploy", "-o", "r.html"]);
    assert_eq!(outcome(&mut command).code, Some(0));
    let dom = dom(folder.path(), &format!("#bin={}", BAD[0]));
    assert!(
        dom.contains("data-ready=\"yes\""),
        "the script did not run: {dom}"
    );
    for (group, total) in [
        ("status", 15),
        ("error", 15),
        ("check", 5),
        ("requests", 360),
    ] {
        let lane = format!("data-group=\"{group}\" data-total=\"{total}\"");
        assert!(dom.contains(&lane), "{lane}");
    }
    assert!(dom.contains("data-cause=\"client-ports\""));
    // The bin that the link names, with its figure and its lines.
    assert!(dom.contains("2026-11-23 05:10:00 (1 min)"), "{dom}");
    assert!(dom.contains("replies by status: 500 – 3"), "{dom}");
    assert!(
        dom.contains("*600 bind(0.0.0.0) failed (98: Address already in use)"),
        "{dom}"
    );

    let picture = folder.path().join("shot.png");
    let profile = tempfile::tempdir().unwrap();
    let mut command = chromium(profile.path());
    command
        .arg("--window-size=1200,900")
        .arg(format!("--screenshot={}", picture.display()));
    let page = format!("file://{}", folder.path().join("r.html").display());
    assert!(command.arg(page).output().unwrap().status.success());
    assert!(
        fs::metadata(&picture).unwrap().len() > 10_000,
        "an empty picture"
    );
    if std::env::var_os("PROXY_CHECKS_WRITE_DOCS").is_some() {
        let kept = project().join("docs/pictures/incident_timeline.png");
        fs::copy(&picture, kept).expect("the project can be written to");
    }
}

#[test]
fn nothing_from_a_log_runs_in_the_page() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let attacks = [
        "<script>document.title='owned'</script>",
        "</script><script>document.title='owned'</script>",
        "<img src=x onerror=\"document.title='owned'\">",
        "'\"><svg/onload=document.title='owned'>",
        "<!--<script>",
        "\u{2028}document.title='owned'//",
        "javascript:document.title='owned'",
    ];
    let mut text = fs::read_to_string(folder.path().join("access.log")).unwrap();
    for attack in attacks {
        // In the path, in the agent, and as the name of the service.
        text.extend([format!(
            "192.0.2.1 - - [23/Nov/2026:05:59:59 +0000] \"GET /{attack} HTTP/1.1\" 500 9 \"-\" \"{attack}\" {attack} 10.0.0.1:80\n"
        )]);
    }
    fs::write(folder.path().join("access.log"), text).unwrap();
    let alert =
        "[1795413590] SERVICE ALERT: <b onmouseover=x>;<script>x</script>;CRITICAL;SOFT;1;x\n";
    let icinga = folder.path().join("icinga.log");
    fs::write(&icinga, fs::read_to_string(&icinga).unwrap() + alert).unwrap();
    let mark = "2026-11-23 05:30 <script>document.title='owned'</script>";
    let mut command = of_example(folder.path());
    command.args(["--top", "100", "--mark", mark, "-o", "r.html"]);
    assert_eq!(outcome(&mut command).code, Some(0));
    let page = fs::read_to_string(folder.path().join("r.html")).unwrap();
    assert_eq!(
        page.matches("<script").count(),
        2,
        "the data and our script"
    );
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("<img") && !page.contains("<svg/") && !page.contains("<!--"));
    for loads in [" src=", " href=", "url(", "@import", "fetch(", "XMLHttp"] {
        // In the text of a log they may stand.
        let own = page
            .split("id=\"data\">")
            .next()
            .unwrap()
            .replace("&lt;img src=x", "");
        assert!(!own.contains(loads), "{loads}: it needs nothing else");
    }
    if !is_there() {
        return skip("there is no chromium");
    }
    let dom = dom(folder.path(), "#bin=59");
    assert!(dom.contains("data-ready=\"yes\""), "the script did not run");
    assert!(dom.contains("<title>Incident timeline"), "something ran");
    // What the script put in when it showed the minute is text as well.
    assert!(dom.contains("onerror") && !dom.contains("<img"));
}
