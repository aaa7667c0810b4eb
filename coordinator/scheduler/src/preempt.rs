//! Running stages make room, within bounds.
//!
//! There are two causes, and both wait for [`Config::preempt_patience`](crate::Config::preempt_patience) first. *Reclaim*: a
//! user who has less than is guaranteed waits, and another has more than that. *Urgent*: of one user's stages one of higher
//! priority waits, and one of lower runs. Who makes room ends after its next checkpoint and goes on from it later, which is
//! neither a fault nor a loss.
//!
//! It cannot go back and forth. A reclaim takes from users above their guarantees only as far as these, and gives to one below:
//! the sum of what users have of their guarantees rises with each. An urgent one leaves that sum as it is, and raises the
//! priorities that run. Both sums are bounded, so between two events from outside there are finitely many; and what was
//! preempted is left alone for [`Config::immunity`](crate::Config::immunity) once it runs again.

use std::collections::BTreeMap;
use std::time::Duration;

use nettailor_domain::ids::{StageKey, UserName};

use crate::line::{Need, Ticket};
use crate::pool::Slots;
use crate::scheduler::Scheduler;
use crate::stage::{Cause, Running, Stage};
use crate::timers::Timer;

impl Scheduler {
    /// Looks whether somebody who waits is entitled to slots that others have. Called when that may have become so.
    pub(crate) fn preempt(&mut self) {
        let Some((key, since)) = self.entitled() else {
            return;
        };
        let at = since.saturating_add(self.config.preempt_patience);
        if at > self.now.elapsed {
            return self.timers.arm(at, Timer::Preempt);
        }
        let by = self.description(key);
        for victim in self.victims(key) {
            self.ask_to_yield(victim, Cause::Preempted { by: by.clone() });
        }
    }

    /// The first in line that is entitled to slots which others have, and since when it waits. What is being freed already is
    /// waited for.
    fn entitled(&self) -> Option<(StageKey, Duration)> {
        let users = self.line.users();
        let mut firsts = users.flat_map(|user| self.line.firsts(user));
        firsts.find_map(|(need, key)| {
            let waits = self.may_have(key, need.least)
                && self.could_run(need)
                && self.pools.most(Slots::Free, &need.labels, None) < need.least;
            if !waits || self.victims(key).is_empty() {
                return None;
            }
            Some((key, self.stages[&key].waits_since()?))
        })
    }

    /// The running stages that make room for one in line: the fewest that are enough, those first that lose the least work;
    /// none where they would not be enough, or where enough is being freed already.
    fn victims(&self, key: StageKey) -> Vec<StageKey> {
        let Some(ticket) = self.stages[&key].ticket() else {
            return Vec::new();
        };
        let Need { labels, least } = &ticket.need;
        let mut missing = least.saturating_sub(self.pools.most(Slots::Free, labels, None));
        let mut candidates: Vec<(Duration, StageKey, u32, UserName)> = Vec::new();
        let mut given: BTreeMap<UserName, u32> = BTreeMap::new();
        for (victim, slots) in self.slots_of(labels) {
            let stage = &self.stages[&victim];
            let Some(running) = stage.running() else {
                continue;
            };
            if running.yielding.is_some() || running.ending.is_some() {
                // It makes room already, whoever it is for.
                missing = missing.saturating_sub(slots);
            } else if self.may_be_preempted(stage, running, ticket) {
                let since = running.last_checkpoint.unwrap_or(running.started);
                let lost = self.now.elapsed.saturating_sub(since);
                candidates.push((lost, victim, slots, running.payer.clone()));
            }
        }
        candidates.sort();
        let mut victims = Vec::new();
        for (_, victim, slots, payer) in candidates {
            if missing == 0 {
                break;
            }
            let account = self.accounts.get(&payer);
            let left = account.map_or(0, |account| {
                let above = account.in_use.saturating_sub(account.record.guarantee);
                above.saturating_sub(given.get(&payer).copied().unwrap_or(0))
            });
            // Nobody is taken below what is guaranteed for another's sake.
            if payer != ticket.user && slots > left {
                continue;
            }
            *given.entry(payer).or_default() += slots;
            missing = missing.saturating_sub(slots);
            victims.push(victim);
        }
        if missing == 0 { victims } else { Vec::new() }
    }

    /// The stages that hold slots of workers with these labels, and how many.
    fn slots_of(&self, labels: &nettailor_domain::labels::Labels) -> BTreeMap<StageKey, u32> {
        let workers = self.workers.values();
        let workers = workers.filter(|worker| worker.takes_work() && labels.are_in(&worker.make.labels));
        let mut slots = BTreeMap::new();
        for seat in workers.flat_map(|worker| worker.held.keys()) {
            if self.stages.contains_key(&seat.attempt.stage) {
                *slots.entry(seat.attempt.stage).or_default() += 1;
            }
        }
        slots
    }

    /// Whether a running stage may be asked to make room for this ticket.
    fn may_be_preempted(&self, stage: &Stage, running: &Running, ticket: &Ticket) -> bool {
        let now = self.now.elapsed;
        let ran = now.saturating_sub(running.started);
        let immune = stage
            .preempted
            .is_some_and(|at| now < at.saturating_add(self.config.immunity));
        // What has left no checkpoint yet would lose all its work.
        if running.last_checkpoint.is_none() || immune || ran < self.config.preempt_patience {
            return false;
        }
        if running.payer == ticket.user {
            let priority = stage.users.first().map(|turn| turn.priority);
            return priority.is_some_and(|priority| ticket.turn.priority < priority);
        }
        let lacks = self.accounts.get(&ticket.user);
        lacks.is_some_and(|account| account.in_use + ticket.need.least <= account.record.guarantee)
    }
}
