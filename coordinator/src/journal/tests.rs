//! Objects and what follows from them; order, room and patience of the writer. Merging has its own: [`merging`].

mod merging;

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nettailor_artifacts::{ArtifactStore, Incarnation, JournalObject};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Attempt, Digest, StageKey};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::stage::Artifact;
use nettailor_domain::trainer::Progress;
use nettailor_engine::{
    Change, Encoded, Error as StoreError, History as Events, MemoryStore, Row, Show, Store as _,
};
use nettailor_scheduler::record::{EventRecord, Subject};
use tokio_util::sync::CancellationToken;

use super::anew::Aside;
use super::object::{self, Changes, Flaw, PIECE_BYTES, Reader, Rows};
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

/// Changes rows as an object says.
fn apply(object: JournalObject, text: &[u8], rows: &mut Rows) -> Result<(), Flaw> {
    let mut changes = Changes::new(object, rows);
    read(object, text, text.len(), |line| changes.apply(line))
}

/// Reads an object that comes in pieces of this size.
fn read(
    object: JournalObject,
    text: &[u8],
    piece: usize,
    mut show: impl FnMut(&[u8]) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    let mut reader = Reader::new(object);
    for piece in text.chunks(piece.max(1)) {
        reader.read(piece, &mut show)?;
    }
    reader.end()
}

/// The lines of a snapshot of these rows.
fn snapshot_lines(commit: u64, rows: &[Row]) -> Vec<u8> {
    let mut lines = Vec::new();
    rows.iter().for_each(|row| object::row(&mut lines, commit, row));
    lines
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
    apply(named(1, 2), &object::seal(named(1, 2), &lines), &mut rows).unwrap();
    let left = [backbone(lite0, "a \"quoted\" pläce\n.pth"), Row::Journalled(1)];
    assert_eq!(decode(rows.clone()).unwrap(), left);

    // A snapshot holds the same.
    let lines = snapshot_lines(2, &[&left[..], &[progress()]].concat());
    let mut again = Rows::new();
    apply(named(0, 2), &object::seal(named(0, 2), &lines), &mut again).unwrap();
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
    // Read in pieces, it is the same, and so is what is said of it.
    let found = |name, text: &[u8]| {
        let whole = object::open(name, text).map(<[u8]>::to_vec);
        for piece in [1, 7, 100, 1000] {
            let mut lines = Vec::new();
            let read = read(name, text, piece, |line| {
                lines.extend_from_slice(line);
                Ok(())
            });
            assert_eq!(read.map(|()| lines), whole, "in pieces of {piece} bytes");
        }
        whole
    };
    assert_eq!(found(name, &text), Ok(lines));
    for length in 0..text.len() {
        assert_eq!(found(name, &text[..length]), Err("it is cut off".into()));
    }
    for at in (0..text.len() - 1).step_by(7) {
        let mut text = text.to_vec();
        text[at] ^= 1;
        found(name, &text).expect_err("it was changed");
    }
    for more in ["\n", " ", " \n", "{}\n"] {
        let text = [&text[..], more.as_bytes()].concat();
        found(name, &text).expect_err("something follows");
    }
    found(named(3, 5), &text).expect_err("it has another name");
    let backwards = [
        object::lines(4, &commit(4, "b")),
        object::lines(3, &commit(3, "a")),
    ]
    .concat();
    let error = apply(name, &object::seal(name, &backwards), &mut Rows::new());
    assert_eq!(error.unwrap_err(), "commit 3 is out of order".into());
    // What a damaged object says is not looked at.
    let mut damaged = object::seal(name, &backwards).to_vec();
    damaged[100] ^= 1;
    let error = apply(name, &damaged, &mut Rows::new());
    assert_eq!(error.unwrap_err(), "its digest is another".into());
}

#[test]
fn a_line_without_an_end_is_not_held() {
    let mut reader = Reader::new(named(1, 1));
    let piece = vec![0; 64 << 20];
    let read = (0..3).map(|_| reader.read(&piece, |_| Ok(())));
    let error = read.collect::<Result<Vec<()>, _>>().unwrap_err();
    assert_eq!(error, "a line does not end".into());
}

#[test]
fn a_history_is_what_reaches_furthest_without_gaps() {
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
    assert_eq!(history.objects(), [named(0, 5), named(6, 9), named(10, 10)]);
    history.push(named(11, 12), 1);
    history.replace(named(6, 10), 1);
    assert_eq!(history.objects(), [named(0, 5), named(6, 10), named(11, 12)]);
    assert_eq!(history.last(), 12);
    assert_eq!(History::find(OURS, &[]).unwrap().last(), 0);
    assert!(matches!(
        History::find(OURS, &[named(2, 3)]),
        Err(Error::Gap { last: 0, .. })
    ));
    // Rows from before there were commits.
    let history = History::find(OURS, &[named(0, 0), named(1, 2)]).unwrap();
    assert_eq!(history.objects(), [named(0, 0), named(1, 2)]);
}

struct Bench {
    folder: tempfile::TempDir,
    store: ArtifactStore,
    stop: CancellationToken,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = nettailor_artifacts::folder(folder.path()).unwrap();
        Self {
            store: ArtifactStore::open(&url).unwrap(),
            folder,
            stop: CancellationToken::new(),
        }
    }

    async fn writer(&self) -> (Writer, Journal) {
        let beginning = Beginning::find(&self.store, OURS, &[], &[], 0, self.folder.path());
        let beginning = beginning.await.unwrap();
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

/// What happened, far more than is in a piece.
struct Many {
    events: usize,
    /// Bytes of each.
    bytes: usize,
}

impl Many {
    fn row(&self, number: usize) -> (Vec<u8>, Vec<u8>) {
        let key = [&b"e"[..], &number.to_be_bytes()].concat();
        let text = "x".repeat(self.bytes);
        let value = [&[4], format!("\"{text}\"").as_bytes()].concat();
        (key, value)
    }
}

impl Events for Many {
    fn of(&self, _: &Subject) -> Result<Vec<EventRecord>, StoreError> {
        unreachable!("nobody asks")
    }

    fn each(&self, show: &mut Show<'_>) -> Result<(), StoreError> {
        for number in 0..self.events {
            let (key, value) = self.row(number);
            if show(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The rows of a snapshot, and where a writer would begin.
fn aside(folder: &Path) -> (Vec<Row>, Aside) {
    let rows = vec![
        backbone(BackboneName::Lite0, &"x".repeat(2 * PIECE_BYTES)),
        progress(),
        Row::Journalled(5),
    ];
    let aside = Aside::put(folder, 5, &rows).unwrap();
    (rows, aside)
}

#[tokio::test]
async fn a_snapshot_is_the_same_whether_it_is_made_in_memory_or_in_pieces() {
    let bench = Bench::new();
    let (rows, aside) = aside(bench.folder.path());
    let many = Many {
        events: 200,
        bytes: 100_000,
    };
    let mut lines = snapshot_lines(5, &rows);
    let whole = object::seal(named(0, 5), &lines);
    let mut pieces = object::Pieces::new(named(0, 5), 0);
    for number in 0..many.events {
        let (key, value) = many.row(number);
        pieces.row(5, &key, &value);
    }
    let events = pieces.end();
    lines.extend_from_slice(object::open(named(0, 5), &events).unwrap());
    let with_events = object::seal(named(0, 5), &lines);

    let (store, runtime) = (bench.store.clone(), Handle::current());
    let written = tokio::task::spawn_blocking(move || {
        write_snapshot(&store, &runtime, named(0, 5), &rows).unwrap();
        let found = runtime.block_on(store.read_journal(named(0, 5))).unwrap();
        let bytes = aside.write(&store, &runtime, named(0, 5), &many).unwrap();
        (found, bytes)
    });
    let (found, bytes) = written.await.unwrap();
    assert!(found == whole, "of rows");
    assert_eq!(bytes, with_events.len() as u64);
    let found = bench.store.read_journal(named(0, 5)).await.unwrap();
    assert!(found == with_events, "of rows and of what happened");
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_leaves_nothing_and_is_tried_again() {
    let bench = Bench::new();
    let (_, aside) = aside(bench.folder.path());
    let journal = bench.folder.path().join("journal");
    std::fs::write(&journal, "in the way").unwrap();
    let many = Many {
        events: 1000,
        bytes: 100_000,
    };
    let (store, runtime) = (bench.store.clone(), Handle::current());
    let in_the_way = journal.clone();
    let written = tokio::task::spawn_blocking(move || {
        let error = aside.write(&store, &runtime, named(0, 5), &many).unwrap_err();
        assert!(matches!(error, Error::Store(_)), "{error:?}");
        std::fs::remove_file(in_the_way).unwrap();
        aside.write(&store, &runtime, named(0, 5), &many)
    });
    written.await.unwrap().unwrap();
    let history = History::find(OURS, &bench.store.list_journals().await.unwrap()).unwrap();
    let rows = history
        .check(&bench.store)
        .await
        .unwrap()
        .rows(&bench.store)
        .await
        .unwrap();
    assert_eq!(rows.len(), 2 + 1000);
}

/// What happened cannot be read.
struct Unreadable;

impl Events for Unreadable {
    fn of(&self, _: &Subject) -> Result<Vec<EventRecord>, StoreError> {
        unreachable!("nobody asks")
    }

    fn each(&self, show: &mut Show<'_>) -> Result<(), StoreError> {
        let _ = show(b"e", b"\x04{}");
        Err(StoreError::Damaged {
            path: "state".into(),
            what: "on purpose".into(),
        })
    }
}

#[tokio::test]
async fn half_a_snapshot_is_not_left() {
    let bench = Bench::new();
    let (_, aside) = aside(bench.folder.path());
    let (store, runtime) = (bench.store.clone(), Handle::current());
    let written =
        tokio::task::spawn_blocking(move || aside.write(&store, &runtime, named(0, 5), &Unreadable));
    let error = written.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Events(_)), "{error:?}");
    let folder = bench.folder.path().join(named(0, 5).path());
    let left = std::fs::read_dir(folder.parent().unwrap()).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn what_comes_after_the_writer_has_ended_is_not_kept_for_it() {
    let bench = Bench::new();
    let (writer, journal) = bench.writer().await;
    journal.append(1, &commit(1, "a"), false);
    bench.stop.cancel();
    writer.run(bench.stop.clone()).await;
    journal.append(2, &commit(2, "b"), true);
    assert_eq!(journal.behind(), 1);
    assert!(journal.lock().commits.is_empty());
}
