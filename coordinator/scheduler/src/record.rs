//! What is kept across restarts. Each record replaces the earlier one of the same key.

use std::sync::Arc;
use std::time::Duration;

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::explain::Happening;
use nettailor_domain::ids::{JobId, StageKey, TaskName, UserName, WorkerId};
use nettailor_domain::model::ModelRecord;
use nettailor_domain::stage::{Blueprint, Checkpoint, Rerun, StageResult};
use nettailor_domain::task::{TaskInputs, TaskSpec};
use nettailor_domain::trainer::{Failure, FailureClass};
use serde::{Deserialize, Serialize};

/// One thing to keep.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A job as it was submitted: written once.
    Job(Arc<JobRecord>),
    /// Where a job stands.
    Status(JobStatus),
    /// A stage, shared by every job that plans it, from its first attempt on. What it is to do follows from its jobs.
    Stage(Box<StageRecord>),
    /// A published model.
    Model(Box<ModelRecord>),
    /// What a user may have.
    User(UserRecord),
    /// Whether a worker is given work.
    Worker(WorkerRecord),
    /// Something that happened.
    Event(EventRecord),
}

/// Key of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// A job, by its sequence number.
    Job(u64),
    /// Where a job stands, by its sequence number.
    Status(u64),
    /// A stage.
    Stage(StageKey),
    /// A model.
    Model(TaskName, u32),
    /// A user.
    User(UserName),
    /// A worker.
    Worker(WorkerId),
    /// Something that happened: to what, when, and the how manieth at that time.
    Event(Subject, Duration, u32),
}

/// To what something happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// To a job, by its sequence number.
    Job(u64),
    /// To a stage.
    Stage(StageKey),
    /// To a worker.
    Worker(WorkerId),
}

/// Something that happened, kept with what it happened to and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// To what.
    pub subject: Subject,
    /// Elapsed time.
    pub at: Duration,
    /// The how manieth of the subject at that time, from 0.
    pub index: u32,
    /// What.
    #[serde(flatten)]
    pub happening: Happening,
}

/// What a user may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// Who.
    pub name: UserName,
    /// Share beside others, at least 1.
    pub weight: u32,
    /// Most slots at a time.
    pub limit: Option<u32>,
    /// Slots that others make room for.
    pub guarantee: u32,
}

impl UserRecord {
    /// What a user may have unless told otherwise.
    pub fn usual(name: UserName) -> Self {
        Self {
            name,
            weight: 1,
            limit: None,
            guarantee: 0,
        }
    }
}

/// What is kept of a worker, connected or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Its name.
    pub name: WorkerId,
    /// Somebody took it out of use.
    pub cordon: Option<Cordon>,
}

/// A worker is given no new work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {
    /// Why, in words; may be empty.
    pub reason: String,
    /// Whether what ran on it was sent elsewhere.
    pub drain: bool,
}

/// A job asks for nothing for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Elapsed time at which it ends by itself.
    pub until: Duration,
    /// Why, in words; may be empty.
    pub reason: String,
}

impl Record {
    /// The record's key.
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Job(job) => RecordKey::Job(job.sequence),
            Self::Status(status) => RecordKey::Status(status.sequence),
            Self::Stage(stage) => RecordKey::Stage(stage.key),
            Self::Model(model) => RecordKey::Model(model.task.clone(), model.version),
            Self::User(user) => RecordKey::User(user.name.clone()),
            Self::Worker(worker) => RecordKey::Worker(worker.name.clone()),
            Self::Event(event) => RecordKey::Event(event.subject.clone(), event.at, event.index),
        }
    }
}

/// A job as it was submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Place in the order of submission, from 1, over all jobs ever.
    pub sequence: u64,
    /// Who pays for it.
    pub user: UserName,
    /// The job that it does once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// The backbone's architecture.
    pub arch: BackboneName,
    /// What was asked for.
    pub task: TaskSpec,
    /// Its inputs.
    pub inputs: TaskInputs,
    /// Sizes of the blobs that these name, bytes: where the backbone comes from (its weights, or the archive of its
    /// source's data), the data archive.
    pub input_bytes: [u64; 2],
    /// Stages that are run anew though they were done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reruns: Vec<Rerun>,
    /// Its stages, parents before children.
    pub stages: Vec<StageKey>,
    /// When it was submitted, milliseconds since 1970.
    pub submitted_ms: u64,
}

impl JobRecord {
    /// What its stages follow from.
    pub fn blueprint(&self) -> Blueprint<'_> {
        Blueprint {
            arch: self.arch,
            task: &self.task,
            inputs: &self.inputs,
            reruns: &self.reruns,
        }
    }
}

/// Where a job stands, as kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Which job.
    pub sequence: u64,
    /// Among the jobs of one user those of higher priority go first.
    pub priority: i8,
    /// Elapsed time at which it fails unless it is over.
    pub deadline: Duration,
    /// It asks for nothing for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Stages that were executed for it, not found finished: counted once it is over, until then it follows from the stages.
    pub stages_run: u32,
    /// Where it stands.
    pub state: JobState,
}

/// Where a job stands. `queued` and `running` are told apart by its stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum JobState {
    /// Stages are still to be run.
    Active,
    /// Its model is in the registry.
    Succeeded {
        /// Version of the model.
        model_version: u32,
        /// Milliseconds since 1970.
        finished_ms: u64,
    },
    /// A stage could not be done.
    Failed {
        /// What kind of failure it was.
        class: FailureClass,
        /// Which stage and why, in words.
        reason: String,
        /// Milliseconds since 1970.
        finished_ms: u64,
    },
    /// Somebody ended it.
    Cancelled {
        /// Why, in words.
        reason: String,
        /// Milliseconds since 1970.
        finished_ms: u64,
    },
}

/// A stage as kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its key.
    pub key: StageKey,
    /// Number of the latest attempt; 0 before the first. Only grows.
    pub attempts: u32,
    /// Numbers that the next attempt leaves out: a state that was rebuilt may not know of the attempts that had them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u32,
    /// Attempts that failed by their own fault since the stage was last asked for.
    pub faults: u32,
    /// Attempts lost with their worker while they ran since the stage was last asked for.
    pub losses: u32,
    /// Attempts that a worker gave back, or that never reached it, since the stage was last asked for.
    pub returns: u32,
    /// What its next attempt goes on from; none once it is done.
    pub checkpoint: Option<KeptCheckpoint>,
    /// Where it stands.
    pub state: StageState,
}

impl StageRecord {
    /// A stage that was never started.
    pub fn new(key: StageKey) -> Self {
        Self {
            key,
            attempts: 0,
            skipped: 0,
            faults: 0,
            losses: 0,
            returns: 0,
            checkpoint: None,
            state: StageState::Pending,
        }
    }
}

/// The newest checkpoint of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCheckpoint {
    /// What was left.
    #[serde(flatten)]
    pub checkpoint: Checkpoint,
    /// Number of the attempt that left it.
    pub attempt: u32,
}

/// One rank of a running attempt, as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankRecord {
    /// Who runs it.
    pub worker: WorkerId,
    /// Whether it has reported that it is done.
    pub done: bool,
}

/// Where a stage stands, as far as it is kept. Whether a pending stage waits for parents, a slot or a back-off follows
/// from the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum StageState {
    /// Not running, not finished.
    Pending,
    /// The latest attempt runs.
    Running {
        /// Its gang, by rank.
        ranks: Vec<RankRecord>,
        /// What rank 0 found, once it is done: then other ranks have still to say that they are.
        result: Option<Box<StageResult>>,
        /// When it started, milliseconds since 1970.
        started_ms: u64,
        /// Who pays for its slots.
        payer: UserName,
    },
    /// Finished; never run again.
    Done {
        /// What it found.
        result: Box<StageResult>,
        /// The latest job when it was: those up to it had to wait for it, later ones found it done.
        latest_job: u64,
    },
    /// Given up.
    Failed {
        /// The last failure.
        failure: Failure,
    },
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
