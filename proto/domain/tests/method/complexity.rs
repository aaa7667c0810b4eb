//! Expected complexity: the published implementation's formula on our attention and costs, and our two forms' gradients.

use nettailor_domain::architecture::{Architecture, BlockCosts, ComplexityForm, Gradient};
use nettailor_domain::units::Cost;
use proptest::prelude::*;

use crate::golden::{GoldenGradient, SUBJECTS, assert_all_close, assert_close};
use crate::laws::{any_pruned, any_student};

/// The published implementation's value and its gradient on the attention (golden README): every proxy of a layer takes
/// the input term of the layer's main block, node 0 counts as never computed and the last node as never used.
fn reference(architecture: &Architecture, BlockCosts(costs): &BlockCosts) -> (f64, Gradient) {
    let attention = architecture.attention();
    let last = attention.len();
    let off_in = |node: usize| attention[node - 1].iter().map(|a| 1.0 - a).collect::<Vec<_>>();
    let leaving = |node: usize| -> Vec<(usize, usize)> {
        let blocks = |l: usize| {
            architecture.layers[l]
                .blocks
                .iter()
                .enumerate()
                .map(move |(b, c)| (l, b, c.source))
        };
        (0..last)
            .flat_map(blocks)
            .filter(|(_, _, source)| *source == node)
            .map(|(l, b, _)| (l, b))
            .collect()
    };
    let p_in = |node: usize| {
        if node == 0 {
            1.0
        } else {
            off_in(node).iter().product()
        }
    };
    let p_out = |node: usize| -> f64 {
        if node == last {
            1.0
        } else {
            leaving(node)
                .iter()
                .map(|&(l, b)| 1.0 - attention[l][b])
                .product()
        }
    };
    let mut total = 0.0;
    let mut gradient: Gradient = costs.clone();
    for l in 0..last {
        let cost: f64 = costs[l].iter().sum();
        total += costs[l]
            .iter()
            .zip(&attention[l])
            .map(|(c, a)| c * a)
            .sum::<f64>()
            - cost * (p_in(l) + p_out(l + 1));
        // d P / d a of a block is minus the product of the others' (1 - a).
        let others = |of: &[(usize, usize)], without: (usize, usize)| -> f64 {
            of.iter()
                .filter(|&&at| at != without)
                .map(|&(l, b)| 1.0 - attention[l][b])
                .product()
        };
        if l > 0 {
            let into: Vec<_> = (0..attention[l - 1].len()).map(|b| (l - 1, b)).collect();
            into.iter()
                .for_each(|&(m, b)| gradient[m][b] += cost * others(&into, (m, b)));
        }
        if l + 1 < last {
            let out = leaving(l + 1);
            out.iter()
                .for_each(|&(m, b)| gradient[m][b] += cost * others(&out, (m, b)));
        }
    }
    (total, gradient)
}

fn on_scores(architecture: &Architecture, gradient: &Gradient) -> Gradient {
    architecture
        .layers
        .iter()
        .zip(gradient)
        .map(|(layer, g)| layer.score_gradient(g))
        .collect()
}

/// Asserts the gradient on the scores; where the published one is absent, ours is zero.
fn assert_gradient(
    student: &Architecture,
    on_attention: &Gradient,
    published: &GoldenGradient,
    tolerance: f64,
    what: &str,
) {
    let ours = on_scores(student, on_attention);
    for (l, layer) in ours.iter().enumerate() {
        let absent = vec![0.0; layer.len()];
        let published = published
            .as_ref()
            .and_then(|layers| layers[l].as_ref())
            .unwrap_or(&absent);
        for (ours, published) in layer.iter().zip(published) {
            assert!(
                (ours - published).abs() < tolerance,
                "{what}: layer {}: gradient {ours}, published {published}",
                l + 1
            );
        }
    }
}

/// Fails unless the reference's complexity of `student` and its gradient are the published ones, in double and in single
/// precision.
fn assert_reference(
    student: &Architecture,
    costs: &BlockCosts,
    values: [f64; 2],
    gradients: [&GoldenGradient; 2],
    what: &str,
) {
    let (value, gradient) = reference(student, costs);
    let single = format!("{what} in single precision");
    for (published, tolerance, what) in [(values[0], 1e-6, what), (values[1], 1e-5, &single)] {
        assert_close(value, published, tolerance, &format!("{what}: value"));
    }
    for (published, tolerance, what) in [(gradients[0], 1e-7, what), (gradients[1], 1e-6, &single)] {
        assert_gradient(student, &gradient, published, tolerance, what);
    }
}

#[test]
fn the_published_formula_gives_the_published_values_and_gradients() {
    for subject in SUBJECTS {
        for case in subject.golden().complexity_cases {
            let what = format!("{} {}", subject.name, case.name);
            let student = subject.student(&case.alphas_params, Some(&case.keep));
            assert_all_close(
                &student.attention(),
                &case.alphas,
                1e-7,
                &format!("{what}: attention"),
            );
            let costs = subject.paper_costs(&student);
            let values = [case.value_f64, case.value_f32];
            assert_reference(&student, &costs, values, [&case.grad_f64, &case.grad_f32], &what);
        }
    }
}

#[test]
fn pruned_networks_have_the_published_complexity() {
    for subject in SUBJECTS {
        let golden = subject.golden();
        for (index, case) in golden.threshold_cases.iter().enumerate() {
            let what = format!("{} threshold case {index}", subject.name);
            let student = subject.student(
                &golden.alphas_params_sets[&case.alphas_params_set],
                Some(&case.keep),
            );
            assert_all_close(
                &student.attention(),
                &case.alphas_after,
                1e-6,
                &format!("{what}: attention"),
            );
            let costs = subject.paper_costs(&student);
            let values = [case.complexity_f64, case.complexity_f32];
            assert_reference(&student, &costs, values, [&case.grad_f64, &case.grad_f32], &what);
        }
    }
}

const FORMS: [ComplexityForm; 2] = [ComplexityForm::Product, ComplexityForm::Paper];

/// What one-hot attention really costs, as a share of the backbone: the listened-to block of every node that the last
/// node listens to, directly or not.
fn true_cost(architecture: &Architecture, BlockCosts(costs): &BlockCosts) -> f64 {
    let attention = architecture.attention();
    let mut node = attention.len();
    let mut total = 0.0;
    while node > 0 {
        let block = attention[node - 1]
            .iter()
            .position(|a| *a > 0.5)
            .expect("one block is listened to");
        total += costs[node - 1][block];
        node = architecture.layers[node - 1].blocks[block].source;
    }
    total
}

/// A student in which every node listens to one block only.
fn one_hot() -> impl Strategy<Value = Architecture> {
    (
        any_student(),
        proptest::collection::vec(any::<prop::sample::Index>(), 16),
    )
        .prop_map(|(mut student, picks)| {
            for (layer, pick) in student.layers.iter_mut().zip(picks) {
                let chosen = pick.index(layer.blocks.len());
                layer.blocks.iter_mut().enumerate().for_each(|(b, block)| {
                    block.score = if b == chosen { 100.0 } else { -100.0 };
                });
            }
            student
        })
}

/// What a cost vector takes of a count.
type Measure = fn(Cost) -> f64;

const FLOPS: Measure = |cost| cost.flops as f64;
const PARAMS: Measure = |cost| cost.params as f64;

fn costs_of(architecture: &Architecture, measure: Measure) -> BlockCosts {
    BlockCosts::counted(architecture, &architecture.backbone.describe(), 64, measure)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn gradients_are_those_of_finite_differences(student in any_pruned(), form in prop::sample::select(&FORMS[..])) {
        let costs = costs_of(&student, FLOPS);
        let (_, gradient) = student.expected_complexity(form, &costs);
        let gradient = on_scores(&student, &gradient);
        for (l, layer) in gradient.iter().enumerate() {
            for (b, closed) in layer.iter().enumerate() {
                // Scores are f32: step by a power of two, and measure the step that was really taken.
                let moved = |by: f32| {
                    let mut moved = student.clone();
                    moved.layers[l].blocks[b].score += by;
                    (f64::from(moved.layers[l].blocks[b].score), moved.expected_complexity(form, &costs).0)
                };
                let ((up_at, up), (down_at, down)) = (moved(1.0 / 512.0), moved(-1.0 / 512.0));
                let numeric = (up - down) / (up_at - down_at);
                prop_assert!(
                    (numeric - closed).abs() < 2e-5,
                    "layer {} block {b}: {numeric} numerically, {closed} in closed form", l + 1,
                );
            }
        }
    }

    #[test]
    fn removed_blocks_have_no_gradient(student in any_pruned(), form in prop::sample::select(&FORMS[..])) {
        let (_, gradient) = student.expected_complexity(form, &costs_of(&student, PARAMS));
        for (layer, gradient) in student.layers.iter().zip(&gradient) {
            for (block, gradient) in layer.blocks.iter().zip(gradient) {
                prop_assert!(block.kept() || *gradient == 0.0);
            }
        }
    }

    #[test]
    fn product_lies_between_nothing_and_everything(student in any_pruned()) {
        for measure in [FLOPS, PARAMS] {
            let costs = costs_of(&student, measure);
            let kept = |layer: usize| {
                let blocks = student.layers[layer].blocks.iter().zip(&costs.0[layer]);
                blocks.filter(|(block, _)| block.kept()).map(|(_, cost)| *cost)
            };
            let everything: f64 = (0..student.layers.len()).flat_map(kept).sum();
            let proxies: f64 = costs.0.iter().flat_map(|layer| &layer[1..]).sum();
            // Attention shares one block's worth among all into a node: no layer counts more than its dearest block.
            let dearest: f64 = (0..student.layers.len()).map(|layer| kept(layer).fold(0.0, f64::max)).sum();
            let (value, _) = student.expected_complexity(ComplexityForm::Product, &costs);
            prop_assert!((0.0..=dearest + 1e-12).contains(&value), "{value} of {dearest}");
            prop_assert!(dearest <= everything + 1e-12);
            prop_assert!(everything <= 1.0 + proxies, "{everything} of the backbone and {proxies} of proxies");
        }
    }
}

proptest! {
    #[test]
    fn product_equals_the_true_cost_at_one_hot_attention(student in one_hot()) {
        let costs = costs_of(&student, FLOPS);
        let cost = true_cost(&student, &costs);
        // Once what nobody listens to is pruned away, the equality is exact.
        let ignored = student.attention().iter().filter(|layer| layer[0] < 0.5).count();
        let pruned = student.prune(ignored, 0.5).expect("the last node listens to somebody");
        let (value, _) = pruned.expected_complexity(ComplexityForm::Product, &costs);
        prop_assert!((value - cost).abs() < 1e-12, "product {value}, true {cost}");

        // Before that, the form sees as far as one node: a block also counts if only an unused node listens to its target.
        let attention = student.attention();
        let on = |l: usize, b: usize| attention[l][b] > 0.5;
        let blocks = |l: usize| student.layers[l].blocks.iter().enumerate().map(move |(b, c)| (l, b, c.source));
        let listened: Vec<_> = (0..attention.len()).flat_map(blocks).filter(|&(l, b, _)| on(l, b)).collect();
        let used = |node: usize| node == attention.len() || listened.iter().any(|&(_, _, source)| source == node);
        let near: f64 = listened.iter().filter(|&&(l, _, _)| used(l + 1)).map(|&(l, b, _)| costs.0[l][b]).sum();
        let (value, _) = student.expected_complexity(ComplexityForm::Product, &costs);
        prop_assert!((value - near).abs() < 1e-12, "product {value}, one node far {near}");
        prop_assert!(near >= cost - 1e-12);
    }
}
