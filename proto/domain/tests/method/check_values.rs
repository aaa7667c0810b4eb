//! METHOD's own tables, to the digits printed there.

use nettailor_domain::architecture::{Architecture, BlockCosts, ComplexityForm};
use nettailor_domain::backbone::{Backbone, BackboneName};
use nettailor_domain::units::Cost;

use crate::golden::{CLASSES, SUBJECTS, Subject, assert_close};

/// Asserts that `value` prints as `expected`.
#[track_caller]
fn assert_digits(value: f64, expected: &str, what: &str) {
    let digits = expected.split('.').nth(1).map_or(0, str::len);
    assert_eq!(format!("{value:.digits$}"), expected, "{what}");
}

fn proxies(subject: &Subject) -> (usize, Cost) {
    let backbone = subject.backbone();
    let student = Architecture::new(&backbone, 3);
    let cost = student
        .layers
        .iter()
        .enumerate()
        .flat_map(|(l, layer)| layer.blocks[1..].iter().map(move |block| (block.source, l + 1)));
    let cost = cost
        .map(|(source, target)| backbone.proxy(source, target, subject.input).cost())
        .sum();
    (student.kept_proxies(), cost)
}

#[test]
fn the_table_of_section_3() {
    let rows = [
        [
            "1.6989", "1.8185", "1.7288", "11.1765", "21", "0.1703", "1.1457", "12.327", "1.899",
        ],
        [
            "3.5511", "3.6707", "3.5810", "21.2847", "45", "0.4695", "2.7502", "24.040", "4.051",
        ],
        [
            "3.9897", "4.1094", "4.0196", "23.5080", "45", "0.5979", "3.3514", "26.880", "4.618",
        ],
        // 5,814,176 parameters.
        [
            "0.8512", "0.8550", "0.8707", "5.8142", "33", "0.1093", "0.7784", "6.595", "0.980",
        ],
    ];
    for (subject, row) in SUBJECTS.into_iter().zip(rows) {
        let [
            mains,
            whole,
            paper,
            params,
            count,
            proxy_g,
            proxy_m,
            student_m,
            student_g,
        ] = row;
        let (giga, mega, name) = (|n: u64| n as f64 / 1e9, |n: u64| n as f64 / 1e6, subject.name);
        let backbone = subject.backbone().cost(subject.input);
        let (proxies, proxy) = proxies(&subject);
        assert_digits(giga(subject.mains().flops), mains, &format!("{name}: mains"));
        assert_digits(giga(backbone.flops), whole, &format!("{name}: stem and mains"));
        assert_digits(
            giga(subject.paper_flops()),
            paper,
            &format!("{name}: paper's stem and mains"),
        );
        assert_digits(mega(backbone.params), params, &format!("{name}: parameters"));
        assert_eq!(proxies.to_string(), count, "{name}: proxies");
        assert_digits(giga(proxy.flops), proxy_g, &format!("{name}: proxies, G"));
        assert_digits(mega(proxy.params), proxy_m, &format!("{name}: proxies, M"));
        let linear = u64::from(subject.backbone().features() * CLASSES + CLASSES);
        assert_digits(
            mega(backbone.params + proxy.params + linear),
            student_m,
            &format!("{name}: student, M"),
        );
        assert_digits(
            giga(subject.paper_flops() + proxy.flops + linear),
            student_g,
            &format!("{name}: student, G"),
        );
    }
}

#[test]
fn expected_complexity_at_the_initial_scores() {
    let rows = [
        [".8259", ".8688", ".8565"],
        [".8428", ".8640", ".8464"],
        [".8446", ".8634", ".8443"],
        [".8698", ".8541", ".8377"],
    ];
    for (subject, [product_true, product_paper, paper_paper]) in SUBJECTS.into_iter().zip(rows) {
        let backbone = subject.backbone();
        let student = Architecture::new(&backbone, 3);
        let ours = BlockCosts::counted(&student, &backbone, subject.input, |cost| cost.flops as f64);
        let paper = subject.paper_costs(&student);
        let value = |form, costs: &BlockCosts| student.expected_complexity(form, costs).0;
        let name = subject.name;
        assert_digits(
            value(ComplexityForm::Product, &ours),
            &format!("0{product_true}"),
            &format!("{name}, true"),
        );
        assert_digits(
            value(ComplexityForm::Product, &paper),
            &format!("0{product_paper}"),
            &format!("{name}, paper stem"),
        );
        assert_digits(
            value(ComplexityForm::Paper, &paper),
            &format!("0{paper_paper}"),
            &format!("{name}, paper form"),
        );
    }
}

#[test]
fn expected_complexity_of_uniform_attention() {
    let subject = SUBJECTS[1];
    let mut student = Architecture::new(&subject.backbone(), 3);
    student
        .layers
        .iter_mut()
        .flat_map(|layer| &mut layer.blocks)
        .for_each(|block| block.score = 0.0);
    let costs = subject.paper_costs(&student);
    assert_digits(
        student.expected_complexity(ComplexityForm::Product, &costs).0,
        "0.1534",
        "product",
    );
    assert_digits(
        student.expected_complexity(ComplexityForm::Paper, &costs).0,
        "-0.372",
        "paper",
    );
}

#[test]
fn initial_attention_of_the_main_block() {
    let student = Architecture::new(&BackboneName::Resnet18.describe(), 3);
    for (layer, expected) in student
        .layers
        .iter()
        .zip(["0.9820", "0.9647", "0.9479", "0.9479"])
    {
        assert_digits(layer.attention()[0], expected, "main");
        assert_close(layer.attention().iter().sum(), 1.0, 1e-15, "sum");
    }
}

#[test]
fn lite0_is_the_published_network() {
    let backbone = BackboneName::Lite0.describe();
    // Node shapes of METHOD section 2, at the end of every stage.
    let shapes = backbone.node_shapes(224);
    let stages: Vec<(u32, u32)> = [1, 3, 5, 8, 11, 15, 16]
        .iter()
        .map(|&l| (shapes[l].channels, shapes[l].side))
        .collect();
    assert_eq!(
        stages,
        [
            (16, 112),
            (24, 56),
            (40, 28),
            (80, 14),
            (112, 14),
            (192, 7),
            (320, 7)
        ]
    );
    let with_classifier = backbone.cost(224) + backbone.classifier_cost(1000, 224);
    assert_eq!(with_classifier.params, 4_652_008, "the publisher's parameters");
    // Summed independently from the table of stages.
    assert_eq!(
        with_classifier.flops - batch_norm_flops(&backbone, 224) - 1000,
        385_187_552,
        "multiply-accumulates"
    );
}

/// Two per output element of every convolution.
fn batch_norm_flops(backbone: &Backbone, input: u32) -> u64 {
    let mut side = input;
    backbone
        .units()
        .map(|unit| {
            side = unit.output_side(side);
            2 * u64::from(unit.out_channels) * u64::from(side).pow(2)
        })
        .sum()
}
