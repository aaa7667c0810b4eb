//! A whole network: stem, layers, head, classifier.

use std::collections::HashMap;
use std::ops::Range;

use nettailor_domain::architecture::Architecture;
use nettailor_domain::backbone::Backbone;
use nettailor_domain::task::BnMode;
use tch::{Kind, Tensor};

use super::block::pool;
use super::layer::Layer;
use super::unit::{Mode, Norm, Unit};
use super::variables::{Builder, Role, Variables};
use super::{Error, Init, Origin};
use crate::device::Layout;
use crate::weights::Weights;

/// Standard deviation of a new classifier's weights; its bias starts at 0.
const CLASSIFIER_DEVIATION: f32 = 0.01;

/// What trains in a network, and from where its tensors come.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// [`Role::Frozen`] for a student, [`Role::Trained`] for a teacher.
    pub universal: Role,
    /// What a task keeps of the frozen blocks' batch norms.
    pub bn_mode: BnMode,
    /// Where missing tensors come from.
    pub origin: Origin,
    /// Classes to tell apart.
    pub classes: u32,
    /// Side of the square input.
    pub input: u32,
    /// Where tensors live.
    pub layout: Layout,
}

/// A network with its tensors. It belongs to one thread.
#[derive(Debug)]
pub struct Network {
    /// What the modules were built from.
    pub backbone: Backbone,
    /// Kept blocks and scores.
    pub architecture: Architecture,
    /// Layers 1..=L.
    pub layers: Vec<Layer>,
    /// Every tensor.
    pub variables: Variables,
    /// Indices of the end batch norm's and classifier's tensors.
    pub end: Range<usize>,
    /// Where tensors live.
    pub layout: Layout,
    /// Whether the blocks' convolutions do the attention's work.
    deployed: bool,
    stem: Unit,
    head: Option<Unit>,
    end_norm: Option<Norm>,
    classifier: (Tensor, Tensor),
}

/// What a forward pass gives.
#[derive(Debug)]
pub struct Forward {
    /// Nodes 0..=L, `[n, channels, side, side]`; `None` where dead.
    pub nodes: Vec<Option<Tensor>>,
    /// `[n, classes]`.
    pub logits: Tensor,
}

impl Network {
    /// Builds the network of `architecture` with tensors from `weights`.
    pub fn new(architecture: Architecture, weights: &Weights, recipe: Recipe) -> Result<Self, Error> {
        Self::with_backbone(architecture.backbone.describe(), architecture, weights, recipe)
    }

    /// The same over a backbone that is not in the catalogue (small ones, in tests).
    pub fn with_backbone(
        backbone: Backbone,
        architecture: Architecture,
        weights: &Weights,
        recipe: Recipe,
    ) -> Result<Self, Error> {
        let mut owner = Builder::new(weights, &recipe);
        let builder = &mut owner;
        let epsilon = backbone.bn_eps;
        let stem = Unit::new(builder, &backbone.stem, epsilon, recipe.input)?;
        let layers = (architecture.layers.iter().zip(1..))
            .map(|(plan, number)| Layer::new(builder, &backbone, plan, number, recipe.input))
            .collect::<Result<Vec<_>, _>>()?;
        let shapes = backbone.node_shapes(recipe.input);
        let last = shapes[backbone.layers()];
        let head = backbone
            .head
            .as_ref()
            .map(|unit| Unit::new(builder, unit, epsilon, last.side))
            .transpose()?;
        let start = builder.position();
        let end_norm = if backbone.end_bn {
            Some(Norm::task(builder, "end_bn", backbone.features(), epsilon)?)
        } else {
            None
        };
        let shape = [recipe.classes, backbone.features()];
        let init = Init::Normal(CLASSIFIER_DEVIATION);
        let classifier = (
            builder.task("classifier.weight".to_owned(), &shape, Role::Trained, init)?,
            builder.task(
                "classifier.bias".to_owned(),
                &shape[..1],
                Role::Trained,
                Init::Constant(0.0),
            )?,
        );
        let end = start..builder.position();
        let variables = owner.finish()?;
        let layout = recipe.layout;
        let mut network = Self {
            backbone,
            architecture,
            layers,
            variables,
            end,
            layout,
            deployed: false,
            stem,
            head,
            end_norm,
            classifier,
        };
        // Nothing of them will ever change: half of a student's batch norms less, in training too.
        if recipe.universal == Role::Frozen && recipe.bn_mode == BnMode::Frozen {
            network.fold_universal()?;
        }
        Ok(network)
    }

    /// Folds the batch norms of everything universal into its convolutions.
    fn fold_universal(&mut self) -> Result<(), Error> {
        self.stem.fold(1.0)?;
        let mut mains = self.layers.iter_mut().filter_map(|layer| layer.main.as_mut());
        mains.try_for_each(|main| main.fold(1.0))?;
        self.head.iter_mut().try_for_each(|head| head.fold(1.0))
    }

    /// The form in which a finished network computes under [`Mode::EVALUATE`]: batch norms and attention folded into the
    /// convolutions, removed blocks absent. Outputs are equal to rounding. It must not be trained any more.
    pub fn deployed(mut self) -> Result<Self, Error> {
        self.fold_universal()?;
        for (layer, attention) in self.layers.iter_mut().zip(self.architecture.attention()) {
            layer.fold(&attention)?;
        }
        self.deployed = true;
        Ok(self)
    }

    /// Attention of every layer as tensors, one element per block, with a gradient if asked for. `None` for a layer whose
    /// only block has attention 1 whatever its score, and of a deployed network.
    pub fn attention(&self, gradient: bool) -> Result<Vec<Option<Tensor>>, Error> {
        let tensor = |layer: &nettailor_domain::architecture::Layer| {
            if self.deployed || layer.blocks.iter().filter(|block| block.kept()).count() < 2 {
                return Ok(None);
            }
            let values: Vec<f32> = layer.attention().into_iter().map(|a| a as f32).collect();
            let tensor = Tensor::f_from_slice(&values)?.f_to_device(self.layout.device)?;
            Ok(Some(tensor.f_set_requires_grad(gradient)?))
        };
        self.architecture.layers.iter().map(tensor).collect()
    }

    /// Scores of the kept blocks as tensors `scores.<l>`, one for every layer that keeps more than nothing; none for a
    /// network without proxies.
    pub fn scores(&self) -> Result<Vec<(String, Tensor)>, Error> {
        if self.architecture.max_skip == 0 {
            return Ok(Vec::new());
        }
        let kept = self.architecture.layers.iter().zip(1..).map(|(layer, number)| {
            let scores = layer
                .blocks
                .iter()
                .filter(|block| block.kept())
                .map(|block| block.score);
            (format!("scores.{number}"), scores.collect::<Vec<f32>>())
        });
        kept.filter(|(_, scores)| !scores.is_empty())
            .map(|(name, scores)| Ok((name, Tensor::f_from_slice(&scores)?)))
            .collect()
    }

    /// Indices of the variables of each stretch of the network, in the order of the forward pass: the stem, layers 1..=L,
    /// and what comes after the last node.
    pub fn stretches(&self) -> Vec<Range<usize>> {
        let firsts = self.layers.iter().map(|layer| layer.universal.start);
        let last = self.layers.last().map_or(0, |layer| layer.own.end);
        let bounds: Vec<usize> = [0]
            .into_iter()
            .chain(firsts)
            .chain([last, self.variables.len()])
            .collect();
        bounds.windows(2).map(|pair| pair[0]..pair[1]).collect()
    }

    /// Images `[n, 3, input, input]` to node 0.
    pub fn stem(&self, images: &Tensor, mode: Mode<'_>) -> Result<Tensor, Error> {
        let x = self.stem.forward(images, mode.universal)?;
        Ok(if self.backbone.stem_pool {
            x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?
        } else {
            x
        })
    }

    /// The last node to logits.
    pub fn head(&self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor, Error> {
        let x = match &self.head {
            Some(unit) => unit.forward(x, mode.universal)?,
            None => x.shallow_clone(),
        };
        let x = match &self.end_norm {
            Some(norm) => norm.forward(&x, mode.task, None)?,
            None => x,
        };
        let (weight, bias) = &self.classifier;
        Ok(x.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?
            .f_linear(weight, Some(bias))?)
    }

    /// The whole network on one autograd graph (or none, under `no_grad`): teachers, and every evaluation.
    pub fn forward(&self, images: &Tensor, mode: Mode<'_>) -> Result<Forward, Error> {
        self.forward_with(images, mode, &self.attention(false)?)
    }

    /// The same under given attention tensors.
    pub fn forward_with(
        &self,
        images: &Tensor,
        mode: Mode<'_>,
        attention: &[Option<Tensor>],
    ) -> Result<Forward, Error> {
        let mut nodes = vec![Some(self.stem(images, mode)?)];
        // A source pooled by several layers is pooled once.
        let mut pools: HashMap<(usize, i64), Tensor> = HashMap::new();
        for (layer, attention) in self.layers.iter().zip(attention) {
            let mut pooled = Vec::with_capacity(layer.skips.len());
            for skip in &layer.skips {
                let key = (skip.source, skip.proxy.side);
                if let (Some(x), false) = (&nodes[skip.source], pools.contains_key(&key)) {
                    pools.insert(key, pool(x, skip.proxy.side)?);
                }
                pooled.push(pools.get(&key).map(Tensor::shallow_clone));
            }
            let main = match (&layer.main, &nodes[layer.number - 1]) {
                (Some(block), Some(x)) => Some(block.forward(x, mode)?),
                _ => None,
            };
            nodes.push(layer.combine(main.as_ref(), &pooled, attention.as_ref(), mode)?);
        }
        let last = nodes.last().and_then(Option::as_ref).ok_or(Error::Disconnected)?;
        let logits = self.head(last, mode)?;
        Ok(Forward { nodes, logits })
    }
}
