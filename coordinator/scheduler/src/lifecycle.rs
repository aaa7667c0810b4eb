//! What a stage goes through: waiting, done, given up.

use std::time::Duration;

use nettailor_domain::explain::What;
use nettailor_domain::ids::{StageKey, WorkerId};
use nettailor_domain::stage::{StageKind, StageResult};
use nettailor_domain::trainer::{Failure, FailureClass};

use crate::line::{Need, Ticket, Turn};
use crate::record::{JobState, Subject};
use crate::sabotage::{self, Sabotage};
use crate::scheduler::Scheduler;
use crate::stage::{Done, Ending, Failed, Pending, Running, Stage, State, Wait};
use crate::timers::Timer;
use crate::words;

impl Scheduler {
    /// Brings what a pending stage waits for up to date: after its users changed, a parent was done, or a wait ended.
    pub(crate) fn settle(&mut self, key: StageKey) {
        if self.stages[&key].users.is_empty() {
            self.disband(key, &Ending::Unneeded.words());
        }
        let stage = &self.stages[&key];
        let State::Pending(Pending { wait, .. }) = &stage.state else {
            return;
        };
        let next = match (stage.users.first(), wait) {
            (None, _) => Wait::Idle,
            (Some(_), Wait::BackOff(until)) if *until > self.now.elapsed => Wait::BackOff(*until),
            (Some(_), Wait::SetAside(until)) if *until > self.now.elapsed => Wait::SetAside(*until),
            (Some(_), _) if stage.parents.iter().any(|parent| !self.stages[parent].is_done()) => {
                Wait::Parents
            }
            (Some(turn), _) => {
                let record = &self.job_at(turn.place.sequence).record;
                Wait::Slots(Ticket {
                    user: record.user.clone(),
                    turn,
                    need: Need {
                        labels: record.task.resources.labels.clone(),
                        least: stage.width().min(),
                    },
                })
            }
        };
        if next == *wait {
            return;
        }
        let ready = matches!(next, Wait::Slots(_));
        let was_ready = matches!(wait, Wait::Slots(_));
        let released = ready && stage.kind == StageKind::Select;
        let (number, checkpoint) = (stage.attempts, stage.checkpoint);
        if ready && !was_ready {
            let reason = match checkpoint {
                Some(kept) => format!("goes on after epoch {}", kept.checkpoint.epoch),
                None => "everything that it needs is there".to_owned(),
            };
            self.happened(Subject::Stage(key), What::Ready, number, reason);
        }
        let infeasible = if released { self.choice(key).err() } else { None };
        self.set_wait(key, next);
        self.show(key);
        if let Some(failure) = infeasible {
            self.give_up(key, None, failure);
        }
    }

    /// Changes what a pending stage waits for, and with it the line and the timers.
    pub(crate) fn set_wait(&mut self, key: StageKey, next: Wait) {
        let now = self.now.elapsed;
        let stage = self.stages.get_mut(&key).expect("a planned stage exists");
        let State::Pending(pending) = &mut stage.state else {
            return;
        };
        let before = std::mem::replace(&mut pending.wait, next.clone());
        match next {
            Wait::Slots(_) => drop(pending.in_line.get_or_insert(now)),
            _ => (pending.passed_over, pending.in_line) = (None, None),
        }
        match before {
            Wait::Slots(ticket) => {
                self.line.remove(&ticket, key);
                self.rank(&ticket.user);
            }
            Wait::BackOff(until) | Wait::SetAside(until) => self.timers.disarm(until, Timer::BackOff(key)),
            Wait::Idle | Wait::Parents => {}
        }
        match next {
            Wait::Slots(ticket) => {
                self.line.insert(&ticket, key);
                self.rank(&ticket.user);
            }
            Wait::BackOff(_) if sabotage::is(Sabotage::Forgotten) => {}
            Wait::BackOff(until) | Wait::SetAside(until) => self.timers.arm(until, Timer::BackOff(key)),
            Wait::Idle | Wait::Parents => {}
        }
    }

    /// Makes a running stage pending and says how it ran; `None` for one that does not run.
    pub(crate) fn stop_running(&mut self, key: StageKey) -> Option<Running> {
        let stage = self.stage_mut(key);
        stage.running()?;
        let before = std::mem::replace(&mut stage.state, State::Pending(Pending::default()));
        let State::Running(mut running) = before else {
            return None;
        };
        if let Some(at) = running.deadline.take() {
            self.timers.disarm(at, Timer::Deadline(key));
        }
        if let Some(yielding) = running.yielding.take() {
            self.timers.disarm(yielding.by, Timer::Yield(key));
        }
        Some(running)
    }

    /// All ranks of a stage's current attempt are done.
    pub(crate) fn complete(&mut self, key: StageKey, result: Box<StageResult>) {
        let running = self.stop_running(key);
        let seconds = result.seconds;
        let workers: Vec<WorkerId> = running.iter().flat_map(Running::workers).cloned().collect();
        self.go_on_from(key, None);
        let latest_job = self.jobs.last_key_value().map_or(0, |(last, _)| *last);
        let stage = self.stage_mut(key);
        stage.state = State::Done(Done {
            result,
            latest_job,
            workers: workers.clone(),
        });
        let users: Vec<Turn> = stage.users.iter().collect();
        let children = stage.children.clone();
        let (number, kind) = (stage.attempts, stage.kind);
        self.counters.finished += 1;
        self.happened(
            Subject::Stage(key),
            What::Done,
            number,
            format!("in {seconds:.1} s"),
        );
        let arch = self.planned_by(key).arch;
        self.durations.add(kind, arch, seconds);
        for worker in &workers {
            self.clear(worker);
        }
        self.keep_stage(key);
        for child in children {
            self.settle(child);
        }
        for turn in users {
            if self.last_key(turn.place.sequence) == key {
                self.succeed(turn.place.sequence);
            }
        }
    }

    /// A stage cannot be done: every live job that asks for it fails.
    pub(crate) fn give_up(&mut self, key: StageKey, worker: Option<WorkerId>, failure: Failure) {
        self.disband(key, &failure.message);
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
        let number = stage.attempts;
        stage.state = State::Failed(Failed { failure, worker });
        let users: Vec<Turn> = stage.users.iter().collect();
        self.happened(Subject::Stage(key), What::Failed, number, reason.clone());
        self.keep_stage(key);
        for turn in users {
            self.end_job(
                turn.place.sequence,
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
            .map(|turn| {
                self.job_at(turn.place.sequence)
                    .record
                    .task
                    .resources
                    .max_attempts
            })
            .max()
            .unwrap_or(1)
    }

    /// Minutes that an attempt may take: what the most patient of the live jobs allows.
    fn stage_minutes(&self, key: StageKey) -> Option<u32> {
        let users = self.stages[&key].users.iter();
        users
            .map(|turn| {
                self.job_at(turn.place.sequence)
                    .record
                    .task
                    .resources
                    .stage_minutes
            })
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
        let minutes = self.stage_minutes(key);
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
        // Where nobody asks for it, as in a pause, it was about to make room anyway.
        self.end_attempt(
            key,
            minutes.map_or(Ending::Yield, |minutes| Ending::Deadline { minutes }),
        );
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
