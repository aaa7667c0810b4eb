//! How teacher, student and candidates learn.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;
use crate::architecture::{ComplexityForm, CostVector};

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
    /// Training batches over which batch-norm statistics are estimated anew after pruning, where no training follows (0 epochs).
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
    /// One stage trains all candidates on the same batches and stops those that cannot win, at about a quarter of the epochs.
    Halving,
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
            hints: Hints::EndToEnd,
            bn_mode: BnMode::Frozen,
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

impl CandidateSettings {
    /// The numbers of main blocks to remove for a backbone of `layers` layers, ascending.
    pub fn ladder(&self, layers: usize) -> Vec<usize> {
        let mut ladder = self.k.clone().unwrap_or_else(|| (0..layers).step_by(2).collect());
        ladder.sort_unstable();
        ladder.dedup();
        ladder
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
