//! Who asks for a stage.

use std::collections::{BTreeMap, BTreeSet};

use nettailor_domain::task::Workers;

use crate::stage::Place;

/// The live jobs that plan a stage, by their places in line, and how many workers each of them asks for.
#[derive(Debug, Default)]
pub(crate) struct Users {
    places: BTreeSet<Place>,
    /// How many of them ask for so many workers: few differ, however many jobs there are.
    widths: BTreeMap<Workers, usize>,
}

impl Users {
    pub(crate) fn insert(&mut self, place: Place, workers: Workers) {
        if self.places.insert(place) {
            *self.widths.entry(workers).or_default() += 1;
        }
    }

    /// Removes a job that was inserted with so many workers.
    pub(crate) fn remove(&mut self, place: Place, workers: Workers) {
        if self.places.remove(&place)
            && let Some(count) = self.widths.get_mut(&workers)
        {
            *count -= 1;
            if *count == 0 {
                self.widths.remove(&workers);
            }
        }
    }

    /// The first in line.
    pub(crate) fn first(&self) -> Option<Place> {
        self.places.first().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// From the first in line to the last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        self.places.iter().copied()
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
