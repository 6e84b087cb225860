//! The page in a real browser: its lanes and figures, what a hand does with it, and that nothing from a log runs in it.

use std::fs;
use std::path::Path;

use super::{BAD, example, of_example, timeline};
use crate::support::browser::{Browser, pixels};
use crate::support::plugin::{outcome, project};
use crate::support::skip::skip;

/// The width of the windows, in pixels.
const WIDTH: u32 = 1200;

/// The lane of the status 500, and that of the ports.
pub const STATUS: &str = "[data-group=status] .plot";
pub const PORTS: &str = "[data-group=ports] .plot";

/// Where the middle of a bin is in a plot that shows all 60.
pub fn middle(bin: u32) -> f64 {
    (f64::from(bin) + 0.5) / 60.0
}

/// The page of the example with a mark, in a browser; `None` where there is none.
pub fn page_of(folder: &Path, more: &[&str]) -> Option<Browser> {
    if let Err(why) = Browser::possible() {
        skip(&why);
        return None;
    }
    let mut command = of_example(folder);
    command.args(["--mark", "2026-11-23 05:25 deploy", "-o", "r.html"]);
    assert_eq!(outcome(command.args(more)).code, Some(0));
    let mut browser = Browser::start(WIDTH, 900);
    browser.open(&folder.join("r.html"), "");
    Some(browser)
}

/// That the script ran, that nothing went wrong, and that the page asked for nothing but itself.
pub fn assert_well(browser: &mut Browser) {
    assert_eq!(
        browser.text("document.documentElement.dataset.ready"),
        "yes"
    );
    assert!(browser.trouble().is_empty(), "{:?}", browser.trouble());
    let asked = browser.requests();
    let is_itself = |address: &String| address.contains("/r.html");
    assert!(asked.len() == 1 && asked.iter().all(is_itself), "{asked:?}");
}

fn view(browser: &mut Browser) -> String {
    let views = "[...new Set([...document.querySelectorAll('.plot')].map(plot => plot.getAttribute('viewBox')))].join(' and ')";
    browser.text(views)
}

#[test]
fn the_page_shows_its_lanes_and_figures_in_a_real_browser() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let Some(mut browser) = page_of(folder.path(), &[]) else {
        return;
    };
    assert_well(&mut browser);
    for (group, total, figures) in [
        ("status", "15", "15 in all, most 3"),
        ("error", "15", "15 in all, most 3"),
        ("check", "5", "5 in all, most 1"),
        ("requests", "360", "360 in all, most 6"),
    ] {
        let row = format!("document.querySelector('[data-group={group}]')");
        assert_eq!(browser.text(&format!("{row}.dataset.total")), total);
        let shown = browser.text(&format!("{row}.querySelector('.figures').textContent"));
        assert_eq!(shown, figures);
    }
    assert_eq!(
        browser.text("document.querySelector('.cause.best').dataset.cause"),
        "client-ports"
    );
    assert_eq!(
        browser.text("document.querySelector('.flags').textContent"),
        "deploy"
    );

    let picture = browser.screenshot();
    assert!(picture.len() > 10_000, "an empty picture");
    if std::env::var_os("PROXY_CHECKS_WRITE_DOCS").is_some() {
        let kept = project().join("docs/pictures/incident_timeline.png");
        fs::write(kept, picture).expect("the project can be written to");
    }

    // The bin that a link names, with its figure and its lines.
    let address = format!("#bin={}", BAD[0]);
    browser.open(Path::new("/"), "");
    browser.open(&folder.path().join("r.html"), &address);
    let told = browser.text("document.getElementById('detail').innerText");
    for text in [
        "2026-11-23 05:10:00 (1 min)",
        "replies by status: 500 – 3",
        "*600 bind(0.0.0.0) failed (98: Address already in use)",
    ] {
        assert!(told.contains(text), "{text} not in {told}");
    }
}

#[test]
fn ticks_and_marks_stand_where_their_times_are() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let mark = [
        "--mark",
        "2026-11-23 05:25:30 second",
        "--mark",
        "2026-11-23 05:58 last",
    ];
    let Some(mut browser) = page_of(folder.path(), &mark) else {
        return;
    };
    // The middle of each tick's text, and of each mark's line, in bins.
    let ticks = "(() => { const box = document.querySelector('.plot').getBoundingClientRect(); \
        const bin = (x) => (x - box.left) / box.width; \
        return [...document.querySelectorAll('.axis.top .ticks span')].map(tick => { const own = tick.getBoundingClientRect(); return [tick.textContent, bin((own.left + own.right) / 2)]; }); })()";
    let check = |browser: &mut Browser, from: f64, count: f64| {
        let found = browser.value(ticks);
        let found = found.as_array().expect("a list");
        assert!((2..=9).contains(&found.len()), "{found:?}");
        for tick in found {
            let minute: f64 = tick[0].as_str().unwrap()[3..5].parse().unwrap();
            let stands = from + tick[1].as_f64().unwrap() * count;
            assert!((stands - minute).abs() < 0.1, "{tick} stands at {stands}");
        }
    };
    check(&mut browser, 0.0, 60.0);
    let marks = browser.value("(() => { const box = document.querySelector('.plot').getBoundingClientRect(); \
        return [...document.querySelectorAll('.over .mark')].map(mark => (mark.getBoundingClientRect().left - box.left) / box.width * 60); })()");
    for (at, bin) in [25.0, 25.5, 58.0].into_iter().enumerate() {
        let stands = marks[at].as_f64().unwrap();
        assert!((stands - bin).abs() < 0.1, "mark {at} at {stands}");
    }
    // Texts at the same place stand below each other, and none leaves the plot.
    let tops =
        browser.value("[...document.querySelectorAll('.flags span')].map(flag => flag.style.top)");
    assert_eq!(tops, serde_json::json!(["0rem", "1.2rem", "0rem"]));
    let outside = browser.value("(() => { const box = document.querySelector('.plot').getBoundingClientRect(); \
        return [...document.querySelectorAll('.flags span')].filter(flag => { const own = flag.getBoundingClientRect(); return own.left < box.left - 1 || own.right > box.right + 1; }).length; })()");
    assert_eq!(outside, 0);
    let (from, to) = (
        browser.point(STATUS, middle(20), 0.5),
        browser.point(STATUS, middle(30), 0.5),
    );
    browser.drag(from, to);
    check(&mut browser, 20.0, 11.0);
    assert_eq!(
        browser.text("document.querySelectorAll('.flags span')[2].style.display"),
        "none"
    );
}

#[test]
fn pointing_at_a_bar_shows_the_figures_of_its_minute() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    // For some minutes nobody looked at the ports.
    let ports = folder.path().join("ports.jsonl");
    let text = fs::read_to_string(&ports).unwrap();
    let kept = text
        .split_inclusive('\n')
        .filter(|line| !line.contains("T05:3"));
    fs::write(&ports, kept.collect::<String>()).unwrap();
    let Some(mut browser) = page_of(folder.path(), &[]) else {
        return;
    };
    let figures = |browser: &mut Browser, group: &str| {
        browser.text(&format!(
            "document.querySelector('[data-group={group}] .figures').textContent"
        ))
    };
    let place = browser.point(STATUS, middle(10), 0.5);
    browser.point_at(place);
    assert_eq!(browser.style("#tip", "display"), "block");
    assert_eq!(
        browser.text("document.getElementById('tip').textContent"),
        "2026-11-23 05:10:00  replies by status: 500  3"
    );
    for (group, figure) in [
        ("status", "3"),
        ("requests", "6"),
        ("ports", "100 %"),
        ("check", "1"),
    ] {
        assert_eq!(figures(&mut browser, group), figure, "{group}");
    }
    assert_eq!(browser.style(".over .cursor", "display"), "block");
    let place = browser.point(PORTS, middle(32), 0.5);
    browser.point_at(place);
    let told = browser.text("document.getElementById('tip').textContent");
    assert!(
        told.ends_with("net:[4026531840] bind  not measured"),
        "{told}"
    );
    assert_eq!(figures(&mut browser, "status"), "0");
    let gap = browser.text("document.querySelector('[data-group=ports] .gap').getAttribute('d')");
    assert_eq!(gap, "M30 0H40V100H30Z");
    // At the edge of the window it stays within.
    let place = browser.point(STATUS, 0.999, 0.5);
    browser.point_at(place);
    let right =
        browser.value("document.getElementById('tip').getBoundingClientRect().right - innerWidth");
    assert!(right.as_f64().unwrap() <= 0.0, "{right}");
    browser.point_at((2.0, 2.0));
    assert_eq!(browser.style("#tip", "display"), "none");
    assert_eq!(browser.style(".over .cursor", "display"), "none");
    assert_eq!(figures(&mut browser, "status"), "15 in all, most 3");
    assert_well(&mut browser);
}

#[test]
fn a_click_brings_the_raw_lines_of_its_minute_and_keys_walk_the_failures() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let Some(mut browser) = page_of(folder.path(), &[]) else {
        return;
    };
    let head = |browser: &mut Browser| {
        let shown = browser.text("getComputedStyle(document.getElementById('detail')).display");
        if shown == "none" {
            return shown;
        }
        browser.text("document.querySelector('#detail h3').textContent")
    };
    assert_eq!(head(&mut browser), "none");
    // A hand that trembles by some pixels still clicks.
    let (x, y) = browser.point(STATUS, middle(10), 0.5);
    browser.drag((x, y), (x + 4.0, y + 2.0));
    assert_eq!(head(&mut browser), "2026-11-23 05:10:00 (1 min)");
    assert_eq!(view(&mut browser), "0 0 60 100");
    assert_eq!(browser.text("location.hash"), "#bin=10");
    // It is where one looks, not below all lanes.
    let seen = browser.value("(() => { const box = document.getElementById('detail').getBoundingClientRect(); return box.height > 50 && box.top > 0 && box.bottom <= innerHeight + 1; })()");
    assert_eq!(seen, true);
    let told = browser
        .value("[...document.querySelectorAll('#detail .line')].map(line => line.textContent)");
    for (name, of_minute) in [
        ("error.log", "2026/11/23 05:10"),
        ("access.log", "2026:05:10"),
    ] {
        let text = fs::read_to_string(folder.path().join(name)).unwrap();
        let lines = text.lines().filter(|line| line.contains(of_minute));
        let lines: Vec<&str> = lines.filter(|line| !line.contains("\" 200 ")).collect();
        assert_eq!(lines.len(), 3);
        for line in lines {
            assert!(
                told.as_array().unwrap().iter().any(|shown| shown == line),
                "{line} not in {told}"
            );
        }
    }
    browser.key("n");
    assert_eq!(head(&mut browser), "2026-11-23 05:11:00 (1 min)");
    browser.key("n");
    assert_eq!(head(&mut browser), "2026-11-23 05:25:00 (1 min)");
    browser.key("p");
    assert_eq!(head(&mut browser), "2026-11-23 05:11:00 (1 min)");
    let next = browser.point("#later", 0.5, 0.5);
    browser.click(next);
    assert_eq!(head(&mut browser), "2026-11-23 05:25:00 (1 min)");
    browser.key("Escape");
    assert_eq!(head(&mut browser), "none");
    assert_eq!(browser.text("location.hash"), "");
    // A minute without a failure has its figures all the same.
    let place = browser.point(STATUS, middle(3), 0.5);
    browser.click(place);
    let told = browser.text("document.getElementById('lines').innerText");
    assert!(
        told.contains("all requests: requests – 6")
            && told.contains("No line of this bin was kept."),
        "{told}"
    );
    assert_well(&mut browser);
}

#[test]
fn the_page_zooms_by_drag_by_wheel_and_by_key() {
    let folder = tempfile::tempdir().unwrap();
    example(folder.path());
    let Some(mut browser) = page_of(folder.path(), &[]) else {
        return;
    };
    assert_eq!(view(&mut browser), "0 0 60 100");
    assert_eq!(
        browser.value("document.getElementById('whole').disabled"),
        true
    );
    let (from, to) = (
        browser.point(STATUS, middle(30), 0.5),
        browser.point(STATUS, middle(20), 0.5),
    );
    browser.drag(from, to);
    assert_eq!(view(&mut browser), "20 0 11 100");
    assert_eq!(browser.style("#detail", "display"), "none");
    // What is pointed at is what is seen.
    let place = browser.point(STATUS, 5.5 / 11.0, 0.5);
    browser.point_at(place);
    let told = browser.text("document.getElementById('tip').textContent");
    assert_eq!(told, "2026-11-23 05:25:00  replies by status: 500  3");
    browser.key("ArrowRight");
    assert_eq!(view(&mut browser), "21 0 11 100");
    browser.key("ArrowLeft");
    browser.key("ArrowLeft");
    assert_eq!(view(&mut browser), "19 0 11 100");
    browser.key("+");
    assert_eq!(view(&mut browser), "21 0 7 100");
    // The browser's own keys stay its own.
    browser.key_with("-", 2);
    browser.key_with("ArrowLeft", 1);
    assert_eq!(view(&mut browser), "21 0 7 100");
    browser.key("-");
    assert_eq!(view(&mut browser), "19 0 11 100");
    let button = browser.point("#whole", 0.5, 0.5);
    browser.click(button);
    assert_eq!(view(&mut browser), "0 0 60 100");
    let place = browser.point(STATUS, middle(30), 0.5);
    browser.wheel(place, -100.0);
    assert_eq!(view(&mut browser), "10 0 40 100");
    browser.wheel(place, 100.0);
    assert_eq!(view(&mut browser), "0 0 60 100");
    // No further in than five, and never out of the window.
    for _ in 0..12 {
        browser.key("+");
    }
    browser.key("ArrowRight");
    assert!(view(&mut browser).ends_with(" 0 5 100"));
    browser.key("0");
    browser.key("ArrowRight");
    browser.key("-");
    assert_eq!(view(&mut browser), "0 0 60 100");
    assert_well(&mut browser);
}

/// A day of minutes has two bins to a pixel; one failure in it has to be seen all the same, and to be hit.
#[test]
fn one_failing_minute_of_two_days_is_seen_and_hit() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = Vec::new();
    for minute in 0..2880 {
        let status = if minute == 1001 { 500 } else { 200 };
        let (day, hour) = (22 + minute / 1440, minute / 60 % 24);
        text.push(format!(
            "192.0.2.1 - - [{day}/Nov/2026:{hour:02}:{:02}:00 +0000] \"GET / HTTP/1.1\" {status} 9 \"-\" \"-\"\n",
            minute % 60
        ));
    }
    fs::write(folder.path().join("access.log"), text.concat()).unwrap();
    let mut command = timeline();
    command.current_dir(folder.path());
    command.args(["-a", "access.log", "-o", "r.html"]);
    assert_eq!(outcome(&mut command).code, Some(0));
    if let Err(why) = Browser::possible() {
        return skip(&why);
    }
    let mut browser = Browser::start(WIDTH, 900);
    browser.open(&folder.path().join("r.html"), "");
    assert_eq!(view(&mut browser), "0 0 2880 100");
    browser.point(STATUS, 0.5, 0.5);
    let red = pixels(&browser.picture_of(STATUS));
    let red = red
        .iter()
        .filter(|[red, green, blue]| *red > 150 && *green < 70 && *blue < 70);
    assert!(red.count() >= 15, "the bar is as pale as the paper");
    let (x, y) = browser.point(STATUS, 1001.5 / 2880.0, 0.5);
    browser.point_at((x + 1.0, y));
    let told = browser.text("document.getElementById('tip').textContent");
    assert_eq!(told, "2026-11-22 16:41:00  replies by status: 500  1");
    browser.drag((x - 1.0, y), (x + 1.0, y));
    assert_eq!(view(&mut browser), "0 0 2880 100");
    assert_eq!(browser.text("location.hash"), "#bin=1001");
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
    if let Err(why) = Browser::possible() {
        return skip(&why);
    }
    let mut browser = Browser::start(WIDTH, 900);
    browser.open(&folder.path().join("r.html"), "#bin=59");
    assert_well(&mut browser);
    let title = browser.text("document.title");
    assert!(
        title.starts_with("Incident timeline"),
        "something ran: {title}"
    );
    // What the script put in when it showed the minute is text as well.
    let told = browser.text("document.getElementById('detail').textContent");
    assert!(told.contains("onerror"), "{told}");
    assert_eq!(
        browser.value("document.querySelectorAll('img, b').length"),
        0
    );
    assert_eq!(
        browser.value("document.querySelectorAll('script').length"),
        2
    );
}
