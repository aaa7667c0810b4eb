//! Image folders, and the archive.

use std::fs;
use std::path::Path;

use super::*;

fn open(path: &Path) -> Result<DataSet, Error> {
    list(path, DataFormat::Folder)
}

fn archive(path: &Path) -> (Vec<u8>, Digest) {
    archived(&open(path).unwrap())
}

const SPLIT: [(&str, &[u8]); 6] = [
    ("train/b/2.png", b"bb"),
    ("train/a/1.PNG", b"a"),
    ("train/a-b/1.jpg", b"dash"),
    ("test/a/9.pgm", b"test"),
    ("train/b/notes.txt", b"no image"),
    ("train/b/.hidden.png", b"hidden"),
];

#[test]
fn the_archive_lists_images_by_name() {
    let folder = folder(&SPLIT);
    let found = open(folder.path()).unwrap();
    assert_eq!(*found.classes, ["a", "a-b", "b"]);
    assert_eq!((found.bytes, found.ignored), (11, 1));
    let counts = |folder, images: [u64; 3]| SplitCounts {
        folder,
        images: images.to_vec(),
    };
    assert_eq!(
        found.splits,
        [counts(Folder::Train, [1, 1, 1]), counts(Folder::Test, [1, 0, 0])]
    );
    assert_eq!(found.splits[0].total(), 3);

    let (bytes, digest) = archive(folder.path());
    let entry = |name: &str, content: &[u8]| (name.to_owned(), content.to_vec());
    let expected = [
        entry("test/a/9.pgm", b"test"),
        entry("train/a-b/1.jpg", b"dash"),
        entry("train/a/1.PNG", b"a"),
        entry("train/b/2.png", b"bb"),
    ];
    assert_eq!(entries(&bytes), expected);
    assert_eq!(digest, Digest::of(&bytes));
    let measured = found.measure().unwrap();
    assert_eq!((measured.digest, measured.bytes), (digest, bytes.len() as u64));
}

#[test]
fn a_folder_of_classes_alone_is_one_split() {
    let folder = folder(&[("b/1.png", b"1"), ("a/2.png", b"2"), ("readme.md", b"")]);
    let found = open(folder.path()).unwrap();
    assert_eq!(
        found.splits,
        [SplitCounts {
            folder: Folder::Class,
            images: vec![1, 1]
        }]
    );
    assert_eq!(found.ignored, 1);
    let names: Vec<String> = entries(&archive(folder.path()).0)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["a/2.png", "b/1.png"]);
}

#[test]
fn the_digest_is_of_names_and_contents_alone() {
    let (first, second) = (folder(&SPLIT), folder(&SPLIT));
    let old = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    fs::File::options()
        .append(true)
        .open(second.path().join("train/b/2.png"))
        .unwrap()
        .set_times(old)
        .unwrap();
    fs::write(second.path().join("train/b/more.txt"), b"no image either").unwrap();
    let digest = archive(first.path()).1;
    assert_eq!(digest, archive(second.path()).1);
    fs::rename(
        second.path().join("train/b/2.png"),
        second.path().join("train/b/3.png"),
    )
    .unwrap();
    let renamed = archive(second.path()).1;
    fs::write(first.path().join("train/b/2.png"), b"bc").unwrap();
    let changed = archive(first.path()).1;
    assert!(digest != renamed && digest != changed && renamed != changed);
}

#[test]
fn long_names_and_many_files_travel() {
    let long = format!("train/a/{}.png", "x".repeat(200));
    let many: Vec<String> = (0..3 * READ_AHEAD)
        .map(|number| format!("train/b/{number:04}.png"))
        .collect();
    let mut files: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    files.push((&long, b"long"));
    let found = entries(&archive(folder(&files).path()).0);
    assert_eq!(found[0], (long.clone(), b"long".to_vec()));
    assert!(
        found[1..]
            .iter()
            .zip(&many)
            .all(|((name, content), expected)| name == expected && content == expected.as_bytes())
    );
    assert_eq!(found.len(), files.len());
}

#[test]
fn what_is_wrong_is_named_with_its_path() {
    let told = |files: &[(&str, &[u8])]| open(folder(files).path()).unwrap_err().to_string();
    let missing = list(Path::new("/no/such/folder"), DataFormat::Auto)
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("/no/such/folder: there is no such file or folder"),
        "{missing}"
    );
    assert!(told(&[]).contains("found 0 class(es)"));
    assert!(
        told(&[("train/a/1.png", b"")])
            .contains("train: found 1 class(es) with training images, need at least 2")
    );
    let empty = told(&[("a/1.png", b""), ("b/1.txt", b"")]);
    assert!(empty.contains("b: no image in this class folder"), "{empty}");
    let unknown = told(&[
        ("train/a/1.png", b""),
        ("train/b/1.png", b""),
        ("test/c/1.png", b""),
    ]);
    assert!(
        unknown.contains("c: this class has no folder under `train`; expected one of a, b"),
        "{unknown}"
    );
    let untested = told(&[
        ("train/a/1.png", b""),
        ("train/b/1.png", b""),
        ("test/readme.txt", b""),
    ]);
    assert!(
        untested
            .contains("test: this is no data set in the format `folder`: expected a folder for each class"),
        "{untested}"
    );
}

#[test]
fn a_file_that_vanishes_is_named() {
    let folder = folder(&SPLIT);
    let found = open(folder.path()).unwrap();
    fs::remove_file(folder.path().join("train/b/2.png")).unwrap();
    let error = found.measure().unwrap_err().to_string();
    assert!(
        error.starts_with("cannot read ") && error.ends_with("train/b/2.png"),
        "{error}"
    );
}

#[test]
fn a_val_folder_is_a_split_of_its_own_by_any_of_its_names() {
    for name in ["val", "valid", "Validation"] {
        let val = format!("{name}/b/2.png");
        let folder = folder(&[("train/a/1.png", b"a"), ("train/b/1.png", b"b"), (&val, b"v")]);
        let found = open(folder.path()).unwrap();
        assert_eq!(
            [Folder::Train, Folder::Val].map(|split| found.count(split)),
            [2, 1]
        );
        assert!(entries(&archive(folder.path()).0).contains(&("val/b/2.png".to_owned(), b"v".to_vec())));
    }
    let twice = folder(&[
        ("train/a/1.png", b""),
        ("train/b/1.png", b""),
        ("val/b/1.png", b""),
        ("valid/b/1.png", b""),
    ]);
    let error = open(twice.path()).unwrap_err().to_string();
    assert!(
        error.contains("expected one folder for the split `val`, found more than one"),
        "{error}"
    );
}
