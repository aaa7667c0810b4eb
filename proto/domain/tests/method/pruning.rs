//! Pruning against the parity files: what rank removes, and our transitive exclusion on top of it.

use nettailor_domain::architecture::{Architecture, Fate, Infeasible};
use nettailor_domain::backbone::BackboneName;

use crate::golden::{CLASSES, SUBJECTS, Settings, Stats, Subject, assert_all_close, assert_close};
use crate::laws::{on_a_path, reach};

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
                    assert!(
                        case.liveness.raises.is_none(),
                        "{what}: {:?}",
                        case.liveness.raises
                    );
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
    let total = global + task + u64::from(classifier);
    assert_close(
        total as f64 / 1e6,
        stats.total_m,
        1e-12,
        &format!("{what}: all parameters"),
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

/// Blocks of `student` as (source, target).
fn kept_edges(student: &Architecture) -> Vec<(usize, usize)> {
    let layers = student.layers.iter().zip(1..);
    let kept = layers.flat_map(|(layer, l)| {
        layer
            .blocks
            .iter()
            .filter(|b| b.kept())
            .map(move |b| (b.source, l))
    });
    kept.collect()
}

#[test]
fn what_passes_nothing_on_is_what_no_path_reaches() {
    for subject in SUBJECTS {
        let golden = subject.golden();
        let complexity = golden.complexity_cases.iter();
        let complexity = complexity.map(|case| (&case.alphas_params, &case.keep, &case.liveness));
        let threshold = golden.threshold_cases.iter();
        let threshold = threshold.map(|case| {
            (
                &golden.alphas_params_sets[&case.alphas_params_set],
                &case.keep,
                &case.liveness,
            )
        });
        let (mut dead, mut failed) = (0, 0);
        for (index, (scores, keep, published)) in complexity.chain(threshold).enumerate() {
            let what = format!("{} case {index}", subject.name);
            let student = subject.student(scores, Some(keep));
            let last = student.layers.len();
            let reached = reach(0, last + 1, &kept_edges(&student));
            // Where the last node is not reached the published network fails.
            assert_eq!(published.raises.is_some(), !reached[last], "{what}");
            failed += usize::from(!reached[last]);
            if let Some(none) = &published.none_outputs {
                let ours: Vec<usize> = (0..last).filter(|&layer| !reached[layer + 1]).collect();
                assert_eq!(&ours, none, "{what}");
                dead += none.len();
            }
        }
        assert!(
            dead >= 3 && failed >= 2,
            "{}: {dead} dead, {failed} failed",
            subject.name
        );
    }
}

#[test]
fn statistics_of_the_complexity_cases_are_the_published_ones() {
    for subject in SUBJECTS {
        let mut compared = 0;
        for case in subject.golden().complexity_cases {
            let Some(stats) = &case.stats else { continue };
            let student = subject.student(&case.alphas_params, Some(&case.keep));
            compare(
                &subject,
                &student,
                stats,
                &format!("{} {}", subject.name, case.name),
            );
            compared += 1;
        }
        assert_eq!(compared, 5, "{}", subject.name);
    }
}

#[test]
fn a_student_begins_with_the_published_scores() {
    for subject in SUBJECTS {
        let golden = subject.golden();
        let student = Architecture::new(&subject.backbone(), golden.max_skip);
        let scores: Vec<Vec<f64>> = (student.layers.iter())
            .map(|layer| layer.blocks.iter().map(|block| f64::from(block.score)).collect())
            .collect();
        assert_eq!(scores, golden.initial_alphas_params, "{}", subject.name);
        assert_eq!(scores, golden.alphas_params_sets["initial"], "{}", subject.name);
        assert_all_close(
            &student.attention(),
            &golden.initial_alphas,
            1e-7,
            subject.name.as_str(),
        );
    }
}

/// Pruned twice, the published implementation ranks anew and takes main blocks back that it had removed (removed ones
/// have attention 0, so they are the first k again, and the others return). Ours never brings a block back; so only the
/// first pass is the same.
#[test]
fn pruning_again_brings_nothing_back() {
    for subject in SUBJECTS {
        let (golden, name) = (subject.golden(), subject.name);
        let twice = &golden.threshold_twice;
        let student = subject.student(&golden.alphas_params_sets[&twice.alphas_params_set], None);
        let of = |settings: &Settings| {
            (
                settings.num_global.expect("k"),
                settings.thr_proxies.expect("threshold"),
            )
        };
        let (k, threshold) = of(&twice.first);
        let once = student.prune(k, threshold).expect("a path is left");
        let by_rank: Vec<Vec<u8>> = (once.layers.iter())
            .map(|layer| {
                layer
                    .blocks
                    .iter()
                    .map(|b| u8::from(b.fate != Fate::RemovedByRank))
                    .collect()
            })
            .collect();
        assert_eq!(by_rank, twice.keep_after_first, "{name}");
        let ranked = subject.student(
            &golden.alphas_params_sets[&twice.alphas_params_set],
            Some(&twice.keep_after_first),
        );
        assert_all_close(
            &ranked.attention(),
            &twice.alphas_after_first,
            1e-6,
            name.as_str(),
        );

        let (k, threshold) = of(&twice.second);
        let again = once.prune(k, threshold).expect("a path is left");
        let blocks = |network: &Architecture| {
            network
                .layers
                .iter()
                .flat_map(|layer| layer.blocks.clone())
                .collect::<Vec<_>>()
        };
        let published: Vec<u8> = twice.keep_after_second.concat();
        let mut returned = 0;
        for ((before, after), published) in blocks(&once).iter().zip(blocks(&again)).zip(published) {
            assert!(before.kept() || !after.kept(), "{name}: a block came back");
            returned += usize::from(published == 1 && before.fate == Fate::RemovedByRank);
        }
        assert!(
            returned > 0,
            "{name}: the published implementation brings blocks back"
        );
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
