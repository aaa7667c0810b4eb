//! Shapes, FLOPs and parameters of every block, and the totals, against the parity files.

use nettailor_domain::architecture::Architecture;
use nettailor_domain::backbone::{BackboneName, Shortcut};

use crate::golden::{CLASSES, SUBJECTS, assert_close};

#[test]
fn every_block_has_the_published_shape_and_cost() {
    for subject in SUBJECTS {
        let (backbone, golden) = (subject.backbone(), subject.golden());
        let student = Architecture::new(&backbone, 3);
        let mains = backbone.main_costs(subject.input);
        assert_eq!(golden.layers.len(), backbone.layers());
        assert_eq!(golden.num_layers.iter().sum::<usize>(), backbone.layers());
        assert_eq!((golden.max_skip, golden.num_classes), (student.max_skip, CLASSES));
        for (l, expected) in golden.layers.iter().enumerate() {
            let (block, main, at) = (
                &backbone.blocks[l],
                &expected.main,
                format!("{} layer {}", subject.name, l + 1),
            );
            assert_eq!(block.in_channels, main.in_channels, "{at}");
            assert_eq!(block.out_channels, main.out_channels, "{at}");
            assert_eq!(block.stride, main.stride, "{at}");
            assert_eq!(block.body[0].out_channels, main.planes, "{at}");
            let projects = matches!(block.shortcut, Shortcut::Projection(_));
            assert_eq!(projects, main.has_conv_res, "{at}");
            assert_eq!(mains[l].flops as f64, main.flops, "{at}: FLOPs");
            assert_eq!(mains[l].params as f64, main.params, "{at}: parameters");

            let proxies = &student.layers[l].blocks[1..];
            assert_eq!(proxies.len(), expected.proxies.len(), "{at}: proxies");
            for (proxy, expected) in proxies.iter().zip(&expected.proxies) {
                let shape = backbone.proxy(proxy.source, l + 1, subject.input);
                let at = format!("{at}, proxy from node {}", proxy.source);
                assert_eq!(shape.source.channels, expected.in_channels, "{at}");
                assert_eq!(shape.target.channels, expected.out_channels, "{at}");
                assert_eq!(
                    shape.source.side / shape.target.side,
                    expected.stride,
                    "{at}: stride"
                );
                let [channels, height, width] = expected.source_shape;
                assert_eq!(
                    (channels, height, width),
                    (shape.source.channels, shape.source.side, shape.source.side)
                );
                assert_eq!(shape.cost().flops as f64, expected.flops, "{at}: FLOPs");
                assert_eq!(shape.cost().params as f64, expected.params, "{at}: parameters");
            }
        }
    }
}

#[test]
fn totals_are_the_published_ones_once_the_stem_is_counted_as_the_paper_does() {
    for subject in SUBJECTS {
        let (backbone, golden, name) = (subject.backbone(), subject.golden(), subject.name);
        assert_eq!(
            subject.paper_stem_flops() as f64,
            golden.stem_flops,
            "{name}: stem"
        );
        assert_eq!(
            subject.paper_flops() as f64,
            golden.norm_flops,
            "{name}: stem and mains"
        );

        let student = Architecture::new(&backbone, 3);
        let counts = student.counts(CLASSES, subject.input);
        // The published count leaves out the wide network's end batch norm; FLOPs of the classifier are the linear layer's.
        let classifier = backbone.classifier_cost(CLASSES, subject.input);
        let end_bn = classifier.flops - golden.classifier_flops as u64;
        let stem = backbone.stem.cost(subject.input).flops;
        let paper = counts.active_flops - stem + subject.paper_stem_flops() - end_bn;
        assert_eq!(
            paper as f64, golden.total_flops_all_kept,
            "{name}: unpruned student"
        );
        assert_close(paper as f64 / 1e9, golden.unpruned.total_g, 1e-12, "G");
    }
}

#[test]
fn stored_numbers_are_the_trainable_ones_and_the_statistics() {
    for subject in SUBJECTS {
        let (backbone, golden, name) = (subject.backbone(), subject.golden(), subject.name);
        let student = Architecture::new(&backbone, 3);
        let counts = student.counts(CLASSES, subject.input);
        let mains: u64 = backbone.blocks.iter().map(|block| block.statistics()).sum();
        let proxies: u64 = (1..=backbone.layers())
            .flat_map(|l| (l.saturating_sub(3)..l).map(move |s| (s, l)))
            .map(|(s, l)| backbone.proxy(s, l, subject.input).statistics())
            .sum();
        let end_bn = if backbone.end_bn {
            2 * u64::from(backbone.features())
        } else {
            0
        };
        let statistics = backbone.fixed_statistics() + mains + proxies + end_bn;
        assert_eq!(
            counts.task_params,
            golden.num_trainable_real + statistics,
            "{name}: task parameters"
        );
        assert_eq!(
            counts.active_params,
            golden.num_parameters_real + statistics,
            "{name}: active parameters"
        );
        // Running mean and variance have as many numbers as weight and bias, which are the only other 1-D tensors of a unit.
        let affine: usize = backbone
            .tensors()
            .iter()
            .filter(|t| t.shape.len() == 1)
            .map(|t| t.shape[0])
            .sum();
        assert_eq!(
            (backbone.fixed_statistics() + mains) as usize,
            affine / 2,
            "{name}: statistics of the backbone"
        );
    }
}

#[test]
fn parameters_of_a_backbone_are_those_of_its_tensors() {
    for name in BackboneName::ALL {
        let backbone = name.describe();
        let stored: usize = backbone
            .tensors()
            .iter()
            .filter(|tensor| !tensor.name.contains(".running_"))
            .map(|tensor| tensor.shape.iter().product::<usize>())
            .sum();
        for input in [32, 64, 224] {
            assert_eq!(backbone.cost(input).params as usize, stored, "{name} at {input}");
        }
    }
}
