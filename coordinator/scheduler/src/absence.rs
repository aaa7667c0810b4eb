//! Workers that are not heard: silent, away, lost.
//!
//! A worker is disconnected when its stream breaks or nothing was heard of it for [`Config::silence`](crate::Config::silence). It
//! then has [`Config::reattach`](crate::Config::reattach) to come back; after that it is lost. Both are listened time (see
//! [`Now::listened`](crate::event::Now::listened)): what the coordinator did not hear because it stood still itself is nobody's
//! silence. Where it is the coordinator that went away, workers get the same grace as after a restart, and what is lost then does
//! not count as a loss: streams that break right after it stalled, and most of the workers going at once.

use std::time::Duration;

use nettailor_domain::ids::{Seat, StageKey, WorkerId};

use crate::effect::Effect;
use crate::event::{Now, SessionNumber};
use crate::sabotage::{self, Sabotage};
use crate::scheduler::Scheduler;
use crate::stage::{Pending, State, Wait};
use crate::timers::Timer;
use crate::worker::{Link, Worker};

/// A worker that went a short time ago and is not back.
#[derive(Debug)]
pub(crate) struct Departure {
    /// Listened time.
    at: Duration,
    /// Stages whose attempts were lost with it, and counted.
    lost: Vec<StageKey>,
}

impl Scheduler {
    /// Time has passed. Where much of it was not listened to, the coordinator has stalled.
    pub(crate) fn pass_time(&mut self, now: Now) {
        let missed = |now: Now| now.elapsed.saturating_sub(now.listened);
        if missed(now) >= missed(self.now).saturating_add(self.config.stall) {
            self.stalled = Some(now.listened);
        }
        self.now = now;
    }

    /// A message came in. Says whether its session is the worker's open one; if not, it must be dropped.
    pub(crate) fn heard(&mut self, name: &WorkerId, number: SessionNumber) -> bool {
        let now = self.now;
        if let Some(worker) = self.workers.get_mut(name)
            && let Some(session) = worker.session_mut()
            && (session.number == number || sabotage::is(Sabotage::AnySession))
        {
            session.last_heard = now.listened;
            worker.last_seen_ms = now.wall_ms;
            return true;
        }
        self.counters.old_session_messages += 1;
        false
    }

    /// A worker's stream broke. What it runs may go on: it is waited for.
    pub(crate) fn worker_disconnected(&mut self, name: &WorkerId, session: SessionNumber) {
        if self.heard(name, session) {
            self.detach(name);
        }
    }

    /// A worker's timer fired: it was silent, or away, for too long; or it has been heard of since the timer was armed, or the
    /// coordinator has not listened all the time.
    pub(crate) fn lease_due(&mut self, name: &WorkerId) {
        let (now, silence) = (self.now, self.config.silence);
        let Some(worker) = self.workers.get_mut(name) else {
            return;
        };
        let (end, lease_at) = match &mut worker.link {
            Link::Ready(session) | Link::Draining(session) => {
                (session.last_heard.saturating_add(silence), &mut session.lease_at)
            }
            Link::Disconnected { until, lease_at, .. } => (*until, lease_at),
        };
        if end > now.listened {
            let before = std::mem::replace(lease_at, now.elapsed.saturating_add(end - now.listened));
            let at = *lease_at;
            self.timers.disarm(before, Timer::Lease(name.clone()));
            return self.timers.arm(at, Timer::Lease(name.clone()));
        }
        match worker.link {
            Link::Ready(session) | Link::Draining(session) => {
                let reason = format!("nothing was heard of the worker for {} s", silence.as_secs_f32());
                self.effect(Effect::CloseSession {
                    worker: name.clone(),
                    session: session.number,
                    reason,
                });
                self.detach(name);
            }
            Link::Disconnected { excused, .. } => {
                for seat in self.forget_worker(name) {
                    if self.is_current(name, seat)
                        && self.part(seat, name, excused)
                        && let Some(departure) = self.departed.get_mut(name)
                    {
                        departure.lost.push(seat.attempt.stage);
                    }
                }
            }
        }
    }

    /// Ends a worker's session and waits for the worker.
    fn detach(&mut self, name: &WorkerId) {
        let Some(worker) = self.workers.get(name) else {
            return;
        };
        // One that drains has said that it goes.
        let announced = matches!(worker.link, Link::Draining(_));
        let stalled = |at: Duration| self.now.listened <= at.saturating_add(self.config.stall);
        self.await_worker(name, self.stalled.is_some_and(stalled));
        self.count_free(name);
        if !announced {
            let departure = Departure {
                at: self.now.listened,
                lost: Vec::new(),
            };
            self.departed.insert(name.clone(), departure);
            self.excuse_many();
        }
    }

    /// Waits for a worker without a session from now on.
    fn await_worker(&mut self, name: &WorkerId, excused: bool) {
        let wait = if excused {
            self.config.restore_grace
        } else {
            self.config.reattach
        };
        let Some(worker) = self.workers.get_mut(name) else {
            return;
        };
        let lease_at = self.now.elapsed.saturating_add(wait);
        self.timers.disarm(worker.lease_at(), Timer::Lease(name.clone()));
        self.timers.arm(lease_at, Timer::Lease(name.clone()));
        worker.link = Link::Disconnected {
            until: self.now.listened.saturating_add(wait),
            lease_at,
            excused,
        };
        let held: Vec<Seat> = worker.held.keys().copied().collect();
        for seat in held {
            if self.is_current(name, seat) {
                self.show(seat.attempt.stage);
            }
        }
    }

    /// Where most of the workers have gone at once, it is the coordinator's network that has: they are waited for longer, and what
    /// was lost with them does not count as a loss. Those that were not heard lately count as gone; the rest of their silence would
    /// show it one by one, too late for the first.
    fn excuse_many(&mut self) {
        let (listened, late) = (self.now.listened, self.config.silence / 2);
        let since = listened.saturating_sub(self.config.together);
        self.departed.retain(|_, departure| departure.at >= since);
        let connected = self.workers.values().filter_map(|worker| match &worker.link {
            Link::Ready(session) => Some(session.last_heard.saturating_add(late) <= listened),
            Link::Draining(_) | Link::Disconnected { .. } => None,
        });
        let (all, silent) = connected.fold((0, 0), |(all, silent), is_silent| {
            (all + 1, silent + usize::from(is_silent))
        });
        let (gone, there) = (self.departed.len() + silent, all - silent);
        if gone < 2 || gone <= there {
            return;
        }
        let names: Vec<WorkerId> = self.departed.keys().cloned().collect();
        for name in names {
            let lost = self
                .departed
                .get_mut(&name)
                .map(|gone| std::mem::take(&mut gone.lost));
            for key in lost.into_iter().flatten() {
                self.forgive_loss(&name, key);
            }
            let waits = |worker: &Worker| matches!(worker.link, Link::Disconnected { excused: false, .. });
            if self.workers.get(&name).is_some_and(waits) {
                self.await_worker(&name, true);
            }
        }
    }

    /// An attempt that was counted as a loss was the coordinator's own.
    fn forgive_loss(&mut self, name: &WorkerId, key: StageKey) {
        self.forgive(name, key);
        let stage = self.stages.get_mut(&key).expect("a planned stage exists");
        match &mut stage.state {
            _ if stage.losses == 0 => return,
            State::Done(_) | State::Failed(_) => return,
            State::Running(_) => {}
            State::Pending(pending) => {
                pending.vanished.iter_mut().for_each(|gone| gone.loss = false);
            }
        }
        stage.losses -= 1;
        stage.returns += 1;
        self.counters.losses -= 1;
        self.counters.returns += 1;
        self.keep_stage(key);
        let stage = &self.stages[&key];
        if let State::Pending(Pending {
            wait: Wait::SetAside(_),
            ..
        }) = stage.state
            && stage.losses < self.config.losses_in_a_row
        {
            self.set_wait(key, Wait::Idle);
            self.settle(key);
        }
    }

    /// Whether a worker is away by the coordinator's own doing.
    pub(crate) fn is_excused(&self, name: &WorkerId) -> bool {
        let worker = self.workers.get(name);
        worker.is_some_and(|worker| matches!(worker.link, Link::Disconnected { excused: true, .. }))
    }

    /// Removes a worker with its timers. Says what took its slots.
    pub(crate) fn forget_worker(&mut self, name: &WorkerId) -> Vec<Seat> {
        let Some(mut worker) = self.workers.remove(name) else {
            return Vec::new();
        };
        let counted = worker.counted.take();
        self.pools.count(name, &worker.make, counted, None);
        for digest in &worker.cached {
            if let Some(holders) = self.holders.get_mut(digest) {
                holders.remove(name);
                if holders.is_empty() {
                    self.holders.remove(digest);
                }
            }
        }
        self.timers.disarm(worker.lease_at(), Timer::Lease(name.clone()));
        let mut seats = Vec::with_capacity(worker.held.len());
        for (seat, hold) in worker.held {
            self.released(name, seat, &hold);
            seats.push(seat);
        }
        self.stirred = true;
        seats
    }
}
