//! The scheduler itself: its state, the way in, and the way out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use nettailor_domain::ids::{JobId, StageKey, TaskName, WorkerId};
use nettailor_domain::model::ModelRecord;

use crate::absence::Departure;
use crate::config::Config;
use crate::effect::{Effect, Transition};
use crate::error::Rejected;
use crate::event::{Event, Now};
use crate::line::Line;
use crate::record::{JobRecord, JobState, Record};
use crate::stage::Stage;
use crate::timers::Timers;
use crate::view::Counters;
use crate::worker::Worker;

/// The state machine. See the crate's own page for how it is driven.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: Config,
    /// Time of the latest event.
    pub(crate) now: Now,
    /// Every job ever.
    pub(crate) jobs: BTreeMap<JobId, JobRecord>,
    /// The same by place in the order of submission.
    pub(crate) by_sequence: BTreeMap<u64, JobId>,
    /// Every stage ever planned.
    pub(crate) stages: HashMap<StageKey, Stage>,
    /// Workers by name.
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    /// Every task's models; version v is at v - 1.
    pub(crate) models: BTreeMap<TaskName, Vec<ModelRecord>>,
    /// Version of the model that was made for a task by a select stage.
    pub(crate) published: HashMap<(TaskName, StageKey), u32>,
    /// Stages that wait for slots.
    pub(crate) line: Line,
    /// Workers that have a slot to give.
    pub(crate) free: BTreeSet<WorkerId>,
    /// Workers that went a short time ago and are not back.
    pub(crate) departed: BTreeMap<WorkerId, Departure>,
    /// Listened time at which the coordinator was found to have stalled last.
    pub(crate) stalled: Option<Duration>,
    pub(crate) timers: Timers,
    pub(crate) counters: Counters,
    pub(crate) draft: Draft,
}

/// What the event in hand has changed so far.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// Jobs whose record changed.
    pub(crate) jobs: BTreeSet<JobId>,
    /// Stages whose record changed.
    pub(crate) stages: BTreeSet<StageKey>,
    /// New models.
    pub(crate) models: Vec<(TaskName, u32)>,
    /// Jobs, by sequence number, that look different now.
    pub(crate) seen: BTreeSet<u64>,
    pub(crate) effects: Vec<Effect>,
}

impl Scheduler {
    /// A scheduler that knows nothing.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            now: Now {
                elapsed: Duration::ZERO,
                listened: Duration::ZERO,
                wall_ms: 0,
            },
            jobs: BTreeMap::new(),
            by_sequence: BTreeMap::new(),
            stages: HashMap::new(),
            workers: BTreeMap::new(),
            models: BTreeMap::new(),
            published: HashMap::new(),
            line: Line::default(),
            free: BTreeSet::new(),
            departed: BTreeMap::new(),
            stalled: None,
            timers: Timers::default(),
            counters: Counters::default(),
            draft: Draft::default(),
        }
    }

    /// Takes in one event. The records of the answer must be durable before its effects are carried out.
    ///
    /// # Errors
    /// Only a submission or a cancellation can be refused; then nothing has changed. Messages of workers that do not
    /// fit the state are dropped and counted (see [`Scheduler::counters`]).
    pub fn apply(&mut self, event: Event, now: Now) -> Result<Transition, Rejected> {
        self.pass_time(now);
        match event {
            Event::Submit(submission) => self.submit(submission)?,
            Event::Cancel { job, reason } => self.cancel(job, reason)?,
            Event::WorkerConnected {
                worker,
                session,
                offer,
            } => self.worker_connected(worker, session, offer),
            Event::WorkerDisconnected { worker, session } => self.worker_disconnected(&worker, session),
            Event::WorkerDraining { worker, session } => self.worker_draining(&worker, session),
            Event::Heartbeat { worker, session } => {
                self.heard(&worker, session);
            }
            Event::SeatRuns {
                worker,
                session,
                seat,
            } => self.seat_runs(&worker, session, seat),
            Event::Meeting {
                worker,
                session,
                seat,
                address,
            } => self.meeting(&worker, session, seat, address),
            Event::Checkpointed {
                worker,
                session,
                seat,
                checkpoint,
            } => self.checkpointed(&worker, session, seat, checkpoint),
            Event::SeatFinished {
                worker,
                session,
                seat,
                result,
            } => self.seat_finished(&worker, session, seat, result),
            Event::SeatFailed {
                worker,
                session,
                seat,
                failure,
            } => self.seat_failed(&worker, session, seat, failure),
            Event::Tick => self.tick(),
        }
        self.dispatch();
        Ok(self.take_transition())
    }

    /// Elapsed time at which a [`Event::Tick`] is next of use; `None` while nothing is waited for.
    pub fn next_wakeup(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Turns the draft into records and effects. Models first, jobs last, so that a reader of the records in order
    /// never meets a name before the thing.
    fn take_transition(&mut self) -> Transition {
        let draft = std::mem::take(&mut self.draft);
        let mut records = Vec::with_capacity(draft.models.len() + draft.stages.len() + draft.jobs.len());
        for (task, version) in &draft.models {
            records.push(Record::Model(Box::new(
                self.models[task][*version as usize - 1].clone(),
            )));
        }
        for key in &draft.stages {
            records.push(Record::Stage(Box::new(self.stages[key].record())));
        }
        for id in &draft.jobs {
            records.push(Record::Job(Box::new(self.jobs[id].clone())));
        }
        let mut effects = draft.effects;
        effects.extend(
            draft
                .seen
                .iter()
                .map(|sequence| Effect::JobChanged(self.by_sequence[sequence].clone())),
        );
        Transition { records, effects }
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.draft.effects.push(effect);
    }

    /// A stage looks different to the jobs that use it.
    pub(crate) fn show(&mut self, key: StageKey) {
        self.draft
            .seen
            .extend(self.stages[&key].users.iter().map(|place| place.sequence));
    }

    /// A stage's record changed.
    pub(crate) fn keep_stage(&mut self, key: StageKey) {
        self.draft.stages.insert(key);
        self.show(key);
    }

    /// The stage of a key that is known to exist: keys come from plans, and a plan's stages are never removed.
    pub(crate) fn stage_mut(&mut self, key: StageKey) -> &mut Stage {
        self.stages.get_mut(&key).expect("a planned stage exists")
    }

    /// The live job at this sequence number, to be changed; its record counts as changed.
    pub(crate) fn job_mut(&mut self, sequence: u64) -> &mut JobRecord {
        let id = &self.by_sequence[&sequence];
        self.draft.jobs.insert(id.clone());
        self.draft.seen.insert(sequence);
        self.jobs
            .get_mut(id)
            .expect("a job with a sequence number exists")
    }

    /// The job at this sequence number.
    pub(crate) fn job_at(&self, sequence: u64) -> &JobRecord {
        &self.jobs[&self.by_sequence[&sequence]]
    }
}

/// Whether a job is not final.
pub(crate) fn is_active(job: &JobRecord) -> bool {
    job.state == JobState::Active
}
