//! The same state again, from what was kept.

use std::collections::hash_map::Entry;

use nettailor_domain::ids::StageKey;

use crate::config::Config;
use crate::error::RestoreError;
use crate::event::Now;
use crate::record::{JobRecord, JobState, RankRecord, Record, StageRecord, StageState};
use crate::scheduler::{Scheduler, is_active};
use crate::stage::{Done, Ending, Failed, Place, Rank, Running, Stage, State};
use crate::timers::Timer;
use crate::worker::{Hold, Link, Worker};

impl Scheduler {
    /// The state that `records`, in any order, were kept of. Running attempts are waited for until
    /// [`Config::restore_grace`] has passed; deadlines start over; back-offs are over.
    ///
    /// # Errors
    /// The records contradict each other: see [`RestoreError`].
    pub fn restore(
        config: Config,
        records: impl IntoIterator<Item = Record>,
        now: Now,
    ) -> Result<Self, RestoreError> {
        let mut scheduler = Self::new(config);
        scheduler.now = now;
        for record in records {
            scheduler.take_record(record)?;
        }
        scheduler.link_models()?;
        scheduler.link_stages()?;
        scheduler.link_jobs()?;
        scheduler.resume();
        Ok(scheduler)
    }

    fn take_record(&mut self, record: Record) -> Result<(), RestoreError> {
        match record {
            Record::Job(job) => {
                if self.jobs.contains_key(&job.id) {
                    return Err(RestoreError::Duplicate(format!("job `{}`", job.id)));
                }
                if let Some(first) = self.by_sequence.insert(job.sequence, job.id.clone()) {
                    let (second, sequence) = (job.id, job.sequence);
                    return Err(RestoreError::SameSequence {
                        first,
                        second,
                        sequence,
                    });
                }
                self.jobs.insert(job.id.clone(), *job);
                Ok(())
            }
            Record::Stage(record) => match self.stages.entry(record.planned.key) {
                Entry::Occupied(entry) => Err(RestoreError::Duplicate(format!("stage {}", entry.key()))),
                Entry::Vacant(entry) => {
                    entry.insert(stage_of(*record, self.now));
                    Ok(())
                }
            },
            Record::Model(model) => {
                self.models.entry(model.task.clone()).or_default().push(*model);
                Ok(())
            }
        }
    }

    fn link_models(&mut self) -> Result<(), RestoreError> {
        for (task, models) in &mut self.models {
            models.sort_by_key(|model| model.version);
            let newest = models.last().map_or(0, |model| model.version);
            if models
                .iter()
                .zip(1..)
                .any(|(model, version)| model.version != version)
            {
                return Err(RestoreError::VersionGap {
                    task: task.clone(),
                    found: models.len(),
                    newest,
                });
            }
            for model in models {
                if let Some(select) = model.lineage.stages.last() {
                    self.published.insert((task.clone(), *select), model.version);
                }
            }
        }
        Ok(())
    }

    fn link_stages(&mut self) -> Result<(), RestoreError> {
        let links: Vec<(StageKey, StageKey)> = self
            .stages
            .iter()
            .flat_map(|(key, stage)| stage.planned.parents.iter().map(|parent| (*key, *parent)))
            .collect();
        for (stage, parent) in links {
            let found = self
                .stages
                .get_mut(&parent)
                .ok_or(RestoreError::MissingParent { stage, parent })?;
            found.children.push(stage);
        }
        Ok(())
    }

    fn link_jobs(&mut self) -> Result<(), RestoreError> {
        for job in self.jobs.values() {
            if job.stages.is_empty() {
                return Err(RestoreError::NoStages(job.id.clone()));
            }
            for (index, key) in job.stages.iter().enumerate() {
                let Some(stage) = self.stages.get_mut(key) else {
                    return Err(RestoreError::MissingStage {
                        job: job.id.clone(),
                        stage: *key,
                    });
                };
                if is_active(job) {
                    let sequence = job.sequence;
                    stage.users.insert(Place { sequence, index }, job.task.workers);
                }
            }
        }
        Ok(())
    }

    /// Takes up the work where it was left. What this changes goes out with the first event's transition.
    fn resume(&mut self) {
        let keys: Vec<StageKey> = self.stages.keys().copied().collect();
        for key in keys {
            self.await_workers(key);
            self.settle(key);
        }
        let active: Vec<u64> = self
            .jobs
            .values()
            .filter(|job| is_active(job))
            .map(|job| job.sequence)
            .collect();
        for sequence in active {
            if self.last_stage(sequence).is_done() {
                self.succeed(sequence);
            } else if let Some(reason) = failed_stage(self, self.job_at(sequence)) {
                self.end_job(
                    sequence,
                    JobState::Failed {
                        reason,
                        finished_ms: self.now.wall_ms,
                    },
                );
            }
        }
    }

    /// A stage that ran when the records were kept is expected to run still, on workers that have yet to come back: all of
    /// them, as the loss of one ends the attempt.
    fn await_workers(&mut self, key: StageKey) {
        let grace = self.config.restore_grace;
        let lease_at = self.now.elapsed.saturating_add(grace);
        let until = self.now.listened.saturating_add(grace);
        let stage = self.stage_mut(key);
        let unneeded = stage.users.is_empty();
        let attempt = stage.attempt();
        let State::Running(running) = &mut stage.state else {
            return;
        };
        if unneeded {
            running.ending = Some(Ending::Unneeded);
        }
        let open = running.open_seats(attempt);
        self.arm_deadline(key);
        for (seat, name) in open {
            self.timers.arm(lease_at, Timer::Lease(name.clone()));
            let away = || {
                Worker::remembered(Link::Disconnected {
                    until,
                    lease_at,
                    excused: false,
                })
            };
            let worker = self.workers.entry(name).or_insert_with(away);
            worker.slots += 1;
            worker.held.insert(seat, Hold::Working);
        }
    }
}

/// A stage as it was kept.
fn stage_of(record: StageRecord, now: Now) -> Stage {
    let state = match record.state {
        StageState::Pending => State::Pending(Default::default()),
        StageState::Running {
            ranks,
            result,
            started_ms,
        } => State::Running(Running {
            started_ms,
            result,
            ..Running::new(ranks.into_iter().map(rank_of).collect(), now)
        }),
        StageState::Done { result } => State::Done(Done {
            result,
            workers: Vec::new(),
        }),
        StageState::Failed { failure } => State::Failed(Failed {
            failure,
            worker: None,
        }),
    };
    Stage {
        attempts: record.attempts,
        faults: record.faults,
        losses: record.losses,
        returns: record.returns,
        checkpoint: record.checkpoint,
        state,
        ..Stage::new(record.planned, record.input_bytes)
    }
}

fn rank_of(RankRecord { worker, done }: RankRecord) -> Rank {
    Rank {
        worker,
        done,
        // It is not kept. Rather a loss too many than a stage that ends machines run for ever.
        reached: true,
    }
}

/// Why a live job cannot go on, if one of its stages is kept as failed.
fn failed_stage(scheduler: &Scheduler, job: &JobRecord) -> Option<String> {
    job.stages
        .iter()
        .find_map(|key| match &scheduler.stages[key].state {
            State::Failed(failed) => Some(format!(
                "{} failed: {}",
                scheduler.stages[key].kind(),
                failed.failure.message
            )),
            _ => None,
        })
}
