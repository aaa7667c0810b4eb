//! Stage `student`: proxies, attention and classifier over the frozen backbone.

use nettailor_domain::architecture::Architecture;
use nettailor_domain::stage::StageOutcome;
use nettailor_domain::task::{BnMode, StudentSettings, TrainingSettings};
use nettailor_domain::units::Accuracy;

use super::{Error, Stage};
use crate::model::{Mode, Network, Origin, Role, Statistics};
use crate::step::{Cohort, Complexity, Pressure, StudentLearner, StudentLoss};

pub(super) fn run(
    stage: &mut Stage<'_>,
    max_skip: usize,
    student: &StudentSettings,
) -> Result<StageOutcome, Error> {
    let architecture = Architecture::new(&stage.backbone, max_skip);
    let weights = stage.backbone_weights()?;
    let seed = stage.assignment.spec.seed;
    let recipe = stage.recipe(Role::Frozen, student.bn_mode, Origin::Fresh { seed });
    let network = Network::new(architecture, &weights, recipe)?;
    let costs = stage.block_costs(&network, student)?;
    let form = student.complexity;
    let complexity = move |architecture: &Architecture| architecture.expected_complexity(form, &costs);
    let (network, held_out) = train(stage, network, student, &student.training, &complexity)?;
    let (expected_complexity, _) = complexity(&network.architecture);
    Ok(StageOutcome::Student {
        architecture: network.architecture,
        held_out,
        expected_complexity,
    })
}

/// How batch norms work while a student trains.
pub(super) fn mode(student: &StudentSettings) -> Mode<'static> {
    match student.bn_mode {
        BnMode::Task | BnMode::Affine => Mode::TRAIN,
        BnMode::Frozen => Mode {
            universal: Statistics::Running,
            ..Mode::TRAIN
        },
    }
}

/// The teacher, if the student's loss has hints.
pub(super) fn taught(stage: &Stage<'_>, student: &StudentSettings) -> Result<Option<Network>, Error> {
    (student.gamma2 != 0.0).then(|| stage.teacher()).transpose()
}

/// Trains one student or candidate to the end, and leaves its own tensors.
pub(super) fn train(
    stage: &mut Stage<'_>,
    network: Network,
    student: &StudentSettings,
    training: &TrainingSettings,
    complexity: &Complexity<'_>,
) -> Result<(Network, Accuracy), Error> {
    let teacher = taught(stage, student)?;
    let before = network.variables.frozen_digest()?;
    let mut learner = learner(stage, network, student, training, complexity)?;
    let mut cohort = Cohort::new(teacher.as_ref(), vec![&mut learner]);
    let held_out = stage.train(&mut cohort, training)?[0];
    let network = learner.into_network();
    keep(stage, &network, before)?;
    Ok((network, held_out))
}

/// Trains `network` under `student`'s losses with `training`'s optimiser.
pub(super) fn learner<'a, 's: 'a>(
    stage: &Stage<'s>,
    network: Network,
    student: &StudentSettings,
    training: &TrainingSettings,
    complexity: &'a Complexity<'a>,
) -> Result<StudentLearner<'a>, Error> {
    let loss = StudentLoss::new(student, training.label_smoothing, complexity);
    let pressure = Pressure {
        gamma1_ramp: student.gamma1_ramp,
        score_rate: student.score_learning_rate,
        mode: mode(student),
    };
    let settings = stage.learning(training);
    Ok(StudentLearner::new(
        network, loss, pressure, settings, stage.gang,
    )?)
}

/// Leaves a trained network's own tensors, after a look whether its frozen ones are what they were `before`.
pub(super) fn keep(stage: &Stage<'_>, network: &Network, before: blake3::Hash) -> Result<(), Error> {
    if network.variables.frozen_digest()? != before {
        return Err(Error::BackboneChanged);
    }
    stage.write_task(network)
}
