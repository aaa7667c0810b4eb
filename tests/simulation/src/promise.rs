//! The promises, watched from outside: requests, answers, rows and messages are compared with what was promised. A contradiction
//! begins with the promise's name.
//!
//! P1: what was said is durable. P2: only the current attempt and the open session count. P3: nothing waits for ever. P4: slots
//! are released. P5: losses are nobody's fault. P6: what kind of failure it was is kept. P7: a worker that comes back goes on. P8:
//! what is over stays as it is. P9: checkpoints are whole and only get newer. P10: what was kept is what is restored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nettailor_domain::ids::{Digest, JobId, Seat, StageKey, WorkerId};
use nettailor_domain::trainer::FailureClass;
use nettailor_engine::{Answer, Applied, Change, Request, Row, RowKey, Speaker, State};
use nettailor_scheduler::Scheduler;
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::{Event, SessionNumber};
use nettailor_scheduler::record::{
    JobRecord, JobState, JobStatus, KeptCheckpoint, Record, RecordKey, StageRecord, StageState,
};

use crate::Verdict;
use crate::coordinator::After;
use crate::store::Twin;

/// Everything that must be remembered to judge what comes.
pub(crate) struct Promises {
    /// Attempts may run past their deadlines.
    hangs: bool,
    /// The newest records that the coordinator has made, durable or not.
    stages: HashMap<StageKey, StageRecord>,
    jobs: HashMap<u64, Arc<JobRecord>>,
    statuses: HashMap<u64, JobStatus>,
    /// The newest session of each worker.
    sessions: HashMap<WorkerId, SessionNumber>,
    /// Seats that were handed out.
    handed: HashSet<Seat>,
    /// Jobs that users were told of, and where they were told that these ended.
    acknowledged: HashSet<JobId>,
    told: HashMap<u64, JobStatus>,
    /// What workers said of attempts at a stage that failed.
    reported: HashMap<StageKey, HashSet<FailureClass>>,
}

/// What matters of a request, as things stood before it.
#[derive(Default)]
pub(crate) struct Before {
    who: Option<(WorkerId, SessionNumber)>,
    /// Whether it came in the worker's open session.
    open: bool,
    /// What it speaks of.
    seat: Option<Seat>,
    /// Whether it says that a rank ended, and how if it failed.
    ended: bool,
    failed: Option<FailureClass>,
    /// The worker's open session, if it is another.
    other: Option<SessionNumber>,
    /// Whether a session begins, and the current ranks that the worker brings back.
    connects: bool,
    back: Vec<Seat>,
}

/// Who says this, in which session.
fn speaker(event: &Event) -> Option<(&WorkerId, SessionNumber)> {
    match event {
        Event::WorkerConnected { worker, session, .. }
        | Event::WorkerDisconnected { worker, session }
        | Event::WorkerDraining { worker, session }
        | Event::Heartbeat { worker, session }
        | Event::SeatRuns { worker, session, .. }
        | Event::Meeting { worker, session, .. }
        | Event::Checkpointed { worker, session, .. }
        | Event::SeatFinished { worker, session, .. }
        | Event::SeatFailed { worker, session, .. } => Some((worker, *session)),
        _ => None,
    }
}

fn broken(promise: &str, what: impl std::fmt::Display) -> Verdict {
    Err(format!("{promise}: {what}"))
}

/// Whether a worker runs this rank, and it is not done.
fn runs(stage: &StageRecord, worker: &WorkerId, seat: Seat) -> bool {
    let StageState::Running { ranks, .. } = &stage.state else {
        return false;
    };
    let rank = ranks.get(seat.rank as usize);
    stage.attempts == seat.attempt.number && rank.is_some_and(|rank| rank.worker == *worker && !rank.done)
}

impl Promises {
    pub(crate) fn new(hangs: bool) -> Self {
        Self {
            hangs,
            stages: HashMap::new(),
            jobs: HashMap::new(),
            statuses: HashMap::new(),
            sessions: HashMap::new(),
            handed: HashSet::new(),
            acknowledged: HashSet::new(),
            told: HashMap::new(),
            reported: HashMap::new(),
        }
    }

    /// A request is about to be applied.
    pub(crate) fn before(&mut self, request: &Request, scheduler: &Scheduler) -> Before {
        let mut before = Before::default();
        match request {
            Request::Agent(event) => {
                before.who = speaker(event).map(|(worker, session)| (worker.clone(), session));
                match event {
                    Event::SeatFinished { seat, .. } => (before.seat, before.ended) = (Some(*seat), true),
                    Event::SeatFailed { seat, failure, .. } => {
                        (before.seat, before.ended) = (Some(*seat), true);
                        before.failed = Some(failure.class);
                        let reported = self.reported.entry(seat.attempt.stage).or_default();
                        reported.insert(failure.class);
                    }
                    Event::Checkpointed { seat, .. } | Event::Meeting { seat, .. } => {
                        before.seat = Some(*seat);
                    }
                    Event::WorkerConnected { worker, offer, .. } => {
                        before.back = self.brought_back(worker, &offer.seats);
                        before.connects = true;
                    }
                    _ => {}
                }
            }
            Request::Progress { by, seat, .. } | Request::Log { by, seat } => {
                let Speaker { worker, session } = by.clone();
                before.who = Some((worker, session));
                before.seat = Some(*seat);
            }
            _ => {}
        }
        if let Some((worker, session)) = &before.who {
            before.open = scheduler.is_open(worker, *session);
            let other = self.sessions.get(worker).copied();
            before.other = other.filter(|other| other != session && scheduler.is_open(worker, *other));
        }
        before
    }

    /// Ranks that are to go on when a worker lists these seats: its current ones, where no other rank of the same attempt on the
    /// same worker is missing.
    fn brought_back(&self, worker: &WorkerId, listed: &[Seat]) -> Vec<Seat> {
        let whole = |seat: &Seat| {
            let attempt = seat.attempt;
            let Some(stage) = self.stages.get(&attempt.stage) else {
                return false;
            };
            let StageState::Running { ranks, .. } = &stage.state else {
                return false;
            };
            let mut seats = (0..ranks.len() as u32).map(|rank| Seat { attempt, rank });
            runs(stage, worker, *seat)
                && seats.all(|other| !runs(stage, worker, other) || listed.contains(&other))
        };
        listed.iter().copied().filter(whole).collect()
    }

    /// A request was applied.
    pub(crate) fn after(&mut self, before: &Before, applied: &Applied, state: &State) -> Verdict {
        self.handed_out(applied)?;
        for change in &applied.changes {
            match change {
                Change::Put(Row::Record(Record::Stage(stage))) => self.stage_changes(before, stage)?,
                Change::Put(Row::Record(Record::Job(job))) => {
                    self.jobs.insert(job.sequence, job.clone());
                }
                Change::Put(Row::Record(Record::Status(status))) => self.job_changes(status)?,
                Change::Put(Row::Progress(attempt, _)) => {
                    let stage = self.stages.get(&attempt.stage);
                    let counts = stage.is_some_and(|stage| stage.attempts == attempt.number);
                    if !counts || !before.open {
                        return broken("P2", format_args!("progress of {attempt} was taken in"));
                    }
                }
                Change::Put(_) | Change::Remove(_) => {}
            }
        }
        let Some((worker, session)) = &before.who else {
            return Ok(());
        };
        if let (true, true, Some(seat)) = (before.ended, before.open, before.seat)
            && state.scheduler.takes_slot(worker, seat)
        {
            return broken(
                "P4",
                format_args!("the end of {seat} on {worker} did not free its slot"),
            );
        }
        if let Some(other) = before.other.filter(|_| !before.connects)
            && !state.scheduler.is_open(worker, other)
        {
            return broken(
                "P2",
                format_args!("session {session} of {worker}, which does not count, ended {other}"),
            );
        }
        if before.connects && state.scheduler.is_open(worker, *session) {
            self.sessions.insert(worker.clone(), *session);
            for seat in &before.back {
                if !state.scheduler.is_current(worker, *seat) {
                    return broken(
                        "P7",
                        format_args!("{worker} came back with {seat}, which was lost"),
                    );
                }
            }
        }
        Ok(())
    }

    /// What is handed out is numbered as it is kept.
    fn handed_out(&self, applied: &Applied) -> Verdict {
        for effect in &applied.effects {
            let Effect::Assign { worker, order, .. } = effect else {
                continue;
            };
            let kept = applied.changes.iter().any(|change| match change {
                Change::Put(Row::Record(Record::Stage(stage))) => {
                    stage.key == order.seat.attempt.stage && runs(stage, worker, order.seat)
                }
                _ => false,
            });
            if !kept {
                return broken("P10", format_args!("{} is handed out and not kept", order.seat));
            }
        }
        Ok(())
    }

    fn stage_changes(&mut self, before: &Before, stage: &StageRecord) -> Verdict {
        let key = stage.key;
        if let Some(old) = self.stages.insert(key, stage.clone()) {
            self.stage_goes_on(before, &old, stage)?;
        }
        if let StageState::Failed { failure } = &stage.state {
            let said = self.reported.get(&key);
            let said = said.is_some_and(|said| said.contains(&failure.class));
            // Nobody says that nothing is left to choose from, or that it took too long.
            let found = matches!(failure.class, FailureClass::Input | FailureClass::Deadline);
            if !said && !found {
                return broken("P6", format_args!("{key} failed as {:?}", failure.class));
            }
        }
        Ok(())
    }

    fn stage_goes_on(&self, before: &Before, old: &StageRecord, stage: &StageRecord) -> Verdict {
        let key = stage.key;
        if matches!(old.state, StageState::Done { .. }) {
            return broken("P8", format_args!("{key} was done and is kept anew"));
        }
        if stage.attempts < old.attempts {
            return broken("P10", format_args!("attempts at {key} are counted backwards"));
        }
        let age = |kept: KeptCheckpoint| (kept.attempt, kept.checkpoint.step);
        if let (Some(old), Some(new)) = (old.checkpoint, stage.checkpoint)
            && age(new) < age(old)
        {
            return broken("P9", format_args!("{key} went back to an older checkpoint"));
        }
        if let Some(seat) = before.seat.filter(|seat| seat.attempt.stage == key) {
            let stale = !before.open || seat.attempt.number != old.attempts;
            if stale && stage.attempts == old.attempts {
                return broken(
                    "P2",
                    format_args!("{seat}, which does not count, changed its stage"),
                );
            }
        }
        let own = before.failed.is_some_and(|class| class != FailureClass::Lost);
        if stage.faults > old.faults && !own && !self.hangs {
            return broken("P5", format_args!("{key} was charged with a fault that is none"));
        }
        Ok(())
    }

    fn job_changes(&mut self, status: &JobStatus) -> Verdict {
        let sequence = status.sequence;
        if let JobState::Failed { class, .. } = &status.state {
            let stages = self.jobs.get(&sequence).map(|job| job.stages.as_slice());
            let stages = stages.unwrap_or_default().iter();
            let mut failures = stages.filter_map(|key| match &self.stages.get(key)?.state {
                StageState::Failed { failure } => Some(failure.class),
                _ => None,
            });
            if !failures.any(|found| found == *class) {
                return broken(
                    "P6",
                    format_args!("job {sequence} failed as {class:?}, its stage did not"),
                );
            }
        }
        match self.statuses.insert(sequence, status.clone()) {
            Some(old) if old.state != JobState::Active => {
                broken("P8", format_args!("job {sequence} was over and is kept anew"))
            }
            _ => Ok(()),
        }
    }

    /// Something is said or done that waited for a commit.
    pub(crate) fn released(&mut self, twin: &Twin, after: &After, blobs: &HashMap<Digest, u32>) -> Verdict {
        match after {
            After::Effect(Effect::Assign { order, .. }) => {
                let seat = order.seat;
                let kept = kept_stage(twin, seat.attempt.stage);
                if kept.is_none_or(|kept| kept.attempts < seat.attempt.number) {
                    return broken("P1", format_args!("{seat} is handed out before that is durable"));
                }
                if !self.handed.insert(seat) {
                    return broken("P10", format_args!("{seat} is handed out twice"));
                }
                let there = |artifact| blobs.contains_key(artifact);
                match &order.checkpoint {
                    Some(artifact) if !there(&artifact.digest) => {
                        broken("P9", format_args!("{seat} is to go on from what is not there"))
                    }
                    _ => Ok(()),
                }
            }
            After::Effect(Effect::Discard(artifact)) => {
                let keeps = |row: &Row| {
                    let Row::Record(Record::Stage(stage)) = row else {
                        return false;
                    };
                    let kept = stage.checkpoint.map(|kept| kept.checkpoint.artifact);
                    kept == Some(*artifact)
                };
                if twin.any(keeps) {
                    return broken("P9", "a checkpoint is removed that is kept");
                }
                Ok(())
            }
            After::Tell(status) => self.tell(twin, status),
            After::Answer(Ok(Answer::Submitted(ids))) => {
                for id in ids {
                    if kept_job(twin, id).is_none() {
                        return broken(
                            "P1",
                            format_args!("job {id} is acknowledged before it is durable"),
                        );
                    }
                    self.acknowledged.insert(id.clone());
                }
                Ok(())
            }
            After::Cancelled(id) => {
                let status = kept_job(twin, id).and_then(|sequence| kept_status(twin, sequence));
                if status.is_none_or(|status| status.state == JobState::Active) {
                    return broken(
                        "P1",
                        format_args!("the end of job {id} is said before it is durable"),
                    );
                }
                Ok(())
            }
            After::Effect(_) | After::Answer(_) => Ok(()),
        }
    }

    /// Watchers are told where a job stands.
    fn tell(&mut self, twin: &Twin, status: &JobStatus) -> Verdict {
        let sequence = status.sequence;
        if status.state == JobState::Active {
            return Ok(());
        }
        if kept_status(twin, sequence).as_ref() != Some(status) {
            return broken(
                "P1",
                format_args!("the end of job {sequence} is told before it is durable"),
            );
        }
        match self.told.insert(sequence, status.clone()) {
            Some(told) if told != *status => {
                broken("P8", format_args!("job {sequence} was told to be over otherwise"))
            }
            _ => Ok(()),
        }
    }

    /// An agent is about to forget its report of this seat.
    pub(crate) fn acknowledged(&self, twin: &Twin, worker: &WorkerId, seat: Seat) -> Verdict {
        match kept_stage(twin, seat.attempt.stage) {
            Some(stage) if runs(&stage, worker, seat) => broken(
                "P1",
                format_args!("the end of {seat} is acknowledged and not durable"),
            ),
            _ => Ok(()),
        }
    }

    /// The checkpoint that an agent is to go on from is not there: that is nothing only where the attempt is over.
    pub(crate) fn missed(&self, twin: &Twin, worker: &WorkerId, seat: Seat) -> Verdict {
        match kept_stage(twin, seat.attempt.stage) {
            Some(stage) if runs(&stage, worker, seat) => broken(
                "P9",
                format_args!("{seat} is to go on from a checkpoint that is gone"),
            ),
            _ => Ok(()),
        }
    }

    /// A coordinator was started on these rows.
    pub(crate) fn restored(&mut self, state: &State, rows: Vec<Row>) -> Verdict {
        (self.stages, self.jobs, self.statuses) = Default::default();
        let scheduler = &state.scheduler;
        for row in rows {
            let Row::Record(record) = row else { continue };
            let same = match &record {
                Record::Job(job) => scheduler.job_numbered(job.sequence).map(|(job, _)| job) == Some(&**job),
                Record::Status(status) => {
                    scheduler.job_numbered(status.sequence).map(|(_, status)| status) == Some(status)
                }
                Record::Stage(stage) => scheduler.stage_record(&stage.key).as_ref() == Some(&**stage),
                Record::Model(model) => scheduler.model(&model.task, model.version) == Some(&**model),
                Record::User(user) => {
                    scheduler.user(&user.name).map(|view| view.record).as_ref() == Some(user)
                }
                // Who is out of use stays so by the scheduler's own tests, and what happened is read where it is kept.
                Record::Worker(_) | Record::Event(_) => true,
            };
            if !same {
                return broken("P10", format_args!("{record:?} was not restored as it was kept"));
            }
            match record {
                Record::Job(job) => {
                    self.acknowledged.remove(&job.id);
                    self.jobs.insert(job.sequence, job);
                }
                Record::Status(status) => {
                    self.statuses.insert(status.sequence, status);
                }
                Record::Stage(stage) => {
                    self.stages.insert(stage.key, *stage);
                }
                Record::Model(_) | Record::User(_) | Record::Worker(_) | Record::Event(_) => {}
            }
        }
        if let Some(job) = self.acknowledged.iter().next() {
            return broken("P1", format_args!("job {job} was acknowledged and is gone"));
        }
        self.acknowledged
            .extend(self.jobs.values().map(|job| job.id.clone()));
        for (sequence, told) in &self.told {
            if self.statuses.get(sequence) != Some(told) {
                return broken(
                    "P1",
                    format_args!("job {sequence} was told to be over and is not"),
                );
            }
        }
        Ok(())
    }
}

fn kept_stage(twin: &Twin, key: StageKey) -> Option<StageRecord> {
    match twin.row(&RowKey::Record(RecordKey::Stage(key)))? {
        Row::Record(Record::Stage(stage)) => Some(*stage),
        _ => None,
    }
}

fn kept_status(twin: &Twin, sequence: u64) -> Option<JobStatus> {
    match twin.row(&RowKey::Record(RecordKey::Status(sequence)))? {
        Row::Record(Record::Status(status)) => Some(status),
        _ => None,
    }
}

fn kept_job(twin: &Twin, id: &JobId) -> Option<u64> {
    let mut sequence = None;
    twin.any(|row| {
        if let Row::Record(Record::Job(job)) = row
            && job.id == *id
        {
            sequence = Some(job.sequence);
        }
        sequence.is_some()
    });
    sequence
}
