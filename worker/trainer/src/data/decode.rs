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
