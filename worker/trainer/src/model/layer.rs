//! A layer: the blocks that merge into one node.

use std::ops::Range;

use nettailor_domain::architecture::Layer as LayerPlan;
use nettailor_domain::backbone::{Activation, Backbone, ProxyShape};
use tch::Tensor;

use super::Error;
use super::block::{Block, Proxy};
use super::unit::{Mode, activate, activated};
use super::variables::Builder;

/// A proxy with its place.
#[derive(Debug)]
pub struct Skip {
    /// Node it reads.
    pub source: usize,
    /// Position among the layer's blocks: the index of its score and attention.
    pub position: usize,
    /// The layer itself.
    pub proxy: Proxy,
}

/// Layer l: at most one universal block and any number of proxies. Removed blocks are not there.
#[derive(Debug)]
pub struct Layer {
    /// l, from 1.
    pub number: usize,
    /// G_l, which reads node l-1.
    pub main: Option<Block>,
    /// The kept proxies.
    pub skips: Vec<Skip>,
    /// Indices of the main block's tensors.
    pub universal: Range<usize>,
    /// Indices of the proxies' tensors.
    pub own: Range<usize>,
    activation: Activation,
}

impl Layer {
    /// Layer `number` (from 1) with the kept blocks of `plan`, for a square input of side `input`.
    pub fn new(
        builder: &mut Builder<'_>,
        backbone: &Backbone,
        plan: &LayerPlan,
        number: usize,
        input: u32,
    ) -> Result<Self, Error> {
        let skips = plan.blocks[1..]
            .iter()
            .map(|block| (block, backbone.proxy(block.source, number, input)));
        let shapes: Vec<(usize, usize, ProxyShape)> = skips
            .enumerate()
            .filter(|(_, (block, _))| block.kept())
            .map(|(index, (block, shape))| (index + 1, block.source, shape))
            .collect();
        let first = builder.position();
        let spec = &backbone.blocks[number - 1];
        let side = backbone.node_shapes(input)[number - 1].side;
        let main = (plan.blocks[0].kept())
            .then(|| builder.block(|builder| Block::new(builder, spec, backbone.bn_eps, side)))
            .transpose()?;
        let start = builder.position();
        let skips = shapes
            .into_iter()
            .map(|(position, source, shape)| {
                let proxy = Proxy::new(builder, &shape, (source, number), backbone.bn_eps)?;
                Ok(Skip {
                    source,
                    position,
                    proxy,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            number,
            main,
            skips,
            universal: first..start,
            own: start..builder.position(),
            activation: backbone.node_activation,
        })
    }

    /// Whether any block is left.
    pub fn live(&self) -> bool {
        self.main.is_some() || !self.skips.is_empty()
    }

    /// Folds batch norms into convolutions, and the attention of the layer's blocks with them: [`Layer::combine`] wants none
    /// from now on.
    pub fn fold(&mut self, attention: &[f64]) -> Result<(), Error> {
        if let Some(main) = &mut self.main {
            main.fold(attention[0])?;
        }
        self.skips
            .iter_mut()
            .try_for_each(|skip| skip.proxy.fold(attention[skip.position]))
    }

    /// Merges the main block's output and the pooled sources of the proxies: act(sum of attention * block). Sources that
    /// are not there pass nothing on; `None` if none is. `attention` has one element per block of the layer's plan, or is
    /// `None` where the only block has attention 1 and where it is folded in. A main output without a gradient may be
    /// written over.
    pub fn combine(
        &self,
        main: Option<&Tensor>,
        pooled: &[Option<Tensor>],
        attention: Option<&Tensor>,
        mode: Mode<'_>,
    ) -> Result<Option<Tensor>, Error> {
        let mut sum: Option<Tensor> = match (main, attention) {
            (Some(main), Some(attention)) => Some(main.f_mul(&attention.f_select(0, 0)?)?),
            // The only block, and its output is needed to walk back.
            (Some(main), None) if main.requires_grad() => {
                return Ok(Some(activated(main, self.activation)?));
            }
            (Some(main), None) => Some(main.shallow_clone()),
            (None, _) => None,
        };
        for (skip, pooled) in self.skips.iter().zip(pooled) {
            let Some(pooled) = pooled else { continue };
            let weight = attention
                .map(|a| a.f_select(0, skip.position as i64))
                .transpose()?;
            let part = skip.proxy.forward(pooled, mode, weight.as_ref())?;
            sum = Some(match sum {
                Some(mut sum) => sum.f_add_(&part)?,
                None => part,
            });
        }
        sum.map(|sum| activate(sum, self.activation)).transpose()
    }
}
