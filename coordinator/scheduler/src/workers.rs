//! Workers come, speak, fall silent and go.

use std::collections::BTreeSet;
use std::time::Duration;

use nettailor_domain::ids::{Attempt, WorkerId};
use nettailor_domain::session::Offer;

use crate::effect::Effect;
use crate::event::SessionNumber;
use crate::scheduler::Scheduler;
use crate::stage::Ending;
use crate::timers::Timer;
use crate::worker::{Hold, Link, Session, Worker};

impl Scheduler {
    /// A worker opened a session. Attempts that it lists and that are current here go on, and so do those that were given
    /// up with it and have no successor; others that it lists are stopped; current ones that it does not list never
    /// reached it, or died with an earlier process: they are lost.
    pub(crate) fn worker_connected(&mut self, name: WorkerId, number: SessionNumber, offer: Offer) {
        let open = self
            .workers
            .get(&name)
            .and_then(Worker::session)
            .map(|session| session.number);
        match open {
            Some(newer) if newer >= number => {
                self.counters.old_session_messages += 1;
                return;
            }
            Some(older) => {
                let reason = "the worker opened a newer session".into();
                self.effect(Effect::CloseSession {
                    worker: name.clone(),
                    session: older,
                    reason,
                });
            }
            None => {}
        }
        let before = self.forget_worker(&name);
        let lease_at = self.now.elapsed.saturating_add(self.config.lease);
        self.timers.arm(lease_at, Timer::Lease(name.clone()));
        let session = Session {
            number,
            last_seen: self.now.elapsed,
            lease_at,
        };
        self.workers
            .insert(name.clone(), Worker::connected(&offer, session, self.now.wall_ms));
        let listed: BTreeSet<Attempt> = offer.attempts.into_iter().collect();
        for attempt in &listed {
            self.welcome_back(&name, number, *attempt);
        }
        for attempt in before.into_iter().filter(|attempt| !listed.contains(attempt)) {
            if self.is_current(&name, attempt) {
                let message = format!("{name} does not know the attempt");
                self.lose(attempt.stage, &message, Duration::ZERO);
            }
        }
        self.count_free(&name);
    }

    /// An attempt that a worker brought along into a new session.
    fn welcome_back(&mut self, name: &WorkerId, session: SessionNumber, attempt: Attempt) {
        self.adopt(name, attempt);
        let current = self.is_current(name, attempt);
        let stage = self.stages.get(&attempt.stage);
        if !current && stage.is_some_and(|stage| stage.is_done() && stage.attempt() == attempt) {
            // Its report was accepted; only the acknowledgement was lost.
            return self.effect(Effect::Acknowledge {
                worker: name.clone(),
                session,
                attempt,
            });
        }
        let ending = stage
            .and_then(|stage| stage.running())
            .and_then(|running| running.ending);
        if let Some(worker) = self.workers.get_mut(name) {
            worker.held.insert(attempt, Hold::Working);
        }
        if current {
            self.reached(attempt.stage);
            self.show(attempt.stage);
        }
        match (current, ending) {
            (true, None) => {}
            (true, Some(Ending::Unneeded)) => self.stop(name, attempt, "no live job asks for it any more"),
            (true, Some(Ending::Deadline { .. })) => self.stop(name, attempt, "it ran past its deadline"),
            (false, _) => self.stop(name, attempt, "it is not the stage's current attempt"),
        }
    }

    /// A worker's stream broke. Its attempts may still run: they are waited for.
    pub(crate) fn worker_disconnected(&mut self, name: &WorkerId, session: SessionNumber) {
        if self.heard(name, session) {
            self.detach(name);
        }
    }

    /// A worker takes no new work.
    pub(crate) fn worker_draining(&mut self, name: &WorkerId, session: SessionNumber) {
        if !self.heard(name, session) {
            return;
        }
        if let Some(worker) = self.workers.get_mut(name)
            && let Link::Ready(session) = worker.link
        {
            worker.link = Link::Draining(session);
        }
        self.count_free(name);
    }

    /// A message came in. Says whether its session is the worker's open one; if not, it must be dropped.
    pub(crate) fn heard(&mut self, name: &WorkerId, number: SessionNumber) -> bool {
        let now = self.now;
        if let Some(worker) = self.workers.get_mut(name)
            && let Some(session) = worker.session_mut()
            && session.number == number
        {
            session.last_seen = now.elapsed;
            worker.last_seen_ms = now.wall_ms;
            return true;
        }
        self.counters.old_session_messages += 1;
        false
    }

    /// A worker's lease timer fired: it was silent, or away, for too long; or it has been heard of since the timer
    /// was armed.
    pub(crate) fn lease_due(&mut self, name: &WorkerId) {
        let (now, lease) = (self.now.elapsed, self.config.lease);
        let Some(worker) = self.workers.get_mut(name) else {
            return;
        };
        match &mut worker.link {
            Link::Ready(session) | Link::Draining(session) => {
                let end = session.last_seen.saturating_add(lease);
                if end > now {
                    session.lease_at = end;
                    self.timers.arm(end, Timer::Lease(name.clone()));
                    return;
                }
                let number = session.number;
                let reason = format!("nothing was heard of the worker for {} s", lease.as_secs_f32());
                self.effect(Effect::CloseSession {
                    worker: name.clone(),
                    session: number,
                    reason,
                });
                self.detach(name);
            }
            Link::Disconnected { until } if *until <= now => {
                let message = format!("{name} disconnected and did not come back within its lease");
                for attempt in self.forget_worker(name) {
                    if self.is_current(name, attempt) {
                        self.lose(attempt.stage, &message, self.config.loss_wait);
                    }
                }
            }
            Link::Disconnected { .. } => {}
        }
    }

    /// Ends a worker's session and waits for the worker.
    fn detach(&mut self, name: &WorkerId) {
        let until = self.now.elapsed.saturating_add(self.config.lease);
        let Some(worker) = self.workers.get_mut(name) else {
            return;
        };
        if let Some(session) = worker.session() {
            self.timers.disarm(session.lease_at, Timer::Lease(name.clone()));
        }
        worker.link = Link::Disconnected { until };
        let held: Vec<Attempt> = worker.held.keys().copied().collect();
        self.timers.arm(until, Timer::Lease(name.clone()));
        for attempt in held {
            if self.is_current(name, attempt) {
                self.show(attempt.stage);
            }
        }
        self.count_free(name);
    }

    /// Removes a worker with its timers. Says what took its slots.
    fn forget_worker(&mut self, name: &WorkerId) -> Vec<Attempt> {
        self.free.remove(name);
        let Some(worker) = self.workers.remove(name) else {
            return Vec::new();
        };
        let lease_at = match worker.link {
            Link::Ready(session) | Link::Draining(session) => session.lease_at,
            Link::Disconnected { until } => until,
        };
        self.timers.disarm(lease_at, Timer::Lease(name.clone()));
        for (attempt, hold) in &worker.held {
            self.disarm_stop(name, *attempt, hold);
        }
        worker.held.into_keys().collect()
    }

    /// Frees the slot of an attempt whose end was reported. A second report finds nothing to free.
    pub(crate) fn free_slot(&mut self, name: &WorkerId, attempt: Attempt) {
        let hold = self
            .workers
            .get_mut(name)
            .and_then(|worker| worker.held.remove(&attempt));
        if let Some(hold) = hold {
            self.disarm_stop(name, attempt, &hold);
        }
        self.count_free(name);
    }

    /// Tells a worker to end an attempt that takes one of its slots, now if it is connected, else when it comes back.
    pub(crate) fn stop(&mut self, name: &WorkerId, attempt: Attempt, reason: &str) {
        let again = self.now.elapsed.saturating_add(self.config.stop_again);
        let Some(worker) = self.workers.get_mut(name) else {
            return;
        };
        let session = worker.session().map(|session| session.number);
        let Some(hold) = worker.held.get_mut(&attempt) else {
            return;
        };
        let before = std::mem::replace(
            hold,
            Hold::Stopping {
                reason: reason.to_owned(),
                again,
            },
        );
        self.disarm_stop(name, attempt, &before);
        self.timers.arm(again, Timer::StopAgain(name.clone(), attempt));
        if let Some(session) = session {
            let (worker, reason) = (name.clone(), reason.to_owned());
            self.effect(Effect::Stop {
                worker,
                session,
                attempt,
                reason,
            });
        }
    }

    /// A stop was not followed by the attempt's end for some time: it is sent again.
    pub(crate) fn stop_due(&mut self, name: &WorkerId, attempt: Attempt) {
        let hold = self
            .workers
            .get(name)
            .and_then(|worker| worker.held.get(&attempt));
        if let Some(Hold::Stopping { reason, again }) = hold
            && *again <= self.now.elapsed
        {
            let reason = reason.clone();
            self.stop(name, attempt, &reason);
        }
    }

    fn disarm_stop(&mut self, name: &WorkerId, attempt: Attempt, hold: &Hold) {
        if let Hold::Stopping { again, .. } = hold {
            self.timers
                .disarm(*again, Timer::StopAgain(name.clone(), attempt));
        }
    }

    /// Brings the index of workers with a free slot up to date.
    pub(crate) fn count_free(&mut self, name: &WorkerId) {
        if self.workers.get(name).is_some_and(|worker| worker.free() > 0) {
            self.free.insert(name.clone());
        } else {
            self.free.remove(name);
        }
    }

    /// Whether an attempt is its stage's current one and assigned to this worker. Only then its reports count.
    pub fn is_current(&self, worker: &WorkerId, attempt: Attempt) -> bool {
        self.stages.get(&attempt.stage).is_some_and(|stage| {
            stage.attempts == attempt.number
                && stage.running().is_some_and(|running| running.worker == *worker)
        })
    }

    /// Looks at every timer that is due.
    pub(crate) fn tick(&mut self) {
        for timer in self.timers.take_due(self.now.elapsed) {
            match timer {
                Timer::Lease(worker) => self.lease_due(&worker),
                Timer::BackOff(key) => self.settle(key),
                Timer::Deadline(key) => self.deadline_due(key),
                Timer::StopAgain(worker, attempt) => self.stop_due(&worker, attempt),
            }
        }
    }
}
