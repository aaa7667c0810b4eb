//! Writes the journal.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nettailor_artifacts::{ArtifactStore, Incarnation, JournalObject};
use nettailor_engine::{Change, Error as StoreError, History as Events, Row};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Error, History, Journal, OBJECT_BYTES, PACE, object};

/// Objects after which there is a snapshot, unless they are fewer bytes than [`GROWTH`] times the one before.
const SNAPSHOT_EVERY: usize = 64;
/// Each snapshot reads all that there is: so all of them together read less than twice what was ever written, while that grows.
const GROWTH: usize = 3;
/// Objects after which there is one in any case.
const SNAPSHOT_AT_LAST: usize = 16 * SNAPSHOT_EVERY;
/// Wait after the first failure; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Where a journal is taken up.
pub(crate) struct Beginning {
    history: History,
    /// The number of the last commit.
    newest: u64,
    /// Lines of a snapshot to write first, where the history is not whole: all but what happened, which nobody has read.
    snapshot: Option<Vec<u8>>,
}

impl Beginning {
    /// Takes up the journal of a state that consists of these rows, `newest` being its last commit; `listed` are the objects of
    /// all journals. One that is not whole, or ends earlier, begins anew with a snapshot.
    pub(crate) async fn find(
        store: &ArtifactStore,
        incarnation: Incarnation,
        listed: &[JournalObject],
        rows: &[Row],
        newest: u64,
    ) -> Self {
        let found = match History::find(incarnation, listed) {
            Ok(history) => history.check(store).await.map(|()| history),
            Err(error) => Err(error),
        };
        match found {
            Ok(history) if history.last() == newest && (newest > 0 || !history.is_empty()) => {
                return Self {
                    history,
                    newest,
                    snapshot: None,
                };
            }
            Ok(history) if !history.is_empty() => {
                info!(
                    behind = newest - history.last().min(newest),
                    "the journal begins anew: an earlier process left it behind"
                );
            }
            Ok(_) => {}
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "the journal cannot be read and begins anew"
            ),
        }
        let something = newest > 0 || rows.iter().any(|row| Change::Put(row.clone()).is_journalled());
        Self {
            history: History::superseded(incarnation, listed),
            newest,
            snapshot: something.then(|| object::snapshot_lines(newest, rows)),
        }
    }
}

/// Puts commits into objects.
pub(crate) struct Writer {
    store: ArtifactStore,
    journal: Journal,
    history: History,
    snapshot: Option<Vec<u8>>,
    /// What happened, as it is kept.
    events: Arc<dyn Events>,
    newest: u64,
    written: watch::Sender<u64>,
    /// Objects, and their bytes, since the last snapshot, and bytes of that.
    since: (usize, usize),
    snapshot_bytes: usize,
    compacting: Option<JoinHandle<Result<(JournalObject, usize), Error>>>,
}

impl Writer {
    /// A writer and the way to it. Once `stopping` is cancelled, commits do not wait for it any more.
    pub(crate) fn new(
        store: ArtifactStore,
        beginning: Beginning,
        events: Arc<dyn Events>,
        runtime: Handle,
        stopping: CancellationToken,
    ) -> (Self, Journal) {
        let Beginning {
            history,
            newest,
            snapshot,
        } = beginning;
        let (written, seen) = watch::channel(history.last());
        let journal = Journal::new(newest, seen, runtime, stopping);
        let writer = Self {
            store,
            journal: journal.clone(),
            history,
            snapshot,
            events,
            newest,
            written,
            since: (0, 0),
            snapshot_bytes: 0,
            compacting: None,
        };
        (writer, journal)
    }

    /// Writes until it is stopped; then what is left is tried once more.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let _closing = Closing(self.journal.clone());
        if let Some(lines) = self.snapshot.take() {
            let name = JournalObject {
                first: 0,
                last: self.newest,
                incarnation: self.history.incarnation,
            };
            let Some(snapshot) = self.with_events(name, lines).await else {
                return;
            };
            self.snapshot_bytes = snapshot.len();
            if !self.put(name, snapshot, &stop).await {
                return;
            }
            self.history.replace(name);
        }
        // Nothing is to be written before this.
        self.written.send_replace(self.newest);
        self.prune().await;
        while let Some((name, text)) = self.next(&stop).await {
            let bytes = text.len();
            if !self.put(name, text, &stop).await {
                break;
            }
            self.history.push(name);
            self.written.send_replace(name.last);
            self.since = (self.since.0 + 1, self.since.1 + bytes);
            self.compact().await;
        }
        if let Some(compacting) = self.compacting.take() {
            // Whoever starts next must not find its half.
            self.finish(compacting).await;
        }
    }

    /// A snapshot with what happened. What happens meanwhile may be in it before its commit is: it is as true without.
    async fn with_events(&self, name: JournalObject, mut lines: Vec<u8>) -> Option<Bytes> {
        let events = self.events.clone();
        let made = tokio::task::spawn_blocking(move || {
            object::write_kept(&mut lines, name.last, events.rows()?);
            Ok::<_, StoreError>(object::seal(name, &lines))
        });
        match made.await.ok()? {
            Ok(snapshot) => Some(snapshot),
            Err(error) => {
                warn!("the journal cannot begin anew, and is not written: {error}");
                None
            }
        }
    }

    /// The next object; `None` at the end.
    async fn next(&self, stop: &CancellationToken) -> Option<(JournalObject, Bytes)> {
        let shared = &self.journal.shared;
        while self.journal.lock().commits.is_empty() {
            tokio::select! {
                biased;
                () = shared.changed.notified() => {}
                () = stop.cancelled() => if self.journal.lock().commits.is_empty() { return None },
            }
        }
        let due = async {
            while !self.is_due() {
                shared.changed.notified().await;
            }
        };
        tokio::select! {
            () = due => {}
            () = tokio::time::sleep(PACE) => {}
            () = stop.cancelled() => {}
        }
        self.take()
    }

    fn is_due(&self) -> bool {
        let queue = self.journal.lock();
        queue.urgent || queue.bytes >= OBJECT_BYTES
    }

    pub(super) fn take(&self) -> Option<(JournalObject, Bytes)> {
        let mut queue = self.journal.lock();
        let first = queue.commits.front()?.0;
        let (mut last, mut lines) = (first, Vec::new());
        while lines.len() < OBJECT_BYTES
            && let Some((number, more)) = queue.commits.pop_front()
        {
            last = number;
            match lines.is_empty() {
                true => lines = more,
                false => lines.extend_from_slice(&more),
            }
        }
        queue.bytes -= lines.len();
        // What is left may be what somebody waits for.
        queue.urgent &= !queue.commits.is_empty();
        drop(queue);
        self.journal.shared.room.notify_all();
        let name = JournalObject {
            incarnation: self.history.incarnation,
            first,
            last,
        };
        let text = object::seal(name, &lines);
        Some((name, text))
    }

    /// Writes an object, however often it takes. Says whether it is there: after a stop it is tried once.
    async fn put(&self, name: JournalObject, text: Bytes, stop: &CancellationToken) -> bool {
        let mut wait = FIRST_WAIT;
        loop {
            let Err(error) = self.store.write_journal(name, text.clone()).await else {
                return true;
            };
            warn!(
                error = &error as &dyn std::error::Error,
                behind = self.journal.behind(),
                "the journal lags behind"
            );
            if stop.is_cancelled() {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }

    /// Looks after snapshots: has one made where it is time, beside what is written meanwhile.
    async fn compact(&mut self) {
        if let Some(compacting) = self.compacting.take_if(|compacting| compacting.is_finished()) {
            self.finish(compacting).await;
        }
        let (objects, bytes) = self.since;
        let worthwhile = bytes >= GROWTH * self.snapshot_bytes || objects >= SNAPSHOT_AT_LAST;
        if self.compacting.is_none() && objects >= SNAPSHOT_EVERY && worthwhile {
            self.since = (0, 0);
            self.compacting = Some(tokio::spawn(compacted(self.store.clone(), self.history.clone())));
        }
    }

    /// Takes in a snapshot that was made.
    async fn finish(&mut self, compacting: JoinHandle<Result<(JournalObject, usize), Error>>) {
        match compacting.await.unwrap_or(Err(Error::Broken)) {
            Ok((name, bytes)) => {
                self.snapshot_bytes = bytes;
                self.history.replace(name);
                self.prune().await;
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "no snapshot of the journal can be made; the next start of the coordinator begins it anew"
            ),
        }
    }

    async fn prune(&mut self) {
        if let Err(error) = self.history.prune(&self.store).await {
            // What stays there takes up room until the next snapshot, no more.
            warn!("objects of the journal cannot be removed: {error}");
        }
    }
}

/// Writes a snapshot of all that is there. Made of the objects, not of the state, which is ahead of them.
async fn compacted(store: ArtifactStore, history: History) -> Result<(JournalObject, usize), Error> {
    let name = history.snapshot();
    let (reading, runtime) = (store.clone(), Handle::current());
    let made = tokio::task::spawn_blocking(move || {
        let rows = runtime.block_on(history.rows(&reading))?;
        Ok::<_, Error>(object::seal_rows(name, rows))
    });
    let text = made.await.map_err(|_| Error::Broken)??;
    let bytes = text.len();
    store.write_journal(name, text).await?;
    Ok((name, bytes))
}

/// Whoever waits for a writer that has ended waits no longer.
struct Closing(Journal);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.shared.room.notify_all();
    }
}
