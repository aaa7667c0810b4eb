use std::collections::HashMap;

use nettailor_domain::architecture::{Architecture, Fate, Selection};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::{Digest, StageKey};
use nettailor_domain::model::{Lineage, ModelAccuracy, ModelLatency, ModelRecord};
use nettailor_domain::stage::{Artifact, Latency};
use nettailor_domain::units::Accuracy;

use super::architecture_svg;

const LATENCY: Latency = Latency {
    batch_1_ms: 1.0,
    batch_32_ms: 20.0,
};

/// A model of `name` whose scores fall and rise along the network, pruned.
fn model(name: BackboneName, max_skip: usize, k: usize, threshold: f64) -> ModelRecord {
    let backbone = name.describe();
    let mut student = Architecture::new(&backbone, max_skip);
    for (l, layer) in student.layers.iter_mut().enumerate() {
        for (b, block) in layer.blocks.iter_mut().enumerate() {
            block.score = ((l * 7 + b * 5) % 11) as f32 / 3.0 - if b == 0 { 0.6 } else { 1.6 };
        }
    }
    let architecture = student.prune(k, threshold).expect("a path is left");
    let accuracy = |correct| Accuracy { correct, total: 1000 };
    let artifact = Artifact {
        digest: Digest::of(b"weights"),
        bytes: 1,
    };
    ModelRecord {
        task: "digits".parse().expect("a name"),
        version: 3,
        counts: architecture.counts(10, 64),
        architecture,
        image_size: 64,
        classes: (0..10).map(|class| format!("<{class}> & \"co\"")).collect(),
        selection: Selection {
            k,
            threshold: 0.97,
            qualified: k < 5,
        },
        accuracy: ModelAccuracy {
            held_out: accuracy(989),
            test: accuracy(981),
            teacher_held_out: accuracy(978),
            teacher_test: accuracy(980),
        },
        frontier: vec![],
        latency: ModelLatency {
            network: LATENCY,
            teacher: LATENCY,
        },
        weights: artifact,
        teacher: artifact,
        lineage: Lineage {
            job: "job-1".parse().expect("an id"),
            backbone: Digest::of(b"backbone"),
            data: Digest::of(b"data"),
            stages: vec![StageKey(Digest::of(b"stage"))],
            training_seconds: 300,
        },
        published_ms: 0,
    }
}

/// How often each class occurs among the elements.
fn classes(svg: &str) -> HashMap<String, usize> {
    let document = roxmltree::Document::parse(svg).unwrap_or_else(|error| panic!("not XML: {error}\n{svg}"));
    assert_eq!(document.root_element().tag_name().name(), "svg");
    let mut counted = HashMap::new();
    for class in document
        .descendants()
        .filter_map(|element| element.attribute("class"))
    {
        *counted.entry(class.to_owned()).or_default() += 1;
    }
    counted
}

#[test]
fn every_block_is_drawn_once_as_what_it_is() {
    let mut excluded = 0;
    for (name, max_skip, k, threshold) in [
        (BackboneName::Lite0, 3, 6, 0.12),
        (BackboneName::Resnet18, 3, 3, 0.12),
        (BackboneName::Resnet50, 2, 5, 0.12),
        (BackboneName::Resnet34, 3, 9, 0.3),
        (BackboneName::Wrn26, 5, 0, 0.12),
    ] {
        let model = model(name, max_skip, k, threshold);
        let drawn = classes(&architecture_svg(&model));
        let blocks = |proxy: bool, fate: Fate| {
            let layers = model.architecture.layers.iter();
            let of_kind = layers
                .flat_map(|layer| layer.blocks.iter().enumerate())
                .filter(|(b, _)| (*b > 0) == proxy);
            of_kind.filter(|(_, block)| block.fate == fate).count()
        };
        excluded += blocks(false, Fate::RemovedByExclusion);
        for (proxy, kind) in [(false, "universal"), (true, "proxy")] {
            for (fate, word) in [
                (Fate::Kept, "kept"),
                (Fate::RemovedByRank, "removed-by-rank"),
                (Fate::RemovedByExclusion, "removed-by-exclusion"),
            ] {
                let found = drawn.get(&format!("{kind} {word}")).copied().unwrap_or_default();
                assert_eq!(found, blocks(proxy, fate), "{name}: {kind} {word}");
            }
        }
        assert_eq!(drawn["universal kept"], model.architecture.kept_mains().len());
        let live = (0..=model.architecture.layers.len())
            .filter(|n| model.architecture.node_live(*n))
            .count();
        assert_eq!(drawn["node live"], live, "{name}: nodes");
    }
    assert!(
        excluded > 0,
        "one of the models has a main block that was cut off"
    );
}

#[test]
fn the_figures_and_the_kept_blocks_attention_are_readable() {
    let model = model(BackboneName::Lite0, 3, 6, 0.12);
    let svg = architecture_svg(&model);
    let document = roxmltree::Document::parse(&svg).expect("XML");
    let texts: Vec<&str> = document
        .descendants()
        .filter(|e| e.has_tag_name("text"))
        .filter_map(|e| e.text())
        .collect();
    let expect = |wanted: &str| {
        assert!(
            texts.iter().any(|text| text.contains(wanted)),
            "{wanted} in {texts:?}"
        )
    };
    for wanted in [
        "digits",
        "lite0",
        "98.10 %",
        "teacher 98.00 %",
        "k = 6",
        "10 classes",
        "32\u{d7}32",
    ] {
        expect(wanted);
    }
    expect("no candidate reached 97.00 % held out");
    let flops = 100.0 * model.counts.active_flops as f64 / model.counts.backbone.flops as f64;
    expect(&format!("{flops:.0} %"));
    for (layer, attention) in model
        .architecture
        .layers
        .iter()
        .zip(model.architecture.attention())
    {
        for (block, attention) in layer
            .blocks
            .iter()
            .zip(attention)
            .filter(|(block, _)| block.kept())
        {
            if (0.01..0.99).contains(&attention) {
                expect(format!("{attention:.2}").trim_start_matches('0'));
            }
            assert!(block.source < model.architecture.layers.len());
        }
    }
}

#[test]
fn equal_models_give_equal_pictures() {
    let model = model(BackboneName::Resnet34, 3, 4, 0.12);
    assert_eq!(architecture_svg(&model), architecture_svg(&model.clone()));
}
