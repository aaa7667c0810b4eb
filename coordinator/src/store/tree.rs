//! The database: sled.
//!
//! sled does without what a damaged place in its log held, or all that follows it, and says nothing. The number of its last
//! commit tells the latter: that, and what the write-ahead log holds, must not be less than what was counted outside of
//! both. A tally of the rows tells the former. What happened is not in the tally, so as not to be read at every start; nothing depends on it.
//!
//! sled 0.34 does not survive a power failure by itself: its flush hands pages to the disk (`sync_file_range`), but neither
//! the file's length nor an order to empty the disk's own cache, and values too large for its log go to files in `blobs`
//! that it never syncs. So every flush is followed by `fdatasync` here.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use nettailor_engine::is_event;

use super::Error;
use super::directory::{CLOSING_WAIT, CLOSING_WAITS, FORMAT, damaged, known_format, sync, unusable};
use super::memtable::Changed;
use super::tally::Tally;

/// The rows' keys are between these.
const ROWS: Range<&[u8]> = b"\x01"..b"\xff";
/// And these are of what happened, which is read when somebody asks.
pub(super) const EVENTS: Range<&[u8]> = b"e"..b"f";
/// Keys of the store's own: rows' keys are longer or begin otherwise.
const FORMAT_KEY: &[u8] = b"\0format";
const COMMITS_KEY: &[u8] = b"\0commits";
const TALLY_KEY: &[u8] = b"\0tally";
/// Rows, and about how many bytes of them, that are written at a time.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of the database that sled keeps in memory: only what is written to is read again after the start.
const CACHE_BYTES: u64 = 64 << 20;

/// Rows on disk.
#[derive(Debug)]
pub(super) struct Tree {
    /// The state directory.
    path: PathBuf,
    db: sled::Db,
    /// sled's log.
    log: File,
    /// Where sled keeps large values, and those of its files there that are on the disk.
    blobs: PathBuf,
    synced: Mutex<HashSet<OsString>>,
    /// The number of the last commit that was in it when it was opened.
    pub(super) commits: u64,
    /// Known once the rows were read.
    tally: Mutex<Option<Tally>>,
}

impl Tree {
    /// Opens the database in a state directory whose lock is ours. `formatted` says that there must be one.
    pub(super) fn open(path: &Path, formatted: bool) -> Result<Self, Error> {
        let folder = path.join("db");
        // sled makes a new database wherever it finds none: an old one must not be lost that way.
        if formatted && !folder.join("db").exists() {
            return Err(damaged(path, "the database `db` is missing"));
        }
        remove_halves(&folder).map_err(|source| unusable(path, source))?;
        let db = guarded(path, || {
            open_database(&folder).map_err(|source| failed(path, "opening", source))
        })?;
        let log = File::open(folder.join("db")).map_err(|source| unusable(path, source))?;
        let mut tree = Self {
            path: path.to_owned(),
            db,
            log,
            blobs: folder.join("blobs"),
            synced: Mutex::default(),
            commits: 0,
            tally: Mutex::default(),
        };
        tree.check_format(formatted)?;
        if let Some(commits) = tree.get(COMMITS_KEY)? {
            let number = commits.as_ref().try_into().map(u64::from_be_bytes);
            tree.commits = number.map_err(|_| damaged(path, "its number of commits is no number"))?;
        }
        if !formatted {
            // The files' names, too.
            sync(&folder).map_err(|source| unusable(path, source))?;
        }
        Ok(tree)
    }

    /// A database that lost its content has lost this entry, too.
    fn check_format(&self, formatted: bool) -> Result<(), Error> {
        let entry = self.get(FORMAT_KEY)?;
        match entry.as_deref().map(<[u8; 4]>::try_from) {
            Some(Ok(bytes)) => known_format(&self.path, u32::from_be_bytes(bytes)),
            None if !formatted && self.db.is_empty() => {
                let made = self.db.insert(FORMAT_KEY, &FORMAT.to_be_bytes());
                made.map_err(|source| self.failed("opening", source))?;
                self.flush()
            }
            _ => Err(damaged(&self.path, "the database has lost its content")),
        }
    }

    /// Shows every row but those of what happened. Nothing is to settle meanwhile.
    pub(super) fn read(&self, show: impl FnMut(&[u8], &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        *self.tally() = Some(self.scan(show)?);
        Ok(())
    }

    fn scan(&self, mut show: impl FnMut(&[u8], &[u8]) -> Result<(), Error>) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        for keys in [ROWS.start..EVENTS.start, EVENTS.end..ROWS.end] {
            for row in self.rows(keys) {
                let (key, value) = row?;
                tally.put(&key, Some(&value));
                show(&key, &value)?;
            }
        }
        let kept = self.get(TALLY_KEY)?;
        if kept.as_deref().unwrap_or(&Tally::default().encode()) != tally.encode() {
            return Err(damaged(&self.path, "the database has lost rows"));
        }
        Ok(tally)
    }

    /// Writes what commits up to this one have changed, and puts it on the disk. Done in part, it is done again from the
    /// write-ahead log.
    pub(super) fn settle(&self, changed: &Changed, commits: u64) -> Result<(), Error> {
        // Taken out: after what was written in part, it is read again.
        let known = self.tally().take();
        let mut tally = known.map_or_else(|| self.scan(|_, _| Ok(())), Ok)?;
        guarded(&self.path, || self.write(changed, commits, &mut tally))?;
        *self.tally() = Some(tally);
        Ok(())
    }

    fn write(&self, changed: &Changed, commits: u64, tally: &mut Tally) -> Result<(), Error> {
        let written = |error| self.failed("writing", error);
        let mut rows = changed.iter().peekable();
        while rows.peek().is_some() {
            let mut batch = sled::Batch::default();
            let mut bytes = 0;
            for (key, value) in rows.by_ref().take(BATCH) {
                if !is_event(key) {
                    tally.put(key, value.as_deref());
                }
                match value {
                    Some(value) => batch.insert(&**key, &**value),
                    None => batch.remove(&**key),
                }
                bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
                if bytes >= BATCH_BYTES {
                    break;
                }
            }
            batch.insert(TALLY_KEY, &tally.encode());
            // All or nothing: sled puts a batch into its log as one.
            self.db.apply_batch(batch).map_err(written)?;
            // sled takes for written what it has handed to the system, and writes over places whose rows it has moved.
            self.flush()?;
        }
        let numbered = self.db.insert(COMMITS_KEY, &commits.to_be_bytes());
        numbered.map_err(written)?;
        self.flush()
    }

    /// The rows between two keys, in order, keys and values. After an error, it is of no use.
    pub(super) fn rows(
        &self,
        keys: Range<&[u8]>,
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), Error>> {
        let mut entries = self.db.range(keys);
        let mut next = move || guarded(&self.path, || Ok(entries.next()));
        std::iter::from_fn(move || {
            let entry = next().transpose()?;
            Some(entry.and_then(|entry| entry.map_err(|source| self.failed("reading", source))))
        })
    }

    fn tally(&self) -> MutexGuard<'_, Option<Tally>> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, Error> {
        guarded(&self.path, || {
            self.db.get(key).map_err(|source| self.failed("opening", source))
        })
    }

    /// Puts what was written on the disk itself.
    fn flush(&self) -> Result<(), Error> {
        // Blocking on purpose (`flush_async` can deadlock in sled 0.34).
        let flushed = self.db.flush().map_err(|source| self.failed("flushing", source));
        flushed?;
        let synced = self.sync_blobs().and_then(|()| self.log.sync_data());
        synced.map_err(|error| self.failed("flushing", sled::Error::Io(error)))
    }

    /// A file of `blobs` is written once, and removed when its value is gone. There is rarely one.
    fn sync_blobs(&self) -> io::Result<()> {
        let names: HashSet<OsString> = std::fs::read_dir(&self.blobs)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = names.difference(&synced).peekable();
        if new.peek().is_some() {
            for name in new {
                match File::open(self.blobs.join(name)) {
                    Ok(file) => file.sync_data()?,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            sync(&self.blobs)?;
        }
        *synced = names;
        Ok(())
    }

    fn failed(&self, doing: &'static str, source: sled::Error) -> Error {
        failed(&self.path, doing, source)
    }
}

/// Removes what sled was writing when an earlier process ended, which it would take for damage.
fn remove_halves(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // The settings are written before the database itself.
    let new = !folder.join("db").exists();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".generating") || new && name == "conf" {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Some damage makes sled panic in place of saying so.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let done = std::panic::catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(damaged(path, "sled panics on the database")))
}

/// A failure of the database of this state directory.
fn failed(path: &Path, doing: &'static str, source: sled::Error) -> Error {
    match source {
        sled::Error::Corruption { at, .. } => {
            let place = at.map_or_else(String::new, |at| format!(" at {at:?}"));
            damaged(path, format!("the database is corrupt{place}"))
        }
        source if is_locked(&source) => Error::Locked {
            path: path.to_owned(),
        },
        source if ["opening", "reading"].contains(&doing) && is_nonsense(&source) => {
            damaged(path, format!("the database cannot be read: {source}"))
        }
        source => Error::Database {
            path: path.to_owned(),
            doing,
            source: Box::new(source),
        },
    }
}

/// Opens the database below a directory whose lock is ours. A database that was closed a moment ago in this process may
/// still be locked by sled's own threads, which outlive it a little: they are waited for.
#[allow(
    clippy::disallowed_methods,
    reason = "sled tells nobody when it has closed; this thread is the store's own"
)]
fn open_database(path: &Path) -> sled::Result<sled::Db> {
    let mut waits = 0..CLOSING_WAITS;
    loop {
        let db = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).open();
        match db {
            Err(error) if is_locked(&error) && waits.next().is_some() => {
                std::thread::sleep(CLOSING_WAIT);
            }
            db => return db,
        }
    }
}

/// What sled says of files that it has not written so, in place of that they are corrupt.
fn is_nonsense(error: &sled::Error) -> bool {
    match error {
        sled::Error::Unsupported(_) | sled::Error::ReportableBug(_) => true,
        sled::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
}

/// sled has no kind of error for this.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}
