//! What people do to jobs and users besides submitting and cancelling.

use std::time::Duration;

use nettailor_domain::explain::What;
use nettailor_domain::ids::{JobId, StageKey};
use nettailor_domain::trainer::FailureClass;

use crate::error::Rejected;
use crate::line::Turn;
use crate::record::{JobState, Pause, Subject};
use crate::scheduler::Scheduler;
use crate::stage::{Cause, Ending, Place, State, Yielding};
use crate::timers::Timer;
use crate::words::{until, why};

/// A deadline so far away is none.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Scheduler {
    /// Changes a live job's priority, its deadline (from now), or both.
    pub(crate) fn update(
        &mut self,
        id: &JobId,
        priority: Option<i8>,
        deadline: Option<Duration>,
    ) -> Result<(), Rejected> {
        let sequence = self.live(id)?;
        let mut changed = Vec::new();
        if let Some(priority) = priority {
            changed.push(format!("priority {priority}"));
            self.set_priority(sequence, priority);
        }
        if let Some(deadline) = deadline {
            changed.push(match deadline {
                far if far >= NEVER => "no deadline".to_owned(),
                near => format!("deadline in {}", until(near, Duration::ZERO)),
            });
            self.disarm_deadline(sequence);
            self.status_mut(sequence).deadline = self.now.elapsed.saturating_add(deadline);
            self.arm_job_deadline(sequence);
        }
        self.happened(Subject::Job(sequence), What::Changed, 0, changed.join(", "));
        Ok(())
    }

    fn set_priority(&mut self, sequence: u64, priority: i8) {
        let job = self.job_at(sequence);
        let asks = job.asks();
        let workers = job.record.task.workers;
        let stages = job.record.stages.clone();
        let turns: Vec<Turn> = self.turns(sequence).collect();
        self.count_priority(sequence, false);
        self.status_mut(sequence).priority = priority;
        self.count_priority(sequence, true);
        if !asks {
            return;
        }
        let later: Vec<Turn> = self.turns(sequence).collect();
        for ((key, before), after) in stages.into_iter().zip(turns).zip(later) {
            let users = &mut self.stage_mut(key).users;
            users.remove(before, workers);
            users.insert(after, workers);
            self.settle(key);
        }
    }

    /// A live job has its priority from now on, or has not.
    pub(crate) fn count_priority(&mut self, sequence: u64, has: bool) {
        let priority = self.job_at(sequence).status.priority;
        let count = self.priorities.entry(priority).or_default();
        *count = if has { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.priorities.remove(&priority);
        }
    }

    /// The turns of a job's stages, in the order of its plan.
    pub(crate) fn turns(&self, sequence: u64) -> impl Iterator<Item = Turn> + use<> {
        let job = self.job_at(sequence);
        let priority = std::cmp::Reverse(job.status.priority);
        let turn = move |index| Turn {
            priority,
            place: Place { sequence, index },
        };
        (0..job.record.stages.len()).map(turn)
    }

    /// Lets a live job ask for nothing for a while. What runs for it alone ends after its next checkpoint.
    pub(crate) fn pause(&mut self, id: &JobId, reason: String, time: Duration) -> Result<(), Rejected> {
        let sequence = self.live(id)?;
        let until = self.now.elapsed.saturating_add(time);
        let asked = self.job_at(sequence).asks();
        self.disarm_pause(sequence);
        let words = why(&reason);
        let happened = format!("{words}; for {}", crate::words::until(time, Duration::ZERO));
        self.status_mut(sequence).paused = Some(Pause { until, reason });
        self.timers.arm(until, Timer::Resume(sequence));
        self.happened(Subject::Job(sequence), What::Paused, 0, happened);
        if asked {
            for key in self.leave_stages(sequence) {
                if self.stages[&key].running().is_some() && self.stages[&key].users.is_empty() {
                    self.ask_to_yield(key, Cause::Pause);
                }
                self.settle(key);
            }
        }
        Ok(())
    }

    /// Ends a job's pause; nothing changes where there is none.
    pub(crate) fn resume(&mut self, id: &JobId) -> Result<(), Rejected> {
        let sequence = self.live(id)?;
        self.end_pause(sequence, "on request");
        Ok(())
    }

    /// A paused job asks for its stages again.
    pub(crate) fn end_pause(&mut self, sequence: u64, why: &str) {
        let job = self.job_at(sequence);
        if !job.is_active() || job.asks() {
            return;
        }
        self.disarm_pause(sequence);
        self.status_mut(sequence).paused = None;
        self.happened(Subject::Job(sequence), What::Resumed, 0, why.to_owned());
        let stages = self.job_at(sequence).record.stages.clone();
        let turns: Vec<Turn> = self.turns(sequence).collect();
        for (key, turn) in stages.iter().zip(turns) {
            self.join_stage(*key, turn);
        }
        if self.last_stage(sequence).is_done() {
            return self.succeed(sequence);
        }
        for key in stages {
            self.settle(key);
        }
    }

    /// Takes a job off the users of its stages, which are given back to be settled.
    pub(crate) fn leave_stages(&mut self, sequence: u64) -> Vec<StageKey> {
        let record = &self.job_at(sequence).record;
        let (stages, workers) = (record.stages.clone(), record.task.workers);
        let turns: Vec<Turn> = self.turns(sequence).collect();
        for (key, turn) in stages.iter().zip(turns) {
            self.stage_mut(*key).users.remove(turn, workers);
        }
        stages
    }

    /// A job asks for a stage. One that was about to yield because nobody did goes on.
    pub(crate) fn join_stage(&mut self, key: StageKey, turn: Turn) {
        let workers = self.job_at(turn.place.sequence).record.task.workers;
        let stage = self.stage_mut(key);
        let renewed = stage.users.is_empty() && stage.renew();
        stage.users.insert(turn, workers);
        if let State::Running(running) = &mut stage.state
            && running.ending.is_none()
            && let Some(Yielding { by, .. }) = running
                .yielding
                .take_if(|yielding| yielding.cause == Cause::Pause)
        {
            self.timers.disarm(by, Timer::Yield(key));
            // After a restart without users it had none.
            self.arm_deadline(key);
            self.show(key);
            self.mind_drains(key);
        }
        if renewed {
            self.keep_stage(key);
        }
    }

    /// Has a running attempt end after its next checkpoint, so that little is lost.
    pub(crate) fn ask_to_yield(&mut self, key: StageKey, cause: Cause) {
        let now = self.now.elapsed;
        let by = now.saturating_add(self.config.yield_within);
        let stage = self.stage_mut(key);
        let attempt = stage.attempts;
        let State::Running(running) = &mut stage.state else {
            return;
        };
        if running.ending.is_some() || running.yielding.is_some() {
            return;
        }
        let words = cause.words();
        let preempted = matches!(cause, Cause::Preempted { .. });
        running.yielding = Some(Yielding { cause, by });
        if preempted {
            stage.preempted = Some(now);
        }
        self.timers.arm(by, Timer::Yield(key));
        self.happened(Subject::Stage(key), What::Yielding, attempt, words);
        self.show(key);
    }

    /// An attempt that is to yield has left a checkpoint, or its time is over.
    pub(crate) fn yield_now(&mut self, key: StageKey) {
        let running = self.stages[&key].running();
        if running.is_some_and(|running| running.yielding.is_some() && running.ending.is_none()) {
            self.end_attempt(key, Ending::Yield);
        }
    }

    /// A job's deadline has come.
    pub(crate) fn job_deadline_due(&mut self, sequence: u64) {
        let job = self.job_at(sequence);
        if !job.is_active() || job.status.deadline > self.now.elapsed {
            return;
        }
        let minutes = job.status.deadline.as_secs() / 60;
        let reason = format!(
            "it was not over by its deadline (resources.deadline_minutes, at {minutes} min of the coordinator's time)"
        );
        let finished_ms = self.now.wall_ms;
        let class = FailureClass::Deadline;
        self.end_job(
            sequence,
            JobState::Failed {
                class,
                reason,
                finished_ms,
            },
        );
    }

    pub(crate) fn arm_job_deadline(&mut self, sequence: u64) {
        let at = self.job_at(sequence).status.deadline;
        self.timers.arm(at, Timer::JobDeadline(sequence));
    }

    fn disarm_deadline(&mut self, sequence: u64) {
        let at = self.job_at(sequence).status.deadline;
        self.timers.disarm(at, Timer::JobDeadline(sequence));
    }

    fn disarm_pause(&mut self, sequence: u64) {
        if let Some(pause) = &self.job_at(sequence).status.paused {
            let until = pause.until;
            self.timers.disarm(until, Timer::Resume(sequence));
        }
    }

    /// Nothing is waited for on behalf of a job that is over.
    pub(crate) fn disarm_job(&mut self, sequence: u64) {
        self.count_priority(sequence, false);
        self.disarm_deadline(sequence);
        self.disarm_pause(sequence);
    }

    fn live(&self, id: &JobId) -> Result<u64, Rejected> {
        let sequence = self.sequences.get(id);
        let sequence = *sequence.ok_or_else(|| Rejected::UnknownJob(id.clone()))?;
        if self.job_at(sequence).is_active() {
            Ok(sequence)
        } else {
            Err(Rejected::JobOver(id.clone()))
        }
    }
}
