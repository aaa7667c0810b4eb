//! What passes between the coordinator and a worker agent, on either side of the wire.

use crate::architecture::Selection;
use crate::ids::{Attempt, Digest};
use crate::stage::{Artifact, StageResult, StageSpec};

/// What a worker offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Trainers it runs at a time.
    pub slots: u32,
    /// CPU threads per slot.
    pub threads_per_slot: u32,
    /// "cpu", or the name of the GPU.
    pub device: String,
    /// Digests in its blob cache.
    pub cached: Vec<Digest>,
    /// Attempts it still runs, or has reported without being acknowledged.
    pub attempts: Vec<Attempt>,
    /// The agent's version.
    pub version: String,
    /// It takes no new work.
    pub draining: bool,
}

/// Everything an agent needs to run an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The attempt.
    pub attempt: Attempt,
    /// What to do.
    pub spec: StageSpec,
    /// Backbone weights; none for a source stage.
    pub backbone: Option<Artifact>,
    /// Data archive.
    pub data: Artifact,
    /// Results the trainer reads: see [`crate::trainer::Assignment::parents`].
    pub parents: Vec<StageResult>,
    /// The choice, for a select stage.
    pub selection: Option<Selection>,
    /// Task and stage in words.
    pub description: String,
}
