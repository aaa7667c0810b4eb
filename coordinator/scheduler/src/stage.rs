//! A stage and the states it can be in.

use std::collections::BTreeSet;
use std::time::Duration;

use nettailor_domain::ids::{Attempt, StageKey, WorkerId};
use nettailor_domain::stage::{Artifact, PlannedStage, StageKind, StageResult};
use nettailor_domain::trainer::Failure;

use crate::record::{StageRecord, StageState};

/// A place in line: jobs by submission, then a job's stages in the order of its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// The job's sequence number.
    pub(crate) sequence: u64,
    /// The stage's index in the job's plan.
    pub(crate) index: usize,
}

/// A stage, shared by every job that plans it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) planned: PlannedStage,
    /// Sizes of the blobs that its specification names, bytes: the backbone's weights (0 without), the data archive.
    pub(crate) input_bytes: [u64; 2],
    /// Number of the latest attempt.
    pub(crate) attempts: u32,
    /// Attempts that failed by their own fault since the stage was last asked for.
    pub(crate) faults: u32,
    /// Attempts lost with their worker while they ran since the stage was last asked for.
    pub(crate) losses: u32,
    /// Attempts that a worker gave back, or that never reached it, since the stage was last asked for.
    pub(crate) returns: u32,
    pub(crate) state: State,
    /// The live jobs that plan it.
    pub(crate) users: BTreeSet<Place>,
    /// Stages that name it as a parent.
    pub(crate) children: Vec<StageKey>,
}

/// Where a stage stands.
#[derive(Debug)]
pub(crate) enum State {
    Pending(Pending),
    Running(Running),
    Done(Done),
    Failed(Failed),
}

/// Not running, not finished.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) wait: Wait,
    /// What ended the attempt before, if one was counted.
    pub(crate) setback: Option<Setback>,
    /// The latest attempt, if its worker vanished with it: taken up again should the worker bring it back before another
    /// has started. Not kept across restarts.
    pub(crate) vanished: Option<Running>,
}

/// What a pending stage waits for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For a job that asks for it.
    #[default]
    Idle,
    /// For its parents.
    Parents,
    /// For a slot; it is in the ready queue at this place.
    Slot(Place),
    /// For this time to come; a timer is armed.
    BackOff(Duration),
}

/// How an attempt ended that must be followed by another.
#[derive(Debug, Clone)]
pub(crate) struct Setback {
    pub(crate) worker: WorkerId,
    pub(crate) failure: Failure,
}

/// The latest attempt is assigned.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) worker: WorkerId,
    /// Milliseconds since 1970, for display.
    pub(crate) started_ms: u64,
    /// Elapsed time at which it started; at which it was found again after a restart.
    pub(crate) started: Duration,
    /// When its deadline timer is armed for; `None` once it has run out.
    pub(crate) deadline: Option<Duration>,
    /// Why the attempt was told to stop.
    pub(crate) ending: Option<Ending>,
    /// Whether the worker has spoken of it. One that did not reach its worker is not lost with it.
    pub(crate) reached: bool,
}

/// Why an attempt was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// No live job asked for it at some time since it started.
    Unneeded,
    /// It ran past its deadline.
    Deadline {
        /// The limit that it passed, minutes.
        minutes: u32,
    },
}

/// Finished.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) result: Box<StageResult>,
    /// Who did it; unknown after a restart.
    pub(crate) worker: Option<WorkerId>,
}

/// Given up.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// Where it failed last; unknown after a restart, or where it did not get to run.
    pub(crate) worker: Option<WorkerId>,
}

impl Stage {
    /// A stage that nobody has asked for yet.
    pub(crate) fn new(planned: PlannedStage, input_bytes: [u64; 2]) -> Self {
        Self {
            planned,
            input_bytes,
            attempts: 0,
            faults: 0,
            losses: 0,
            returns: 0,
            state: State::Pending(Pending::default()),
            users: BTreeSet::new(),
            children: Vec::new(),
        }
    }

    pub(crate) fn kind(&self) -> StageKind {
        self.planned.spec.kind()
    }

    /// The latest attempt.
    pub(crate) fn attempt(&self) -> Attempt {
        Attempt {
            stage: self.planned.key,
            number: self.attempts,
        }
    }

    /// What it found, if it is done.
    pub(crate) fn result(&self) -> Option<&StageResult> {
        match &self.state {
            State::Done(done) => Some(&done.result),
            _ => None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Running(running) => Some(running),
            _ => None,
        }
    }

    /// Attempts that ended without a result since the stage was last asked for.
    pub(crate) fn tries(&self) -> u32 {
        self.faults + self.losses + self.returns
    }

    /// Whether its latest attempt was or is made for the jobs that ask for it now.
    pub(crate) fn started_for_users(&self) -> bool {
        match &self.state {
            State::Running(running) => running.ending != Some(Ending::Unneeded),
            State::Pending(_) => self.tries() > 0,
            State::Done(_) | State::Failed(_) => false,
        }
    }

    /// Forgets what went wrong before, as the stage is asked for anew. Says whether its record changed.
    pub(crate) fn renew(&mut self) -> bool {
        if self.is_done() {
            return false;
        }
        let changed = self.tries() > 0 || matches!(self.state, State::Failed(_));
        self.faults = 0;
        self.losses = 0;
        self.returns = 0;
        match &mut self.state {
            State::Failed(_) => self.state = State::Pending(Pending::default()),
            State::Pending(pending) => (pending.setback, pending.vanished) = (None, None),
            State::Running(_) | State::Done(_) => {}
        }
        changed
    }

    /// The blob of the backbone's weights, if they were submitted.
    pub(crate) fn submitted_backbone(&self) -> Option<Artifact> {
        let digest = self.planned.spec.backbone?;
        Some(Artifact {
            digest,
            bytes: self.input_bytes[0],
        })
    }

    /// The data archive's blob.
    pub(crate) fn data(&self) -> Artifact {
        Artifact {
            digest: self.planned.spec.data,
            bytes: self.input_bytes[1],
        }
    }

    /// What is kept of it.
    pub(crate) fn record(&self) -> StageRecord {
        let state = match &self.state {
            State::Pending(_) => StageState::Pending,
            State::Running(running) => StageState::Running {
                worker: running.worker.clone(),
                started_ms: running.started_ms,
            },
            State::Done(done) => StageState::Done {
                result: done.result.clone(),
            },
            State::Failed(failed) => StageState::Failed {
                failure: failed.failure.clone(),
            },
        };
        StageRecord {
            planned: self.planned.clone(),
            input_bytes: self.input_bytes,
            attempts: self.attempts,
            faults: self.faults,
            losses: self.losses,
            returns: self.returns,
            state,
        }
    }
}
