//! One suite for every store, and what a directory adds: locks, formats, damage.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::fs;
use std::path::Path;

use nettailor_coordinator::store::{Change, Encoded, Error, MemoryStore, Row, SledStore, Store};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Attempt, Digest, StageKey};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::stage::{Artifact, plan};
use nettailor_domain::task::{BackboneInput, DataInput, TaskInputs};
use nettailor_domain::taskfile::TasksFile;
use nettailor_domain::trainer::Progress;
use nettailor_scheduler::record::{JobRecord, JobState, JobStatus, Record, StageRecord};

/// A job, where it stands, and a stage, as they are kept after its first attempt.
fn submission(sequence: u64) -> Vec<Change> {
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
    let stages: Vec<StageKey> = planned.iter().map(|stage| stage.key).collect();
    let stage = StageRecord {
        attempts: 1,
        faults: 1,
        ..StageRecord::new(stages[0])
    };
    let attempt = Attempt {
        stage: stages[0],
        number: 1,
    };
    let job = JobRecord {
        id: format!("digits-{sequence}").parse().expect("an id"),
        sequence,
        user: Default::default(),
        retry_of: None,
        arch: BackboneName::Lite0,
        task,
        inputs,
        input_bytes: [1, 2],
        reruns: vec![],
        stages,
        submitted_ms: 1,
    };
    let rows = [
        Row::Record(Record::Stage(Box::new(stage))),
        Row::Progress(attempt, Progress::default()),
        Row::Record(Record::Job(Box::new(job))),
        status(sequence, JobState::Active),
    ];
    rows.map(Change::Put).into()
}

fn status(sequence: u64, state: JobState) -> Row {
    Row::Record(Record::Status(JobStatus {
        sequence,
        priority: 0,
        deadline: std::time::Duration::from_secs(60),
        paused: None,
        stages_run: 1,
        state,
    }))
}

/// The rows that these changes leave, each being of another row.
fn rows(changes: &[Change]) -> Vec<Row> {
    let rows = changes.iter().filter_map(|change| match change {
        Change::Put(row) => Some(row.clone()),
        Change::Remove(_) => None,
    });
    rows.collect()
}

fn backbone(source: &str) -> Change {
    let weights = Artifact {
        digest: Digest::of(source.as_bytes()),
        bytes: 7,
    };
    Change::Put(Row::Backbone(BackboneRecord {
        arch: BackboneName::Lite0,
        weights,
        source: source.into(),
        registered_ms: 5,
    }))
}

fn encoded(changes: &[Change]) -> Vec<Encoded> {
    changes.iter().cloned().map(Encoded::from).collect()
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
    store.commit(&encoded(&one)).unwrap();
    store.commit(&encoded(&two)).unwrap();
    store.commit(&encoded(&[backbone("old.pth")])).unwrap();
    drop(store);

    let mut store = open();
    same(
        store.load().unwrap(),
        rows(&[&one[..], &two, &[backbone("old.pth")]].concat()),
    );
    // A later row takes the place of the earlier one, within a commit and across commits; what is removed is gone.
    let over = JobState::Cancelled {
        reason: "enough".into(),
        finished_ms: 9,
    };
    let mut changed = one.clone();
    let last = changed.last_mut().expect("where the job stands");
    *last = Change::Put(status(1, over));
    let last = last.clone();
    let progress = changed.remove(1);
    let removed = Change::Remove(progress.key());
    store
        .commit(&encoded(&[
            backbone("middle.pth"),
            last,
            removed,
            backbone("new.pth"),
        ]))
        .unwrap();
    drop(store);
    same(
        open().load().unwrap(),
        rows(&[&changed[..], &two, &[backbone("new.pth")]].concat()),
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
        .commit(&encoded(&submission(1)))
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
    fs::write(folder.path().join("format"), "5\n").unwrap();
    let error = refusal(folder.path());
    assert!(
        matches!(
            error,
            Error::Newer {
                found: 5,
                known: 4,
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
                known: 4,
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
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    }
}

#[test]
fn settings_of_the_database_that_make_no_sense_are_damage() {
    let folder = filled();
    fs::write(folder.path().join("db/conf"), [0xA5; 100]).unwrap();
    let error = refusal(folder.path());
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
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
        (1..=20).for_each(|sequence| store.commit(&encoded(&submission(sequence))).unwrap());
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
