//! What a user asks for: one tailoring job's settings, every default in one place.
//!
//! A tasks file is `version`, `backbone`, `defaults` and `tasks`; each entry of `tasks` is laid over `defaults` and read
//! as a [`TaskSpec`]. The JSON Schema is derived from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::architecture::{ComplexityForm, CostVector};
use crate::backbone::{BackboneName, Normalisation};
use crate::ids::{Digest, TaskName};

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
    /// In what precision feature maps are computed, in every stage. `bf16` halves their memory, and is faster on machines
    /// with matrix units for it (AMX, tensor cores); where only AVX-512 has it, it is slower.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
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

impl DataSettings {
    /// What of them changes the images that reach the network: content names the data, not where and how they lie.
    pub fn reading(&self) -> Self {
        Self {
            path: String::new(),
            format: DataFormat::Auto,
            ..self.clone()
        }
    }
}

/// Precision of feature maps and of the weights that convolutions read. All else is `fp32` in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    Fp32,
    /// bfloat16: the range of fp32 with 8 bits of precision.
    Bf16,
}

impl Precision {
    /// Whether it is the one that specifications leave out, so that their keys are those from before there was a choice.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The labelled images of a task and how they reach the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// Folder or file, relative to the tasks file, or a URL: `file://`, `s3://`, `gs://`, `az://`, `http(s)://`.
    #[schemars(length(min = 1))]
    pub path: String,
    /// How the images lie there.
    #[serde(default)]
    pub format: DataFormat,
    /// Side of the square network input, in pixels.
    #[serde(default = "defaults::image_size")]
    #[schemars(range(min = 16, max = 1024))]
    pub image_size: u32,
    /// Share of the training images held out to choose the network by, where the data have no `val` split of their own.
    #[serde(default = "defaults::held_out")]
    #[schemars(range(min = 0.01, max = 0.9))]
    pub held_out: f64,
    /// Share of the training images set aside as the test split, where the data have no `test` split of their own.
    #[serde(default = "defaults::held_out")]
    #[schemars(range(min = 0.01, max = 0.9))]
    pub test: f64,
    /// What to do with images that cannot be read.
    #[serde(default)]
    pub on_unreadable: OnUnreadable,
    /// Random changes to training images.
    #[serde(default)]
    pub augment: AugmentSettings,
    /// Input normalisation; the backbone's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<Normalisation>,
}

/// How labelled images lie on a disk or in an object store. The trainer never sees it: data travel in one form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// Whichever of the others is recognised there.
    #[default]
    Auto,
    /// `train/<class>/*`, `val/<class>/*`, `test/<class>/*`, or `<class>/*` alone.
    Folder,
    /// Visual Decathlon: `annotations/<set>_train.json` and so on, in COCO's style.
    Decathlon,
    /// CIFAR-10, binary version.
    Cifar10,
    /// CIFAR-100, binary version (fine labels).
    Cifar100,
    /// MNIST and its kin: idx files, gzipped or not.
    Mnist,
    /// `train-*.parquet`, `test-*.parquet` with encoded images in a column.
    Parquet,
    /// A table with the columns `path`, `label` and perhaps `split`.
    Csv,
}

impl DataFormat {
    /// Every format but `auto`, in the order in which they are looked for.
    pub const ALL: [Self; 7] = [
        Self::Folder,
        Self::Decathlon,
        Self::Cifar10,
        Self::Cifar100,
        Self::Mnist,
        Self::Parquet,
        Self::Csv,
    ];

    /// As written in a tasks file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Folder => "folder",
            Self::Decathlon => "decathlon",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Mnist => "mnist",
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }
}

/// What to do with images that cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnreadable {
    /// Fail the job and name them.
    #[default]
    Fail,
    /// Leave them out, count them and name them in the log.
    Skip,
}

/// Random changes to training images, drawn per (seed, epoch, sample). Evaluation resizes and does nothing else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentSettings {
    /// Pad by this many pixels (reflected) on every side and cut a random square of the input size.
    #[schemars(range(max = 256))]
    pub crop_padding: u32,
    /// Cut a random rectangle of this share of the area (least, most) and aspect ratio 3/4 to 4/3, resized to the input size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resized_crop: Option<[f32; 2]>,
    /// Mirror half of the images.
    pub horizontal_flip: bool,
    /// Scale brightness, contrast and saturation each by a factor of 1 +- this.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub color_jitter: f32,
}

/// One run of stochastic gradient descent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingSettings {
    /// Passes over the training images. 0, for candidates only, takes the pruned network as it is.
    #[schemars(range(max = 10000))]
    pub epochs: u32,
    /// Images per step.
    #[schemars(range(min = 1, max = 4096))]
    pub batch_size: u32,
    /// Learning rate of the first epoch.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub learning_rate: f64,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Schedule `step`: shares of the epochs after which the learning rate falls to a tenth.
    pub milestones: Vec<f64>,
    /// Momentum.
    #[schemars(range(min = 0.0, max = 0.999))]
    pub momentum: f64,
    /// Weight decay, on everything but scores.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
    /// Share of the label's probability that is spread over all classes in the cross-entropy.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub label_smoothing: f64,
    /// Decay per step of an exponential moving average of the trained tensors, which is what is evaluated and kept;
    /// 0 keeps the last values.
    #[schemars(range(min = 0.0, max = 0.99999))]
    pub ema: f64,
}

/// How the learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// To a tenth at every milestone.
    Step,
    /// To 0 along half a cosine, step by step.
    Cosine,
}

/// How a student learns (METHOD section 5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StudentSettings {
    /// The optimiser.
    pub training: TrainingSettings,
    /// Learning rate of the scores, as a share of the others'.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub score_learning_rate: f64,
    /// Weight of the expected complexity.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub gamma1: f64,
    /// Share of the epochs over which gamma1 rises linearly from 0.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub gamma1_ramp: f64,
    /// Expected complexity below which nothing is penalised; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub budget: Option<f64>,
    /// Weight of the teacher's hints; 0 trains without a teacher.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub gamma2: f64,
    /// In what a hint measures the distance between a node and the teacher's.
    pub hint_scale: HintScale,
    /// Distil the logits at this temperature (its square times the Kullback-Leibler divergence) instead of taking the
    /// mean square of their difference; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.1, max = 100.0))]
    pub temperature: Option<f64>,
    /// Formula of the expected complexity.
    pub complexity: ComplexityForm,
    /// What complexity is measured in.
    pub cost: CostVector,
    /// Which parameters a hint trains.
    pub hints: Hints,
    /// Batch norm of the frozen blocks.
    pub bn_mode: BnMode,
}

/// Which parameters the hint at a node trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hints {
    /// The layer's own.
    Local,
    /// Everything upstream.
    EndToEnd,
}

/// In what a hint measures distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HintScale {
    /// Mean square of the difference, as in the paper.
    Absolute,
    /// The same as a share of the variance of the teacher's node over the batch: every node weighs the same, whatever
    /// the scale of its features.
    Relative,
}

/// Batch norm of the frozen blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BnMode {
    /// Batch statistics in training; running statistics are the task's own.
    Task,
    /// The backbone's statistics, always.
    Frozen,
    /// As `task`, and weight and bias of the frozen blocks' batch norms are trained, too.
    Affine,
}

/// The pruned networks that are tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CandidateSettings {
    /// Numbers of main blocks to remove; every second one of the backbone's by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<Vec<usize>>,
    /// How the leanest candidate that is accurate enough is found.
    pub search: Search,
    /// Proxies whose attention is below this are removed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub proxy_threshold: f64,
    /// Training batches over which batch-norm statistics are estimated anew after pruning.
    #[schemars(range(min = 0, max = 10000))]
    pub bn_batches: u32,
    /// The optimiser of the retraining.
    pub training: TrainingSettings,
}

/// How the leanest candidate that is accurate enough is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// Every candidate is retrained to the end, each in a stage of its own: as many workers as there are candidates help.
    Exhaustive,
    /// One stage trains all candidates on the same batches and stops those that cannot win, at about a fifth of the epochs.
    Halving,
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
}

mod defaults {
    //! Defaults that serde asks for by name.
    use super::{Schedule, TrainingSettings};

    pub(super) fn max_skip() -> usize {
        3
    }
    pub(super) fn tolerance_points() -> f64 {
        0.5
    }
    pub(super) fn image_size() -> u32 {
        224
    }
    pub(super) fn held_out() -> f64 {
        0.2
    }
    pub(super) fn teacher() -> TrainingSettings {
        training(0.01, 64, 20, [0.4, 0.8])
    }
    pub(super) fn source() -> TrainingSettings {
        training(0.1, 64, 60, [0.4, 0.8])
    }
    pub(super) fn training(
        learning_rate: f64,
        batch_size: u32,
        epochs: u32,
        milestones: [f64; 2],
    ) -> TrainingSettings {
        let milestones = milestones.to_vec();
        TrainingSettings {
            epochs,
            batch_size,
            learning_rate,
            schedule: Schedule::Step,
            milestones,
            momentum: 0.9,
            weight_decay: 5e-4,
            label_smoothing: 0.0,
            ema: 0.0,
        }
    }
}

impl Default for StudentSettings {
    fn default() -> Self {
        Self {
            training: defaults::training(0.1, 32, 30, [0.4, 0.8]),
            score_learning_rate: 0.1,
            gamma1: 0.3,
            gamma1_ramp: 0.4,
            budget: None,
            gamma2: 10.0,
            hint_scale: HintScale::Absolute,
            temperature: None,
            complexity: ComplexityForm::Product,
            cost: CostVector::Flops,
            hints: Hints::Local,
            bn_mode: BnMode::Task,
        }
    }
}

impl Default for CandidateSettings {
    fn default() -> Self {
        Self {
            k: None,
            search: Search::Exhaustive,
            proxy_threshold: 0.05,
            bn_batches: 100,
            training: defaults::training(0.05, 32, 20, [1.0 / 3.0, 2.0 / 3.0]),
        }
    }
}

impl Default for ResourceSettings {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            stage_minutes: 24 * 60,
        }
    }
}

impl CandidateSettings {
    /// The numbers of main blocks to remove for a backbone of `layers` layers, ascending.
    pub fn ladder(&self, layers: usize) -> Vec<usize> {
        let mut ladder = self.k.clone().unwrap_or_else(|| (0..layers).step_by(2).collect());
        ladder.sort_unstable();
        ladder.dedup();
        ladder
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
