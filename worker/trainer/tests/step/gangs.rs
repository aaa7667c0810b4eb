//! Learners as ranks of a gang: whatever its width, they end where a single one does.

use std::collections::BTreeMap;

use nettailor_collective::Collective;
use nettailor_domain::architecture::{Architecture, BlockCosts, ComplexityForm};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::{BnMode, HintScale, Precision, StudentSettings};
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Init, Mode, Network, Origin, Role, Statistics};
use nettailor_trainer::step::{
    Cohort, Error, ExchangeSettings, Learner, LearnerSettings, Losses, Moment, Part, Pressure, SgdSettings,
    State, StudentLearner, StudentLoss, TeacherLearner,
};
use tch::{Device, Tensor};

use crate::common;
use crate::setting::{CLASSES, SIDE, Setting, everything, pruned};
use crate::threads::{self, Threads};

/// Images of a batch over all ranks. Four ranks have unequal parts of it.
const BATCH: i64 = 10;
const STEPS: u64 = 20;
const RATE: f64 = 0.005;
/// Small enough for several buckets.
const BUCKET_BYTES: usize = 1 << 12;
const SYNCHRONISED: ExchangeSettings = ExchangeSettings {
    sync_bn: true,
    wire: Precision::Fp32,
    bucket_bytes: Some(BUCKET_BYTES),
};
const APART: ExchangeSettings = ExchangeSettings {
    sync_bn: false,
    ..SYNCHRONISED
};

type Values = BTreeMap<String, Vec<f32>>;

fn settings(exchange: ExchangeSettings) -> LearnerSettings {
    let sgd = SgdSettings {
        momentum: 0.9,
        weight_decay: 5e-4,
    };
    LearnerSettings {
        sgd,
        ema: 0.5,
        exchange,
    }
}

fn at(step: u64, rate: f64) -> Moment {
    let progress = step as f64 / STEPS as f64;
    Moment {
        learning_rate: rate * (1.0 - progress),
        progress,
    }
}

/// The rank's part of step `step`'s batch, another one for every step.
fn part(step: u64, gang: &Threads) -> (Tensor, Tensor) {
    let side = i64::from(SIDE);
    let count = (BATCH * 3 * side * side) as usize;
    let values = Init::Normal(1.0).values(step, "images", count);
    let images = Tensor::from_slice(&values).view([BATCH, 3, side, side]);
    let labels: Vec<i64> = (0..BATCH)
        .map(|image| (image + step as i64) % i64::from(CLASSES))
        .collect();
    let (rank, width) = (gang.rank() as i64, gang.world_size() as i64);
    let (from, to) = (rank * BATCH / width, (rank + 1) * BATCH / width);
    let images = Layout::on(Device::Cpu)
        .ordered(&images.narrow(0, from, to - from))
        .unwrap();
    (images, Tensor::from_slice(&labels).narrow(0, from, to - from))
}

/// All steps; every step's losses, and what the learner has become.
fn train(learner: &mut dyn Learner, rate: f64, gang: &Threads) -> (Vec<Losses>, Values) {
    let step = |step| {
        let (images, labels) = part(step, gang);
        let part = Part {
            images: &images,
            labels: &labels,
            whole: BATCH,
        };
        learner.step(part, at(step, rate)).unwrap()
    };
    let losses = (0..STEPS).map(step).collect();
    (losses, values(&learner.state().unwrap()))
}

fn values(state: &State) -> Values {
    let row = |tensor: &Tensor| Vec::<f32>::try_from(tensor.reshape([-1])).unwrap();
    state
        .iter()
        .map(|(name, tensor)| (name.to_owned(), row(tensor)))
        .collect()
}

struct Students {
    backbone: BackboneName,
    shape: fn(&mut Architecture),
    settings: StudentSettings,
    mode: fn() -> Mode<'static>,
    exchange: ExchangeSettings,
    rate: f64,
}

impl Students {
    fn new(backbone: BackboneName, mode: fn() -> Mode<'static>, exchange: ExchangeSettings) -> Self {
        Self {
            backbone,
            shape: everything,
            settings: StudentSettings {
                gamma2: 1.0,
                ..StudentSettings::default()
            },
            mode,
            exchange,
            // Features that nothing normalises are large.
            rate: if exchange.sync_bn { RATE } else { 1e-4 },
        }
    }

    fn train(&self, gang: &Threads) -> (Vec<Losses>, Values) {
        let settled = self.settings.clone();
        let setting = Setting::with(self.backbone, 5, self.shape, settled);
        let student = &setting.student;
        let costs = BlockCosts::counted(&student.architecture, &student.backbone, SIDE, |cost| {
            cost.flops as f64
        });
        let complexity = |a: &Architecture| a.expected_complexity(ComplexityForm::Product, &costs);
        let loss = StudentLoss::new(&self.settings, 0.1, &complexity);
        let pressure = Pressure {
            gamma1_ramp: 0.4,
            score_rate: 0.5,
            mode: (self.mode)(),
        };
        let Setting { student, teacher, .. } = setting;
        let settings = settings(self.exchange);
        let mut learner = StudentLearner::new(student, loss, pressure, settings, gang).unwrap();
        train(
            &mut Cohort::new(Some(&teacher), vec![&mut learner]),
            self.rate,
            gang,
        )
    }
}

fn teacher(backbone: BackboneName) -> Network {
    tch::set_num_threads(1);
    let backbone = common::backbone(backbone, 5);
    let recipe = Recipe {
        universal: Role::Trained,
        bn_mode: BnMode::Task,
        origin: Origin::Fresh { seed: 3 },
        classes: CLASSES,
        input: SIDE,
        layout: Layout::on(Device::Cpu),
    };
    let architecture = Architecture::backbone_only(&backbone);
    let weights = common::weights(&backbone, 1);
    Network::with_backbone(backbone, architecture, &weights, recipe).unwrap()
}

fn train_teacher(
    backbone: BackboneName,
    exchange: ExchangeSettings,
    gang: &Threads,
) -> (Vec<Losses>, Values) {
    let mut learner = TeacherLearner::new(teacher(backbone), settings(exchange), 0.1, gang).unwrap();
    train(&mut learner, RATE, gang)
}

/// Trains at widths 1, 2 and 4. The ranks of a gang are bit-identical; gangs end within `allowed` of each other, as a share
/// of what they have learnt, and so are their losses on the way.
fn compare(what: &str, allowed: f64, work: impl Fn(&Threads) -> (Vec<Losses>, Values) + Sync) {
    let (alone_losses, alone) = threads::run(1, &work).remove(0);
    for width in [2, 4] {
        let ranks = threads::run(width, &work);
        for (losses, values) in &ranks[1..] {
            assert_eq!(losses, &ranks[0].0, "{what}: losses of {width} ranks");
            assert!(values == &ranks[0].1, "{what}: {width} ranks are not one");
        }
        let (losses, values) = &ranks[0];
        for (step, (ours, expected)) in losses.iter().zip(&alone_losses).enumerate() {
            for (ours, expected) in [
                (ours.total, expected.total),
                (ours.cross_entropy, expected.cross_entropy),
                (ours.hint, expected.hint),
                (ours.complexity, expected.complexity),
            ] {
                let off = (ours - expected).abs();
                assert!(
                    off <= allowed * expected.abs(),
                    "{what}: {width} ranks, step {step}: {ours} is not {expected}"
                );
            }
        }
        assert_eq!(values.len(), alone.len());
        // Tensors together: what sums of numbers that cancel leave of a bias is noise in single precision. A velocity is
        // made of gradients, and of those a ReLU that rounding turns on or off has its share.
        for (kind, allowed) in [("value/", allowed), ("average/", allowed), ("velocity/", 1e-2)] {
            let off = distance(kind, values, &alone);
            assert!(
                off <= allowed,
                "{what}: {width} ranks: {kind} is off by {off:.2e}"
            );
        }
    }
}

/// Norm of the difference of all tensors of a kind, as a share of the expected ones' norm.
fn distance(kind: &str, found: &Values, expected: &Values) -> f64 {
    assert!(found.keys().eq(expected.keys()));
    let (mut off, mut scale) = (0.0, 0.0);
    for (name, expected) in expected.iter().filter(|(name, _)| name.contains(kind)) {
        for (found, expected) in found[name].iter().zip(expected) {
            off += f64::from(found - expected).powi(2);
            scale += f64::from(*expected).powi(2);
        }
    }
    assert!(scale > 0.0, "there is nothing to compare");
    (off / scale).sqrt()
}

#[test]
fn students_whose_batch_norms_all_keep_their_statistics_end_alike_at_any_width() {
    let mut students = Students::new(BackboneName::Resnet18, || Mode::EVALUATE, APART);
    compare("resnet18", 1e-4, |gang| students.train(gang));
    students.shape = pruned;
    students.settings.bn_mode = BnMode::Affine;
    compare("pruned, affine", 1e-4, |gang| students.train(gang));
}

#[test]
fn relative_hints_and_distillation_are_of_the_whole_batch() {
    let mut students = Students::new(BackboneName::Resnet18, || Mode::EVALUATE, APART);
    students.settings.hint_scale = HintScale::Relative;
    compare("relative hints", 1e-4, |gang| students.train(gang));
    students.settings.temperature = Some(3.0);
    compare("distillation", 1e-4, |gang| students.train(gang));
}

#[test]
fn students_with_synchronised_batch_norms_end_alike_at_any_width() {
    for backbone in [BackboneName::Resnet18, BackboneName::Lite0, BackboneName::Wrn26] {
        let students = Students::new(backbone, || Mode::TRAIN, SYNCHRONISED);
        compare(&format!("{backbone}"), 1e-4, |gang| students.train(gang));
    }
    // As a task with `bn_mode: frozen` trains: the proxies' batch norms still see the batch.
    let frozen = || Mode {
        universal: Statistics::Running,
        ..Mode::TRAIN
    };
    let mut students = Students::new(BackboneName::Lite0, frozen, SYNCHRONISED);
    students.settings.hints = nettailor_domain::task::Hints::EndToEnd;
    compare("frozen blocks, end to end", 1e-4, |gang| students.train(gang));
}

#[test]
fn teachers_with_synchronised_batch_norms_end_alike_at_any_width() {
    for backbone in [BackboneName::Resnet18, BackboneName::Wrn26] {
        compare(&format!("{backbone}"), 1e-4, |gang| {
            train_teacher(backbone, SYNCHRONISED, gang)
        });
    }
}

#[test]
fn where_the_graph_is_cut_changes_nothing() {
    for backbone in [BackboneName::Resnet18, BackboneName::Lite0] {
        let [everywhere, nowhere] = [1, usize::MAX].map(|bytes| {
            let exchange = ExchangeSettings {
                bucket_bytes: Some(bytes),
                ..APART
            };
            threads::run(1, |gang| train_teacher(backbone, exchange, gang))
                .remove(0)
                .1
        });
        // A gradient may lie otherwise in memory behind a cut, and be summed in another order.
        let off = distance("value/", &everywhere, &nowhere);
        assert!(off < 1e-5, "{backbone} is off by {off:.1e}");
    }
}

#[test]
fn without_synchronisation_ranks_are_one_all_the_same() {
    let students = Students::new(BackboneName::Lite0, || Mode::TRAIN, APART);
    let ranks = threads::run(4, |gang| students.train(gang));
    assert!(ranks[1..].iter().all(|rank| rank == &ranks[0]));
    let alone = threads::run(1, |gang| students.train(gang)).remove(0);
    assert!(
        ranks[0].1 != alone.1,
        "statistics of parts are those of the whole: the test of synchronisation shows nothing"
    );
}

#[test]
fn gradients_may_travel_in_bf16() {
    let students = |wire| {
        Students::new(
            BackboneName::Lite0,
            || Mode::EVALUATE,
            ExchangeSettings { wire, ..APART },
        )
    };
    let [single, half] = [Precision::Fp32, Precision::Bf16].map(|wire| {
        let students = students(wire);
        threads::run(2, |gang| students.train(gang))
    });
    assert!(half[0] == half[1], "ranks are not one");
    assert!(half[0].1 != single[0].1, "nothing was rounded");
    let (ours, expected) = (half[0].0[5].total, single[0].0[5].total);
    assert!(
        (ours - expected).abs() < 0.02 * expected,
        "{ours} is not near {expected}"
    );
}

/// Synchronised batch norms reduce during the backward pass: what stands before the last of them in the log was started
/// while that pass still ran.
#[test]
fn buckets_start_while_the_backward_pass_runs() {
    let starts_before_the_last_norm = |log: &[&str]| {
        let means = log.iter().enumerate().filter(|(_, what)| **what == "mean");
        // The last mean is that of the losses and running statistics.
        let last_norm = means.map(|(index, _)| index).rev().nth(1).unwrap();
        log[..last_norm].iter().filter(|what| **what == "start").count()
    };
    let logs = threads::run(2, |gang| {
        let mut learner =
            TeacherLearner::new(teacher(BackboneName::Resnet18), settings(SYNCHRONISED), 0.0, gang).unwrap();
        let before = gang.log().len();
        let (images, labels) = part(0, gang);
        let part = Part {
            images: &images,
            labels: &labels,
            whole: BATCH,
        };
        learner.step(part, at(0, RATE)).unwrap();
        gang.log().split_off(before)
    });
    let starts = logs[0].iter().filter(|what| **what == "start").count();
    assert!(starts > 4, "{starts} buckets");
    assert_eq!(
        starts_before_the_last_norm(&logs[0]),
        starts - 1,
        "all but the stem's bucket"
    );
    assert_eq!(logs[0], logs[1]);
}

#[test]
fn all_ranks_start_from_the_first_ones_tensors() {
    let scale = |network: &Network, role: Role, factor: f64| {
        let tensor = network.variables.iter().find(|v| v.role == role).unwrap();
        tch::no_grad(|| tensor.tensor.shallow_clone().f_mul_scalar_(factor).map(|_| ())).unwrap();
    };
    let learner = |gang: &Threads, role| {
        let setting = Setting::new(BackboneName::Lite0, 4, everything);
        scale(&setting.student, role, 1.0 + gang.rank() as f64);
        let none = |a: &Architecture| (0.0, a.layers.iter().map(|l| vec![0.0; l.blocks.len()]).collect());
        let loss = StudentLoss::new(&setting.settings, 0.0, &none);
        let pressure = Pressure {
            gamma1_ramp: 0.0,
            score_rate: 1.0,
            mode: Mode::TRAIN,
        };
        let learner = StudentLearner::new(setting.student, loss, pressure, settings(APART), gang)?;
        Ok::<_, Error>(values(&learner.state()?))
    };
    let started = threads::run(3, |gang| learner(gang, Role::Trained).unwrap());
    let alone = threads::run(1, |gang| learner(gang, Role::Trained).unwrap());
    assert!(started.iter().all(|values| values == &alone[0]));
    // Frozen tensors are every rank's own: that they differ is found out.
    for refused in threads::run(3, |gang| learner(gang, Role::Frozen).unwrap_err()) {
        assert!(
            matches!(&refused, Error::Apart { ranks } if ranks == &[1, 2]),
            "{refused}"
        );
    }
}

#[test]
fn a_state_is_all_that_the_next_steps_depend_on() {
    let trained = threads::run(2, |gang| {
        let new = || TeacherLearner::new(teacher(BackboneName::Lite0), settings(APART), 0.0, gang).unwrap();
        let step = |learner: &mut TeacherLearner<'_>, step| {
            let (images, labels) = part(step, gang);
            let part = Part {
                images: &images,
                labels: &labels,
                whole: BATCH,
            };
            learner.step(part, at(step, RATE)).unwrap()
        };
        let (mut first, mut second) = (new(), new());
        for number in 0..3 {
            step(&mut first, number);
        }
        second.restore(&first.state().unwrap(), 3).unwrap();
        let losses = [&mut first, &mut second].map(|learner| [3, 4].map(|number| step(learner, number)));
        assert_eq!(losses[0], losses[1]);
        [first, second].map(|learner| values(&learner.state().unwrap()))
    });
    assert!(trained.iter().all(|[first, second]| first == second));
}
