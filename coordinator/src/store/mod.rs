//! What is kept across restarts, on disk.
//!
//! [`Store`] is the seam; [`SledStore`] keeps rows on disk, [`MemoryStore`] as long as the process lives. Both pass the
//! suite in `tests/store.rs`.

mod sled;

pub use nettailor_engine::{Change, Encoded, Error, History, MemoryStore, Row, RowKey, Store};

pub use self::sled::SledStore;
pub(crate) use self::sled::{FILES, Lock, wait_until_closed};
