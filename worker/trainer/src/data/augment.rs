//! Random changes to one training image, on bytes.
//!
//! The order is fixed: rectangle, padded crop, mirror, colours. Which values are drawn depends on the generator alone.

use nettailor_domain::task::AugmentSettings;
use nettailor_images::{Rectangle, resize_part};
use rand::Rng;
use rand_pcg::Pcg64Mcg;

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
        Some(share) => resize_part(stored, from, rectangle(f64::from(from), share, draw), out, size),
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
        let share = draw.random_range(least.min(most)..=most.max(least));
        let area = side * side * f64::from(share);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::{Purpose, generator};
    use proptest::prelude::*;

    fn draw(id: u64) -> Pcg64Mcg {
        generator(Purpose::Augmentation, 0, 0, id)
    }

    /// Red tells the column, green the row.
    fn coordinates(side: usize) -> Vec<u8> {
        (0..side * side)
            .flat_map(|at| [(at % side) as u8, (at / side) as u8, 0])
            .collect()
    }

    #[test]
    fn reflection_does_not_repeat_the_edge() {
        let coordinates: Vec<usize> = (0..11).map(|at| reflect(at, 3, 5)).collect();
        assert_eq!(coordinates, [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1]);
    }

    #[test]
    fn mirroring_swaps_columns() {
        let mut row = vec![1, 1, 1, 2, 2, 2, 3, 4, 5];
        mirror(&mut row);
        assert_eq!(row, [3, 4, 5, 2, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn crops_take_every_place() {
        let places: std::collections::HashSet<(u8, u8)> = (0..400)
            .map(|id| {
                let mut image = coordinates(16);
                crop(&mut image, 16, 2, &mut draw(id));
                // The pixel in the middle tells how far the image has moved.
                let middle = 3 * (8 * 16 + 8);
                (image[middle], image[middle + 1])
            })
            .collect();
        assert_eq!(places.len(), 25);
        assert!(
            places
                .iter()
                .all(|&(x, y)| (6..=10).contains(&x) && (6..=10).contains(&y))
        );
    }

    #[test]
    fn half_of_the_images_are_mirrored() {
        let settings = AugmentSettings {
            horizontal_flip: true,
            ..AugmentSettings::default()
        };
        let stored = coordinates(16);
        let mirrored = (0..1000).filter(|&id| {
            let mut out = vec![0; stored.len()];
            augment(&stored, 16, &mut out, 16, &settings, &mut draw(id));
            out[0] == 15
        });
        assert!((430..570).contains(&mirrored.count()));
    }

    #[test]
    fn colour_jitter_moves_brightness_both_ways_and_keeps_grey_grey() {
        let means: Vec<u8> = (0..200)
            .map(|id| {
                let mut image = vec![100; 3 * 64];
                jitter(&mut image, 0.4, &mut draw(id));
                assert!(image.iter().all(|&byte| byte.abs_diff(image[0]) <= 1));
                image[0]
            })
            .collect();
        assert!(means.iter().all(|mean| (60..=140).contains(mean)));
        assert!(means.iter().any(|&mean| mean < 75) && means.iter().any(|&mean| mean > 125));
    }

    proptest! {
        #[test]
        fn any_settings_fill_the_image(
            size in 16_u32..40, padding in 0_u32..256, least in 0.0_f32..1.0, most in 0.0_f32..1.0,
            cropped: bool, jitter in 0.0_f32..1.0, id: u64,
        ) {
            let from = if cropped { size * 5 / 4 } else { size };
            let settings = AugmentSettings {
                crop_padding: padding,
                resized_crop: cropped.then_some([least, most]),
                horizontal_flip: true,
                color_jitter: jitter,
            };
            let stored = vec![128; 3 * (from * from) as usize];
            let mut out = vec![0; 3 * (size * size) as usize];
            augment(&stored, from, &mut out, size, &settings, &mut draw(id));
            prop_assert!(out.iter().all(|byte| byte.abs_diff(out[0]) <= 1));
        }
    }
}
