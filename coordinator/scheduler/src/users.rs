//! Who asks for a stage.

use std::collections::{BTreeMap, BTreeSet};

use nettailor_domain::task::Workers;

use crate::line::Turn;

/// The live jobs that plan a stage, by their turns, and how many workers each of them asks for.
#[derive(Debug, Default)]
pub(crate) struct Users {
    turns: BTreeSet<Turn>,
    /// How many of them ask for so many workers: few differ, however many jobs there are.
    widths: BTreeMap<Workers, usize>,
}

impl Users {
    pub(crate) fn insert(&mut self, turn: Turn, workers: Workers) {
        if self.turns.insert(turn) {
            *self.widths.entry(workers).or_default() += 1;
        }
    }

    /// Removes a job that was inserted with so many workers.
    pub(crate) fn remove(&mut self, turn: Turn, workers: Workers) {
        if self.turns.remove(&turn)
            && let Some(count) = self.widths.get_mut(&workers)
        {
            *count -= 1;
            if *count == 0 {
                self.widths.remove(&workers);
            }
        }
    }

    /// The first in line.
    pub(crate) fn first(&self) -> Option<Turn> {
        self.turns.first().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// From the first in line to the last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Turn> + '_ {
        self.turns.iter().copied()
    }

    /// From the fewest to the most workers that one of them asks for.
    pub(crate) fn workers(&self) -> Workers {
        self.widths
            .keys()
            .copied()
            .reduce(Workers::or)
            .unwrap_or_default()
    }
}
