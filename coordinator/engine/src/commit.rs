//! What changed is kept before anything is said of it.

use std::collections::HashSet;

use nettailor_scheduler::sabotage::{self, Sabotage};

use crate::parallel::map_each;
use crate::row::{Change, Encoded, Row};
use crate::store::{Error, Store};

/// What some requests have changed, and what is to happen once that is durable: `T` is an effect or an answer.
#[derive(Debug)]
pub struct Batch<T> {
    /// In order.
    pub changes: Vec<Change>,
    /// In order.
    pub after: Vec<T>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self {
            changes: Vec::new(),
            after: Vec::new(),
        }
    }
}

/// Batches that are kept as one.
#[derive(Debug)]
pub struct Merged<T> {
    /// What changes: of several changes to a row the last.
    pub changes: Vec<Encoded>,
    /// What waits for that, in order.
    pub after: Vec<T>,
    /// The number of this commit, if it goes into the journal.
    pub number: Option<u64>,
}

/// Writes batches to a store, in the order in which they were made.
pub struct Committer {
    store: Box<dyn Store>,
    /// Number of the latest commit that went into the journal.
    journalled: u64,
}

impl Committer {
    /// One that writes to this new store.
    pub fn new(store: Box<dyn Store>) -> Self {
        Self::after(store, 0)
    }

    /// One that writes to this store and numbers what goes into the journal from there on.
    pub fn after(store: Box<dyn Store>, journalled: u64) -> Self {
        Self { store, journalled }
    }

    /// Commits batches as one, and hands out what waited for them, in order.
    ///
    /// # Errors
    /// Those of [`Self::keep`].
    pub fn commit<T>(&mut self, batches: Vec<Batch<T>>) -> Result<Vec<T>, Error> {
        let merged = self.merge(batches);
        self.keep(&merged.changes)?;
        Ok(merged.after)
    }

    /// Makes one of batches: the next to keep. If it goes into the journal it gets a number, which is kept with it.
    pub fn merge<T>(&mut self, batches: Vec<Batch<T>>) -> Merged<T> {
        let mut changes = Vec::new();
        let mut after = Vec::new();
        for batch in batches {
            changes.extend(batch.changes);
            after.extend(batch.after);
        }
        let mut written = HashSet::with_capacity(changes.len());
        changes.reverse();
        changes.retain(|change| written.insert(change.key()));
        changes.reverse();
        let number = changes.iter().any(Change::is_journalled).then(|| {
            self.journalled += 1;
            changes.push(Change::Put(Row::Journalled(self.journalled)));
            self.journalled
        });
        Merged {
            changes: map_each(changes, Encoded::from),
            after,
            number,
        }
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// The store failed. What was made of the batches must not be said, and neither must anything later: the state is ahead of
    /// what is kept.
    pub fn keep(&mut self, changes: &[Encoded]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let kept = self.store.commit(changes);
        if sabotage::is(Sabotage::Answered) {
            return Ok(());
        }
        kept
    }
}
