//! What keeps rows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nettailor_scheduler::record::{EventRecord, Record, Subject};

use crate::row::{Encoded, Row, Unreadable, event_prefix, is_event};

/// Keeps rows. A store has one owner, and every call blocks it.
pub trait Store: Send {
    /// Every row but those of what happened, in no particular order.
    fn load(&mut self) -> Result<Vec<Row>, Error>;

    /// A second way to what is kept, for reading beside the commits.
    fn history(&self) -> Box<dyn History>;

    /// Makes changes durable, all or none, in order. Once this has returned, they survive a power failure. After an error
    /// nothing is known but that earlier commits are there: load again.
    fn commit(&mut self, changes: &[Encoded]) -> Result<(), Error>;
}

/// Takes a row, key and value, and says whether to go on.
pub type Show<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// What happened, as it is kept.
pub trait History: Send + Sync {
    /// What happened to a subject, the oldest first.
    fn of(&self, subject: &Subject) -> Result<Vec<EventRecord>, Error>;

    /// Shows the rows of everything that happened, in the order of their keys, until it is told to stop. From a disk, few of them
    /// are in memory at a time.
    fn each(&self, show: &mut Show<'_>) -> Result<(), Error>;
}

/// Why a store does not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("state directory {} is in use by another coordinator: stop that one, or give this one a directory of its own", .path.display())]
    Locked {
        /// Which directory.
        path: PathBuf,
    },
    /// It was written by a later version.
    #[error("state directory {} has format {found}, this version reads up to {known}: use the version that wrote it", .path.display())]
    Newer {
        /// Which directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The latest one known here.
        known: u32,
    },
    /// It was written by an earlier version, and there is no way to convert it.
    #[error("state directory {} has format {found}, this version reads format {known} and converts none: finish its jobs with the version that wrote it, or move it away to start empty (its models' manifests stay in the artifact store)", .path.display())]
    Older {
        /// Which directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The one that is read here.
        known: u32,
    },
    /// It is not what was written.
    #[error("state directory {} is damaged ({what}): put back a copy, or have it made again from the journal in the artifact store with `nettailor-coordinator rebuild`", .path.display())]
    Damaged {
        /// Which directory.
        path: PathBuf,
        /// Where.
        what: String,
    },
    /// The directory cannot be used.
    #[error("state directory {} cannot be opened", .path.display())]
    Open {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database failed. What was being kept may be lost; what was kept before is not.
    #[error("state directory {}: {doing} failed", .path.display())]
    Database {
        /// Which directory.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Rows as they are kept, by their keys.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keeps rows, encoded as on disk, as long as one of its clones lives: a clone opens the same store again.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    rows: Arc<Mutex<Rows>>,
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Vec<Row>, Error> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let decoded = rows
            .iter()
            .filter(|(key, _)| !is_event(key))
            .map(|(key, value)| Row::decode(key, value));
        decoded.collect::<Result<_, _>>().map_err(damaged)
    }

    fn history(&self) -> Box<dyn History> {
        Box::new(self.clone())
    }

    fn commit(&mut self, changes: &[Encoded]) -> Result<(), Error> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for Encoded { key, value, .. } in changes {
            match value {
                Some(value) => rows.insert(key.to_vec(), value.to_vec()),
                None => rows.remove(&**key),
            };
        }
        Ok(())
    }
}

impl History for MemoryStore {
    fn of(&self, subject: &Subject) -> Result<Vec<EventRecord>, Error> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = event_prefix(subject);
        let events = rows.range(prefix.clone()..);
        let events = events.take_while(|(key, _)| key.starts_with(&prefix));
        let events = events.map(|(key, value)| event(key, value).map_err(damaged));
        events.collect()
    }

    fn each(&self, show: &mut Show<'_>) -> Result<(), Error> {
        // A copy: commits do not wait for whoever is shown them.
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut events = rows.iter().filter(|(key, _)| is_event(key));
        let _ = events.try_for_each(|(key, value)| show(key, value));
        Ok(())
    }
}

/// Something that happened, as it was kept.
///
/// # Errors
/// It was damaged.
pub fn event(key: &[u8], value: &[u8]) -> Result<EventRecord, Unreadable> {
    match Row::decode(key, value)? {
        Row::Record(Record::Event(event)) => Ok(event),
        _ => Err(Unreadable::Damaged("it is no event".into())),
    }
}

fn damaged(error: Unreadable) -> Error {
    Error::Damaged {
        path: PathBuf::from("(in memory)"),
        what: format!("{error:?}"),
    }
}
