//! What a process can leave behind that ends while rows move from the log into the database.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nettailor_scheduler::record::{Record, UserRecord};
use tempfile::TempDir;

use super::memtable::Changed;
use super::sled::UNSOUND;
use super::tree::Tree;
use super::{Change, Encoded, Error, Row, SledStore, Store};

fn user(name: &str, weight: u32) -> Change {
    Change::Put(Row::Record(Record::User(UserRecord {
        weight,
        ..UserRecord::usual(name.parse().unwrap())
    })))
}

/// A store with a commit for each user, and one that changes the first; what changed last of all rows.
fn filled() -> (TempDir, Changed) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SledStore::open(folder.path()).unwrap();
    let names = ["ada", "bob", "eve", "joe"];
    let changes = names
        .map(|name| user(name, 1))
        .into_iter()
        .chain([user("ada", 7), Change::Put(Row::Clock(Duration::from_secs(9)))]);
    let mut changed = Changed::new();
    for change in changes {
        let encoded = Encoded::from(change);
        store.commit(std::slice::from_ref(&encoded)).unwrap();
        changed.insert(encoded.key, encoded.value);
    }
    (folder, changed)
}

fn read(path: &Path) -> Vec<Row> {
    let mut rows = SledStore::open(path).and_then(|mut store| store.load()).unwrap();
    rows.sort_by_key(|row| row.key());
    rows
}

#[test]
fn rows_that_moved_in_part_are_moved_again() {
    let (folder, mut changed) = filled();
    let before = read(folder.path());
    assert_eq!(before.len(), 5);
    // The first rows, among them one of an older value, but not what tells how far it got.
    let old = Encoded::from(user("eve", 3));
    changed.insert(old.key, old.value);
    changed.pop_last();
    let tree = Tree::open(folder.path(), true).unwrap();
    tree.settle(&changed, 0).unwrap();
    drop(tree);
    assert_eq!(read(folder.path()), before);
}

#[test]
fn a_log_that_was_not_shortened_yet_changes_nothing() {
    let (folder, changed) = filled();
    let before = read(folder.path());
    let tree = Tree::open(folder.path(), true).unwrap();
    tree.settle(&changed, 6).unwrap();
    drop(tree);
    assert_eq!(read(folder.path()), before);
    // Commits go on after it, and it is not needed.
    let mut store = SledStore::open(folder.path()).unwrap();
    store.commit(&[user("zoe", 1).into()]).unwrap();
    drop(store);
    let mut segments: Vec<_> = fs::read_dir(folder.path().join("wal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    assert_eq!(segments.len(), 2);
    fs::remove_file(&segments[0]).unwrap();
    assert_eq!(read(folder.path()).len(), 6);
    fs::remove_file(&segments[1]).unwrap();
    let error = SledStore::open(folder.path()).map(drop).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn what_sled_was_writing_is_not_damage_and_what_settling_found_is() {
    let (folder, _) = filled();
    let before = read(folder.path());
    fs::write(folder.path().join("db/snap.00000000000FFFFF.generating"), [7; 20]).unwrap();
    assert_eq!(read(folder.path()), before);
    fs::write(folder.path().join(UNSOUND), "").unwrap();
    let error = SledStore::open(folder.path()).map(drop).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");

    let new = tempfile::tempdir().unwrap();
    fs::create_dir(new.path().join("db")).unwrap();
    fs::write(new.path().join("db/conf"), "segment_size: 524288\nuse_comp").unwrap();
    assert_eq!(read(new.path()), []);
}
