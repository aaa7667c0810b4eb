//! Rows in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::row::{Tree, Unreadable};
use super::{Error, Row, Store};

type Rows = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

/// Keeps rows, encoded as on disk, as long as one of its clones lives: a clone opens the same store again.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    rows: Arc<Mutex<Rows>>,
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Vec<Row>, Error> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let decode = |((tree, _), value): (&(Tree, _), &Vec<u8>)| Row::decode(*tree, value);
        rows.iter()
            .map(decode)
            .collect::<Result<_, Unreadable>>()
            .map_err(|error| Error::Damaged {
                path: PathBuf::from("(in memory)"),
                what: format!("{error:?}"),
            })
    }

    fn commit(&mut self, rows: &[Row]) -> Result<(), Error> {
        let encoded: Vec<_> = rows.iter().map(|row| (row.place(), row.encode())).collect();
        self.rows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(encoded);
        Ok(())
    }
}
