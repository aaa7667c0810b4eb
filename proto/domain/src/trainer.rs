//! What a worker agent and its trainer process say to each other.
//!
//! The agent writes an [`Assignment`] as JSON to a file and starts `nettailor-trainer run <file>`. The trainer prints one
//! [`TrainerEvent`] as JSON per line on stdout; its stderr is the stage's log. The last event is `Finished` or `Failed`.
//! A trainer of a gang is told one [`TrainerCommand`] as a JSON line on stdin.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::Digest;
use crate::stage::{StageOutcome, StageResult, StageSpec};

/// One stage with its inputs made local.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// What to do.
    pub spec: StageSpec,
    /// Backbone weights; none for a `source` stage, which makes them.
    pub backbone: Option<BackboneFile>,
    /// Data set archive, tar.
    pub data: PathBuf,
    /// Results of the parents that the stage reads, but for the source's, which is [`Self::backbone`]: the teacher always
    /// (but for the teacher itself); the student for a candidate or a search; what left the chosen candidate for `select`.
    pub parents: Vec<ParentInput>,
    /// The choice that was made from all candidates; `select` only.
    pub selection: Option<crate::architecture::Selection>,
    /// Folder shared by the trainers of the node, for decoded data.
    pub cache_dir: PathBuf,
    /// Folder of this attempt. The trainer leaves [`WEIGHTS_FILE`] there.
    pub output_dir: PathBuf,
    /// CPU threads that the trainer may use.
    pub threads: usize,
    /// Which rank it is.
    pub rank: u32,
    /// Ranks that work on the stage together; 1 for a trainer of its own.
    pub world_size: u32,
    /// Names the attempt, so that ranks of different attempts do not meet.
    pub gang: String,
    /// What an earlier attempt left, to go on from.
    pub checkpoint: Option<PathBuf>,
    /// Seconds between checkpoints at least; 0 for one after every epoch.
    pub checkpoint_seconds: u32,
    /// Folder where every rank notes which images it trains on, if anybody wants to know.
    pub sample_ledger: Option<PathBuf>,
}

/// A backbone's weights on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackboneFile {
    /// Safetensors under the publisher's names.
    pub path: PathBuf,
    /// What the file's bytes must hash to.
    pub digest: Digest,
}

/// Name of the weights file in [`Assignment::output_dir`].
pub const WEIGHTS_FILE: &str = "weights.safetensors";

/// A finished parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParentInput {
    /// What it found.
    pub result: StageResult,
    /// Its weights file, local.
    pub weights: PathBuf,
}

/// One line of the trainer's stdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum TrainerEvent {
    /// Something moved.
    Progress(Progress),
    /// Rank 0 of a gang waits for the others.
    Meeting {
        /// TCP port, on every address of the node.
        port: u16,
    },
    /// A checkpoint is complete: it stays until the next one is announced.
    Checkpoint(Checkpoint),
    /// The stage is done; its weights file, if any, is complete.
    Finished(Finished),
    /// The stage cannot be done.
    Failed(Failure),
}

/// What a trainer is told while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum TrainerCommand {
    /// To ranks other than 0: where rank 0 waits.
    Meet {
        /// `host:port`.
        address: String,
    },
}

/// Contents of [`TrainerEvent::Checkpoint`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The file, in [`Assignment::output_dir`].
    pub file: PathBuf,
    /// Epochs that are behind it.
    pub epoch: u32,
    /// Steps that are behind it.
    pub step: u64,
}

/// How far a stage is. Losses are means since the last report.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done: `reading data`, `measuring blocks`, `training`, `estimating statistics`, `evaluating`.
    pub phase: String,
    /// Current epoch, from 1.
    pub epoch: u32,
    /// Epochs in all.
    pub epochs: u32,
    /// Steps done, over all epochs.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// The whole loss.
    pub loss: f64,
    /// Cross-entropy.
    pub cross_entropy: f64,
    /// Omega, unweighted.
    pub hint: f64,
    /// E[C], unweighted; 0 where it is no part of the loss.
    pub expected_complexity: f64,
    /// Latest held-out accuracy, once measured.
    pub held_out: Option<f64>,
    /// Training images per second since the last report.
    pub images_per_second: f64,
    /// Seconds to the end of the stage, estimated from the pace so far; once there is one.
    pub eta_seconds: Option<f64>,
}

/// Contents of [`TrainerEvent::Finished`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// What was found.
    pub outcome: StageOutcome,
    /// Images used: training, held out, test.
    pub samples: [u64; 3],
    /// Images left out because they could not be read.
    pub unreadable: u64,
}

/// Why a stage cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Whether trying again can help.
    pub class: FailureClass,
    /// Where, what was expected, what to do.
    pub message: String,
}

/// Decides what happens after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The inputs are wrong; the same attempt would fail again. Not retried.
    Input,
    /// The node lacks something (disk, memory, a file). Retried elsewhere, counted.
    Resources,
    /// The trainer broke. Retried, counted.
    Internal,
    /// The worker was lost. Retried, never counted.
    Lost,
    /// The stage ran past its deadline. Retried, counted.
    Deadline,
}
