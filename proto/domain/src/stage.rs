//! The stages of a job and the keys that name them.
//!
//! `[source] -> teacher -> student -> candidate(k)... or search -> select`; publishing is the coordinator's own last step.
//! A stage's key is the digest of everything its result depends on: the method's version, its [`StageSpec`] (which holds
//! the settings that matter to this stage and no other) and its parents' keys. Equal keys are the same work, whoever asked
//! for it.

mod plan;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::architecture::{Architecture, CandidateScore, Counts, Selection};
use crate::backbone::BackboneName;
use crate::ids::{Digest, InvalidId};
use crate::task::{CandidateSettings, DataSettings, Precision, StudentSettings, TrainingSettings};
use crate::units::{Accuracy, Cost};

pub use plan::{Blueprint, PlannedStage, Rerun, plan};

/// Which stage of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// Pre-train a backbone on a source data set.
    Source,
    /// Fine-tune the whole backbone.
    Teacher,
    /// Train proxies, attention and classifier.
    Student,
    /// Remove k main blocks and retrain.
    Candidate(usize),
    /// Train several candidates at once, stopping those that cannot win.
    Search,
    /// Measure the chosen candidate and the teacher on the test split.
    Select,
}

impl StageKind {
    /// Whether it trains: then a gang of as many ranks as its task asks for shares the work. Anything else has one rank.
    pub fn trains(self) -> bool {
        match self {
            Self::Source | Self::Teacher | Self::Student | Self::Candidate(_) | Self::Search => true,
            Self::Select => false,
        }
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => f.pad("source"),
            Self::Teacher => f.pad("teacher"),
            Self::Student => f.pad("student"),
            Self::Candidate(k) => f.pad(&format!("candidate({k})")),
            Self::Search => f.pad("search"),
            Self::Select => f.pad("select"),
        }
    }
}

impl FromStr for StageKind {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let candidate = |text: &str| {
            let k = text.strip_prefix("candidate(")?.strip_suffix(')')?;
            k.parse().ok().map(Self::Candidate)
        };
        match text {
            "source" => Ok(Self::Source),
            "teacher" => Ok(Self::Teacher),
            "student" => Ok(Self::Student),
            "search" => Ok(Self::Search),
            "select" => Ok(Self::Select),
            other => candidate(other).ok_or_else(|| InvalidId {
                kind: "stage",
                text: text.to_owned(),
                expected: "source, teacher, student, candidate(6), search or select",
            }),
        }
    }
}

/// Everything a trainer must know about one stage, besides its parents' results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageSpec {
    /// Which network.
    pub arch: BackboneName,
    /// Its weights; none where a `source` stage makes them, which is the first parent of every stage that reads them.
    pub backbone: Option<Digest>,
    /// The data set's archive.
    pub data: Digest,
    /// How data are read. Path and format are not part of it: content names the data.
    pub reading: DataSettings,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// Seed.
    pub seed: u64,
    /// Precision of feature maps.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// Whether batch norms in training take their statistics from the whole batch, over all ranks of a gang.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sync_bn: bool,
    /// Precision in which gradients travel between the ranks of a gang.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub wire: Precision,
    /// How often the work was asked for anew though it was done: 0 the first time. It changes the key and nothing else.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rerun: u32,
    /// What to do.
    pub work: StageWork,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a stage does, with the settings that matter to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageWork {
    /// Pre-train the whole backbone from random weights.
    Source {
        /// The optimiser.
        training: TrainingSettings,
    },
    /// Fine-tune the whole backbone.
    Teacher {
        /// The optimiser.
        training: TrainingSettings,
    },
    /// Train the student.
    Student {
        /// Longest skip.
        max_skip: usize,
        /// Losses and optimiser.
        student: StudentSettings,
    },
    /// Prune the student and retrain.
    Candidate {
        /// Main blocks to remove.
        k: usize,
        /// Pruning and optimiser.
        settings: CandidateSettings,
        /// The student's losses: the candidate trains under the same hints.
        student: StudentSettings,
    },
    /// Prune the student to every rung of a ladder and retrain those that may win.
    Search {
        /// Main blocks to remove, ascending.
        ladder: Vec<usize>,
        /// Accuracy that may be lost against the teacher, as a fraction.
        tolerance: f64,
        /// Pruning and optimiser.
        settings: CandidateSettings,
        /// The student's losses.
        student: StudentSettings,
    },
    /// Measure on the test split.
    Select {
        /// Accuracy that may be lost, as a fraction.
        tolerance: f64,
    },
}

impl StageWork {
    /// Which stage this is.
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Source { .. } => StageKind::Source,
            Self::Teacher { .. } => StageKind::Teacher,
            Self::Student { .. } => StageKind::Student,
            Self::Candidate { k, .. } => StageKind::Candidate(*k),
            Self::Search { .. } => StageKind::Search,
            Self::Select { .. } => StageKind::Select,
        }
    }
}

impl StageSpec {
    /// Which stage this is.
    pub fn kind(&self) -> StageKind {
        self.work.kind()
    }
}

/// A candidate as far as it was trained: a point of a task's accuracy-complexity frontier.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FrontierPoint {
    /// Main blocks removed by rank.
    pub k: usize,
    /// What it costs.
    pub counts: Counts,
    /// Accuracy on the held-out split, when it was last measured.
    pub held_out: Accuracy,
    /// Epochs it was retrained for, not always a whole number; fewer than asked for where a search stopped it.
    pub epochs: f64,
}

/// A retrained candidate that may be published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tailored {
    /// Where it lies on the frontier.
    #[serde(flatten)]
    pub point: FrontierPoint,
    /// What is left of the student.
    pub architecture: Architecture,
}

/// A number of main blocks whose removal leaves no network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Infeasible {
    /// Main blocks removed by rank.
    pub k: usize,
    /// Why, in words.
    pub reason: String,
}

/// Every number of main blocks that was asked for is infeasible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no candidate leaves a network ({}): ask for smaller candidates.k or a lower proxy_threshold",
    reasons(.0)
)]
pub struct NothingLeft(pub Vec<Infeasible>);

fn reasons(infeasible: &[Infeasible]) -> String {
    let reasons = infeasible
        .iter()
        .map(|rung| format!("k = {}: {}", rung.k, rung.reason));
    reasons.collect::<Vec<_>>().join("; ")
}

/// Milliseconds of a forward pass on the worker's device and threads, medians.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// One image.
    pub batch_1_ms: f64,
    /// 32 images.
    pub batch_32_ms: f64,
}

/// What a finished stage found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum StageOutcome {
    /// The pre-trained backbone.
    Source {
        /// Accuracy on the source's held-out split.
        held_out: Accuracy,
    },
    /// The fine-tuned backbone.
    Teacher {
        /// Accuracy on the held-out split.
        held_out: Accuracy,
    },
    /// The trained student.
    Student {
        /// Its scores.
        architecture: Architecture,
        /// Accuracy on the held-out split.
        held_out: Accuracy,
        /// E[C] of the trained attention.
        expected_complexity: f64,
    },
    /// A retrained candidate.
    Candidate(Tailored),
    /// Removing this many main blocks leaves no network.
    Infeasible(Infeasible),
    /// The ladder as far as it had to be climbed.
    Search {
        /// Every feasible candidate as far as it was trained, by ascending k.
        frontier: Vec<FrontierPoint>,
        /// The others.
        infeasible: Vec<Infeasible>,
        /// The choice, made on held-out accuracy.
        selection: Selection,
        /// The chosen candidate, whose weights the stage leaves.
        tailored: Tailored,
    },
    /// The chosen candidate and its teacher on the test split.
    Select {
        /// The choice, made on held-out accuracy.
        selection: Selection,
        /// The teacher on the test split.
        teacher_test: Accuracy,
        /// The chosen candidate on the test split.
        test: Accuracy,
        /// How long the teacher takes, in deployed form.
        teacher_latency: Latency,
        /// How long the chosen candidate takes, in deployed form.
        latency: Latency,
    },
}

impl StageOutcome {
    /// The candidate whose weights the stage left, if it is a stage that leaves one.
    pub fn tailored(&self) -> Option<&Tailored> {
        match self {
            Self::Candidate(tailored) | Self::Search { tailored, .. } => Some(tailored),
            Self::Source { .. }
            | Self::Teacher { .. }
            | Self::Student { .. }
            | Self::Infeasible(_)
            | Self::Select { .. } => None,
        }
    }

    /// Whether the stage leaves a weights file.
    pub fn leaves_weights(&self) -> bool {
        match self {
            Self::Source { .. }
            | Self::Teacher { .. }
            | Self::Student { .. }
            | Self::Candidate(_)
            | Self::Search { .. } => true,
            Self::Infeasible(_) | Self::Select { .. } => false,
        }
    }

    /// Every candidate that the stage trained.
    pub fn frontier(&self) -> &[FrontierPoint] {
        match self {
            Self::Candidate(tailored) => std::slice::from_ref(&tailored.point),
            Self::Search { frontier, .. } => frontier,
            Self::Source { .. }
            | Self::Teacher { .. }
            | Self::Student { .. }
            | Self::Infeasible(_)
            | Self::Select { .. } => &[],
        }
    }
}

impl FrontierPoint {
    /// What selection looks at.
    pub fn score(&self) -> CandidateScore {
        let cost = Cost {
            flops: self.counts.active_flops,
            params: self.counts.active_params,
        };
        CandidateScore {
            k: self.k,
            cost,
            held_out: self.held_out,
        }
    }
}

/// A file that a stage left in the artifact store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name there.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// What a stage that is not finished left in the artifact store, for a later attempt to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The file; for the trainer, opaque to everybody else.
    pub artifact: Artifact,
    /// Epochs that are behind it.
    pub epoch: u32,
    /// Steps that are behind it.
    pub step: u64,
}

/// What a finished stage leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageResult {
    /// What it found.
    pub outcome: StageOutcome,
    /// Weights in safetensors: the whole network (source, teacher) or the task's own tensors (student, candidate, search).
    pub weights: Option<Artifact>,
    /// Images used: training, held out, test.
    pub samples: [u64; 3],
    /// Images left out because they could not be read.
    pub unreadable: u64,
    /// Wall time of the successful attempt, in seconds.
    pub seconds: f64,
}
