//! What is wrong is said with its place, what was expected and what was found.

use super::*;

/// The error of opening these files, or one of them, must say all of this.
fn refused(files: &[(&str, &[u8])], path: &str, format: DataFormat, said: &[&str]) {
    let folder = folder(files);
    let error = list(&folder.path().join(path), format).unwrap_err().to_string();
    for text in said {
        assert!(error.contains(text), "`{text}` is missing from: {error}");
    }
}

#[test]
fn what_is_no_data_set_says_what_was_looked_for() {
    let looked_for = [
        "train/<class>",
        "_train.json",
        "data_batch_1.bin",
        "fine_label_names.txt",
        "idx3",
        "parquet",
        "manifest.csv",
    ];
    refused(&[("readme.md", b"")], "", DataFormat::Auto, &looked_for);
    refused(
        &[("x.zip", b"")],
        "x.zip",
        DataFormat::Auto,
        &["x.zip: no known format", "*.csv"],
    );
    let two: [(&str, &[u8]); 2] = [("train/a/1.png", b""), ("manifest.csv", b"")];
    refused(
        &two,
        "",
        DataFormat::Auto,
        &["may be `folder` or `csv`", "`data.format`"],
    );
    for format in [DataFormat::Folder, DataFormat::Cifar10, DataFormat::Cifar100] {
        refused(
            &[("x", b"")],
            "x",
            format,
            &[format.as_str(), "expected a folder, found a file"],
        );
    }
    for (format, lacks) in [
        (DataFormat::Decathlon, "annotations/<set>_train.json"),
        (DataFormat::Cifar10, "batches.meta.txt"),
        (DataFormat::Cifar100, "train.bin"),
        (DataFormat::Mnist, "train-images-idx3-ubyte"),
        (DataFormat::Parquet, "train-*.parquet"),
    ] {
        refused(&[("readme.md", b"")], "", format, &[format.as_str(), lacks]);
    }
    refused(
        &[("readme.md", b"")],
        "",
        DataFormat::Csv,
        &["cannot read", "manifest.csv"],
    );
}

#[test]
fn tables_are_checked_by_line() {
    let table = |text: &[u8], said: &[&str]| {
        let image = pgm(1);
        refused(
            &[("t.csv", text), ("1.pgm", &image), ("2.pgm", &image)],
            "t.csv",
            DataFormat::Auto,
            said,
        );
    };
    table(b"", &["line 1: expected a header", "an empty file"]);
    table(
        b"file,label\n1.pgm,a\n",
        &["`path`, `label`", "found `file`, `label`"],
    );
    table(
        b"path,label\n1.pgm,a,b\n",
        &["line 2", "expected 2 fields", "found 3"],
    );
    table(
        b"path,label\n1.pgm,a\n2.pgm,\n",
        &["line 3", "`label`, found nothing"],
    );
    table(b"path,label\n1.pgm,a\n\xff.pgm,b\n", &["line 3", "UTF-8"]);
    table(
        b"path,label,split\n1.pgm,a,train\n2.pgm,b,dev\n",
        &["line 3", "`train`, `val` or `test`", "`dev`"],
    );
    table(
        b"path,label,split\n1.pgm,a,train\n2.pgm,b,\n",
        &["line 3", "found nothing"],
    );
    table(
        b"path,label\n1.pgm,a\n./1.pgm,b\n",
        &["line 3", "`1.pgm`, line 2 again"],
    );
    table(
        b"path,label\n1.pgm,a\n.//./1.pgm,b\n",
        &["line 3", "`1.pgm`, line 2 again"],
    );
    for outside in ["/etc/hostname", "../1.pgm", "x/../../1.pgm", "//1.pgm", "./"] {
        table(
            format!("path,label\n1.pgm,a\n{outside},b\n").as_bytes(),
            &[
                "t.csv, line 3",
                "a relative name without `..`",
                &format!("found `{outside}`"),
            ],
        );
    }
    table(
        b"path,label\n1.pgm,a\n3.pgm,b\n",
        &["1 of the images", "`3.pgm`, line 3", "relative to"],
    );
    table(b"path,label\n1.pgm,a\n2.pgm,a\n", &["found 1 class(es)"]);
    table(
        b"path,label,split\n1.pgm,a,train\n2.pgm,b,test\n",
        &["no training image of b"],
    );
}

#[test]
fn annotations_are_checked_by_key() {
    let annotated = |text: &[u8], said: &[&str]| {
        let image = pgm(1);
        refused(
            &[("annotations/x_train.json", text), ("a.pgm", &image)],
            "",
            DataFormat::Auto,
            said,
        );
    };
    annotated(
        b"{\"images\": [",
        &["x_train.json", "JSON with `images`", "line 1 column 12"],
    );
    annotated(
        &coco(&[("a.pgm", 3), ("b.pgm", 7)]),
        &["1 of the images", "`b.pgm`, images[1]"],
    );
    annotated(
        &coco(&[("a.pgm", 3), ("a.pgm", 7)]),
        &["images[1]", "`a.pgm`, images[0] again"],
    );
    for outside in ["/etc/hostname", "../a.pgm"] {
        annotated(
            &coco(&[("a.pgm", 3), (outside, 7)]),
            &[
                "x_train.json, images[1]",
                "relative name",
                &format!("found `{outside}`"),
            ],
        );
    }
    annotated(&coco(&[("a.pgm", 4)]), &["annotations[0].category_id", "found 4"]);
    let categories = r#""categories": [{"id": 3, "name": "cat"}]"#;
    let images = r#""images": [{"id": 1, "file_name": "a.pgm"}]"#;
    let one = |annotations: &str| format!(r#"{{{images}, {categories}, "annotations": [{annotations}]}}"#);
    let cat = r#"{"image_id": 1, "category_id": 3}"#;
    annotated(
        one("").as_bytes(),
        &["images[0]", "an annotation of image 1, found none"],
    );
    annotated(
        one(&format!("{cat}, {cat}")).as_bytes(),
        &["annotations[1].image_id", "1 again"],
    );
    annotated(
        one(&cat.replace(": 1", ": 2")).as_bytes(),
        &["annotations[0].image_id", "found 2"],
    );
    let twice =
        format!(r#"{{{images}, "categories": [{{"id": 3, "name": "a"}}, {{"id": 3, "name": "b"}}]}}"#);
    annotated(twice.as_bytes(), &["categories", "3 twice"]);
    let same = format!(
        r#"{{{images}, "annotations": [{cat}], "categories": [{{"id": 3, "name": "a"}}, {{"id": 4, "name": "a"}}]}}"#
    );
    annotated(
        same.as_bytes(),
        &["a name of its own for every class", "`a` twice"],
    );
}

#[test]
fn a_category_is_the_same_in_every_split() {
    let split = |categories: &str, said: &str| {
        let val = format!(
            r#"{{"images": [{{"id": 1, "file_name": "c.pgm"}}], "categories": [{categories}],
                "annotations": [{{"image_id": 1, "category_id": 3}}]}}"#
        );
        let (image, train) = (pgm(1), coco(&[("a.pgm", 3), ("b.pgm", 7)]));
        let files = [
            ("annotations/x_train.json", train.as_slice()),
            ("annotations/x_val.json", val.as_bytes()),
            ("a.pgm", &image),
            ("b.pgm", &image),
            ("c.pgm", &image),
        ];
        refused(
            &files,
            "",
            DataFormat::Auto,
            &["x_val.json, categories[1]: expected what category", said],
        );
    };
    let dog = r#"{"id": 7, "name": "dog"}"#;
    split(
        &format!(r#"{dog}, {{"id": 3, "name": "dog"}}"#),
        "category 3 is in the training annotations: `cat`, found `dog`",
    );
    split(
        &format!(r#"{dog}, {{"id": 4, "name": "cow"}}"#),
        "category 4 is in the training annotations: no such category, found `cow`",
    );
}

#[test]
fn idx_files_are_checked_by_byte() {
    let (good_images, good_labels) = (idx(&[2, 1, 1], &[1, 2]), idx(&[2], &[0, 1]));
    let mnist = |images: &[u8], labels: &[u8], said: &[&str]| {
        let files = [
            ("train-images-idx3-ubyte", images),
            ("train-labels-idx1-ubyte", labels),
        ];
        refused(&files, "", DataFormat::Auto, said);
    };
    mnist(
        &idx(&[2], &[1, 2]),
        &good_labels,
        &["images-idx3-ubyte, byte 0", "0x00000803", "0x00000801"],
    );
    mnist(
        b"\x1f\x8b",
        &good_labels,
        &["images-idx3-ubyte, byte 2", "cut short"],
    );
    mnist(
        &good_images[..17],
        &good_labels,
        &["byte 17", "1 bytes from byte 17 on", "cut short"],
    );
    mnist(
        &[&*good_images, b"x"].concat(),
        &good_labels,
        &["byte 18", "expected the end of the file"],
    );
    mnist(
        &good_images,
        &idx(&[3], &[0, 1, 0]),
        &["labels-idx1-ubyte", "2 labels", "found 3"],
    );
    mnist(
        &good_images,
        &idx(&[9], &[0, 1]),
        &["labels-idx1-ubyte, byte 10", "cut short"],
    );
    mnist(
        &idx(&[0, 1, 1], &[]),
        &idx(&[0], &[]),
        &["a number of images above 0"],
    );
    mnist(
        &idx(&[2, 0, 1], &[]),
        &good_labels,
        &["byte 8", "rows and columns"],
    );
    mnist(
        &idx(&[u32::MAX, 9, 9], &[1]),
        &good_labels,
        &["byte 17", "cut short"],
    );
    refused(
        &[("train-images-idx3-ubyte", &good_images)],
        "",
        DataFormat::Auto,
        &["expected train-labels-idx1-ubyte"],
    );
    let no_gzip: [(&str, &[u8]); 2] = [
        ("train-images-idx3-ubyte.gz", b"plain"),
        ("train-labels-idx1-ubyte", &good_labels),
    ];
    refused(&no_gzip, "", DataFormat::Auto, &["cannot read", "ubyte.gz"]);
}

#[test]
fn cifar_files_are_checked_by_byte() {
    let names: String = (0..10).map(|class| format!("c{class}\n")).collect();
    let record = |label: u8| [&[label], [0; 3072].as_slice()].concat();
    let cifar = |batch: &[u8], names: &str, said: &[&str]| {
        let files = [
            ("data_batch_1.bin", batch),
            ("batches.meta.txt", names.as_bytes()),
        ];
        refused(&files, "", DataFormat::Auto, said);
    };
    cifar(
        &[record(0), record(10)].concat(),
        &names,
        &["data_batch_1.bin, byte 3073", "0 to 9 in record 1", "found 10"],
    );
    cifar(&record(0)[..100], &names, &["byte 100", "cut short"]);
    cifar(
        &[record(0), vec![1]].concat(),
        &names,
        &["byte 3074", "cut short"],
    );
    cifar(b"", &names, &["an empty file", "records of 3073 bytes"]);
    cifar(&record(0), "a\nb\n", &["batches.meta.txt", "10 names", "found 2"]);
    let gap = [
        ("data_batch_1.bin", record(0)),
        ("data_batch_3.bin", record(1)),
        ("batches.meta.txt", names.clone().into_bytes()),
    ];
    let gap: Vec<(&str, &[u8])> = gap
        .iter()
        .map(|(name, bytes)| (*name, bytes.as_slice()))
        .collect();
    refused(&gap, "", DataFormat::Auto, &["cannot read", "data_batch_2.bin"]);
}

#[test]
fn parquet_files_are_checked_by_row() {
    let image = pgm(1);
    let row = |label| -> Row<'_> { (Some(&image), None, label) };
    let parquet = |rows: &[Row<'_>], said: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        parquet_file(&folder.path().join("train.parquet"), rows, Some(&["a", "b"]));
        let error = list(folder.path(), DataFormat::Auto).unwrap_err().to_string();
        said.iter()
            .for_each(|text| assert!(error.contains(text), "`{text}` is missing from: {error}"));
    };
    parquet(
        &[row(0), row(1), row(2)],
        &["train.parquet, row 2", "0 to 1", "found 2"],
    );
    parquet(&[row(0), row(-1)], &["row 1", "found -1"]);
    parquet(&[row(0), (None, Some("1.png"), 1)], &["the bytes of every image"]);
    refused(
        &[("train.parquet", b"PAR1")],
        "",
        DataFormat::Auto,
        &["train.parquet: expected a Parquet file"],
    );

    let folder = tempfile::tempdir().unwrap();
    parquet_file(
        &folder.path().join("train.parquet"),
        &[row(0), row(1)],
        Some(&["a", "b"]),
    );
    parquet_file(&folder.path().join("test.parquet"), &[row(0)], Some(&["b", "a"]));
    let error = list(folder.path(), DataFormat::Auto).unwrap_err().to_string();
    assert!(
        error.contains("expected the names of classes that") && error.contains("found others"),
        "{error}"
    );
}
