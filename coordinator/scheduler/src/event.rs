//! What can happen to the scheduler.

use std::time::Duration;

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{JobId, Seat, StageKey, UserName, WorkerId};
use nettailor_domain::session::{Address, Offer};
use nettailor_domain::stage::{Blueprint, Checkpoint, PlannedStage, Rerun, StageKind, StageResult};
use nettailor_domain::task::{TaskInputs, TaskSpec};
use nettailor_domain::trainer::Failure;

use crate::record::UserRecord;

/// The time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, since the process started: deadlines and back-off are measured by it.
    pub elapsed: Duration,
    /// How much of that the coordinator has listened: what it slept through, or was too busy for, is left out. The silence and
    /// the absence of workers are measured by it, so that nobody is lost for what nobody could have heard.
    pub listened: Duration,
    /// Milliseconds since 1970, for display only.
    pub wall_ms: u64,
}

/// One session of a worker: a later session of the same worker has a larger number.
pub type SessionNumber = u64;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "an event is made, moved into the loop and consumed; none are stored"
)]
pub enum Event {
    /// A validated task was submitted under a fresh id.
    Submit(Planned),
    /// Somebody wants a job ended.
    Cancel {
        /// Which.
        job: JobId,
        /// Why, in words.
        reason: String,
    },
    /// Somebody changes a live job.
    Update {
        /// Which.
        job: JobId,
        /// Its priority from now on.
        priority: Option<i8>,
        /// Its deadline, from now.
        deadline: Option<Duration>,
    },
    /// Somebody wants a job to ask for nothing for a while.
    Pause {
        /// Which.
        job: JobId,
        /// Why, in words.
        reason: String,
        /// For how long at most.
        time: Duration,
    },
    /// Somebody wants a paused job to go on.
    Resume {
        /// Which.
        job: JobId,
    },
    /// Somebody takes a worker out of use.
    Cordon {
        /// Which, connected or not.
        worker: WorkerId,
        /// Why, in words.
        reason: String,
        /// Whether what runs there is to go on elsewhere.
        drain: bool,
    },
    /// Somebody takes a worker back into use.
    Uncordon {
        /// Which.
        worker: WorkerId,
    },
    /// Somebody sets what a user may have.
    SetUser(UserRecord),
    /// A worker opened a session and is ready to work in it.
    WorkerConnected {
        /// Who.
        worker: WorkerId,
        /// This session; messages of older ones no longer count.
        session: SessionNumber,
        /// What it offers.
        offer: Offer,
    },
    /// A worker's stream broke.
    WorkerDisconnected {
        /// Who.
        worker: WorkerId,
        /// Which session.
        session: SessionNumber,
    },
    /// A worker takes no new work.
    WorkerDraining {
        /// Who.
        worker: WorkerId,
        /// Which session.
        session: SessionNumber,
    },
    /// A worker is alive. Every message of a session counts as one.
    Heartbeat {
        /// Who.
        worker: WorkerId,
        /// Which session.
        session: SessionNumber,
    },
    /// A worker speaks of a seat, so the assignment has reached it. Counts as a heartbeat.
    SeatRuns {
        /// Who.
        worker: WorkerId,
        /// In which session.
        session: SessionNumber,
        /// Which rank of which attempt.
        seat: Seat,
    },
    /// Rank 0 waits for the other ranks of its attempt.
    Meeting {
        /// Who says so.
        worker: WorkerId,
        /// In which session.
        session: SessionNumber,
        /// Of rank 0.
        seat: Seat,
        /// Where the other workers reach it.
        address: Address,
    },
    /// Rank 0 has left a checkpoint, which is in the store.
    Checkpointed {
        /// Who says so.
        worker: WorkerId,
        /// In which session.
        session: SessionNumber,
        /// Of rank 0.
        seat: Seat,
        /// What was left.
        checkpoint: Checkpoint,
    },
    /// Rank 0 tells when its trainer expects to be done.
    Pace {
        /// Who says so.
        worker: WorkerId,
        /// In which session.
        session: SessionNumber,
        /// Of rank 0.
        seat: Seat,
        /// From now.
        left: Duration,
    },
    /// A rank is done; rank 0's artifacts are in the store.
    SeatFinished {
        /// Who reports.
        worker: WorkerId,
        /// In which session.
        session: SessionNumber,
        /// Which rank of which attempt.
        seat: Seat,
        /// What was found; rank 0's counts.
        result: Option<Box<StageResult>>,
    },
    /// A rank ended without being done.
    SeatFailed {
        /// Who reports.
        worker: WorkerId,
        /// In which session.
        session: SessionNumber,
        /// Which rank of which attempt.
        seat: Seat,
        /// Why.
        failure: Failure,
    },
    /// Time passed: leases, deadlines and back-offs are looked at.
    Tick,
}

/// A submission and the stages that follow from it: working these out needs nothing else, so that of many it can be done in
/// parallel.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub(crate) submission: Submission,
    pub(crate) stages: Vec<NewStage>,
}

impl From<Submission> for Planned {
    fn from(submission: Submission) -> Self {
        let planned = submission.blueprint().plan().into_iter();
        let stages = planned.map(|PlannedStage { key, spec, parents }| NewStage {
            key,
            kind: spec.kind(),
            parents: parents.into(),
        });
        Self {
            stages: stages.collect(),
            submission,
        }
    }
}

/// A stage as a job plans it, without what it is to do: that follows from the job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewStage {
    pub(crate) key: StageKey,
    pub(crate) kind: StageKind,
    /// Stages whose results it needs, in the order of the graph.
    pub(crate) parents: Box<[StageKey]>,
}

/// A validated task with its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// Fresh id.
    pub job: JobId,
    /// The backbone's architecture.
    pub arch: BackboneName,
    /// What was asked for.
    pub task: TaskSpec,
    /// Its inputs.
    pub inputs: TaskInputs,
    /// Size of the blob that the backbone comes from, bytes: its weights, or the archive of its source's data.
    pub backbone_bytes: u64,
    /// Size of the data archive's blob, bytes.
    pub data_bytes: u64,
    /// Who pays.
    pub user: UserName,
    /// Instead of the task's own.
    pub priority: Option<i8>,
    /// Instead of the task's own.
    pub deadline: Option<Duration>,
    /// Stages that are run anew though they were done.
    pub reruns: Vec<Rerun>,
    /// The job that this one does once more.
    pub retry_of: Option<JobId>,
}

impl Submission {
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
