//! A data set of easy classes, made up, for tests.

use std::path::Path;

use nettailor_domain::ids::Digest;

/// Writes a tar of small binary PPM images to `path` and returns its digest with the class names: `classes` classes,
/// each of `train` training and `test` test images of `side` pixels. Class c has its own colour, and a bright band at
/// its own height; noise differs from image to image, so that no two are equal. Without test images there are no split
/// folders.
pub(crate) fn archive(
    path: &Path,
    classes: usize,
    train: usize,
    test: usize,
    side: u32,
) -> (Digest, Vec<String>) {
    let names: Vec<String> = (0..classes).map(|class| format!("class{class:02}")).collect();
    let mut tar = tar::Builder::new(Vec::new());
    let folders = if test == 0 {
        vec![("", train)]
    } else {
        vec![("test/", test), ("train/", train)]
    };
    for (folder, count) in folders {
        for (class, name) in names.iter().enumerate() {
            for number in 0..count {
                let image = image(class, classes, side, &format!("{folder}{name}{number}"));
                add(&mut tar, &format!("{folder}{name}/{number:04}.ppm"), &image);
            }
        }
    }
    (finish(tar, path), names)
}

/// Adds an entry.
pub(crate) fn add(tar: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content)
        .expect("writing to memory");
}

/// Writes the archive to `path`; returns its digest.
pub(crate) fn finish(tar: tar::Builder<Vec<u8>>, path: &Path) -> Digest {
    let bytes = tar.into_inner().expect("writing to memory");
    std::fs::write(path, &bytes).expect("the test's folder can be written");
    Digest::of(&bytes)
}

fn image(class: usize, classes: usize, side: u32, name: &str) -> Vec<u8> {
    let mut noise = vec![0; 3 * (side * side) as usize];
    blake3::Hasher::new()
        .update(name.as_bytes())
        .finalize_xof()
        .fill(&mut noise);
    let mut image = format!("P6\n{side} {side}\n255\n").into_bytes();
    let band = side as usize * class / classes;
    for (at, byte) in noise.into_iter().enumerate() {
        let (row, channel) = (at / (3 * side as usize), at % 3);
        let colour = if channel == class % 3 { 150 } else { 60 };
        let bright = if row.abs_diff(band) <= 1 { 60 } else { 0 };
        image.push(colour + bright + byte % 32);
    }
    image
}
