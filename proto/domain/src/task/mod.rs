//! What a user asks for: one tailoring job's settings, every default in one place.
//!
//! A tasks file is `version`, `backbone`, `defaults` and `tasks`; each entry of `tasks` is laid over `defaults` and read
//! as a [`TaskSpec`]. The JSON Schema is derived from these types.

mod data;
mod defaults;
mod training;
mod workers;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backbone::BackboneName;
use crate::ids::{Digest, TaskName};
use crate::labels::Labels;

pub use data::{AugmentSettings, DataFormat, DataSettings, OnUnreadable};
pub use training::{
    BnMode, CandidateSettings, HintScale, Hints, Precision, Schedule, Search, StudentSettings,
    TrainingSettings,
};
pub use workers::{InvalidWorkers, Workers};

/// Where the pre-trained weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackboneSpec {
    /// Which network.
    pub arch: BackboneName,
    /// Weights file (.safetensors, .pth, .pt), relative to the tasks file. Without it, the weights that were imported
    /// with `nettailor-cli backbone import` for this network are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub weights: Option<String>,
    /// Instead of weights: pre-train the network on a source data set, once for all tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceSettings>,
}

/// Pre-training a backbone from random weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// The labelled images to learn general features from.
    pub data: DataSettings,
    /// The optimiser.
    #[serde(default = "defaults::source")]
    pub training: TrainingSettings,
    /// Whether batch norms take their statistics over all workers' parts of a batch; see the task's own.
    #[serde(default)]
    pub sync_bn: bool,
    /// Seed of initialisation, shuffling, augmentation and the held-out split. Up to 2^53 - 1.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991u64))]
    pub seed: u64,
}

/// One task, complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// Name of the task: lower-case letters, digits, `-`, `_`, `.`. The registry keeps its models under it.
    #[schemars(with = "String", regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$"))]
    pub name: TaskName,
    /// The labelled images.
    pub data: DataSettings,
    /// Longest skip K: proxies reach back up to this many nodes. The number of layers or more makes them dense; 0 leaves
    /// none, which is feature extraction: the backbone as it is with a classifier of the task's own.
    #[serde(default = "defaults::max_skip")]
    #[schemars(range(max = 16))]
    pub max_skip: usize,
    /// Fine-tuning the whole backbone.
    #[serde(default = "defaults::teacher")]
    pub teacher: TrainingSettings,
    /// Training proxies, attention and classifier.
    #[serde(default)]
    pub student: StudentSettings,
    /// Pruned networks to try.
    #[serde(default)]
    pub candidates: CandidateSettings,
    /// In what precision feature maps are computed, in every stage but `source`. `bf16` halves their memory, and is faster on machines
    /// with matrix units for it (AMX, tensor cores); where only AVX-512 has it, it is slower.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// How many workers train a stage together, each with one slot: `4`, or `2..4` for as many of these as are free when it
    /// starts. Every batch is shared out among them. A stage that several jobs share is trained by as many as any of
    /// them allows.
    #[serde(default)]
    pub workers: Workers,
    /// Whether batch norms take their statistics over all workers' parts of a batch, in every stage but `source`: then
    /// the result is that of one worker but for rounding, at some cost in speed. Otherwise each part has its own.
    #[serde(default)]
    pub sync_bn: bool,
    /// In what precision gradients travel between the workers of a gang, in every stage but `source`. `bf16` halves what is sent, and
    /// rounds each worker's gradient to 8 bits.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub wire: Precision,
    /// Held-out accuracy that a tailored network may lose against its teacher, in points (0.5 means 0.5 %).
    #[serde(default = "defaults::tolerance_points")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub tolerance_points: f64,
    /// What an attempt may use.
    #[serde(default)]
    pub resources: ResourceSettings,
    /// Seed of initialisation, shuffling, augmentation and the held-out split. Up to 2^53 - 1, so that JSON keeps it exact.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991u64))]
    pub seed: u64,
}

/// What an attempt may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceSettings {
    /// Attempts that may fail by the trainer's own fault before the job fails.
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: u32,
    /// A stage that runs longer is stopped, in minutes.
    #[schemars(range(min = 1, max = 100000))]
    pub stage_minutes: u32,
    /// A stage that trains leaves a checkpoint at the end of an epoch, not more often than this, in seconds; 0 for every
    /// epoch. An attempt that follows one which was lost or failed goes on from there.
    #[schemars(range(max = 86400))]
    pub checkpoint_seconds: u32,
    /// Among the jobs of one user those of higher priority go first.
    #[schemars(range(min = -100, max = 100))]
    pub priority: i8,
    /// A job that is not over so many minutes after it was submitted fails; 30 days by default.
    #[schemars(range(min = 1, max = 1000000))]
    pub deadline_minutes: u32,
    /// Labels that a worker must have: `{gpu: h100}`. Of a stage that several jobs share, those of the first in line count.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

impl Default for ResourceSettings {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            stage_minutes: 24 * 60,
            checkpoint_seconds: 60,
            priority: 0,
            deadline_minutes: 30 * 24 * 60,
            labels: Labels::default(),
        }
    }
}

/// What the submitter found out about a task's inputs; together with the [`TaskSpec`] it determines every stage key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskInputs {
    /// Where the backbone's weights come from.
    pub backbone: BackboneInput,
    /// The task's images.
    pub data: DataInput,
}

/// A data set as it was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataInput {
    /// Digest of the data set's archive.
    pub archive: Digest,
    /// Class names, in label order.
    pub classes: Vec<String>,
}

/// Where a backbone's weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "one for each job")]
pub enum BackboneInput {
    /// Digest of a weights file (safetensors under the publisher's names).
    Weights(Digest),
    /// A `source` stage makes them.
    Source {
        /// How.
        settings: SourceSettings,
        /// From what.
        data: DataInput,
    },
}
