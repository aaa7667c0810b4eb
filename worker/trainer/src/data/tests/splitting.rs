use std::collections::HashMap;

use super::*;

fn per_class(names: &HashSet<String>) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for name in names {
        *counts.entry(name.rsplit('/').nth(1).unwrap()).or_default() += 1;
    }
    counts
}

fn all(dataset: &Dataset) -> [HashSet<String>; 3] {
    [Split::Train, Split::HeldOut, Split::Test].map(|split| names(dataset, split))
}

#[test]
fn splits_are_disjoint_complete_and_stratified() {
    let case = Case::new(3, 20, 0);
    let dataset = case
        .open(&reading(serde_json::json!({ "test": 0.25, "held_out": 0.2 })), 1)
        .unwrap();
    let splits = all(&dataset);
    let union: HashSet<&String> = splits.iter().flatten().collect();
    assert_eq!(union.len(), 60);
    assert_eq!(splits.iter().map(HashSet::len).sum::<usize>(), 60);
    for (split, expected) in splits.iter().zip([12, 3, 5]) {
        assert_eq!(per_class(split).into_values().collect::<Vec<_>>(), [expected; 3]);
    }
}

#[test]
fn splits_follow_from_seed_and_names() {
    let case = Case::new(3, 20, 0);
    let [first, again, other] = [1, 1, 2].map(|seed| all(&case.open(&plain(), seed).unwrap()));
    assert_eq!(first, again);
    assert_ne!(first[1], other[1]);
    assert_ne!(first[2], other[2]);
}

#[test]
fn a_test_folder_is_the_test_split_whatever_the_seed() {
    let case = Case::new(2, 10, 4);
    let [one, two] = [1, 2].map(|seed| all(&case.open(&plain(), seed).unwrap()));
    assert_eq!(one[2], two[2]);
    assert_eq!(one[2].len(), 8);
    assert!(one[2].iter().all(|name| name.starts_with("test/")));
    assert!(one[0].union(&one[1]).all(|name| name.starts_with("train/")));
    assert_ne!(one[1], two[1]);
}

#[test]
fn a_val_folder_is_held_out_whatever_the_seed_and_the_share() {
    let images: Vec<Vec<u8>> = (0..9).map(pgm).collect();
    let names = [
        "train/a/1.pgm",
        "train/a/2.pgm",
        "train/b/1.pgm",
        "train/b/2.pgm",
        "train/b/3.pgm",
        "val/a/1.pgm",
        "val/a/2.pgm",
    ];
    let entries: Vec<(&str, &[u8])> = names.into_iter().zip(images.iter().map(Vec::as_slice)).collect();
    let case = Case::of(&entries);
    for seed in [1, 2] {
        let reading = reading(serde_json::json!({ "held_out": 0.9, "test": 0.5 }));
        let [train, held_out, test] = all(&case.open(&reading, seed).unwrap());
        assert_eq!(held_out.len(), 2);
        assert!(held_out.iter().all(|name| name.starts_with("val/")));
        // Nothing need be kept back for the held-out split: a class of two can be tested.
        assert_eq!(per_class(&test), HashMap::from([("a", 1), ("b", 2)]));
        assert_eq!(per_class(&train), HashMap::from([("a", 1), ("b", 1)]));
    }
    let unreadable = Case::of(&[
        entries[0],
        entries[1],
        entries[2],
        entries[3],
        ("val/a/1.pgm", b"?"),
    ]);
    let skip = reading(serde_json::json!({ "on_unreadable": "skip" }));
    let error = unreadable.open(&skip, 0).unwrap_err();
    assert!(
        matches!(
            error,
            Error::EmptySplit {
                split: Split::HeldOut
            }
        ),
        "{error}"
    );
}

#[test]
fn class_names_that_no_path_holds_are_read_back() {
    let [x, y] = [1, 2].map(pgm);
    let mut case = Case::of(&[
        ("n%2Fa/1.pgm", &x),
        ("n%2Fa/2.pgm", &y),
        ("n%2Fa/3.pgm", &x),
        ("b/1.pgm", &y),
    ]);
    case.classes[0] = "n/a".to_owned();
    assert_eq!(case.open(&plain(), 0).unwrap().len(Split::Train), 2);
}

#[test]
fn small_classes_train_first_and_test_last() {
    let images: Vec<Vec<u8>> = (0..6).map(pgm).collect();
    let names = ["a/1.pgm", "a/2.pgm", "a/3.pgm", "b/1.pgm", "c/1.pgm", "c/2.pgm"];
    let entries: Vec<(&str, &[u8])> = names.into_iter().zip(images.iter().map(Vec::as_slice)).collect();
    let mut case = Case::of(&entries);
    case.classes.push("c".to_owned());
    for share in [0.01, 0.9] {
        let dataset = case
            .open(
                &reading(serde_json::json!({ "held_out": share, "test": share })),
                0,
            )
            .unwrap();
        let [train, held_out, test] = all(&dataset);
        assert_eq!(per_class(&train), HashMap::from([("a", 1), ("b", 1), ("c", 1)]));
        assert_eq!(per_class(&held_out), HashMap::from([("a", 1), ("c", 1)]));
        assert_eq!(per_class(&test), HashMap::from([("a", 1)]));
    }
}

#[test]
fn what_cannot_be_learnt_or_measured_is_an_error() {
    let [x, y] = [1, 2].map(pgm);
    let lacks_b = Case::of(&[("train/a/1.pgm", &x), ("train/a/2.pgm", &y), ("test/b/1.pgm", &x)]);
    assert!(matches!(lacks_b.open(&plain(), 0), Err(Error::EmptyClass { class }) if class == "b"));
    let too_few = Case::of(&[("a/1.pgm", &x), ("b/1.pgm", &y)]);
    let error = too_few.open(&plain(), 0).unwrap_err();
    assert!(
        matches!(
            error,
            Error::EmptySplit {
                split: Split::HeldOut
            }
        ),
        "{error}"
    );
    assert_eq!(error.class(), nettailor_domain::trainer::FailureClass::Input);
    let unknown = Case::of(&[("a/1.pgm", &x), ("c/1.pgm", &y)]);
    assert!(matches!(unknown.open(&plain(), 0), Err(Error::UnknownClass { name, .. }) if name == "c/1.pgm"));
}
