//! Jobs end: published, failed or cancelled.

use nettailor_domain::explain::What;
use nettailor_domain::ids::StageKey;
use nettailor_domain::model::{Lineage, ModelAccuracy, ModelLatency, ModelRecord};
use nettailor_domain::stage::{FrontierPoint, StageKind, StageOutcome, StageResult};
use nettailor_domain::trainer::FailureClass;
use nettailor_domain::units::Accuracy;

use crate::effect::Effect;
use crate::job::Job;
use crate::record::{JobRecord, JobState, Subject};
use crate::sabotage::{self, Sabotage};
use crate::scheduler::Scheduler;
use crate::stage::{Ending, Stage, State};

impl Scheduler {
    /// Ends a job whose last stage is done: its model is published, or the one that the same results made before for
    /// the same task is named.
    pub(crate) fn succeed(&mut self, sequence: u64) {
        let finished_ms = self.now.wall_ms;
        let job = self.job_at(sequence);
        let task = job.record.task.name.clone();
        let made = (task.clone(), self.last_key(sequence));
        let version = match self.published.get(&made) {
            Some(version) => *version,
            None => {
                let version = 1 + self.models.get(&task).map_or(0, |models| models.len() as u32);
                let Some(model) = self.model_of(&job.record, version) else {
                    let reason =
                        "the results of its stages do not fit together: no model was published".into();
                    let class = FailureClass::Internal;
                    return self.end_job(
                        sequence,
                        JobState::Failed {
                            class,
                            reason,
                            finished_ms,
                        },
                    );
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
        let StageOutcome::Select {
            teacher_test,
            test,
            teacher_latency,
            latency,
            ..
        } = self.stages[&select_key].result()?.outcome
        else {
            return None;
        };
        let (selection, winner_key) = self.choice(select_key).ok()??;
        let teacher = self.parent(select_key, StageKind::Teacher)?;
        let winner = self.stages[&winner_key].result()?;
        let tailored = winner.outcome.tailored()?;
        Some(ModelRecord {
            task: job.task.name.clone(),
            version,
            architecture: tailored.architecture.clone(),
            counts: tailored.point.counts,
            image_size: job.task.data.image_size,
            classes: job.inputs.data.classes.clone(),
            selection,
            accuracy: ModelAccuracy {
                held_out: tailored.point.held_out,
                test,
                teacher_held_out: teacher_held_out(teacher)?,
                teacher_test,
            },
            frontier: self.frontier(job),
            latency: ModelLatency {
                network: latency,
                teacher: teacher_latency,
            },
            weights: winner.weights?,
            teacher: teacher.result()?.weights?,
            lineage: self.lineage(job, winner_key)?,
            published_ms: self.now.wall_ms,
        })
    }

    /// Every candidate that was trained for a job, by ascending k.
    fn frontier(&self, job: &JobRecord) -> Vec<FrontierPoint> {
        let mut points: Vec<FrontierPoint> = self
            .results(job)
            .flat_map(|result| result.outcome.frontier())
            .copied()
            .collect();
        points.sort_by_key(|point| point.k);
        points
    }

    /// Where the model of a job comes from whose chosen candidate was left by `winner`.
    fn lineage(&self, job: &JobRecord, winner: StageKey) -> Option<Lineage> {
        let led_to_it = |key: &StageKey| match self.stages[key].kind {
            StageKind::Source | StageKind::Teacher | StageKind::Student | StageKind::Select => true,
            StageKind::Candidate(_) | StageKind::Search => *key == winner,
        };
        let seconds: f64 = self.results(job).map(|result| result.seconds).sum();
        Some(Lineage {
            job: job.id.clone(),
            backbone: self.backbone(winner)?.digest,
            data: job.inputs.data.archive,
            stages: job.stages.iter().copied().filter(led_to_it).collect(),
            training_seconds: seconds.round() as u64,
        })
    }

    /// What the finished stages of a job found.
    fn results(&self, job: &JobRecord) -> impl Iterator<Item = &StageResult> {
        job.stages.iter().filter_map(|key| self.stages[key].result())
    }

    /// Gives a live job its end and lets go of its stages: those that no other live job asks for are stopped.
    pub(crate) fn end_job(&mut self, sequence: u64, state: JobState) {
        let job = self.job_at(sequence);
        if !job.is_active() && !sabotage::is(Sabotage::Undone) {
            return;
        }
        let stages_run = self.stages_run(job);
        let keys = job.record.stages.clone();
        let asked = job.asks();
        let words = over(&state);
        self.disarm_job(sequence);
        if asked {
            self.leave_stages(sequence);
        }
        let status = self.status_mut(sequence);
        (status.stages_run, status.state, status.paused) = (stages_run, state, None);
        self.happened(Subject::Job(sequence), What::Over, 0, words);
        if asked {
            for key in keys {
                self.let_go(key);
            }
        }
    }

    /// Stages that were executed for a job, not found finished.
    pub(crate) fn stages_run(&self, job: &Job) -> u32 {
        let sequence = job.record.sequence;
        let run = |key: &&StageKey| {
            let stage = &self.stages[*key];
            match &stage.state {
                State::Done(done) => !done.reused_by(sequence),
                State::Failed(_) => stage.tries() > 0,
                State::Pending(_) | State::Running(_) => stage.started_for_users(),
            }
        };
        if job.is_active() {
            job.record.stages.iter().filter(run).count() as u32
        } else {
            job.status.stages_run
        }
    }

    /// A job has let go of a stage.
    fn let_go(&mut self, key: StageKey) {
        let stage = self.stage_mut(key);
        let unneeded = stage.users.is_empty();
        match &stage.state {
            State::Pending(_) => self.settle(key),
            State::Running(running) if unneeded && running.ending.is_none() => {
                self.end_attempt(key, Ending::Unneeded);
            }
            // Its deadline may have come nearer with the most generous of its jobs gone.
            State::Running(_) if !unneeded => self.arm_deadline(key),
            State::Running(_) | State::Done(_) | State::Failed(_) => {}
        }
    }
}

/// How a job is over, in words.
fn over(state: &JobState) -> String {
    match state {
        JobState::Active => String::new(),
        JobState::Succeeded { model_version, .. } => format!("published as version {model_version}"),
        JobState::Failed { reason, .. } => format!("failed: {reason}"),
        JobState::Cancelled { reason, .. } => format!("cancelled: {reason}"),
    }
}

/// Held-out accuracy of a teacher.
pub(crate) fn teacher_held_out(stage: &Stage) -> Option<Accuracy> {
    match stage.result()?.outcome {
        StageOutcome::Teacher { held_out } => Some(held_out),
        StageOutcome::Source { .. }
        | StageOutcome::Student { .. }
        | StageOutcome::Candidate(_)
        | StageOutcome::Infeasible(_)
        | StageOutcome::Search { .. }
        | StageOutcome::Select { .. } => None,
    }
}
