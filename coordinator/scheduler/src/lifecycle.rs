//! What a stage goes through: waiting, done, set back, given up.

use std::time::Duration;

use nettailor_domain::ids::{Seat, StageKey, WorkerId};
use nettailor_domain::stage::{StageKind, StageResult};
use nettailor_domain::trainer::{Failure, FailureClass};

use crate::record::{JobState, KeptCheckpoint};
use crate::sabotage::{self, Sabotage};
use crate::scheduler::Scheduler;
use crate::stage::{Done, Ending, Failed, Pending, Place, Running, Setback, Stage, State, Wait};
use crate::timers::Timer;
use crate::words;
use crate::worker::Hold;

impl Scheduler {
    /// Brings what a pending stage waits for up to date: after its users changed, a parent was done, or a wait ended.
    pub(crate) fn settle(&mut self, key: StageKey) {
        let stage = &self.stages[&key];
        let State::Pending(Pending { wait, .. }) = &stage.state else {
            return;
        };
        let next = match (stage.users.first(), *wait) {
            (None, _) => Wait::Idle,
            (Some(_), Wait::BackOff(until)) if until > self.now.elapsed => Wait::BackOff(until),
            (Some(_), _) if stage.parents.iter().any(|parent| !self.stages[parent].is_done()) => {
                Wait::Parents
            }
            (Some(place), _) => Wait::Slots {
                place,
                least: stage.width().min(),
            },
        };
        if next == *wait {
            return;
        }
        let released = matches!(next, Wait::Slots { .. }) && stage.kind == StageKind::Select;
        let infeasible = if released { self.choice(key).err() } else { None };
        self.set_wait(key, next);
        self.show(key);
        if let Some(failure) = infeasible {
            self.give_up(key, None, failure);
        }
    }

    /// Changes what a pending stage waits for, and with it the line and the timers.
    pub(crate) fn set_wait(&mut self, key: StageKey, next: Wait) {
        let stage = self.stages.get_mut(&key).expect("a planned stage exists");
        let State::Pending(pending) = &mut stage.state else {
            return;
        };
        match std::mem::replace(&mut pending.wait, next) {
            Wait::Slots { place, least } => self.line.remove(least, place, key),
            Wait::BackOff(until) => self.timers.disarm(until, Timer::BackOff(key)),
            Wait::Idle | Wait::Parents => {}
        }
        if !matches!(next, Wait::Slots { .. }) {
            pending.passed_over = None;
        }
        match next {
            Wait::Slots { place, least } => self.line.insert(least, place, key),
            Wait::BackOff(_) if sabotage::is(Sabotage::Forgotten) => {}
            Wait::BackOff(until) => self.timers.arm(until, Timer::BackOff(key)),
            Wait::Idle | Wait::Parents => {}
        }
    }

    /// Makes a running stage pending and says how it ran; `None` for one that does not run.
    fn stop_running(&mut self, key: StageKey) -> Option<Running> {
        let stage = self.stage_mut(key);
        stage.running()?;
        let before = std::mem::replace(&mut stage.state, State::Pending(Pending::default()));
        let State::Running(mut running) = before else {
            return None;
        };
        if let Some(at) = running.deadline.take() {
            self.timers.disarm(at, Timer::Deadline(key));
        }
        Some(running)
    }

    /// All ranks of a stage's current attempt are done.
    pub(crate) fn complete(&mut self, key: StageKey, result: Box<StageResult>) {
        let running = self.stop_running(key);
        let workers = running.iter().flat_map(Running::workers).cloned().collect();
        self.go_on_from(key, None);
        let latest_job = self.jobs.last_key_value().map_or(0, |(last, _)| *last);
        let stage = self.stage_mut(key);
        stage.state = State::Done(Done {
            result,
            latest_job,
            workers,
        });
        let users: Vec<Place> = stage.users.iter().collect();
        let children = stage.children.clone();
        self.counters.finished += 1;
        self.keep_stage(key);
        for child in children {
            self.settle(child);
        }
        for place in users {
            if self.last_key(place.sequence) == key {
                self.succeed(place.sequence);
            }
        }
    }

    /// A rank of a stage's current attempt failed by its own fault.
    pub(crate) fn fault(&mut self, seat: Seat, failure: Failure) {
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
            Some(Ending::Unneeded) | None => failure,
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
        let explains = failure.class != FailureClass::Lost;
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
        if failure.class == FailureClass::Input || faults >= most {
            return self.give_up(key, worker, failure);
        }
        // What it began with may be what broke it, unless it came far enough to leave another.
        let own = |kept: &KeptCheckpoint| kept.attempt == seat.attempt.number;
        let kept = stage.checkpoint.filter(own);
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

    /// A rank of a stage's current attempt vanished with this worker, or lost another one that did. That counts as a loss if
    /// it ran: it may be what ended the worker.
    pub(crate) fn lose(&mut self, seat: Seat, worker: Option<WorkerId>, message: &str, wait: Duration) {
        let key = seat.attempt.stage;
        let Some(running) = self.unassign(seat, message) else {
            return;
        };
        let lost = |message: String| Failure {
            class: FailureClass::Lost,
            message,
        };
        if sabotage::is(Sabotage::Blamed) {
            return self.count_fault(seat, worker, lost(message.to_owned()));
        }
        if running.ranks[seat.rank as usize].reached {
            self.counters.losses += 1;
            let most = self.config.max_losses;
            let stage = self.stage_mut(key);
            stage.losses += 1;
            let losses = stage.losses;
            if losses >= most {
                let advice = "it keeps losing its workers and may be what ends them: look at the worker's log and memory";
                let failure = lost(format!("{advice}; lost {losses} times, last: {message}"));
                return self.give_up(key, worker, failure);
            }
        } else {
            self.count_return(key);
        }
        // Where others ran, they were told to stop: it cannot be taken up again.
        let alone = running.open_seats(seat.attempt).len() == 1;
        if let State::Pending(pending) = &mut self.stage_mut(key).state {
            pending.vanished = alone.then_some(running);
        }
        let failure = lost(message.to_owned());
        self.set_back(key, Setback { worker, failure }, wait);
    }

    /// A worker gave a rank of a stage's current attempt back. That is nobody's fault, however often it happens.
    pub(crate) fn give_back(&mut self, seat: Seat, failure: Failure) {
        let key = seat.attempt.stage;
        let Some(running) = self.unassign(seat, &failure.message) else {
            return;
        };
        let worker = Some(running.ranks[seat.rank as usize].worker.clone());
        self.count_return(key);
        self.set_back(key, Setback { worker, failure }, self.config.loss_wait);
    }

    fn count_return(&mut self, key: StageKey) {
        self.counters.returns += 1;
        self.stage_mut(key).returns += 1;
    }

    /// Takes up an attempt whose one open rank vanished with its worker, now that the worker brings it back. As long as no
    /// other has started, it is the stage's latest, and nothing was lost.
    pub(crate) fn adopt(&mut self, worker: &WorkerId, seat: Seat) {
        let key = seat.attempt.stage;
        let Some(stage) = self.stages.get_mut(&key) else {
            return;
        };
        let wanted = stage.attempt() == seat.attempt && !stage.users.is_empty();
        let State::Pending(pending) = &mut stage.state else {
            return;
        };
        let same = |running: &mut Running| wanted && running.is_open(seat.rank, worker);
        let Some(running) = pending.vanished.take_if(same) else {
            return;
        };
        self.set_wait(key, Wait::Idle);
        let stage = self.stage_mut(key);
        if running.ranks[seat.rank as usize].reached {
            stage.losses -= 1;
        } else {
            stage.returns -= 1;
        }
        stage.state = State::Running(running);
        self.counters.adopted += 1;
        self.arm_deadline(key);
        self.keep_stage(key);
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
    fn stop_all(&mut self, seats: Vec<(Seat, WorkerId)>, reason: &str) {
        for (seat, name) in seats {
            let worker = self.workers.get(&name);
            if let Some(Hold::Working) = worker.and_then(|worker| worker.held.get(&seat)) {
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

    /// A stage cannot be done: every live job that asks for it fails.
    fn give_up(&mut self, key: StageKey, worker: Option<WorkerId>, failure: Failure) {
        self.set_wait(key, Wait::Idle);
        let finished_ms = self.now.wall_ms;
        // Asked for anew, it begins anew, unless time or workers were all that it lacked.
        if !matches!(failure.class, FailureClass::Deadline | FailureClass::Lost) {
            self.go_on_from(key, None);
        }
        let stage = self.stage_mut(key);
        let reason = failed_reason(stage, &failure);
        let classless = sabotage::is(Sabotage::Classless);
        let class = if classless {
            FailureClass::Internal
        } else {
            failure.class
        };
        stage.state = State::Failed(Failed { failure, worker });
        let users: Vec<Place> = stage.users.iter().collect();
        self.keep_stage(key);
        for place in users {
            self.end_job(
                place.sequence,
                JobState::Failed {
                    class,
                    reason: reason.clone(),
                    finished_ms,
                },
            );
        }
    }

    /// Attempts that may fail: what the most patient of the live jobs allows.
    pub(crate) fn max_attempts(&self, key: StageKey) -> u32 {
        let users = self.stages[&key].users.iter();
        users
            .map(|place| self.job_at(place.sequence).record.task.resources.max_attempts)
            .max()
            .unwrap_or(1)
    }

    /// Minutes that an attempt may take: what the most patient of the live jobs allows.
    fn stage_minutes(&self, key: StageKey) -> Option<u32> {
        let users = self.stages[&key].users.iter();
        users
            .map(|place| self.job_at(place.sequence).record.task.resources.stage_minutes)
            .max()
    }

    /// Arms a running stage's deadline, in place of an earlier one; an attempt that is being stopped has none.
    pub(crate) fn arm_deadline(&mut self, key: StageKey) {
        let Some(minutes) = self.stage_minutes(key) else {
            return;
        };
        let stage = self.stages.get_mut(&key).expect("a planned stage exists");
        let State::Running(running) = &mut stage.state else {
            return;
        };
        if let Some(at) = running.deadline.take() {
            self.timers.disarm(at, Timer::Deadline(key));
        }
        if running.ending.is_none() {
            let at = running
                .started
                .saturating_add(Duration::from_secs(60 * u64::from(minutes)));
            running.deadline = Some(at);
            self.timers.arm(at, Timer::Deadline(key));
        }
    }

    /// A running stage's deadline timer fired. A job that allows more may have come since it was armed.
    pub(crate) fn deadline_due(&mut self, key: StageKey) {
        self.arm_deadline(key);
        let minutes = self.stage_minutes(key).unwrap_or(0);
        let now = self.now.elapsed;
        let stage = self.stages.get_mut(&key).expect("a planned stage exists");
        let State::Running(running) = &mut stage.state else {
            return;
        };
        let Some(at) = running.deadline.take_if(|at| *at <= now) else {
            return;
        };
        self.timers.disarm(at, Timer::Deadline(key));
        self.show(key);
        self.end_attempt(key, Ending::Deadline { minutes });
    }
}

/// Why jobs fail that ask for a stage which failed.
fn failed_reason(stage: &Stage, failure: &Failure) -> String {
    let class = words::class(failure.class);
    let kind = stage.kind;
    let message = &failure.message;
    match stage.faults + stage.losses {
        0 => format!("{kind} failed ({class}): {message}"),
        1 => format!("{kind} failed ({class}) after 1 attempt: {message}"),
        attempts => format!("{kind} failed ({class}) after {attempts} attempts: {message}"),
    }
}
