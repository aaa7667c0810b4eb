//! Expected complexity of an architecture under its attention, and its gradient (METHOD section 4), in closed form.

use serde::{Deserialize, Serialize};

use super::Architecture;
use crate::backbone::Backbone;
use crate::units::Cost;

/// Which formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComplexityForm {
    /// sum c * alpha * (1 - P_in) * (1 - P_out): bounded, exact for one-hot attention.
    Product,
    /// sum c * (alpha - P_in - P_out), the paper's equations 9 and 10; can go negative.
    Paper,
}

/// What a block's cost is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CostVector {
    /// Multiply-accumulates at the task's input size.
    Flops,
    /// Parameters.
    Params,
    /// Time of a forward pass, measured block by block on the worker's device at the training batch size and threads.
    Latency,
}

/// Cost of every block, by layer, as a share of the whole backbone (stem, mains, head convolution).
#[derive(Debug, Clone, PartialEq)]
pub struct BlockCosts(pub Vec<Vec<f64>>);

/// d E[C] / d alpha, by layer, in the order of the layer's blocks.
pub type Gradient = Vec<Vec<f64>>;

impl BlockCosts {
    /// The costs of `architecture`'s blocks for a square input of side `input`, in what `measure` takes of a count.
    pub fn counted(
        architecture: &Architecture,
        backbone: &Backbone,
        input: u32,
        measure: impl Fn(Cost) -> f64,
    ) -> Self {
        let whole = measure(backbone.cost(input));
        let mains = backbone.main_costs(input);
        let layers = architecture.layers.iter().enumerate().map(|(index, layer)| {
            let main = std::iter::once(measure(mains[index]));
            let proxies = layer.blocks[1..]
                .iter()
                .map(|b| measure(backbone.proxy(b.source, index + 1, input).cost()));
            main.chain(proxies).map(|cost| cost / whole).collect()
        });
        Self(layers.collect())
    }

    /// Costs that were measured in any one unit: of what is always there (stem, head convolution), and of every block by
    /// layer, the main block first.
    pub fn measured(fixed: f64, blocks: &[Vec<f64>]) -> Self {
        let mains: f64 = blocks.iter().filter_map(|layer| layer.first()).sum();
        let whole = fixed + mains;
        let share = |layer: &Vec<f64>| layer.iter().map(|cost| cost / whole).collect();
        Self(blocks.iter().map(share).collect())
    }
}

/// A kept block with the places of its numbers.
struct Edge {
    layer: usize,
    block: usize,
    source: usize,
    attention: f64,
    cost: f64,
}

impl Edge {
    fn target(&self) -> usize {
        self.layer + 1
    }
}

impl Architecture {
    /// E[C] and its gradient on the attention. Removed blocks contribute nothing and get gradient 0.
    pub fn expected_complexity(&self, form: ComplexityForm, costs: &BlockCosts) -> (f64, Gradient) {
        let edges = self.edges(costs);
        let last = self.layers.len();
        // Probability that every block into (out of) a node is switched off, over all edges but `without`.
        let off = |selected: &dyn Fn(&Edge) -> bool, without: Option<&Edge>| -> f64 {
            let others = |e: &&Edge| without.is_none_or(|w| !std::ptr::eq(w, *e));
            edges
                .iter()
                .filter(|e| selected(e))
                .filter(others)
                .map(|e| 1.0 - e.attention)
                .product()
        };
        let p_in: Vec<f64> = (0..=last)
            .map(|n| {
                if n == 0 {
                    0.0
                } else {
                    off(&|e| e.target() == n, None)
                }
            })
            .collect();
        let p_out: Vec<f64> = (0..=last)
            .map(|n| {
                if n == last {
                    0.0
                } else {
                    off(&|e| e.source == n, None)
                }
            })
            .collect();

        let value = |e: &Edge| match form {
            ComplexityForm::Product => {
                e.cost * e.attention * (1.0 - p_in[e.source]) * (1.0 - p_out[e.target()])
            }
            ComplexityForm::Paper => e.cost * (e.attention - p_in[e.source] - p_out[e.target()]),
        };
        let total = edges.iter().map(value).sum();

        // Weight with which P_in(n) (P_out(n)) enters the total, negated: d total / d P = -weight.
        let mut weight_in = vec![0.0; last + 1];
        let mut weight_out = vec![0.0; last + 1];
        for e in &edges {
            let (s, t) = (e.source, e.target());
            weight_in[s] += match form {
                ComplexityForm::Product => e.cost * e.attention * (1.0 - p_out[t]),
                ComplexityForm::Paper => e.cost,
            };
            weight_out[t] += match form {
                ComplexityForm::Product => e.cost * e.attention * (1.0 - p_in[s]),
                ComplexityForm::Paper => e.cost,
            };
        }

        let mut gradient: Gradient = self
            .layers
            .iter()
            .map(|layer| vec![0.0; layer.blocks.len()])
            .collect();
        for e in &edges {
            let (s, t) = (e.source, e.target());
            let own = match form {
                ComplexityForm::Product => e.cost * (1.0 - p_in[s]) * (1.0 - p_out[t]),
                ComplexityForm::Paper => e.cost,
            };
            // P_in(target) and P_out(source) fall as this block's attention rises; -d P / d alpha = product of the rest.
            let raises_in = weight_in[t] * off(&|o| o.target() == t, Some(e));
            let raises_out = weight_out[s] * off(&|o| o.source == s, Some(e));
            gradient[e.layer][e.block] = own + raises_in + raises_out;
        }
        (total, gradient)
    }

    fn edges(&self, costs: &BlockCosts) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (layer, (attention, (blocks, costs))) in self
            .attention()
            .iter()
            .zip(self.layers.iter().zip(&costs.0))
            .enumerate()
        {
            for (block, candidate) in blocks.blocks.iter().enumerate().filter(|(_, b)| b.kept()) {
                let (attention, cost) = (attention[block], costs[block]);
                edges.push(Edge {
                    layer,
                    block,
                    source: candidate.source,
                    attention,
                    cost,
                });
            }
        }
        edges
    }
}
