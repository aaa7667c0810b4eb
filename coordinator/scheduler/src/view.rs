//! What the scheduler shows: plain values for an API, every state with its reason in words.

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{JobId, Seat, StageKey, TaskName, UserName, WorkerId};
use nettailor_domain::labels::Labels;
use nettailor_domain::stage::{StageKind, StageResult};
use nettailor_domain::trainer::FailureClass;

use crate::record::UserRecord;

/// Where a job stands, as shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobPhase {
    /// None of its stages was started for it yet.
    Queued,
    /// At least one of its stages was started for it.
    Running,
    /// Its model is in the registry.
    Succeeded,
    /// A stage could not be done.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// It asks for nothing until it is resumed.
    Paused,
}

impl JobPhase {
    /// Whether the job is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// One job, as shown.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Place in the order of submission, from 1.
    pub sequence: u64,
    /// Its task.
    pub task: TaskName,
    /// The backbone's architecture.
    pub arch: BackboneName,
    /// Where it stands.
    pub phase: JobPhase,
    /// Why it stands there, in words; never empty.
    pub reason: String,
    /// Who pays for it.
    pub user: UserName,
    /// Among the jobs of one user those of higher priority go first.
    pub priority: i8,
    /// The job that it does once more.
    pub retry_of: Option<JobId>,
    /// What kind of failure it was, once it failed.
    pub failure_class: Option<FailureClass>,
    /// Milliseconds since 1970.
    pub submitted_ms: u64,
    /// Milliseconds since 1970, once it is over.
    pub finished_ms: Option<u64>,
    /// Version of its model, once it succeeded.
    pub model_version: Option<u32>,
    /// Stages started for it, not found finished.
    pub stages_run: u32,
    /// Number of its stages.
    pub stage_count: usize,
    /// Its stages, parents before children. Empty in a listing.
    pub stages: Vec<StageView>,
}

/// Where a stage stands, as shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StagePhase {
    /// A parent is not done.
    Waiting,
    /// Ready; no slot yet, or backing off.
    Queued,
    /// An attempt is assigned to a worker.
    Running,
    /// Finished; its result is kept.
    Done,
    /// Given up.
    Failed,
    /// Not done, and no live job asks for it.
    Idle,
}

/// One stage, as shown.
#[derive(Debug, Clone, PartialEq)]
pub struct StageView {
    /// Its key.
    pub key: StageKey,
    /// Which stage.
    pub kind: StageKind,
    /// Where it stands.
    pub phase: StagePhase,
    /// Why it stands there, in words; never empty.
    pub reason: String,
    /// Number of the latest attempt; 0 before the first.
    pub attempt: u32,
    /// Workers of a running or finished attempt, by rank; of one that ended otherwise that of the rank which ended it. As far
    /// as they are known.
    pub workers: Vec<WorkerId>,
    /// Ranks of a running or finished attempt; 0 for none, or if not known any more.
    pub world_size: u32,
    /// Epochs that are behind what its next attempt would go on from.
    pub checkpoint_epoch: Option<u32>,
    /// What it found, once done.
    pub result: Option<Box<StageResult>>,
    /// The job found it done; it was not run for it.
    pub reused: bool,
}

/// Where a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkerPhase {
    /// Takes work.
    Ready,
    /// Takes no new work.
    Draining,
    /// Has no session; its attempts are waited for until its lease ends.
    Disconnected,
    /// Somebody took it out of use.
    Cordoned,
    /// Several stages broke on it: it is left alone for a while.
    SetAside,
}

/// One worker, as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// Its name.
    pub id: WorkerId,
    /// Where it stands.
    pub phase: WorkerPhase,
    /// Why it stands there, in words; never empty.
    pub reason: String,
    /// Trainers it runs at a time.
    pub slots: u32,
    /// Slots taken, by running attempts and by such that are being stopped.
    pub slots_used: u32,
    /// CPU threads per slot.
    pub threads_per_slot: u32,
    /// "cpu", or the name of the GPU; empty where it has not said so since the coordinator started.
    pub device: String,
    /// What jobs may ask for.
    pub labels: Labels,
    /// Bytes of the inputs of what was placed on it, and how many of these it held already.
    pub placed_bytes: [u64; 2],
    /// The agent's version; empty as above.
    pub version: String,
    /// What holds its slots.
    pub running: Vec<RunningView>,
    /// Number of blobs that it is thought to have in its cache.
    pub cached_blobs: usize,
    /// Milliseconds since 1970 of its last message; 0 where there was none since the coordinator started.
    pub last_seen_ms: u64,
}

/// One rank that holds a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningView {
    /// Which.
    pub seat: Seat,
    /// In words: "digits: candidate(6), attempt 1, rank 0".
    pub description: String,
}

/// A user, as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    /// What the user may have.
    pub record: UserRecord,
    /// Slots that the user's stages take now.
    pub in_use: u32,
    /// Stages of the user's that wait for slots.
    pub waiting: u32,
    /// What counts against the user, slot-seconds, halved every hour.
    pub used_seconds: u64,
}

/// Messages that were dropped, and attempts that went wrong, since the scheduler was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Ends, meetings and checkpoints of ranks that are not current on the reporting worker.
    pub stale_reports: u64,
    /// Ends of ranks that were reported and accepted as done before.
    pub duplicate_reports: u64,
    /// Messages of sessions that were replaced or closed.
    pub old_session_messages: u64,
    /// Attempts assigned.
    pub assigned: u64,
    /// Attempts accepted as done.
    pub finished: u64,
    /// Attempts that failed by their own fault.
    pub faults: u64,
    /// Attempts lost with their worker while they ran.
    pub losses: u64,
    /// Attempts that a worker gave back, or that never reached it.
    pub returns: u64,
    /// Attempts that were lost, or did not seem to have reached their worker, and were brought back by it.
    pub adopted: u64,
}
