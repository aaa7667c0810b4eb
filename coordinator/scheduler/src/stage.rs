//! A stage and the states it can be in.

use std::time::Duration;

use nettailor_domain::ids::{Attempt, Seat, StageKey, UserName, WorkerId};
use nettailor_domain::session::Address;
use nettailor_domain::stage::{StageKind, StageResult};
use nettailor_domain::task::Workers;
use nettailor_domain::trainer::Failure;

use crate::event::Now;
use crate::line::Ticket;
use crate::record::{KeptCheckpoint, RankRecord, StageRecord, StageState};
use crate::sabotage::{self, Sabotage};
use crate::users::Users;

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
    pub(crate) key: StageKey,
    pub(crate) kind: StageKind,
    /// Stages whose results it needs, in the order of the graph.
    pub(crate) parents: Box<[StageKey]>,
    /// Sequence number of a job that plans it. What it is to do follows from any of them alike.
    pub(crate) planned_by: u64,
    /// Number of the latest attempt.
    pub(crate) attempts: u32,
    /// Numbers that the next attempt leaves out.
    pub(crate) skipped: u32,
    /// Attempts that failed by their own fault since the stage was last asked for.
    pub(crate) faults: u32,
    /// Attempts lost with their worker while they ran since the stage was last asked for.
    pub(crate) losses: u32,
    /// Attempts that a worker gave back, or that never reached it, since the stage was last asked for.
    pub(crate) returns: u32,
    /// The newest checkpoint; none once it is done.
    pub(crate) checkpoint: Option<KeptCheckpoint>,
    pub(crate) state: State,
    /// The live jobs that plan it.
    pub(crate) users: Users,
    /// Stages that name it as a parent.
    pub(crate) children: Vec<StageKey>,
    /// The worker on which it broke first since it was last asked for. Not kept across restarts.
    pub(crate) broke_on: Option<WorkerId>,
    /// Elapsed time at which it last made room for another. Not kept across restarts.
    pub(crate) preempted: Option<Duration>,
    /// Whether something is kept of it: not before its first attempt, as all else follows from its jobs.
    pub(crate) recorded: bool,
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
    /// The latest attempt, if a worker vanished with ranks of it: taken up again should all be back before another has
    /// started. Not kept across restarts.
    pub(crate) vanished: Option<Box<Vanished>>,
    /// Elapsed time at which a later stage first started before it, since it is in line. Not kept across restarts.
    pub(crate) passed_over: Option<Duration>,
    /// Elapsed time since which it is in line. Not kept across restarts.
    pub(crate) in_line: Option<Duration>,
}

/// What a pending stage waits for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For a job that asks for it.
    #[default]
    Idle,
    /// For its parents.
    Parents,
    /// For slots; it is in line with this ticket.
    Slots(Ticket),
    /// For this time to come; a timer is armed.
    BackOff(Duration),
    /// The same, because it keeps losing its workers.
    SetAside(Duration),
}

/// An attempt that a worker vanished with, as it ran.
#[derive(Debug)]
pub(crate) struct Vanished {
    pub(crate) running: Running,
    /// The worker that went with it first.
    pub(crate) gone: WorkerId,
    /// Whether it was counted as a loss; else as a return.
    pub(crate) loss: bool,
    /// When those of its ranks that go on are stopped unless all are back; a timer is armed.
    pub(crate) until: Option<Duration>,
}

/// How an attempt ended that must be followed by another.
#[derive(Debug, Clone)]
pub(crate) struct Setback {
    /// Where it went wrong; unknown where ranks lost each other and none has said why.
    pub(crate) worker: Option<WorkerId>,
    pub(crate) failure: Failure,
}

/// The latest attempt is assigned.
#[derive(Debug)]
pub(crate) struct Running {
    /// Its gang: at least one, in order.
    pub(crate) ranks: Vec<Rank>,
    /// What rank 0 found, once it is done.
    pub(crate) result: Option<Box<StageResult>>,
    /// Where rank 0 waits for the others, once it has said so. Not kept across restarts: its agent says it again.
    pub(crate) meeting: Option<Address>,
    /// Milliseconds since 1970, for display.
    pub(crate) started_ms: u64,
    /// Elapsed time at which it started; at which it was found again after a restart.
    pub(crate) started: Duration,
    /// When its deadline timer is armed for; `None` once it has run out.
    pub(crate) deadline: Option<Duration>,
    /// Why the attempt was told to stop.
    pub(crate) ending: Option<Ending>,
    /// It is to end after its next checkpoint.
    pub(crate) yielding: Option<Yielding>,
    /// Who pays for its slots.
    pub(crate) payer: UserName,
    /// Elapsed time at which its trainer expects to be done.
    pub(crate) expected: Option<Duration>,
    /// Elapsed time of the newest checkpoint that it left. Not kept across restarts.
    pub(crate) last_checkpoint: Option<Duration>,
}

/// An attempt is to end after its next checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Yielding {
    pub(crate) cause: Cause,
    /// Elapsed time at which it is stopped in any case; a timer is armed.
    pub(crate) by: Duration,
}

/// Why an attempt is to yield.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Every job that asked for it is paused.
    Pause,
    /// A worker of its is drained.
    Drain(WorkerId),
    /// Another stage needs its slots.
    Preempted {
        /// Which, in words.
        by: String,
    },
}

impl Cause {
    /// In words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Pause => "its job is paused".to_owned(),
            Self::Drain(worker) => format!("{worker} is being drained"),
            Self::Preempted { by } => format!("{by} goes first"),
        }
    }
}

/// One rank of a running attempt.
#[derive(Debug, Clone)]
pub(crate) struct Rank {
    pub(crate) worker: WorkerId,
    /// Whether the worker has spoken of it. One that did not reach its worker is not lost with it.
    pub(crate) reached: bool,
    /// Whether it has reported that it is done. Until then it takes a slot.
    pub(crate) done: bool,
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
    /// It makes room, and goes on later from its checkpoint.
    Yield,
}

impl Ending {
    /// What the workers are told.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Unneeded => "no live job asks for it any more".to_owned(),
            Self::Deadline { minutes } => {
                format!("it ran for longer than {minutes} min (resources.stage_minutes)")
            }
            Self::Yield => "it makes room, and goes on later from its checkpoint".to_owned(),
        }
    }
}

/// Finished.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) result: Box<StageResult>,
    /// The latest job when it was done.
    pub(crate) latest_job: u64,
    /// Who did it, by rank; empty after a restart.
    pub(crate) workers: Vec<WorkerId>,
}

impl Done {
    /// Whether the job of this sequence number found it done.
    pub(crate) fn reused_by(&self, sequence: u64) -> bool {
        self.latest_job < sequence
    }
}

/// Given up.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// Where it went wrong last; unknown after a restart, or where it did not get to run.
    pub(crate) worker: Option<WorkerId>,
}

impl Running {
    /// An attempt that starts now.
    pub(crate) fn new(ranks: Vec<Rank>, payer: UserName, now: Now) -> Self {
        Self {
            ranks,
            result: None,
            meeting: None,
            started_ms: now.wall_ms,
            started: now.elapsed,
            deadline: None,
            ending: None,
            yielding: None,
            payer,
            expected: None,
            last_checkpoint: None,
        }
    }

    /// A rank, if the attempt has so many.
    pub(crate) fn rank(&self, rank: u32) -> Option<&Rank> {
        self.ranks.get(rank as usize)
    }

    /// Whether this worker runs a rank that is not done.
    pub(crate) fn is_open(&self, rank: u32, worker: &WorkerId) -> bool {
        self.rank(rank)
            .is_some_and(|rank| !rank.done && rank.worker == *worker)
    }

    /// The seats of the ranks that are not done, this being `attempt`, with their workers.
    pub(crate) fn open_seats(&self, attempt: Attempt) -> Vec<(Seat, WorkerId)> {
        let seats = (0..).map(|rank| Seat { attempt, rank }).zip(&self.ranks);
        let open = seats.filter(|(_, rank)| !rank.done);
        open.map(|(seat, rank)| (seat, rank.worker.clone())).collect()
    }

    /// The workers, by rank.
    pub(crate) fn workers(&self) -> impl Iterator<Item = &WorkerId> {
        self.ranks.iter().map(|rank| &rank.worker)
    }
}

impl Rank {
    /// One that was placed on a worker now.
    pub(crate) fn placed(worker: WorkerId) -> Self {
        Self {
            worker,
            reached: false,
            done: false,
        }
    }
}

impl Stage {
    /// A stage that nobody has asked for yet.
    pub(crate) fn new(key: StageKey, kind: StageKind, parents: Box<[StageKey]>, planned_by: u64) -> Self {
        Self {
            key,
            kind,
            parents,
            planned_by,
            attempts: 0,
            skipped: 0,
            faults: 0,
            losses: 0,
            returns: 0,
            checkpoint: None,
            state: State::Pending(Pending::default()),
            users: Users::default(),
            children: Vec::new(),
            broke_on: None,
            preempted: None,
            recorded: false,
        }
    }

    /// How many ranks its next attempt may have: from the fewest to the most that one of its live jobs asks for; one where
    /// nothing is trained.
    pub(crate) fn width(&self) -> Workers {
        if self.kind.trains() {
            self.users.workers()
        } else {
            Workers::ONE
        }
    }

    /// Its place in line, if it stands there.
    pub(crate) fn ticket(&self) -> Option<&Ticket> {
        match &self.state {
            State::Pending(Pending {
                wait: Wait::Slots(ticket),
                ..
            }) => Some(ticket),
            _ => None,
        }
    }

    /// Elapsed time since which it is in line, if it is.
    pub(crate) fn waits_since(&self) -> Option<Duration> {
        match &self.state {
            State::Pending(pending) => pending.in_line,
            State::Running(_) | State::Done(_) | State::Failed(_) => None,
        }
    }

    /// The latest attempt.
    pub(crate) fn attempt(&self) -> Attempt {
        Attempt {
            stage: self.key,
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

    /// The latest attempt, if it vanished and may be taken up again.
    pub(crate) fn vanished(&self) -> Option<&Vanished> {
        match &self.state {
            State::Pending(pending) => pending.vanished.as_deref(),
            State::Running(_) | State::Done(_) | State::Failed(_) => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn vanished_mut(&mut self) -> Option<&mut Vanished> {
        match &mut self.state {
            State::Pending(pending) => pending.vanished.as_deref_mut(),
            State::Running(_) | State::Done(_) | State::Failed(_) => None,
        }
    }

    /// The attempt that runs, if this seat is one of its and, on this worker, not done.
    pub(crate) fn current(&self, worker: &WorkerId, seat: Seat) -> Option<&Running> {
        let current = |running: &&Running| running.is_open(seat.rank, worker);
        self.running()
            .filter(current)
            .filter(|_| self.attempt() == seat.attempt || sabotage::is(Sabotage::AnyAttempt))
    }

    /// The latest attempt, whether it runs or vanished, if this seat is one of its and, on this worker, not done.
    pub(crate) fn live_mut(&mut self, worker: &WorkerId, seat: Seat) -> Option<&mut Running> {
        let attempt = self.attempt();
        let running = match &mut self.state {
            State::Running(running) => running,
            State::Pending(pending) => &mut pending.vanished.as_mut()?.running,
            State::Done(_) | State::Failed(_) => return None,
        };
        Some(running).filter(|running| attempt == seat.attempt && running.is_open(seat.rank, worker))
    }

    /// Whether this seat's rank was reported and taken in as done.
    pub(crate) fn took_in(&self, seat: Seat) -> bool {
        let by = |running: &Running| running.rank(seat.rank).is_some_and(|rank| rank.done);
        let done = match &self.state {
            State::Done(_) => true,
            State::Running(running) => by(running),
            State::Pending(_) => self.vanished().is_some_and(|gone| by(&gone.running)),
            State::Failed(_) => false,
        };
        done && self.attempt() == seat.attempt
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
        self.broke_on = None;
        match &mut self.state {
            State::Failed(_) => self.state = State::Pending(Pending::default()),
            State::Pending(pending) => (pending.setback, pending.vanished) = (None, None),
            State::Running(_) | State::Done(_) => {}
        }
        changed
    }

    /// What is kept of it.
    pub(crate) fn record(&self) -> StageRecord {
        let state = match &self.state {
            State::Pending(_) => StageState::Pending,
            State::Running(running) => StageState::Running {
                ranks: running.ranks.iter().map(RankRecord::from).collect(),
                result: running.result.clone(),
                started_ms: running.started_ms,
                payer: running.payer.clone(),
            },
            State::Done(done) => StageState::Done {
                result: done.result.clone(),
                latest_job: done.latest_job,
            },
            State::Failed(failed) => StageState::Failed {
                failure: failed.failure.clone(),
            },
        };
        StageRecord {
            key: self.key,
            attempts: self.attempts - u32::from(sabotage::is(Sabotage::Uncounted) && self.attempts > 0),
            skipped: self.skipped,
            faults: self.faults,
            losses: self.losses,
            returns: self.returns,
            checkpoint: self.checkpoint,
            state,
        }
    }
}

impl From<&Rank> for RankRecord {
    fn from(rank: &Rank) -> Self {
        Self {
            worker: rank.worker.clone(),
            done: rank.done,
        }
    }
}
