//! A task's network as plain numbers: which blocks it keeps, and how much it listens to each.
//!
//! [`Architecture::new`] is the student before training. Training changes the scores; [`Architecture::prune`] changes
//! the fates; [`Architecture::counts`] says what is left to pay for. The trainer builds its modules from this type, the
//! registry stores it, and the picture is drawn from it.

mod complexity;
mod counts;
mod prune;
mod select;

use serde::{Deserialize, Serialize};

use crate::backbone::{Backbone, BackboneName};

pub use complexity::{BlockCosts, ComplexityForm, CostVector, Gradient};
pub use counts::Counts;
pub use prune::Infeasible;
pub use select::{CandidateScore, Selection, reaches, select};

/// Score of a main block before training.
pub const MAIN_SCORE: f32 = 2.0;
/// Score of a proxy before training.
pub const PROXY_SCORE: f32 = -2.0;

/// Whether a block is in the network, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Part of the network.
    Kept,
    /// Removed because its attention was low (proxies) or among the k lowest (mains).
    RemovedByRank,
    /// Removed because its source or its target was dead.
    RemovedByExclusion,
}

/// One block into a node: the main block (first of its layer) or a proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The node it reads, s.
    pub source: usize,
    /// Its raw score, a.
    pub score: f32,
    /// Whether it is in the network.
    pub fate: Fate,
}

impl Candidate {
    /// Whether the block is part of the network.
    pub fn kept(&self) -> bool {
        self.fate == Fate::Kept
    }
}

/// Everything that merges into node l.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The main block first, then the proxies, nearest source first.
    pub blocks: Vec<Candidate>,
}

impl Layer {
    /// Whether anything is left of the layer.
    pub fn live(&self) -> bool {
        self.blocks.iter().any(Candidate::kept)
    }

    /// Attention: the softmax of the scores over the kept blocks, 0 for removed ones.
    pub fn attention(&self) -> Vec<f64> {
        let kept = || self.blocks.iter().filter(|block| block.kept());
        let top = kept()
            .map(|block| f64::from(block.score))
            .fold(f64::NEG_INFINITY, f64::max);
        let weight = |block: &Candidate| (f64::from(block.score) - top).exp();
        let total: f64 = kept().map(weight).sum();
        self.blocks
            .iter()
            .map(|block| if block.kept() { weight(block) / total } else { 0.0 })
            .collect()
    }

    /// Gradient on the scores for a gradient on the attention (zero where the block is removed).
    pub fn score_gradient(&self, attention_gradient: &[f64]) -> Vec<f64> {
        let attention = self.attention();
        let mean: f64 = attention.iter().zip(attention_gradient).map(|(a, g)| a * g).sum();
        attention
            .iter()
            .zip(attention_gradient)
            .map(|(a, g)| a * (g - mean))
            .collect()
    }
}

/// The network of one task over one backbone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// The shared backbone.
    pub backbone: BackboneName,
    /// Longest skip K: proxies come from up to K nodes back.
    pub max_skip: usize,
    /// Layers 1..=L.
    pub layers: Vec<Layer>,
}

impl Architecture {
    /// The student before training: all main blocks and all proxies, initial scores.
    pub fn new(backbone: &Backbone, max_skip: usize) -> Self {
        let block = |source, score| Candidate {
            source,
            score,
            fate: Fate::Kept,
        };
        let layers = (1..=backbone.layers())
            .map(|l| {
                let proxies = (l.saturating_sub(max_skip)..l)
                    .rev()
                    .map(|s| block(s, PROXY_SCORE));
                Layer {
                    blocks: std::iter::once(block(l - 1, MAIN_SCORE)).chain(proxies).collect(),
                }
            })
            .collect();
        Self {
            backbone: backbone.name,
            max_skip,
            layers,
        }
    }

    /// The backbone alone: every main block and no proxy, as the teacher is.
    pub fn backbone_only(backbone: &Backbone) -> Self {
        Self::new(backbone, 0)
    }

    /// Attention of every block, by layer.
    pub fn attention(&self) -> Vec<Vec<f64>> {
        self.layers.iter().map(Layer::attention).collect()
    }

    /// Whether node `node` (0..=L) is part of the network.
    pub fn node_live(&self, node: usize) -> bool {
        node == 0 || self.layers[node - 1].live()
    }

    /// The kept main blocks, as layer numbers from 1.
    pub fn kept_mains(&self) -> Vec<usize> {
        (1..=self.layers.len())
            .filter(|l| self.layers[l - 1].blocks[0].kept())
            .collect()
    }

    /// Number of kept proxies.
    pub fn kept_proxies(&self) -> usize {
        self.layers
            .iter()
            .flat_map(|layer| &layer.blocks[1..])
            .filter(|block| block.kept())
            .count()
    }
}
