//! A store that fails on purpose, and knows what it keeps.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nettailor_engine::{Change, Encoded, Error, History, MemoryStore, Row, RowKey, Store};

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing of it is there.
    Before,
    /// It was written and not flushed: it survives the process, not the machine.
    Between,
    /// All of it is there.
    After,
}

/// The twin of [`MemoryStore`]. A clone opens the same store again.
#[derive(Clone, Default)]
pub(crate) struct Twin(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    durable: MemoryStore,
    /// The same, as rows.
    rows: HashMap<RowKey, Row>,
    /// What was written and not flushed: at most one commit, as the one that fails is the last of its process.
    unflushed: Vec<Encoded>,
    fault: Option<Fault>,
}

impl Twin {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next commit fails like this, or works.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.inner().fault = fault;
    }

    /// Whether the next commit will fail.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.inner().fault
    }

    /// The process that used it is gone, or the machine. Says whether rows are gone with it.
    pub(crate) fn crash(&self, power: bool) -> bool {
        let mut inner = self.inner();
        let unflushed = std::mem::take(&mut inner.unflushed);
        let taken_back = power && !unflushed.is_empty();
        if !power {
            inner.keep(&unflushed);
        }
        taken_back
    }

    /// A durable row.
    pub(crate) fn row(&self, key: &RowKey) -> Option<Row> {
        self.inner().rows.get(key).cloned()
    }

    /// Looks at every durable row.
    pub(crate) fn any(&self, holds: impl FnMut(&Row) -> bool) -> bool {
        self.inner().rows.values().any(holds)
    }
}

impl Inner {
    fn keep(&mut self, changes: &[Encoded]) {
        let kept = self.durable.commit(changes);
        kept.expect("memory takes every row");
        for Encoded { change, .. } in changes {
            match change {
                Change::Put(row) => self.rows.insert(row.key(), row.clone()),
                Change::Remove(key) => self.rows.remove(key),
            };
        }
    }
}

impl Store for Twin {
    fn load(&mut self) -> Result<Vec<Row>, Error> {
        self.inner().durable.load()
    }

    fn history(&self) -> Box<dyn History> {
        self.inner().durable.history()
    }

    fn commit(&mut self, changes: &[Encoded]) -> Result<(), Error> {
        let mut inner = self.inner();
        let fault = inner.fault.take();
        match fault {
            Some(Fault::Before) => {}
            Some(Fault::Between) => inner.unflushed = changes.to_vec(),
            Some(Fault::After) | None => inner.keep(changes),
        }
        match fault {
            None => Ok(()),
            Some(fault) => Err(Error::Database {
                path: PathBuf::from("(simulated)"),
                doing: "a commit",
                source: format!("it fails on purpose: {fault:?}").into(),
            }),
        }
    }
}
