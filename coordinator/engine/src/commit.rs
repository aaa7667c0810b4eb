//! What changed is kept before anything is said of it.

use std::collections::HashSet;

use nettailor_scheduler::sabotage::{self, Sabotage};

use crate::row::Change;
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

/// Writes batches to a store, in the order in which they were made.
pub struct Committer {
    store: Box<dyn Store>,
}

impl Committer {
    /// One that writes to this store.
    pub fn new(store: Box<dyn Store>) -> Self {
        Self { store }
    }

    /// Commits batches as one, and hands out what waited for them, in order. Of several changes to a row the last is written.
    ///
    /// # Errors
    /// The store failed. What was made of the batches must not be said, and neither must anything later: the state is ahead of
    /// what is kept.
    pub fn commit<T>(&mut self, batches: Vec<Batch<T>>) -> Result<Vec<T>, Error> {
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
        if !changes.is_empty() {
            let kept = self.store.commit(&changes);
            if !sabotage::is(Sabotage::Answered) {
                kept?;
            }
        }
        Ok(after)
    }
}
