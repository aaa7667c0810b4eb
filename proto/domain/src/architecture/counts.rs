//! What an architecture costs to run and to store (METHOD section 3).

use serde::{Deserialize, Serialize};

use super::Architecture;
use crate::task::BnMode;
use crate::units::Cost;

/// The three figures that are always reported together, and the backbone they stand beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Numbers stored for this task alone: kept proxies, scores of kept blocks, classifier (and end batch norm), and of the
    /// kept universal blocks and the fixed part what the task's [`BnMode`] makes its own.
    pub task_params: u64,
    /// Parameters that a forward pass touches: stem, head convolution, kept main blocks, and the task's own.
    pub active_params: u64,
    /// Multiply-accumulates of a forward pass of one image.
    pub active_flops: u64,
    /// The whole backbone without a classifier.
    pub backbone: Cost,
}

impl Architecture {
    /// Counts for `classes` classes and a square input of side `input` where statistics are the task's own, as they are by
    /// default. Removed blocks count nothing.
    pub fn counts(&self, classes: u32, input: u32) -> Counts {
        self.counts_under(BnMode::Task, classes, input)
    }

    /// The same under any [`BnMode`].
    pub fn counts_under(&self, bn_mode: BnMode, classes: u32, input: u32) -> Counts {
        // Mean and variance; under `affine` the blocks' weight and bias as well, which are as many numbers.
        let (of_fixed, of_block) = match bn_mode {
            BnMode::Task => (1, 1),
            BnMode::Frozen => (0, 0),
            BnMode::Affine => (1, 2),
        };
        let backbone = self.backbone.describe();
        let mains = backbone.main_costs(input);
        let mut shared = backbone.fixed_cost(input);
        let mut task = backbone.classifier_cost(classes, input);
        let mut statistics = of_fixed * backbone.fixed_statistics();
        if backbone.end_bn {
            statistics += 2 * u64::from(backbone.features());
        }
        let (mut scores, mut affine) = (0, 0);
        for (index, layer) in self.layers.iter().enumerate() {
            for (position, block) in layer.blocks.iter().enumerate().filter(|(_, b)| b.kept()) {
                if position == 0 {
                    shared = shared + mains[index];
                    affine += backbone.blocks[index].statistics();
                    statistics += of_block * backbone.blocks[index].statistics();
                } else {
                    let proxy = backbone.proxy(block.source, index + 1, input);
                    task = task + proxy.cost();
                    statistics += proxy.statistics();
                }
                scores += 1;
            }
        }
        // A layer with one block has attention 1 whatever its score; the backbone alone stores none.
        let scores = if self.max_skip == 0 { 0 } else { scores };
        let task_params = task.params + statistics + scores;
        // Affine parameters stand in for the backbone's own.
        let replaced = if bn_mode == BnMode::Affine { affine } else { 0 };
        Counts {
            task_params,
            active_params: shared.params + task_params - replaced,
            active_flops: shared.flops + task.flops,
            backbone: backbone.cost(input),
        }
    }
}
