//! A task's inputs and a stage's progress. Views of jobs are made in the coordinator.

use nettailor_domain::task::{BackboneInput, DataInput, SourceSettings, TaskInputs};
use nettailor_domain::trainer::Progress;

use super::{Error, parse, required};
use crate::v1;

/// A task's inputs; `source` is how its backbone is pre-trained, which travels in the tasks file.
///
/// # Errors
/// A field is missing or malformed, or the message and the tasks file do not agree on where the weights come from.
pub fn task_inputs(message: v1::TaskInputs, source: Option<&SourceSettings>) -> Result<TaskInputs, Error> {
    use v1::task_inputs::Backbone;
    let backbone = match (message.backbone, source) {
        (Some(Backbone::WeightsDigest(digest)), None) => {
            BackboneInput::Weights(parse(&digest, "weights_digest")?)
        }
        (Some(Backbone::Source(data)), Some(settings)) => BackboneInput::Source {
            settings: settings.clone(),
            data: required(Some(data), "source")?,
        },
        (Some(Backbone::WeightsDigest(_)), Some(_)) => {
            let reason = "the tasks file trains the backbone on a source: its data were expected instead";
            return Err(Error::invalid("weights_digest", reason));
        }
        (Some(Backbone::Source(_)), None) => {
            let reason = "the tasks file has no source: the digest of the weights was expected instead";
            return Err(Error::invalid("source", reason));
        }
        (None, _) => return Err(Error::missing("backbone")),
    };
    Ok(TaskInputs {
        backbone,
        data: required(message.data, "data")?,
    })
}

impl From<TaskInputs> for v1::TaskInputs {
    fn from(inputs: TaskInputs) -> Self {
        use v1::task_inputs::Backbone;
        Self {
            backbone: Some(match inputs.backbone {
                BackboneInput::Weights(digest) => Backbone::WeightsDigest(digest.to_string()),
                BackboneInput::Source { data, .. } => Backbone::Source(data.into()),
            }),
            data: Some(inputs.data.into()),
        }
    }
}

impl TryFrom<v1::DataInput> for DataInput {
    type Error = Error;
    fn try_from(message: v1::DataInput) -> Result<Self, Error> {
        if message.classes.is_empty() {
            return Err(Error::invalid("classes", "a data set has at least one class"));
        }
        Ok(Self {
            archive: parse(&message.archive_digest, "archive_digest")?,
            classes: message.classes,
        })
    }
}

impl From<DataInput> for v1::DataInput {
    fn from(data: DataInput) -> Self {
        Self {
            archive_digest: data.archive.to_string(),
            classes: data.classes,
        }
    }
}

impl From<v1::Progress> for Progress {
    fn from(message: v1::Progress) -> Self {
        Self {
            phase: message.phase,
            epoch: message.epoch,
            epochs: message.epochs,
            step: message.step,
            steps: message.steps,
            loss: message.loss,
            cross_entropy: message.cross_entropy,
            hint: message.hint,
            expected_complexity: message.expected_complexity,
            held_out: message.held_out,
            images_per_second: message.images_per_second,
            eta_seconds: message.eta_seconds,
        }
    }
}

impl From<Progress> for v1::Progress {
    fn from(progress: Progress) -> Self {
        Self {
            phase: progress.phase,
            epoch: progress.epoch,
            epochs: progress.epochs,
            step: progress.step,
            steps: progress.steps,
            loss: progress.loss,
            cross_entropy: progress.cross_entropy,
            hint: progress.hint,
            expected_complexity: progress.expected_complexity,
            held_out: progress.held_out,
            images_per_second: progress.images_per_second,
            eta_seconds: progress.eta_seconds,
        }
    }
}
