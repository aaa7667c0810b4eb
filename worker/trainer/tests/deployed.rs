//! The deployed form computes what the trained network computes, and its passes can be timed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is the test's report"
)]

mod common;

use nettailor_domain::architecture::{Architecture, Fate};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::BnMode;
use nettailor_domain::task::Precision;
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Init, Mode, Network, Origin, Role, latency};
use tch::{Device, Tensor};

const SIDE: u32 = 32;

/// A network with one block of every kind removed somewhere, and attention far from 1 and 0.
fn network(name: BackboneName, precision: Precision) -> Network {
    tch::set_num_threads(1);
    let backbone = common::backbone(name, 6);
    let mut architecture = Architecture::new(&backbone, 3);
    for (number, layer) in architecture.layers.iter_mut().enumerate() {
        for (position, block) in layer.blocks.iter_mut().enumerate() {
            block.score = 0.3 * number as f32 - 0.4 * position as f32;
        }
    }
    // A main block alone, proxies alone, one proxy alone, a main block with two proxies.
    for (layer, removed) in [(0, &[1][..]), (1, &[0]), (2, &[0, 1, 3]), (4, &[2])] {
        for block in removed {
            architecture.layers[layer].blocks[*block].fate = Fate::RemovedByRank;
        }
    }
    let recipe = Recipe {
        universal: Role::Frozen,
        bn_mode: BnMode::Task,
        origin: Origin::Fresh { seed: 3 },
        classes: 5,
        input: SIDE,
        layout: Layout::on(Device::Cpu).with(precision),
    };
    let weights = common::weights(&backbone, 1);
    let network = Network::with_backbone(backbone, architecture, &weights, recipe).unwrap();
    // Fresh proxies are small and their batch norms neutral: give them a share of the nodes, and something to fold.
    for variable in network
        .variables
        .iter()
        .filter(|v| v.name.starts_with("proxies."))
    {
        let count = variable.tensor.numel();
        let noise = Tensor::from_slice(&Init::Normal(0.1).values(9, &variable.name, count));
        let noise = noise.view(&variable.tensor.size()[..]);
        let _moved = tch::no_grad(|| variable.tensor.shallow_clone().f_add_(&noise)).unwrap();
    }
    network
}

fn images(network: &Network) -> Tensor {
    let side = i64::from(SIDE);
    let values = Init::Normal(1.0).values(4, "images", (4 * 3 * SIDE * SIDE) as usize);
    let images = Tensor::from_slice(&values).view([4, 3, side, side]);
    network
        .layout
        .ordered(&images.to_kind(network.layout.kind()))
        .unwrap()
}

#[test]
fn deployed_networks_compute_the_same() {
    let names = [
        BackboneName::Lite0,
        BackboneName::Resnet18,
        BackboneName::Resnet50,
        BackboneName::Wrn26,
    ];
    for (name, precision, allowed) in names
        .map(|name| (name, Precision::Fp32, 1e-4))
        .into_iter()
        .chain([(BackboneName::Resnet18, Precision::Bf16, 0.1)])
    {
        let trained = network(name, precision);
        let deployed = network(name, precision).deployed().unwrap();
        let images = images(&trained);
        let [expected, ours] = [&trained, &deployed]
            .map(|network| tch::no_grad(|| network.forward(&images, Mode::EVALUATE)).unwrap());
        for (node, (expected, ours)) in expected.nodes.iter().zip(&ours.nodes).enumerate() {
            let (expected, ours) = (expected.as_ref().unwrap(), ours.as_ref().unwrap());
            let scale = f64::try_from(expected.abs().max()).unwrap();
            let off = f64::try_from((ours - expected).abs().max()).unwrap();
            assert!(
                scale > 0.1,
                "{name}, node {node} is nearly zero: the test shows nothing"
            );
            assert!(
                off <= allowed * scale,
                "{name}, node {node}: off by {off:.1e} of {scale:.1e}"
            );
        }
        assert!(
            deployed.attention(false).unwrap().iter().all(Option::is_none),
            "attention left outside"
        );
    }
}

#[test]
fn every_kept_block_is_timed_and_no_other() {
    let network = network(BackboneName::Lite0, Precision::Fp32).deployed().unwrap();
    let times = latency::blocks(&network, SIDE, 2).unwrap();
    assert_eq!(times.len(), network.architecture.layers.len());
    for (times, layer) in times.iter().zip(&network.architecture.layers) {
        assert_eq!(times.len(), layer.blocks.len());
        for (time, block) in times.iter().zip(&layer.blocks) {
            assert_eq!(*time > 0.0, block.kept(), "{block:?} took {time} ms");
        }
    }
    assert!(!latency::network(&network, SIDE, 1).unwrap().is_zero());
}
