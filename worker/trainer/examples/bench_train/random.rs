//! Weights and images without meaning, of the shapes that real ones have.

use std::collections::HashMap;

use nettailor_domain::backbone::Backbone;
use nettailor_domain::task::BnMode;
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Init, Origin, Role};
use nettailor_trainer::weights::Weights;
use tch::{Kind, Tensor};

use crate::CLASSES;

/// How a network over a universal backbone of this role is built.
pub(crate) fn recipe(layout: Layout, input: u32, universal: Role) -> Recipe {
    Recipe {
        universal,
        bn_mode: BnMode::Task,
        origin: Origin::Fresh { seed: 0 },
        classes: CLASSES,
        input,
        layout,
    }
}

/// A batch `[n, 3, side, side]` of noise with labels.
pub(crate) fn inputs(layout: Layout, side: u32, batch: u32) -> anyhow::Result<(Tensor, Tensor)> {
    let size = [i64::from(batch), 3, i64::from(side), i64::from(side)];
    let images =
        layout.ordered(&Tensor::randn(size, (Kind::Float, layout.device)).f_to_kind(layout.kind())?)?;
    let labels = Tensor::randint(i64::from(CLASSES), [size[0]], (Kind::Int64, layout.device));
    Ok((images, labels))
}

/// The backbone's tensors: convolutions that keep the scale of their input, neutral batch norms.
pub(crate) fn weights(backbone: &Backbone, seed: u64) -> anyhow::Result<Weights> {
    let mut tensors = HashMap::new();
    for spec in backbone.tensors() {
        let shape: Vec<i64> = spec.shape.iter().map(|n| *n as i64).collect();
        let count: usize = spec.shape.iter().product();
        let init = match spec.name.rsplit('.').next() {
            Some("weight") if shape.len() == 4 => {
                Init::Normal((count as f32 / shape[0] as f32).recip().sqrt())
            }
            Some("weight" | "running_var") => Init::Constant(1.0),
            _ => Init::Constant(0.0),
        };
        let values = Tensor::f_from_slice(&init.values(seed, &spec.name, count))?.f_view(&shape[..])?;
        tensors.insert(spec.name, values);
    }
    Ok(Weights::from_tensors(tensors, "random weights"))
}
