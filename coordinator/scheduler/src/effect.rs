//! What must be done after a transition's records are durable.

use nettailor_domain::ids::{Seat, StageKey, TaskName, WorkerId};
use nettailor_domain::session::{Address, Order};
use nettailor_domain::stage::Artifact;

use crate::event::SessionNumber;
use crate::record::Record;

/// The outcome of one event.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transition {
    /// What changed, to be made durable first, all or nothing.
    pub records: Vec<Record>,
    /// What to do then, in order.
    pub effects: Vec<Effect>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a rank of an attempt to a worker.
    Assign {
        /// To whom.
        worker: WorkerId,
        /// In which session.
        session: SessionNumber,
        /// What.
        order: Box<Order>,
    },
    /// Tell a worker where rank 0 waits for one of its ranks.
    Meet {
        /// Whom.
        worker: WorkerId,
        /// In which session.
        session: SessionNumber,
        /// Which rank of which attempt.
        seat: Seat,
        /// Where.
        address: Address,
    },
    /// Tell a worker to end a rank.
    Stop {
        /// Whom.
        worker: WorkerId,
        /// In which session.
        session: SessionNumber,
        /// Which rank of which attempt.
        seat: Seat,
        /// Why, in words.
        reason: String,
    },
    /// Tell a worker that it may forget its report of a rank's end: it is durable, or was rejected.
    Acknowledge {
        /// Whom.
        worker: WorkerId,
        /// In which session.
        session: SessionNumber,
        /// Which rank of which attempt.
        seat: Seat,
    },
    /// Close a worker's session (its lease ran out, or a newer session replaced it).
    CloseSession {
        /// Whose.
        worker: WorkerId,
        /// Which.
        session: SessionNumber,
        /// Why, in words.
        reason: String,
    },
    /// A stage changed: tell those who watch a job that uses it.
    StageChanged(StageKey),
    /// The job at this sequence number stands elsewhere: tell its watchers.
    JobChanged(u64),
    /// Remove a checkpoint from the artifact store: there is a newer one, or nobody goes on from it any more.
    Discard(Artifact),
    /// A model was published: write its manifest to the artifact store.
    Published {
        /// Of which task.
        task: TaskName,
        /// Which version.
        version: u32,
    },
}
