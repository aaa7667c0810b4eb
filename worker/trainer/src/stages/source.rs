//! Stage `source`: pre-train a backbone from random weights, for users who bring none.

use nettailor_domain::stage::StageOutcome;
use nettailor_domain::task::{BnMode, TrainingSettings};

use super::{Error, Stage, teacher};
use crate::model::{Origin, Role};
use crate::weights::Weights;

pub(super) fn run(stage: &mut Stage<'_>, training: &TrainingSettings) -> Result<StageOutcome, Error> {
    let seed = stage.assignment.spec.seed;
    let recipe = stage.recipe(Role::Trained, BnMode::Task, Origin::Scratch { seed });
    let (network, held_out) = teacher::train(stage, &Weights::default(), recipe, training)?;
    // The source's classes are nobody else's business.
    stage.write_whole(&network, false)?;
    Ok(StageOutcome::Source { held_out })
}
