//! Jobs come in, and are ended by somebody.

use nettailor_domain::ids::{JobId, StageKey};
use nettailor_domain::stage::{PlannedStage, StageWork, plan};

use crate::error::Rejected;
use crate::event::Submission;
use crate::record::{JobRecord, JobState};
use crate::scheduler::{Scheduler, is_active};
use crate::stage::{Place, Stage};

impl Scheduler {
    /// Plans a task. Stages that are done are used as they are; stages that others asked for are shared; stages that
    /// failed, or that nobody asks for, start over.
    pub(crate) fn submit(&mut self, submission: Submission) -> Result<(), Rejected> {
        self.validate(&submission)?;
        let Submission {
            job: id,
            arch,
            task,
            inputs,
            backbone_bytes,
            data_bytes,
        } = submission;
        let planned = plan(arch, &task, &inputs);
        let sequence = self.by_sequence.last_key_value().map_or(1, |(last, _)| last + 1);
        let job = JobRecord {
            id: id.clone(),
            sequence,
            arch,
            task,
            inputs,
            stages: planned.iter().map(|stage| stage.key).collect(),
            submitted_ms: self.now.wall_ms,
            stages_run: 0,
            state: JobState::Active,
        };
        let keys = job.stages.clone();
        self.by_sequence.insert(sequence, id.clone());
        self.jobs.insert(id.clone(), job);
        self.draft.jobs.insert(id);
        self.draft.seen.insert(sequence);

        let mut shared_starts = 0;
        for (index, stage) in planned.into_iter().enumerate() {
            let input_bytes = match (&stage.spec.work, stage.spec.backbone) {
                (StageWork::Source { .. }, _) => [0, backbone_bytes],
                (_, Some(_)) => [backbone_bytes, data_bytes],
                (_, None) => [0, data_bytes],
            };
            shared_starts += u32::from(self.ask_for(stage, input_bytes, Place { sequence, index }));
        }
        self.job_mut(sequence).stages_run = shared_starts;
        if self.last_stage(sequence).is_done() {
            self.succeed(sequence);
        } else {
            for key in keys {
                self.settle(key);
            }
        }
        Ok(())
    }

    /// Ends a job; a final one is left as it is.
    pub(crate) fn cancel(&mut self, id: JobId, reason: String) -> Result<(), Rejected> {
        let Some(job) = self.jobs.get(&id) else {
            return Err(Rejected::UnknownJob(id));
        };
        if is_active(job) {
            let finished_ms = self.now.wall_ms;
            self.end_job(job.sequence, JobState::Cancelled { reason, finished_ms });
        }
        Ok(())
    }

    /// Whether a submission would be accepted. Several that are to be accepted together are all looked at first.
    ///
    /// # Errors
    /// What [`Scheduler::apply`] would answer.
    pub fn validate(&self, submission: &Submission) -> Result<(), Rejected> {
        let Submission { job, arch, task, .. } = submission;
        if self.jobs.contains_key(job) {
            return Err(Rejected::DuplicateJob(job.clone()));
        }
        let layers = arch.describe().layers();
        let ladder = task.candidates.ladder(layers);
        match ladder.last() {
            None => Err(Rejected::NoCandidates(task.name.clone())),
            Some(&k) if k > layers => Err(Rejected::InvalidK {
                task: task.name.clone(),
                k,
                arch: *arch,
                layers,
            }),
            Some(_) => Ok(()),
        }
    }

    /// Adds a user to a stage. Says whether the stage was started already for others who ask for it still.
    fn ask_for(&mut self, planned: PlannedStage, input_bytes: [u64; 2], place: Place) -> bool {
        let key = planned.key;
        if !self.stages.contains_key(&key) {
            for parent in planned.parents.clone() {
                self.stage_mut(parent).children.push(key);
            }
            self.stages.insert(key, Stage::new(planned, input_bytes));
            self.keep_stage(key);
        }
        let workers = self.job_at(place.sequence).task.workers;
        let stage = self.stage_mut(key);
        let renewed = stage.users.is_empty() && stage.renew();
        stage.users.insert(place, workers);
        let started = stage.started_for_users();
        if renewed {
            self.keep_stage(key);
        }
        started
    }

    /// The stage that completes a job.
    pub(crate) fn last_stage(&self, sequence: u64) -> &Stage {
        &self.stages[&self.last_key(sequence)]
    }

    /// Its key.
    pub(crate) fn last_key(&self, sequence: u64) -> StageKey {
        *self
            .job_at(sequence)
            .stages
            .last()
            .expect("a plan ends with select")
    }
}
