//! Any backbone, any skip, any input size: it builds, trains and evaluates.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is the test's report"
)]

use std::collections::HashMap;

use nettailor_collective::Solo;
use nettailor_domain::architecture::{Architecture, BlockCosts, ComplexityForm};
use nettailor_domain::backbone::{Backbone, BackboneName};
use nettailor_domain::task::{BnMode, Hints, StudentSettings};
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Init, Mode, Network, Origin, Role};
use nettailor_trainer::step::{Cohort, Learner, Moment, Part, Pressure, StudentLearner, StudentLoss};
use nettailor_trainer::weights::Weights;
use tch::{Device, Tensor};

const CLASSES: u32 = 5;
const BATCH: i64 = 3;
/// Sides that no stride divides for long.
const SIDES: [u32; 4] = [16, 33, 50, 77];

fn weights(backbone: &Backbone, seed: u64) -> Weights {
    let tensors = backbone.tensors().into_iter().map(|spec| {
        let shape: Vec<i64> = spec.shape.iter().map(|n| *n as i64).collect();
        let fan_in: usize = spec.shape[1..].iter().product();
        let init = match spec.name.rsplit('.').next().unwrap() {
            "weight" if shape.len() == 4 => Init::Normal((2.0 / fan_in as f32).sqrt()),
            "weight" | "running_var" => Init::Constant(1.0),
            _ => Init::Constant(0.0),
        };
        let values = init.values(seed, &spec.name, spec.shape.iter().product());
        (spec.name, Tensor::from_slice(&values).view(&shape[..]))
    });
    Weights::from_tensors(tensors.collect::<HashMap<_, _>>(), "test")
}

fn network(name: BackboneName, max_skip: usize, input: u32, weights: &Weights) -> Network {
    let recipe = Recipe {
        universal: Role::Frozen,
        bn_mode: BnMode::Task,
        origin: Origin::Fresh { seed: 3 },
        classes: CLASSES,
        input,
        layout: Layout::on(Device::Cpu),
    };
    Network::new(Architecture::new(&name.describe(), max_skip), weights, recipe).unwrap()
}

fn images(input: u32) -> Tensor {
    let side = i64::from(input);
    let values = Init::Normal(1.0).values(4, "images", (BATCH * 3 * side * side) as usize);
    let images = Tensor::from_slice(&values).view([BATCH, 3, side, side]);
    Layout::on(Device::Cpu).ordered(&images).unwrap()
}

/// Fails unless every node is as large as the domain says, and the logits are numbers.
fn check(network: &Network, images: &Tensor, what: &str) {
    let input = images.size()[2] as u32;
    let forward = tch::no_grad(|| network.forward(images, Mode::EVALUATE));
    let forward = forward.unwrap_or_else(|error| panic!("{what}: {error}"));
    for (node, shape) in forward.nodes.iter().zip(network.backbone.node_shapes(input)) {
        let side = i64::from(shape.side);
        let expected = [BATCH, i64::from(shape.channels), side, side];
        assert_eq!(node.as_ref().unwrap().size(), expected, "{what}");
    }
    assert_eq!(forward.logits.size(), [BATCH, i64::from(CLASSES)], "{what}");
    assert!(bool::try_from(forward.logits.isfinite().all()).unwrap(), "{what}");
}

#[test]
fn every_backbone_at_every_size() {
    tch::set_num_threads(1);
    for name in BackboneName::ALL {
        let weights = weights(&name.describe(), 1);
        for input in SIDES {
            check(
                &network(name, 3, input, &weights),
                &images(input),
                &format!("{name} at {input}"),
            );
        }
    }
}

/// One step with everything that a loss has, and what it must move and leave.
fn train_one_step(name: BackboneName, max_skip: usize, input: u32, student: &Weights, teacher: &Weights) {
    let what = format!("{name} with skips up to {max_skip} at {input}");
    let student = network(name, max_skip, input, student);
    let teacher = network(name, 0, input, teacher);
    let before = student.architecture.clone();
    let expected: usize = (1..=before.layers.len()).map(|l| l.min(max_skip)).sum();
    assert_eq!(before.kept_proxies(), expected, "{what}");
    let frozen = student.variables.frozen_digest().unwrap();
    let tensors: Vec<Tensor> = student.variables.iter().map(|v| v.tensor.copy()).collect();
    let costs = BlockCosts::counted(&before, &student.backbone, input, |cost| cost.flops as f64);
    let complexity = |a: &Architecture| a.expected_complexity(ComplexityForm::Product, &costs);
    // Hints of every layer's own: gradients that are large enough to be seen in every score.
    let settings = StudentSettings {
        hints: Hints::Local,
        ..StudentSettings::default()
    };
    let loss = StudentLoss::new(&settings, 0.0, &complexity);
    let pressure = Pressure {
        gamma1_ramp: 0.0,
        score_rate: 1.0,
        mode: Mode::TRAIN,
    };
    let gang = Solo::new();
    let training = &settings.training;
    let mut learner = StudentLearner::new(student, loss, pressure, training.into(), &gang).unwrap();
    let at = Moment {
        learning_rate: 1e-3,
        progress: 0.0,
    };
    let images = images(input);
    let labels = Tensor::from_slice(&[0i64, 1, 2]);
    let losses = Cohort::new(Some(&teacher), vec![&mut learner]).step(Part::whole(&images, &labels), at);
    let losses = losses.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(
        losses.total.is_finite() && losses.hint > 0.0 && losses.complexity > 0.0,
        "{what}: {losses:?}"
    );

    let network = learner.network();
    for (variable, before) in network.variables.iter().zip(tensors) {
        let moved = variable.tensor != before;
        assert_eq!(moved, variable.role != Role::Frozen, "{what}: {}", variable.name);
    }
    assert_eq!(network.variables.frozen_digest().unwrap(), frozen, "{what}");
    for (after, before) in network.architecture.layers.iter().zip(&before.layers) {
        for (after, before) in after.blocks.iter().zip(&before.blocks) {
            assert_ne!(after.score, before.score, "{what}: a score stayed where it was");
        }
    }
    check(network, &images, &what);
}

#[test]
fn a_step_with_short_long_and_dense_skips() {
    tch::set_num_threads(1);
    for name in [BackboneName::Lite0, BackboneName::Resnet18, BackboneName::Wrn26] {
        let backbone = name.describe();
        let (student, teacher) = (weights(&backbone, 1), weights(&backbone, 2));
        for max_skip in [1, 3, 5, backbone.layers()] {
            train_one_step(name, max_skip, 50, &student, &teacher);
        }
    }
}
