//! The page's looks in a real browser: light, dark, on narrow screens and on paper.

use std::path::Path;

use super::example;
use super::page::{PORTS, STATUS, assert_well, middle, page_of};
use crate::support::browser::{Browser, contrast, plain_streams};

/// The example's page with the lines of one minute shown; `None` where there is no browser.
fn with_a_minute_opened(folder: &Path) -> Option<Browser> {
    example(folder);
    let mut browser = page_of(folder, &[])?;
    let place = browser.point(STATUS, middle(10), 0.5);
    browser.click(place);
    Some(browser)
}

#[test]
fn it_can_be_read_in_the_light_and_in_the_dark_and_on_narrow_screens() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut browser) = with_a_minute_opened(folder.path()) else {
        return;
    };
    let mut papers = Vec::new();
    for scheme in ["light", "dark"] {
        browser.media("screen", scheme);
        let paper = browser.style("body", "backgroundColor");
        for text in [
            "body",
            ".soft",
            ".figures",
            ".flags",
            ".ticks",
            "#detail .line",
            "h3",
        ] {
            let ratio = contrast(&browser.style(text, "color"), &paper);
            assert!(ratio >= 4.5, "{scheme}: {text} on {paper}: {ratio}");
        }
        let track = browser.style(STATUS, "backgroundColor");
        for plot in [STATUS, PORTS] {
            let ratio = contrast(&browser.style(&format!("{plot} .bars"), "fill"), &track);
            assert!(ratio >= 3.0, "{scheme}: {plot}: {ratio}");
        }
        let (ink, tip) = (
            browser.style("#tip", "color"),
            browser.style("#tip", "backgroundColor"),
        );
        assert!(contrast(&ink, &tip) >= 4.5, "{ink} {tip}");
        assert_eq!(browser.style("#detail", "backgroundColor"), paper);
        papers.push(paper);
    }
    assert_eq!(papers, ["rgb(255, 255, 255)", "rgb(20, 24, 28)"]);
    for width in [1280, 800, 390] {
        browser.resize(width, 900);
        let wide = browser.value("document.documentElement.scrollWidth - innerWidth");
        assert!(wide.as_i64().unwrap() <= 0, "{width}: {wide} too wide");
        let plot = browser.value("document.querySelector('.plot').clientWidth");
        assert!(
            plot.as_u64().unwrap() * 10 >= u64::from(width) * 3,
            "{width}: a plot of {plot}"
        );
        let cut = browser.value("[...document.querySelectorAll('.figures')].filter(cell => cell.scrollWidth > cell.clientWidth).length");
        assert_eq!(cut, 0, "{width}");
        let names = browser.value("Math.min(...[...document.querySelectorAll('.row > .name')].map(cell => cell.clientWidth))");
        assert!(names.as_u64().unwrap() >= 100, "{width}: names of {names}");
    }
    assert_well(&mut browser);
}

#[test]
fn it_prints_in_dark_ink_on_white_paper() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut browser) = with_a_minute_opened(folder.path()) else {
        return;
    };
    browser.media("print", "dark");
    assert_eq!(
        browser.style("body", "backgroundColor"),
        "rgb(255, 255, 255)"
    );
    assert_eq!(browser.style("body", "color"), "rgb(27, 31, 36)");
    assert_eq!(
        browser.style(&format!("{STATUS} .bars"), "fill"),
        "rgb(180, 35, 24)"
    );
    for gone in ["#whole", "#detail", "#tip", ".over .cursor"] {
        let shown = browser.value(&format!(
            "document.querySelector('{gone}').checkVisibility()"
        ));
        assert_eq!(shown, false, "{gone}");
    }
    // A4 at 96 dots per inch, less its margins.
    browser.resize(718, 1000);
    let wide = browser.value("document.documentElement.scrollWidth - innerWidth");
    assert!(wide.as_i64().unwrap() <= 0, "{wide} too wide");

    browser.media("", "dark");
    let paper = browser.print();
    assert!(paper.starts_with(b"%PDF-"), "no PDF");
    let drawn = plain_streams(&paper);
    let fills = |[red, green, blue]: [u8; 3]| {
        // As in `.7059 .1373 .0941 rg`, the fill of what follows.
        drawn.lines().any(|line| {
            let words = line
                .strip_suffix(" rg")
                .into_iter()
                .flat_map(|line| line.rsplit(' '));
            let numbers: Vec<f64> = words.take(3).filter_map(|word| word.parse().ok()).collect();
            let wanted = [blue, green, red].map(|part| f64::from(part) / 255.0);
            numbers.len() == 3
                && numbers
                    .iter()
                    .zip(wanted)
                    .all(|(one, other)| (one - other).abs() < 0.003)
        })
    };
    assert!(
        fills([180, 35, 24]) && fills([37, 99, 168]),
        "bars without their colours"
    );
    assert!(fills([241, 244, 246]), "tracks without their colour");
    assert!(
        !fills([20, 24, 28]) && !fills([255, 122, 107]),
        "dark colours on paper"
    );
    let pages = paper
        .windows(11)
        .filter(|part| part.starts_with(b"/Type /Page") && part != b"/Type /Pages");
    let pages = pages.count();
    assert!((1..=3).contains(&pages), "{pages} pages");
}
