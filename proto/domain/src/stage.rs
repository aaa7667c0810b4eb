//! The stages of a job and the keys that name them.
//!
//! `teacher -> student -> candidate(k)... -> select`; publishing is the coordinator's own last step. A stage's key is the
//! digest of everything its result depends on: the method's version, its [`StageSpec`] (which holds the settings that
//! matter to this stage and no other) and its parents' keys. Equal keys are the same work, whoever asked for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::METHOD_VERSION;
use crate::architecture::{Architecture, CandidateScore, Counts, Selection};
use crate::backbone::BackboneName;
use crate::ids::{Digest, StageKey};
use crate::task::{
    CandidateSettings, DataFormat, DataSettings, StudentSettings, TaskInputs, TaskSpec, TrainingSettings,
};
use crate::units::{Accuracy, Cost};

/// Which stage of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// Fine-tune the whole backbone.
    Teacher,
    /// Train proxies, attention and classifier.
    Student,
    /// Remove k main blocks and retrain.
    Candidate(usize),
    /// Measure the chosen candidate and the teacher on the test split.
    Select,
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Teacher => f.pad("teacher"),
            Self::Student => f.pad("student"),
            Self::Candidate(k) => f.pad(&format!("candidate({k})")),
            Self::Select => f.pad("select"),
        }
    }
}

/// Everything a trainer must know about one stage, besides its parents' results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageSpec {
    /// Which network.
    pub arch: BackboneName,
    /// Its weights.
    pub backbone: Digest,
    /// The data set's archive.
    pub data: Digest,
    /// How data are read. Path and format are not part of it: content names the data.
    pub reading: DataSettings,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// Seed.
    pub seed: u64,
    /// What to do.
    pub work: StageWork,
}

/// What a stage does, with the settings that matter to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageWork {
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
            Self::Teacher { .. } => StageKind::Teacher,
            Self::Student { .. } => StageKind::Student,
            Self::Candidate { k, .. } => StageKind::Candidate(*k),
            Self::Select { .. } => StageKind::Select,
        }
    }
}

impl StageSpec {
    /// Which stage this is.
    pub fn kind(&self) -> StageKind {
        self.work.kind()
    }

    /// The stage's key, given its parents' keys in order.
    pub fn key(&self, parents: &[StageKey]) -> StageKey {
        let identity = serde_json::json!({ "method": METHOD_VERSION, "spec": self, "parents": parents });
        StageKey(Digest::of(identity.to_string().as_bytes()))
    }
}

/// A stage of a job's graph, before it is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStage {
    /// Its key.
    pub key: StageKey,
    /// Its specification.
    pub spec: StageSpec,
    /// Stages whose results it needs. For `select`: the teacher, then every candidate.
    pub parents: Vec<StageKey>,
}

/// The stages of a job, parents before children: teacher, student, candidates by ascending k, select.
pub fn plan(arch: BackboneName, task: &TaskSpec, inputs: &TaskInputs) -> Vec<PlannedStage> {
    let reading = DataSettings {
        path: String::new(),
        format: DataFormat::Auto,
        ..task.data.clone()
    };
    let stage = |work: StageWork, parents: Vec<StageKey>| {
        let spec = StageSpec {
            arch,
            backbone: inputs.backbone,
            data: inputs.data,
            reading: reading.clone(),
            classes: inputs.classes.clone(),
            seed: task.seed,
            work,
        };
        PlannedStage {
            key: spec.key(&parents),
            spec,
            parents,
        }
    };
    let teacher = stage(
        StageWork::Teacher {
            training: task.teacher.clone(),
        },
        vec![],
    );
    let student_work = StageWork::Student {
        max_skip: task.max_skip,
        student: task.student.clone(),
    };
    let student = stage(student_work, vec![teacher.key]);
    let ladder = task.candidates.ladder(arch.describe().layers());
    // The list of k is the job's business, not a candidate's: adding a k must not re-run the others.
    let settings = CandidateSettings {
        k: None,
        ..task.candidates.clone()
    };
    let candidates: Vec<PlannedStage> = ladder
        .into_iter()
        .map(|k| {
            let work = StageWork::Candidate {
                k,
                settings: settings.clone(),
                student: task.student.clone(),
            };
            stage(work, vec![teacher.key, student.key])
        })
        .collect();
    let parents = std::iter::once(teacher.key)
        .chain(candidates.iter().map(|c| c.key))
        .collect();
    let select = stage(
        StageWork::Select {
            tolerance: task.tolerance_points / 100.0,
        },
        parents,
    );
    let mut stages = vec![teacher, student];
    stages.extend(candidates);
    stages.push(select);
    stages
}

/// What a finished stage found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum StageOutcome {
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
    Candidate {
        /// Main blocks removed by rank.
        k: usize,
        /// What is left.
        architecture: Architecture,
        /// What it costs.
        counts: Counts,
        /// Accuracy on the held-out split.
        held_out: Accuracy,
    },
    /// Removing this many main blocks leaves no network.
    Infeasible {
        /// Main blocks removed by rank.
        k: usize,
        /// Why, in words.
        reason: String,
    },
    /// The chosen candidate and its teacher on the test split.
    Select {
        /// The choice, made on held-out accuracy.
        selection: Selection,
        /// The teacher on the test split.
        teacher_test: Accuracy,
        /// The chosen candidate on the test split.
        test: Accuracy,
    },
}

impl StageOutcome {
    /// What selection looks at, of a retrained candidate; nothing of any other stage.
    pub fn candidate_score(&self) -> Option<CandidateScore> {
        let Self::Candidate {
            k, counts, held_out, ..
        } = self
        else {
            return None;
        };
        let cost = Cost {
            flops: counts.active_flops,
            params: counts.active_params,
        };
        Some(CandidateScore {
            k: *k,
            cost,
            held_out: *held_out,
        })
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

/// What a finished stage leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageResult {
    /// What it found.
    pub outcome: StageOutcome,
    /// Weights in safetensors: the whole network (teacher) or the task's own tensors (student, candidate).
    pub weights: Option<Artifact>,
    /// Images used: training, held out, test.
    pub samples: [u64; 3],
    /// Images left out because they could not be read.
    pub unreadable: u64,
    /// Wall time of the successful attempt, in seconds.
    pub seconds: f64,
}
