//! What stages find, without a trainer: plausible results in the sizes of real ones.

use std::collections::HashMap;

use nettailor_domain::architecture::{Architecture, Selection};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::stage::{
    Artifact, FrontierPoint, Latency, StageKind, StageOutcome, StageResult, Tailored,
};
use nettailor_domain::units::Accuracy;
use nettailor_proto::v1;
use serde::Deserialize;
use serde::de::IgnoredAny;

const IMAGE_SIZE: u32 = 64;
const MAX_SKIP: usize = 3;

/// Makes results, each kind's once.
#[derive(Debug)]
pub struct Results {
    /// Stands for all weights.
    weights: Artifact,
    made: HashMap<(BackboneName, StageKind), Vec<u8>>,
}

/// As much of a specification as a result depends on: reading all of it takes longer than the rest of a simulated stage.
#[derive(Deserialize)]
struct Glance {
    arch: BackboneName,
    work: Work,
}

/// The kinds of stages that the jobs of a [`crate::site::Site`] have.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Work {
    Teacher(IgnoredAny),
    Student(IgnoredAny),
    Candidate { k: usize },
    Select(IgnoredAny),
}

impl Work {
    fn kind(&self) -> StageKind {
        match self {
            Self::Teacher(_) => StageKind::Teacher,
            Self::Student(_) => StageKind::Student,
            Self::Candidate { k } => StageKind::Candidate(*k),
            Self::Select(_) => StageKind::Select,
        }
    }
}

impl Results {
    /// Results whose weights are this blob.
    pub fn new(weights: Artifact) -> Self {
        let made = HashMap::new();
        Self { weights, made }
    }

    /// Which stage is assigned, and its result as JSON.
    ///
    /// # Errors
    /// Where the assignment cannot be read.
    pub fn of(&mut self, assign: &v1::Assign) -> anyhow::Result<(StageKind, Vec<u8>)> {
        let Glance { arch, work } = serde_json::from_slice(&assign.spec_json)?;
        let kind = work.kind();
        if let Some(made) = self.made.get(&(arch, kind)) {
            return Ok((kind, made.clone()));
        }
        let outcome = match work {
            Work::Teacher(_) => StageOutcome::Teacher { held_out: right(980) },
            Work::Student(_) => StageOutcome::Student {
                architecture: Architecture::new(&arch.describe(), MAX_SKIP),
                held_out: right(970),
                expected_complexity: 0.4,
            },
            Work::Candidate { k } => StageOutcome::Candidate(tailored(arch, k)),
            // This one depends on more than its kind.
            Work::Select(_) => {
                let selection = serde_json::from_slice(&assign.selection_json)?;
                return Ok((kind, self.json(select(selection))?));
            }
        };
        let json = self.json(outcome)?;
        self.made.insert((arch, kind), json.clone());
        Ok((kind, json))
    }

    fn json(&self, outcome: StageOutcome) -> serde_json::Result<Vec<u8>> {
        let weights = outcome.leaves_weights().then_some(self.weights);
        serde_json::to_vec(&StageResult {
            outcome,
            weights,
            samples: [800, 200, 100],
            unreadable: 0,
            seconds: 1.5,
        })
    }
}

fn right(correct: u64) -> Accuracy {
    Accuracy { correct, total: 1000 }
}

fn tailored(arch: BackboneName, k: usize) -> Tailored {
    let architecture = Architecture::new(&arch.describe(), MAX_SKIP);
    let point = FrontierPoint {
        k,
        counts: architecture.counts(2, IMAGE_SIZE),
        held_out: right(979),
        epochs: 3.0,
    };
    Tailored { point, architecture }
}

fn select(selection: Selection) -> StageOutcome {
    let latency = |batch_1_ms| Latency {
        batch_1_ms,
        batch_32_ms: 20.0 * batch_1_ms,
    };
    StageOutcome::Select {
        selection,
        teacher_test: right(981),
        test: right(978),
        teacher_latency: latency(4.0),
        latency: latency(2.5),
    }
}
