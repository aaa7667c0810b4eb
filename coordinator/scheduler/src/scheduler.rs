//! The scheduler itself: its state, the way in, and the way out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use nettailor_domain::explain::{Happening, What};
use nettailor_domain::ids::{Digest, JobId, StageKey, TaskName, UserName, WorkerId};
use nettailor_domain::model::ModelRecord;

use crate::absence::Departure;
use crate::account::Account;
use crate::admission::Admission;
use crate::config::Config;
use crate::effect::{Effect, Transition};
use crate::error::Rejected;
use crate::event::{Event, Now};
use crate::explain::Durations;
use crate::job::Job;
use crate::line::Line;
use crate::pool::Pools;
use crate::record::{EventRecord, JobRecord, JobStatus, Record, Subject};
use crate::stage::{Stage, State};
use crate::timers::Timers;
use crate::view::Counters;
use crate::worker::Worker;

/// The state machine. See the crate's own page for how it is driven.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: Config,
    /// Time of the latest event.
    pub(crate) now: Now,
    /// Every job ever, by place in the order of submission.
    pub(crate) jobs: BTreeMap<u64, Job>,
    /// Their places by id.
    pub(crate) sequences: BTreeMap<JobId, u64>,
    /// Every stage ever planned. Boxed, as a table of several hundred bytes per entry is slow to grow.
    pub(crate) stages: HashMap<StageKey, Box<Stage>>,
    /// Workers by name.
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    /// Every task's models; version v is at v - 1.
    pub(crate) models: BTreeMap<TaskName, Vec<ModelRecord>>,
    /// Version of the model that was made for a task by a select stage.
    pub(crate) published: HashMap<(TaskName, StageKey), u32>,
    /// Stages that wait for slots.
    pub(crate) line: Line,
    /// Workers that take work, by make.
    pub(crate) pools: Pools,
    /// Who pays for jobs.
    pub(crate) accounts: BTreeMap<UserName, Account>,
    /// Whether workers are given work: those of whom there is something to say.
    pub(crate) admissions: BTreeMap<WorkerId, Admission>,
    /// Whether what users have used ages: a timer is armed.
    pub(crate) ageing: bool,
    /// Workers thought to hold a blob.
    pub(crate) holders: HashMap<Digest, BTreeSet<WorkerId>>,
    /// How long the latest stages of a sort took.
    pub(crate) durations: Durations,
    /// Whether something has changed that matters to who starts.
    pub(crate) stirred: bool,
    /// When it was last looked at who starts.
    pub(crate) decided_ms: u64,
    /// For whom slots are being freed, and until when what becomes free is kept for that.
    pub(crate) room: Option<(StageKey, Duration)>,
    /// How many live jobs have each priority.
    pub(crate) priorities: BTreeMap<i8, usize>,
    /// Elapsed time before which it is not looked again whether somebody is to make room.
    pub(crate) preempts_at: Duration,
    /// Time and number of the latest thing that happened.
    pub(crate) last_event: (Duration, u32),
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
    /// New jobs, by sequence number.
    pub(crate) jobs: Vec<u64>,
    /// Jobs that stand elsewhere now.
    pub(crate) statuses: BTreeSet<u64>,
    /// Stages whose record changed.
    pub(crate) stages: BTreeSet<StageKey>,
    /// Stages that look different now.
    pub(crate) seen: BTreeSet<StageKey>,
    /// New models.
    pub(crate) models: Vec<(TaskName, u32)>,
    /// Users whose settings changed.
    pub(crate) users: BTreeSet<UserName>,
    /// Workers of which something else is kept now.
    pub(crate) workers: BTreeSet<WorkerId>,
    /// What happened.
    pub(crate) events: Vec<EventRecord>,
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
            sequences: BTreeMap::new(),
            stages: HashMap::new(),
            workers: BTreeMap::new(),
            models: BTreeMap::new(),
            published: HashMap::new(),
            line: Line::default(),
            pools: Pools::default(),
            accounts: BTreeMap::new(),
            admissions: BTreeMap::new(),
            ageing: false,
            holders: HashMap::new(),
            durations: Durations::default(),
            stirred: false,
            decided_ms: 0,
            room: None,
            priorities: BTreeMap::new(),
            preempts_at: Duration::ZERO,
            last_event: (Duration::ZERO, 0),
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
            Event::Update {
                job,
                priority,
                deadline,
            } => self.update(&job, priority, deadline)?,
            Event::Pause { job, reason, time } => self.pause(&job, reason, time)?,
            Event::Resume { job } => self.resume(&job)?,
            Event::Cordon {
                worker,
                reason,
                drain,
            } => self.cordon(&worker, reason, drain),
            Event::Uncordon { worker } => self.uncordon(&worker)?,
            Event::SetUser(user) => self.set_user(user)?,
            Event::Pace {
                worker,
                session,
                seat,
                left,
            } => self.pace(&worker, session, seat, left),
            Event::Tick => self.tick(),
        }
        self.dispatch();
        Ok(self.take_transition())
    }

    /// Wall-clock time of the latest event, milliseconds since 1970.
    pub fn wall_ms(&self) -> u64 {
        self.now.wall_ms
    }

    /// Elapsed time of the latest event.
    pub fn elapsed(&self) -> Duration {
        self.now.elapsed
    }

    /// Elapsed time at which a [`Event::Tick`] is next of use; `None` while nothing is waited for.
    pub fn next_wakeup(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Turns the draft into records and effects. Models first, jobs last, so that a reader of the records in order
    /// never meets a name before the thing.
    fn take_transition(&mut self) -> Transition {
        let draft = std::mem::take(&mut self.draft);
        let count = draft.models.len() + draft.stages.len() + draft.jobs.len() + draft.statuses.len();
        let mut records = Vec::with_capacity(count);
        for (task, version) in &draft.models {
            records.push(Record::Model(Box::new(
                self.models[task][*version as usize - 1].clone(),
            )));
        }
        for key in &draft.stages {
            records.push(Record::Stage(Box::new(self.stages[key].record())));
        }
        for sequence in &draft.jobs {
            records.push(Record::Job(self.jobs[sequence].record.clone()));
        }
        let users = draft.users.iter().map(|name| &self.accounts[name].record);
        records.extend(users.cloned().map(Record::User));
        let workers = draft.workers.iter().map(|name| self.worker_record(name));
        records.extend(workers.map(Record::Worker));
        records.extend(draft.events.into_iter().map(Record::Event));
        for sequence in &draft.statuses {
            records.push(Record::Status(self.jobs[sequence].status.clone()));
        }
        let mut effects = draft.effects;
        effects.extend(draft.seen.iter().map(|key| Effect::StageChanged(*key)));
        effects.extend(
            draft
                .statuses
                .iter()
                .map(|sequence| Effect::JobChanged(*sequence)),
        );
        Transition { records, effects }
    }

    /// Keeps that something happened.
    pub(crate) fn happened(&mut self, subject: Subject, what: What, attempt: u32, reason: String) {
        if what == What::Started {
            // That it was ready says nothing where it starts at once.
            let ready = |event: &EventRecord| event.subject == subject && event.happening.what == What::Ready;
            self.draft.events.retain(|event| !ready(event));
        }
        let at = self.now.elapsed;
        let index = match self.last_event {
            (last, index) if last == at => index + 1,
            _ => 0,
        };
        self.last_event = (at, index);
        let happening = Happening {
            at_ms: self.now.wall_ms,
            attempt,
            what,
            reason,
        };
        self.draft.events.push(EventRecord {
            subject,
            at,
            index,
            happening,
        });
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.draft.effects.push(effect);
    }

    /// A stage looks different to those who watch it.
    pub(crate) fn show(&mut self, key: StageKey) {
        self.draft.seen.insert(key);
    }

    /// A stage's record changed. There is none before its first attempt.
    pub(crate) fn keep_stage(&mut self, key: StageKey) {
        let stage = self.stage_mut(key);
        stage.recorded |= stage.attempts > 0 || matches!(stage.state, State::Failed(_));
        if stage.recorded {
            self.draft.stages.insert(key);
        }
        self.show(key);
    }

    /// The stage of a key that is known to exist: keys come from plans, and a plan's stages are never removed.
    pub(crate) fn stage_mut(&mut self, key: StageKey) -> &mut Stage {
        self.stages.get_mut(&key).expect("a planned stage exists")
    }

    /// Where the job at this sequence number stands, to be changed.
    pub(crate) fn status_mut(&mut self, sequence: u64) -> &mut JobStatus {
        self.draft.statuses.insert(sequence);
        let job = self.jobs.get_mut(&sequence);
        &mut job.expect("a job with a sequence number exists").status
    }

    /// The job at this sequence number.
    pub(crate) fn job_at(&self, sequence: u64) -> &Job {
        &self.jobs[&sequence]
    }

    /// What a stage follows from.
    pub(crate) fn planned_by(&self, key: StageKey) -> &JobRecord {
        &self.job_at(self.stages[&key].planned_by).record
    }
}
