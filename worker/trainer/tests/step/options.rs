//! Options of the loss and of the frozen blocks' batch norms.

use nettailor_domain::architecture::Architecture;
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::{BnMode, HintScale, Hints, Precision, StudentSettings};
use nettailor_trainer::model::{Mode, Role};
use nettailor_trainer::step::Gradients;
use tch::{Kind, Tensor};

use crate::setting::{CLASSES, SIDE, STILL, Setting, everything, near, pruned};

const BLOCKS: usize = 5;

fn with(settings: StudentSettings) -> Setting {
    Setting::with(BackboneName::Lite0, BLOCKS, pruned, settings)
}

#[test]
fn relative_hints_weigh_every_node_by_its_variance() {
    let relative = with(StudentSettings {
        hint_scale: HintScale::Relative,
        ..StudentSettings::default()
    });
    let (expected, attention) = relative.end_to_end();
    let (losses, found) = relative.found(Hints::EndToEnd, STILL);
    relative.compare(&found, &expected, &attention);
    let (absolute, _) = with(StudentSettings::default()).found(Hints::EndToEnd, STILL);
    assert!(
        (losses.hint - absolute.hint).abs() > 0.1 * absolute.hint,
        "both scales measure the same here: the test shows nothing"
    );
}

#[test]
fn distillation_is_the_divergence_of_softened_logits() {
    let setting = with(StudentSettings {
        temperature: Some(4.0),
        ..StudentSettings::default()
    });
    let (expected, attention) = setting.end_to_end();
    let (losses, found) = setting.found(Hints::EndToEnd, STILL);
    setting.compare(&found, &expected, &attention);
    let (plain, _) = with(StudentSettings::default()).found(Hints::EndToEnd, STILL);
    assert_ne!(losses.hint, plain.hint, "the temperature changes nothing");
    assert_eq!(losses.cross_entropy, plain.cross_entropy);
}

#[test]
fn affine_trains_the_blocks_batch_norms_under_the_task_alone() {
    let settings = StudentSettings {
        bn_mode: BnMode::Affine,
        ..StudentSettings::default()
    };
    let setting = Setting::with(BackboneName::Resnet18, 3, everything, settings);
    let trained: Vec<&str> = setting
        .student
        .variables
        .iter()
        .filter(|variable| variable.role == Role::Trained)
        .map(|variable| variable.name.as_str())
        .collect();
    for name in ["layer1.0.bn1.weight", "layer2.0.downsample.1.bias"] {
        assert!(trained.contains(&name), "{name} is not trained");
    }
    for name in ["bn1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.running_mean"] {
        assert!(!trained.contains(&name), "{name} is trained");
    }
    // Without hints the whole gradient is the task's: there it must be that of one graph.
    let mut plain = setting;
    plain.settings.gamma2 = 0.0;
    let (expected, attention) = plain.end_to_end();
    plain.compare(&plain.found(Hints::Local, STILL).1, &expected, &attention);
}

#[test]
fn what_a_task_stores_is_what_is_counted() {
    for bn_mode in [BnMode::Task, BnMode::Frozen, BnMode::Affine] {
        for shape in [everything as fn(&mut Architecture), pruned] {
            let settings = StudentSettings {
                bn_mode,
                ..StudentSettings::default()
            };
            // The whole backbone: costs are those of the catalogue's.
            let setting = Setting::with(BackboneName::Lite0, 16, shape, settings);
            let (student, architecture) = (&setting.student, &setting.student.architecture);
            let stored = student.variables.iter().filter(|v| v.role != Role::Frozen);
            let stored: usize = stored.map(|variable| variable.tensor.numel()).sum();
            let scores: usize = student.scores().unwrap().iter().map(|(_, s)| s.numel()).sum();
            let counts = architecture.counts_under(bn_mode, CLASSES, SIDE);
            assert_eq!((stored + scores) as u64, counts.task_params, "{bn_mode:?}");
            let all: usize = student
                .variables
                .iter()
                .map(|variable| variable.tensor.numel())
                .sum();
            // Statistics that the backbone brings along are nobody's parameters.
            let shared_statistics: usize = student
                .variables
                .iter()
                .filter(|v| v.role == Role::Frozen && v.name.contains("running_"))
                .map(|variable| variable.tensor.numel())
                .sum();
            let expected = (all + scores - shared_statistics) as u64;
            assert_eq!(expected, counts.active_params, "{bn_mode:?}");
        }
    }
}

#[test]
fn frozen_statistics_are_the_backbones_and_never_move() {
    let settings = StudentSettings {
        bn_mode: BnMode::Frozen,
        ..StudentSettings::default()
    };
    let setting = Setting::with(BackboneName::Resnet18, 3, everything, settings);
    let before = setting.student.variables.frozen_digest().unwrap();
    let mode = Mode {
        universal: nettailor_trainer::model::Statistics::Running,
        ..Mode::TRAIN
    };
    let statistic = setting
        .student
        .variables
        .named("layer1.0.bn1.running_mean")
        .unwrap();
    assert_eq!(statistic.role, Role::Frozen);
    let kept = statistic.tensor.copy();
    setting.found(Hints::Local, mode);
    near("running mean", &statistic.tensor, &kept);
    assert_eq!(setting.student.variables.frozen_digest().unwrap(), before);
}

#[test]
fn a_step_in_bf16_finds_nearly_the_same() {
    for name in [BackboneName::Lite0, BackboneName::Resnet18] {
        let within = |precision| {
            let setting = Setting::within(precision, name, BLOCKS, everything, StudentSettings::default());
            setting.found(Hints::Local, STILL)
        };
        let (losses, exact) = within(Precision::Fp32);
        let (rounded, found) = within(Precision::Bf16);
        for (what, ours, expected) in [
            ("cross-entropy", rounded.cross_entropy, losses.cross_entropy),
            ("hint", rounded.hint, losses.hint),
        ] {
            assert!(
                (ours / expected - 1.0).abs() < 0.02,
                "{name}, {what}: {ours} is not {expected}"
            );
            assert_ne!(ours, expected, "{name}, {what}: nothing was computed in bf16");
        }
        let flat = |found: &Gradients| {
            let tensors: Vec<Tensor> = found.tensors.iter().flatten().map(|t| t.view([-1])).collect();
            assert!(
                tensors.iter().all(|t| t.kind() == Kind::Float),
                "a gradient is not in single precision"
            );
            Tensor::cat(&tensors, 0)
        };
        let attention = |found: &Gradients| Tensor::from_slice(&found.attention.concat());
        for (what, ours, expected) in [
            ("tensors", flat(&found), flat(&exact)),
            ("attention", attention(&found), attention(&exact)),
        ] {
            let cosine = f64::try_from(ours.dot(&expected) / (ours.norm() * expected.norm())).unwrap();
            assert!(cosine > 0.99, "{name}, gradient on {what}: cosine {cosine}");
        }
    }
}
