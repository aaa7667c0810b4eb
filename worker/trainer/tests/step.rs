//! The student's step against its definition, written naively.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is the test's report"
)]

mod common;

use nettailor_domain::architecture::{Architecture, BlockCosts, ComplexityForm, CostVector, Gradient};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::{Hints, Precision};
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::block::pool;
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Forward, Init, Mode, Network, Origin, Role, Statistics};
use nettailor_trainer::step::{Gradients, Losses, StudentLoss, gradients};
use tch::{Device, Kind, Reduction, Tensor};

const SIDE: u32 = 32;
const CLASSES: u32 = 5;
const GAMMA2: f64 = 10.0;
/// Batch statistics, running ones untouched.
const STILL: Mode = Mode::batch(0.0);

struct Setting {
    student: Network,
    taught: Forward,
    images: Tensor,
    labels: Tensor,
}

impl Setting {
    fn new(name: BackboneName, blocks: usize, shape: impl Fn(&mut Architecture)) -> Self {
        Self::within(name, blocks, shape, Precision::Fp32)
    }

    fn within(
        name: BackboneName,
        blocks: usize,
        shape: impl Fn(&mut Architecture),
        precision: Precision,
    ) -> Self {
        tch::set_num_threads(1);
        let backbone = common::backbone(name, blocks);
        let layout = Layout::on(Device::Cpu).with(precision);
        let recipe = Recipe {
            universal: Role::Frozen,
            origin: Origin::Fresh { seed: 3 },
            classes: CLASSES,
            input: SIDE,
            layout,
        };
        let mut architecture = Architecture::new(&backbone, 3);
        shape(&mut architecture);
        let student = Network::with_backbone(
            backbone.clone(),
            architecture,
            &common::weights(&backbone, 1),
            recipe,
        )
        .unwrap();
        // Proxies start small; here their share of the node should matter.
        for variable in student
            .variables
            .iter()
            .filter(|variable| variable.name.ends_with("conv.weight"))
        {
            if variable.role == Role::Trained {
                let _scaled = tch::no_grad(|| variable.tensor.shallow_clone().f_mul_scalar_(30.0)).unwrap();
            }
        }
        let plain = Architecture::backbone_only(&backbone);
        let teacher =
            Network::with_backbone(backbone.clone(), plain, &common::weights(&backbone, 2), recipe).unwrap();
        let values = Init::Normal(1.0).values(4, "images", (6 * 3 * SIDE * SIDE) as usize);
        let images = Tensor::from_slice(&values).view([6, 3, i64::from(SIDE), i64::from(SIDE)]);
        let images = layout.ordered(&images.to_kind(layout.kind())).unwrap();
        let taught = tch::no_grad(|| teacher.forward(&images, Mode::EVALUATE)).unwrap();
        Self {
            student,
            taught,
            images,
            labels: Tensor::from_slice(&[0i64, 1, 2, 3, 4, 0]),
        }
    }

    fn found(&self, hints: Hints, mode: Mode) -> Gradients {
        self.stepped(hints, mode).1
    }

    fn stepped(&self, hints: Hints, mode: Mode) -> (Losses, Gradients) {
        let none = |a: &Architecture| {
            (
                0.0,
                a.layers
                    .iter()
                    .map(|l| vec![0.0; l.blocks.len()])
                    .collect::<Gradient>(),
            )
        };
        let loss = StudentLoss {
            gamma1: 0.0,
            gamma2: GAMMA2,
            hints,
            complexity: &none,
            budget: None,
        };
        gradients(
            &self.student,
            &self.images,
            &self.labels,
            Some(&self.taught),
            &loss,
            mode,
        )
        .unwrap()
    }

    fn trained(&self) -> Vec<(usize, Tensor)> {
        let variables = &self.student.variables;
        variables
            .trained(0..variables.len())
            .into_iter()
            .map(|i| (i, variables.get(i).tensor.shallow_clone()))
            .collect()
    }

    /// Cross-entropy and the logits' hint.
    fn task_loss(&self, logits: &Tensor) -> Tensor {
        let weight = GAMMA2 / self.student.layers.len() as f64;
        logits.cross_entropy_for_logits(&self.labels)
            + logits.mse_loss(&self.taught.logits, Reduction::Mean) * weight
    }

    fn hint(&self, node: usize, x: &Tensor) -> Tensor {
        let weight = GAMMA2 / self.student.layers.len() as f64;
        x.mse_loss(self.taught.nodes[node].as_ref().unwrap(), Reduction::Mean) * weight
    }

    /// Compares with gradients on the trained tensors, then on every layer's attention.
    fn compare(&self, found: &Gradients, expected: &[Tensor], attention: &[Option<Tensor>]) {
        let trained = self.trained();
        for ((index, _), expected) in trained.iter().zip(expected) {
            let name = &self.student.variables.get(*index).name;
            match &found.tensors[*index] {
                Some(ours) => near(name, ours, expected),
                None => assert!(!expected.defined(), "no gradient on {name}"),
            }
        }
        let mut rest = expected[trained.len()..].iter();
        for (layer, tensor) in attention.iter().enumerate() {
            let ours = Tensor::from_slice(&found.attention[layer]).to_kind(Kind::Float);
            match tensor {
                Some(_) => near(&format!("attention {layer}"), &ours, rest.next().unwrap()),
                None => assert!(found.attention[layer].iter().all(|g| *g == 0.0)),
            }
        }
    }
}

fn near(what: &str, ours: &Tensor, expected: &Tensor) {
    let off = f64::try_from((ours - expected).abs().max()).unwrap();
    let scale = f64::try_from(expected.abs().max()).unwrap();
    assert!(
        scale > 0.0,
        "{what}: the expected gradient is zero, the test shows nothing"
    );
    assert!(off <= 2e-4 * scale, "{what}: off by {off:.2e} of {scale:.2e}");
}

fn everything(_: &mut Architecture) {}

/// A pruned network: a layer with its main block alone, one with a single proxy, one with proxies only.
fn pruned(architecture: &mut Architecture) {
    let removed = nettailor_domain::architecture::Fate::RemovedByRank;
    for block in &mut architecture.layers[0].blocks[1..] {
        block.fate = removed;
    }
    architecture.layers[1].blocks[0].fate = removed;
    architecture.layers[1].blocks[2].fate = removed;
    architecture.layers[2].blocks[0].fate = removed;
}

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
            setting.compare(&setting.found(Hints::Local, STILL), &expected, &attention);
        }
    }
}

#[test]
fn end_to_end_hints_are_the_gradient_of_the_whole_loss() {
    for shape in [everything as fn(&mut Architecture), pruned] {
        let setting = Setting::new(BackboneName::Lite0, 5, shape);
        let attention = setting.student.attention(true).unwrap();
        let run = setting
            .student
            .forward_with(&setting.images, STILL, &attention)
            .unwrap();
        let mut loss = setting.task_loss(&run.logits);
        for (node, x) in run.nodes.iter().enumerate().skip(1) {
            loss += setting.hint(node, x.as_ref().unwrap());
        }
        let mut inputs: Vec<Tensor> = setting.trained().into_iter().map(|(_, tensor)| tensor).collect();
        inputs.extend(attention.iter().flatten().map(Tensor::shallow_clone));
        let expected = Tensor::run_backward(&[loss], &inputs, false, false);
        setting.compare(&setting.found(Hints::EndToEnd, STILL), &expected, &attention);
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
    let costs = BlockCosts::new(&student.architecture, &student.backbone, SIDE, CostVector::Flops);
    let complexity = |a: &Architecture| a.expected_complexity(ComplexityForm::Product, &costs);
    let (value, slope) = complexity(&student.architecture);
    let run = |gamma1: f64, budget: Option<f64>| {
        let loss = StudentLoss {
            gamma1,
            gamma2: 0.0,
            hints: Hints::Local,
            complexity: &complexity,
            budget,
        };
        gradients(student, &setting.images, &setting.labels, None, &loss, STILL).unwrap()
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

#[test]
fn a_step_in_bf16_finds_nearly_the_same() {
    for name in [BackboneName::Lite0, BackboneName::Resnet18] {
        let settings = [Precision::Fp32, Precision::Bf16].map(|p| Setting::within(name, 5, everything, p));
        let [(losses, exact), (rounded, found)] =
            [&settings[0], &settings[1]].map(|s| s.stepped(Hints::Local, STILL));
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
