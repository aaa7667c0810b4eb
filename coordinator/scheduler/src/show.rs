//! The read side: what an API asks the scheduler for.

use nettailor_domain::ids::{JobId, StageKey, TaskName};
use nettailor_domain::model::ModelRecord;

use crate::error::FindError;
use crate::record::{JobRecord, JobState, StageRecord};
use crate::scheduler::Scheduler;
use crate::stage::{Ending, Pending, Running, Stage, State, Wait};
use crate::view::{Counters, JobPhase, JobView, RunningView, StagePhase, StageView, WorkerPhase, WorkerView};
use crate::words::{class, count, time_of_day, until};
use crate::worker::{Hold, Link, Worker};

/// What the workers offer together.
struct Capacity {
    ready: usize,
    draining: usize,
    slots: u32,
    used: u32,
}

impl Scheduler {
    /// One job with its stages.
    pub fn job(&self, id: &JobId) -> Option<JobView> {
        let job = self.jobs.get(id)?;
        let capacity = self.capacity();
        let stages = job
            .stages
            .iter()
            .map(|key| self.stage_view(&self.stages[key], &capacity))
            .collect();
        Some(JobView {
            stages,
            ..self.job_view(job, &capacity)
        })
    }

    /// All jobs, newest first, without their stages.
    pub fn jobs(&self) -> impl Iterator<Item = JobView> + '_ {
        let capacity = self.capacity();
        self.by_sequence
            .values()
            .rev()
            .map(move |id| self.job_view(&self.jobs[id], &capacity))
    }

    /// The job that has this id, or else the only one whose id starts like this.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find_job(&self, prefix: &str) -> Result<&JobId, FindError> {
        let not_found = || FindError::NotFound(prefix.to_owned());
        // The start of an id is itself an id; anything else starts none.
        let start: JobId = prefix.parse().map_err(|_| not_found())?;
        let mut matches = self
            .jobs
            .range(start..)
            .map(|(id, _)| id)
            .take_while(|id| id.as_str().starts_with(prefix));
        let first = matches.next().ok_or_else(not_found)?;
        match matches.next() {
            Some(second) if first.as_str() != prefix => Err(FindError::Ambiguous {
                prefix: prefix.to_owned(),
                first: first.clone(),
                second: second.clone(),
            }),
            _ => Ok(first),
        }
    }

    /// A job as it is kept.
    pub fn job_record(&self, id: &JobId) -> Option<&JobRecord> {
        self.jobs.get(id)
    }

    /// A stage as it is kept: what it was to do, and its result once it is done.
    pub fn stage_record(&self, key: &StageKey) -> Option<StageRecord> {
        self.stages.get(key).map(Stage::record)
    }

    /// The live jobs that use a stage, the first submitted first.
    pub fn stage_jobs(&self, key: &StageKey) -> impl Iterator<Item = &JobId> + '_ {
        let users = self.stages.get(key).into_iter().flat_map(|stage| &stage.users);
        users.map(|place| &self.by_sequence[&place.sequence])
    }

    /// Every published model, by task and version.
    pub fn models(&self) -> impl Iterator<Item = &ModelRecord> + '_ {
        self.models.values().flatten()
    }

    /// One published model.
    pub fn model(&self, task: &TaskName, version: u32) -> Option<&ModelRecord> {
        self.models.get(task)?.get((version as usize).checked_sub(1)?)
    }

    /// Workers that are connected, or waited for, by name.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView> + '_ {
        self.workers.iter().map(|(id, worker)| {
            let (phase, reason) = self.worker_phase(worker);
            WorkerView {
                id: id.clone(),
                phase,
                reason,
                slots: worker.slots,
                slots_used: worker.used(),
                threads_per_slot: worker.threads_per_slot,
                device: worker.device.clone(),
                version: worker.version.clone(),
                running: self.running_on(worker),
                cached_blobs: worker.cached.len(),
                last_seen_ms: worker.last_seen_ms,
            }
        })
    }

    /// What was dropped and what went wrong since this scheduler was made.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn capacity(&self) -> Capacity {
        let mut capacity = Capacity {
            ready: 0,
            draining: 0,
            slots: 0,
            used: 0,
        };
        for worker in self.workers.values() {
            match worker.link {
                Link::Ready(_) => {
                    capacity.ready += 1;
                    capacity.slots += worker.slots;
                    capacity.used += worker.used();
                }
                Link::Draining(_) => capacity.draining += 1,
                Link::Disconnected { .. } => {}
            }
        }
        capacity
    }

    fn job_view(&self, job: &JobRecord, capacity: &Capacity) -> JobView {
        let (phase, reason, finished_ms, model_version) = match &job.state {
            JobState::Active => {
                let phase = if job.stages_run > 0 {
                    JobPhase::Running
                } else {
                    JobPhase::Queued
                };
                (phase, self.active_reason(job, capacity), None, None)
            }
            JobState::Succeeded {
                model_version,
                finished_ms,
            } => {
                let reason = format!("published as {} version {model_version}", job.task.name);
                (
                    JobPhase::Succeeded,
                    reason,
                    Some(*finished_ms),
                    Some(*model_version),
                )
            }
            JobState::Failed { reason, finished_ms } => {
                (JobPhase::Failed, reason.clone(), Some(*finished_ms), None)
            }
            JobState::Cancelled { reason, finished_ms } => {
                let reason = if reason.is_empty() {
                    "on request".to_owned()
                } else {
                    reason.clone()
                };
                (
                    JobPhase::Cancelled,
                    format!("cancelled: {reason}"),
                    Some(*finished_ms),
                    None,
                )
            }
        };
        JobView {
            id: job.id.clone(),
            sequence: job.sequence,
            task: job.task.name.clone(),
            arch: job.arch,
            phase,
            reason,
            submitted_ms: job.submitted_ms,
            finished_ms,
            model_version,
            stages_run: job.stages_run,
            stage_count: job.stages.len(),
            stages: Vec::new(),
        }
    }

    /// What a live job is at: its first running stage, else the first that could run.
    fn active_reason(&self, job: &JobRecord, capacity: &Capacity) -> String {
        let stages = || job.stages.iter().map(|key| &self.stages[key]);
        let running = stages().filter(|stage| stage.running().is_some()).count();
        let next = stages()
            .find(|stage| stage.running().is_some())
            .or_else(|| stages().find(|stage| phase(stage) == StagePhase::Queued))
            .or_else(|| stages().find(|stage| !stage.is_done()));
        let more = if running > 1 {
            format!(" (and {} more)", running - 1)
        } else {
            String::new()
        };
        next.map_or_else(String::new, |stage| {
            format!("{} {}{more}", stage.kind(), self.stage_reason(stage, capacity))
        })
    }

    fn stage_view(&self, stage: &Stage, capacity: &Capacity) -> StageView {
        let worker = match &stage.state {
            State::Pending(pending) => pending.setback.as_ref().map(|setback| &setback.worker),
            State::Running(running) => Some(&running.worker),
            State::Done(done) => done.worker.as_ref(),
            State::Failed(failed) => failed.worker.as_ref(),
        };
        StageView {
            key: stage.planned.key,
            kind: stage.kind(),
            phase: phase(stage),
            reason: self.stage_reason(stage, capacity),
            attempt: stage.attempts,
            worker: worker.cloned(),
            result: stage.result().cloned().map(Box::new),
        }
    }

    fn stage_reason(&self, stage: &Stage, capacity: &Capacity) -> String {
        match &stage.state {
            State::Pending(pending) => self.pending_reason(stage, pending, capacity),
            State::Running(running) => self.running_reason(running),
            State::Done(done) => {
                let by = done
                    .worker
                    .as_ref()
                    .map_or_else(String::new, |worker| format!(" by {worker}"));
                format!("done{by} in {:.1} s", done.result.seconds)
            }
            State::Failed(failed) => format!(
                "failed ({}): {}",
                class(failed.failure.class),
                failed.failure.message
            ),
        }
    }

    fn pending_reason(&self, stage: &Stage, pending: &Pending, capacity: &Capacity) -> String {
        match pending.wait {
            Wait::Idle => "no live job asks for it".to_owned(),
            Wait::Parents => {
                let parents = stage.planned.parents.iter().map(|key| &self.stages[key]);
                let missing: Vec<String> = parents
                    .filter(|parent| !parent.is_done())
                    .map(|parent| parent.kind().to_string())
                    .collect();
                format!("waits for {}", missing.join(", "))
            }
            Wait::Slot(_) => {
                let slot = capacity.reason();
                let retry = self
                    .retry(stage, pending)
                    .map_or_else(String::new, |retry| format!("; {retry}"));
                format!("{slot}{retry}")
            }
            Wait::BackOff(at) => {
                let wait = until(at, self.now.elapsed);
                self.retry(stage, pending).map_or_else(
                    || format!("is retried in {wait}"),
                    |retry| retry.replacen(" after:", &format!(" in {wait} after:"), 1),
                )
            }
        }
    }

    /// Which retry the next attempt is, and of what.
    fn retry(&self, stage: &Stage, pending: &Pending) -> Option<String> {
        let setback = pending.setback.as_ref()?;
        let message = &setback.failure.message;
        Some(match setback.failure.class {
            nettailor_domain::trainer::FailureClass::Lost => {
                format!(
                    "loss {} of at most {} after: {message}",
                    stage.losses, self.config.max_losses
                )
            }
            _ => format!(
                "retry {} of {} after: {message}",
                stage.faults + 1,
                self.max_attempts(stage.planned.key)
            ),
        })
    }

    fn running_reason(&self, running: &Running) -> String {
        let name = &running.worker;
        let link = self.workers.get(name).map(|worker| &worker.link);
        if let Some(Link::Disconnected { until: end }) = link {
            let left = until(*end, self.now.elapsed);
            return format!("{name} is disconnected; waiting for it until its lease ends in {left}");
        }
        match running.ending {
            None => format!("runs on {name} since {}", time_of_day(running.started_ms)),
            Some(Ending::Unneeded) => {
                format!("is being stopped on {name}: no live job asked for it any more")
            }
            Some(Ending::Deadline { minutes }) => {
                format!("is being stopped on {name}: it ran for longer than {minutes} min")
            }
        }
    }

    fn worker_phase(&self, worker: &Worker) -> (WorkerPhase, String) {
        let held = count(worker.held.len(), "attempt");
        match worker.link {
            Link::Ready(_) => (
                WorkerPhase::Ready,
                format!("{} of {} slots busy", worker.used(), worker.slots),
            ),
            Link::Draining(_) => (WorkerPhase::Draining, format!("takes no new work; {held} left")),
            Link::Disconnected { until: end } => {
                let left = until(end, self.now.elapsed);
                (
                    WorkerPhase::Disconnected,
                    format!("disconnected; {held} waited for until its lease ends in {left}"),
                )
            }
        }
    }

    fn running_on(&self, worker: &Worker) -> Vec<RunningView> {
        let describe = |(attempt, hold): (&nettailor_domain::ids::Attempt, &Hold)| {
            let stage = self.stages.get(&attempt.stage);
            let kind = stage.map_or_else(|| "unknown stage".to_owned(), |stage| stage.kind().to_string());
            let task = stage.and_then(|stage| stage.users.first());
            let task = task.map_or_else(String::new, |place| {
                format!("{}: ", self.job_at(place.sequence).task.name)
            });
            let stopping = if matches!(hold, Hold::Stopping { .. }) {
                ", stopping"
            } else {
                ""
            };
            let description = format!("{task}{kind}, attempt {}{stopping}", attempt.number);
            RunningView {
                attempt: *attempt,
                description,
            }
        };
        worker.held.iter().map(describe).collect()
    }
}

impl Capacity {
    /// Why a ready stage does not run.
    fn reason(&self) -> String {
        match self {
            Self {
                ready: 0,
                draining: 0,
                ..
            } => "waits: no worker is connected".to_owned(),
            Self {
                ready: 0, draining, ..
            } => {
                format!(
                    "waits: no worker takes new work, {} draining",
                    count(*draining, "worker")
                )
            }
            Self { slots, used, .. } => format!("waits for a free slot: {used} of {slots} busy"),
        }
    }
}

fn phase(stage: &Stage) -> StagePhase {
    match &stage.state {
        State::Pending(Pending { wait: Wait::Idle, .. }) => StagePhase::Idle,
        State::Pending(Pending {
            wait: Wait::Parents, ..
        }) => StagePhase::Waiting,
        State::Pending(_) => StagePhase::Queued,
        State::Running(_) => StagePhase::Running,
        State::Done(_) => StagePhase::Done,
        State::Failed(_) => StagePhase::Failed,
    }
}
