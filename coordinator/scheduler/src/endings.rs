//! How attempts end without a result: by a fault, by a loss, given back.

use std::time::Duration;

use nettailor_domain::explain::What;
use nettailor_domain::ids::{Seat, StageKey, WorkerId};
use nettailor_domain::trainer::{Failure, FailureClass};

use crate::config::Config;
use crate::record::{KeptCheckpoint, Subject};
use crate::sabotage::{self, Sabotage};
use crate::scheduler::Scheduler;
use crate::stage::{Ending, Pending, Running, Setback, State, Wait};
use crate::words;
use crate::worker::HoldState;

impl Scheduler {
    /// A rank of a stage's current attempt failed by its own fault.
    pub(crate) fn fault(&mut self, seat: Seat, failure: Failure) {
        let stage = &self.stages[&seat.attempt.stage];
        if stage
            .running()
            .is_some_and(|running| running.ending == Some(Ending::Yield))
        {
            // However it took being told to stop.
            return self.give_back(seat, failure);
        }
        let Some(running) = self.unassign(seat, &failure.message) else {
            return;
        };
        let worker = Some(running.ranks[seat.rank as usize].worker.clone());
        let failure = match running.ending {
            Some(Ending::Deadline { minutes }) => Failure {
                class: FailureClass::Deadline,
                message: format!(
                    "it was stopped because it ran for longer than {minutes} min (resources.stage_minutes)"
                ),
            },
            Some(Ending::Unneeded | Ending::Yield) | None => failure,
        };
        self.count_fault(seat, worker, failure);
    }

    /// A rank says why an attempt ended whose ranks had lost each other, and of which no other has followed: then that is what
    /// it ended by, as if it had been said first.
    pub(crate) fn explain_loss(&mut self, seat: Seat, worker: &WorkerId, failure: Failure) {
        let key = seat.attempt.stage;
        let Some(stage) = self.stages.get_mut(&key) else {
            return;
        };
        let State::Pending(Pending {
            setback: Some(Setback { worker: None, .. }),
            ..
        }) = stage.state
        else {
            return;
        };
        // What was forgiven meanwhile, as one worker's departure, is not to be explained.
        let explains = failure.class != FailureClass::Lost && stage.losses > 0;
        if explains && stage.attempt() == seat.attempt && !stage.users.is_empty() {
            stage.losses -= 1;
            self.counters.losses -= 1;
            self.keep_stage(key);
            self.count_fault(seat, Some(worker.clone()), failure);
        }
    }

    /// A pending stage's latest attempt ended by its own fault on this worker.
    fn count_fault(&mut self, seat: Seat, worker: Option<WorkerId>, failure: Failure) {
        let key = seat.attempt.stage;
        self.counters.faults += 1;
        let most = self.max_attempts(key);
        let stage = self.stage_mut(key);
        stage.faults += 1;
        let faults = stage.faults;
        if let Some(worker) = &worker {
            self.strike(worker, key, failure.class);
        }
        if failure.class == FailureClass::Input || faults >= most {
            return self.give_up(key, worker, failure);
        }
        // What it began with may be what broke it, unless it came far enough to leave another.
        let own = |kept: &KeptCheckpoint| kept.attempt == seat.attempt.number;
        let kept = self.stages[&key].checkpoint.filter(own);
        if failure.class == FailureClass::Internal {
            self.go_on_from(key, kept);
        }
        let doubled = self.config.retry_first.saturating_mul(1 << (faults - 1).min(16));
        self.set_back(
            key,
            Setback { worker, failure },
            doubled.min(self.config.retry_longest),
        );
    }

    /// A stage's current attempt is lost for all: a worker is back without this rank, or ranks lost each other, with this worker
    /// away. That counts as a loss if the rank ran: it may be what ended the worker.
    pub(crate) fn lose(&mut self, seat: Seat, worker: Option<WorkerId>, message: &str, wait: Duration) {
        let excused = worker.as_ref().is_some_and(|name| self.is_excused(name));
        if let Some(running) = self.unassign(seat, message) {
            let loss = !excused && running.ranks[seat.rank as usize].reached;
            self.count_lost(seat.attempt.stage, worker, message, loss, wait);
        }
    }

    /// A pending stage's latest attempt was lost. It is given up where that is a loss, and one too many; else it is nobody's doing.
    pub(crate) fn count_lost(
        &mut self,
        key: StageKey,
        worker: Option<WorkerId>,
        message: &str,
        loss: bool,
        wait: Duration,
    ) {
        let lost = |message: String| Failure {
            class: FailureClass::Lost,
            message,
        };
        if sabotage::is(Sabotage::Blamed) {
            let attempt = self.stages[&key].attempt();
            return self.count_fault(Seat { attempt, rank: 0 }, worker, lost(message.to_owned()));
        }
        let stage = self.stage_mut(key);
        let number = stage.attempts;
        let got_on = stage.checkpoint.is_some_and(|kept| kept.attempt == number);
        if loss {
            // One that gets on does not end its workers.
            stage.losses = if got_on { 1 } else { stage.losses + 1 };
            self.counters.losses += 1;
            if let Some(worker) = &worker {
                self.strike(worker, key, FailureClass::Lost);
            }
        } else {
            self.count_return(key);
        }
        let failure = lost(message.to_owned());
        self.set_back(key, Setback { worker, failure }, wait);
        self.set_aside(key);
    }

    /// A stage that keeps losing its workers may be what ends them: it is left alone for a while, longer each time. It never
    /// fails by that.
    fn set_aside(&mut self, key: StageKey) {
        let Config {
            losses_in_a_row,
            set_aside_first,
            set_aside_longest,
            ..
        } = self.config;
        let stage = &self.stages[&key];
        let State::Pending(_) = stage.state else {
            return;
        };
        let Some(more) = stage.losses.checked_sub(losses_in_a_row) else {
            return;
        };
        let time = set_aside_first
            .saturating_mul(1 << more.min(16))
            .min(set_aside_longest);
        let reason = format!(
            "it lost {} workers in a row and may be what ends them: look at their logs and memory; tried again in {}",
            stage.losses,
            words::until(time, Duration::ZERO)
        );
        let number = stage.attempts;
        self.happened(Subject::Stage(key), What::Waits, number, reason);
        self.set_wait(key, Wait::SetAside(self.now.elapsed.saturating_add(time)));
    }

    /// Wait before a stage is placed again whose worker was lost: none for the first time.
    pub(crate) fn loss_wait(&self, key: StageKey) -> Duration {
        let stage = &self.stages[&key];
        if stage.losses + stage.returns == 0 {
            Duration::ZERO
        } else {
            self.config.loss_wait
        }
    }

    /// A worker gave a rank of a stage's current attempt back. That is nobody's fault, however often it happens.
    pub(crate) fn give_back(&mut self, seat: Seat, failure: Failure) {
        let key = seat.attempt.stage;
        let Some(running) = self.unassign(seat, &failure.message) else {
            return;
        };
        let worker = Some(running.ranks[seat.rank as usize].worker.clone());
        self.count_return(key);
        let wait = match running.ending {
            // It made room where it was; elsewhere it may go on at once.
            Some(Ending::Yield) => Duration::ZERO,
            _ => self.config.loss_wait,
        };
        self.set_back(key, Setback { worker, failure }, wait);
    }

    fn count_return(&mut self, key: StageKey) {
        self.counters.returns += 1;
        self.stage_mut(key).returns += 1;
    }

    /// Makes a running stage pending because one of its ranks ended without being done: the others are told to stop. Says how
    /// it ran; `None` where nobody asks for the stage, or the attempt was ended for that: then how it ended does not count,
    /// and it starts over when somebody asks.
    fn unassign(&mut self, seat: Seat, message: &str) -> Option<Running> {
        let key = seat.attempt.stage;
        let running = self.stop_running(key)?;
        self.keep_stage(key);
        let worker = &running.ranks[seat.rank as usize].worker;
        let reason = format!("rank {} on {worker} ended: {message}", seat.rank);
        self.stop_all(running.open_seats(seat.attempt), &reason);
        self.happened(Subject::Stage(key), What::Ended, seat.attempt.number, reason);
        if self.stages[&key].users.is_empty() || running.ending == Some(Ending::Unneeded) {
            self.settle(key);
            return None;
        }
        Some(running)
    }

    /// Ends a running attempt before its time: all ranks are told to stop.
    pub(crate) fn end_attempt(&mut self, key: StageKey, ending: Ending) {
        let stage = self.stage_mut(key);
        let attempt = stage.attempt();
        if let State::Running(running) = &mut stage.state {
            running.ending = Some(ending);
            let open = running.open_seats(attempt);
            self.stop_all(open, &ending.words());
        }
    }

    /// Tells those of these ranks to stop that take a slot and were not told before.
    pub(crate) fn stop_all(&mut self, seats: Vec<(Seat, WorkerId)>, reason: &str) {
        for (seat, name) in seats {
            let worker = self.workers.get(&name);
            let hold = worker.and_then(|worker| worker.held.get(&seat));
            if hold.is_some_and(|hold| matches!(hold.state, HoldState::Working)) {
                self.stop(&name, seat, reason);
            }
        }
    }

    /// Lets a pending stage wait before its next attempt.
    fn set_back(&mut self, key: StageKey, setback: Setback, wait: Duration) {
        if let State::Pending(pending) = &mut self.stage_mut(key).state {
            pending.setback = Some(setback);
        }
        if wait > Duration::ZERO {
            self.set_wait(key, Wait::BackOff(self.now.elapsed.saturating_add(wait)));
        } else {
            self.settle(key);
        }
    }
}
