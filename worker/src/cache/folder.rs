//! The cache's folder, with blocking file operations only.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use tracing::warn;

use super::Error;
use super::room::Room;
use crate::ambient;

/// How often another process's fetch of the same blob is looked at: file locks give no signal that could be cancelled.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Every operation may be called from several threads and processes at a time.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
    pub(super) budget: u64,
    /// Blobs whose content this process has checked, by what tells one file from another.
    verified: Mutex<HashMap<Digest, Identity>>,
    /// Bytes that fetches of this process are about to write. Others' are not seen until they are blobs.
    pub(super) reserved: AtomicU64,
    /// Held while room is made.
    pub(super) evicting: Mutex<()>,
}

/// A blob on disk that cannot be evicted while this lives.
#[derive(Debug)]
pub struct PinnedBlob {
    path: PathBuf,
    /// Holds the shared lock; closing the file lets go of it.
    _locked: File,
}

impl PinnedBlob {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Identity {
    fn from(data: &Metadata) -> Self {
        Self {
            inode: data.ino(),
            bytes: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
        }
    }
}

impl Folder {
    pub(super) fn open(dir: &Path, budget: u64) -> Result<Self, Error> {
        let root = std::path::absolute(dir).map_err(failed("find", dir))?;
        let folder = Self {
            root,
            budget,
            verified: Mutex::default(),
            reserved: AtomicU64::new(0),
            evicting: Mutex::default(),
        };
        for dir in [
            folder.blobs_dir(),
            folder.partial_dir(),
            folder.locks_dir(),
            folder.decoded_dir(),
            folder.attempts_dir(),
        ] {
            fs::create_dir_all(&dir).map_err(failed("make", &dir))?;
        }
        folder.sweep()?;
        Ok(folder)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn blobs_dir(&self) -> PathBuf {
        self.root.join("blobs")
    }

    fn partial_dir(&self) -> PathBuf {
        self.root.join("partial")
    }

    fn locks_dir(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub(super) fn decoded_dir(&self) -> PathBuf {
        self.root.join("decoded")
    }

    pub(super) fn attempts_dir(&self) -> PathBuf {
        self.root.join("attempts")
    }

    pub(super) fn blob(&self, digest: Digest) -> PathBuf {
        self.blobs_dir().join(digest.to_string())
    }

    /// Makes an empty folder to fetch a blob into, for the holder of its fetch lock.
    pub(super) fn make_partial(&self, digest: Digest) -> Result<PathBuf, Error> {
        self.remove_partial(digest)?;
        let dir = self.partial_dir().join(digest.to_string());
        fs::create_dir(&dir)
            .map(|()| dir.clone())
            .map_err(failed("make", &dir))
    }

    /// Removes that folder and what is left in it.
    pub(super) fn remove_partial(&self, digest: Digest) -> Result<(), Error> {
        let dir = self.partial_dir().join(digest.to_string());
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &dir)(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn inventory(&self) -> Result<Vec<Digest>, Error> {
        Ok(self
            .entries(&self.blobs_dir())?
            .into_iter()
            .map(|(digest, _)| digest)
            .collect())
    }

    /// The blob if it is here and intact. Its content is read on the first use in this process, or after it was touched.
    pub(super) fn lookup(&self, artifact: Artifact) -> Result<Option<PinnedBlob>, Error> {
        let path = self.blob(artifact.digest);
        loop {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed("open", &path)(error)),
            };
            // Waits for an eviction at most, and then the name is gone.
            file.lock_shared().map_err(failed("lock", &path))?;
            let data = file.metadata().map_err(failed("look at", &path))?;
            if !fs::metadata(&path).is_ok_and(|named| named.ino() == data.ino()) {
                continue;
            }
            if let Err(error) = self.verify(artifact, &path, &data) {
                warn!(blob = %artifact.digest, %error, "a cached blob is not what it should be; fetching it again");
                return Ok(None);
            }
            mark_used(&file, &path);
            return Ok(Some(PinnedBlob { path, _locked: file }));
        }
    }

    /// Makes a complete file a blob. It is pinned before others can see it.
    pub(super) fn insert(&self, artifact: Artifact, file: &Path, room: Room) -> Result<PinnedBlob, Error> {
        let pinned = File::open(file).map_err(failed("open", file))?;
        pinned.lock_shared().map_err(failed("lock", file))?;
        let data = pinned.metadata().map_err(failed("look at", file))?;
        self.verify(artifact, file, &data)?;
        mark_used(&pinned, file);
        let path = self.blob(artifact.digest);
        fs::rename(file, &path).map_err(failed("rename a fetched blob to", &path))?;
        drop(room);
        Ok(PinnedBlob {
            path,
            _locked: pinned,
        })
    }

    fn verify(&self, artifact: Artifact, path: &Path, data: &Metadata) -> Result<(), Error> {
        let Artifact { digest, bytes } = artifact;
        let identity = Identity::from(data);
        let known = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if identity.bytes == bytes && known().get(&digest) == Some(&identity) {
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_mmap(path).map_err(failed("read", path))?;
        let actual = Digest::from(hasher.finalize());
        if identity.bytes != bytes || actual != digest {
            known().remove(&digest);
            return Err(Error::Damaged {
                digest,
                expected: bytes,
                found: identity.bytes,
                actual,
            });
        }
        known().insert(digest, identity);
        Ok(())
    }

    /// The right to fetch a blob, among all processes, until the file is closed. Cancel-safe.
    pub(super) async fn fetch_lock(&self, digest: Digest) -> Result<File, Error> {
        loop {
            if let Some(lock) = self.try_fetch_lock(digest)? {
                return Ok(lock);
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
    }

    /// Blobs that share two digits share a lock: the files stay few, and a needless wait does no harm.
    fn try_fetch_lock(&self, digest: Digest) -> Result<Option<File>, Error> {
        let path = self.locks_dir().join(&digest.to_string()[..2]);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }

    /// Takes away what fetches of dead processes left.
    fn sweep(&self) -> Result<(), Error> {
        for (digest, _) in self.entries(&self.partial_dir())? {
            if let Some(_lock) = self.try_fetch_lock(digest)? {
                self.remove_partial(digest)?;
            }
        }
        Ok(())
    }

    /// Files named by a digest. One that vanishes meanwhile is left out.
    pub(super) fn entries(&self, dir: &Path) -> Result<Vec<(Digest, Metadata)>, Error> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
            let entry = entry.map_err(failed("list", dir))?;
            let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
            match (digest, entry.metadata()) {
                (Some(digest), Ok(data)) => entries.push((digest, data)),
                (Some(_), Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("look at", &entry.path())(error));
                }
                _ => {}
            }
        }
        Ok(entries)
    }
}

/// The time of last use, by which blobs are evicted, is the file's access time: set here, since file systems may not.
fn mark_used(file: &File, path: &Path) {
    if let Err(error) = file.set_times(FileTimes::new().set_accessed(ambient::wall())) {
        warn!(path = %path.display(), %error, "cannot mark a blob as used; it may be evicted early");
    }
}

pub(super) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        operation,
        path,
        source,
    }
}
