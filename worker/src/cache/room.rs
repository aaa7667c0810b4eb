//! Keeping the cache within its budget.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use tracing::info;

use super::Error;
use super::folder::{Folder, failed};

/// Bytes kept free for a fetch until it is a blob, or given up.
#[derive(Debug)]
pub(super) struct Room {
    folder: Arc<Folder>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.folder.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A file that may go.
struct Evictable {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Folder {
    /// Evicts what was not used for longest until `bytes` more fit into the budget, and keeps them free.
    pub(super) fn make_room(self: &Arc<Self>, bytes: u64) -> Result<Room, Error> {
        let _one = self.evicting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = self.evictable()?;
        files.sort_by_key(|file| file.used);
        let reserved = self.reserved.load(Ordering::Relaxed);
        let mut kept = reserved + files.iter().map(|file| file.bytes).sum::<u64>();
        for file in files {
            if kept + bytes <= self.budget {
                break;
            }
            if evict(&file.path)? {
                info!(file = %file.path.display(), bytes = file.bytes, "evicted from the cache");
                kept -= file.bytes;
            }
        }
        if kept + bytes > self.budget {
            return Err(Error::OverBudget {
                dir: self.root.clone(),
                needed: bytes,
                kept,
                budget: self.budget,
            });
        }
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
        Ok(Room {
            folder: self.clone(),
            bytes,
        })
    }

    /// Blobs, and what trainers have decoded from them. A trainer that has opened a decoded file keeps it, removed or not,
    /// and one that does not find it decodes again: unlike blobs, these need no pin.
    fn evictable(&self) -> Result<Vec<Evictable>, Error> {
        let mut files = Vec::new();
        for (digest, data) in self.entries(&self.blobs_dir())? {
            let path = self.blob(digest);
            let used = data.accessed().map_err(failed("look at", &path))?;
            files.push(Evictable {
                path,
                bytes: data.len(),
                used,
            });
        }
        let decoded = self.decoded_dir();
        for dir in fs::read_dir(&decoded)
            .map_err(failed("list", &decoded))?
            .flatten()
        {
            // What vanishes meanwhile, or is no folder, is none of ours.
            for file in fs::read_dir(dir.path()).into_iter().flatten().flatten() {
                let path = file.path();
                // Neither locks nor files that are still being written.
                if path
                    .extension()
                    .is_none_or(|extension| extension != "safetensors")
                {
                    continue;
                }
                if let Ok(data) = file.metadata()
                    && let Ok(used) = data.accessed()
                {
                    files.push(Evictable {
                        path,
                        bytes: data.len(),
                        used,
                    });
                }
            }
        }
        Ok(files)
    }
}

/// Whether the file is gone. A blob that is pinned, by any process, stays.
fn evict(path: &Path) -> Result<bool, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(failed("open", path)(error)),
    };
    match file.try_lock() {
        Ok(()) => fs::remove_file(path)
            .map(|()| true)
            .map_err(failed("remove", path)),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(failed("lock", path)(error)),
    }
}
