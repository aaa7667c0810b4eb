//! Rows on disk.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use nettailor_engine::{History, Show, Unreadable, VALUE_VERSION, event, event_prefix, is_event, map_each};
use nettailor_scheduler::record::{EventRecord, Subject};
use sled::IVec;
use tracing::warn;

use super::directory::{Lock, damaged, read_format, unusable, write_format};
use super::memtable::{Frozen, Memtable};
use super::tree::{EVENTS, Tree};
use super::wal::{self, Commit, Kept, Wal};
use super::{Encoded, Error, Row, Store};

/// Bytes of the memtable from which on it is written into the database: the more, the more rows of a page are written at once.
const SETTLE_BYTES: usize = 32 << 20;
/// The write-ahead log is read at every start: where it has so many times the bytes of a full memtable, because rows change
/// often, the same is done.
const LOG_LENGTH: u64 = 4;
/// Commits wait for that where either has so many times its bytes.
const LATE: usize = 2;
/// Rows that are decoded together, on all cores.
const DECODED_AT_ONCE: usize = 8192;
/// There once the database was found damaged where no start reads it: the next one is to know.
pub(super) const UNSOUND: &str = "db/unsound";

/// Keeps rows in a directory.
#[derive(Debug)]
pub struct SledStore {
    path: PathBuf,
    /// Commits so far, and where they are counted.
    commits: u64,
    counter: File,
    wal: Wal,
    memtable: Memtable,
    /// Bytes of a full memtable.
    settle_bytes: usize,
    /// Writes the memtable into the database.
    settling: Option<JoinHandle<Result<(), Error>>>,
    tree: Arc<Tree>,
    /// Released after the database is closed: fields are dropped in this order.
    _lock: Lock,
}

impl SledStore {
    /// Whether there is a store in `path`.
    pub fn exists(path: &Path) -> bool {
        path.join("format").is_file()
    }

    /// Opens the store in `path`; a new or empty directory becomes one.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_locked(path, Lock::take(path)?)
    }

    /// The same, with rows written into the database for each so many bytes of them: for tests that are about that.
    pub fn open_settling(path: &Path, settle_bytes: usize) -> Result<Self, Error> {
        let mut store = Self::open(path)?;
        store.settle_bytes = settle_bytes;
        Ok(store)
    }

    /// Opens the store in the directory that was locked.
    pub(crate) fn open_locked(path: &Path, lock: Lock) -> Result<Self, Error> {
        let failed = |source| unusable(path, source);
        let formatted = read_format(path)?.is_some();
        if path.join(UNSOUND).exists() {
            return Err(damaged(path, "rows could not be written into the database"));
        }
        let tree = Tree::open(path, formatted)?;
        let counter = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join("commits"));
        let counter = counter.map_err(failed)?;
        let counted = read_counter(&counter).map_err(failed)?;
        let wal = Wal::open(folder(path), formatted, tree.commits, counted);
        let (wal, found) = wal.map_err(|error| match error {
            wal::Failed::Io(source) => unusable(path, source),
            wal::Failed::Damaged(what) => damaged(path, what),
        })?;
        if !formatted {
            write_format(path).map_err(failed)?;
        }
        let commits = found.last().map_or(tree.commits, |commit| commit.number);
        let memtable = Memtable::default();
        found.into_iter().for_each(|commit| memtable.put(commit.changes));
        Ok(Self {
            path: path.to_owned(),
            commits,
            counter,
            wal,
            memtable,
            settle_bytes: SETTLE_BYTES,
            settling: None,
            tree: Arc::new(tree),
            _lock: lock,
        })
    }

    /// Has the memtable written into the database, unless that goes on already.
    fn settle(&mut self) -> Result<(), Error> {
        if self.is_due(LATE) {
            self.wait()?;
        }
        if self.settling.is_some() {
            return Ok(());
        }
        // So that a power failure leaves a number that is not much too small.
        let counted = self.counter.sync_data();
        counted.map_err(|source| self.failed("counting commits", source))?;
        let Frozen { changed, commits } = self.memtable.freeze(self.commits);
        self.wal.cut();
        let (tree, memtable, path) = (self.tree.clone(), self.memtable.clone(), self.path.clone());
        let settling = std::thread::Builder::new()
            .name("settling".into())
            .spawn(move || {
                let settled = tree.settle(&changed, commits);
                if let Err(Error::Damaged { .. }) = &settled {
                    File::create(path.join(UNSOUND)).map_err(|source| unusable(&path, source))?;
                }
                settled?;
                memtable.settled();
                wal::discard(&folder(&path), commits).map_err(|source| unusable(&path, source))
            });
        self.settling = Some(settling.map_err(|source| unusable(&self.path, source))?);
        Ok(())
    }

    /// Whether the memtable is full so many times, or the log as long as that.
    fn is_due(&self, times: usize) -> bool {
        let bytes = times * self.settle_bytes;
        self.memtable.bytes() >= bytes || self.wal.bytes() >= LOG_LENGTH * bytes as u64
    }

    /// Waits for what is being written into the database.
    fn wait(&mut self) -> Result<(), Error> {
        match self.settling.take() {
            Some(settling) => settling
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => Ok(()),
        }
    }

    fn decode(&self, kept: Vec<(Bytes, Bytes)>, rows: &mut Vec<Row>) -> Result<(), Error> {
        let decoded = map_each(kept, |(key, value)| {
            Row::decode(&key, &value).map_err(|error| unreadable(&self.path, &key, error))
        });
        for row in decoded {
            rows.push(row?);
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> Error {
        Error::Database {
            path: self.path.clone(),
            doing,
            source: Box::new(source),
        }
    }
}

impl Store for SledStore {
    fn history(&self) -> Box<dyn History> {
        Box::new(SledHistory {
            path: self.path.clone(),
            memtable: self.memtable.clone(),
            tree: self.tree.clone(),
        })
    }

    fn load(&mut self) -> Result<Vec<Row>, Error> {
        self.wait()?;
        let changed = self.memtable.all();
        let mut rows = Vec::new();
        let mut read = Vec::with_capacity(DECODED_AT_ONCE);
        self.tree.read(|key, value| {
            if !changed.contains_key(key) {
                read.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            }
            match read.len() < DECODED_AT_ONCE {
                true => Ok(()),
                false => self.decode(std::mem::take(&mut read), &mut rows),
            }
        })?;
        let changed = changed.into_iter().filter(|(key, _)| !is_event(key));
        read.extend(changed.filter_map(|(key, value)| Some((key, value?))));
        self.decode(read, &mut rows)?;
        Ok(rows)
    }

    fn commit(&mut self, changes: &[Encoded]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        if self.settling.as_ref().is_some_and(JoinHandle::is_finished) {
            self.wait()?;
        }
        let kept = changes.iter().map(|Encoded { key, value, .. }| Kept {
            key: key.clone(),
            value: value.clone(),
        });
        let commit = Commit {
            number: self.commits + 1,
            changes: kept.collect(),
        };
        let appended = self.wal.append(&commit);
        appended.map_err(|source| self.failed("writing", source))?;
        self.commits = commit.number;
        let counted = self.counter.write_all_at(&self.commits.to_be_bytes(), 0);
        counted.map_err(|source| self.failed("counting commits", source))?;
        self.memtable.put(commit.changes);
        match self.is_due(1) {
            true => self.settle(),
            false => Ok(()),
        }
    }
}

impl Drop for SledStore {
    /// The database must not be written to once the lock is released. What fails is still in the log.
    fn drop(&mut self) {
        if let Some(Ok(Err(error))) = self.settling.take().map(JoinHandle::join) {
            warn!("what is in the write-ahead log stays there: {error}");
        }
    }
}

/// Reads beside the commits.
struct SledHistory {
    path: PathBuf,
    memtable: Memtable,
    tree: Arc<Tree>,
}

impl SledHistory {
    /// The rows between two keys, in order, keys and values. Holds those that have changed, not what is in the database.
    fn between(&self, keys: Range<&[u8]>) -> impl Iterator<Item = Result<(IVec, IVec), Error>> {
        let mut changed = self.memtable.range(keys.clone()).into_iter().peekable();
        let mut kept = self.tree.rows(keys).peekable();
        std::iter::from_fn(move || {
            loop {
                let (key, old) = match (changed.peek(), kept.peek()) {
                    (None, _) | (_, Some(Err(_))) => return kept.next(),
                    (Some((key, _)), Some(Ok((old, _)))) => (&key[..], Some(old)),
                    (Some((key, _)), None) => (&key[..], None),
                };
                match old.map_or(Ordering::Less, |old| key.cmp(old)) {
                    Ordering::Less => {}
                    // What is kept is not what it was.
                    Ordering::Equal => drop(kept.next()),
                    Ordering::Greater => return kept.next(),
                }
                // A row that was removed is passed over.
                if let (key, Some(value)) = changed.next()? {
                    return Some(Ok((key[..].into(), value[..].into())));
                }
            }
        })
    }
}

impl History for SledHistory {
    fn of(&self, subject: &Subject) -> Result<Vec<EventRecord>, Error> {
        let first = event_prefix(subject);
        // Nothing that follows the prefix is only ones: it is a time first.
        let last = [first.as_slice(), &[0xff; 8]].concat();
        let read = self.between(&first..&last).map(|row| {
            let (key, value) = row?;
            event(&key, &value).map_err(|error| unreadable(&self.path, &key, error))
        });
        read.collect()
    }

    fn each(&self, show: &mut Show<'_>) -> Result<(), Error> {
        for row in self.between(EVENTS) {
            let (key, value) = row?;
            if show(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn unreadable(path: &Path, key: &[u8], error: Unreadable) -> Error {
    match error {
        Unreadable::Newer(version) => Error::Newer {
            path: path.to_owned(),
            found: version.into(),
            known: VALUE_VERSION.into(),
        },
        Unreadable::Older(version) => Error::Older {
            path: path.to_owned(),
            found: version.into(),
            known: VALUE_VERSION.into(),
        },
        Unreadable::Damaged(why) => damaged(path, format!("row `{}`: {why}", key.escape_ascii())),
    }
}

/// Where a state directory has its write-ahead log.
fn folder(path: &Path) -> PathBuf {
    path.join("wal")
}

/// Commits that were made at least.
fn read_counter(file: &File) -> io::Result<u64> {
    let mut counted = [0; 8];
    match file.read_exact_at(&mut counted, 0) {
        Ok(()) => Ok(u64::from_be_bytes(counted)),
        // New, or the process ended before its first commit was counted.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
        Err(error) => Err(error),
    }
}
