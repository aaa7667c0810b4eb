//! The same state again, from what was kept.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use nettailor_domain::ids::StageKey;
use nettailor_domain::trainer::FailureClass;

use crate::config::Config;
use crate::error::RestoreError;
use crate::event::Now;
use crate::job::Job;
use crate::line::Turn;
use crate::record::{JobRecord, JobState, JobStatus, RankRecord, Record, StageRecord, StageState};
use crate::scheduler::Scheduler;
use crate::stage::{Cause, Done, Ending, Failed, Place, Rank, Running, Stage, State};
use crate::timers::Timer;
use crate::worker::{Link, Worker};

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
        let (mut statuses, mut stages) = (Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Job(job) => scheduler.take_job(job)?,
                Record::Status(status) => statuses.push(status),
                Record::Stage(stage) => stages.push(*stage),
                Record::User(user) => {
                    let name = user.name.clone();
                    scheduler.account(&name).record = user;
                }
                Record::Worker(worker) => {
                    let admission = scheduler.admissions.entry(worker.name).or_default();
                    admission.cordon = worker.cordon;
                }
                // They are read where they are kept.
                Record::Event(_) => {}
                Record::Model(model) => {
                    let versions = scheduler.models.entry(model.task.clone()).or_default();
                    versions.push(*model);
                }
            }
        }
        scheduler.link_models()?;
        for status in statuses {
            scheduler.take_status(status)?;
        }
        scheduler.plan_again()?;
        for stage in stages {
            scheduler.take_stage(stage)?;
        }
        scheduler.take_up();
        Ok(scheduler)
    }

    fn take_job(&mut self, job: Arc<JobRecord>) -> Result<(), RestoreError> {
        let (id, sequence) = (job.id.clone(), job.sequence);
        if self.sequences.insert(id.clone(), sequence).is_some() {
            return Err(RestoreError::Duplicate(format!("job `{id}`")));
        }
        self.account(&job.user);
        match self.jobs.insert(sequence, Job::new(job, 0, Duration::ZERO)) {
            None => Ok(()),
            Some(first) => Err(RestoreError::SameSequence {
                first: first.record.id.clone(),
                second: id,
                sequence,
            }),
        }
    }

    fn take_status(&mut self, status: JobStatus) -> Result<(), RestoreError> {
        let sequence = status.sequence;
        let job = self.jobs.get_mut(&sequence);
        let job = job.ok_or(RestoreError::UnknownJob(sequence))?;
        job.status = status;
        Ok(())
    }

    fn take_stage(&mut self, record: StageRecord) -> Result<(), RestoreError> {
        let key = record.key;
        let stage = self.stages.get_mut(&key).ok_or(RestoreError::UnknownStage(key))?;
        if stage.recorded {
            return Err(RestoreError::Duplicate(format!("stage {key}")));
        }
        let StageRecord {
            key: _,
            attempts,
            skipped,
            faults,
            losses,
            returns,
            checkpoint,
            state,
        } = record;
        stage.recorded = true;
        (stage.attempts, stage.skipped) = (attempts, skipped);
        (stage.faults, stage.losses, stage.returns) = (faults, losses, returns);
        stage.checkpoint = checkpoint;
        stage.state = state_of(state, self.now);
        if let State::Done(done) = &stage.state {
            let (kind, seconds) = (stage.kind, done.result.seconds);
            let arch = self.jobs[&stage.planned_by].record.arch;
            self.durations.add(kind, arch, seconds);
        }
        Ok(())
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

    /// Plans every job's stages again. Their keys were kept: what they are the digests of need not be made again.
    fn plan_again(&mut self) -> Result<(), RestoreError> {
        for (&sequence, job) in &self.jobs {
            let record = &job.record;
            let outline = record.blueprint().outline();
            if outline.len() != record.stages.len() {
                return Err(RestoreError::OtherPlan {
                    job: record.id.clone(),
                    kept: record.stages.len(),
                    planned: outline.len(),
                });
            }
            let priority = Reverse(job.status.priority);
            let asks = job.asks();
            for (index, (&key, (kind, parents))) in record.stages.iter().zip(outline).enumerate() {
                if !self.stages.contains_key(&key) {
                    let parents: Box<[StageKey]> =
                        parents.into_iter().map(|place| record.stages[place]).collect();
                    for parent in &parents {
                        let parent = self.stages.get_mut(parent).expect("parents come first");
                        parent.children.push(key);
                    }
                    self.stages
                        .insert(key, Stage::new(key, kind, parents, sequence).into());
                }
                if asks {
                    let place = Place { sequence, index };
                    let stage = self.stages.get_mut(&key).expect("it was planned");
                    stage.users.insert(Turn { priority, place }, record.task.workers);
                }
            }
        }
        Ok(())
    }

    /// Takes up the work where it was left. What this changes goes out with the first event's transition.
    fn take_up(&mut self) {
        let paused = self.jobs.values().filter(|job| job.is_active() && !job.asks());
        let paused: HashSet<StageKey> = paused.flat_map(|job| job.record.stages.iter().copied()).collect();
        let keys: Vec<StageKey> = self.stages.keys().copied().collect();
        for key in keys {
            self.await_workers(key, paused.contains(&key));
            self.settle(key);
        }
        // That they stand in line was kept when they came to stand there.
        self.draft.events.clear();
        let active = self.jobs.iter().filter(|(_, job)| job.is_active());
        let active: Vec<u64> = active.map(|(sequence, _)| *sequence).collect();
        for sequence in active {
            self.arm_job_deadline(sequence);
            self.count_priority(sequence, true);
            if let Some(pause) = &self.job_at(sequence).status.paused {
                let until = pause.until;
                self.timers.arm(until, Timer::Resume(sequence));
            } else if self.last_stage(sequence).is_done() {
                self.succeed(sequence);
            } else if let Some((class, reason)) = failed_stage(self, &self.job_at(sequence).record) {
                let finished_ms = self.now.wall_ms;
                self.end_job(
                    sequence,
                    JobState::Failed {
                        class,
                        reason,
                        finished_ms,
                    },
                );
            }
        }
    }

    /// A stage that ran when the records were kept is expected to run still, on workers that have yet to come back: all of
    /// them, as the loss of one ends the attempt.
    fn await_workers(&mut self, key: StageKey, paused: bool) {
        let grace = self.config.restore_grace;
        let lease_at = self.now.elapsed.saturating_add(grace);
        let until = self.now.listened.saturating_add(grace);
        let stage = self.stage_mut(key);
        let unneeded = stage.users.is_empty();
        let attempt = stage.attempt();
        let State::Running(running) = &mut stage.state else {
            return;
        };
        if unneeded && !paused {
            running.ending = Some(Ending::Unneeded);
        }
        let open = running.open_seats(attempt);
        if unneeded && paused {
            self.ask_to_yield(key, Cause::Pause);
        }
        self.arm_deadline(key);
        let payer = self.stages[&key].running().map(|running| running.payer.clone());
        for (seat, name) in open {
            self.timers.arm(lease_at, Timer::Lease(name.clone()));
            let away = || {
                Worker::remembered(Link::Disconnected {
                    until,
                    lease_at,
                    excused: false,
                })
            };
            let worker = self.workers.entry(name.clone()).or_insert_with(away);
            worker.slots += 1;
            self.hold(&name, seat, payer.clone());
        }
    }
}

/// Where a stage stood when it was kept.
fn state_of(state: StageState, now: Now) -> State {
    match state {
        StageState::Pending => State::Pending(Default::default()),
        StageState::Running {
            ranks,
            result,
            started_ms,
            payer,
        } => State::Running(Running {
            started_ms,
            result,
            ..Running::new(ranks.into_iter().map(rank_of).collect(), payer, now)
        }),
        StageState::Done { result, latest_job } => State::Done(Done {
            result,
            latest_job,
            workers: Vec::new(),
        }),
        StageState::Failed { failure } => State::Failed(Failed {
            failure,
            worker: None,
        }),
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
fn failed_stage(scheduler: &Scheduler, job: &JobRecord) -> Option<(FailureClass, String)> {
    job.stages.iter().find_map(|key| {
        let stage = &scheduler.stages[key];
        let State::Failed(Failed { failure, .. }) = &stage.state else {
            return None;
        };
        Some((
            failure.class,
            format!("{} failed: {}", stage.kind, failure.message),
        ))
    })
}
