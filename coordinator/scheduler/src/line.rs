//! The line of stages that wait for slots.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use nettailor_domain::explain::Position;
use nettailor_domain::ids::{StageKey, UserName};
use nettailor_domain::labels::Labels;

use crate::stage::Place;

/// A turn among the stages of one user: by priority, then first come first served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Turn {
    pub(crate) priority: Reverse<i8>,
    pub(crate) place: Place,
}

/// What a stage needs to start: there are few that differ, so that looking for the first that fits is cheap, however many
/// stages wait.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need {
    /// On workers with these labels.
    pub(crate) labels: Labels,
    /// So many slots at least.
    pub(crate) least: u32,
}

/// A stage's place in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Who pays.
    pub(crate) user: UserName,
    pub(crate) turn: Turn,
    pub(crate) need: Need,
}

/// How much of the cluster a user has: those who have less go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share {
    /// Whether the user has what is guaranteed.
    pub(crate) guaranteed: bool,
    /// Slots in use, in thousandths of the weight.
    pub(crate) in_use: u64,
    /// What was used lately, likewise.
    pub(crate) used: u64,
    /// The place of the user's first: between equals it is first come first served, whatever the priorities are.
    pub(crate) first: Place,
}

#[derive(Debug, Default)]
struct Queue {
    stages: BTreeMap<Need, BTreeSet<(Turn, StageKey)>>,
    /// By which the user is in order.
    share: Option<Share>,
}

/// Ready stages by user, then by what they need, then by turn; and the users by their shares.
#[derive(Debug, Default)]
pub(crate) struct Line {
    queues: BTreeMap<UserName, Queue>,
    order: BTreeSet<(Share, UserName)>,
}

impl Line {
    pub(crate) fn insert(&mut self, ticket: &Ticket, key: StageKey) {
        let queue = self.queues.entry(ticket.user.clone()).or_default();
        let stages = queue.stages.entry(ticket.need.clone()).or_default();
        stages.insert((ticket.turn, key));
    }

    pub(crate) fn remove(&mut self, ticket: &Ticket, key: StageKey) {
        let Some(queue) = self.queues.get_mut(&ticket.user) else {
            return;
        };
        if let Some(stages) = queue.stages.get_mut(&ticket.need) {
            stages.remove(&(ticket.turn, key));
            if stages.is_empty() {
                queue.stages.remove(&ticket.need);
            }
        }
    }

    pub(crate) fn contains(&self, ticket: &Ticket, key: StageKey) -> bool {
        let stages = self.queues.get(&ticket.user).map(|queue| &queue.stages);
        let stages = stages.and_then(|stages| stages.get(&ticket.need));
        stages.is_some_and(|stages| stages.contains(&(ticket.turn, key)))
    }

    /// The turn of a user's first stage.
    pub(crate) fn first_turn(&self, user: &UserName) -> Option<Turn> {
        let firsts = self.queues.get(user)?.stages.values();
        firsts.filter_map(|stages| Some(stages.first()?.0)).min()
    }

    /// Puts a user in order by this share; out of it without one, as one of whom nothing waits.
    pub(crate) fn rank(&mut self, user: &UserName, share: Option<Share>) {
        let Some(queue) = self.queues.get_mut(user) else {
            return;
        };
        if queue.share == share {
            return;
        }
        if let Some(before) = queue.share.take() {
            self.order.remove(&(before, user.clone()));
        }
        queue.share = share;
        match share {
            Some(share) => drop(self.order.insert((share, user.clone()))),
            None => drop(self.queues.remove(user)),
        }
    }

    /// Who waits, those first who have the least.
    pub(crate) fn users(&self) -> impl Iterator<Item = &UserName> {
        self.order.iter().map(|(_, user)| user)
    }

    /// The first stage of a user for each need, by turn.
    pub(crate) fn firsts(&self, user: &UserName) -> Vec<(&Need, StageKey)> {
        let Some(queue) = self.queues.get(user) else {
            return Vec::new();
        };
        let firsts = queue.stages.iter().filter_map(|(need, stages)| {
            let (turn, key) = stages.first()?;
            Some((*turn, need, *key))
        });
        let mut firsts: Vec<_> = firsts.collect();
        firsts.sort_by_key(|(turn, ..)| *turn);
        firsts.into_iter().map(|(_, need, key)| (need, key)).collect()
    }

    /// How many stages of a user wait.
    pub(crate) fn waiting(&self, user: &UserName) -> usize {
        let stages = self.queues.get(user).into_iter();
        stages
            .flat_map(|queue| queue.stages.values())
            .map(BTreeSet::len)
            .sum()
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many stages wait.
    pub(crate) fn len(&self) -> usize {
        self.queues.keys().map(|user| self.waiting(user)).sum()
    }

    /// Where a ticket stands.
    pub(crate) fn position(&self, ticket: &Ticket) -> Position {
        let queue = self.queues.get(&ticket.user).into_iter();
        let before = queue
            .flat_map(|queue| queue.stages.values())
            .map(|stages| stages.iter().take_while(|(turn, _)| *turn < ticket.turn).count());
        let user = self.users().position(|user| *user == ticket.user);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Position {
            own: number(before.sum::<usize>() + 1),
            own_of: number(self.waiting(&ticket.user)),
            user: number(user.map_or(0, |place| place + 1)),
            users: number(self.order.len()),
            name: ticket.user.clone(),
        }
    }
}
