//! Objects and what follows from them; order, room and patience of the writer.

use std::sync::mpsc;
use std::time::Duration;

use nettailor_artifacts::{ArtifactStore, Incarnation, JournalObject};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Attempt, Digest, StageKey};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::stage::Artifact;
use nettailor_domain::trainer::Progress;
use nettailor_engine::{Change, Encoded, MemoryStore, Row, Store as _};
use tokio_util::sync::CancellationToken;

use super::object::{self, Rows};
use super::*;

const OURS: Incarnation = Incarnation::new(1);

fn named(first: u64, last: u64) -> JournalObject {
    JournalObject {
        incarnation: OURS,
        first,
        last,
    }
}

fn backbone(arch: BackboneName, source: &str) -> Row {
    Row::Backbone(BackboneRecord {
        arch,
        weights: Artifact {
            digest: Digest::of(source.as_bytes()),
            bytes: 7,
        },
        source: source.into(),
        registered_ms: 5,
    })
}

fn progress() -> Row {
    let attempt = Attempt {
        stage: StageKey(Digest::of(b"teacher")),
        number: 1,
    };
    Row::Progress(attempt, Progress::default())
}

/// A commit that puts `source` in place of the one before.
fn commit(number: u64, source: &str) -> Vec<Encoded> {
    [
        backbone(BackboneName::Lite0, source),
        progress(),
        Row::Journalled(number),
    ]
    .map(|row| Change::Put(row).into())
    .into()
}

#[test]
fn rows_come_back_as_they_were_left() {
    let (lite0, resnet) = (BackboneName::Lite0, BackboneName::Resnet18);
    let mut first = commit(1, "a \"quoted\" pläce\n.pth");
    first.push(Change::Put(backbone(resnet, "x")).into());
    let second = [
        Change::Remove(backbone(resnet, "x").key()),
        Change::Remove(progress().key()),
    ]
    .map(Encoded::from);
    let lines = [object::lines(1, &first), object::lines(2, &second)].concat();
    let mut rows = Rows::new();
    object::apply(named(1, 2), &object::seal(named(1, 2), &lines), &mut rows).unwrap();
    let left = [backbone(lite0, "a \"quoted\" pläce\n.pth"), Row::Journalled(1)];
    assert_eq!(decode(rows.clone()).unwrap(), left);

    // A snapshot holds the same, made of rows or of what is kept.
    let whole = object::snapshot(named(0, 2), &[&left[..], &[progress()]].concat());
    assert_eq!(object::seal_rows(named(0, 2), rows.clone()), whole);
    let mut again = Rows::new();
    object::apply(named(0, 2), &whole, &mut again).unwrap();
    assert_eq!(again, rows);
}

#[test]
fn an_object_is_whole_or_damaged() {
    let name = named(3, 4);
    let lines = [
        object::lines(3, &commit(3, "a")),
        object::lines(4, &commit(4, "b")),
    ]
    .concat();
    let text = object::seal(name, &lines);
    assert_eq!(object::open(name, &text), Ok(&lines[..]));
    for length in 0..text.len() {
        object::open(name, &text[..length]).expect_err("it is cut off");
    }
    for at in (0..text.len() - 1).step_by(7) {
        let mut text = text.to_vec();
        text[at] ^= 1;
        object::open(name, &text).expect_err("it was changed");
    }
    object::open(named(3, 5), &text).expect_err("it has another name");
    let backwards = [
        object::lines(4, &commit(4, "b")),
        object::lines(3, &commit(3, "a")),
    ]
    .concat();
    let error = object::apply(name, &object::seal(name, &backwards), &mut Rows::new());
    assert_eq!(error.unwrap_err(), "commit 3 is out of order".into());
}

#[test]
fn a_history_is_the_newest_snapshot_and_what_follows_without_gaps() {
    let other = JournalObject {
        incarnation: Incarnation::new(2),
        ..named(1, 90)
    };
    let listed = [
        named(4, 9),
        named(0, 3),
        named(2, 2),
        named(0, 5),
        named(10, 10),
        other,
    ];
    assert!(
        matches!(History::find(OURS, &listed), Err(Error::Gap { last: 5, .. })),
        "4 to 9 overlaps the snapshot"
    );
    let listed = [
        named(0, 3),
        named(2, 2),
        named(6, 9),
        named(0, 5),
        named(10, 10),
        other,
    ];
    let mut history = History::find(OURS, &listed).unwrap();
    assert_eq!((history.last(), history.snapshot()), (10, named(0, 10)));
    history.push(named(11, 12));
    history.replace(named(0, 10));
    assert_eq!((history.last(), history.snapshot()), (12, named(0, 12)));
    assert_eq!(History::find(OURS, &[]).unwrap().last(), 0);
    assert!(matches!(
        History::find(OURS, &[named(2, 3)]),
        Err(Error::Gap { last: 0, .. })
    ));
}

struct Bench {
    _folder: tempfile::TempDir,
    store: ArtifactStore,
    stop: CancellationToken,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = nettailor_artifacts::folder(folder.path()).unwrap();
        Self {
            store: ArtifactStore::open(&url).unwrap(),
            _folder: folder,
            stop: CancellationToken::new(),
        }
    }

    async fn writer(&self) -> (Writer, Journal) {
        let beginning = Beginning::find(&self.store, OURS, &[], &[], 0).await;
        Writer::new(
            self.store.clone(),
            beginning,
            MemoryStore::default().history().into(),
            Handle::current(),
            self.stop.clone(),
        )
    }
}

#[tokio::test]
async fn commits_are_written_in_order_and_only_promises_hurry() {
    let bench = Bench::new();
    let (writer, journal) = bench.writer().await;
    for number in 1..=3 {
        journal.append(number, &commit(number, "a"), false);
    }
    assert_eq!(journal.behind(), 3);
    let writing = tokio::spawn(writer.run(bench.stop.clone()));
    let mut written = journal.written.clone();
    written.wait_for(|written| *written == 3).await.unwrap();
    assert_eq!(bench.store.list_journals().await.unwrap(), [named(1, 3)]);

    let (send, answered) = tokio::sync::oneshot::channel();
    journal.append(4, &commit(4, "b"), true);
    journal.acknowledge(move || send.send(()).unwrap());
    answered.await.unwrap();
    assert_eq!(*written.borrow(), 4, "it was answered once it was written");
    journal.append(5, &commit(5, "c"), false);
    bench.stop.cancel();
    writing.await.unwrap();
    let listed = bench.store.list_journals().await.unwrap();
    assert_eq!(listed, [named(1, 3), named(4, 4), named(5, 5)]);
    let rows = History::find(OURS, &listed)
        .unwrap()
        .rows(&bench.store)
        .await
        .unwrap();
    let left = [backbone(BackboneName::Lite0, "c"), Row::Journalled(5)];
    assert_eq!(decode(rows).unwrap(), left);
}

#[tokio::test]
async fn an_answer_waits_for_a_while_a_removal_for_ever() {
    let bench = Bench::new();
    let (writer, journal) = bench.writer().await;
    journal.append(1, &commit(1, "a"), true);
    let (send, answered) = tokio::sync::oneshot::channel();
    let (remove, removed) = tokio::sync::oneshot::channel();
    journal.once_written(move || remove.send(()).unwrap());
    let asked = tokio::time::Instant::now();
    journal.acknowledge(move || send.send(()).unwrap());
    answered.await.unwrap();
    assert!(asked.elapsed() >= PATIENCE);
    // The writer ends without having written: nothing is removed.
    drop(writer);
    removed.await.expect_err("it is not in the journal");
}

#[tokio::test]
async fn commits_wait_for_room_until_there_is_some_or_the_coordinator_stops() {
    let bench = Bench::new();
    let (writer, journal) = bench.writer().await;
    let large = commit(1, &"x".repeat(MOST_WAITING / 2 + 1));
    journal.append(1, &large, false);
    let (send, appended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        for number in 2..=4 {
            journal.append(number, &large, false);
            send.send(number).unwrap();
        }
    });
    // Longer than an append takes: else it would not be noticed that it does not wait.
    assert!(appended.recv_timeout(Duration::from_millis(300)).is_err());
    let (name, _) = writer.take().unwrap();
    assert_eq!(name, named(1, 1));
    assert_eq!(appended.recv().unwrap(), 2);
    bench.stop.cancel();
    assert_eq!((appended.recv().unwrap(), appended.recv().unwrap()), (3, 4));
    thread.join().unwrap();
}
