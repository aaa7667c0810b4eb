//! Counts once more, by walking over every kept block convolution by convolution.

use nettailor_domain::architecture::Architecture;
use nettailor_domain::backbone::{Backbone, BackboneName, ConvBn, Padding, ProxyForm, Shortcut};
use proptest::prelude::*;

use crate::laws::any_pruned;

/// What a walk adds up. Batch norms: 2 operations per output element, 2 parameters and 2 statistics per channel.
#[derive(Default, Clone, Copy)]
struct Tally {
    flops: u64,
    weights: u64,
    statistics: u64,
}

impl Tally {
    /// A convolution and its batch norm, at an output of side `side`.
    fn convolution(&mut self, [c_in, c_out]: [u32; 2], kernel: u32, groups: u32, side: u32) {
        for _filter in 0..c_out {
            let taps = u64::from(c_in / groups * kernel * kernel);
            self.flops += u64::from(side * side) * (taps + 2);
            self.weights += taps + 2;
            self.statistics += 2;
        }
    }

    fn unit(&mut self, unit: &ConvBn, side: u32) -> u32 {
        let side = windows(unit, side);
        self.convolution(
            [unit.in_channels, unit.out_channels],
            unit.kernel,
            unit.groups,
            side,
        );
        side
    }
}

/// Places at which a convolution's window fits, counted one by one.
fn windows(unit: &ConvBn, side: u32) -> u32 {
    let padded = match unit.padding {
        Padding::Symmetric(padding) => side + 2 * padding,
        // Every stride begins a window: the padding makes room.
        Padding::Same => return (0..side).step_by(unit.stride as usize).count() as u32,
    };
    (0..)
        .take_while(|place| place * unit.stride + unit.kernel <= padded)
        .count() as u32
}

/// Side of every node, 0..=L.
fn sides(backbone: &Backbone, input: u32) -> Vec<u32> {
    let mut side = windows(&backbone.stem, input);
    if backbone.stem_pool {
        side = (0..).take_while(|place| place * 2 + 3 <= side + 2).count() as u32;
    }
    let mut sides = vec![side];
    for block in &backbone.blocks {
        side = block.body.iter().fold(side, |side, unit| windows(unit, side));
        sides.push(side);
    }
    sides
}

/// What is shared and what is the task's own, of a network for square inputs of side `input`.
fn walk(network: &Architecture, classes: u32, input: u32) -> (Tally, Tally) {
    let backbone = network.backbone.describe();
    let sides = sides(&backbone, input);
    let (mut shared, mut own) = (Tally::default(), Tally::default());
    shared.unit(&backbone.stem, input);
    for (l, layer) in network.layers.iter().enumerate() {
        for (position, block) in layer.blocks.iter().enumerate().filter(|(_, block)| block.kept()) {
            if network.max_skip > 0 {
                // Its score.
                own.weights += 1;
            }
            let (from, to) = (block.source, l + 1);
            if position == 0 {
                let main = &backbone.blocks[l];
                let mut side = sides[from];
                for unit in &main.body {
                    side = shared.unit(unit, side);
                }
                if let Shortcut::Projection(unit) = &main.shortcut {
                    assert_eq!(
                        shared.unit(unit, sides[from]),
                        side,
                        "a shortcut ends where its block does"
                    );
                }
                continue;
            }
            let [c_in, c_out] = [backbone.node_channels(from), backbone.node_channels(to)];
            match backbone.proxy_form {
                ProxyForm::Conv => own.convolution([c_in, c_out], 1, 1, sides[to]),
                ProxyForm::Bottleneck => {
                    let middle = (c_out / 32).max(16);
                    own.convolution([c_in, middle], 1, 1, sides[to]);
                    own.convolution([middle, c_out], 1, 1, sides[to]);
                }
            }
        }
    }
    let last = sides[backbone.layers()];
    let mut features = backbone.node_channels(backbone.layers());
    if let Some(head) = &backbone.head {
        shared.unit(head, last);
        features = head.out_channels;
    }
    for _class in 0..classes {
        own.flops += u64::from(features) + 1;
        own.weights += u64::from(features) + 1;
    }
    if backbone.end_bn {
        for _channel in 0..features {
            own.flops += 2 * u64::from(last * last);
            own.weights += 2;
            own.statistics += 2;
        }
    }
    (shared, own)
}

/// Sizes that divide well, and others.
pub(crate) fn any_input() -> impl Strategy<Value = u32> {
    prop_oneof![prop::sample::select(vec![32u32, 64, 224]), 16u32..260]
}

proptest! {
    #[test]
    fn counts_are_those_of_a_walk_over_what_is_kept(
        network in any_pruned(), classes in 2u32..200, input in any_input(),
    ) {
        let counts = network.counts(classes, input);
        let (shared, own) = walk(&network, classes, input);
        // The statistics of shared blocks are the task's: they follow its data.
        let task = own.weights + own.statistics + shared.statistics;
        prop_assert_eq!(counts.task_params, task);
        prop_assert_eq!(counts.active_params, shared.weights + task);
        prop_assert_eq!(counts.active_flops, shared.flops + own.flops);

        let (whole, _) = walk(&Architecture::backbone_only(&network.backbone.describe()), classes, input);
        prop_assert_eq!(counts.backbone.flops, whole.flops);
        prop_assert_eq!(counts.backbone.params, whole.weights);
    }

    #[test]
    fn nodes_have_the_size_of_the_places_where_windows_fit(
        name in prop::sample::select(&BackboneName::ALL[..]), input in any_input(),
    ) {
        let backbone = name.describe();
        let shapes = backbone.node_shapes(input);
        prop_assert_eq!(shapes.iter().map(|shape| shape.side).collect::<Vec<_>>(), sides(&backbone, input));
        for (node, shape) in shapes.iter().enumerate() {
            prop_assert_eq!(shape.channels, backbone.node_channels(node));
            prop_assert!(shape.side >= 1);
        }
    }
}
