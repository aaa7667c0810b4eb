//! Hints, statistics and complexity.

use nettailor_domain::architecture::{Architecture, BlockCosts, ComplexityForm};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::{Hints, StudentSettings};
use nettailor_trainer::model::block::pool;
use nettailor_trainer::model::{Mode, Network, Role, Statistics};
use nettailor_trainer::step::{StudentLoss, gradients};
use tch::Tensor;

use crate::setting::{SIDE, STILL, Setting, everything, near, pruned};

/// Hints as METHOD section 5 defines them: each layer evaluated a second time, on detached inputs.
fn local_hints_twice(setting: &Setting, student: &Network) -> (Vec<Tensor>, Vec<Option<Tensor>>) {
    let attention = student.attention(true).unwrap();
    let run = student.forward_with(&setting.images, STILL, &attention).unwrap();
    let mut loss = setting.task_loss(&run.logits);
    for layer in &student.layers {
        let detached: Vec<Option<Tensor>> =
            run.nodes.iter().map(|x| x.as_ref().map(Tensor::detach)).collect();
        let main = layer.main.as_ref().zip(detached[layer.number - 1].as_ref());
        let main = main.map(|(block, x)| block.forward(x, STILL).unwrap());
        let pooled: Vec<Option<Tensor>> = layer
            .skips
            .iter()
            .map(|skip| {
                detached[skip.source]
                    .as_ref()
                    .map(|x| pool(x, skip.proxy.side).unwrap())
            })
            .collect();
        let attention = attention[layer.number - 1].as_ref();
        let again = layer.combine(main.as_ref(), &pooled, attention, STILL).unwrap();
        loss += setting.hint(layer.number, &again.unwrap());
    }
    let mut inputs: Vec<Tensor> = setting.trained().into_iter().map(|(_, tensor)| tensor).collect();
    inputs.extend(attention.iter().flatten().map(Tensor::shallow_clone));
    (Tensor::run_backward(&[loss], &inputs, false, false), attention)
}

#[test]
fn local_hints_train_a_layers_own_parameters_and_nothing_upstream() {
    for name in [BackboneName::Lite0, BackboneName::Resnet18] {
        for shape in [everything as fn(&mut Architecture), pruned] {
            let setting = Setting::new(name, 5, shape);
            let (expected, attention) = local_hints_twice(&setting, &setting.student);
            setting.compare(&setting.found(Hints::Local, STILL).1, &expected, &attention);
        }
    }
}

#[test]
fn end_to_end_hints_are_the_gradient_of_the_whole_loss() {
    for shape in [everything as fn(&mut Architecture), pruned] {
        let setting = Setting::new(BackboneName::Lite0, 5, shape);
        let (expected, attention) = setting.end_to_end();
        setting.compare(&setting.found(Hints::EndToEnd, STILL).1, &expected, &attention);
    }
}

/// Running statistics move once per forward pass of a batch norm, so they count the passes.
#[test]
fn a_step_runs_every_block_once() {
    let stepped = Setting::new(BackboneName::Lite0, 5, everything);
    let once = Setting::new(BackboneName::Lite0, 5, everything);
    stepped.found(Hints::Local, Mode::TRAIN);
    tch::no_grad(|| once.student.forward(&once.images, Mode::TRAIN)).unwrap();
    let mut moved = 0;
    for (ours, expected) in stepped
        .student
        .variables
        .iter()
        .zip(once.student.variables.iter())
    {
        if ours.role == Role::Statistic {
            near(&ours.name, &ours.tensor, &expected.tensor);
            moved += 1;
        }
    }
    // Stem 1, first block 2, four blocks with 3, 12 proxies: two statistics each.
    assert_eq!(moved, 2 * (1 + 2 + 4 * 3 + 12));
    let fresh = Setting::new(BackboneName::Lite0, 5, everything);
    let name = "_blocks.1._bn1.running_mean";
    let [before, after] = [&fresh, &stepped].map(|s| s.student.variables.named(name).unwrap().tensor.copy());
    assert!(
        f64::try_from((before - after).abs().max()).unwrap() > 1e-4,
        "statistics did not move at all"
    );
}

#[test]
fn frozen_statistics_and_single_images_leave_the_blocks_statistics_alone() {
    let frozen = Mode {
        universal: Statistics::Running,
        ..Mode::TRAIN
    };
    let cases = [(frozen, 6), (Mode::TRAIN, 1)];
    for (mode, count) in cases {
        let mut setting = Setting::new(BackboneName::Resnet18, 3, everything);
        setting.images = setting.images.narrow(0, 0, count);
        setting.labels = setting.labels.narrow(0, 0, count);
        setting.taught.logits = setting.taught.logits.narrow(0, 0, count);
        for node in setting.taught.nodes.iter_mut().flatten() {
            *node = node.narrow(0, 0, count);
        }
        let before: Vec<Tensor> = setting
            .student
            .variables
            .iter()
            .map(|v| v.tensor.copy())
            .collect();
        setting.found(Hints::Local, mode);
        for (variable, before) in setting.student.variables.iter().zip(before) {
            let universal = !variable.name.starts_with("proxies.");
            if universal || count == 1 {
                assert!(variable.tensor == before, "{} moved", variable.name);
            }
        }
    }
}

#[test]
fn complexity_reaches_the_attention_only_above_the_budget() {
    let setting = Setting::new(BackboneName::Lite0, 5, everything);
    let student = &setting.student;
    let costs = BlockCosts::counted(&student.architecture, &student.backbone, SIDE, |cost| {
        cost.flops as f64
    });
    let complexity = |a: &Architecture| a.expected_complexity(ComplexityForm::Product, &costs);
    let (value, slope) = complexity(&student.architecture);
    let run = |gamma1: f64, budget: Option<f64>| {
        let settings = StudentSettings {
            gamma1,
            gamma2: 0.0,
            budget,
            ..StudentSettings::default()
        };
        let loss = StudentLoss::new(&settings, 0.0, &complexity);
        gradients(student, setting.part(), None, &loss, STILL).unwrap()
    };
    let (plain, base) = run(0.0, None);
    let (losses, pressed) = run(0.3, None);
    assert!((losses.total - plain.total - 0.3 * value).abs() < 1e-6);
    assert_eq!(losses.complexity, value);
    for ((a, b), s) in pressed
        .attention
        .concat()
        .iter()
        .zip(base.attention.concat())
        .zip(slope.concat())
    {
        assert!((a - b - 0.3 * s).abs() < 1e-5, "{a} - {b} is not 0.3 * {s}");
    }
    let (losses, within) = run(0.3, Some(value + 0.01));
    assert!(
        (losses.total - plain.total).abs() < 1e-6,
        "a budget that is kept costs nothing"
    );
    assert_eq!(losses.complexity, value, "it is reported all the same");
    for (a, b) in within.attention.concat().iter().zip(base.attention.concat()) {
        assert!((a - b).abs() < 1e-6);
    }
    let (losses, _) = run(0.3, Some(value - 0.1));
    assert!((losses.total - plain.total - 0.3 * 0.1).abs() < 1e-6);
}
