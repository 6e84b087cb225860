//! The report as one page: no network, works without a script, and with one can be zoomed and asked.
//!
//! A log line is hostile. All text is escaped here or put in by the script as text, the data stands in a block that is
//! no script, and the page's policy lets nothing run but the one script that carries this page's own number.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use serde_json::json;

use super::document::{Document, width};
use super::plots::plots;
use super::words::{many, p_value, percent, times};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub fn html(document: &Document) -> anyhow::Result<String> {
    let mut page = String::new();
    // Keys that nobody knew when the lines were written.
    let number = format!(
        "{:016x}{:016x}",
        RandomState::new().build_hasher().finish(),
        RandomState::new().build_hasher().finish()
    );
    put(
        &mut page,
        &format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{number}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Incident timeline {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
            escape(&document.window.from)
        ),
    );
    header(document, &mut page);
    plots(document, &mut page);
    causes(document, &mut page);
    coincidences(document, &mut page);
    services(document, &mut page);
    sources(document, &mut page);
    let data = json!({
        "window": {
            "bins": document.window.bins,
            "labels": document.window.labels,
            "width": width(document.window.step),
            "zone": document.window.zone(),
            "marks": document.marks.iter().filter_map(|mark| mark.bin.map(|_| mark.place)).collect::<Vec<_>>(),
        },
        "lanes": document.lanes.iter().map(|row| json!({
            "title": row.title,
            "name": row.name,
            "unit": row.unit,
            "failure": row.failure,
            "values": row.values,
            "lines": row.lines,
        })).collect::<Vec<_>>(),
    });
    let data = serde_json::to_string(&data)?;
    // Within a script element only `<` can end it.
    let data = data
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026");
    put(
        &mut page,
        &format!(
            "<div id=\"tip\"></div>\n<script type=\"application/json\" id=\"data\">{data}</script>\n<script nonce=\"{number}\">\n{SCRIPT}</script>\n</body>\n</html>\n"
        ),
    );
    Ok(page)
}

/// Adds text that is markup.
pub fn put(page: &mut String, text: &str) {
    page.push_str(text);
}

/// Text as HTML shows it.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Adds an element that holds this text.
pub fn element(page: &mut String, name: &str, text: &str) {
    put(page, &format!("<{name}>{}</{name}>\n", escape(text)));
}

fn header(document: &Document, page: &mut String) {
    element(page, "h1", "Incident timeline");
    put(
        page,
        &format!(
            "<p id=\"summary\"><strong>{}</strong></p>\n",
            escape(&document.summary)
        ),
    );
    let window = &document.window;
    element(
        page,
        "p",
        &format!(
            "{} to {}, {} of {}",
            window.from,
            window.to,
            many(window.bins as u64, "bin"),
            width(window.step)
        ),
    );
    if let Some(first) = &document.first {
        put(
            page,
            &format!(
                "<p>First event: {} {} {}</p>\n<div class=\"line soft\" id=\"first\">{}</div>\n",
                escape(&first.at),
                escape(first.group),
                escape(&first.name),
                escape(&first.line)
            ),
        );
    }
}

fn causes(document: &Document, page: &mut String) {
    put(
        page,
        "<h2>Candidate causes</h2>\n<p class=\"soft\">What coincides; not proof.</p>\n",
    );
    for (number, cause) in document.causes.iter().enumerate() {
        let best = if number == 0 && cause.score > 0.0 {
            " best"
        } else {
            ""
        };
        let share = cause.score * 100.0;
        put(
            page,
            &format!(
                "<div class=\"cause{best}\" data-cause=\"{}\"><p><strong>{}</strong> {share:.0} % <span class=\"bar\" style=\"width:{:.1}rem\"></span> <span class=\"soft\">{}</span></p>\n<ul>\n",
                cause.name,
                cause.name,
                cause.score * 10.0,
                escape(cause.meaning)
            ),
        );
        for (sign, texts) in [("+", &cause.speaks_for), ("&minus;", &cause.speaks_against)] {
            for text in texts {
                put(page, &format!("<li>{sign} {}</li>\n", escape(text)));
            }
        }
        put(page, "</ul>\n");
        if cause.score > 0.0 && (number == 0 || cause.score >= 0.2) {
            for text in &cause.next {
                put(page, &format!("<pre>{}</pre>\n", escape(text)));
            }
        }
        put(page, "</div>\n");
    }
}

/// A table; columns whose heading begins with `#` hold numbers.
fn table(page: &mut String, heads: &[&str], rows: &[Vec<String>]) {
    let kind = |at: usize| {
        if heads[at].starts_with('#') {
            " class=\"n\""
        } else {
            ""
        }
    };
    put(page, "<div class=\"scroll\"><table>\n<thead><tr>");
    for (at, head) in heads.iter().enumerate() {
        put(
            page,
            &format!(
                "<th{}>{}</th>",
                kind(at),
                escape(head.trim_start_matches('#'))
            ),
        );
    }
    put(page, "</tr></thead>\n<tbody>\n");
    for row in rows {
        put(page, "<tr>");
        for (at, cell) in row.iter().take(heads.len()).enumerate() {
            put(page, &format!("<td{}>{}</td>", kind(at), escape(cell)));
        }
        put(page, "</tr>\n");
    }
    put(page, "</tbody></table></div>\n");
}

/// A p-value where the heading says that it is one.
fn bare(p: f64) -> String {
    let text = p_value(p);
    text.strip_prefix("p = ")
        .unwrap_or(&text)
        .replace("p < ", "< ")
}

fn coincidences(document: &Document, page: &mut String) {
    if document.coincidences.is_empty() {
        return;
    }
    put(
        page,
        "<h2>What rises together</h2>\n<p class=\"soft\">Fisher&#39;s exact test, one-sided, times the pairs compared; \
               shifted: the share of all shifts of one against the other that meet as often.</p>\n",
    );
    let rows: Vec<Vec<String>> = document
        .coincidences
        .iter()
        .map(|pair| {
            let found = &pair.figures;
            vec![
                pair.names[0].clone(),
                pair.names[1].clone(),
                format!(
                    "{} of {} and {}",
                    found.both, found.a_raised, found.b_raised
                ),
                format!("{:.1}", found.expected),
                times(pair.times).replace(" times as often as chance", " \u{d7}"),
                bare(pair.p_adjusted),
                found.p_shift.map_or(String::new(), |p| format!("{p:.3}")),
                match found.best_lag {
                    0 => "0".to_owned(),
                    lag => format!("{lag:+} ({})", found.best_lag_both),
                },
            ]
        })
        .collect();
    table(
        page,
        &[
            "this",
            "coincides with",
            "#bins",
            "#by chance",
            "#as often",
            "#p",
            "#shifted",
            "#best lag",
        ],
        &rows,
    );
}

fn services(document: &Document, page: &mut String) {
    if document.services.is_empty() {
        return;
    }
    put(page, "<h2>Services</h2>\n");
    let rows: Vec<Vec<String>> = document
        .services
        .iter()
        .map(|service| {
            vec![
                service.name.clone(),
                service.failed.to_string(),
                service.tried.to_string(),
                percent(service.failed, service.tried),
                service.origin.to_owned(),
            ]
        })
        .collect();
    table(
        page,
        &["service", "#failed", "#tried", "#share", "told by"],
        &rows,
    );
    if document.common.is_empty() {
        return;
    }
    put(page, "<h2>What failures have in common</h2>\n");
    let rows: Vec<Vec<String>> = document
        .common
        .iter()
        .map(|one| {
            vec![
                format!("{} {}", one.dimension, one.value),
                format!("{} of {}", one.failed, one.tried),
                format!("{} of {}", one.failed_without, one.tried_without),
                bare(one.p_value),
                format!("{} of {}", one.failing_services[0], one.failing_services[1]),
                format!("{} of {}", one.well_services[0], one.well_services[1]),
                one.origin.to_owned(),
            ]
        })
        .collect();
    table(
        page,
        &[
            "what",
            "#failed with it",
            "#without it",
            "#p",
            "#failing services",
            "#well services",
            "told by",
        ],
        &rows,
    );
}

fn sources(document: &Document, page: &mut String) {
    put(page, "<h2>Sources</h2>\n");
    let rows: Vec<Vec<String>> = document
        .sources
        .iter()
        .map(|source| {
            vec![
                source.kind.to_owned(),
                source.path.clone(),
                source.used.to_string(),
                source.lines.to_string(),
                source.unparsed.to_string(),
                source.trouble.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table(
        page,
        &[
            "kind",
            "file",
            "#lines in the window",
            "#read",
            "#not understood",
            "",
        ],
        &rows,
    );
    for note in &document.notes {
        put(page, &format!("<p class=\"soft\">{}</p>\n", escape(note)));
    }
    put(
        page,
        &format!(
            "<p class=\"soft\">{} {}, {}</p>\n",
            document.tool,
            document.version,
            escape(&document.generated)
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<a href='x\">&"), "&lt;a href=&#39;x&quot;&gt;&amp;");
    }
}
