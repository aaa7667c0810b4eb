//! Pictures and words beside each other.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const WEIGHT: FontWeight = FontWeight::Regular;
const HEIGHT: RasterHeight = RasterHeight::Size16;
/// Width and height of a character, in pixels.
pub const GLYPH: (u32, u32) = (get_raster_width(WEIGHT, HEIGHT) as u32, HEIGHT.val() as u32);

/// A white sheet to draw on, red, green and blue bytes. What lies beyond its edges is cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Canvas {
    /// An empty sheet of this many pixels.
    pub fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            pixels: vec![255; 3 * width as usize * height as usize],
        }
    }

    /// Draws a square (`side` x `side` x 3 bytes) with its upper left corner at (`left`, `top`).
    pub fn square(&mut self, left: u32, top: u32, square: &[u8], side: u32) {
        for (at, pixel) in (0..).zip(square.chunks_exact(3)) {
            self.put(left + at % side, top + at / side, [pixel[0], pixel[1], pixel[2]]);
        }
    }

    /// Writes one line of black text, its first character's upper left corner at (`left`, `top`). Characters that the
    /// font lacks (it has Latin ones) show as `?`.
    pub fn text(&mut self, left: u32, top: u32, text: &str) {
        let glyph =
            |character| get_raster(character, WEIGHT, HEIGHT).or_else(|| get_raster('?', WEIGHT, HEIGHT));
        for (place, glyph) in (0..).zip(text.chars().filter_map(glyph)) {
            for (at, ink) in (0..).zip(glyph.pixels()) {
                if *ink > 0 {
                    let (x, y) = (at % GLYPH.0, at / GLYPH.0);
                    self.put(left + place * GLYPH.0 + x, top + y, [255 - ink; 3]);
                }
            }
        }
    }

    fn put(&mut self, x: u32, y: u32, pixel: [u8; 3]) {
        if x < self.width && y < self.height {
            let at = 3 * (y as usize * self.width as usize + x as usize);
            self.pixels[at..at + 3].copy_from_slice(&pixel);
        }
    }

    /// The sheet as a PNG file.
    ///
    /// # Errors
    /// The encoder's words, for a sheet without pixels say.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&self.pixels, self.width, self.height, ExtendedColorType::Rgb8)
            .map_err(|error| error.to_string())?;
        Ok(png)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Picture;

    fn dark(canvas: &Canvas, x: std::ops::Range<u32>) -> usize {
        let dark = |&(x, y): &(u32, u32)| canvas.pixels[3 * (y * canvas.width + x) as usize] < 128;
        x.flat_map(|x| (0..canvas.height).map(move |y| (x, y)))
            .filter(dark)
            .count()
    }

    #[test]
    fn what_is_drawn_is_read_back_from_the_png() {
        let mut canvas = Canvas::new(40, 20);
        canvas.square(30, 2, &[7; 12], 2);
        canvas.square(39, 19, &[9; 12], 2);
        let picture = Picture::decode(&canvas.png().unwrap()).unwrap();
        assert_eq!(picture.size(), (40, 20));
        let pixel = |x: usize, y: usize| picture.0.as_raw()[3 * (40 * y + x)];
        assert_eq!(
            [pixel(30, 2), pixel(31, 3), pixel(32, 2), pixel(39, 19)],
            [7, 7, 255, 9]
        );
    }

    #[test]
    fn text_stands_in_cells_and_is_cut_at_the_edge() {
        let mut canvas = Canvas::new(3 * GLYPH.0, GLYPH.1);
        canvas.text(0, 0, "M \u{4e00}MMM");
        let cell = |place: u32| dark(&canvas, place * GLYPH.0..(place + 1) * GLYPH.0);
        assert!(cell(0) > 10 && cell(1) == 0 && cell(2) > 3);
    }
}
