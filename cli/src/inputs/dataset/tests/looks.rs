//! What looking at every image tells.

use nettailor_images::Picture;

use super::*;

#[test]
fn sizes_counts_and_broken_images_are_told() {
    let image = |width: usize, height: usize| {
        [
            format!("P5\n{width} {height}\n255\n").into_bytes(),
            vec![9; width * height],
        ]
        .concat()
    };
    let folder = folder(&[
        ("train/a/1.pgm", &image(4, 4)),
        ("train/a/2.pgm", &image(8, 2)),
        ("train/b/1.pgm", &image(20, 10)),
        ("train/b/2.png", b"no picture"),
        ("test/b/3.pgm", &image(1, 1)),
    ]);
    let data = list(folder.path(), DataFormat::Auto).unwrap();
    let (seen, sheet) = inspect(&data, false).unwrap();
    assert!(sheet.is_none());
    let sizes = seen.sizes.unwrap();
    assert_eq!(
        (sizes.least, sizes.median, sizes.largest),
        ((1, 1), (8, 2), (20, 10))
    );
    assert_eq!(seen.broken.len(), 1);
    assert_eq!(seen.broken[0].name, "train/b/2.png");
    // The words are the trainer's: both ask the same function.
    assert_eq!(seen.broken[0].reason, Picture::decode(b"no picture").unwrap_err());
    let json = serde_json::to_value(&seen).unwrap();
    assert_eq!(json["splits"], serde_json::json!({ "test": 1, "train": 4 }));
    assert_eq!(
        json["classes"][1],
        serde_json::json!({ "class": "b", "images": { "test": 1, "train": 2 } })
    );
    assert_eq!((seen.images, seen.bytes), (5, data.bytes));
}

#[test]
fn the_sheet_has_a_row_for_each_class_and_its_images_in_it() {
    let names: Vec<String> = (0..30)
        .map(|number| format!("{}/{number:02}.pgm", ["a", "b"][number % 2]))
        .collect();
    let images: Vec<Vec<u8>> = (0..30)
        .map(|number| pgm(if number % 2 == 0 { 60 } else { 120 }))
        .collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .zip(&images)
        .map(|(name, image)| (name.as_str(), &**image))
        .collect();
    let folder = folder(&files);
    let data = list(folder.path(), DataFormat::Auto).unwrap();
    let sheet = inspect(&data, true).unwrap().1.unwrap();
    assert_eq!(sheet.left_out, 0);
    let picture = Picture::decode(&sheet.png().unwrap()).unwrap();
    let (width, height) = picture.size();
    assert_eq!(height, 4 + 2 * 68);
    assert!(width > 10 * 68);
    // Shrunk to its height, the sheet's centre is inside of images: the upper row is darker than the lower.
    let square = picture.square(height).unwrap();
    let pixel = |x: usize, y: usize| square[3 * (y * height as usize + x)];
    let row = |y: usize| (0..height as usize).map(|x| pixel(x, y)).min().unwrap();
    assert_eq!([row(4 + 32), row(4 + 68 + 32)], [60, 120]);
}
