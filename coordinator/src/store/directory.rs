//! The directory of a store: its lock, its format, and how its failures are told.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Error;

/// Version of the directory's layout, in `format` and in the database. 5: with a write-ahead log.
pub(super) const FORMAT: u32 = 5;
/// How long a database that is being closed is waited for: 5 seconds, far more than sled's threads were seen to need.
pub(super) const CLOSING_WAITS: u32 = 500;
pub(super) const CLOSING_WAIT: Duration = Duration::from_millis(10);

/// Who holds it, or one of its clones, has the state directory to himself.
#[derive(Debug, Clone)]
pub(crate) struct Lock {
    _file: Arc<File>,
}

impl Lock {
    /// Locks a directory, which is made if it is not there.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        let failed = |source| unusable(path, source);
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
pub(crate) const FILES: [&str; 4] = ["db", "wal", "format", "commits"];

/// Their names, for a message.
pub(crate) fn files() -> String {
    FILES.map(|name| format!("`{name}`")).join(", ")
}

/// Puts a file, or the names in a folder, on the disk.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

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

pub(super) fn read_format(path: &Path) -> Result<Option<u32>, Error> {
    let text = match std::fs::read_to_string(path.join("format")) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unusable(path, source)),
    };
    let format = text
        .trim()
        .parse()
        .map_err(|_| damaged(path, "the file `format` holds no number"))?;
    known_format(path, format)?;
    Ok(Some(format))
}

pub(super) fn write_format(path: &Path) -> io::Result<()> {
    std::fs::write(path.join("format.new"), format!("{FORMAT}\n"))?;
    sync(&path.join("format.new"))?;
    std::fs::rename(path.join("format.new"), path.join("format"))?;
    sync(path)
}

pub(super) fn known_format(path: &Path, found: u32) -> Result<(), Error> {
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

/// A file of the directory cannot be used.
pub(super) fn unusable(path: &Path, source: io::Error) -> Error {
    Error::Open {
        path: path.to_owned(),
        source,
    }
}

/// The directory is not as it was left.
pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Error {
    Error::Damaged {
        path: path.to_owned(),
        what: what.into(),
    }
}
