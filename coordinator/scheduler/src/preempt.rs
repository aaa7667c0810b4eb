//! Running stages make room, within bounds.
//!
//! There are two causes, and both wait for [`Config::preempt_patience`](crate::Config::preempt_patience) first. *Reclaim*: a
//! user who has less than is guaranteed waits, and another has more than that. *Urgent*: of one user's stages one of higher
//! priority waits, and one of lower runs. Who makes room ends after its next checkpoint and goes on from it later, which is
//! neither a fault nor a loss.
//!
//! It cannot go back and forth. A reclaim takes from users above their guarantees only as far as these, and gives to one below:
//! the sum of what users have of their guarantees rises with each. An urgent one leaves that sum as it is, and raises the
//! priorities that run. Both sums are bounded, so between two events from outside there are finitely many; and what was asked to
//! make room is not asked again for [`Config::immunity`](crate::Config::immunity). Slots that are freed are kept for whom they are freed.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use nettailor_domain::ids::{StageKey, UserName};
use nettailor_domain::labels::Labels;

use crate::line::{Need, Ticket};
use crate::pool::Slots;
use crate::scheduler::Scheduler;
use crate::stage::{Cause, Running, Stage};
use crate::timers::Timer;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most stages in line that are looked at each time.
const LOOKED_AT: usize = 16;

impl Scheduler {
    /// Looks whether somebody who waits is entitled to slots that others have: now and then, as long as anybody could be. That costs
    /// what the cluster is large.
    pub(crate) fn preempt(&mut self) {
        let now = self.now.elapsed;
        if self.preempts_at > now || self.line.is_empty() {
            return;
        }
        let guaranteed = || self.accounts.values().any(|account| account.record.guarantee > 0);
        if self.priorities.len() < 2 && !guaranteed() {
            return;
        }
        self.preempts_at = now.saturating_add(LOOK_EVERY);
        self.timers.arm(self.preempts_at, Timer::Preempt);
        let Some((key, victims)) = self.entitled() else {
            return;
        };
        // What becomes free is for this one, and not for those that made room.
        let until = now.saturating_add(self.config.yield_within);
        self.room = Some((key, until));
        self.timers.arm(until, Timer::Preempt);
        let by = self.description(key);
        for victim in victims {
            self.ask_to_yield(victim, Cause::Preempted { by: by.clone() });
        }
    }

    /// The first in line that is entitled to slots which others have and has waited for long enough, and who is to make room.
    fn entitled(&self) -> Option<(StageKey, Vec<StageKey>)> {
        // The lowest priority that runs for each user.
        let mut lowest: BTreeMap<&UserName, Reverse<i8>> = BTreeMap::new();
        for seat in self.workers.values().flat_map(|worker| worker.held.keys()) {
            let stage = self.stages.get(&seat.attempt.stage);
            if let Some(stage) = stage
                && let (Some(running), Some(turn)) = (stage.running(), stage.users.first())
            {
                let priority = lowest.entry(&running.payer).or_insert(turn.priority);
                *priority = (*priority).max(turn.priority);
            }
        }
        let users = self.line.users();
        let firsts = users.flat_map(|user| self.line.firsts(user));
        let mut entitled = firsts.filter(|(need, key)| {
            let stage = &self.stages[key];
            let (Some(ticket), Some(since)) = (stage.ticket(), stage.waits_since()) else {
                return false;
            };
            let account = self.accounts.get(&ticket.user);
            let lacks =
                account.is_some_and(|account| account.in_use + need.least <= account.record.guarantee);
            let urgent = lowest
                .get(&ticket.user)
                .is_some_and(|lowest| ticket.turn.priority < *lowest);
            (lacks || urgent)
                && since.saturating_add(self.config.preempt_patience) <= self.now.elapsed
                && self.may_have(*key, need.least)
                && self.could_run(need)
                && self.pools.most(Slots::Free, &need.labels, None) < need.least
        });
        let looked_at = entitled.by_ref().take(LOOKED_AT);
        let mut found = looked_at.map(|(_, key)| (key, self.victims(key)));
        found.find(|(_, victims)| !victims.is_empty())
    }

    /// The running stages that make room for one in line, on the first device where they can: the fewest that are enough, those
    /// first that lose the least work. None where they would not be enough, or where enough is being freed already.
    fn victims(&self, key: StageKey) -> Vec<StageKey> {
        let Some(ticket) = self.stages[&key].ticket() else {
            return Vec::new();
        };
        let mut found = self.slots_of(&ticket.need.labels).into_iter();
        let found = found.find_map(|(device, slots)| self.victims_on(device, &slots, ticket));
        found.unwrap_or_default()
    }

    /// Those on workers of one device, whose stages hold these slots.
    fn victims_on(
        &self,
        device: &str,
        held: &BTreeMap<StageKey, u32>,
        ticket: &Ticket,
    ) -> Option<Vec<StageKey>> {
        let Need { labels, least } = &ticket.need;
        let mut missing = least.saturating_sub(self.pools.free_on(device, labels));
        let mut candidates: Vec<(Duration, StageKey, u32, UserName)> = Vec::new();
        let mut given: BTreeMap<UserName, u32> = BTreeMap::new();
        for (victim, slots) in held {
            let stage = &self.stages[victim];
            let Some(running) = stage.running() else {
                continue;
            };
            if running.yielding.is_some() || running.ending.is_some() {
                // It makes room already, whoever it is for.
                missing = missing.saturating_sub(*slots);
            } else if self.may_be_preempted(stage, running, ticket) {
                let since = running.last_checkpoint.unwrap_or(running.started);
                let lost = self.now.elapsed.saturating_sub(since);
                candidates.push((lost, *victim, *slots, running.payer.clone()));
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
        (missing == 0).then_some(victims)
    }

    /// The stages that hold slots of workers with these labels, and how many, by device.
    fn slots_of(&self, labels: &Labels) -> BTreeMap<&str, BTreeMap<StageKey, u32>> {
        let workers = self.workers.values();
        let workers = workers.filter(|worker| worker.takes_work() && labels.are_in(&worker.make.labels));
        let mut slots: BTreeMap<&str, BTreeMap<StageKey, u32>> = BTreeMap::new();
        for worker in workers {
            let device = slots.entry(worker.make.device.as_str()).or_default();
            for seat in worker.held.keys() {
                if self.stages.contains_key(&seat.attempt.stage) {
                    *device.entry(seat.attempt.stage).or_default() += 1;
                }
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
