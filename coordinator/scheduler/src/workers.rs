//! Workers come, and what takes their slots.

use std::collections::BTreeSet;
use std::time::Duration;

use nettailor_domain::ids::{Seat, StageKey, UserName, WorkerId};
use nettailor_domain::session::Offer;
use nettailor_domain::trainer::{Failure, FailureClass};

use crate::effect::Effect;
use crate::event::SessionNumber;
use crate::pool::Counted;
use crate::sabotage::{self, Sabotage};
use crate::scheduler::Scheduler;
use crate::stage::Ending;
use crate::timers::Timer;
use crate::worker::{Hold, HoldState, Link, Session, Worker};

impl Scheduler {
    /// A worker opened a session. Ranks that it lists and that are current here go on, and so do those of an attempt that vanished,
    /// once all are back and unless another has started; others that it lists are stopped; current ones that it does not list
    /// never reached it, or died with an earlier process: they are lost.
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
        self.departed.remove(&name);
        let lease_at = self.now.elapsed.saturating_add(self.config.silence);
        self.timers.arm(lease_at, Timer::Lease(name.clone()));
        let session = Session {
            number,
            last_heard: self.now.listened,
            lease_at,
        };
        let worker = Worker::connected(&offer, session, self.now.wall_ms);
        for digest in &worker.cached {
            self.holders.entry(*digest).or_default().insert(name.clone());
        }
        self.workers.insert(name.clone(), worker);
        let known = |_: &Seat| !sabotage::is(Sabotage::Disowned);
        let listed: BTreeSet<Seat> = offer.seats.into_iter().filter(known).collect();
        for seat in &listed {
            self.take_back(&name, number, *seat);
        }
        for seat in before.iter().filter(|seat| !listed.contains(seat)) {
            if self.is_current(&name, *seat) {
                let message = format!("{name} does not know the attempt");
                self.lose(*seat, Some(name.clone()), &message, Duration::ZERO);
            }
        }
        let stages: BTreeSet<StageKey> = listed
            .iter()
            .chain(&before)
            .map(|seat| seat.attempt.stage)
            .collect();
        for key in stages {
            self.regroup(key, &name);
        }
        for seat in listed {
            self.greet(&name, seat);
            self.mind_drains(seat.attempt.stage);
        }
        self.count_free(&name);
    }

    /// A rank that a worker brought along into a new session takes a slot of it.
    fn take_back(&mut self, name: &WorkerId, session: SessionNumber, seat: Seat) {
        if self
            .stages
            .get(&seat.attempt.stage)
            .is_some_and(|stage| stage.took_in(seat))
        {
            // Its report was accepted; only the acknowledgement was lost.
            return self.effect(Effect::Acknowledge {
                worker: name.clone(),
                session,
                seat,
            });
        }
        let stage = self.stages.get(&seat.attempt.stage);
        let running = stage.and_then(|stage| stage.current(name, seat));
        let apart = || {
            let parted = self.is_parted(name, seat);
            stage.filter(|_| parted)?.vanished().map(|gone| &gone.running)
        };
        let payer = running.or_else(apart).map(|running| running.payer.clone());
        self.hold(name, seat, payer);
        self.reached(name, seat);
    }

    /// Says what is to become of a rank that a worker brought along, unless that was said on the way.
    fn greet(&mut self, name: &WorkerId, seat: Seat) {
        let hold = self.workers.get(name).and_then(|worker| worker.held.get(&seat));
        if !hold.is_some_and(|hold| matches!(hold.state, HoldState::Working)) {
            return;
        }
        let stage = self.stages.get(&seat.attempt.stage);
        if let Some(running) = stage.and_then(|stage| stage.current(name, seat)) {
            let ending = running.ending;
            self.show(seat.attempt.stage);
            match ending {
                Some(ending) => self.stop(name, seat, &ending.words()),
                None => self.invite(name, seat),
            }
        } else if !self.is_parted(name, seat) {
            self.stop(name, seat, "it is not the stage's current attempt");
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

    /// A rank takes a slot of a worker.
    pub(crate) fn hold(&mut self, name: &WorkerId, seat: Seat, payer: Option<UserName>) {
        let since = self.now.elapsed;
        let Some(worker) = self.workers.get_mut(name) else {
            return;
        };
        let hold = Hold {
            state: HoldState::Working,
            payer: payer.clone(),
            since,
        };
        let before = worker.held.insert(seat, hold);
        if let Some(before) = before {
            self.released(name, seat, &before);
        }
        if let Some(payer) = payer {
            self.charge(&payer);
        }
        self.count_free(name);
    }

    /// A slot is not taken any more: nobody pays for it, and no stop is repeated.
    pub(crate) fn released(&mut self, name: &WorkerId, seat: Seat, hold: &Hold) {
        self.disarm_stop(name, seat, &hold.state);
        if let Some(payer) = &hold.payer {
            self.discharge(payer, self.now.elapsed.saturating_sub(hold.since));
        }
    }

    /// Frees the slot of a rank whose end was reported. A second report finds nothing to free. Says whether there was one.
    pub(crate) fn free_slot(&mut self, name: &WorkerId, seat: Seat) -> bool {
        let hold = self
            .workers
            .get_mut(name)
            .and_then(|worker| worker.held.remove(&seat));
        if let Some(hold) = &hold {
            self.released(name, seat, hold);
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
        let times = match hold.state {
            HoldState::Working | HoldState::Lost => 1,
            // Who is away was not told.
            HoldState::Stopping { times, .. } => times + u32::from(session.is_some()),
        };
        let stopping = HoldState::Stopping {
            reason: reason.to_owned(),
            again,
            times,
        };
        let before = std::mem::replace(&mut hold.state, stopping);
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
        let Some(HoldState::Stopping { reason, again, times }) = hold.map(|hold| &hold.state) else {
            return;
        };
        if *again > self.now.elapsed {
            return;
        }
        if *times < self.config.stops {
            let reason = reason.clone();
            return self.stop(name, seat, &reason);
        }
        // The slot is lost with it, until the worker says otherwise; nothing else is placed there meanwhile.
        let message = format!("{name} was told {times} times to stop it, and does not say that it ended");
        let payer = self.workers.get_mut(name).and_then(|worker| {
            let hold = worker.held.get_mut(&seat)?;
            hold.state = HoldState::Lost;
            hold.payer.take()
        });
        if let Some(payer) = payer {
            self.discharge(&payer, Duration::ZERO);
        }
        let cordon = self
            .admissions
            .get(name)
            .and_then(|admission| admission.cordon.as_ref());
        if cordon.is_none() {
            self.cordon(name, message.clone(), false);
        }
        if !self.is_current(name, seat) {
            return;
        }
        let running = self.stages[&seat.attempt.stage].running();
        let ending = running.and_then(|running| running.ending);
        let class = FailureClass::Lost;
        match ending {
            Some(Ending::Deadline { .. }) => self.fault(seat, Failure { class, message }),
            Some(Ending::Yield) => self.give_back(seat, Failure { class, message }),
            Some(Ending::Unneeded) | None => {
                self.lose(seat, Some(name.clone()), &message, self.config.loss_wait);
            }
        }
    }

    pub(crate) fn disarm_stop(&mut self, name: &WorkerId, seat: Seat, hold: &HoldState) {
        if let HoldState::Stopping { again, .. } = hold {
            self.timers.disarm(*again, Timer::StopAgain(name.clone(), seat));
        }
    }

    /// Brings the counts of slots up to date.
    pub(crate) fn count_free(&mut self, name: &WorkerId) {
        let admitted = self.admits(name);
        let Some(worker) = self.workers.get_mut(name) else {
            return;
        };
        worker.admitted = admitted;
        let after = worker.takes_work().then(|| Counted {
            total: worker.slots,
            free: worker.free(),
        });
        if after != worker.counted {
            let before = std::mem::replace(&mut worker.counted, after);
            self.pools.count(name, &worker.make, before, after);
            self.stirred = true;
        }
    }

    /// Rank 0 tells when its trainer expects to be done.
    pub(crate) fn pace(&mut self, worker: &WorkerId, session: SessionNumber, seat: Seat, left: Duration) {
        let expected = self.now.elapsed.saturating_add(left);
        if self.heard(worker, session)
            && seat.rank == 0
            && let Some(stage) = self.stages.get_mut(&seat.attempt.stage)
            && let Some(running) = stage.live_mut(worker, seat)
        {
            running.expected = Some(expected);
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
                Timer::Regroup(key) => self.regroup_due(key),
                Timer::BackOff(key) => self.settle(key),
                Timer::Deadline(key) => self.deadline_due(key),
                Timer::Yield(key) => self.yield_now(key),
                Timer::JobDeadline(sequence) => self.job_deadline_due(sequence),
                Timer::Resume(sequence) => self.end_pause(sequence, "its time is over"),
                Timer::Admit(worker) => self.admit(&worker),
                Timer::Age => self.age(),
                Timer::Preempt => self.stirred = true,
                Timer::StopAgain(worker, seat) => self.stop_due(&worker, seat),
            }
        }
    }
}
