//! Rows on disk.
//!
//! ```text
//! <state>/lock     held while a coordinator runs
//! <state>/format   version of the directory; written once the database is made, so that one which lost its content is
//!                  told from a new one
//! <state>/commits  number of commits, written after each flush
//! <state>/db       sled: rows by their keys, and the format and the number of commits
//! ```
//!
//! The file `incarnation` beside these is the journal's (`recovery`).
//!
//! sled drops what follows a damaged place in its log without a word. The number of commits outside of it tells: it is
//! written once a commit is on disk, so it is never ahead of a sound database.
//!
//! sled 0.34 does not survive a power failure by itself: its flush hands pages to the disk (`sync_file_range`), but neither
//! the file's length nor an order to empty the disk's own cache, and values too large for its log go to files in `blobs`
//! that it never syncs. So every flush is followed by `fdatasync` here.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nettailor_engine::{History, Rows, Unreadable, event, event_prefix};
use nettailor_scheduler::record::{EventRecord, Subject};

use super::{Encoded, Error, Row, Store};

/// Version of the directory's layout and values, in `format` and in the database.
const FORMAT: u32 = 4;
/// Keys of the store's own: rows' keys are longer or begin otherwise.
const FORMAT_KEY: &[u8] = b"\0format";
const COMMITS_KEY: &[u8] = b"\0commits";
/// First byte of the rows' keys, and what follows them all.
const FIRST_ROW: &[u8] = b"\x01";
const LAST_ROW: &[u8] = b"\xff";
/// Between these is what happened, which is read when somebody asks.
const EVENTS: &[u8] = b"e";
const AFTER_EVENTS: &[u8] = b"f";
/// Bytes of the database that sled keeps in memory. Rows are read once, at the start.
const CACHE_BYTES: u64 = 64 << 20;
/// How long a database that is being closed is waited for: 5 seconds, far more than sled's threads were seen to need.
const CLOSING_WAITS: u32 = 500;
const CLOSING_WAIT: Duration = Duration::from_millis(10);

/// Keeps rows in a directory.
#[derive(Debug)]
pub struct SledStore {
    path: PathBuf,
    db: sled::Db,
    /// Commits so far.
    commits: u64,
    counter: File,
    /// sled's log.
    log: File,
    /// Where sled keeps large values, and those of its files there that are on the disk.
    blobs: PathBuf,
    synced: HashSet<OsString>,
    /// Released after the database is closed: fields are dropped in this order.
    _lock: Lock,
}

/// Who holds it, or one of its clones, has the state directory to himself.
#[derive(Debug, Clone)]
pub(crate) struct Lock {
    _file: Arc<File>,
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

    /// Opens the store in the directory that was locked.
    pub(crate) fn open_locked(path: &Path, lock: Lock) -> Result<Self, Error> {
        let failed = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        let formatted = read_format(path)?.is_some();
        let database = path.join("db");
        // sled makes a new database wherever it finds none: an old one must not be lost that way.
        if formatted && !database.join("db").exists() {
            return Err(damaged(path, "the database `db` is missing"));
        }
        let db = open_database(&database).map_err(|source| {
            Failure {
                doing: "opening",
                source,
            }
            .at(path)
        })?;
        let counter = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join("commits"));
        let counter = counter.map_err(failed)?;
        let log = File::open(database.join("db")).map_err(failed)?;
        let mut store = Self {
            path: path.to_owned(),
            db,
            commits: 0,
            counter,
            log,
            blobs: database.join("blobs"),
            synced: HashSet::new(),
            _lock: lock,
        };
        store.check_format(formatted)?;
        store.check_commits()?;
        if !formatted {
            // The files' names, too.
            File::open(&database)
                .and_then(|folder| folder.sync_all())
                .map_err(failed)?;
            write_format(path).map_err(failed)?;
        }
        Ok(store)
    }

    /// A database that lost its content has lost this entry, too. A new one gets it, before the file `format` is written.
    fn check_format(&mut self, formatted: bool) -> Result<(), Error> {
        let failed = |source| self.failed("opening", source);
        let entry = self.db.get(FORMAT_KEY).map_err(failed)?;
        match entry.as_deref().map(<[u8; 4]>::try_from) {
            Some(Ok(bytes)) => known_format(&self.path, u32::from_be_bytes(bytes)),
            None if !formatted && self.db.is_empty() => {
                self.db
                    .insert(FORMAT_KEY, &FORMAT.to_be_bytes())
                    .map_err(failed)?;
                self.flush()
            }
            _ => Err(damaged(&self.path, "the database has lost its content")),
        }
    }

    /// A database with fewer commits than were counted has lost the end of its log.
    fn check_commits(&mut self) -> Result<(), Error> {
        let entry = self
            .db
            .get(COMMITS_KEY)
            .map_err(|source| self.failed("opening", source))?;
        self.commits = entry
            .as_deref()
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_be_bytes);
        let mut counted = [0; 8];
        let counted = match self.counter.read_exact_at(&mut counted, 0) {
            Ok(()) => u64::from_be_bytes(counted),
            // New, or the process ended before its first commit was counted.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            Err(source) => {
                return Err(Error::Open {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        if self.commits < counted {
            let what = format!("the database holds {} commits, {counted} were made", self.commits);
            return Err(damaged(&self.path, what));
        }
        Ok(())
    }

    /// Puts what was written on the disk itself.
    fn flush(&mut self) -> Result<(), Error> {
        // Blocking on purpose: only what is on disk may be acknowledged (`flush_async` can deadlock in sled 0.34).
        let flushed = self.db.flush().map_err(|source| self.failed("flushing", source));
        flushed?;
        let synced = self.sync_blobs().and_then(|()| self.log.sync_data());
        synced.map_err(|error| self.failed("flushing", sled::Error::Io(error)))
    }

    /// A file of `blobs` is written once, and removed when its value is gone. There is rarely one.
    fn sync_blobs(&mut self) -> io::Result<()> {
        let names: HashSet<OsString> = std::fs::read_dir(&self.blobs)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        let mut new = names.difference(&self.synced).peekable();
        if new.peek().is_some() {
            for name in new {
                match File::open(self.blobs.join(name)) {
                    Ok(file) => file.sync_data()?,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            File::open(&self.blobs)?.sync_all()?;
        }
        self.synced = names;
        Ok(())
    }

    fn failed(&self, doing: &'static str, source: sled::Error) -> Error {
        Failure { doing, source }.at(&self.path)
    }
}

fn unreadable(path: &Path, key: &[u8], error: Unreadable) -> Error {
    match error {
        Unreadable::Newer(version) => Error::Newer {
            path: path.to_owned(),
            found: version.into(),
            known: FORMAT,
        },
        Unreadable::Older(version) => Error::Older {
            path: path.to_owned(),
            found: version.into(),
            known: FORMAT,
        },
        Unreadable::Damaged(why) => damaged(path, format!("row `{}`: {why}", key.escape_ascii())),
    }
}

/// Reads beside the commits.
struct SledHistory {
    path: PathBuf,
    db: sled::Db,
}

impl History for SledHistory {
    fn of(&self, subject: &Subject) -> Result<Vec<EventRecord>, Error> {
        let entries = self.db.scan_prefix(event_prefix(subject));
        let read = entries.map(|entry| {
            let (key, value) = entry.map_err(|source| self.failed(source))?;
            event(&key, &value).map_err(|error| unreadable(&self.path, &key, error))
        });
        read.collect()
    }

    fn rows(&self) -> Result<Rows, Error> {
        let entries = self.db.range(EVENTS..AFTER_EVENTS);
        let read = entries.map(|entry| {
            let (key, value) = entry.map_err(|source| self.failed(source))?;
            Ok((key.to_vec(), value.to_vec()))
        });
        read.collect()
    }
}

impl SledHistory {
    fn failed(&self, source: sled::Error) -> Error {
        Failure {
            doing: "reading",
            source,
        }
        .at(&self.path)
    }
}

impl Store for SledStore {
    fn history(&self) -> Box<dyn History> {
        Box::new(SledHistory {
            path: self.path.clone(),
            db: self.db.clone(),
        })
    }

    fn load(&mut self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for rows_range in [FIRST_ROW..EVENTS, AFTER_EVENTS..LAST_ROW] {
            for entry in self.db.range(rows_range) {
                let (key, value) = entry.map_err(|error| self.failed("reading", error))?;
                let row = Row::decode(&key, &value).map_err(|error| unreadable(&self.path, &key, error))?;
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn commit(&mut self, changes: &[Encoded]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let commits = self.commits + 1;
        let mut batch = sled::Batch::default();
        for Encoded { key, value, .. } in changes {
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        batch.insert(COMMITS_KEY, &commits.to_be_bytes());
        // All or nothing: sled puts a batch into its log as one.
        self.db
            .apply_batch(batch)
            .map_err(|error| self.failed("writing", error))?;
        self.flush()?;
        self.commits = commits;
        let counted = self.counter.write_all_at(&commits.to_be_bytes(), 0);
        counted.map_err(|error| self.failed("counting commits", sled::Error::Io(error)))
    }
}

/// A failure of the database, not yet knowing where it lies.
struct Failure {
    doing: &'static str,
    source: sled::Error,
}

impl Failure {
    fn at(self, path: &Path) -> Error {
        match self.source {
            sled::Error::Corruption { at, .. } => {
                let place = at.map_or_else(String::new, |at| format!(" at {at:?}"));
                damaged(path, format!("the database is corrupt{place}"))
            }
            source if is_locked(&source) => Error::Locked {
                path: path.to_owned(),
            },
            source if ["opening", "reading"].contains(&self.doing) && is_nonsense(&source) => {
                damaged(path, format!("the database cannot be read: {source}"))
            }
            source => Error::Database {
                path: path.to_owned(),
                doing: self.doing,
                source: Box::new(source),
            },
        }
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

impl Lock {
    /// Locks a directory, which is made if it is not there.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                _file: Arc::new(file),
            }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// The files of a store: moved together, it is moved.
pub(crate) const FILES: [&str; 3] = ["db", "format", "commits"];

/// Waits until sled's own threads have let go of a database that was closed a moment ago: what they still write must not get
/// into another of the same name. Gives up after a while, as with a database that cannot be opened.
#[allow(
    clippy::disallowed_methods,
    reason = "sled tells nobody when it has closed; this thread is the store's own"
)]
pub(crate) fn wait_until_closed(path: &Path) {
    let Ok(file) = File::open(path.join("db/db")) else {
        return;
    };
    for _ in 0..CLOSING_WAITS {
        if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return;
        }
        std::thread::sleep(CLOSING_WAIT);
    }
}

fn read_format(path: &Path) -> Result<Option<u32>, Error> {
    let text = match std::fs::read_to_string(path.join("format")) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::Open {
                path: path.to_owned(),
                source,
            });
        }
    };
    let format = text
        .trim()
        .parse()
        .map_err(|_| damaged(path, "the file `format` holds no number"))?;
    known_format(path, format)?;
    Ok(Some(format))
}

fn write_format(path: &Path) -> io::Result<()> {
    std::fs::write(path.join("format.new"), format!("{FORMAT}\n"))?;
    File::open(path.join("format.new"))?.sync_all()?;
    std::fs::rename(path.join("format.new"), path.join("format"))?;
    File::open(path)?.sync_all()
}

fn known_format(path: &Path, found: u32) -> Result<(), Error> {
    if found > FORMAT {
        return Err(Error::Newer {
            path: path.to_owned(),
            found,
            known: FORMAT,
        });
    }
    if found < FORMAT {
        return Err(Error::Older {
            path: path.to_owned(),
            found,
            known: FORMAT,
        });
    }
    Ok(())
}

fn damaged(path: &Path, what: impl Into<String>) -> Error {
    Error::Damaged {
        path: path.to_owned(),
        what: what.into(),
    }
}
