//! One suite for every store, and what a directory adds: locks, formats, damage.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::fs;
use std::path::Path;

use nettailor_coordinator::store::{Error, MemoryStore, Row, SledStore, Store};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::Digest;
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::stage::{Artifact, plan};
use nettailor_domain::task::{BackboneInput, DataInput, TaskInputs};
use nettailor_domain::taskfile::TasksFile;
use nettailor_scheduler::record::{JobRecord, JobState, Record, StageRecord, StageState};

/// A job and its stages, as they are kept after a submission.
fn submission(sequence: u64) -> Vec<Row> {
    let text = "version: 1\nbackbone: lite0\ntasks:\n  - {name: digits, data: {path: digits}}\n";
    let task = TasksFile::parse(text).expect("complete").tasks.remove(0);
    let inputs = TaskInputs {
        backbone: BackboneInput::Weights(Digest::of(b"backbone")),
        data: DataInput {
            archive: Digest::of(&sequence.to_be_bytes()),
            classes: vec!["zero".into(), "one".into()],
        },
    };
    let planned = plan(BackboneName::Lite0, &task, &inputs);
    let job = JobRecord {
        id: format!("digits-{sequence}").parse().expect("an id"),
        sequence,
        arch: BackboneName::Lite0,
        task,
        inputs,
        stages: planned.iter().map(|stage| stage.key).collect(),
        submitted_ms: 1,
        stages_run: 0,
        state: JobState::Active,
    };
    let stages = planned.into_iter().map(|planned| {
        let state = StageState::Pending;
        let stage = StageRecord {
            planned,
            input_bytes: [1, 2],
            attempts: 0,
            faults: 0,
            losses: 0,
            returns: 0,
            checkpoint: None,
            state,
        };
        Row::Record(Record::Stage(Box::new(stage)))
    });
    stages.chain([Row::Record(Record::Job(Box::new(job)))]).collect()
}

fn backbone(source: &str) -> Row {
    let weights = Artifact {
        digest: Digest::of(source.as_bytes()),
        bytes: 7,
    };
    Row::Backbone(BackboneRecord {
        arch: BackboneName::Lite0,
        weights,
        source: source.into(),
        registered_ms: 5,
    })
}

fn same(mut found: Vec<Row>, mut expected: Vec<Row>) {
    let name = |row: &Row| format!("{row:?}");
    found.sort_by_key(name);
    expected.sort_by_key(name);
    assert_eq!(found, expected);
}

/// What every store promises; `open` opens the same one again after it was dropped.
fn conforms<S: Store>(open: impl Fn() -> S) {
    let mut store = open();
    assert_eq!(store.load().unwrap(), []);
    store.commit(&[]).unwrap();

    let (one, two) = (submission(1), submission(2));
    store.commit(&one).unwrap();
    store.commit(&two).unwrap();
    store.commit(&[backbone("old.pth")]).unwrap();
    drop(store);

    let mut store = open();
    same(
        store.load().unwrap(),
        [&one[..], &two, &[backbone("old.pth")]].concat(),
    );
    // A later row takes the place of the earlier one, within a commit and across commits.
    let mut changed = one.clone();
    let Some(Row::Record(Record::Job(job))) = changed.last_mut() else {
        panic!("the job is last")
    };
    job.state = JobState::Cancelled {
        reason: "enough".into(),
        finished_ms: 9,
    };
    store
        .commit(&[
            backbone("middle.pth"),
            changed[changed.len() - 1].clone(),
            backbone("new.pth"),
        ])
        .unwrap();
    drop(store);
    same(
        open().load().unwrap(),
        [&changed[..], &two, &[backbone("new.pth")]].concat(),
    );
}

#[test]
fn memory_conforms() {
    let store = MemoryStore::default();
    conforms(|| store.clone());
}

#[test]
fn sled_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(|| SledStore::open(&folder.path().join("state")).unwrap());
}

fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    SledStore::open(folder.path())
        .unwrap()
        .commit(&submission(1))
        .unwrap();
    folder
}

fn refusal(folder: &Path) -> Error {
    SledStore::open(folder).map(drop).expect_err("must not open")
}

#[test]
fn a_directory_in_use_is_refused() {
    let folder = filled();
    let _first = SledStore::open(folder.path()).unwrap();
    let error = refusal(folder.path());
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
}

#[test]
fn a_later_format_is_refused() {
    let folder = filled();
    fs::write(folder.path().join("format"), "4\n").unwrap();
    let error = refusal(folder.path());
    assert!(
        matches!(
            error,
            Error::Newer {
                found: 4,
                known: 3,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn an_earlier_format_is_refused_and_says_what_to_do() {
    let folder = filled();
    fs::write(folder.path().join("format"), "1\n").unwrap();
    let error = refusal(folder.path());
    assert!(
        matches!(
            error,
            Error::Older {
                found: 1,
                known: 3,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("move it away to start empty"),
        "{error}"
    );
}

#[test]
fn a_lost_database_is_not_taken_for_a_new_one() {
    let folder = filled();
    fs::remove_dir_all(folder.path().join("db")).unwrap();
    let error = refusal(folder.path());
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert!(!folder.path().join("db").exists());
}

#[test]
fn an_overwritten_database_is_refused() {
    for damage in [&[][..], &[0xA5; 100_000]] {
        let folder = filled();
        fs::write(folder.path().join("db/db"), damage).unwrap();
        let error = refusal(folder.path());
        assert!(
            matches!(error, Error::Damaged { .. } | Error::Database { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_file_in_place_of_the_directory_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    fs::write(&file, "").unwrap();
    let error = refusal(&file);
    assert!(error.to_string().contains("state"), "{error}");
}

#[test]
fn rows_are_never_lost_without_a_word() {
    let mut noticed = 0;
    for place in [2, 10, 30, 50, 70, 90] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SledStore::open(folder.path()).unwrap();
        (1..=20).for_each(|sequence| store.commit(&submission(sequence)).unwrap());
        let all = store.load().unwrap().len();
        drop(store);
        let path = folder.path().join("db/db");
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() * place / 100;
        bytes[at..at + 200].iter_mut().for_each(|byte| *byte ^= 0x5A);
        fs::write(&path, bytes).unwrap();
        match SledStore::open(folder.path()).and_then(|mut store| store.load()) {
            Ok(rows) => assert_eq!(rows.len(), all, "damage at {place} % was not noticed"),
            Err(Error::Damaged { .. } | Error::Database { .. }) => noticed += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(noticed > 0, "the damage hit nothing");
}
