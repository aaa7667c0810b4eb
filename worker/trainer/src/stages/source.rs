//! Stage `source`: pre-train a backbone from random weights, for users who bring none.

use nettailor_domain::stage::StageOutcome;
use nettailor_domain::task::{BnMode, TrainingSettings};

use super::{Error, Stage, teacher};
use crate::data::Split;
use crate::model::{Mode, Origin, Role};
use crate::weights::Weights;

/// Training batches over which the finished backbone's statistics are estimated.
const STATISTICS_BATCHES: u32 = 100;

pub(super) fn run(stage: &mut Stage<'_>, training: &TrainingSettings) -> Result<StageOutcome, Error> {
    let seed = stage.assignment.spec.seed;
    let recipe = stage.recipe(Role::Trained, BnMode::Task, Origin::Scratch { seed });
    let (network, _) = teacher::train(stage, &Weights::default(), recipe, training)?;
    // Tasks take these statistics as they are: they must be those of the final weights, not a trace of earlier ones.
    let batch_size = training.batch_size as usize;
    stage.estimate_statistics(&network, Mode::TRAIN, STATISTICS_BATCHES, batch_size)?;
    let held_out = stage.evaluate(&network, Split::HeldOut)?;
    // The source's classes are nobody else's business.
    stage.write_whole(&network, false)?;
    Ok(StageOutcome::Source { held_out })
}
