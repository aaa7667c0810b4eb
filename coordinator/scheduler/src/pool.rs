//! Workers that are alike, and their slots.

use std::collections::{BTreeMap, BTreeSet};

use nettailor_domain::ids::WorkerId;
use nettailor_domain::labels::Labels;

/// What makes workers alike: device, then labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Make {
    pub(crate) device: String,
    pub(crate) labels: Labels,
}

/// The workers of one make that take work.
#[derive(Debug, Default)]
struct Pool {
    total: u32,
    free: u32,
    /// Those with free slots, by how many.
    by_free: BTreeSet<(u32, WorkerId)>,
}

/// As what a worker counts in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) total: u32,
    pub(crate) free: u32,
}

/// Which slots are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slots {
    /// Those that can be given out now.
    Free,
    /// Those that could be if nothing ran.
    All,
}

/// Workers that take work, by make: there are few makes, however many workers.
#[derive(Debug, Default)]
pub(crate) struct Pools(BTreeMap<Make, Pool>);

impl Pools {
    /// A worker counts as something else now.
    pub(crate) fn count(
        &mut self,
        name: &WorkerId,
        make: &Make,
        before: Option<Counted>,
        after: Option<Counted>,
    ) {
        let pool = self.0.entry(make.clone()).or_default();
        if let Some(before) = before {
            pool.total -= before.total;
            pool.free -= before.free;
            pool.by_free.remove(&(before.free, name.clone()));
        }
        if let Some(after) = after {
            pool.total += after.total;
            pool.free += after.free;
            if after.free > 0 {
                pool.by_free.insert((after.free, name.clone()));
            }
        }
        if pool.total == 0 {
            self.0.remove(make);
        }
    }

    /// The most slots that one attempt can have: on workers of one device that have these labels and not all of `kept`, if
    /// that is given.
    pub(crate) fn most(&self, slots: Slots, labels: &Labels, kept: Option<&Labels>) -> u32 {
        self.per_device(slots, labels, kept)
            .into_values()
            .max()
            .unwrap_or(0)
    }

    /// Free slots of workers of a device that have these labels.
    pub(crate) fn free_on(&self, device: &str, labels: &Labels) -> u32 {
        let sums = self.per_device(Slots::Free, labels, None);
        sums.get(device).copied().unwrap_or(0)
    }

    /// The same on all devices together.
    pub(crate) fn sum(&self, slots: Slots, labels: &Labels) -> u32 {
        self.per_device(slots, labels, None).into_values().sum()
    }

    fn per_device(&self, slots: Slots, labels: &Labels, kept: Option<&Labels>) -> BTreeMap<&str, u32> {
        let mut sums = BTreeMap::new();
        for (make, pool) in &self.0 {
            let closed = kept.is_some_and(|kept| kept.are_in(&make.labels));
            if labels.are_in(&make.labels) && !closed {
                *sums.entry(make.device.as_str()).or_default() += match slots {
                    Slots::Free => pool.free,
                    Slots::All => pool.total,
                };
            }
        }
        sums
    }

    /// Whether any slot is free.
    pub(crate) fn any_free(&self) -> bool {
        self.0.values().any(|pool| pool.free > 0)
    }

    /// Workers with these labels that have free slots, those with most of them first, make by make; at most `most` of a make.
    pub(crate) fn free(&self, labels: &Labels, most: usize) -> impl Iterator<Item = &WorkerId> {
        let fitting = self.0.iter().filter(|(make, _)| labels.are_in(&make.labels));
        fitting.flat_map(move |(_, pool)| pool.by_free.iter().rev().take(most).map(|(_, name)| name))
    }

    /// What every worker with a free slot counts as free.
    pub(crate) fn counted_free(&self) -> BTreeMap<&WorkerId, u32> {
        let all = self.0.values().flat_map(|pool| &pool.by_free);
        all.map(|(free, name)| (name, *free)).collect()
    }
}
