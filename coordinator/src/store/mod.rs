//! What is kept across restarts, on disk.
//!
//! [`Store`] is the seam; [`SledStore`] keeps rows on disk, [`MemoryStore`] as long as the process lives. Both pass the
//! suite in `tests/store.rs`.
//!
//! ```text
//! <state>/lock     held while a coordinator runs
//! <state>/format   version of the directory; written once the database is made, so that one which lost its content is
//!                  told from a new one
//! <state>/commits  number of commits, written after each
//! <state>/wal/     the write-ahead log: commits that are not in the database yet
//! <state>/db       sled: rows by their keys, the format, and the number of the last commit that is in it
//! ```
//!
//! A commit is durable once it is at the end of the log ([`wal`]). In memory its rows stand in a [`memtable`]; when that is
//! large, a thread writes it into the database ([`tree`]), each row once however often it has changed, and removes the
//! log's part of it. Whoever reads lays the memtable over the database.

mod directory;
mod memtable;
mod sled;
mod tally;
#[cfg(test)]
mod tests;
mod tree;
mod wal;

pub use nettailor_engine::{Change, Encoded, Error, History, MemoryStore, Row, RowKey, Store};

pub(crate) use self::directory::{FILES, Lock, files, sync, wait_until_closed};
pub use self::sled::SledStore;
