//! Jobs come in, and are ended by somebody.

use nettailor_domain::ids::{JobId, StageKey};
use nettailor_domain::stage::{Blueprint, PlannedStage};

use crate::error::Rejected;
use crate::event::Submission;
use crate::job::Job;
use crate::record::{JobRecord, JobState};
use crate::scheduler::Scheduler;
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
        let blueprint = Blueprint {
            arch,
            task: &task,
            inputs: &inputs,
            reruns: &[],
        };
        let planned = blueprint.plan();
        let sequence = self.jobs.last_key_value().map_or(1, |(last, _)| last + 1);
        let record = JobRecord {
            id: id.clone(),
            sequence,
            arch,
            task,
            inputs,
            input_bytes: [backbone_bytes, data_bytes],
            reruns: Vec::new(),
            stages: planned.iter().map(|stage| stage.key).collect(),
            submitted_ms: self.now.wall_ms,
        };
        let keys = record.stages.clone();
        self.sequences.insert(id, sequence);
        self.jobs.insert(sequence, Job::new(record));
        self.draft.jobs.push(sequence);
        for (index, stage) in planned.into_iter().enumerate() {
            self.ask_for(stage, Place { sequence, index });
        }
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
        let Some(sequence) = self.sequences.get(&id) else {
            return Err(Rejected::UnknownJob(id));
        };
        let finished_ms = self.now.wall_ms;
        self.end_job(*sequence, JobState::Cancelled { reason, finished_ms });
        Ok(())
    }

    /// Whether a submission would be accepted. Several that are to be accepted together are all looked at first.
    ///
    /// # Errors
    /// What [`Scheduler::apply`] would answer.
    pub fn validate(&self, submission: &Submission) -> Result<(), Rejected> {
        let Submission { job, arch, task, .. } = submission;
        if self.sequences.contains_key(job) {
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

    /// Adds a user to a stage.
    fn ask_for(&mut self, planned: PlannedStage, place: Place) {
        let PlannedStage { key, spec, parents } = planned;
        if !self.stages.contains_key(&key) {
            for parent in &parents {
                self.stage_mut(*parent).children.push(key);
            }
            let stage = Stage::new(key, spec.kind(), parents.into(), place.sequence);
            self.stages.insert(key, stage);
        }
        let workers = self.job_at(place.sequence).record.task.workers;
        let stage = self.stage_mut(key);
        let renewed = stage.users.is_empty() && stage.renew();
        stage.users.insert(place, workers);
        if renewed {
            self.keep_stage(key);
        }
    }

    /// The stage that completes a job.
    pub(crate) fn last_stage(&self, sequence: u64) -> &Stage {
        &self.stages[&self.last_key(sequence)]
    }

    /// Its key.
    pub(crate) fn last_key(&self, sequence: u64) -> StageKey {
        let stages = &self.job_at(sequence).record.stages;
        *stages.last().expect("a plan ends with select")
    }
}
