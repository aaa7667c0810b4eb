//! Stage `teacher`: fine-tune every weight of the backbone with a new classifier.

use nettailor_domain::architecture::Architecture;
use nettailor_domain::stage::StageOutcome;
use nettailor_domain::task::TrainingSettings;

use super::{Error, Stage};
use crate::model::{Network, Origin, Role};
use crate::step::{SgdSettings, TeacherLearner};
use crate::weights::Weights;

pub(super) fn run(stage: &mut Stage<'_>, training: &TrainingSettings) -> Result<StageOutcome, Error> {
    let spec = &stage.assignment.spec;
    let weights = Weights::read(&stage.assignment.backbone)?;
    let recipe = stage.recipe(Role::Trained, Origin::Fresh { seed: spec.seed });
    let network = Network::new(Architecture::backbone_only(&stage.backbone), &weights, recipe)?;
    let settings = SgdSettings {
        momentum: training.momentum,
        weight_decay: training.weight_decay,
    };
    let mut learner = TeacherLearner::new(network, settings, stage.gang);
    let held_out = stage.train(&mut learner, training)?;
    stage.write_whole(&learner.into_network())?;
    Ok(StageOutcome::Teacher { held_out })
}
