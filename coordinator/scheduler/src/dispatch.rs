//! Stages meet slots.
//!
//! Ready stages stand in line by user, then by priority, then first come first served. The user goes first who has the least
//! beside the others: those who lack what is guaranteed to them, then by slots in use, then by what was used lately, both as
//! shares of their weights. Nobody gets more slots than the user's limit.
//!
//! An attempt takes the slots of all its ranks in one transition or none: nobody holds some and waits for more. A stage that
//! needs more slots than are free does not hold up later ones that fit into them, but not for ever: the *front* is the first
//! in line that the connected workers could take at all. Once [`Config::gang_patience`](crate::Config::gang_patience) has
//! passed since a later stage started before it for the first time, no later one does any more on workers that it could use:
//! slots that become free there are kept for the front, which starts when there are enough of them. Only one stage has slots
//! kept for it at a time, and only one for which there are enough: so everything in line gets its turn once what runs has
//! ended. Ranks of one attempt are on workers of one device: gangs of CPUs and GPUs cannot meet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nettailor_domain::explain::What;
use nettailor_domain::ids::{StageKey, WorkerId};
use nettailor_domain::labels::Labels;

use crate::effect::Effect;
use crate::line::Need;
use crate::pool::Slots;
use crate::record::Subject;
use crate::scheduler::Scheduler;
use crate::stage::{Pending, Rank, Running, State, Wait};
use crate::words::{bytes, gang as gang_words};

/// Most workers of one make, and most holders of an input, that are looked at for a place.
const LOOKED_AT: usize = 64;

/// What can be done for those who wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// This one starts, before the front, if there is one.
    Start {
        key: StageKey,
        before: Option<StageKey>,
        /// Not on workers with these labels: their slots are kept for another.
        kept: Option<Labels>,
    },
    /// Nothing: no slot is free that is not kept, or nothing fits.
    Nothing,
}

/// A worker with slots to give.
struct Host<'a> {
    name: &'a WorkerId,
    device: &'a str,
    slots: u32,
    /// Bytes of the stage's inputs that it need not fetch.
    cached: u64,
}

impl Scheduler {
    /// Gives free slots to ready stages until none fits or the rest is kept.
    pub(crate) fn dispatch(&mut self) {
        // Nothing that matters here has changed since nothing fitted.
        if !std::mem::take(&mut self.stirred) {
            return;
        }
        while let Decision::Start { key, before, kept } = self.decide() {
            if let Some(front) = before {
                self.pass_over(front);
            }
            let gang = self.place(key, kept.as_ref());
            self.start(key, gang);
        }
        self.preempt();
        self.stirred = false;
        self.decided_ms = self.now.wall_ms;
    }

    /// The first in line that fits into the free slots and its user's limit, unless they are kept for an earlier one.
    pub(crate) fn decide(&self) -> Decision {
        if !self.pools.any_free() {
            return Decision::Nothing;
        }
        let mut front: Option<(StageKey, &Labels)> = None;
        let mut kept = None;
        if let Some((key, need)) = self.makes_room_for() {
            if self.pools.most(Slots::Free, &need.labels, None) >= need.least {
                let (before, kept) = (None, None);
                return Decision::Start { key, before, kept };
            }
            (front, kept) = (Some((key, &need.labels)), Some(&need.labels));
        }
        for user in self.line.users() {
            // The first of the user's that only the limit holds up: it is not passed over for ever, either.
            let mut own = None;
            for (need, key) in self.line.firsts(user) {
                if own.is_some_and(|own| self.is_impatient(own)) {
                    break;
                }
                if !self.may_have(key, need.least) {
                    if own.is_none() && self.could_have(key, need.least) {
                        own = Some(key);
                    }
                    continue;
                }
                if self.pools.most(Slots::Free, &need.labels, kept) >= need.least {
                    let before = own.or(front.map(|(front, _)| front));
                    let kept = kept.cloned();
                    return Decision::Start { key, before, kept };
                }
                if front.is_none() && self.could_run(need) {
                    front = Some((key, &need.labels));
                    kept = self.is_impatient(key).then_some(&need.labels);
                }
            }
        }
        Decision::Nothing
    }

    /// The stage that others have made room for, with what it needs, as long as it is in line for that.
    fn makes_room_for(&self) -> Option<(StageKey, &Need)> {
        let (key, _) = self.room.filter(|(_, until)| self.now.elapsed < *until)?;
        let need = &self.stages[&key].ticket()?.need;
        (self.may_have(key, need.least) && self.could_run(need)).then_some((key, need))
    }

    /// Whether the user of a stage in line could have so many slots, if all others were given back.
    fn could_have(&self, key: StageKey, slots: u32) -> bool {
        let ticket = self.stages[&key].ticket();
        let account = ticket.and_then(|ticket| self.accounts.get(&ticket.user));
        let limit = account.and_then(|account| account.record.limit);
        limit.is_none_or(|limit| slots <= limit)
    }

    /// Whether the user of a stage in line may have so many slots more.
    pub(crate) fn may_have(&self, key: StageKey, slots: u32) -> bool {
        let ticket = self.stages[&key].ticket();
        let account = ticket.and_then(|ticket| self.accounts.get(&ticket.user));
        account.is_none_or(|account| account.may_have(slots))
    }

    /// Whether the connected workers could take a stage with this need if nothing else ran.
    pub(crate) fn could_run(&self, need: &Need) -> bool {
        self.pools.most(Slots::All, &need.labels, None) >= need.least
    }

    /// The first in line that the connected workers could take if nothing else ran.
    pub(crate) fn front(&self) -> Option<StageKey> {
        if let Some((key, _)) = self.makes_room_for() {
            return Some(key);
        }
        let firsts = self.line.users().flat_map(|user| self.line.firsts(user));
        let mut runnable =
            firsts.filter(|(need, key)| self.may_have(*key, need.least) && self.could_run(need));
        runnable.next().map(|(_, key)| key)
    }

    /// Whether slots are kept for a stage if it is the front.
    pub(crate) fn is_impatient(&self, key: StageKey) -> bool {
        if self.makes_room_for().is_some_and(|(other, _)| other == key) {
            return true;
        }
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

    /// Workers for a ready stage's next attempt, one for each rank, as many as are free, asked for and allowed: rather not the
    /// one where it went wrong last, if the others are enough; on as few workers as can be, so that ranks are near each
    /// other; then those that hold most of its inputs, those with most free slots, and by name.
    fn place(&self, key: StageKey, kept: Option<&Labels>) -> Vec<WorkerId> {
        let stage = &self.stages[&key];
        let width = stage.width();
        let Some(ticket) = stage.ticket() else {
            return Vec::new();
        };
        let inputs = self.inputs(key);
        let labels = &ticket.need.labels;
        let mut names: BTreeSet<&WorkerId> = self.pools.free(labels, LOOKED_AT).collect();
        for input in &inputs {
            // What is everywhere tells no worker from another.
            let holders = self.holders.get(&input.digest).into_iter().flatten();
            let holders = holders.take(4 * LOOKED_AT);
            let able = holders.filter(|name| {
                let worker = self.workers.get(*name);
                worker.is_some_and(|worker| worker.free() > 0 && labels.are_in(&worker.make.labels))
            });
            names.extend(able.take(LOOKED_AT));
        }
        names.retain(|name| {
            let labels = &self.workers[*name].make.labels;
            !kept.is_some_and(|kept| kept.are_in(labels))
        });
        let host = |name| {
            let worker = &self.workers[name];
            Host {
                name,
                device: &worker.make.device,
                slots: worker.free(),
                cached: worker.cached_bytes(&inputs),
            }
        };
        let mut hosts: Vec<Host<'_>> = names.into_iter().map(host).collect();
        if let State::Pending(Pending {
            setback: Some(setback),
            ..
        }) = &stage.state
        {
            let other = |host: &Host<'_>| Some(host.name) != setback.worker.as_ref();
            if most(hosts.iter().filter(|host| other(host))).1 >= width.min() {
                hosts.retain(other);
            }
        }
        if width.max() > 1 {
            let (device, _) = most(hosts.iter());
            let device = device.to_owned();
            hosts.retain(|host| host.device == device);
        }
        let mut gang = Vec::new();
        let mut open = width.max() as usize;
        while open > 0 && (gang.is_empty() || self.may_have(key, gang.len() as u32 + 1)) {
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
        while gang.len() > 1 && !self.may_have(key, gang.len() as u32) {
            gang.pop();
        }
        gang
    }

    /// Assigns a ready stage's next attempt to these workers, one for each rank, each with a free slot for it.
    fn start(&mut self, key: StageKey, gang: Vec<WorkerId>) {
        let now = self.now;
        let payer = self.stages[&key].ticket().map(|ticket| ticket.user.clone());
        let payer = payer.unwrap_or_default();
        self.disband(key, "another attempt takes its place");
        self.set_wait(key, Wait::Idle);
        let stage = self.stage_mut(key);
        stage.attempts += 1 + std::mem::take(&mut stage.skipped);
        let number = stage.attempts;
        let ranks = gang.iter().cloned().map(Rank::placed).collect();
        stage.state = State::Running(Running::new(ranks, payer.clone(), now));
        self.arm_deadline(key);
        self.keep_stage(key);
        let there = self.count_inputs(key, &gang);
        let reason = format!("on {}; {there}", gang_words(&gang));
        self.happened(Subject::Stage(key), What::Started, number, reason);
        let orders: Vec<_> = self.orders(key, gang.len() as u32).collect();
        for (worker, order) in gang.into_iter().zip(orders) {
            self.hold(&worker, order.seat, Some(payer.clone()));
            let session = self.workers.get(&worker).and_then(|host| host.session());
            if let Some(session) = session.map(|session| session.number) {
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

    /// Adds up how much of an attempt's inputs is where it was placed; in words.
    fn count_inputs(&mut self, key: StageKey, gang: &[WorkerId]) -> String {
        let inputs = self.inputs(key);
        let needed: u64 = inputs.iter().map(|input| input.bytes).sum();
        let (mut all, mut there) = (0, 0);
        for name in gang.iter().collect::<BTreeSet<_>>() {
            if let Some(worker) = self.workers.get_mut(name) {
                let cached = worker.cached_bytes(&inputs);
                worker.placed_bytes[0] += needed;
                worker.placed_bytes[1] += cached;
                all += needed;
                there += cached;
            }
        }
        format!("{} of {} of its inputs are there", bytes(there), bytes(all))
    }
}

/// The device of which these hosts have the most slots, and how many.
fn most<'a, 'h: 'a>(hosts: impl Iterator<Item = &'a Host<'h>>) -> (&'h str, u32) {
    let mut sums: BTreeMap<&'h str, u32> = BTreeMap::new();
    for host in hosts {
        *sums.entry(host.device).or_default() += host.slots;
    }
    // Of equals the first by name.
    let best = sums
        .into_iter()
        .max_by_key(|(device, slots)| (*slots, Reverse(*device)));
    best.unwrap_or(("", 0))
}
