//! Writes the journal.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nettailor_artifacts::{ArtifactStore, Error as StoreError, JournalObject};
use nettailor_engine::History as Events;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::anew::Aside;
use super::merge::{MERGE_EVERY, Unmerged};
use super::{Beginning, Error, History, Journal, OBJECT_BYTES, PACE, object};

/// Wait after the first failure; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Puts commits into objects.
pub(crate) struct Writer {
    store: ArtifactStore,
    journal: Journal,
    history: History,
    rows: Option<Aside>,
    /// What happened, as it is kept.
    events: Arc<dyn Events>,
    newest: u64,
    written: watch::Sender<u64>,
    /// Objects that were not looked at yet for what is to be merged.
    new: usize,
    /// The last commit of those that were. 0 after a failure: nothing is merged before there are as many again.
    mark: u64,
    merging: Option<Merging>,
}

/// An object that is being made of others, and its size in bytes.
struct Merging {
    name: JournalObject,
    done: JoinHandle<Result<u64, Unmerged>>,
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
            rows,
        } = beginning;
        let (written, seen) = watch::channel(history.last());
        let journal = Journal::new(newest, seen, runtime, stopping);
        let writer = Self {
            store,
            journal: journal.clone(),
            new: history.len(),
            history,
            rows,
            events,
            newest,
            written,
            mark: 0,
            merging: None,
        };
        (writer, journal)
    }

    /// Writes until it is stopped; then what is left is tried once more.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let _closing = Closing(self.journal.clone());
        if let Some(rows) = self.rows.take()
            && !self.begin_anew(rows, &stop).await
        {
            return;
        }
        // Nothing is to be written before this.
        self.written.send_replace(self.newest);
        self.prune().await;
        while let Some((name, text)) = self.next(&stop).await {
            let bytes = text.len() as u64;
            if !self.put(name, text, &stop).await {
                break;
            }
            self.history.push(name, bytes);
            self.written.send_replace(name.last);
            self.new += 1;
            self.merge().await;
        }
        if let Some(merging) = self.merging.take() {
            // Whoever starts next is to find all that there will be.
            self.finish(merging).await;
        }
    }

    /// Writes the snapshot of these rows and of what happened. Says whether it is there.
    async fn begin_anew(&mut self, rows: Aside, stop: &CancellationToken) -> bool {
        let name = JournalObject {
            first: 0,
            last: self.newest,
            incarnation: self.history.incarnation,
        };
        let mut wait = FIRST_WAIT;
        loop {
            let (rows, events) = (rows.clone(), self.events.clone());
            let (store, runtime) = (self.store.clone(), Handle::current());
            let written = tokio::task::spawn_blocking(move || rows.write(&store, &runtime, name, &*events));
            match written.await.unwrap_or(Err(Error::Broken)) {
                Ok(bytes) => {
                    self.history.replace(name, bytes);
                    return true;
                }
                Err(Error::Store(error)) => {
                    if !self.waited(&error, &mut wait, stop).await {
                        return false;
                    }
                }
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "the journal cannot begin anew, and is not written"
                    );
                    return false;
                }
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
            if !self.waited(&error, &mut wait, stop).await {
                return false;
            }
        }
    }

    /// Waits before something is tried again that could not be written, and longer the next time. Says whether it is to be: not
    /// after a stop.
    async fn waited(&self, error: &StoreError, wait: &mut Duration, stop: &CancellationToken) -> bool {
        warn!(
            error = error as &dyn std::error::Error,
            behind = self.journal.behind(),
            "the journal lags behind"
        );
        if stop.is_cancelled() {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(*wait) => {}
            () = stop.cancelled() => {}
        }
        *wait = (2 * *wait).min(LONGEST_WAIT);
        true
    }

    /// Has objects merged where it is time, one run of them after the other, beside what is written meanwhile.
    async fn merge(&mut self) {
        let finished = self.merging.take_if(|merging| merging.done.is_finished());
        if let Some(merging) = finished {
            self.finish(merging).await;
        }
        if self.merging.is_some() {
            return;
        }
        if self.new >= MERGE_EVERY {
            self.new = 0;
            self.mark = self.history.last();
            // What could not be removed before.
            self.prune().await;
        }
        self.merging = self.history.run(self.mark).map(|run| Merging {
            name: run.name(),
            done: tokio::spawn(run.merge(self.store.clone())),
        });
    }

    /// Takes in an object that others were merged into.
    async fn finish(&mut self, Merging { name, done }: Merging) {
        match done.await.unwrap_or(Err(Unmerged::Unwritten(Error::Broken))) {
            Ok(bytes) => self.history.replace(name, bytes),
            Err(unmerged) => {
                self.mark = 0;
                let error = match unmerged {
                    // An object of this name, should there be one, is of a writer that has not ended yet.
                    Unmerged::Unmade(error) => error,
                    Unmerged::Unwritten(error) => {
                        // What is merged later must lie around it or beside it.
                        self.history.discard(name);
                        error
                    }
                };
                warn!(
                    error = &error as &dyn std::error::Error,
                    "objects of the journal cannot be merged and stay as they are; if one is damaged, the next start of the coordinator \
                     begins the journal anew"
                );
            }
        }
        self.prune().await;
    }

    async fn prune(&mut self) {
        if let Err(error) = self.history.prune(&self.store).await {
            // What stays there takes up room, no more.
            warn!("objects of the journal cannot be removed: {error}");
        }
    }
}

/// Whoever waits for a writer that has ended waits no longer.
struct Closing(Journal);

impl Drop for Closing {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        queue.commits = VecDeque::new();
        queue.bytes = 0;
        drop(queue);
        self.0.shared.room.notify_all();
    }
}
