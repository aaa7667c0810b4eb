//! Stage `teacher`: fine-tune every weight of the backbone with a new classifier.

use nettailor_domain::architecture::Architecture;
use nettailor_domain::stage::StageOutcome;
use nettailor_domain::task::{BnMode, TrainingSettings};
use nettailor_domain::units::Accuracy;

use super::{Error, Stage};
use crate::model::network::Recipe;
use crate::model::{Network, Origin, Role};
use crate::step::TeacherLearner;
use crate::weights::Weights;

pub(super) fn run(stage: &mut Stage<'_>, training: &TrainingSettings) -> Result<StageOutcome, Error> {
    let spec = &stage.assignment.spec;
    let weights = stage.backbone_weights()?;
    let recipe = stage.recipe(Role::Trained, BnMode::Task, Origin::Fresh { seed: spec.seed });
    let (network, held_out) = train(stage, &weights, recipe, training)?;
    stage.write_whole(&network, true)?;
    Ok(StageOutcome::Teacher { held_out })
}

/// Trains every weight of a whole backbone.
pub(super) fn train(
    stage: &mut Stage<'_>,
    weights: &Weights,
    recipe: Recipe,
    training: &TrainingSettings,
) -> Result<(Network, Accuracy), Error> {
    let network = Network::new(Architecture::backbone_only(&stage.backbone), weights, recipe)?;
    let settings = stage.learning(training);
    let mut learner = TeacherLearner::new(network, settings, training.label_smoothing, stage.gang)?;
    let held_out = stage.train(&mut learner, training)?;
    Ok((learner.into_network(), held_out[0]))
}
