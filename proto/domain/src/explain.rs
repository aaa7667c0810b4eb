//! Why things stand where they stand: numbers for programs, and the same in words.

use serde::{Deserialize, Serialize};

use crate::ids::{JobId, UserName, WorkerId};
use crate::labels::Labels;
use crate::stage::StageKind;
use crate::trainer::FailureClass;

/// Why a job, a stage or a worker stands where it stands. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// What is explained: `job digits-abc234`, `student of job digits-abc234`, `worker w1`.
    pub subject: String,
    /// Its state, in a word.
    pub state: String,
    /// What binds it, with numbers.
    pub binding: Binding,
    /// The same in words.
    pub reason: String,
    /// Where it stands in line.
    pub position: Option<Position>,
    /// When it is expected to end, or to start, and what that is taken from.
    pub eta: Option<Eta>,
    /// When the scheduler last decided about it.
    pub decided_ms: u64,
    /// What could be done, in words; empty where there is nothing to do.
    pub action: String,
    /// What happened to it last, the newest last.
    pub events: Vec<Happening>,
}

/// What keeps something where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Binding {
    /// Nothing: it is over.
    Over,
    /// Nothing: it runs.
    Runs {
        /// Where, by rank.
        workers: Vec<WorkerId>,
        /// Since when.
        since_ms: u64,
    },
    /// It runs, and one of its workers is not heard of.
    Away {
        /// Which.
        worker: WorkerId,
        /// How long it is waited for.
        until_ms: u64,
    },
    /// It was told to stop and has not ended yet.
    Stopping {
        /// Where, by rank.
        workers: Vec<WorkerId>,
    },
    /// No worker is connected that takes work.
    NoWorker {
        /// Workers that are connected and take none.
        unavailable: u32,
    },
    /// Too few slots.
    Slots {
        /// So many are needed.
        need: u32,
        /// On workers with these labels.
        labels: Labels,
        /// So many are free there.
        free: u32,
        /// So many are connected there.
        connected: u32,
        /// Who has the others, those first that are expected to end first.
        holders: Vec<Holder>,
    },
    /// Free slots are kept for another stage, which needs more of them.
    Kept {
        /// Which, in words.
        other: String,
    },
    /// Others go first.
    Turn {
        /// Whose stages do, in words.
        before: String,
    },
    /// The user has all the slots that the user may have.
    Limit {
        /// Who.
        user: UserName,
        /// Slots in use.
        in_use: u32,
        /// Most slots.
        limit: u32,
        /// Slots that are needed.
        need: u32,
    },
    /// Stages that are to be done first.
    Parents {
        /// Which.
        stages: Vec<StageKind>,
    },
    /// It waits before the next attempt.
    BackOff {
        /// Until when.
        until_ms: u64,
        /// What ended the last one.
        class: FailureClass,
        /// The same in words.
        message: String,
    },
    /// It keeps losing its workers, and is left alone for a while.
    SetAside {
        /// Until when.
        until_ms: u64,
        /// How many workers it lost in a row.
        losses: u32,
    },
    /// Somebody paused it.
    Paused {
        /// Until when.
        until_ms: u64,
        /// Why, in words.
        reason: String,
    },
    /// No job asks for it.
    Unasked,
    /// Of a worker: it takes work.
    Open {
        /// Slots.
        slots: u32,
        /// Those in use.
        used: u32,
    },
    /// Of a worker: somebody took it out of use.
    Cordoned {
        /// Why, in words.
        reason: String,
        /// Whether what ran on it was sent elsewhere.
        draining: bool,
        /// Slots in use still.
        used: u32,
    },
    /// Of a worker: several stages broke on it one after the other.
    Struck {
        /// Until when it is left alone.
        until_ms: u64,
        /// How many stages.
        stages: u32,
    },
    /// Of a worker: it leaves when what runs on it has ended.
    Leaving {
        /// Slots in use still.
        used: u32,
    },
}

/// Who has slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Which job's stage, in words.
    pub what: String,
    /// The job that pays.
    pub job: Option<JobId>,
    /// How many.
    pub slots: u32,
    /// When it is expected to end.
    pub until_ms: Option<u64>,
}

/// A place in line, from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Among the user's stages.
    pub own: u32,
    /// How many of the user's wait.
    pub own_of: u32,
    /// The user's among those who wait.
    pub user: u32,
    /// How many users wait.
    pub users: u32,
    /// Who.
    pub name: UserName,
}

/// A time that is expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eta {
    /// When; unknown where there is nothing to take it from yet.
    pub at_ms: Option<u64>,
    /// What it is taken from, in words.
    pub basis: String,
}

/// Something that happened to a job, to one of its stages, or to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Number of the attempt; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// What.
    pub what: What,
    /// Why, in words.
    pub reason: String,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Kinds of things that happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A job was submitted.
    Submitted,
    /// A stage stands in line.
    Ready,
    /// An attempt was assigned.
    Started,
    /// An attempt left a checkpoint.
    Checkpoint,
    /// An attempt is to end after its next checkpoint.
    Yielding,
    /// An attempt ended without a result.
    Ended,
    /// A stage waits before its next attempt.
    Waits,
    /// A stage is done.
    Done,
    /// A stage was given up.
    Failed,
    /// A job was paused, a worker taken out of use.
    Paused,
    /// A job was resumed, a worker taken back into use.
    Resumed,
    /// Somebody changed a job's settings.
    Changed,
    /// A job is over.
    Over,
}

impl What {
    /// Its name, as it crosses the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Ready => "ready",
            Self::Started => "started",
            Self::Checkpoint => "checkpoint",
            Self::Yielding => "yielding",
            Self::Ended => "ended",
            Self::Waits => "waits",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Changed => "changed",
            Self::Over => "over",
        }
    }
}
