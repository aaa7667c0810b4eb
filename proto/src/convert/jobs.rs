//! A task's inputs and a stage's progress. Views of jobs are made in the coordinator.

use nettailor_domain::task::TaskInputs;
use nettailor_domain::trainer::Progress;

use super::{Error, parse};
use crate::v1;

impl TryFrom<v1::TaskInputs> for TaskInputs {
    type Error = Error;
    fn try_from(message: v1::TaskInputs) -> Result<Self, Error> {
        Ok(Self {
            backbone: parse(&message.backbone_digest, "backbone_digest")?,
            data: parse(&message.data_digest, "data_digest")?,
            classes: message.classes,
        })
    }
}

impl From<TaskInputs> for v1::TaskInputs {
    fn from(inputs: TaskInputs) -> Self {
        Self {
            backbone_digest: inputs.backbone.to_string(),
            data_digest: inputs.data.to_string(),
            classes: inputs.classes,
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
