//! Sizes, from the convolution formula, for any square input.

use super::{Backbone, Block, ConvBn, Padding};

/// Channels and side of a node's feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeShape {
    /// Channels.
    pub channels: u32,
    /// Height and width.
    pub side: u32,
}

impl NodeShape {
    /// Positions of the feature map.
    pub fn positions(&self) -> u64 {
        u64::from(self.side) * u64::from(self.side)
    }
}

impl ConvBn {
    /// Side of the output for an input of side `side`.
    pub fn output_side(&self, side: u32) -> u32 {
        match self.padding {
            Padding::Symmetric(padding) => (side + 2 * padding).saturating_sub(self.kernel) / self.stride + 1,
            Padding::Same => side.div_ceil(self.stride),
        }
    }
}

impl Block {
    /// Side of the output for an input of side `side`.
    pub fn output_side(&self, side: u32) -> u32 {
        self.body.iter().fold(side, |side, unit| unit.output_side(side))
    }
}

impl Backbone {
    /// Shapes of the nodes 0..=L for a square input of side `input`.
    pub fn node_shapes(&self, input: u32) -> Vec<NodeShape> {
        let conv = self.stem.output_side(input);
        let mut side = if self.stem_pool {
            (conv + 2 - 3) / 2 + 1
        } else {
            conv
        };
        let mut shapes = vec![NodeShape {
            channels: self.stem.out_channels,
            side,
        }];
        for block in &self.blocks {
            side = block.output_side(side);
            shapes.push(NodeShape {
                channels: block.out_channels,
                side,
            });
        }
        shapes
    }
}
