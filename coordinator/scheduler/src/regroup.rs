//! Attempts that vanished with a worker, and how they are taken up again.
//!
//! A gang computes on while the coordinator does not hear one of its workers. So an attempt that lost ranks to a worker's absence is
//! kept beside the wait for the next: the ranks that are not gone keep their slots and what they say still counts, and once all are
//! back it goes on as if nothing had been. It is over when another attempt starts, when a rank says that it ended, or when the
//! rest was waited for as long as after a restart.

use nettailor_domain::explain::What;
use nettailor_domain::ids::{Seat, StageKey, WorkerId};

use crate::record::Subject;
use crate::scheduler::Scheduler;
use crate::stage::{Ending, Running, State, Vanished, Wait};
use crate::timers::Timer;
use crate::worker::Worker;

impl Scheduler {
    /// A rank of a stage's current attempt vanished with its worker. Says whether that was counted as a loss: it is if the rank
    /// ran, as it may be what ended the worker, and the coordinator itself was not.
    pub(crate) fn part(&mut self, seat: Seat, name: &WorkerId, excused: bool) -> bool {
        let key = seat.attempt.stage;
        let wait = self.loss_wait(key);
        let message = format!("{name} disconnected and did not come back in time");
        let Some(running) = self.stop_running(key) else {
            return false;
        };
        self.keep_stage(key);
        let open = running.open_seats(seat.attempt);
        let number = seat.attempt.number;
        self.happened(Subject::Stage(key), What::Ended, number, message.clone());
        if running.ending == Some(Ending::Unneeded) || self.stages[&key].users.is_empty() {
            // How it ended does not count; after a restart not all have been told to stop.
            self.stop_all(open, &Ending::Unneeded.words());
            self.settle(key);
            return false;
        }
        let loss = !excused && running.ranks[seat.rank as usize].reached;
        if let State::Pending(pending) = &mut self.stage_mut(key).state {
            pending.vanished = Some(Box::new(Vanished {
                running,
                gone: name.clone(),
                loss,
                until: None,
            }));
        }
        self.count_lost(key, Some(name.clone()), &message, loss, wait);
        if open.iter().any(|(seat, name)| self.holds(name, *seat)) {
            self.await_rest(key);
        }
        loss
    }

    /// A worker with ranks of an attempt that vanished is back: the attempt goes on if all of it is there, and is over if a worker
    /// is back without its rank.
    pub(crate) fn regroup(&mut self, key: StageKey, back: &WorkerId) {
        let Some(open) = self.stages.get(&key).and_then(|stage| {
            let running = &stage.vanished()?.running;
            Some(running.open_seats(stage.attempt()))
        }) else {
            return;
        };
        let gone: Vec<&WorkerId> = open
            .iter()
            .filter(|(seat, name)| !self.holds(name, *seat))
            .map(|(_, name)| name)
            .collect();
        let has_session = |name: &WorkerId| self.workers.get(name).is_some_and(|it| it.session().is_some());
        if gone.is_empty() {
            self.reunite(key);
            self.counters.adopted += 1;
            // Where the gang meets may have been said while it was apart; who is back is told in any case.
            for (seat, name) in open.iter().filter(|(_, name)| name != back) {
                self.invite(name, *seat);
            }
        } else if let Some(name) = gone.iter().find(|name| has_session(name)) {
            let reason = format!("{name} does not know the attempt");
            self.disband(key, &reason);
        } else {
            self.await_rest(key);
        }
    }

    /// The ranks that go on are not left alone for ever: they hold slots that the next attempt may need.
    fn await_rest(&mut self, key: StageKey) {
        let until = self.now.elapsed.saturating_add(self.config.restore_grace);
        if let Some(vanished) = self.stage_mut(key).vanished_mut()
            && vanished.until.is_none()
        {
            vanished.until = Some(until);
            self.timers.arm(until, Timer::Regroup(key));
        }
    }

    /// The rest of an attempt was waited for long enough. Where nothing of it is left, it waits for no slot either, and may still
    /// come back.
    pub(crate) fn regroup_due(&mut self, key: StageKey) {
        let now = self.now.elapsed;
        let attempt = self.stages[&key].attempt();
        let Some(vanished) = self.stage_mut(key).vanished_mut() else {
            return;
        };
        if vanished.until.take_if(|until| *until <= now).is_none() {
            return;
        }
        let open = vanished.running.open_seats(attempt);
        if open.iter().any(|(seat, name)| self.holds(name, *seat)) {
            self.disband(key, "the rest of its gang did not come back");
        }
    }

    /// Gives an attempt up that vanished: what is left of it is told to stop.
    pub(crate) fn disband(&mut self, key: StageKey, reason: &str) {
        if let Some(running) = self.take_vanished(key).map(|vanished| vanished.running) {
            let open = running.open_seats(self.stages[&key].attempt());
            self.stop_all(open, reason);
        }
    }

    /// Makes an attempt that vanished the current one again, and nothing was lost.
    pub(crate) fn reunite(&mut self, key: StageKey) {
        let Some(Vanished {
            running, gone, loss, ..
        }) = self.take_vanished(key)
        else {
            return;
        };
        self.forgive(&gone, key);
        self.set_wait(key, Wait::Idle);
        let stage = self.stages.get_mut(&key).expect("a planned stage exists");
        if loss {
            stage.losses -= 1;
            self.counters.losses -= 1;
        } else {
            stage.returns -= 1;
            self.counters.returns -= 1;
        }
        stage.state = State::Running(running);
        self.arm_deadline(key);
        self.keep_stage(key);
        self.mind_drains(key);
    }

    fn take_vanished(&mut self, key: StageKey) -> Option<Vanished> {
        let State::Pending(pending) = &mut self.stage_mut(key).state else {
            return None;
        };
        let vanished = *pending.vanished.take()?;
        if let Some(until) = vanished.until {
            self.timers.disarm(until, Timer::Regroup(key));
        }
        Some(vanished)
    }

    fn holds(&self, name: &WorkerId, seat: Seat) -> bool {
        let holds = |worker: &Worker| worker.held.contains_key(&seat);
        self.workers.get(name).is_some_and(holds)
    }

    /// Whether a seat is one of an attempt that vanished, on this worker, and not done.
    pub(crate) fn is_parted(&self, name: &WorkerId, seat: Seat) -> bool {
        let stage = self.stages.get(&seat.attempt.stage);
        stage.is_some_and(|stage| {
            let of_it = |running: &Running| running.is_open(seat.rank, name);
            stage.attempt() == seat.attempt && stage.vanished().is_some_and(|gone| of_it(&gone.running))
        })
    }
}
