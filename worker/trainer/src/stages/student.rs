//! Stage `student`: proxies, attention and classifier over the frozen backbone.

use nettailor_collective::Collective;
use nettailor_domain::architecture::{Architecture, BlockCosts};
use nettailor_domain::stage::StageOutcome;
use nettailor_domain::task::{BnMode, StudentSettings, TrainingSettings};
use nettailor_domain::units::Accuracy;

use super::{Error, Stage};
use crate::model::{Mode, Network, Origin, Role, Statistics};
use crate::step::{Complexity, LearnerSettings, SgdSettings, StudentLearner, StudentLoss};
use crate::weights::Weights;

pub(super) fn run(
    stage: &mut Stage<'_>,
    max_skip: usize,
    student: &StudentSettings,
) -> Result<StageOutcome, Error> {
    let spec = &stage.assignment.spec;
    let input = spec.reading.image_size;
    let architecture = Architecture::new(&stage.backbone, max_skip);
    let costs = BlockCosts::new(&architecture, &stage.backbone, input, student.cost);
    let form = student.complexity;
    let complexity = move |architecture: &Architecture| architecture.expected_complexity(form, &costs);
    let weights = Weights::read(&stage.assignment.backbone)?;
    let recipe = stage.recipe(Role::Frozen, Origin::Fresh { seed: spec.seed });
    let network = Network::new(architecture, &weights, recipe)?;
    let (network, held_out) = train(stage, network, student, &student.training, &complexity)?;
    let (expected_complexity, _) = complexity(&network.architecture);
    Ok(StageOutcome::Student {
        architecture: network.architecture,
        held_out,
        expected_complexity,
    })
}

/// How batch norms work while a student trains.
pub(super) fn mode(student: &StudentSettings) -> Mode {
    match student.bn_mode {
        BnMode::Task => Mode::TRAIN,
        BnMode::Frozen => Mode {
            universal: Statistics::Running,
            ..Mode::TRAIN
        },
    }
}

/// Trains a student or candidate under `student`'s losses with `training`'s optimiser, checks that the backbone did not
/// change, and leaves the task's tensors.
pub(super) fn train(
    stage: &mut Stage<'_>,
    network: Network,
    student: &StudentSettings,
    training: &TrainingSettings,
    complexity: &Complexity<'_>,
) -> Result<(Network, Accuracy), Error> {
    let before = network.variables.frozen_digest()?;
    let teacher = if student.gamma2 == 0.0 {
        None
    } else {
        Some(stage.teacher()?)
    };
    let settings = LearnerSettings {
        loss: StudentLoss {
            gamma1: student.gamma1,
            gamma2: student.gamma2,
            hints: student.hints,
            complexity,
            budget: student.budget,
        },
        gamma1_ramp: student.gamma1_ramp,
        score_rate: student.score_learning_rate,
        sgd: SgdSettings {
            momentum: training.momentum,
            weight_decay: training.weight_decay,
        },
        mode: mode(student),
    };
    let gang: &dyn Collective = stage.gang;
    let mut learner = StudentLearner::new(network, teacher, settings, gang);
    let held_out = stage.train(&mut learner, training)?;
    let network = learner.into_network();
    if network.variables.frozen_digest()? != before {
        return Err(Error::BackboneChanged);
    }
    stage.write_task(&network)?;
    Ok((network, held_out))
}
