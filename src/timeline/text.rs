//! The report for a terminal: 80 columns, sparklines; and as CSV.

use std::fmt::Write;

use super::document::{Document, Row, width};
use super::words::{p_value, percent, times};
use crate::plugin::clean::cut;

/// How wide it is.
const COLUMNS: usize = 80;
/// What of a line the name of a lane takes, and what the figures behind the sparkline.
const NAME: usize = 25;
const FIGURES: usize = 13;
const SPARK: usize = COLUMNS - NAME - FIGURES;

/// How many of a list are shown.
const SHOWN: usize = 8;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The report as text.
pub fn text(document: &Document) -> String {
    let mut out = Lines::default();
    out.wrap("", &format!("TIMELINE: {}", document.summary));
    let window = &document.window;
    out.line(format!(
        "{} to {}, {} of {}",
        window.from,
        window.to,
        bins(window.bins as u64),
        width(window.step)
    ));
    for source in &document.sources {
        let trouble = source
            .trouble
            .as_ref()
            .map_or(String::new(), |why| format!(" - {why}"));
        let unparsed = if source.unparsed > 0 {
            format!(", {} not understood", source.unparsed)
        } else {
            String::new()
        };
        out.wrap(
            "  ",
            &format!(
                "{} {}: {} of {} lines in the window{unparsed}{trouble}",
                source.kind, source.path, source.used, source.lines
            ),
        );
    }
    lanes(document, &mut out);
    if let Some(first) = &document.first {
        out.heading("First event");
        out.wrap(
            "  ",
            &format!("{} {} {}", first.at, first.group, first.name),
        );
        out.wrap("    ", &first.line);
    }
    causes(document, &mut out);
    coincidences(document, &mut out);
    common(document, &mut out);
    out.heading("Notes");
    document.notes.iter().for_each(|note| out.wrap("  ", note));
    out.0
}

fn lanes(document: &Document, out: &mut Lines) {
    let mut title = "";
    for row in &document.lanes {
        if row.title != title {
            title = row.title;
            out.heading(&row.heading());
        }
        let peak = row.peak.as_ref().map_or(0.0, |peak| peak.value);
        let figures = if row.unit.is_empty() {
            format!("{} max {}", short(row.total), short(peak))
        } else {
            format!("max {}", short(peak))
        };
        out.line(format!(
            "{:<NAME$}{} {figures}",
            cut(row.name.clone(), NAME - 1),
            spark(row)
        ));
    }
    if document.window.bins > 1 && !document.lanes.is_empty() {
        let labels = &document.window.labels;
        let cells = labels.len().min(SPARK);
        let clock = |at: usize| {
            labels
                .get(at)
                .map_or("", |label| label.get(11..).unwrap_or(label))
        };
        let (from, to) = (clock(0), clock(labels.len() - 1));
        let gap = cells.saturating_sub(from.len() + to.len()).max(1);
        out.line(format!("{:<NAME$}{from}{}{to}", "", " ".repeat(gap)));
    }
    for mark in &document.marks {
        if let Some(bin) = mark.bin {
            let at = bin * document.window.bins.min(SPARK) / document.window.bins;
            let text = format!("{} {}", mark.at.get(11..16).unwrap_or_default(), mark.text);
            out.line(format!(
                "{:<NAME$}{}^ {}",
                "",
                " ".repeat(at),
                cut(text, COLUMNS.saturating_sub(NAME + at + 2).max(8))
            ));
        } else {
            out.wrap(
                "  ",
                &format!("mark outside of the window: {} {}", mark.at, mark.text),
            );
        }
    }
}

/// A sparkline: nothing is a dot, what was not measured a blank.
fn spark(row: &Row) -> String {
    let count = row.values.len().max(1);
    let cells = count.min(SPARK);
    let most = row.peak.as_ref().map_or(0.0, |peak| peak.value);
    // Of what has a limit, the limit is the top.
    let most = if row.unit == "%" {
        most.max(100.0)
    } else {
        most
    };
    (0..cells)
        .map(|cell| {
            let (from, to) = (
                cell * count / cells,
                ((cell + 1) * count / cells).max(cell * count / cells + 1),
            );
            let of = row
                .values
                .get(from..to.min(row.values.len()))
                .unwrap_or_default();
            let value = of.iter().flatten().copied().reduce(f64::max);
            match value {
                None => ' ',
                Some(value) if value <= 0.0 || most <= 0.0 => '·',
                Some(value) => {
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    // from 0 to 8
                    let step = (value / most * 8.0).ceil() as usize;
                    BLOCKS[step.clamp(1, 8) - 1]
                }
            }
        })
        .collect()
}

/// Five characters at most.
fn short(value: f64) -> String {
    if value >= 9_999_500.0 {
        format!("{:.0}M", value / 1e6)
    } else if value >= 99_950.0 {
        format!("{:.0}k", value / 1e3)
    } else if value.fract() == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn causes(document: &Document, out: &mut Lines) {
    out.heading("Candidate causes (what coincides; not proof)");
    for (number, cause) in document.causes.iter().take(SHOWN).enumerate() {
        out.wrap(
            "  ",
            &format!(
                "{}. {} {:.0} % - {}",
                number + 1,
                cause.name,
                cause.score * 100.0,
                cause.meaning
            ),
        );
        cause
            .speaks_for
            .iter()
            .for_each(|text| out.wrap("     + ", text));
        cause
            .speaks_against
            .iter()
            .for_each(|text| out.wrap("     - ", text));
        // Only for what is worth it.
        if cause.score > 0.0 && (number == 0 || cause.score >= 0.2) {
            cause.next.iter().for_each(|text| out.wrap("     > ", text));
        }
    }
}

fn coincidences(document: &Document, out: &mut Lines) {
    if document.coincidences.is_empty() {
        return;
    }
    out.heading("What rises together (Fisher's exact test, one-sided; times the pairs compared)");
    // Each row twice at most: many look at the same failures.
    let mut told = vec![0_u8; document.lanes.len()];
    let mut left = SHOWN;
    for pair in &document.coincidences {
        if left == 0 || told[pair.a] > 1 || told[pair.b] > 1 {
            continue;
        }
        left -= 1;
        told[pair.a] += 1;
        told[pair.b] += 1;
        let found = &pair.figures;
        let lag = match found.best_lag {
            0 => String::new(),
            lag => format!(
                "; best {} {} ({})",
                bins(lag.unsigned_abs()),
                if lag > 0 { "later" } else { "earlier" },
                found.best_lag_both
            ),
        };
        let shift = found
            .p_shift
            .map_or(String::new(), |p| format!(", shifted {p:.3}"));
        out.wrap(
            "  ",
            &format!(
                "{} coincides with {}: in {} of {} bins, {:.1} by chance, {} ({}{shift}){lag}",
                pair.names[0],
                pair.names[1],
                found.both,
                found.a_raised,
                found.expected,
                times(pair.times),
                p_value(pair.p_adjusted)
            ),
        );
    }
}

fn bins(count: u64) -> String {
    super::words::many(count, "bin")
}

fn common(document: &Document, out: &mut Lines) {
    let failed: Vec<_> = document
        .services
        .iter()
        .filter(|service| service.failed > 0)
        .collect();
    if !failed.is_empty() {
        out.heading("Services");
        for service in failed.iter().take(SHOWN) {
            out.wrap(
                "  ",
                &format!(
                    "{}: {} of {} failed, {} ({})",
                    service.name,
                    service.failed,
                    service.tried,
                    percent(service.failed, service.tried),
                    service.origin
                ),
            );
        }
        let well: Vec<_> = document
            .services
            .iter()
            .filter(|service| service.failed == 0)
            .map(|service| service.name.as_str())
            .collect();
        if !well.is_empty() {
            let more = if well.len() > SHOWN { " ..." } else { "" };
            out.wrap(
                "  ",
                &format!(
                    "stayed well: {}{more}",
                    well[..well.len().min(SHOWN)].join(", ")
                ),
            );
        }
    }
    if document.common.is_empty() {
        return;
    }
    out.heading("What failures have in common");
    for one in document.common.iter().take(SHOWN) {
        let parted = if one.parts_them {
            format!(
                "all {} failing services go through it, none of the {} that stayed well; ",
                one.failing_services[1], one.well_services[1]
            )
        } else {
            String::new()
        };
        out.wrap(
            "  ",
            &format!(
                "{} {}: {parted}{} of {} failed with it, {} of {} without ({}; {})",
                one.dimension,
                one.value,
                one.failed,
                one.tried,
                one.failed_without,
                one.tried_without,
                p_value(one.p_value),
                one.origin
            ),
        );
    }
}

/// Lines of at most [`COLUMNS`].
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, text: impl AsRef<str>) {
        self.0.push_str(text.as_ref().trim_end());
        self.0.push('\n');
    }

    fn heading(&mut self, text: &str) {
        self.0.push('\n');
        self.line(text);
    }

    /// Breaks between words; what follows the first line is indented as far as its text.
    fn wrap(&mut self, start: &str, text: &str) {
        let mut line = start.to_owned();
        let indent = " ".repeat(start.len());
        let mut is_empty = true;
        for word in text.split(' ') {
            let length = word.chars().count();
            if !is_empty && line.chars().count() + 1 + length > COLUMNS {
                self.line(&line);
                line.clone_from(&indent);
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            // A word that is longer than a line is cut into pieces.
            for c in word.chars() {
                if line.chars().count() >= COLUMNS {
                    self.line(&line);
                    line.clone_from(&indent);
                }
                line.push(c);
            }
            is_empty = false;
        }
        self.line(&line);
    }
}

/// `time,group,name,unit,value`: a line for each lane and bin that has something.
pub fn csv(document: &Document) -> String {
    let mut out = String::from("time,group,name,unit,value\n");
    for row in &document.lanes {
        for (index, value) in row.values.iter().enumerate() {
            if let Some(value) = value.filter(|value| *value > 0.0 || !row.failure) {
                let time = &document.window.labels[index];
                // Writing to a String cannot fail.
                let _ = out.write_fmt(format_args!(
                    "{time},{},{},{},{value}\n",
                    row.group,
                    field(&row.name),
                    row.unit
                ));
            }
        }
    }
    out
}

/// A field of CSV. A spreadsheet would run what begins like a formula.
fn field(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@']) {
        "'"
    } else {
        ""
    };
    if guard.is_empty() && !text.contains([',', '"', ';']) {
        return text.to_owned();
    }
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}
