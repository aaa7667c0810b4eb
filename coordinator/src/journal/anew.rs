//! Where a journal is taken up, and the snapshot that one begins anew with.
//!
//! A snapshot holds every row, more than there is room for in memory: it is written while it is made, a piece at a time. What
//! happened comes from the database. The other rows are put aside first, in a file: they change once the coordinator serves.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use nettailor_artifacts::{ArtifactStore, Incarnation, JournalObject};
use nettailor_engine::{Change, History as Events, Row};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{info, warn};

use super::object::{self, PIECE_BYTES, Pieces};
use super::{Error, History};

/// Where a journal is taken up.
pub(crate) struct Beginning {
    pub(super) history: History,
    /// The number of the last commit.
    pub(super) newest: u64,
    /// The rows of a snapshot to write first, where the history is not whole: all but what happened, which nobody has read.
    pub(super) rows: Option<Aside>,
}

impl Beginning {
    /// Takes up the journal of a state that consists of these rows, `newest` being its last commit; `listed` are the objects of
    /// all journals. One that is not whole, or ends earlier, begins anew with a snapshot, whose rows are put aside in `folder`,
    /// which blocks.
    ///
    /// # Errors
    /// They cannot be put aside.
    pub(crate) async fn find(
        store: &ArtifactStore,
        incarnation: Incarnation,
        listed: &[JournalObject],
        rows: &[Row],
        newest: u64,
        folder: &Path,
    ) -> Result<Self, Error> {
        let found = match History::find(incarnation, listed) {
            // One that ends elsewhere does not count anyhow.
            Ok(history) if history.last() == newest => history.check(store).await,
            found => found,
        };
        match found {
            Ok(history) if history.last() == newest && (newest > 0 || !history.is_empty()) => {
                return Ok(Self {
                    history,
                    newest,
                    rows: None,
                });
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
        let aside = something.then(|| Aside::put(folder, newest, rows));
        Ok(Self {
            history: History::superseded(incarnation, listed),
            newest,
            rows: aside.transpose()?,
        })
    }
}

/// The lines of rows, in a file that has no name and is gone with the process.
#[derive(Clone)]
pub(super) struct Aside(Arc<File>);

impl Aside {
    pub(super) fn put(folder: &Path, commit: u64, rows: &[Row]) -> Result<Self, Error> {
        let put = || -> io::Result<File> {
            let mut file = BufWriter::new(tempfile::tempfile_in(folder)?);
            let mut line = Vec::new();
            for row in rows {
                object::row(&mut line, commit, row);
                file.write_all(&line)?;
                line.clear();
            }
            Ok(file.into_inner()?)
        };
        let file = put().map_err(|source| Error::Aside {
            path: folder.to_owned(),
            source,
        })?;
        Ok(Self(Arc::new(file)))
    }

    /// Writes the snapshot of these rows and of what happened, and returns its size in bytes. Blocks. What happens meanwhile may be
    /// in it before its commit is: it is as true without.
    pub(super) fn write(
        &self,
        store: &ArtifactStore,
        runtime: &Handle,
        name: JournalObject,
        events: &dyn Events,
    ) -> Result<u64, Error> {
        write_large(store, runtime, name, |object| {
            let mut buffer = vec![0; PIECE_BYTES];
            let mut read = 0;
            loop {
                let bytes = self.0.read_at(&mut buffer, read).map_err(Error::Reread)?;
                if bytes == 0 {
                    break;
                }
                read += bytes as u64;
                object.pieces.text().extend_from_slice(&buffer[..bytes]);
                if object.hand_over().is_break() {
                    return Ok(());
                }
            }
            events.each(&mut |key, value| {
                object.pieces.row(name.last, key, value);
                object.hand_over()
            })?;
            Ok(())
        })
    }
}

/// Writes a snapshot of these rows. Blocks.
pub(crate) fn write_snapshot(
    store: &ArtifactStore,
    runtime: &Handle,
    name: JournalObject,
    rows: &[Row],
) -> Result<(), Error> {
    let written = write_large(store, runtime, name, |object| {
        let _ = rows.iter().try_for_each(|row| {
            object::row(object.pieces.text(), name.last, row);
            object.hand_over()
        });
        Ok(())
    });
    written.map(drop)
}

/// An object that is written while it is made.
struct Large {
    pieces: Pieces,
    send: mpsc::Sender<Result<Bytes, Error>>,
}

impl Large {
    /// Hands over a piece, where there is one; says when nobody takes any more.
    fn hand_over(&mut self) -> ControlFlow<()> {
        match self
            .pieces
            .piece()
            .map(|piece| self.send.blocking_send(Ok(piece)))
        {
            Some(Err(_)) => ControlFlow::Break(()),
            None | Some(Ok(())) => ControlFlow::Continue(()),
        }
    }
}

/// Writes an object, and returns its size in bytes. It is made in this thread, and written beside.
///
/// # Errors
/// Those of `make`, or of the store; then there is no such object.
fn write_large(
    store: &ArtifactStore,
    runtime: &Handle,
    name: JournalObject,
    make: impl FnOnce(&mut Large) -> Result<(), Error>,
) -> Result<u64, Error> {
    // One piece is made while another waits and the store's client has some parts on their way.
    let (send, pieces) = mpsc::channel(1);
    let store = store.clone();
    let written =
        runtime.spawn(async move { store.write_large_journal(name, ReceiverStream::new(pieces)).await });
    let mut object = Large {
        pieces: Pieces::new(name, PIECE_BYTES),
        send,
    };
    // Without a word, the end of a thread that breaks would be taken for the end of the object.
    let made = std::panic::catch_unwind(AssertUnwindSafe(|| make(&mut object)));
    let made = made.unwrap_or(Err(Error::Broken));
    let Large { pieces, send } = object;
    // Where nobody takes it, the store has failed: that says why.
    let _ = send.blocking_send(made.map(|()| pieces.end()));
    drop(send);
    runtime.block_on(written).map_err(|_| Error::Broken)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_snapshot_whose_making_breaks_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(&nettailor_artifacts::folder(folder.path()).unwrap()).unwrap();
        let name = JournalObject {
            incarnation: Incarnation::new(1),
            first: 0,
            last: 7,
        };
        let (runtime, writing) = (Handle::current(), store.clone());
        let written = tokio::task::spawn_blocking(move || {
            write_large(&writing, &runtime, name, |object| {
                object.pieces.text().resize(2 * PIECE_BYTES, b'x');
                let _ = object.hand_over();
                panic!("on purpose")
            })
        });
        assert!(matches!(written.await.unwrap(), Err(Error::Broken)));
        assert_eq!(store.list_journals().await.unwrap(), []);
    }
}
