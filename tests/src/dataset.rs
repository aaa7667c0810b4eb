//! A small task that a network learns in seconds: three textures, drawn by arithmetic.

use std::path::Path;

/// Side of the images, pixels.
const SIDE: usize = 32;
/// Whether the pixel at (x, y) is bright.
type Texture = fn(usize, usize) -> bool;
/// The classes and how each is drawn.
const CLASSES: [(&str, Texture); 3] = [
    ("checks", |x, y| (x / 4 + y / 4) % 2 == 0),
    ("columns", |x, _| (x / 4) % 2 == 0),
    ("rows", |_, y| (y / 4) % 2 == 0),
];

/// Writes `train/<class>/*.pgm` and `test/<class>/*.pgm` under `folder`; `seed` makes different pixels of the same task.
pub fn textures(folder: &Path, per_class: usize, seed: u64) -> std::io::Result<()> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    for (split, count) in [("train", per_class), ("test", per_class / 4)] {
        for (class, drawn) in CLASSES {
            let class_folder = folder.join(split).join(class);
            std::fs::create_dir_all(&class_folder)?;
            for index in 0..count {
                let image = image(drawn, &mut state);
                std::fs::write(class_folder.join(format!("{index:03}.pgm")), image)?;
            }
        }
    }
    Ok(())
}

fn image(drawn: Texture, state: &mut u64) -> Vec<u8> {
    let (dx, dy) = (next(state) as usize % 8, next(state) as usize % 8);
    let mut bytes = format!("P5\n{SIDE} {SIDE}\n255\n").into_bytes();
    for y in 0..SIDE {
        for x in 0..SIDE {
            let base = if drawn(x + dx, y + dy) { 160 } else { 60 };
            bytes.push(base + (next(state) % 40) as u8);
        }
    }
    bytes
}

/// A linear congruential generator, upper bits: pictures need no better chance.
fn next(state: &mut u64) -> u32 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as u32
}
