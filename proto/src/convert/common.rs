//! Artifacts and accuracies.

use nettailor_domain::stage::Artifact;
use nettailor_domain::units::Accuracy;

use super::{Error, parse};
use crate::v1;

impl TryFrom<v1::Artifact> for Artifact {
    type Error = Error;
    fn try_from(message: v1::Artifact) -> Result<Self, Error> {
        Ok(Self {
            digest: parse(&message.digest, "digest")?,
            bytes: message.bytes,
        })
    }
}

impl From<Artifact> for v1::Artifact {
    fn from(artifact: Artifact) -> Self {
        Self {
            digest: artifact.digest.to_string(),
            bytes: artifact.bytes,
        }
    }
}

impl TryFrom<v1::Accuracy> for Accuracy {
    type Error = Error;
    fn try_from(message: v1::Accuracy) -> Result<Self, Error> {
        if message.correct > message.total {
            return Err(Error::invalid(
                "correct",
                format!("{} of {}", message.correct, message.total),
            ));
        }
        Ok(Self {
            correct: message.correct,
            total: message.total,
        })
    }
}

impl From<Accuracy> for v1::Accuracy {
    fn from(accuracy: Accuracy) -> Self {
        Self {
            correct: accuracy.correct,
            total: accuracy.total,
        }
    }
}
