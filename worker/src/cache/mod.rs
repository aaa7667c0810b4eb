//! Blobs on the node's disk, shared by every trainer of every agent that uses the folder.
//!
//! ```text
//! blobs/<digest>     complete and verified; renamed into place
//! partial/<digest>/  being fetched, by the holder of the lock below
//! locks/<2 digits>   file locks: one fetch per blob, across processes
//! decoded/           the trainers' own: decoded data sets, counted and evicted with the blobs
//! attempts/          one folder per running attempt
//! ```
//!
//! A [`PinnedBlob`] holds a shared file lock on its blob, and eviction needs the exclusive one: what is in use stays,
//! whichever process uses it. Within a process a keyed lock makes starters of the same blob wait for one fetch.

mod folder;
mod room;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nettailor_artifacts::ArtifactStore;
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use tokio::sync::OwnedMutexGuard;

use self::folder::Folder;
pub use self::folder::PinnedBlob;

/// The cause of a failed fetch, whatever it fetched from.
pub type FetchError = Box<dyn StdError + Send + Sync>;

/// Why a blob is not to be had, or the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used.
    #[error("cannot {operation} {}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The disk is full.
    #[error(
        "no space is left for {needed} bytes in {}; free some, or give the cache another folder or a smaller budget",
        .dir.display()
    )]
    NoSpace {
        /// The cache's folder.
        dir: PathBuf,
        /// Size of the blob.
        needed: u64,
        /// What the system said.
        source: FetchError,
    },
    /// Blobs in use leave no room within the budget.
    #[error(
        "a blob of {needed} bytes does not fit into the cache {}: {kept} of its {budget} bytes are in use; raise the budget",
        .dir.display()
    )]
    OverBudget {
        /// The cache's folder.
        dir: PathBuf,
        /// Size of the blob.
        needed: u64,
        /// Bytes that cannot be evicted now.
        kept: u64,
        /// All bytes the cache may take.
        budget: u64,
    },
    /// The artifact store did not give the blob.
    #[error("cannot fetch blob {digest}")]
    Fetch {
        /// Which.
        digest: Digest,
        /// Why not.
        source: FetchError,
    },
    /// What arrived is something else.
    #[error(
        "blob {digest} arrived damaged: expected {expected} bytes with this digest, found {found} bytes with {actual}"
    )]
    Damaged {
        /// Which.
        digest: Digest,
        /// Its size.
        expected: u64,
        /// Bytes that arrived.
        found: u64,
        /// Their digest.
        actual: Digest,
    },
}

impl Error {
    /// Whether the artifact store has no such blob, or only a damaged one.
    pub fn is_missing(&self) -> bool {
        use nettailor_artifacts::Error as Store;

        let Self::Fetch { source, .. } = self else {
            return false;
        };
        matches!(
            source.downcast_ref(),
            Some(Store::BlobMissing(_) | Store::Damaged { .. })
        )
    }
}

/// The cache: see the module's documentation. Shared as an `Arc`.
#[derive(Debug)]
pub struct BlobCache {
    folder: Arc<Folder>,
    /// Fetches of this process, by blob.
    turns: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl BlobCache {
    /// Opens, or makes, the cache in `dir`, which keeps at most `budget` bytes of blobs.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be made or written.
    pub fn open(dir: &Path, budget: u64) -> Result<Self, Error> {
        Ok(Self {
            folder: Arc::new(Folder::open(dir, budget)?),
            turns: Mutex::default(),
        })
    }

    /// For the trainers' decoded data.
    pub fn decoded_dir(&self) -> PathBuf {
        self.folder.decoded_dir()
    }

    /// For the folders of running attempts; on the same file system as the blobs.
    pub fn attempts_dir(&self) -> PathBuf {
        self.folder.attempts_dir()
    }

    /// Digests of the blobs that are here, in no order.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be read.
    pub fn inventory(&self) -> Result<Vec<Digest>, Error> {
        self.folder.inventory()
    }

    /// The blob, fetched from `store` where it is not here. It stays at least as long as the guard.
    ///
    /// # Errors
    /// Every variant of [`Error`].
    pub async fn get(&self, artifact: Artifact, store: &ArtifactStore) -> Result<PinnedBlob, Error> {
        self.get_with(artifact, async |to| {
            store.get_to_file(artifact.digest, &to).await?;
            Ok(())
        })
        .await
    }

    /// The blob, written by `fetch` into the file that it is given where the blob is not here.
    ///
    /// # Errors
    /// Every variant of [`Error`]; those of `fetch` are the source of [`Error::Fetch`] or [`Error::NoSpace`].
    pub async fn get_with<F>(
        &self,
        artifact: Artifact,
        fetch: impl FnOnce(PathBuf) -> F,
    ) -> Result<PinnedBlob, Error>
    where
        F: Future<Output = Result<(), FetchError>>,
    {
        if let Some(blob) = self.on_disk(move |folder| folder.lookup(artifact)).await? {
            return Ok(blob);
        }
        let _turn = self.turn(artifact.digest).await;
        let _lock = self.folder.fetch_lock(artifact.digest).await?;
        // Whoever had the turn before may have brought it.
        if let Some(blob) = self.on_disk(move |folder| folder.lookup(artifact)).await? {
            return Ok(blob);
        }
        let room = self
            .on_disk(move |folder| folder.make_room(artifact.bytes))
            .await?;
        let partial = self
            .on_disk(move |folder| folder.make_partial(artifact.digest))
            .await?;
        let file = partial.join("blob");
        let result = match fetch(file.clone()).await {
            Ok(()) => {
                self.on_disk(move |folder| folder.insert(artifact, &file, room))
                    .await
            }
            Err(source) if is_disk_full(source.as_ref()) => Err(Error::NoSpace {
                dir: self.folder.root().to_owned(),
                needed: artifact.bytes,
                source,
            }),
            Err(source) => Err(Error::Fetch {
                digest: artifact.digest,
                source,
            }),
        };
        self.on_disk(move |folder| folder.remove_partial(artifact.digest))
            .await?;
        result
    }

    /// Takes over a file of known content, by renaming it. It must lie on the cache's file system.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::OverBudget`], [`Error::Damaged`]; the file then stays or is lost, so only give away copies.
    pub async fn adopt(&self, artifact: Artifact, file: &Path) -> Result<(), Error> {
        let file = file.to_owned();
        self.on_disk(move |folder| {
            if folder.lookup(artifact)?.is_none() {
                let room = folder.make_room(artifact.bytes)?;
                folder.insert(artifact, &file, room)?;
            }
            Ok(())
        })
        .await
    }

    /// Waits for this process's turn to fetch a blob. Cancel-safe.
    async fn turn(&self, digest: Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, lock| lock.strong_count() > 0);
            turns.get(&digest).and_then(Weak::upgrade).unwrap_or_else(|| {
                let lock = Arc::new(tokio::sync::Mutex::new(()));
                turns.insert(digest, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }

    /// Runs file work, hashing above all, off the async threads.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Folder>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let folder = self.folder.clone();
        match tokio::task::spawn_blocking(move || work(&folder)).await {
            Ok(result) => result,
            Err(panicked) => {
                let path = self.folder.root().to_owned();
                Err(Error::Io {
                    operation: "work in",
                    path,
                    source: io::Error::other(panicked),
                })
            }
        }
    }
}

/// Whether a full disk, or a used-up quota, is at the bottom of an error.
fn is_disk_full(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| {
            // An io::Error made from another error hides it behind its own source.
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) || error.get_ref().is_some_and(|inner| is_disk_full(inner))
        })
    })
}
