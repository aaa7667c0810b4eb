//! Small networks with known weights.

use std::collections::HashMap;

use nettailor_domain::backbone::{Backbone, BackboneName};
use nettailor_trainer::model::Init;
use nettailor_trainer::weights::Weights;
use tch::Tensor;

/// The first blocks of a real backbone.
pub(crate) fn backbone(name: BackboneName, blocks: usize) -> Backbone {
    let mut backbone = name.describe();
    if blocks < backbone.layers() {
        backbone.blocks.truncate(blocks);
        backbone.head = None;
    }
    backbone
}

/// Random weights that keep the scale of what passes, with batch norms that do something.
pub(crate) fn weights(backbone: &Backbone, seed: u64) -> Weights {
    let tensors = backbone.tensors().into_iter().map(|spec| {
        let shape: Vec<i64> = spec.shape.iter().map(|n| *n as i64).collect();
        let fan_in: usize = spec.shape[1..].iter().product();
        let count = spec.shape.iter().product();
        let normal = |deviation| Tensor::from_slice(&Init::Normal(deviation).values(seed, &spec.name, count));
        let values = match spec.name.rsplit('.').next().unwrap() {
            "weight" if shape.len() == 4 => normal((2.0 / fan_in as f32).sqrt()),
            "weight" | "running_var" => normal(0.1) + 1.0,
            _ => normal(0.1),
        };
        (spec.name, values.view(&shape[..]))
    });
    Weights::from_tensors(tensors.collect::<HashMap<_, _>>(), "test")
}
