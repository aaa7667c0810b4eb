//! The tensors that a weights file of a backbone must hold.

use super::{Backbone, ConvBn};

/// Name and shape of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Publisher's name.
    pub name: String,
    /// Shape, outermost dimension first.
    pub shape: Vec<usize>,
}

impl ConvBn {
    /// The five tensors of the unit: convolution weight, then batch-norm weight, bias, running mean and variance.
    pub fn tensors(&self) -> [TensorSpec; 5] {
        let [out, per_group, k] =
            [self.out_channels, self.in_channels / self.groups, self.kernel].map(|n| n as usize);
        let bn = |part: &str| TensorSpec {
            name: format!("{}.{part}", self.bn),
            shape: vec![out],
        };
        let weight = TensorSpec {
            name: format!("{}.weight", self.conv),
            shape: vec![out, per_group, k, k],
        };
        [
            weight,
            bn("weight"),
            bn("bias"),
            bn("running_mean"),
            bn("running_var"),
        ]
    }
}

impl Backbone {
    /// Every convolution unit: stem, blocks, head.
    pub fn units(&self) -> impl Iterator<Item = &ConvBn> {
        std::iter::once(&self.stem)
            .chain(self.blocks.iter().flat_map(|block| block.units()))
            .chain(&self.head)
    }

    /// All tensors of the backbone without its classifier.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        self.units().flat_map(|unit| unit.tensors()).collect()
    }
}
