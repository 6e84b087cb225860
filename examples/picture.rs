//! Draws what a terminal shows as an SVG that reads well on light and on dark pages: `picture < TEXT > FILE.svg`. The
//! same text gives the same bytes. `make picture` draws a part of what `make demo` prints.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

/// What a character and a line take, in the SVG's units.
const CHARACTER: f64 = 8.4;
const LINE: usize = 20;
/// The frame around the text, and the bar above it.
const MARGIN: usize = 16;
const BAR: usize = 34;

const STYLE: &str = r#"<style>
  .page { fill: #ffffff; stroke: #d1d9e0; }
  .bar { fill: #f6f8fa; }
  .dot { fill: #d1d9e0; }
  text { font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1f2328; white-space: pre; }
  .prompt { fill: #0550ae; font-weight: 600; }
  .bad { fill: #b3121d; font-weight: 600; }
  .good { fill: #116329; font-weight: 600; }
  .dim { fill: #59636e; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #3d444d; }
    .bar { fill: #151b23; }
    .dot { fill: #3d444d; }
    text { fill: #f0f6fc; }
    .prompt { fill: #79c0ff; }
    .bad { fill: #ff7b72; }
    .good { fill: #56d364; }
    .dim { fill: #9198a1; }
  }
</style>"#;

fn main() -> io::Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    io::stdout().write_all(drawn(&text).as_bytes())
}

fn drawn(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().map(str::trim_end).collect();
    let longest = lines.iter().map(|line| line.chars().count()).max();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a width in pixels
    let width = (longest.unwrap_or_default() as f64 * CHARACTER) as usize + 2 * MARGIN;
    let height = BAR + lines.len() * LINE + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"What make demo prints\">\n{STYLE}\n\
         <rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n\
         <path class=\"bar\" d=\"M1 {} V8 a7 7 0 0 1 7 -7 H{} a7 7 0 0 1 7 7 V{} z\"/>\n",
        width - 1,
        height - 1,
        BAR - 8,
        width - 8,
        BAR - 8,
    );
    for x in [18, 36, 54] {
        let _ = writeln!(svg, "<circle class=\"dot\" cx=\"{x}\" cy=\"13\" r=\"5\"/>");
    }
    for (number, line) in lines.iter().enumerate() {
        let y = BAR + 12 + number * LINE;
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{y}\" xml:space=\"preserve\">{}</text>",
            spans(line)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A line with its states in colour.
fn spans(line: &str) -> String {
    if line.starts_with("$ ") {
        return span("prompt", line);
    }
    if line.starts_with("  |") || line.starts_with('(') || line.starts_with("[…]") {
        return span("dim", line);
    }
    let words = [("CRITICAL", "bad"), ("WARNING", "bad"), ("OK", "good")];
    let first = words.iter().filter_map(|&(word, class)| {
        let at = line.find(word)?;
        Some((at, word, class))
    });
    match first.min() {
        Some((at, word, class)) => {
            let (before, rest) = line.split_at(at);
            let behind = &rest[word.len()..];
            format!("{}{}{}", escaped(before), span(class, word), spans(behind))
        }
        None => escaped(line),
    }
}

fn span(class: &str, text: &str) -> String {
    format!("<tspan class=\"{class}\">{}</tspan>", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
