//! What blocks cost (METHOD section 3): one multiply-accumulate counts 1, batch norm 2 per output element.

use super::{Backbone, Block, ConvBn, NodeShape, ProxyForm, Shortcut};
use crate::units::Cost;

impl ConvBn {
    /// Cost at an output of side `output`.
    fn cost_at(&self, output: u32) -> Cost {
        let [out, groups] = [self.out_channels, self.groups].map(u64::from);
        let weights = out * (u64::from(self.in_channels) / groups) * u64::from(self.kernel).pow(2);
        let positions = u64::from(output).pow(2);
        Cost {
            flops: positions * (weights + 2 * out),
            params: weights + 2 * out,
        }
    }

    /// Cost for an input of side `side`.
    pub fn cost(&self, side: u32) -> Cost {
        self.cost_at(self.output_side(side))
    }
}

impl Block {
    /// Cost for an input of side `side`.
    pub fn cost(&self, side: u32) -> Cost {
        let mut at = side;
        let body: Cost = self
            .body
            .iter()
            .map(|unit| {
                let cost = unit.cost(at);
                at = unit.output_side(at);
                cost
            })
            .sum();
        match &self.shortcut {
            Shortcut::Projection(unit) => body + unit.cost(side),
            Shortcut::None | Shortcut::Identity | Shortcut::PoolPad => body,
        }
    }

    /// Every batch norm of the block.
    pub fn units(&self) -> impl Iterator<Item = &ConvBn> {
        let projection = match &self.shortcut {
            Shortcut::Projection(unit) => Some(unit),
            Shortcut::None | Shortcut::Identity | Shortcut::PoolPad => None,
        };
        self.body.iter().chain(projection)
    }

    /// Running statistics of the block's batch norms, in numbers (mean and variance per channel).
    pub fn statistics(&self) -> u64 {
        self.units().map(|unit| 2 * u64::from(unit.out_channels)).sum()
    }
}

/// A proxy A(s->l): its ends and its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyShape {
    /// Shape of node s.
    pub source: NodeShape,
    /// Shape of node l.
    pub target: NodeShape,
    /// Form of the layer.
    pub form: ProxyForm,
}

impl ProxyShape {
    /// Width of the middle of a bottleneck proxy.
    pub fn bottleneck_width(&self) -> u32 {
        (self.target.channels / 32).max(16)
    }

    /// Cost of the layer; pooling is not counted.
    pub fn cost(&self) -> Cost {
        let [source, target, middle] = [
            self.source.channels,
            self.target.channels,
            self.bottleneck_width(),
        ]
        .map(u64::from);
        let params = match self.form {
            ProxyForm::Conv => source * target + 2 * target,
            ProxyForm::Bottleneck => source * middle + 2 * middle + middle * target + 2 * target,
        };
        Cost {
            flops: self.target.positions() * params,
            params,
        }
    }

    /// Running statistics of its batch norms, in numbers.
    pub fn statistics(&self) -> u64 {
        let middle = match self.form {
            ProxyForm::Conv => 0,
            ProxyForm::Bottleneck => self.bottleneck_width(),
        };
        2 * u64::from(self.target.channels + middle)
    }
}

impl Backbone {
    /// The part that is always there and always shared: the stem, and lite0's head convolution.
    pub fn fixed_cost(&self, input: u32) -> Cost {
        let last = self.node_shapes(input)[self.layers()];
        let head = self
            .head
            .as_ref()
            .map_or(Cost::default(), |unit| unit.cost(last.side));
        self.stem.cost(input) + head
    }

    /// Running statistics of the fixed part, in numbers.
    pub fn fixed_statistics(&self) -> u64 {
        [Some(&self.stem), self.head.as_ref()]
            .into_iter()
            .flatten()
            .map(|u| 2 * u64::from(u.out_channels))
            .sum()
    }

    /// Costs of the universal blocks, layer 1 first.
    pub fn main_costs(&self, input: u32) -> Vec<Cost> {
        self.blocks
            .iter()
            .zip(self.node_shapes(input))
            .map(|(block, node)| block.cost(node.side))
            .collect()
    }

    /// Cost of the whole backbone without a classifier: the normaliser of the expected complexity.
    pub fn cost(&self, input: u32) -> Cost {
        self.fixed_cost(input) + self.main_costs(input).into_iter().sum()
    }

    /// What a task's classifier (and wrn26's end batch norm) costs.
    pub fn classifier_cost(&self, classes: u32, input: u32) -> Cost {
        let [features, classes] = [self.features(), classes].map(u64::from);
        let linear = features * classes + classes;
        let positions = self.node_shapes(input)[self.layers()].positions();
        let end_bn = if self.end_bn {
            Cost {
                flops: 2 * features * positions,
                params: 2 * features,
            }
        } else {
            Cost::default()
        };
        Cost {
            flops: linear,
            params: linear,
        } + end_bn
    }

    /// The proxy from node `source` to node `target`.
    pub fn proxy(&self, source: usize, target: usize, input: u32) -> ProxyShape {
        let shapes = self.node_shapes(input);
        ProxyShape {
            source: shapes[source],
            target: shapes[target],
            form: self.proxy_form,
        }
    }
}
