//! Running statistics that are estimated before a candidate trains.

use std::collections::HashMap;

use nettailor_domain::architecture::Architecture;
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::stage::{StageOutcome, StageWork, Tailored};
use nettailor_domain::task::{BnMode, CandidateSettings, Search, StudentSettings, TrainingSettings};
use nettailor_domain::trainer::ParentInput;
use nettailor_trainer::data::Dataset;
use nettailor_trainer::device::{Images, Layout};
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Mode, Network, Origin, Role};
use nettailor_trainer::weights::Weights;
use tch::{Device, Kind, Tensor};

use crate::{Bench, CLASSES, SIDE, student, training};

/// More batches than an epoch has (36 images), so that the second epoch's order counts too.
const BATCHES: u32 = 7;
const BATCH: u32 = 8;

/// A teacher and a student, both barely trained.
fn parents(bench: &Bench) -> Vec<ParentInput> {
    let work = StageWork::Teacher {
        training: training(1, 0.001),
    };
    let (_, teacher) = bench.finish(&bench.assignment("teacher", work, vec![]));
    let work = StageWork::Student {
        max_skip: 2,
        student: StudentSettings {
            training: training(1, 0.01),
            ..student()
        },
    };
    let (_, trained) = bench.finish(&bench.assignment("student", work, vec![teacher.clone()]));
    vec![teacher, trained]
}

/// The tensors of a candidate that was pruned and had its statistics estimated, and did not train at all.
fn estimated(bench: &Bench, parents: &[ParentInput], bn_mode: BnMode) -> (Architecture, Weights) {
    let settings = CandidateSettings {
        k: None,
        search: Search::Exhaustive,
        proxy_threshold: 0.001,
        bn_batches: BATCHES,
        training: TrainingSettings {
            batch_size: BATCH,
            ..training(0, 0.01)
        },
    };
    let student = StudentSettings { bn_mode, ..student() };
    let work = StageWork::Candidate {
        k: 2,
        settings,
        student,
    };
    let (finished, candidate) =
        bench.finish(&bench.assignment(&format!("{bn_mode:?}"), work, parents.to_vec()));
    let StageOutcome::Candidate(Tailored { architecture, .. }) = finished.outcome else {
        panic!("{:?}", finished.outcome)
    };
    (architecture, Weights::read(&candidate.weights).unwrap())
}

fn network(bench: &Bench, architecture: &Architecture, own: &ParentInput) -> Network {
    let weights = Weights::read(&bench.backbone)
        .unwrap()
        .overlaid(Weights::read(&own.weights).unwrap());
    let recipe = Recipe {
        universal: Role::Frozen,
        bn_mode: BnMode::Task,
        origin: Origin::Stored,
        classes: CLASSES.len() as u32,
        input: SIDE,
        layout: Layout::on(Device::Cpu),
    };
    Network::new(architecture.clone(), &weights, recipe).unwrap()
}

/// The first batches of the training split, over as many epochs as it takes.
fn batches(bench: &Bench) -> Vec<Tensor> {
    let work = StageWork::Teacher {
        training: training(1, 0.01),
    };
    let assignment = bench.assignment("look", work, vec![]);
    let spec = &assignment.spec;
    let (reading, cache) = (&spec.reading, &assignment.cache_dir);
    let dataset = Dataset::open(
        &assignment.data,
        spec.data,
        reading,
        &spec.classes,
        spec.seed,
        cache,
        &mut |_| (),
    )
    .unwrap();
    let normalisation = BackboneName::Resnet18.describe().normalisation;
    let all = (0..).flat_map(|epoch| dataset.train_batches(epoch, BATCH as usize));
    all.take(BATCHES as usize)
        .map(|batch| {
            let batch = batch.unwrap();
            // A memory of their own each: a second batch is written over the first.
            let images = Images::new(Layout::on(Device::Cpu), &normalisation).unwrap();
            images.batch(&batch.pixels, batch.size).unwrap()
        })
        .collect()
}

fn statistics(network: &Network) -> HashMap<String, Tensor> {
    let all = network
        .variables
        .iter()
        .filter(|variable| variable.role == Role::Statistic);
    all.map(|variable| (variable.name.clone(), variable.tensor.to_kind(Kind::Double)))
        .collect()
}

fn near(name: &str, ours: &Tensor, expected: &Tensor) {
    let off = f64::try_from((ours - expected).abs().max()).unwrap();
    let scale = f64::try_from(expected.abs().max()).unwrap();
    assert!(
        off <= 1e-5 * scale.max(1e-3),
        "{name}: off by {off:.2e} of {scale:.2e}"
    );
}

#[test]
fn they_are_the_mean_of_the_batches_statistics() {
    let bench = Bench::new();
    let parents = parents(&bench);
    let (architecture, found) = estimated(&bench, &parents, BnMode::Task);
    let batches = batches(&bench);

    // Each batch's own statistics, from a network that has seen no other; then their mean.
    let mut sums: HashMap<String, Tensor> = HashMap::new();
    for images in &batches {
        let network = network(&bench, &architecture, &parents[1]);
        tch::no_grad(|| network.forward(images, Mode::batch(1.0))).unwrap();
        for (name, tensor) in statistics(&network) {
            let sum = sums.remove(&name).unwrap_or_else(|| tensor.zeros_like());
            sums.insert(name, sum + tensor);
        }
    }
    assert!(sums.len() > 40, "{} statistics", sums.len());
    for (name, sum) in &sums {
        near(
            name,
            &found.get(name).unwrap().to_kind(Kind::Double),
            &(sum / f64::from(BATCHES)),
        );
    }

    // The stem's once more, without any batch norm: over images and places, the variance unbiased.
    let backbone = Weights::read(&bench.backbone).unwrap();
    let weight = backbone.get("conv1.weight").unwrap();
    let outputs = batches.iter().map(|images| {
        let y = images.conv2d(weight, None::<&Tensor>, [2, 2], [3, 3], [1, 1], 1);
        y.to_kind(Kind::Double).permute([1, 0, 2, 3]).reshape([64, -1])
    });
    let moments = outputs.map(|y| {
        [
            y.mean_dim([1i64].as_slice(), false, Kind::Double),
            y.var_dim([1i64].as_slice(), true, false),
        ]
    });
    let [mut mean, mut variance] = [0, 1].map(|_| Tensor::zeros([64], (Kind::Double, Device::Cpu)));
    for [m, v] in moments {
        mean += m / f64::from(BATCHES);
        variance += v / f64::from(BATCHES);
    }
    near(
        "the stem's mean",
        &found.get("bn1.running_mean").unwrap().to_kind(Kind::Double),
        &mean,
    );
    near(
        "the stem's variance",
        &found.get("bn1.running_var").unwrap().to_kind(Kind::Double),
        &variance,
    );
}

#[test]
fn frozen_blocks_use_the_backbones_and_store_none() {
    let bench = Bench::new();
    let parents = parents(&bench);
    let (architecture, found) = estimated(&bench, &parents, BnMode::Frozen);
    let before = statistics(&network(&bench, &architecture, &parents[1]));
    let (mut shared, mut moved) = (0, 0);
    for (name, before) in &before {
        match found.get(name) {
            Some(found) => {
                assert!(name.starts_with("proxies."), "{name} is stored");
                assert!(found.to_kind(Kind::Double) != *before, "{name} did not move");
                moved += 1;
            }
            None => shared += 1,
        }
    }
    assert!(shared > 20 && moved > 10, "{shared} shared, {moved} moved");
}
