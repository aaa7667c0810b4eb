//! From an encoded image to a square of red, green and blue bytes.

use std::io::Cursor;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage, Rgba};

/// Decodes `bytes` in whatever format they are and returns `side` x `side` x 3 bytes: the largest centred square,
/// resized. Cameras' orientation marks are obeyed, grey becomes three equal channels, and what is transparent shows
/// white. The reason in words where the bytes are no image.
pub(super) fn square(bytes: &[u8], side: u32) -> Result<Vec<u8>, String> {
    let image = decode(bytes).map_err(|error| error.to_string())?;
    let (width, height) = image.dimensions();
    if width == 0 || height == 0 {
        return Err(format!("the image is empty: {width} x {height} pixels"));
    }
    let options = options().fit_into_destination(Some((0.5, 0.5)));
    resize(image.as_raw(), (width, height), side, options).map_err(|error| error.to_string())
}

fn decode(bytes: &[u8]) -> Result<RgbImage, image::ImageError> {
    let mut decoder = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()?
        .into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    if !image.color().has_alpha() {
        return Ok(image.into_rgb8());
    }
    let mut on_white = DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(
        image.width(),
        image.height(),
        Rgba([255; 4]),
    ));
    image::imageops::overlay(&mut on_white, &image.into_rgba8(), 0, 0);
    Ok(on_white.into_rgb8())
}

/// A rectangle in pixels; fractions are honoured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rectangle {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Resizes a rectangle of a square image (`from` x `from` x 3 bytes) to `to` x `to`.
///
/// # Panics
/// Where the rectangle reaches outside of the image.
pub(super) fn resize_part(pixels: &[u8], from: u32, part: Rectangle, to: u32) -> Vec<u8> {
    let options = options().crop(part.left, part.top, part.width, part.height);
    resize(pixels, (from, from), to, options)
        .unwrap_or_else(|error| panic!("{part:?} of {from} px to {to} px: {error}"))
}

/// Bilinear, averaging over all source pixels where the image shrinks.
fn options() -> ResizeOptions {
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
}

fn resize(pixels: &[u8], size: (u32, u32), side: u32, options: ResizeOptions) -> Result<Vec<u8>, Unfit> {
    let source = ImageRef::new(size.0, size.1, pixels, PixelType::U8x3)?;
    let mut target = Image::new(side, side, PixelType::U8x3);
    Resizer::new().resize(&source, &mut target, &options)?;
    Ok(target.into_vec())
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
    use image::{GrayImage, ImageFormat, Luma, RgbaImage};

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn grey_becomes_three_equal_channels_and_sixteen_bits_eight() {
        let grey = GrayImage::from_pixel(5, 9, Luma([77]));
        assert_eq!(square(&encoded(grey, ImageFormat::Png), 8).unwrap(), [77; 192]);
        let deep = image::ImageBuffer::<Luma<u16>, _>::from_pixel(5, 9, Luma([77 * 257]));
        assert_eq!(square(&encoded(deep, ImageFormat::Png), 8).unwrap(), [77; 192]);
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
        let pixels = square(&encoded(half, ImageFormat::Png), 8).unwrap();
        assert_eq!(pixels[..24], [[200, 0, 0].repeat(4), vec![255; 12]].concat());
    }

    #[test]
    fn the_centre_of_a_long_image_is_kept() {
        // Only the middle 4 x 4 of 12 x 4 is bright.
        let wide = GrayImage::from_fn(12, 4, |x, _| Luma([if (4..8).contains(&x) { 255 } else { 0 }]));
        assert_eq!(square(&encoded(wide, ImageFormat::Bmp), 4).unwrap(), [255; 48]);
        let tall = GrayImage::from_fn(4, 13, |_, y| Luma([if (4..9).contains(&y) { 255 } else { 0 }]));
        assert_eq!(square(&encoded(tall, ImageFormat::Png), 4).unwrap(), [255; 48]);
    }

    #[test]
    fn the_smallest_and_the_flattest_images_are_read() {
        for (width, height) in [(1, 1), (1, 300), (300, 1)] {
            let image = GrayImage::from_pixel(width, height, Luma([9]));
            assert_eq!(square(&encoded(image, ImageFormat::Png), 16).unwrap(), [9; 768]);
        }
    }

    #[test]
    fn shrinking_averages() {
        let stripes = GrayImage::from_fn(64, 64, |x, _| Luma([if x % 2 == 0 { 0 } else { 200 }]));
        let pixels = square(&encoded(stripes, ImageFormat::Png), 8).unwrap();
        assert!(pixels.iter().all(|&byte| byte.abs_diff(100) <= 4), "{pixels:?}");
    }

    #[test]
    fn damaged_images_are_refused_in_words() {
        let whole = encoded(GrayImage::from_pixel(40, 40, Luma([9])), ImageFormat::Png);
        for bytes in [&whole[..whole.len() / 2], b"text", b"", b"P5\n4 4\n255\nab"] {
            assert!(!square(bytes, 8).unwrap_err().is_empty());
        }
    }
}
