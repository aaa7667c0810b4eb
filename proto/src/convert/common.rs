//! Artifacts and accuracies.

use std::collections::{BTreeMap, HashMap};

use nettailor_domain::labels::Labels;
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

/// Labels as a map of a message.
///
/// # Errors
/// A name or a value is malformed.
pub fn labels(map: HashMap<String, String>) -> Result<Labels, Error> {
    let sorted: BTreeMap<String, String> = map.into_iter().collect();
    Labels::try_from(sorted).map_err(|error| Error::invalid("labels", error.to_string()))
}

/// The other way.
pub fn pairs(labels: &Labels) -> HashMap<String, String> {
    let pairs = labels.iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
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
