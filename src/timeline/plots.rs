//! The lanes of the page: each bar of a lane is a part of one path, so that a zoom changes nothing but a `viewBox`. What goes
//! through all lanes, the ticks and the marks, lies over them.

use std::fmt::Write;

use super::document::{Document, Row};
use super::html::{element, escape, put};
use super::ticks::ticks;
use super::words::grouped;

/// How many ticks the axis has at most.
const TICKS: i64 = 8;

/// Behind this share of the width a mark's text stands before its line.
const LATE: f64 = 60.0;

/// The lanes with their axis, and the place for what a click brings.
pub fn plots(document: &Document, page: &mut String) {
    put(
        page,
        "<h2>What happened</h2>\n<p class=\"soft screen\">Point for figures, click for raw lines, drag or Ctrl and wheel to zoom. Keys: + - zoom, arrows \
         move, n and p go to the next and previous failure, Esc leaves. \
         <button id=\"whole\" type=\"button\">whole window</button></p>\n",
    );
    for mark in document.marks.iter().filter(|mark| mark.bin.is_none()) {
        let text = format!("outside of the window: {} {}", mark.at, mark.text);
        put(page, &format!("<p class=\"soft\">{}</p>\n", escape(&text)));
    }
    put(page, "<div class=\"lanes\">\n");
    axis(document, "top", page);
    flags(document, page);
    let mut title = "";
    for (number, row) in document.lanes.iter().enumerate() {
        if row.title != title {
            title = row.title;
            element(page, "h3", &row.heading());
        }
        lane(document, number, row, page);
    }
    axis(document, "end", page);
    over(document, page);
    put(
        page,
        "</div>\n<aside id=\"detail\" class=\"screen\" aria-live=\"polite\" hidden><div class=\"head\"><h3></h3>\
         <button id=\"earlier\" type=\"button\">previous failure</button> <button id=\"later\" type=\"button\">next failure</button> \
         <button id=\"close\" type=\"button\">close</button></div><div id=\"lines\"></div></aside>\n",
    );
}

/// Where a bin begins, in percent of the width.
fn share(document: &Document, bin: f64) -> f64 {
    bin / document.window.bins.max(1) as f64 * 100.0
}

fn axis(document: &Document, place: &str, page: &mut String) {
    let window = &document.window;
    let date = window
        .labels
        .first()
        .map_or("", |label| label.get(..10).unwrap_or(label));
    let date = format!("{date} {}", window.zone().unwrap_or_default());
    put(
        page,
        &format!(
            "<div class=\"row axis {place}\"><span class=\"date\">{}</span><div class=\"ticks\">",
            escape(date.trim_end())
        ),
    );
    for (bin, text) in ticks(window, TICKS) {
        let left = share(document, bin as f64);
        put(
            page,
            &format!("<span style=\"left:{left:.3}%\">{}</span>", escape(&text)),
        );
    }
    put(page, "</div><span></span></div>\n");
}

/// What the marks say, each in a line of its own until the script finds out which ones have room beside each other.
fn flags(document: &Document, page: &mut String) {
    let marks = document.marks.iter();
    let marks: Vec<_> = marks
        .filter(|mark| mark.bin.is_some())
        .map(|mark| (mark, share(document, mark.place)))
        .collect();
    if marks.is_empty() {
        put(page, "<div class=\"flags\" hidden></div>\n");
        return;
    }
    put(
        page,
        &format!(
            "<div class=\"row\"><span class=\"name soft\">marks</span><div class=\"flags\" style=\"height:{:.1}rem\">",
            marks.len() as f64 * 1.2
        ),
    );
    for (line, (mark, left)) in marks.into_iter().enumerate() {
        let kind = if left > LATE { " class=\"end\"" } else { "" };
        put(
            page,
            &format!(
                "<span{kind} style=\"left:{left:.3}%;top:{:.1}rem\" title=\"{}\">{}</span>",
                line as f64 * 1.2,
                escape(&mark.at),
                escape(&mark.text)
            ),
        );
    }
    put(page, "</div><span></span></div>\n");
}

fn over(document: &Document, page: &mut String) {
    put(page, "<div class=\"over\">");
    let lines = ticks(&document.window, TICKS).into_iter();
    let lines = lines.map(|(bin, _)| ("grid", bin as f64));
    let marks = document.marks.iter().filter(|mark| mark.bin.is_some());
    for (kind, bin) in lines.chain(marks.map(|mark| ("mark", mark.place))) {
        let left = share(document, bin);
        put(
            page,
            &format!("<i class=\"{kind}\" style=\"left:{left:.3}%\"></i>"),
        );
    }
    put(
        page,
        "<i class=\"chosen\"></i><i class=\"cursor\"></i></div>\n",
    );
}

fn lane(document: &Document, number: usize, row: &Row, page: &mut String) {
    let bins = document.window.bins;
    let kind = if row.failure { "plot failure" } else { "plot" };
    let figures = match &row.peak {
        Some(peak) if row.unit.is_empty() => {
            format!(
                "{} in all, most {}",
                grouped(row.total),
                grouped(peak.value)
            )
        }
        Some(peak) => format!("most {} {}", grouped(peak.value), row.unit),
        None => String::new(),
    };
    put(
        page,
        &format!(
            "<div class=\"row\" data-group=\"{}\" data-total=\"{}\"><span class=\"name\" title=\"{name}\">{name}</span>\
         <svg class=\"{kind}\" data-lane=\"{number}\" viewBox=\"0 0 {bins} 100\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{name}: {}\">\
         {}<path class=\"bars\" d=\"{}\"/>",
            row.group,
            row.total,
            escape(&figures),
            gaps(row),
            bars(row),
            name = escape(&row.name),
        ),
    );
    if row.unit == "%" {
        put(
            page,
            &format!("<line class=\"limit\" x1=\"0\" x2=\"{bins}\" y1=\"8\" y2=\"8\"/>"),
        );
    }
    put(
        page,
        &format!(
            "</svg><span class=\"figures\">{}</span></div>\n",
            escape(&figures)
        ),
    );
}

/// The bars as one path, neighbours in one go.
fn bars(row: &Row) -> String {
    let most = row.peak.as_ref().map_or(0.0, |peak| peak.value);
    // Of what has a limit, the limit is the top.
    let most = if row.unit == "%" {
        most.max(100.0)
    } else {
        most
    };
    let mut path = String::new();
    let mut within = false;
    for (bin, value) in row.values.iter().enumerate() {
        let value = value.unwrap_or(0.0);
        if value <= 0.0 || most <= 0.0 {
            if std::mem::take(&mut within) {
                put(&mut path, "V100Z");
            }
            continue;
        }
        if !within {
            // Writing to a String cannot fail.
            let _ = write!(path, "M{bin} 100");
            within = true;
        }
        let height = (value / most * 92.0).max(6.0);
        let _ = write!(path, "V{:.1}H{}", 100.0 - height, bin + 1);
    }
    if within {
        put(&mut path, "V100Z");
    }
    path
}

/// Where nothing was measured, which is not nothing: there the track is not drawn. It lies below the bars.
fn gaps(row: &Row) -> String {
    let mut path = String::new();
    let mut at = 0;
    for run in row.values.chunk_by(|a, b| a.is_none() == b.is_none()) {
        if run[0].is_none() {
            let _ = write!(path, "M{at} 0H{}V100H{at}Z", at + run.len());
        }
        at += run.len();
    }
    if path.is_empty() {
        return path;
    }
    format!("<path class=\"gap\" d=\"{path}\"/>")
}
