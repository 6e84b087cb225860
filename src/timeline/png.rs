//! A drawing as PNG: 8-bit RGB, with a font that is drawn beforehand. (ISO/IEC 15948: signature, IHDR, IDAT, IEND.)

use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};

use super::scene::{CHARACTER, Colour, PAPER, Scene, Shape};

/// The drawing's bytes.
pub fn png(scene: &Scene) -> anyhow::Result<Vec<u8>> {
    let mut pixels = Pixels::new(scene.width, scene.height);
    for shape in &scene.shapes {
        match shape {
            Shape::Rectangle {
                x,
                y,
                width,
                height,
                colour,
            } => pixels.fill((*x, *y), (*width, *height), *colour),
            Shape::Text { x, y, text, colour } => pixels.text(*x, *y, text, *colour),
        }
    }
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut head = Vec::with_capacity(13);
    head.extend(scene.width.to_be_bytes());
    head.extend(scene.height.to_be_bytes());
    // 8 bits of each of three colours; the only compression and filtering there are; not interlaced.
    head.extend([8, 2, 0, 0, 0]);
    chunk(&mut out, *b"IHDR", &head);
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in pixels.rows() {
        packed.write_all(&[0])?; // no filter
        packed.write_all(row)?;
    }
    chunk(&mut out, *b"IDAT", &packed.finish()?);
    chunk(&mut out, *b"IEND", &[]);
    Ok(out)
}

fn chunk(out: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    // A drawing of some thousands of lines is far below 4 GiB.
    out.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(kind);
    out.extend(data);
    let mut sum = Crc::new();
    sum.update(&kind);
    sum.update(data);
    out.extend(sum.sum().to_be_bytes());
}

struct Pixels {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Pixels {
    fn new(width: u32, height: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        Self {
            width,
            height,
            bytes: PAPER.repeat(width * height),
        }
    }

    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.width * 3)
    }

    fn pixel(&mut self, x: usize, y: usize) -> Option<&mut [u8]> {
        if x >= self.width || y >= self.height {
            return None;
        }
        let at = (y * self.width + x) * 3;
        self.bytes.get_mut(at..at + 3)
    }

    fn fill(&mut self, (x, y): (u32, u32), (width, height): (u32, u32), colour: Colour) {
        for line in y..y + height {
            for column in x..x + width {
                if let Some(pixel) = self.pixel(column as usize, line as usize) {
                    pixel.copy_from_slice(&colour);
                }
            }
        }
    }

    fn text(&mut self, x: u32, y: u32, text: &str, colour: Colour) {
        let mut left = x as usize;
        for c in text.chars() {
            // What the font does not have is shown as a question mark.
            let raster = |c| get_raster(c, FontWeight::Regular, RasterHeight::Size16);
            if let Some(glyph) = raster(c).or_else(|| raster('?')) {
                for (down, line) in glyph.raster().iter().enumerate() {
                    for (right, shade) in line.iter().enumerate() {
                        self.blend(left + right, y as usize + down, colour, *shade);
                    }
                }
            }
            left += CHARACTER as usize;
        }
    }

    fn blend(&mut self, x: usize, y: usize, colour: Colour, shade: u8) {
        if let Some(pixel) = self.pixel(x, y) {
            for (below, above) in pixel.iter_mut().zip(colour) {
                let mixed = u16::from(*below) * u16::from(255 - shade)
                    + u16::from(above) * u16::from(shade);
                *below = u8::try_from(mixed / 255).unwrap_or(u8::MAX);
            }
        }
    }
}
