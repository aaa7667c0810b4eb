//! The read side: what an API asks the scheduler for.

use nettailor_domain::ids::{JobId, Seat, StageKey, TaskName, UserName, WorkerId};
use nettailor_domain::model::ModelRecord;
use nettailor_domain::stage::StageKind;

use crate::account::Account;
use crate::error::FindError;
use crate::job::Job;
use crate::reasons::{Capacity, phase};
use crate::record::{Cordon, JobRecord, JobState, JobStatus, StageRecord};
use crate::scheduler::Scheduler;
use crate::stage::{Stage, State};
use crate::view::{
    Counters, JobPhase, JobView, RunningView, StagePhase, StageView, UserView, WorkerPhase, WorkerView,
};
use crate::words::{cordoned, why};
use crate::worker::{Hold, HoldState, Worker};

impl Scheduler {
    /// One job with its stages.
    pub fn job(&self, id: &JobId) -> Option<JobView> {
        let job = self.jobs.get(self.sequences.get(id)?)?;
        let capacity = self.capacity();
        let stages = job
            .record
            .stages
            .iter()
            .map(|key| self.stage_view(&self.stages[key], job, &capacity))
            .collect();
        let mut view = JobView {
            stages,
            ..self.job_view(job, &capacity)
        };
        if view.phase == JobPhase::Paused {
            let idle = |stage: &&mut StageView| stage.phase == StagePhase::Idle;
            for stage in view.stages.iter_mut().filter(idle) {
                stage.reason = "waits for the job to be resumed".to_owned();
            }
        }
        Some(view)
    }

    /// The jobs before this sequence number for which `asked` says so, newest first, without their stages.
    pub fn jobs_before<'a>(
        &'a self,
        before: u64,
        asked: impl Fn(&JobRecord, JobPhase) -> bool + 'a,
    ) -> impl Iterator<Item = JobView> + 'a {
        let capacity = self.capacity();
        let jobs = self.jobs.range(..before).rev().map(|(_, job)| job);
        jobs.filter(move |job| asked(&job.record, self.job_phase(job)))
            .map(move |job| self.job_view(job, &capacity))
    }

    /// All jobs, newest first, without their stages.
    pub fn jobs(&self) -> impl Iterator<Item = JobView> + '_ {
        self.jobs_before(u64::MAX, |_, _| true)
    }

    /// These jobs as a listing shows them: without their stages. Unknown ones are left out.
    pub fn summaries(&self, ids: &[JobId]) -> Vec<JobView> {
        let capacity = self.capacity();
        let jobs = ids.iter().filter_map(|id| self.jobs.get(self.sequences.get(id)?));
        jobs.map(|job| self.job_view(job, &capacity)).collect()
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
            .sequences
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
        Some(self.job_numbered(*self.sequences.get(id)?)?.0)
    }

    /// The job at this place in the order of submission: as it was submitted, and where it stands.
    pub fn job_numbered(&self, sequence: u64) -> Option<(&JobRecord, &JobStatus)> {
        let job = self.jobs.get(&sequence)?;
        Some((&job.record, &job.status))
    }

    /// A stage as it is kept: how it ran, and its result once it is done; `None` before its first attempt.
    pub fn stage_record(&self, key: &StageKey) -> Option<StageRecord> {
        let stage = self.stages.get(key)?;
        stage.recorded.then(|| stage.record())
    }

    /// Which stage a key names.
    pub fn stage_kind(&self, key: &StageKey) -> Option<StageKind> {
        self.stages.get(key).map(|stage| stage.kind)
    }

    /// The live jobs that use a stage, the first submitted first.
    pub fn stage_jobs(&self, key: &StageKey) -> impl Iterator<Item = &JobRecord> + '_ {
        let users = self.stages.get(key).into_iter();
        let users = users.flat_map(|stage| stage.users.iter());
        users.map(|turn| &*self.job_at(turn.place.sequence).record)
    }

    /// Every published model, by task and version.
    pub fn models(&self) -> impl Iterator<Item = &ModelRecord> + '_ {
        self.models.values().flatten()
    }

    /// One published model.
    pub fn model(&self, task: &TaskName, version: u32) -> Option<&ModelRecord> {
        self.models.get(task)?.get((version as usize).checked_sub(1)?)
    }

    /// Workers that are connected, or waited for, by name; then those that are not and were taken out of use.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView> + '_ {
        let absent = self.admissions.iter().filter_map(|(id, admission)| {
            let cordon = admission.cordon.as_ref()?;
            (!self.workers.contains_key(id)).then(|| absent_worker(id, cordon))
        });
        let present = self.workers.iter().map(|(id, worker)| {
            let (phase, reason) = self.worker_phase(id, worker);
            WorkerView {
                id: id.clone(),
                phase,
                reason,
                slots: worker.slots,
                slots_used: worker.used(),
                threads_per_slot: worker.threads_per_slot,
                device: worker.make.device.clone(),
                labels: worker.make.labels.clone(),
                placed_bytes: worker.placed_bytes,
                version: worker.version.clone(),
                running: self.running_on(worker),
                cached_blobs: worker.cached.len(),
                last_seen_ms: worker.last_seen_ms,
            }
        });
        present.chain(absent)
    }

    /// Every user who has submitted a job or has a setting, by name.
    pub fn users(&self) -> impl Iterator<Item = UserView> + '_ {
        self.accounts.values().map(|account| self.user_view(account))
    }

    /// One user.
    pub fn user(&self, name: &UserName) -> Option<UserView> {
        self.accounts.get(name).map(|account| self.user_view(account))
    }

    fn user_view(&self, account: &Account) -> UserView {
        UserView {
            record: account.record.clone(),
            in_use: account.in_use,
            waiting: u32::try_from(self.line.waiting(&account.record.name)).unwrap_or(u32::MAX),
            used_seconds: account.used / 1000,
        }
    }

    /// What was dropped and what went wrong since this scheduler was made.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn job_phase(&self, job: &Job) -> JobPhase {
        match job.status.state {
            JobState::Active if job.status.paused.is_some() => JobPhase::Paused,
            JobState::Active if self.stages_run(job) > 0 => JobPhase::Running,
            JobState::Active => JobPhase::Queued,
            JobState::Succeeded { .. } => JobPhase::Succeeded,
            JobState::Failed { .. } => JobPhase::Failed,
            JobState::Cancelled { .. } => JobPhase::Cancelled,
        }
    }

    fn job_view(&self, job: &Job, capacity: &Capacity) -> JobView {
        let record = &job.record;
        let (reason, finished_ms) = match &job.status.state {
            JobState::Active => (self.active_reason(job, capacity), None),
            JobState::Succeeded {
                model_version,
                finished_ms,
            } => {
                let reason = format!("published as {} version {model_version}", record.task.name);
                (reason, Some(*finished_ms))
            }
            JobState::Failed {
                reason, finished_ms, ..
            } => (reason.clone(), Some(*finished_ms)),
            JobState::Cancelled { reason, finished_ms } => {
                (format!("cancelled: {}", why(reason)), Some(*finished_ms))
            }
        };
        let (model_version, failure_class) = match job.status.state {
            JobState::Succeeded { model_version, .. } => (Some(model_version), None),
            JobState::Failed { class, .. } => (None, Some(class)),
            JobState::Active | JobState::Cancelled { .. } => (None, None),
        };
        JobView {
            id: record.id.clone(),
            sequence: record.sequence,
            task: record.task.name.clone(),
            arch: record.arch,
            phase: self.job_phase(job),
            reason,
            user: record.user.clone(),
            priority: job.status.priority,
            retry_of: record.retry_of.clone(),
            failure_class,
            submitted_ms: record.submitted_ms,
            finished_ms,
            model_version,
            stages_run: self.stages_run(job),
            stage_count: record.stages.len(),
            stages: Vec::new(),
        }
    }

    fn stage_view(&self, stage: &Stage, job: &Job, capacity: &Capacity) -> StageView {
        let ended_on = |worker: Option<&WorkerId>| (worker.into_iter().cloned().collect(), 0);
        let gang = |workers: Vec<WorkerId>| {
            let world_size = workers.len() as u32;
            (workers, world_size)
        };
        let (workers, world_size) = match &stage.state {
            State::Pending(pending) => ended_on(
                pending
                    .setback
                    .as_ref()
                    .and_then(|setback| setback.worker.as_ref()),
            ),
            State::Running(running) => gang(running.workers().cloned().collect()),
            State::Done(done) => gang(done.workers.clone()),
            State::Failed(failed) => ended_on(failed.worker.as_ref()),
        };
        StageView {
            key: stage.key,
            kind: stage.kind,
            phase: phase(stage),
            reason: self.stage_reason(stage, capacity),
            attempt: stage.attempts,
            workers,
            world_size,
            checkpoint_epoch: stage.checkpoint.map(|kept| kept.checkpoint.epoch),
            result: stage.result().cloned().map(Box::new),
            reused: matches!(&stage.state, State::Done(done) if done.reused_by(job.record.sequence)),
        }
    }

    fn running_on(&self, worker: &Worker) -> Vec<RunningView> {
        let describe = |(seat, hold): (&Seat, &Hold)| {
            let Seat { attempt, rank } = *seat;
            let what = if self.stages.contains_key(&attempt.stage) {
                self.description(attempt.stage)
            } else {
                "unknown stage".to_owned()
            };
            let stopping = match hold.state {
                HoldState::Working => "",
                HoldState::Stopping { .. } => ", stopping",
                HoldState::Lost => ", does not stop",
            };
            let description = format!("{what}, attempt {}, rank {rank}{stopping}", attempt.number);
            RunningView {
                seat: *seat,
                description,
            }
        };
        worker.held.iter().map(describe).collect()
    }
}

/// A worker that is not there, and is given no work when it comes.
fn absent_worker(id: &WorkerId, cordon: &Cordon) -> WorkerView {
    let what = cordoned(cordon.drain, &cordon.reason);
    WorkerView {
        id: id.clone(),
        phase: WorkerPhase::Cordoned,
        reason: format!("{what}; it is not connected"),
        slots: 0,
        slots_used: 0,
        threads_per_slot: 0,
        device: String::new(),
        labels: Default::default(),
        placed_bytes: [0; 2],
        version: String::new(),
        running: Vec::new(),
        cached_blobs: 0,
        last_seen_ms: 0,
    }
}
