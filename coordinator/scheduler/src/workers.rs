//! Workers come, speak, fall silent and go.

use std::collections::BTreeSet;
use std::time::Duration;

use nettailor_domain::ids::{Seat, WorkerId};
use nettailor_domain::session::Offer;

use crate::effect::Effect;
use crate::event::SessionNumber;
use crate::sabotage::{self, Sabotage};
use crate::scheduler::Scheduler;
use crate::stage::Ending;
use crate::timers::Timer;
use crate::worker::{Hold, Link, Session, Worker};

impl Scheduler {
    /// A worker opened a session. Ranks that it lists and that are current here go on, and so do those that were given up
    /// with it and whose attempt has no successor; others that it lists are stopped; current ones that it does not list never
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
        let known = |_: &Seat| !sabotage::is(Sabotage::Disowned);
        let listed: BTreeSet<Seat> = offer.seats.into_iter().filter(known).collect();
        for seat in &listed {
            self.welcome_back(&name, number, *seat);
        }
        for seat in before.into_iter().filter(|seat| !listed.contains(seat)) {
            if self.is_current(&name, seat) {
                let message = format!("{name} does not know the attempt");
                self.lose(seat, Some(name.clone()), &message, Duration::ZERO);
            }
        }
        self.count_free(&name);
    }

    /// A rank that a worker brought along into a new session.
    fn welcome_back(&mut self, name: &WorkerId, session: SessionNumber, seat: Seat) {
        self.adopt(name, seat);
        let stage = self.stages.get(&seat.attempt.stage);
        let current = stage.and_then(|stage| stage.current(name, seat));
        if current.is_none() && stage.is_some_and(|stage| stage.took_in(seat)) {
            // Its report was accepted; only the acknowledgement was lost.
            return self.effect(Effect::Acknowledge {
                worker: name.clone(),
                session,
                seat,
            });
        }
        let stop = match current {
            Some(running) => running.ending.map(Ending::words),
            None => Some("it is not the stage's current attempt".to_owned()),
        };
        let current = current.is_some();
        if let Some(worker) = self.workers.get_mut(name) {
            worker.held.insert(seat, Hold::Working);
        }
        if current {
            self.reached(name, seat);
            self.show(seat.attempt.stage);
        }
        match stop {
            Some(reason) => self.stop(name, seat, &reason),
            None => self.invite(name, seat),
        }
    }

    /// A worker's stream broke. What it runs may go on: it is waited for.
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
            && (session.number == number || sabotage::is(Sabotage::AnySession))
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
                for seat in self.forget_worker(name) {
                    if self.is_current(name, seat) {
                        self.lose(seat, Some(name.clone()), &message, self.config.loss_wait);
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
        let held: Vec<Seat> = worker.held.keys().copied().collect();
        self.timers.arm(until, Timer::Lease(name.clone()));
        for seat in held {
            if self.is_current(name, seat) {
                self.show(seat.attempt.stage);
            }
        }
        self.count_free(name);
    }

    /// Removes a worker with its timers. Says what took its slots.
    fn forget_worker(&mut self, name: &WorkerId) -> Vec<Seat> {
        self.free.remove(name);
        let Some(worker) = self.workers.remove(name) else {
            return Vec::new();
        };
        let lease_at = match worker.link {
            Link::Ready(session) | Link::Draining(session) => session.lease_at,
            Link::Disconnected { until } => until,
        };
        self.timers.disarm(lease_at, Timer::Lease(name.clone()));
        for (seat, hold) in &worker.held {
            self.disarm_stop(name, *seat, hold);
        }
        worker.held.into_keys().collect()
    }

    /// Frees the slot of a rank whose end was reported. A second report finds nothing to free. Says whether there was one.
    pub(crate) fn free_slot(&mut self, name: &WorkerId, seat: Seat) -> bool {
        let hold = self
            .workers
            .get_mut(name)
            .and_then(|worker| worker.held.remove(&seat));
        if let Some(hold) = &hold {
            self.disarm_stop(name, seat, hold);
        }
        self.count_free(name);
        hold.is_some()
    }

    /// Tells a worker to end a rank that takes one of its slots, now if it is connected, else when it comes back.
    pub(crate) fn stop(&mut self, name: &WorkerId, seat: Seat, reason: &str) {
        let again = self.now.elapsed.saturating_add(self.config.stop_again);
        let Some(worker) = self.workers.get_mut(name) else {
            return;
        };
        let session = worker.session().map(|session| session.number);
        let Some(hold) = worker.held.get_mut(&seat) else {
            return;
        };
        let before = std::mem::replace(
            hold,
            Hold::Stopping {
                reason: reason.to_owned(),
                again,
            },
        );
        self.disarm_stop(name, seat, &before);
        self.timers.arm(again, Timer::StopAgain(name.clone(), seat));
        if let Some(session) = session {
            let (worker, reason) = (name.clone(), reason.to_owned());
            self.effect(Effect::Stop {
                worker,
                session,
                seat,
                reason,
            });
        }
    }

    /// A stop was not followed by the rank's end for some time: it is sent again.
    pub(crate) fn stop_due(&mut self, name: &WorkerId, seat: Seat) {
        let hold = self.workers.get(name).and_then(|worker| worker.held.get(&seat));
        if let Some(Hold::Stopping { reason, again }) = hold
            && *again <= self.now.elapsed
        {
            let reason = reason.clone();
            self.stop(name, seat, &reason);
        }
    }

    fn disarm_stop(&mut self, name: &WorkerId, seat: Seat, hold: &Hold) {
        if let Hold::Stopping { again, .. } = hold {
            self.timers.disarm(*again, Timer::StopAgain(name.clone(), seat));
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

    /// Whether a seat is one of its stage's current attempt, assigned to this worker and not reported as done. Only then what
    /// the worker says of it counts.
    pub fn is_current(&self, worker: &WorkerId, seat: Seat) -> bool {
        let stage = self.stages.get(&seat.attempt.stage);
        stage.is_some_and(|stage| stage.current(worker, seat).is_some())
    }

    /// Whether a session is the worker's open one.
    pub fn is_open(&self, worker: &WorkerId, session: SessionNumber) -> bool {
        let open = self.workers.get(worker).and_then(Worker::session);
        open.is_some_and(|open| open.number == session)
    }

    /// Whether a seat takes a slot of this worker. Then its log is of interest, even if its attempt is over.
    pub fn takes_slot(&self, worker: &WorkerId, seat: Seat) -> bool {
        let worker = self.workers.get(worker);
        worker.is_some_and(|worker| worker.held.contains_key(&seat))
    }

    /// Looks at every timer that is due.
    pub(crate) fn tick(&mut self) {
        for timer in self.timers.take_due(self.now.elapsed) {
            match timer {
                Timer::Lease(worker) => self.lease_due(&worker),
                Timer::BackOff(key) => self.settle(key),
                Timer::Deadline(key) => self.deadline_due(key),
                Timer::StopAgain(worker, seat) => self.stop_due(&worker, seat),
            }
        }
    }
}
