//! The journal: what each commit has changed, in the artifact store, so that the state directory can be lost.
//!
//! The thread that commits hands over what it has written, commit by commit; a task of its own puts these into objects, in
//! order, one at a time. So the journal is never ahead of the state directory, and behind it by about a second where nobody
//! waits: an object is written once somebody does, once it is large, or once its first commit is [`PACE`] old. While one is
//! being written the next grows.
//!
//! Answers that are promises ([`Request::is_acknowledged`](nettailor_engine::Request::is_acknowledged)) wait for the object that
//! holds what they speak of, each by itself, [`PATIENCE`] at most. Everything else is released after the flush; only files that
//! the journal may still name are not removed before it has caught up.
//!
//! An artifact store that is away costs memory up to [`MOST_WAITING`]; then commits wait. An object that could not be written is
//! tried again as it is, so that no two of them overlap.
//!
//! Now and then, the task has the newest objects merged ([`merge`]), and removes what they were: objects stay few, and no more is
//! read, held or written for that than one large object. Objects lie one after the other or within each other: a process that
//! ended before it had removed the merged ones leaves both, and the larger counts.
//!
//! A journal that is not whole, or behind the state directory, begins anew with a snapshot of all rows ([`anew`]). What is larger
//! than a merged object, a snapshot, is written and read in pieces: beside the state, the journal needs memory for what waits, one
//! merge and one upload, however much is in it.

mod anew;
mod history;
mod merge;
mod object;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nettailor_engine::{Encoded, Row};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(crate) use self::anew::{Beginning, write_snapshot};
pub(crate) use self::history::{History, of};
use self::object::Rows;
pub(crate) use self::writer::Writer;

/// Longest wait of a commit for an object, where nobody waits for it.
const PACE: Duration = Duration::from_secs(1);
/// Longest wait of an answer for the journal.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes from which on an object is written at once; the next takes what comes later.
const OBJECT_BYTES: usize = 4 << 20;
/// Bytes that may wait for an object: some minutes of a busy coordinator.
const MOST_WAITING: usize = 64 << 20;
/// How often a commit that waits for room looks whether the coordinator is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The artifact store failed.
    #[error(transparent)]
    Store(#[from] nettailor_artifacts::Error),
    /// An object is not what was written.
    #[error(
        "{path} in the artifact store is damaged ({what}): put back a copy; to do without its commits, move it and all later ones away"
    )]
    Damaged {
        /// Which.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// An object was written by another version.
    #[error(
        "{path} in the artifact store has format {found}, this version reads format {known}: use the version that wrote it"
    )]
    Format {
        /// Which.
        path: String,
        /// Its format.
        found: u32,
        /// The one that is read here.
        known: u32,
    },
    /// Objects are missing.
    #[error(
        "the journal lacks the commits between {last} and {path} in the artifact store: put back a copy; to do without them, move that object and all later ones away"
    )]
    Gap {
        /// The object after the gap.
        path: String,
        /// The last commit before it.
        last: u64,
    },
    /// A row is of no version that is known here, or does not belong to its key.
    #[error("row `{key}` in the journal cannot be read ({what}): use the version that wrote it")]
    Row {
        /// Its key.
        key: String,
        /// Why.
        what: String,
    },
    /// What happened cannot be read for a snapshot.
    #[error(transparent)]
    Events(#[from] nettailor_engine::Error),
    /// The rows of a snapshot cannot be put aside.
    #[error("state directory {}: the rows that the journal begins anew with cannot be put aside; free some space, or check its permissions", .path.display())]
    Aside {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nor read back.
    #[error("the rows that the journal begins anew with cannot be read back from the state directory")]
    Reread(#[source] io::Error),
    /// A thread that worked on it broke.
    #[error("a part of the journal broke; this is a defect")]
    Broken,
}

/// Reads rows as they are kept.
pub(crate) fn decode(rows: Rows) -> Result<Vec<Row>, Error> {
    // Each is freed as soon as it was read.
    let decoded = rows.into_iter().map(|(key, value)| {
        Row::decode(&key, &value).map_err(|error| Error::Row {
            key: key.escape_ascii().to_string(),
            what: format!("{error:?}"),
        })
    });
    decoded.collect()
}

/// The way to the journal. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
    /// The number of the last commit that is in an object.
    written: watch::Receiver<u64>,
    runtime: Handle,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the writer.
    changed: Notify,
    /// Wakes a commit that waits for room.
    room: Condvar,
    /// The coordinator is to stop: nothing waits for room any more.
    stopping: CancellationToken,
}

/// Commits that wait for an object.
#[derive(Debug, Default)]
struct Queue {
    /// Their numbers and lines, in order.
    commits: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// The number of the last commit that there was.
    newest: u64,
    /// Somebody waits for an answer.
    urgent: bool,
    /// The writer has ended.
    closed: bool,
}

impl Journal {
    fn new(newest: u64, written: watch::Receiver<u64>, runtime: Handle, stopping: CancellationToken) -> Self {
        let queue = Queue {
            newest,
            ..Queue::default()
        };
        let shared = Shared {
            queue: Mutex::new(queue),
            changed: Notify::new(),
            room: Condvar::new(),
            stopping,
        };
        Self {
            shared: Arc::new(shared),
            written,
            runtime,
        }
    }

    /// Takes in what a commit has changed; `urgent` says that an answer waits for it. Waits where too much is waiting already.
    pub(crate) fn append(&self, number: u64, changes: &[Encoded], urgent: bool) {
        let lines = object::lines(number, changes);
        let mut queue = self.lock();
        let full = |queue: &Queue| queue.bytes > 0 && queue.bytes + lines.len() > MOST_WAITING;
        if full(&queue) {
            warn!(
                behind = queue.newest - *self.written.borrow(),
                bytes = queue.bytes,
                "the journal is too far behind: commits wait for the artifact store"
            );
        }
        while full(&queue) && !queue.closed && !self.shared.stopping.is_cancelled() {
            let waited = self.shared.room.wait_timeout(queue, LOOK_EVERY);
            (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        queue.newest = number;
        if queue.closed {
            return;
        }
        queue.bytes += lines.len();
        queue.urgent |= urgent;
        queue.commits.push_back((number, lines));
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// Sends an answer once everything that was committed up to now is in the journal, or [`PATIENCE`] is over.
    pub(crate) fn acknowledge(&self, release: impl FnOnce() + Send + 'static) {
        let number = self.lock().newest;
        let mut written = self.written.clone();
        self.runtime.spawn(async move {
            let there = written.wait_for(|written| *written >= number);
            let waited = tokio::time::timeout(PATIENCE, there)
                .await
                .is_ok_and(|there| there.is_ok());
            if !waited {
                let behind = number.saturating_sub(*written.borrow());
                warn!(
                    behind,
                    "answered without the journal: until it has caught up, the state directory must not be lost"
                );
            }
            release();
        });
    }

    /// Does something once everything that was committed up to now is in the journal; never, if that does not come.
    pub(crate) fn once_written(&self, work: impl FnOnce() + Send + 'static) {
        let number = self.lock().newest;
        let mut written = self.written.clone();
        self.runtime.spawn(async move {
            if written.wait_for(|written| *written >= number).await.is_ok() {
                work();
            }
        });
    }

    /// How many commits are not in an object yet.
    pub(crate) fn behind(&self) -> u64 {
        let newest = self.lock().newest;
        newest.saturating_sub(*self.written.borrow())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change under the lock leaves a valid queue: a panic elsewhere leaves nothing half done.
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
