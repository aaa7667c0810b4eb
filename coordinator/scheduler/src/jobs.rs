//! Jobs end: published, failed or cancelled.

use nettailor_domain::ids::StageKey;
use nettailor_domain::model::{Lineage, ModelAccuracy, ModelRecord};
use nettailor_domain::stage::StageOutcome;
use nettailor_domain::units::Accuracy;

use crate::effect::Effect;
use crate::record::{JobRecord, JobState};
use crate::scheduler::{Scheduler, is_active};
use crate::stage::{Ending, Place, Stage, State};

impl Scheduler {
    /// Ends a job whose last stage is done: its model is published, or the one that the same results made before for
    /// the same task is named.
    pub(crate) fn succeed(&mut self, sequence: u64) {
        let finished_ms = self.now.wall_ms;
        let job = self.job_at(sequence);
        let task = job.task.name.clone();
        let made = (task.clone(), self.last_key(sequence));
        let version = match self.published.get(&made) {
            Some(version) => *version,
            None => {
                let version = 1 + self.models.get(&task).map_or(0, |models| models.len() as u32);
                let Some(model) = self.model_of(job, version) else {
                    let reason =
                        "the results of its stages do not fit together: no model was published".into();
                    return self.end_job(sequence, JobState::Failed { reason, finished_ms });
                };
                self.models.entry(task.clone()).or_default().push(model);
                self.published.insert(made, version);
                self.draft.models.push((task.clone(), version));
                self.effect(Effect::Published { task, version });
                version
            }
        };
        self.end_job(
            sequence,
            JobState::Succeeded {
                model_version: version,
                finished_ms,
            },
        );
    }

    /// The model that a job's results make. `None` where a result is not of its stage's kind, which reports are
    /// checked for when they come in.
    fn model_of(&self, job: &JobRecord, version: u32) -> Option<ModelRecord> {
        let select_key = *job.stages.last()?;
        let select = &self.stages[&select_key];
        let StageOutcome::Select {
            selection,
            teacher_test,
            test,
        } = select.result()?.outcome
        else {
            return None;
        };
        let (teacher_key, candidates) = select.planned.parents.split_first()?;
        let winner_key = *candidates
            .iter()
            .find(|key| self.candidate_k(**key) == Some(selection.k))?;
        let student_key = *self.stages[&winner_key].planned.parents.get(1)?;
        let teacher = self.stages[teacher_key].result()?;
        let winner = self.stages[&winner_key].result()?;
        let StageOutcome::Teacher {
            held_out: teacher_held_out,
        } = teacher.outcome
        else {
            return None;
        };
        let StageOutcome::Candidate {
            architecture,
            counts,
            held_out,
            ..
        } = &winner.outcome
        else {
            return None;
        };
        let seconds: f64 = job
            .stages
            .iter()
            .filter_map(|key| self.stages[key].result())
            .map(|r| r.seconds)
            .sum();
        let accuracy = ModelAccuracy {
            held_out: *held_out,
            test,
            teacher_held_out,
            teacher_test,
        };
        Some(ModelRecord {
            task: job.task.name.clone(),
            version,
            architecture: architecture.clone(),
            counts: *counts,
            image_size: job.task.data.image_size,
            classes: job.inputs.classes.clone(),
            selection,
            accuracy,
            weights: winner.weights?,
            teacher: teacher.weights?,
            lineage: Lineage {
                job: job.id.clone(),
                backbone: job.inputs.backbone,
                data: job.inputs.data,
                stages: vec![*teacher_key, student_key, winner_key, select_key],
                training_seconds: seconds.round() as u64,
            },
            published_ms: self.now.wall_ms,
        })
    }

    /// The k of a candidate that is done and feasible.
    fn candidate_k(&self, key: StageKey) -> Option<usize> {
        match self.stages[&key].result()?.outcome {
            StageOutcome::Candidate { k, .. } => Some(k),
            _ => None,
        }
    }

    /// Gives a live job its end and lets go of its stages: those that no other live job asks for are stopped.
    pub(crate) fn end_job(&mut self, sequence: u64, state: JobState) {
        if !is_active(self.job_at(sequence)) {
            return;
        }
        let job = self.job_mut(sequence);
        job.state = state;
        let keys = job.stages.clone();
        for (index, key) in keys.into_iter().enumerate() {
            self.let_go(key, Place { sequence, index });
        }
    }

    fn let_go(&mut self, key: StageKey, place: Place) {
        let stage = self.stage_mut(key);
        stage.users.remove(&place);
        let unneeded = stage.users.is_empty();
        match &mut stage.state {
            State::Pending(_) => self.settle(key),
            State::Running(running) if unneeded && running.ending.is_none() => {
                running.ending = Some(Ending::Unneeded);
                let (worker, attempt) = (running.worker.clone(), stage.attempt());
                self.stop(&worker, attempt, "no live job asks for it any more");
            }
            // Its deadline may have come nearer with the most generous of its jobs gone.
            State::Running(_) if !unneeded => self.arm_deadline(key),
            State::Running(_) | State::Done(_) | State::Failed(_) => {}
        }
    }
}

/// Held-out accuracy of a teacher.
pub(crate) fn teacher_held_out(stage: &Stage) -> Option<Accuracy> {
    match stage.result()?.outcome {
        StageOutcome::Teacher { held_out } => Some(held_out),
        _ => None,
    }
}
