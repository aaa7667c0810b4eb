//! What can be asked of the engine.

use std::time::Duration;

use nettailor_domain::ids::{JobId, Seat, UserName, WorkerId};
use nettailor_domain::model::BackboneRecord;
use nettailor_domain::stage::StageKind;
use nettailor_domain::trainer::Progress;
use nettailor_scheduler::event::{Event, SessionNumber, Submission};
use nettailor_scheduler::{FindError, Rejected};

/// Something that changes the state.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "a request is made, moved to the engine and consumed"
)]
pub enum Request {
    /// Create a job for each of these, or none.
    Submit(Vec<Submission>),
    /// End a job.
    Cancel {
        /// The start of its id.
        job: String,
        /// Why, in words.
        reason: String,
    },
    /// Change a live job.
    Update {
        /// The start of its id.
        job: String,
        /// Its priority from now on.
        priority: Option<i8>,
        /// Its deadline, from now.
        deadline: Option<Duration>,
    },
    /// Let a job ask for nothing for a while.
    Pause {
        /// The start of its id.
        job: String,
        /// Why, in words.
        reason: String,
        /// For how long at most.
        time: Duration,
    },
    /// End a job's pause.
    Resume {
        /// The start of its id.
        job: String,
    },
    /// Do the work of ended jobs once more, each as a new job.
    Retry {
        /// The starts of their ids, and the ids of the new ones.
        jobs: Vec<(String, JobId)>,
        /// Leave out those that did not fail.
        failed_only: bool,
        /// Run this stage and those that follow anew though they are done.
        from: Option<StageKind>,
    },
    /// Take a worker out of use.
    Cordon {
        /// Which, connected or not.
        worker: WorkerId,
        /// Why, in words.
        reason: String,
        /// Whether what runs there is to go on elsewhere.
        drain: bool,
    },
    /// Take a worker back into use.
    Uncordon {
        /// Which.
        worker: WorkerId,
    },
    /// Change what a user may have; what is not given stays.
    SetUser {
        /// Who.
        name: UserName,
        /// Share beside others.
        weight: Option<u32>,
        /// Most slots at a time, or none.
        limit: Option<Option<u32>>,
        /// Slots that others make room for.
        guarantee: Option<u32>,
    },
    /// Keep an imported backbone, in place of an earlier one of the same name. When it was registered is filled in.
    Register(BackboneRecord),
    /// Something happened to a worker, or it did something.
    Agent(Event),
    /// A rank tells how far it is.
    Progress {
        /// Who says so.
        by: Speaker,
        /// Which rank of which attempt.
        seat: Seat,
        /// How far.
        progress: Progress,
    },
    /// A rank writes to its log.
    Log {
        /// Who says so.
        by: Speaker,
        /// Which rank of which attempt.
        seat: Seat,
    },
    /// Time has passed.
    Tick,
}

impl Request {
    /// Whether its answer is a promise to somebody who has nothing else to go by: then it must be in the journal, too, before it
    /// is answered. Workers say again what was lost.
    pub fn is_acknowledged(&self) -> bool {
        match self {
            Self::Submit(_)
            | Self::Cancel { .. }
            | Self::Update { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Retry { .. }
            | Self::Cordon { .. }
            | Self::Uncordon { .. }
            | Self::SetUser { .. }
            | Self::Register(_) => true,
            Self::Agent(_) | Self::Progress { .. } | Self::Log { .. } | Self::Tick => false,
        }
    }
}

/// Who speaks: a worker in one of its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// The worker.
    pub worker: WorkerId,
    /// Its session.
    pub session: SessionNumber,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "an answer is made, looked at and dropped"
)]
pub enum Answer {
    /// These jobs were created, in the order asked for.
    Submitted(Vec<JobId>),
    /// This job was meant.
    Job(JobId),
    /// The backbone as it is kept.
    Registered(BackboneRecord),
    /// Whether what a worker said counts: it is its open session that speaks, and the seat is still its to speak of.
    Heard(bool),
    /// There is nothing to say.
    Done,
}

/// Why a request changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The job that was meant was not found.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The scheduler does not take it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}
