//! A drawing as SVG.

use std::fmt::Write;

use super::html::escape;
use super::scene::{Colour, PAPER, Scene, Shape};

/// The drawing's text.
pub fn svg(scene: &Scene) -> String {
    let (width, height) = (scene.width, scene.height);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"11.6\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"{}\"/>\n",
        colour(PAPER)
    );
    for shape in &scene.shapes {
        // Writing to a String cannot fail.
        let _ = match shape {
            Shape::Rectangle {
                x,
                y,
                width,
                height,
                colour: fill,
            } => {
                writeln!(
                    out,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{}\"/>",
                    colour(*fill)
                )
            }
            Shape::Text {
                x,
                y,
                text,
                colour: fill,
            } => {
                writeln!(
                    out,
                    "<text x=\"{x}\" y=\"{}\" fill=\"{}\" xml:space=\"preserve\">{}</text>",
                    y + 13,
                    colour(*fill),
                    escape(text)
                )
            }
        };
    }
    out.push_str("</svg>\n");
    out
}

fn colour([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}
