//! One suite for every store, and what a directory adds: locks, formats, a write-ahead log, damage.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nettailor_coordinator::store::{Change, Encoded, Error, History, MemoryStore, Row, SledStore, Store};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::explain::{Happening, What};
use nettailor_domain::ids::{Attempt, Digest, StageKey};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::stage::{Artifact, plan};
use nettailor_domain::task::{BackboneInput, DataInput, TaskInputs};
use nettailor_domain::taskfile::TasksFile;
use nettailor_domain::trainer::Progress;
use nettailor_scheduler::record::{
    EventRecord, JobRecord, JobState, JobStatus, Record, StageRecord, Subject,
};

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
        Row::Record(Record::Job(job.into())),
        status(sequence, JobState::Active),
    ];
    rows.map(Change::Put).into()
}

fn status(sequence: u64, state: JobState) -> Row {
    Row::Record(Record::Status(JobStatus {
        sequence,
        priority: 0,
        deadline: Duration::from_secs(60),
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

/// Something that happened to a job, a second after the one before.
fn happened(sequence: u64, seconds: u64) -> EventRecord {
    EventRecord {
        subject: Subject::Job(sequence),
        at: Duration::from_secs(seconds),
        index: 0,
        happening: Happening {
            at_ms: 1000 * seconds,
            attempt: 0,
            what: What::Submitted,
            reason: "x".repeat(1000),
        },
    }
}

fn event(event: EventRecord) -> Change {
    Change::Put(Row::Record(Record::Event(event)))
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

/// The keys of what happened, as far as they are shown to one who stops after so many.
fn shown(history: &dyn History, most: usize) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut show = |key: &[u8], _: &[u8]| {
        keys.push(key.to_vec());
        match keys.len() < most {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    history.each(&mut show).unwrap();
    keys
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
    let left = rows(&[&changed[..], &two, &[backbone("new.pth")]].concat());
    same(open().load().unwrap(), left.clone());

    // What happened is read by itself, in order, also beside the commits.
    let mut store = open();
    let history = store.history();
    let later = [happened(1, 3), happened(1, 300), happened(2, 2)];
    store.commit(&encoded(&later.clone().map(event))).unwrap();
    store.commit(&encoded(&[event(happened(1, 2))])).unwrap();
    let seconds = |history: &dyn History, job| {
        let events = history.of(&Subject::Job(job)).unwrap();
        Vec::from_iter(events.iter().map(|event| event.at.as_secs()))
    };
    assert_eq!(seconds(&*history, 1), [2, 3, 300]);
    drop((store, history));
    let mut store = open();
    assert_eq!(seconds(&*store.history(), 2), [2]);
    assert_eq!(shown(&*store.history(), 9).len(), 4);
    // In order, and no more than is asked for.
    assert!(shown(&*store.history(), 9).is_sorted());
    assert_eq!(shown(&*store.history(), 2), shown(&*store.history(), 9)[..2]);
    same(store.load().unwrap(), left);
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
    fs::write(folder.path().join("format"), "6\n").unwrap();
    let error = refusal(folder.path());
    assert!(
        matches!(
            error,
            Error::Newer {
                found: 6,
                known: 5,
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
                known: 5,
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

/// The segments of the write-ahead log, the oldest first.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("wal")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Bytes for which rows are written into the database, where a test is about that.
const SETTLE_BYTES: usize = 2 << 20;

/// A store whose rows are in the database, all but those of the latest commits.
fn settled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SledStore::open_settling(folder.path(), SETTLE_BYTES).unwrap();
    for sequence in 1..=300 {
        let events = (1..=30).map(|second| event(happened(sequence, second)));
        let changes: Vec<Change> = submission(sequence).into_iter().chain(events).collect();
        store.commit(&encoded(&changes)).unwrap();
    }
    assert_eq!(store.load().unwrap().len(), 300 * 4);
    let events = shown(&*store.history(), usize::MAX);
    assert_eq!(events.len(), 300 * 30);
    assert!(events.is_sorted(), "from log and database");
    folder
}

#[test]
fn rows_move_into_the_database_and_the_log_stays_short() {
    let folder = settled();
    let log: u64 = segments(folder.path())
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(log < 5 << 20, "{log} bytes of 12 MB");
    let in_database = |store: &SledStore| store.history().of(&Subject::Job(1)).unwrap();

    let mut store = SledStore::open(folder.path()).unwrap();
    assert_eq!(in_database(&store).len(), 30);
    // What the database holds is changed, and removed.
    let over = JobState::Cancelled {
        reason: "enough".into(),
        finished_ms: 9,
    };
    let mut first = submission(1);
    first[3] = Change::Put(status(1, over));
    let progress = first.remove(1);
    let removed = [first[2].clone(), Change::Remove(progress.key())];
    store.commit(&encoded(&removed)).unwrap();
    let all: Vec<Change> = (2..=300).flat_map(submission).chain(first).collect();
    same(store.load().unwrap(), rows(&all));
    drop(store);
    let mut store = SledStore::open(folder.path()).unwrap();
    same(store.load().unwrap(), rows(&all));
}

#[test]
fn a_row_that_changes_often_does_not_make_the_log_long() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SledStore::open_settling(folder.path(), SETTLE_BYTES).unwrap();
    for version in 0..100 {
        let change = backbone(&version.to_string().repeat(500_000));
        store.commit(&encoded(&[change])).unwrap();
    }
    drop(store);
    let log: u64 = segments(folder.path())
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(log < 20 << 20, "{log} bytes of 95 MB");
    assert_eq!(SledStore::open(folder.path()).unwrap().load().unwrap().len(), 1);
}

#[test]
fn a_commit_that_was_cut_off_is_dropped_and_those_before_it_stay() {
    let folder = filled();
    let path = segments(folder.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    for cut in [1, 39, 40, whole.len() - 1] {
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(&whole[..cut]).unwrap();
        drop(file);
        let mut store = SledStore::open(folder.path()).unwrap();
        same(store.load().unwrap(), rows(&submission(1)));
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    let mut store = SledStore::open(folder.path()).unwrap();
    store.commit(&encoded(&submission(2))).unwrap();
    drop(store);
    let mut store = SledStore::open(folder.path()).unwrap();
    same(
        store.load().unwrap(),
        rows(&[submission(1), submission(2)].concat()),
    );
}

#[test]
fn a_log_without_commits_that_were_made_is_refused() {
    let folder = filled();
    let mut store = SledStore::open(folder.path()).unwrap();
    store.commit(&encoded(&submission(2))).unwrap();
    store.commit(&encoded(&submission(3))).unwrap();
    drop(store);
    let [first, second] = &segments(folder.path())[..] else {
        panic!("a process begins a segment");
    };
    let (one, two) = (fs::read(first).unwrap(), fs::read(second).unwrap());

    // All of it, its end, its beginning, a bit of either.
    fs::rename(folder.path().join("wal"), folder.path().join("away")).unwrap();
    let error = refusal(folder.path());
    assert!(error.to_string().contains("wal` is missing"), "{error}");
    fs::rename(folder.path().join("away"), folder.path().join("wal")).unwrap();
    fs::write(second, &two[..two.len() - 1]).unwrap();
    let error = refusal(folder.path());
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    fs::write(second, &two).unwrap();
    fs::remove_file(first).unwrap();
    let error = refusal(folder.path());
    assert!(
        error.to_string().contains("commits 1 to 1 are missing"),
        "{error}"
    );
    fs::write(first, &one).unwrap();
    fs::remove_file(second).unwrap();
    let error = refusal(folder.path());
    assert!(
        error.to_string().contains("hold 1 commits, 3 were made"),
        "{error}"
    );
    fs::write(second, &two).unwrap();
    for (path, sound) in [(first, &one), (second, &two)] {
        for at in (0..sound.len()).step_by(37) {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
            let error = refusal(folder.path());
            assert!(matches!(error, Error::Damaged { .. }), "byte {at}: {error:?}");
        }
        fs::write(path, sound).unwrap();
    }
    assert_eq!(SledStore::open(folder.path()).unwrap().load().unwrap().len(), 12);
}

#[test]
fn rows_of_the_database_are_never_lost_without_a_word() {
    let sound = settled();
    let all = SledStore::open(sound.path()).unwrap().load().unwrap();
    let mut noticed = 0;
    for place in (1..100).step_by(3) {
        let folder = tempfile::tempdir().unwrap();
        copy(sound.path(), folder.path());
        let path = folder.path().join("db/db");
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() * place / 100;
        bytes[at..at + 200].iter_mut().for_each(|byte| *byte ^= 0x5A);
        fs::write(&path, bytes).unwrap();
        match SledStore::open(folder.path()).and_then(|mut store| store.load()) {
            Ok(rows) => same(rows, all.clone()),
            Err(Error::Damaged { .. }) => noticed += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(noticed > 0, "the damage hit nothing");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}
