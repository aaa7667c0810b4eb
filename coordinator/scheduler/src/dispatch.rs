//! Stages meet slots.
//!
//! Ready stages stand in line, first come first served. An attempt takes the slots of all its ranks in one transition or
//! none: nobody holds some and waits for more. A stage that needs more slots than are free does not hold up later ones that
//! fit into them, but not for ever: the *front* is the first in line that the connected workers could take at all. Once
//! [`Config::gang_patience`](crate::Config::gang_patience) has passed since a later stage started before it for the first time, no
//! later one does any more: slots that become free are kept for the front, which starts when there are enough of them. Only
//! one stage has slots kept for it at a time, and only one for which there are enough: so everything in line gets its turn
//! once what runs has ended. Ranks of one attempt are on workers of one device: gangs of CPUs and GPUs cannot meet.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use nettailor_domain::ids::{StageKey, WorkerId};

use crate::effect::Effect;
use crate::scheduler::Scheduler;
use crate::stage::{Pending, Rank, Running, State, Wait};
use crate::worker::{Hold, Link};

/// A worker with slots to give.
struct Host<'a> {
    name: &'a WorkerId,
    device: &'a str,
    slots: u32,
    /// Bytes of the stage's inputs that it need not fetch.
    cached: u64,
}

/// Slots of the workers of each device.
fn by_device<'a>(workers: impl Iterator<Item = (&'a str, u32)>) -> BTreeMap<&'a str, u32> {
    let mut sums = BTreeMap::new();
    for (device, slots) in workers {
        *sums.entry(device).or_default() += slots;
    }
    sums
}

fn most(slots: &BTreeMap<&str, u32>) -> u32 {
    slots.values().copied().max().unwrap_or(0)
}

impl Scheduler {
    /// Gives free slots to ready stages until none fits or the rest is kept.
    pub(crate) fn dispatch(&mut self) {
        while let Some(key) = self.next_to_start() {
            let gang = self.place(key);
            self.start(key, gang);
        }
    }

    /// The first in line that fits into the free slots, unless they are kept for an earlier one.
    fn next_to_start(&mut self) -> Option<StageKey> {
        let next = self.line.first_within(self.free_slots())?;
        let front = self.front()?;
        if front != next {
            if self.is_impatient(front) {
                return None;
            }
            self.pass_over(front);
        }
        Some(next)
    }

    /// The first in line that the connected workers could take if nothing else ran.
    pub(crate) fn front(&self) -> Option<StageKey> {
        self.line.first_within(self.slots_together())
    }

    /// Slots that one attempt could have if nothing else ran.
    pub(crate) fn slots_together(&self) -> u32 {
        let ready = self.workers.values();
        let ready = ready.filter(|worker| matches!(worker.link, Link::Ready(_)));
        most(&by_device(
            ready.map(|worker| (worker.device.as_str(), worker.slots)),
        ))
    }

    /// Whether slots are kept for a stage if it is the front.
    pub(crate) fn is_impatient(&self, key: StageKey) -> bool {
        let passed_over = match &self.stages[&key].state {
            State::Pending(pending) => pending.passed_over,
            State::Running(_) | State::Done(_) | State::Failed(_) => None,
        };
        passed_over.is_some_and(|since| self.now.elapsed >= since.saturating_add(self.config.gang_patience))
    }

    /// A later stage starts before this one.
    fn pass_over(&mut self, key: StageKey) {
        let now: Duration = self.now.elapsed;
        if let State::Pending(pending) = &mut self.stage_mut(key).state {
            pending.passed_over.get_or_insert(now);
        }
    }

    /// Slots that can be given to one attempt now.
    pub(crate) fn free_slots(&self) -> u32 {
        let free = self.free.iter().map(|name| &self.workers[name]);
        most(&by_device(
            free.map(|worker| (worker.device.as_str(), worker.free())),
        ))
    }

    /// Workers for a ready stage's next attempt, one for each rank, as many as are free and asked for: rather not the one
    /// where it went wrong last, if the others are enough; on as few workers as can be, so that ranks are near each
    /// other; then those that hold most of its inputs, those with most free slots, and by name.
    fn place(&self, key: StageKey) -> Vec<WorkerId> {
        let stage = &self.stages[&key];
        let width = stage.width();
        let inputs = if self.free.len() > 1 {
            self.inputs(key)
        } else {
            Vec::new()
        };
        let host = |name| {
            let worker = &self.workers[name];
            Host {
                name,
                device: &worker.device,
                slots: worker.free(),
                cached: worker.cached_bytes(&inputs),
            }
        };
        let mut hosts: Vec<Host<'_>> = self.free.iter().map(host).collect();
        if let State::Pending(Pending {
            setback: Some(setback),
            ..
        }) = &stage.state
        {
            let other = |host: &Host<'_>| Some(host.name) != setback.worker.as_ref();
            let others = hosts.iter().filter(|host| other(host));
            if most(&by_device(others.map(|host| (host.device, host.slots)))) >= width.min() {
                hosts.retain(other);
            }
        }
        if width.max() > 1 {
            let slots = by_device(hosts.iter().map(|host| (host.device, host.slots)));
            let best = most(&slots);
            let best = slots
                .iter()
                .find(|(_, slots)| **slots == best)
                .map(|(device, _)| *device);
            hosts.retain(|host| Some(host.device) == best);
        }
        let mut gang = Vec::new();
        let mut open = width.max() as usize;
        while open > 0 {
            let best = hosts.iter().enumerate().max_by_key(|(_, host)| {
                let taken = host.slots.min(open as u32);
                (taken, host.cached, host.slots, Reverse(host.name))
            });
            let Some((index, _)) = best else { break };
            let host = hosts.swap_remove(index);
            let taken = open.min(host.slots as usize);
            gang.extend(std::iter::repeat_n(host.name.clone(), taken));
            open -= taken;
        }
        gang
    }

    /// Assigns a ready stage's next attempt to these workers, one for each rank, each with a free slot for it.
    fn start(&mut self, key: StageKey, gang: Vec<WorkerId>) {
        let now = self.now;
        self.set_wait(key, Wait::Idle);
        let stage = self.stage_mut(key);
        stage.attempts += 1 + std::mem::take(&mut stage.skipped);
        let ranks = gang.iter().cloned().map(Rank::placed).collect();
        stage.state = State::Running(Running::new(ranks, now));
        self.arm_deadline(key);
        self.keep_stage(key);
        let orders: Vec<_> = self.orders(key, gang.len() as u32).collect();
        for (worker, order) in gang.into_iter().zip(orders) {
            let Some(host) = self.workers.get_mut(&worker) else {
                continue;
            };
            host.held.insert(order.seat, Hold::Working);
            let session = host.session().map(|session| session.number);
            self.count_free(&worker);
            if let Some(session) = session {
                let order = Box::new(order);
                self.effect(Effect::Assign {
                    worker,
                    session,
                    order,
                });
            }
        }
        self.counters.assigned += 1;
    }
}
