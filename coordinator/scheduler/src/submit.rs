//! Jobs come in, and are ended by somebody.

use std::time::Duration;

use nettailor_domain::explain::What;
use nettailor_domain::ids::{JobId, StageKey};
use nettailor_domain::stage::{Blueprint, Rerun, StageKind};

use crate::error::Rejected;
use crate::event::{NewStage, Planned, Submission};
use crate::job::Job;
use crate::line::Turn;
use crate::record::{JobRecord, JobState, Subject};
use crate::scheduler::Scheduler;
use crate::stage::Stage;

impl Scheduler {
    /// Plans a task. Stages that are done are used as they are; stages that others asked for are shared; stages that
    /// failed, or that nobody asks for, start over.
    pub(crate) fn submit(&mut self, planned: Planned) -> Result<(), Rejected> {
        let Planned { submission, stages } = planned;
        self.validate(&submission)?;
        let Submission {
            job: id,
            arch,
            task,
            inputs,
            backbone_bytes,
            data_bytes,
            user,
            priority,
            deadline,
            reruns,
            retry_of,
        } = submission;
        let sequence = self.jobs.last_key_value().map_or(1, |(last, _)| last + 1);
        let record = JobRecord {
            id: id.clone(),
            sequence,
            user,
            retry_of,
            arch,
            task,
            inputs,
            input_bytes: [backbone_bytes, data_bytes],
            reruns,
            stages: stages.iter().map(|stage| stage.key).collect(),
            submitted_ms: self.now.wall_ms,
        };
        let keys = record.stages.clone();
        let resources = &record.task.resources;
        let priority = priority.unwrap_or(resources.priority);
        let minutes = Duration::from_secs(60 * u64::from(resources.deadline_minutes));
        let deadline = self.now.elapsed.saturating_add(deadline.unwrap_or(minutes));
        let words = match &record.retry_of {
            Some(job) => format!("by {}, to do the work of {job} once more", record.user),
            None => format!("by {}", record.user),
        };
        // Who has submitted something is shown.
        self.account(&record.user);
        self.sequences.insert(id, sequence);
        self.jobs
            .insert(sequence, Job::new(record.into(), priority, deadline));
        self.draft.jobs.push(sequence);
        self.draft.statuses.insert(sequence);
        self.arm_job_deadline(sequence);
        self.count_priority(sequence, true);
        self.happened(Subject::Job(sequence), What::Submitted, 0, words);
        let turns: Vec<Turn> = self.turns(sequence).collect();
        for (stage, turn) in stages.into_iter().zip(turns) {
            self.plan_stage(stage, sequence);
            self.join_stage(keys[turn.place.index], turn);
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
        let layers = arch.layers();
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

    /// What an ended job asked for, to be submitted once more under a fresh id: nothing where only failed ones are wanted and it
    /// did not fail. From a stage on, everything is run anew though it is done.
    ///
    /// # Errors
    /// The job is not there, not over, or has no such stage.
    pub fn once_more(
        &self,
        id: &JobId,
        fresh: JobId,
        failed_only: bool,
        from: Option<StageKind>,
    ) -> Result<Option<Submission>, Rejected> {
        let sequence = self.sequences.get(id);
        let job = self.job_at(*sequence.ok_or_else(|| Rejected::UnknownJob(id.clone()))?);
        if job.is_active() {
            return Err(Rejected::JobLive(id.clone()));
        }
        if failed_only && !matches!(job.status.state, JobState::Failed { .. }) {
            return Ok(None);
        }
        let record = &job.record;
        let mut reruns = record.reruns.clone();
        if let Some(from) = from {
            let kinds = || record.stages.iter().map(|key| self.stages[key].kind);
            if !kinds().any(|kind| kind == from) {
                return Err(Rejected::NoSuchStage {
                    job: id.clone(),
                    stage: from,
                    kinds: kinds()
                        .map(|kind| kind.to_string())
                        .collect::<Vec<_>>()
                        .join(", "),
                });
            }
            self.renew(record, &mut reruns, from);
        }
        Ok(Some(Submission {
            job: fresh,
            arch: record.arch,
            task: record.task.clone(),
            inputs: record.inputs.clone(),
            backbone_bytes: record.input_bytes[0],
            data_bytes: record.input_bytes[1],
            user: record.user.clone(),
            priority: Some(job.status.priority),
            deadline: None,
            reruns,
            retry_of: Some(id.clone()),
        }))
    }

    /// Counts a stage's reruns up until its key is one that nobody has planned.
    fn renew(&self, record: &JobRecord, reruns: &mut Vec<Rerun>, from: StageKind) {
        loop {
            match reruns.iter_mut().find(|rerun| rerun.from == from) {
                Some(rerun) => rerun.number += 1,
                None => reruns.push(Rerun { from, number: 1 }),
            }
            let blueprint = Blueprint {
                reruns,
                ..record.blueprint()
            };
            let planned = blueprint.plan();
            let key = planned.iter().find(|stage| stage.spec.kind() == from);
            if key.is_none_or(|stage| !self.stages.contains_key(&stage.key)) {
                return;
            }
        }
    }

    /// Makes a stage known.
    fn plan_stage(&mut self, stage: NewStage, sequence: u64) {
        let NewStage { key, kind, parents } = stage;
        if !self.stages.contains_key(&key) {
            for parent in &parents {
                self.stage_mut(*parent).children.push(key);
            }
            let stage = Stage::new(key, kind, parents, sequence);
            self.stages.insert(key, stage.into());
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
