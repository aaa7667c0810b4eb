//! What a readable image is: from encoded bytes to squares of red, green and blue bytes.
//!
//! - [`Picture`], [`square`]: decoding, the same for the trainer and for whoever looks at images before it.
//! - [`resize_part`]: cutting and resizing what was decoded.
//! - [`Canvas`]: pictures and words beside each other, as a PNG.
//!
//! No I/O.

mod canvas;

use std::io::Cursor;
use std::panic::catch_unwind;

pub use canvas::{Canvas, GLYPH};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::codecs::jpeg::JpegDecoder;
use image::metadata::Orientation;
use image::{ImageDecoder, ImageFormat, Rgb, RgbImage, Rgba};

/// File name endings (in any case) of the formats that are decoded: a hint for listing folders. What a file holds is
/// told by its bytes.
pub const EXTENSIONS: [&str; 10] = [
    "png", "jpg", "jpeg", "pgm", "ppm", "pnm", "pbm", "bmp", "gif", "webp",
];

/// A decoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture(RgbImage);

impl Picture {
    /// Decodes `bytes` in whatever format they are. Cameras' orientation marks are obeyed, grey becomes three equal
    /// channels, and what is transparent shows white.
    ///
    /// # Errors
    /// The decoder's reason in words where the bytes are no image, or one without pixels. A decoder that panics on bytes
    /// nobody has thought of has met an unreadable image, too.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let image = catch_unwind(|| decode(bytes).map_err(|error| error.to_string()))
            .unwrap_or_else(|_| Err("the decoder failed".to_owned()))?;
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(format!("the image is empty: {width} x {height} pixels"));
        }
        Ok(Self(image))
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    /// The largest centred square, resized: `side` x `side` x 3 bytes, rows from the top.
    ///
    /// # Errors
    /// The reason in words where the image cannot be resized, say because `side` is 0.
    pub fn square(&self, side: u32) -> Result<Vec<u8>, String> {
        let mut square = vec![0; 3 * side as usize * side as usize];
        let options = options().fit_into_destination(Some((0.5, 0.5)));
        resize(self.0.as_raw(), self.size(), &mut square, side, &options)
            .map_err(|error| error.to_string())?;
        Ok(square)
    }
}

/// [`Picture::decode`] and [`Picture::square`].
///
/// # Errors
/// As they do.
pub fn square(bytes: &[u8], side: u32) -> Result<Vec<u8>, String> {
    Picture::decode(bytes)?.square(side)
}

/// Goes through the functions that the library has compiled already: its readers' types would bring every codec's code
/// into this crate again.
fn decode(bytes: &[u8]) -> Result<RgbImage, image::ImageError> {
    let mut image = image::load_from_memory(bytes)?;
    image.apply_orientation(orientation(bytes));
    if !image.color().has_alpha() {
        return Ok(image.into_rgb8());
    }
    let on_white = |channel: u8, alpha: u8| {
        let (channel, alpha) = (u16::from(channel), u16::from(alpha));
        ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let rgba = image.into_rgba8();
    Ok(RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let Rgba([red, green, blue, alpha]) = *rgba.get_pixel(x, y);
        Rgb([red, green, blue].map(|channel| on_white(channel, alpha)))
    }))
}

/// How a camera was held; JPEG files say so.
fn orientation(bytes: &[u8]) -> Orientation {
    let jpeg = image::guess_format(bytes).is_ok_and(|format| format == ImageFormat::Jpeg);
    let read = || JpegDecoder::new(Cursor::new(bytes)).and_then(|mut decoder| decoder.orientation());
    jpeg.then(read)
        .and_then(Result::ok)
        .unwrap_or(Orientation::NoTransforms)
}

/// A rectangle in pixels; fractions are honoured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rectangle {
    /// From the left edge.
    pub left: f64,
    /// From the top edge.
    pub top: f64,
    /// To the right.
    pub width: f64,
    /// Downwards.
    pub height: f64,
}

/// Resizes a rectangle of a square image (`from` x `from` x 3 bytes) to fill `out` (`to` x `to` x 3 bytes).
///
/// # Panics
/// Where the rectangle reaches outside of the image, or the bytes do not match the sizes.
pub fn resize_part(pixels: &[u8], from: u32, part: Rectangle, out: &mut [u8], to: u32) {
    let options = options().crop(part.left, part.top, part.width, part.height);
    if let Err(error) = resize(pixels, (from, from), out, to, &options) {
        panic!("{part:?} of {from} px to {to} px: {error}");
    }
}

/// Bilinear, averaging over all source pixels where the image shrinks.
fn options() -> ResizeOptions {
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
}

/// The pixel type is fixed here, so that the library's code is compiled for this one alone.
fn resize(
    pixels: &[u8],
    size: (u32, u32),
    out: &mut [u8],
    side: u32,
    options: &ResizeOptions,
) -> Result<(), Unfit> {
    let source = TypedImageRef::<U8x3>::from_buffer(size.0, size.1, pixels)?;
    let mut target = TypedImage::<U8x3>::from_buffer(side, side, out)?;
    Ok(Resizer::new().resize_typed(&source, &mut target, options)?)
}

/// Sizes that do not go together.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("the image's bytes do not match its size")]
    Buffer(#[from] fast_image_resize::ImageBufferError),
    #[error("the image cannot be resized")]
    Resize(#[from] fast_image_resize::ResizeError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, GrayImage, ImageEncoder, Luma, RgbaImage};

    fn png(pixels: &[u8], (width, height): (u32, u32), color: ExtendedColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(pixels, width, height, color)
            .unwrap();
        bytes
    }

    fn grey_png(image: &GrayImage) -> Vec<u8> {
        png(image.as_raw(), image.dimensions(), ExtendedColorType::L8)
    }

    #[test]
    fn grey_becomes_three_equal_channels_and_sixteen_bits_eight() {
        let grey = GrayImage::from_pixel(5, 9, Luma([77]));
        assert_eq!(square(&grey_png(&grey), 8).unwrap(), [77; 192]);
        let deep = [77; 2 * 5 * 9];
        assert_eq!(
            square(&png(&deep, (5, 9), ExtendedColorType::L16), 8).unwrap(),
            [77; 192]
        );
    }

    #[test]
    fn what_is_transparent_shows_white() {
        let half = RgbaImage::from_fn(8, 8, |x, _| {
            if x < 4 {
                Rgba([200, 0, 0, 255])
            } else {
                Rgba([0; 4])
            }
        });
        let pixels = square(&png(half.as_raw(), (8, 8), ExtendedColorType::Rgba8), 8).unwrap();
        assert_eq!(pixels[..24], [[200, 0, 0].repeat(4), vec![255; 12]].concat());
    }

    #[test]
    fn the_centre_of_a_long_image_is_kept() {
        // Only the middle 4 x 4 of 12 x 4 is bright.
        let wide = GrayImage::from_fn(12, 4, |x, _| Luma([if (4..8).contains(&x) { 255 } else { 0 }]));
        assert_eq!(square(&grey_png(&wide), 4).unwrap(), [255; 48]);
        let tall = GrayImage::from_fn(4, 13, |_, y| Luma([if (4..9).contains(&y) { 255 } else { 0 }]));
        assert_eq!(square(&grey_png(&tall), 4).unwrap(), [255; 48]);
    }

    #[test]
    fn a_camera_held_upright_is_obeyed() {
        // Lying: bright on the left. The mark says that it must be turned right to stand: bright on top.
        let lying = GrayImage::from_fn(16, 16, |x, _| Luma([if x < 8 { 255 } else { 0 }]));
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 100)
            .encode(lying.as_raw(), 16, 16, ExtendedColorType::L8)
            .unwrap();
        // An EXIF segment behind the start mark: big-endian TIFF, one entry, orientation (0x0112, short, 1) = 6.
        let tiff = [
            b"MM\0*\0\0\0\x08\0\x01".as_slice(),
            b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0",
            &[0; 4],
        ]
        .concat();
        let exif = [b"Exif\0\0".as_slice(), &tiff].concat();
        let length = (exif.len() as u16 + 2).to_be_bytes();
        let marked = [&bytes[..2], &[0xff, 0xe1], &length, &exif, &bytes[2..]].concat();
        let (unmarked, marked) = (square(&bytes, 16).unwrap(), square(&marked, 16).unwrap());
        let last_row = 3 * 16 * 15;
        assert!(
            unmarked[last_row] > 200 && marked[last_row] < 50,
            "{} {}",
            unmarked[last_row],
            marked[last_row]
        );
        assert!(
            unmarked[45] < 50 && marked[45] > 200,
            "{} {}",
            unmarked[45],
            marked[45]
        );
    }

    #[test]
    fn the_smallest_and_the_flattest_images_are_read() {
        for (width, height) in [(1, 1), (1, 300), (300, 1)] {
            let image = GrayImage::from_pixel(width, height, Luma([9]));
            assert_eq!(square(&grey_png(&image), 16).unwrap(), [9; 768]);
        }
    }

    #[test]
    fn shrinking_averages() {
        let stripes = GrayImage::from_fn(64, 64, |x, _| Luma([if x % 2 == 0 { 0 } else { 200 }]));
        let pixels = square(&grey_png(&stripes), 8).unwrap();
        assert!(pixels.iter().all(|&byte| byte.abs_diff(100) <= 4), "{pixels:?}");
    }

    #[test]
    fn damaged_images_are_refused_in_words() {
        let whole = grey_png(&GrayImage::from_pixel(40, 40, Luma([9])));
        for bytes in [&whole[..whole.len() / 2], b"text", b"", b"P5\n4 4\n255\nab"] {
            assert!(!square(bytes, 8).unwrap_err().is_empty());
        }
    }
}
