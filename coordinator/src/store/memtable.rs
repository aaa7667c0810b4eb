//! Rows that are in the write-ahead log and not in the database yet.

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::wal::Kept;

/// Values by their keys; none is a row that was removed.
pub(super) type Changed = BTreeMap<Bytes, Option<Bytes>>;

/// What a row takes up beside its bytes, about.
const ROW_BYTES: usize = 64;

/// What has changed since the database was last written. Cheap to clone: clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Memtable {
    halves: Arc<Mutex<Halves>>,
}

#[derive(Debug, Default)]
struct Halves {
    /// What commits add to.
    growing: Changed,
    bytes: usize,
    /// What is being written into the database: older than all that grows.
    settling: Option<Frozen>,
}

/// What some commits have changed.
#[derive(Debug, Clone)]
pub(super) struct Frozen {
    pub(super) changed: Arc<Changed>,
    /// The number of the last of them.
    pub(super) commits: u64,
}

impl Memtable {
    /// Takes in what a commit has changed.
    pub(super) fn put(&self, changes: Vec<Kept>) {
        let mut halves = self.lock();
        for Kept { key, value } in changes {
            let (key_bytes, bytes) = (key.len(), value.as_ref().map_or(0, Bytes::len));
            halves.bytes += bytes;
            match halves.growing.insert(key, value) {
                Some(old) => halves.bytes -= old.map_or(0, |old| old.len()),
                None => halves.bytes += key_bytes + ROW_BYTES,
            }
        }
    }

    /// Bytes that grow.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// What is to be written into the database now: what was begun and did not succeed, or all that has grown up to this
    /// commit.
    pub(super) fn freeze(&self, commits: u64) -> Frozen {
        let mut halves = self.lock();
        if let Some(settling) = &halves.settling {
            return settling.clone();
        }
        halves.bytes = 0;
        let frozen = Frozen {
            changed: Arc::new(std::mem::take(&mut halves.growing)),
            commits,
        };
        halves.settling.insert(frozen).clone()
    }

    /// What was frozen is in the database.
    pub(super) fn settled(&self) {
        self.lock().settling = None;
    }

    /// What has changed between two keys. Read this first and the database then: what settles meanwhile is in both.
    pub(super) fn range(&self, keys: Range<&[u8]>) -> Changed {
        self.between((Included(keys.start), Excluded(keys.end)))
    }

    /// All that has changed.
    pub(super) fn all(&self) -> Changed {
        self.between((Unbounded, Unbounded))
    }

    fn between(&self, keys: (Bound<&[u8]>, Bound<&[u8]>)) -> Changed {
        let halves = self.lock();
        let mut changed = Changed::new();
        for half in halves
            .settling
            .iter()
            .map(|frozen| &*frozen.changed)
            .chain([&halves.growing])
        {
            let rows = half.range::<[u8], _>(keys);
            changed.extend(rows.map(|(key, value)| (key.clone(), value.clone())));
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Halves> {
        // Nothing under the lock can panic half way but for want of memory.
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
