//! Random changes to one training image, on bytes.
//!
//! The order is fixed: rectangle, padded crop, mirror, colours. Which values are drawn depends on the generator alone.

use nettailor_domain::task::AugmentSettings;
use rand::Rng;
use rand_pcg::Pcg64Mcg;

use super::decode::{Rectangle, resize_part};

/// Rectangles that are tried before the whole image is taken.
const TRIES: usize = 10;
/// Aspect ratios (width / height) of rectangles lie between 1 / this and this.
const WIDEST: f64 = 4.0 / 3.0;
/// Shares of red, green and blue in brightness (ITU-R BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Changes the image `stored` (`from` x `from` x 3 bytes) into a training image of `size` x `size` x 3 bytes in `out`.
pub(super) fn augment(
    stored: &[u8],
    from: u32,
    out: &mut [u8],
    size: u32,
    settings: &AugmentSettings,
    draw: &mut Pcg64Mcg,
) {
    match settings.resized_crop {
        Some(share) => out.copy_from_slice(&resize_part(
            stored,
            from,
            rectangle(f64::from(from), share, draw),
            size,
        )),
        None => out.copy_from_slice(stored),
    }
    let side = size as usize;
    if settings.crop_padding > 0 {
        crop(out, side, settings.crop_padding as usize, draw);
    }
    if settings.horizontal_flip && draw.random_bool(0.5) {
        out.chunks_exact_mut(3 * side).for_each(mirror);
    }
    if settings.color_jitter > 0.0 {
        jitter(out, settings.color_jitter, draw);
    }
}

/// A rectangle of a random share of a square's area and a random aspect ratio, at a random place.
fn rectangle(side: f64, [least, most]: [f32; 2], draw: &mut Pcg64Mcg) -> Rectangle {
    let widest = WIDEST.ln();
    for _ in 0..TRIES {
        let area = side * side * f64::from(draw.random_range(least..=most));
        let aspect = draw.random_range(-widest..=widest).exp();
        let (width, height) = ((area * aspect).sqrt().round(), (area / aspect).sqrt().round());
        if width >= 1.0 && height >= 1.0 && width <= side && height <= side {
            let left = draw.random_range(0..=(side - width) as u32);
            let top = draw.random_range(0..=(side - height) as u32);
            return Rectangle {
                left: left.into(),
                top: top.into(),
                width,
                height,
            };
        }
    }
    Rectangle {
        left: 0.0,
        top: 0.0,
        width: side,
        height: side,
    }
}

/// Pads by reflection (the edge itself is not repeated) and cuts a square of the old size at a random place.
fn crop(image: &mut [u8], side: usize, padding: usize, draw: &mut Pcg64Mcg) {
    let (right, down) = (
        draw.random_range(0..=2 * padding),
        draw.random_range(0..=2 * padding),
    );
    let source = image.to_vec();
    for (y, row) in image.chunks_exact_mut(3 * side).enumerate() {
        let from_row = 3 * side * reflect(y + down, padding, side);
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let from = from_row + 3 * reflect(x + right, padding, side);
            pixel.copy_from_slice(&source[from..from + 3]);
        }
    }
}

/// Where in 0..side the coordinate `at - padding` falls when the edges are mirrors.
fn reflect(at: usize, padding: usize, side: usize) -> usize {
    let period = 2 * (side - 1).max(1);
    // Enough whole periods to keep the difference from going below zero.
    let folded = (at + period * padding.div_ceil(period) - padding) % period;
    folded.min(period - folded).min(side - 1)
}

fn mirror(row: &mut [u8]) {
    let pixels = row.len() / 3;
    for left in 0..pixels / 2 {
        let right = pixels - 1 - left;
        for channel in 0..3 {
            row.swap(3 * left + channel, 3 * right + channel);
        }
    }
}

/// Brightness, then contrast around the mean brightness, then saturation; rounded once at the end.
fn jitter(image: &mut [u8], strength: f32, draw: &mut Pcg64Mcg) {
    let [brightness, contrast, saturation] =
        [(); 3].map(|()| draw.random_range(1.0 - strength..=1.0 + strength));
    // Summed in whole numbers: exact, whatever the order.
    let sums = image.chunks_exact(3).fold([0_u64; 3], |sums, pixel| {
        [0, 1, 2].map(|c| sums[c] + u64::from(pixel[c]))
    });
    let pixels = (image.len() / 3) as f32;
    let mean = brightness * luma(sums.map(|sum| sum as f32 / pixels));
    for pixel in image.chunks_exact_mut(3) {
        let contrasted = [0, 1, 2].map(|c| mean + contrast * (brightness * f32::from(pixel[c]) - mean));
        let grey = luma(contrasted);
        for (byte, value) in pixel.iter_mut().zip(contrasted) {
            // The conversion saturates at 0 and 255.
            *byte = (grey + saturation * (value - grey)).round() as u8;
        }
    }
}

fn luma(pixel: [f32; 3]) -> f32 {
    LUMA.iter().zip(pixel).map(|(share, value)| share * value).sum()
}
