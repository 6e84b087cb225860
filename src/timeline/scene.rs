//! The lanes as a drawing of rectangles and text, for SVG and PNG alike.

use super::document::{Document, Row, width};
use super::ticks::ticks;
use super::words::many;
use crate::plugin::clean::cut;

/// Its measures in pixels.
const WIDTH: u32 = 1200;
const LEFT: u32 = 250;
const PLOT: u32 = 800;
const ROW: u32 = 26;
const BAR: u32 = 20;
const EDGE: u32 = 16;

/// The width of a character: all forms use a font in which all are alike.
pub const CHARACTER: u32 = 7;

/// How many ticks the axis has at most.
const TICKS: i64 = 8;

/// No drawing is taller.
const TALLEST: u32 = 8000;

/// Red, green and blue.
pub type Colour = [u8; 3];

pub const PAPER: Colour = [0xff, 0xff, 0xff];
const INK: Colour = [0x1b, 0x1f, 0x24];
const SOFT: Colour = [0x5b, 0x65, 0x70];
const RAISED: Colour = [0xf1, 0xf4, 0xf6];
const FAILURE: Colour = [0xb4, 0x23, 0x18];
const CALM: Colour = [0x25, 0x63, 0xa8];
const MARK: Colour = [0x7a, 0x4a, 0xb8];

/// Something to draw.
#[derive(Debug)]
pub enum Shape {
    Rectangle {
        x: u32,
        y: u32,
        width: u32,
        height: u32,
        colour: Colour,
    },
    /// `y` is the top of the line.
    Text {
        x: u32,
        y: u32,
        text: String,
        colour: Colour,
    },
}

/// A drawing.
#[derive(Debug)]
pub struct Scene {
    pub width: u32,
    pub height: u32,
    pub shapes: Vec<Shape>,
}

/// Draws a report's lanes.
pub fn scene(document: &Document) -> Scene {
    let mut drawing = Drawing {
        shapes: Vec::new(),
        y: EDGE,
    };
    drawing.text(
        EDGE,
        &format!(
            "Incident timeline  {} to {}",
            document.window.from, document.window.to
        ),
        INK,
    );
    drawing.y += 20;
    drawing.text(EDGE, &document.summary, INK);
    drawing.y += 20;
    if let Some(cause) = document.causes.first().filter(|cause| cause.score > 0.0)
        && let Some(text) = cause.speaks_for.first()
    {
        drawing.text(EDGE, &format!("{}: {text}", cause.name), SOFT);
        drawing.y += 20;
    }
    let top = drawing.y + 8;
    let mut title = "";
    for row in &document.lanes {
        if drawing.y > TALLEST {
            break;
        }
        if row.title != title {
            title = row.title;
            drawing.y += 8;
            drawing.text(EDGE, &row.heading(), SOFT);
            drawing.y += 19;
        }
        drawing.row(row, document.window.bins);
    }
    let bottom = drawing.y;
    drawing.axis(document);
    for mark in &document.marks {
        let Some(bin) = mark.bin else { continue };
        let x = LEFT + place(bin, document.window.bins) + within(mark.place, document.window.bins);
        drawing.shapes.push(Shape::Rectangle {
            x,
            y: top,
            width: 1,
            // Without a row there is nothing between them.
            height: bottom.saturating_sub(top),
            colour: MARK,
        });
        drawing.y += 18;
        let label = format!(
            "^ {} {}",
            mark.at.get(11..16).unwrap_or_default(),
            mark.text
        );
        let room = u32::try_from(label.chars().count()).unwrap_or(0) * CHARACTER;
        drawing.text(x.min(WIDTH.saturating_sub(room + EDGE)), &label, MARK);
    }
    Scene {
        width: WIDTH,
        height: drawing.y + 20 + EDGE,
        shapes: drawing.shapes,
    }
}

/// Where a bin begins in a plot.
fn place(bin: usize, bins: usize) -> u32 {
    // No more than the width of a plot.
    u32::try_from(bin * PLOT as usize / bins.max(1)).unwrap_or(PLOT)
}

/// How far behind the begin of its bin a moment is.
fn within(place: f64, bins: usize) -> u32 {
    let pixels = place.fract().max(0.0) * f64::from(PLOT) / bins.max(1) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // less than a plot
    let pixels = pixels as u32;
    pixels
}

struct Drawing {
    shapes: Vec<Shape>,
    y: u32,
}

impl Drawing {
    fn text(&mut self, x: u32, text: &str, colour: Colour) {
        let room = (WIDTH - EDGE - x.min(WIDTH - EDGE)) / CHARACTER;
        let text = cut(text.to_owned(), room as usize);
        self.shapes.push(Shape::Text {
            x,
            y: self.y,
            text,
            colour,
        });
    }

    fn row(&mut self, row: &Row, bins: usize) {
        self.text(
            EDGE,
            &cut(row.name.clone(), ((LEFT - EDGE) / CHARACTER) as usize - 2),
            INK,
        );
        let y = self.y;
        // Where nothing was measured there is no track.
        let mut bin = 0;
        for run in row.values.chunk_by(|a, b| a.is_none() == b.is_none()) {
            let (from, to) = (place(bin, bins), place(bin + run.len(), bins));
            bin += run.len();
            if run[0].is_some() && to > from {
                self.shapes.push(Shape::Rectangle {
                    x: LEFT + from,
                    y,
                    width: to - from,
                    height: BAR,
                    colour: RAISED,
                });
            }
        }
        let most = row.peak.as_ref().map_or(0.0, |peak| peak.value);
        let most = if row.unit == "%" {
            most.max(100.0)
        } else {
            most
        };
        let colour = if row.failure { FAILURE } else { CALM };
        // What falls on the same pixel is drawn as the largest of it.
        let mut columns: Vec<(u32, u32, f64)> = Vec::new();
        for (bin, value) in row.values.iter().enumerate() {
            let Some(value) = value.filter(|value| *value > 0.0 && most > 0.0) else {
                continue;
            };
            let (from, to) = (
                place(bin, bins),
                place(bin + 1, bins).max(place(bin, bins) + 1),
            );
            match columns.last_mut() {
                Some(last) if last.0 == from => last.2 = last.2.max(value),
                _ => columns.push((from, to, value)),
            }
        }
        for (from, to, value) in columns {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            // from 0 to the height of a bar
            let height = ((value / most * f64::from(BAR)).round() as u32).clamp(1, BAR);
            self.shapes.push(Shape::Rectangle {
                x: LEFT + from,
                y: y + BAR - height,
                width: to - from,
                height,
                colour,
            });
        }
        let figures = match &row.peak {
            Some(peak) if row.unit.is_empty() => format!("{} max {}", row.total, peak.value),
            Some(peak) => format!("max {} {}", peak.value, row.unit),
            None => String::new(),
        };
        self.text(LEFT + PLOT + 8, &figures, SOFT);
        self.y += ROW;
    }

    fn axis(&mut self, document: &Document) {
        self.y += 4;
        for (bin, label) in ticks(&document.window, TICKS) {
            let x = LEFT + place(bin, document.window.bins);
            self.shapes.push(Shape::Rectangle {
                x,
                y: self.y - 4,
                width: 1,
                height: 5,
                colour: SOFT,
            });
            let half = u32::try_from(label.len()).unwrap_or(0) * CHARACTER / 2;
            self.y += 2;
            self.text(x - half, &label, SOFT);
            self.y -= 2;
        }
        self.y += 2;
        self.y += 18;
        let window = &document.window;
        let bins = many(window.bins as u64, "bin");
        self.text(LEFT, &format!("{bins} of {}", width(window.step)), SOFT);
    }
}
