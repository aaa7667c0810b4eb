//! Pruning against the parity files: what rank removes, and our transitive exclusion on top of it.

use nettailor_domain::architecture::{Architecture, Fate, Infeasible};
use nettailor_domain::backbone::BackboneName;

use crate::golden::{CLASSES, SUBJECTS, Stats, Subject, assert_all_close, assert_close};
use crate::laws::on_a_path;

#[test]
fn rank_removes_what_the_published_implementation_removes_and_exclusion_the_rest() {
    for subject in SUBJECTS {
        let golden = subject.golden();
        let (mut compared, mut excluded, mut infeasible) = (0, 0, 0);
        for (index, case) in golden.threshold_cases.iter().enumerate() {
            let (Some(k), Some(threshold), true) = (
                case.settings.num_global,
                case.settings.thr_proxies,
                case.settings.others.is_empty(),
            ) else {
                continue;
            };
            let what = format!("{} threshold case {index}", subject.name);
            let student = subject.student(&golden.alphas_params_sets[&case.alphas_params_set], None);
            assert_all_close(
                &student.attention(),
                &case.alphas_before,
                1e-6,
                &format!("{what}: attention"),
            );
            compared += 1;

            let edges = |by: &dyn Fn(usize, usize) -> bool| -> Vec<(usize, usize)> {
                let blocks = |l: usize| {
                    student.layers[l]
                        .blocks
                        .iter()
                        .enumerate()
                        .map(move |(b, c)| (l, b, c.source))
                };
                let all = (0..student.layers.len()).flat_map(blocks);
                all.filter(|&(l, b, _)| by(l, b))
                    .map(|(l, _, source)| (source, l + 1))
                    .collect()
            };
            let published = edges(&|l, b| case.keep[l][b] == 1);
            let expected = on_a_path(&published, student.layers.len() + 1);
            match student.prune(k, threshold) {
                Ok(pruned) => {
                    let fate = |l: usize, b: usize| pruned.layers[l].blocks[b].fate;
                    let kept = edges(&|l, b| fate(l, b) == Fate::Kept);
                    assert_eq!(
                        edges(&|l, b| fate(l, b) != Fate::RemovedByRank),
                        published,
                        "{what}: by rank"
                    );
                    assert_eq!(kept, expected, "{what}: kept");
                    assert!(case.raises.is_none(), "{what}: {:?}", case.raises);
                    excluded += published.len() - kept.len();
                }
                Err(error) => {
                    assert_eq!(error, Infeasible::Disconnected { k }, "{what}");
                    assert!(expected.is_empty(), "{what}: a path is left");
                    infeasible += 1;
                }
            }
        }
        assert!(
            compared >= 18 && infeasible >= 5,
            "{}: {compared} cases, {infeasible} infeasible",
            subject.name
        );
        println!(
            "{}: {compared} cases, {infeasible} infeasible, {excluded} blocks excluded",
            subject.name
        );
    }
}

/// Parameters and FLOPs of a network as published: no statistics, no scores, no end batch norm, the paper's stem.
fn compare(subject: &Subject, student: &Architecture, stats: &Stats, what: &str) {
    let backbone = subject.backbone();
    let (mains, linear) = (
        backbone.main_costs(subject.input),
        backbone.features() * CLASSES + CLASSES,
    );
    let (mut global, mut task, mut flops) = (0, 0, subject.paper_stem_flops() + u64::from(linear));
    for (l, layer) in student.layers.iter().enumerate() {
        let main = if layer.blocks[0].kept() {
            mains[l]
        } else {
            Default::default()
        };
        assert_eq!(
            main.params as f64,
            stats.global_params[l + 1],
            "{what}: main of layer {}",
            l + 1
        );
        global += main.params;
        flops += main.flops;
        for (position, proxy) in layer.blocks[1..].iter().enumerate() {
            let shape = backbone.proxy(proxy.source, l + 1, subject.input);
            let cost = if proxy.kept() {
                shape.cost()
            } else {
                Default::default()
            };
            assert_eq!(
                cost.params as f64,
                stats.task_params[l][position],
                "{what}: layer {}, proxy {position}",
                l + 1
            );
            task += cost.params;
            flops += cost.flops;
        }
    }
    assert_eq!(
        backbone.stem.cost(subject.input).params as f64,
        stats.global_params[0],
        "{what}: stem"
    );
    let global = global + stats.global_params[0] as u64;
    assert_close(
        global as f64 / 1e6,
        stats.global_m,
        1e-12,
        &format!("{what}: shared parameters"),
    );
    // The published count takes the wide network's classifier for one of 512 features (its own trainable count does not).
    let features = if subject.name == BackboneName::Wrn26 {
        512
    } else {
        backbone.features()
    };
    let classifier = features * CLASSES + CLASSES;
    assert_eq!(
        stats.task_params.last(),
        Some(&vec![f64::from(classifier)]),
        "{what}: classifier"
    );
    assert_close(
        (task + u64::from(classifier)) as f64 / 1e6,
        stats.task_m,
        1e-12,
        &format!("{what}: task parameters"),
    );
    assert_close(
        flops as f64 / 1e9,
        stats.total_g,
        1e-12,
        &format!("{what}: FLOPs"),
    );
    // And our own count of the same network, which adds what the published one leaves out.
    let counts = student.counts(CLASSES, subject.input);
    let stem = backbone.stem.cost(subject.input).flops;
    let end_bn = backbone.classifier_cost(CLASSES, subject.input).flops - u64::from(linear);
    assert_eq!(
        counts.active_flops - end_bn + subject.paper_stem_flops() - stem,
        flops,
        "{what}: our FLOPs"
    );
}

#[test]
fn parameters_and_flops_before_and_after_are_the_published_ones() {
    for subject in SUBJECTS {
        let golden = subject.golden();
        let whole = Architecture::new(&subject.backbone(), 3);
        compare(
            &subject,
            &whole,
            &golden.unpruned,
            &format!("{} unpruned", subject.name),
        );
        for (index, case) in golden.threshold_cases.iter().enumerate() {
            let student = subject.student(
                &golden.alphas_params_sets[&case.alphas_params_set],
                Some(&case.keep),
            );
            compare(
                &subject,
                &student,
                &case.stats,
                &format!("{} threshold case {index}", subject.name),
            );
        }
    }
}

#[test]
fn impossible_requests_say_so() {
    let student = Architecture::new(&BackboneName::Resnet18.describe(), 3);
    let error = student.prune(9, 0.05).expect_err("there are eight");
    assert_eq!(
        error.to_string(),
        "cannot remove 9 main blocks: the backbone has 8"
    );
    let error = student.prune(8, 1.1).expect_err("no proxy is left either");
    assert_eq!(
        error.to_string(),
        "removing 8 main blocks leaves no path from the stem to the last node"
    );
}

#[test]
fn ties_go_to_the_earlier_layer() {
    // At the initial scores layers 3 to 8 have equal attention, below that of 1 and 2.
    let student = Architecture::new(&BackboneName::Resnet18.describe(), 3);
    assert_eq!(
        student.prune(2, 0.0).expect("proxies are kept").kept_mains(),
        [1, 2, 5, 6, 7, 8]
    );
}
