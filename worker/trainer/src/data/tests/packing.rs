use std::fs;
use std::path::PathBuf;
use std::sync::{Barrier, Mutex};

use super::*;

/// The packed file of a case that was opened once.
fn packed_file(case: &Case) -> PathBuf {
    let files = fs::read_dir(case.folder.path().join("packed"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

fn reports(case: &Case) -> Vec<String> {
    let mut reports = Vec::new();
    case.open_with(&plain(), 0, &mut |words| reports.push(words.to_owned()))
        .unwrap();
    reports
}

#[test]
fn the_packed_file_is_safetensors_and_serves_without_the_archive() {
    let case = Case::new(2, 6, 2);
    assert_eq!(reports(&case), ["decoded 16 images to 16 x 16 pixels"]);
    let bytes = fs::read(packed_file(&case)).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("images").unwrap().shape(), [16, 16, 16, 3]);
    fs::remove_file(case.archive()).unwrap();
    assert_eq!(reports(&case), [""; 0]);
}

#[test]
fn a_damaged_packed_file_is_made_anew() {
    let case = Case::new(2, 6, 2);
    case.open(&plain(), 0).unwrap();
    let path = packed_file(&case);
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let damages = [
        flipped,
        whole[..whole.len() - 1].to_vec(),
        whole[..4].to_vec(),
        vec![],
        vec![b'x'; whole.len()],
    ];
    for damaged in damages {
        // Replaced, not written to: files are never changed under those who map them.
        fs::write(path.with_extension("new"), damaged).unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        let told = reports(&case);
        assert!(told.iter().any(|words| words.contains("damaged")), "{told:?}");
        assert!(fs::read(&path).unwrap() == whole);
    }
}

#[test]
fn what_a_killed_trainer_left_is_overwritten() {
    let case = Case::new(2, 6, 2);
    case.open(&plain(), 0).unwrap();
    let path = packed_file(&case);
    let whole = fs::read(&path).unwrap();
    fs::rename(&path, path.with_extension("partial")).unwrap();
    fs::write(path.with_extension("partial"), vec![b'x'; 3 * whole.len()]).unwrap();
    case.open(&plain(), 0).unwrap();
    assert!(fs::read(&path).unwrap() == whole);
    assert!(!path.with_extension("partial").exists());
}

#[test]
fn openers_at_once_decode_once() {
    let case = Case::new(2, 40, 4);
    let told = Mutex::new(Vec::new());
    let together = Barrier::new(6);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                together.wait();
                let dataset = case.open_with(&plain(), 0, &mut |words| {
                    told.lock().unwrap().push(words.to_owned())
                });
                assert_eq!(dataset.unwrap().len(Split::Test), 8);
            });
        }
    });
    let decoded = told
        .lock()
        .unwrap()
        .iter()
        .filter(|words| words.starts_with("decoded"))
        .count();
    assert_eq!(decoded, 1);
}

#[test]
fn packing_is_the_same_for_any_number_of_threads() {
    let case = Case::new(3, 100, 5);
    let packed = [1, 4].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| case.open(&plain(), 0)).unwrap();
        let path = packed_file(&case);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(path).unwrap();
        bytes
    });
    assert!(packed[0] == packed[1]);
}

#[test]
fn unreadable_images_fail_or_are_skipped_by_name() {
    let image = pgm(7);
    let broken: Vec<String> = (0..12)
        .map(|number| format!("train/a/x{number:02}.png"))
        .collect();
    let mut entries: Vec<(&str, &[u8])> = broken
        .iter()
        .map(|name| (name.as_str(), b"no image".as_slice()))
        .collect();
    for name in [
        "train/a/1.pgm",
        "train/a/2.pgm",
        "train/b/1.pgm",
        "train/b/2.pgm",
        "test/a/1.pgm",
    ] {
        entries.push((name, &image));
    }
    let case = Case::of(&entries);
    let error = case.open(&plain(), 0).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("12 images cannot be read: `train/a/x00.png` ("),
        "{text}"
    );
    assert!(
        text.contains("x09.png") && !text.contains("x10.png") && text.contains("and 2 more"),
        "{text}"
    );
    assert_eq!(error.class(), nettailor_domain::trainer::FailureClass::Input);

    let skipping = reading(serde_json::json!({ "on_unreadable": "skip" }));
    let mut told = Vec::new();
    let dataset = case
        .open_with(&skipping, 0, &mut |words| told.push(words.to_owned()))
        .unwrap();
    assert_eq!(dataset.unreadable(), 12);
    assert_eq!(dataset.unreadable_images()[11].name, "train/a/x11.png");
    assert_eq!(
        [Split::Train, Split::HeldOut, Split::Test].map(|split| dataset.len(split)),
        [2, 2, 1]
    );
    assert!(
        told.iter()
            .any(|words| words.contains("left out 12 unreadable images: `train/a/x00.png`")),
        "{told:?}"
    );
}

#[test]
fn skipping_never_borrows_training_images_for_a_test_folder_that_cannot_be_read() {
    let [x, y] = [1, 2].map(pgm);
    let case = Case::of(&[
        ("test/a/1.pgm", b"?"),
        ("train/a/1.pgm", &x),
        ("train/a/2.pgm", &y),
        ("train/b/1.pgm", &x),
        ("train/b/2.pgm", &y),
    ]);
    let error = case
        .open(&reading(serde_json::json!({ "on_unreadable": "skip" })), 0)
        .unwrap_err();
    assert!(
        matches!(error, Error::EmptySplit { split: Split::Test }),
        "{error}"
    );
}

#[test]
fn a_class_without_a_readable_image_is_named() {
    let image = pgm(7);
    let case = Case::of(&[
        ("a/1.pgm", &image),
        ("a/2.pgm", &image),
        ("a/3.pgm", &image),
        ("b/1.pgm", b"?"),
    ]);
    let error = case
        .open(&reading(serde_json::json!({ "on_unreadable": "skip" })), 0)
        .unwrap_err();
    assert!(
        matches!(error, Error::EmptyClass { ref class } if class == "b"),
        "{error}"
    );
}

#[test]
fn archives_that_are_none_leave_nothing_behind() {
    let image = pgm(7);
    for misplaced in ["1.pgm", "train/a/deep/1.pgm", "dev/a/1.pgm"] {
        let error = Case::of(&[("train/a/1.pgm", &image), (misplaced, &image)])
            .open(&plain(), 0)
            .unwrap_err();
        assert!(
            matches!(error, Error::Layout(ref found) if found.0 == misplaced),
            "{error}"
        );
    }
    let mixed = Case::of(&[("train/a/1.pgm", &image), ("a/1.pgm", &image)]).open(&plain(), 0);
    assert!(matches!(mixed, Err(Error::Layout(found)) if found.0 == "a/1.pgm"));

    let case = Case::new(2, 6, 2);
    let whole = fs::read(case.archive()).unwrap();
    fs::write(case.archive(), &whole[..whole.len() / 2 + 100]).unwrap();
    let error = case.open(&plain(), 0).unwrap_err();
    assert!(matches!(error, Error::Archive { .. }), "{error}");
    let left: Vec<_> = fs::read_dir(case.folder.path().join("packed"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert!(
        left.iter()
            .all(|path| path.extension().is_some_and(|e| e == "lock")),
        "{left:?}"
    );
    fs::remove_file(case.archive()).unwrap();
    assert!(matches!(case.open(&plain(), 0), Err(Error::Archive { .. })));
}
