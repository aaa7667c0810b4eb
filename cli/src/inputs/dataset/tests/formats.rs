//! What each format holds, read as its definition says.

use std::collections::BTreeSet;
use std::io::Write as _;

use nettailor_domain::archive::EntryName;
use nettailor_images::Picture;

use super::*;

/// Split, class and pixels of every image: what must not depend on the format.
fn seen(data: &DataSet) -> BTreeSet<(Folder, String, Vec<u8>)> {
    let entries = entries(&archived(data).0);
    let seen = |(name, bytes): &(String, Vec<u8>)| {
        let name: EntryName = name.parse().unwrap();
        (
            name.folder,
            name.class,
            Picture::decode(bytes).unwrap().square(4).unwrap(),
        )
    };
    entries.iter().map(seen).collect()
}

#[test]
fn the_same_images_are_the_same_data_in_every_format() {
    let images: Vec<Vec<u8>> = (1..=7).map(|number| pgm(30 * number)).collect();
    let places = [
        ("train", "cat"),
        ("train", "cat"),
        ("train", "dog"),
        ("train", "dog"),
        ("val", "cat"),
        ("val", "dog"),
        ("test", "dog"),
    ];
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let mut table = String::from("split,path,label\n");
    let mut annotated = [("train", vec![]), ("val", vec![]), ("test", vec![])];
    let mut rows = annotated.clone().map(|(split, _)| (split, Vec::<Row<'_>>::new()));
    for (number, ((split, class), image)) in places.iter().zip(&images).enumerate() {
        let file = format!("{number}.pgm");
        write(&at("folder"), &[(&format!("{split}/{class}/{file}"), image)]);
        write(&at("csv"), &[(&format!("images/{file}"), image)]);
        write(&at("decathlon"), &[(&format!("set/{split}/{file}"), image)]);
        table += &format!("{split},images/{file},{class}\n");
        let found = annotated.iter_mut().find(|(name, _)| name == split).unwrap();
        found
            .1
            .push((format!("set/{split}/{file}"), if *class == "cat" { 3 } else { 7 }));
        let found = rows.iter_mut().find(|(name, _)| name == split).unwrap();
        found
            .1
            .push((Some(image), Some("file.pgm"), i64::from(*class == "dog")));
    }
    write(&at("csv"), &[("manifest.csv", table.as_bytes())]);
    for (split, files) in &annotated {
        let files: Vec<(&str, i64)> = files
            .iter()
            .map(|(file, category)| (file.as_str(), *category))
            .collect();
        write(
            &at("decathlon"),
            &[(&format!("annotations/set_{split}.json"), &coco(&files))],
        );
    }
    for (split, rows) in &rows {
        let name = if *split == "val" { "validation" } else { split };
        parquet_file(
            &at(&format!("parquet/data/{name}-00000-of-00001.parquet")),
            rows,
            Some(&["cat", "dog"]),
        );
    }
    let expected = seen(&list(&at("folder"), DataFormat::Auto).unwrap());
    assert_eq!(expected.len(), 7);
    for (name, format) in [
        ("csv", DataFormat::Csv),
        ("decathlon", DataFormat::Decathlon),
        ("parquet", DataFormat::Parquet),
    ] {
        let data = list(&at(name), DataFormat::Auto).unwrap();
        assert_eq!(data.format, format);
        assert_eq!(*data.classes, ["cat", "dog"]);
        assert!(seen(&data) == expected, "{name}");
        // Listed and read anew, the data have the same name.
        let again = list(&at(name), format).unwrap();
        assert_eq!(data.measure().unwrap().digest, archived(&again).1);
    }
}

#[test]
fn cifar_records_are_labels_and_planes() {
    let pixels: Vec<u8> = (0..3072)
        .map(|at: usize| (at / 1024 * 100 + at % 7) as u8)
        .collect();
    let ten = |labels: &[u8]| -> Vec<u8> {
        labels
            .iter()
            .flat_map(|label| [&[*label], pixels.as_slice()].concat())
            .collect()
    };
    let names: String = (0..10).map(|class| format!("class{class}\n")).collect();
    let folder = folder(&[
        ("cifar-10-batches-bin/data_batch_1.bin", &ten(&[0, 9])),
        ("cifar-10-batches-bin/data_batch_2.bin", &ten(&[4])),
        ("cifar-10-batches-bin/test_batch.bin", &ten(&[9])),
        ("cifar-10-batches-bin/batches.meta.txt", (names + "\n").as_bytes()),
    ]);
    let data = list(folder.path(), DataFormat::Auto).unwrap();
    assert_eq!(data.format, DataFormat::Cifar10);
    // Classes that no image is of are left out, and that is said; so is what lacks of the training files.
    assert_eq!(*data.classes, ["class0", "class4", "class9"]);
    assert!(
        data.notes.iter().any(|note| note.contains("class1, class2")),
        "{:?}",
        data.notes
    );
    assert!(
        data.notes.iter().any(|note| note.contains("data_batch_3.bin")),
        "{:?}",
        data.notes
    );
    let found = entries(&archived(&data).0);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "train/class0/data_batch_1-00000.ppm",
            "train/class9/data_batch_1-00001.ppm",
            "train/class4/data_batch_2-00000.ppm",
            "test/class9/test_batch-00000.ppm"
        ]
    );
    // Pixel 1 (first row, second column) has byte 1 of each plane.
    let picture = Picture::decode(&found[0].1).unwrap();
    assert_eq!(picture.size(), (32, 32));
    assert_eq!(
        picture.square(32).unwrap()[3..6],
        [pixels[1], pixels[1025], pixels[2049]]
    );
}

#[test]
fn cifar_100_has_a_coarse_and_a_fine_label() {
    let record = |coarse, fine| [&[coarse, fine], [8; 3072].as_slice()].concat();
    let names: String = (0..100).map(|class| format!("fine{class}\n")).collect();
    let folder = folder(&[
        ("train.bin", &[record(19, 0), record(3, 99)].concat()),
        ("test.bin", &record(1, 99)),
        ("fine_label_names.txt", names.as_bytes()),
    ]);
    let data = list(folder.path(), DataFormat::Auto).unwrap();
    assert_eq!(data.format, DataFormat::Cifar100);
    assert_eq!(*data.classes, ["fine0", "fine99"]);
    assert_eq!(
        [Folder::Train, Folder::Test].map(|split| data.count(split)),
        [2, 1]
    );
}

#[test]
fn idx_files_are_big_endian_and_may_be_gzipped() {
    // By the definition: magic 0x00000803, 3 images, 2 rows, 3 columns.
    let images = [
        &[0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 3],
        (0..18).collect::<Vec<u8>>().as_slice(),
    ]
    .concat();
    assert_eq!(images, idx(&[3, 2, 3], &(0..18).collect::<Vec<u8>>()));
    let mut gzipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzipped.write_all(&images).unwrap();
    let gzipped = gzipped.finish().unwrap();
    let labels = idx(&[3], &[7, 2, 7]);
    let plain: [(&str, &[u8]); 2] = [
        ("train-images-idx3-ubyte", &images),
        ("train-labels.idx1-ubyte", &labels),
    ];
    let packed: [(&str, &[u8]); 2] = [
        ("train-images.idx3-ubyte.gz", &gzipped),
        ("train-labels-idx1-ubyte", &labels),
    ];
    let [plain, packed] = [plain, packed].map(|files| folder(&files));
    let data = list(plain.path(), DataFormat::Auto).unwrap();
    assert_eq!(data.format, DataFormat::Mnist);
    assert_eq!(*data.classes, ["2", "7"]);
    let found = entries(&archived(&data).0);
    assert_eq!(
        found[1],
        (
            "train/2/00001.pgm".to_owned(),
            b"P5\n3 2\n255\n\x06\x07\x08\x09\x0a\x0b".to_vec()
        )
    );
    assert_eq!(
        data.measure().unwrap(),
        list(packed.path(), DataFormat::Mnist).unwrap().measure().unwrap()
    );
    // One of several sets is named by its file.
    fs::write(plain.path().join("other-train-images-idx3-ubyte"), &images).unwrap();
    let error = list(plain.path(), DataFormat::Auto).unwrap_err().to_string();
    assert!(
        error.contains("found several, train-images..., other-train-images..."),
        "{error}"
    );
    let named = list(&plain.path().join("train-images-idx3-ubyte"), DataFormat::Auto).unwrap();
    assert_eq!(named.measure().unwrap(), data.measure().unwrap());
}

#[test]
fn annotations_without_labels_leave_the_test_split_to_chance() {
    let image = pgm(1);
    let secret = br#"{"images": [{"id": 1, "file_name": "c.pgm"}], "annotations": []}"#;
    let folder = folder(&[
        ("annotations/x_train.json", &coco(&[("a.pgm", 3), ("b.pgm", 7)])),
        ("annotations/x_test_stripped.json", secret),
        ("annotations/y_train.json", b"{}"),
        ("a.pgm", &image),
        ("b.pgm", &image),
    ]);
    let error = list(folder.path(), DataFormat::Auto).unwrap_err().to_string();
    assert!(
        error.contains("found several, x, y; give the path of one: annotations/x_train.json"),
        "{error}"
    );
    let data = list(&folder.path().join("annotations/x_train.json"), DataFormat::Auto).unwrap();
    assert_eq!((data.count(Folder::Train), data.count(Folder::Test)), (2, 0));
    assert!(
        data.notes[0].contains("x_test_stripped.json has no labels"),
        "{:?}",
        data.notes
    );
}

#[test]
fn tables_may_lack_splits_and_hold_odd_names() {
    let image = pgm(1);
    let folder = folder(&[
        (
            "t.csv",
            b"\xef\xbb\xbfLabel, path ,note\n n/a ,./x/.//1.pgm,\"a, b\"\nb,1.pgm,\n",
        ),
        ("x/1.pgm", &image),
        ("1.pgm", &image),
    ]);
    let data = list(&folder.path().join("t.csv"), DataFormat::Auto).unwrap();
    assert_eq!(*data.classes, ["b", "n/a"]);
    let names: Vec<String> = entries(&archived(&data).0)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["n%2Fa/x%2F1.pgm", "b/1.pgm"]);
}

#[test]
fn parquet_labels_without_names_are_their_own_and_secret_ones_are_no_split() {
    let (x, y) = (pgm(1), pgm(2));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows: Vec<Row<'_>> = (0..200)
        .map(|row| (Some(if row % 2 == 0 { &*x } else { &*y }), None, 10 - row % 2))
        .collect();
    parquet_file(&at("train-0.parquet"), &rows[..150], None);
    parquet_file(&at("train-1.parquet"), &rows[150..], None);
    parquet_file(&at("test.parquet"), &[(Some(&x), None, -1)], None);
    parquet_file(&at("extra-0.parquet"), &rows, None);
    let data = list(folder.path(), DataFormat::Auto).unwrap();
    assert_eq!(*data.classes, ["9", "10"]);
    assert_eq!(
        (data.count(Folder::Train), data.count(Folder::Test), data.ignored),
        (200, 0, 1)
    );
    assert!(
        data.notes
            .iter()
            .any(|note| note.contains("test.parquet has no labels")),
        "{:?}",
        data.notes
    );
    assert!(
        data.notes
            .iter()
            .any(|note| note.contains("extra-0.parquet is left out")),
        "{:?}",
        data.notes
    );
    let found = entries(&archived(&data).0);
    assert_eq!(found.len(), 200);
    assert_eq!(found[149], ("train/9/0000149".to_owned(), y));
    // A single file of no split is all there is.
    let whole = list(&at("extra-0.parquet"), DataFormat::Auto).unwrap();
    assert_eq!(whole.count(Folder::Class), 200);
}

#[test]
fn every_format_tells_that_its_images_have_changed() {
    let image = pgm(1);
    let labels = idx(&[2], &[0, 1]);
    let folder = folder(&[
        ("train-images-idx3-ubyte", &idx(&[2, 1, 1], &[1, 2])),
        ("train-labels-idx1-ubyte", &labels),
        ("t.csv", b"path,label\n1.pgm,a\n2.pgm,b\n"),
        ("1.pgm", &image),
        ("2.pgm", &image),
    ]);
    let at = |name: &str| folder.path().join(name);
    let rows: Vec<Row<'_>> = (0..4).map(|row| (Some(&*image), None, row % 2)).collect();
    parquet_file(&at("train.parquet"), &rows, None);
    let data = ["train-images-idx3-ubyte", "t.csv", "train.parquet"]
        .map(|name| list(&at(name), DataFormat::Auto).unwrap());
    fs::write(at("train-images-idx3-ubyte"), idx(&[2, 1, 1], &[1])).unwrap();
    fs::remove_file(at("2.pgm")).unwrap();
    parquet_file(&at("train.parquet"), &rows[..3], None);
    for data in data {
        assert!(data.measure().is_err(), "{data:?}");
    }
}
