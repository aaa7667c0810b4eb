//! The line of stages that wait for slots.

use std::collections::{BTreeMap, BTreeSet};

use nettailor_domain::ids::StageKey;

use crate::stage::Place;

/// Ready stages by the slots without which they cannot start, then first come first served. There are at most as many
/// numbers of slots as [`nettailor_domain::task::Workers::LIMIT`], so that looking for the first that fits is cheap, however
/// many stages wait.
#[derive(Debug, Default)]
pub(crate) struct Line(BTreeMap<u32, BTreeSet<(Place, StageKey)>>);

impl Line {
    pub(crate) fn insert(&mut self, slots: u32, place: Place, key: StageKey) {
        self.0.entry(slots).or_default().insert((place, key));
    }

    pub(crate) fn remove(&mut self, slots: u32, place: Place, key: StageKey) {
        if let Some(stages) = self.0.get_mut(&slots) {
            stages.remove(&(place, key));
            if stages.is_empty() {
                self.0.remove(&slots);
            }
        }
    }

    pub(crate) fn contains(&self, slots: u32, place: Place, key: StageKey) -> bool {
        self.0
            .get(&slots)
            .is_some_and(|stages| stages.contains(&(place, key)))
    }

    /// The first in line among those that can start with so many slots.
    pub(crate) fn first_within(&self, slots: u32) -> Option<StageKey> {
        let firsts = self.0.range(..=slots).filter_map(|(_, stages)| stages.first());
        firsts.min().map(|(_, key)| *key)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }
}
