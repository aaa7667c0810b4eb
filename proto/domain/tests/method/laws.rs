//! Laws of pruning and counting that hold for every student.

use nettailor_domain::architecture::{Architecture, Fate, Infeasible};
use nettailor_domain::backbone::BackboneName;
use proptest::prelude::*;

/// A student of any backbone, with random scores: without proxies, with short and longer skips, and dense (every node
/// reads all before it).
pub(crate) fn any_student() -> impl Strategy<Value = Architecture> {
    // 16 layers of at most 1 + 16 blocks.
    let scores = proptest::collection::vec(-4.0f32..4.0, 16 * 17);
    let skip = prop_oneof![5 => (0usize..=5).prop_map(Some), 1 => Just(None)];
    (prop::sample::select(&BackboneName::ALL[..]), skip, scores).prop_map(|(name, max_skip, scores)| {
        let backbone = name.describe();
        let mut student = Architecture::new(&backbone, max_skip.unwrap_or(backbone.layers()));
        let blocks = student.layers.iter_mut().flat_map(|layer| &mut layer.blocks);
        blocks.zip(scores).for_each(|(block, score)| block.score = score);
        student
    })
}

/// A student that may have been pruned.
pub(crate) fn any_pruned() -> impl Strategy<Value = Architecture> {
    (any_student(), any::<prop::sample::Index>(), 0.0..0.4f64).prop_map(|(student, k, threshold)| {
        let k = k.index(student.layers.len() + 1);
        student.prune(k, threshold).unwrap_or(student)
    })
}

/// Blocks as (source, target, fate).
fn edges(architecture: &Architecture) -> Vec<(usize, usize, Fate)> {
    let layers = architecture.layers.iter().enumerate();
    layers
        .flat_map(|(l, layer)| layer.blocks.iter().map(move |b| (b.source, l + 1, b.fate)))
        .collect()
}

/// Nodes reachable from `start` over `steps`, by repeated relaxation: slow and obvious.
pub(crate) fn reach(start: usize, nodes: usize, steps: &[(usize, usize)]) -> Vec<bool> {
    let mut reached = vec![false; nodes];
    reached[start] = true;
    while let Some(&(_, to)) = steps.iter().find(|(from, to)| reached[*from] && !reached[*to]) {
        reached[to] = true;
    }
    reached
}

/// The edges among `kept` that lie on a path from node 0 to the last node.
pub(crate) fn on_a_path(kept: &[(usize, usize)], nodes: usize) -> Vec<(usize, usize)> {
    let backwards: Vec<_> = kept.iter().map(|&(s, t)| (t, s)).collect();
    let (forward, backward) = (reach(0, nodes, kept), reach(nodes - 1, nodes, &backwards));
    kept.iter()
        .copied()
        .filter(|&(s, t)| forward[s] && backward[t])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn pruning_keeps_exactly_what_lies_on_a_path(
        student in any_student(), k in any::<prop::sample::Index>(), threshold in 0.0..0.5f64,
    ) {
        let layers = student.layers.len();
        let k = k.index(layers + 1);
        // By rank, spelled out: the k lowest mains (the earlier first among equals) and the proxies below the threshold.
        let attention = student.attention();
        let mut mains: Vec<usize> = (0..layers).collect();
        mains.sort_by(|&a, &b| attention[a][0].partial_cmp(&attention[b][0]).expect("numbers").then(a.cmp(&b)));
        let by_rank: Vec<(usize, usize, bool)> = student.layers.iter().enumerate().flat_map(|(l, layer)| {
            let (mains, attention) = (&mains, &attention);
            layer.blocks.iter().enumerate().map(move |(b, block)| {
                let kept = if b == 0 { !mains[..k].contains(&l) } else { attention[l][b] >= threshold };
                (block.source, l + 1, kept)
            })
        }).collect();
        let survivors: Vec<_> = by_rank.iter().filter(|e| e.2).map(|&(s, t, _)| (s, t)).collect();
        let expected = on_a_path(&survivors, layers + 1);

        match student.prune(k, threshold) {
            Err(error) => {
                prop_assert_eq!(error, Infeasible::Disconnected { k });
                prop_assert!(!reach(0, layers + 1, &survivors)[layers]);
            }
            Ok(pruned) => {
                let edges = edges(&pruned);
                let kept: Vec<_> = edges.iter().filter(|e| e.2 == Fate::Kept).map(|&(s, t, _)| (s, t)).collect();
                prop_assert_eq!(&kept, &expected);
                for (edge, rank) in edges.iter().zip(&by_rank) {
                    prop_assert_eq!(edge.2 == Fate::RemovedByRank, !rank.2, "what rank removed is recorded as such");
                }
                // Every live node but the last is used, and the last is live.
                prop_assert!(pruned.node_live(layers));
                for node in 0..layers {
                    prop_assert_eq!(pruned.node_live(node) || node == 0, node == 0 || kept.iter().any(|e| e.1 == node));
                    prop_assert!(!pruned.node_live(node) || kept.iter().any(|e| e.0 == node), "node {} leads nowhere", node);
                }
                // Nothing is left to exclude.
                prop_assert_eq!(&pruned.prune(0, 0.0).expect("still connected"), &pruned);
                for layer in &pruned.layers {
                    let sum: f64 = layer.attention().iter().sum();
                    prop_assert!((sum - f64::from(u8::from(layer.live()))).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn removing_more_main_blocks_never_costs_more(student in any_student()) {
        let flops = |k| student.prune(k, 0.05).map(|pruned| pruned.counts(10, 64).active_flops);
        let mut before = u64::MAX;
        for k in 0..=student.layers.len() {
            let Ok(now) = flops(k) else { break };
            prop_assert!(now <= before, "k = {}: {} after {}", k, now, before);
            before = now;
        }
    }
}

#[test]
fn the_backbone_alone_counts_no_attention() {
    for name in BackboneName::ALL {
        let backbone = name.describe();
        let teacher = Architecture::backbone_only(&backbone);
        let counts = teacher.counts(10, 64);
        let head = backbone.classifier_cost(10, 64);
        assert_eq!(
            counts.active_flops,
            backbone.cost(64).flops + head.flops,
            "{name}"
        );
        assert!(teacher.attention().iter().all(|layer| layer == &[1.0]));
    }
}
