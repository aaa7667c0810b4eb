//! Why a stage failed, and what that means for the next attempt.

use std::path::PathBuf;

use nettailor_domain::ids::Digest;
use nettailor_domain::stage::NothingLeft;
use nettailor_domain::trainer::{Failure, FailureClass};
use tch::TchError;

use crate::{data, model, step, weights};

/// Why a stage failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data set.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A weights file.
    #[error(transparent)]
    Weights(#[from] weights::Error),
    /// A network that cannot be built or run.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// A step of training.
    #[error(transparent)]
    Step(#[from] step::Error),
    /// A result that the stage needs is not in the assignment.
    #[error("the assignment lacks the {what}'s result, which this stage reads")]
    NoParent {
        /// Which.
        what: &'static str,
    },
    /// An assignment without the shared weights.
    #[error("the assignment has no backbone weights, which this stage reads")]
    NoBackbone,
    /// A `select` without a choice.
    #[error("the assignment has no selection to measure")]
    NoSelection,
    /// The node's cache cannot be written.
    #[error("the measured latencies cannot be kept in {path}: make room on the worker's cache disk")]
    Cache {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The ledger of samples cannot be written.
    #[error(
        "the ledger of samples {path} cannot be written: make room there, or start the worker without --sample-ledger"
    )]
    Ledger {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is to be gone on from holds no position.
    #[error("{path} is not a checkpoint; start the stage without it")]
    NoCheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// What is to be gone on from was left by another stage.
    #[error("checkpoint {path} belongs to stage {found}, this one is {expected}; start the stage without it")]
    ForeignCheckpoint {
        /// The file.
        path: PathBuf,
        /// What it names.
        found: Digest,
        /// What it should name.
        expected: Digest,
    },
    /// Every rung of a search's ladder is infeasible.
    #[error(transparent)]
    NothingLeft(#[from] NothingLeft),
    /// The shared weights are not what they were.
    #[error("the frozen backbone changed during training; the result is discarded")]
    BackboneChanged,
    /// The gang is broken.
    #[error(transparent)]
    Gang(#[from] nettailor_collective::Error),
    /// libtorch refused.
    #[error("a tensor operation failed: {0}")]
    Torch(#[from] TchError),
}

impl Error {
    /// Whether another attempt can help.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Data(error) => error.class(),
            // A digest that differs is this node's copy; another node may have a good one.
            Self::Weights(weights::Error::Io { .. } | weights::Error::Digest { .. }) => {
                FailureClass::Resources
            }
            Self::Cache { .. } | Self::Ledger { .. } => FailureClass::Resources,
            Self::Weights(weights::Error::Format { .. } | weights::Error::Type { .. }) => FailureClass::Input,
            Self::Model(model::Error::Mismatch { .. }) => FailureClass::Input,
            Self::Step(step::Error::Diverged { .. }) | Self::NothingLeft(_) => FailureClass::Input,
            Self::Gang(_)
            | Self::Model(model::Error::Gang(_))
            | Self::Step(step::Error::Gang(_) | step::Error::Model(model::Error::Gang(_))) => {
                FailureClass::Lost
            }
            Self::Torch(error)
            | Self::Weights(weights::Error::Torch(error))
            | Self::Model(model::Error::Torch(error))
            | Self::Step(step::Error::Torch(error) | step::Error::Model(model::Error::Torch(error))) => {
                of_torch(error)
            }
            Self::Model(model::Error::Disconnected)
            | Self::Step(step::Error::Model(_) | step::Error::Apart { .. } | step::Error::State { .. })
            | Self::NoCheckpoint { .. }
            | Self::ForeignCheckpoint { .. }
            | Self::NoParent { .. }
            | Self::NoBackbone
            | Self::NoSelection
            | Self::BackboneChanged => FailureClass::Internal,
        }
    }

    /// As the agent is told: the whole chain of causes in one line.
    pub fn failure(&self) -> Failure {
        let mut message = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let cause = error.to_string();
            if !message.ends_with(&cause) {
                message = format!("{message}: {cause}");
            }
            source = error.source();
        }
        Failure {
            class: self.class(),
            message,
        }
    }
}

/// libtorch reports a lack of memory in words only.
fn of_torch(error: &TchError) -> FailureClass {
    let text = error.to_string();
    let starved = ["not enough memory", "can't allocate memory", "out of memory"];
    if starved.iter().any(|words| text.contains(words)) {
        FailureClass::Resources
    } else {
        FailureClass::Internal
    }
}
