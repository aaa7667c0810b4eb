//! What is kept across restarts: scheduler records and imported backbones.
//!
//! [`Store`] is the seam; [`SledStore`] keeps rows on disk, [`MemoryStore`] as long as the process lives. Both pass the
//! suite in `tests/store.rs`. A store has one owner, the driver's thread, and every call blocks it.

mod memory;
mod row;
mod sled;

use std::path::PathBuf;

pub use self::memory::MemoryStore;
pub use self::row::Row;
pub use self::sled::SledStore;

/// Keeps rows.
pub trait Store: Send {
    /// Every row, in no particular order.
    fn load(&mut self) -> Result<Vec<Row>, Error>;

    /// Makes rows durable, all or none, each in place of an earlier one of the same key. Once this has returned, they
    /// survive a power failure. After an error nothing is known but that earlier commits are there: load again.
    fn commit(&mut self, rows: &[Row]) -> Result<(), Error>;
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
    #[error("state directory {} is damaged ({what}): put back a copy, or move it away to start empty", .path.display())]
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
        source: ::sled::Error,
    },
}
