//! Pruning: remove by rank, then everything that became unreachable or useless (METHOD section 6).

use super::{Architecture, Fate};

/// Why a number of removed main blocks leaves no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Infeasible {
    /// No path leads from the stem to the last node.
    #[error("removing {k} main blocks leaves no path from the stem to the last node")]
    Disconnected {
        /// Main blocks asked to be removed.
        k: usize,
    },
    /// More main blocks than there are.
    #[error("cannot remove {k} main blocks: the backbone has {layers}")]
    TooMany {
        /// Main blocks asked to be removed.
        k: usize,
        /// Main blocks of the backbone.
        layers: usize,
    },
}

impl Architecture {
    /// Removes the `k` main blocks of lowest attention (ties: the earlier layer goes first) and all proxies whose
    /// attention is below `threshold`; then every block whose source or target is dead.
    ///
    /// Ranks are read from this architecture's own attention, so it must not have been pruned before.
    pub fn prune(&self, k: usize, threshold: f64) -> Result<Self, Infeasible> {
        let layers = self.layers.len();
        if k > layers {
            return Err(Infeasible::TooMany { k, layers });
        }
        let attention = self.attention();
        let mut ranked: Vec<usize> = (0..layers).collect();
        ranked.sort_by(|a, b| attention[*a][0].total_cmp(&attention[*b][0]));

        let mut pruned = self.clone();
        for &layer in &ranked[..k] {
            pruned.layers[layer].blocks[0].fate = Fate::RemovedByRank;
        }
        for (layer, attention) in pruned.layers.iter_mut().zip(&attention) {
            for (block, _) in layer
                .blocks
                .iter_mut()
                .zip(attention)
                .skip(1)
                .filter(|(_, a)| **a < threshold)
            {
                block.fate = Fate::RemovedByRank;
            }
        }
        pruned.exclude_dead();
        if pruned.node_live(layers) {
            Ok(pruned)
        } else {
            Err(Infeasible::Disconnected { k })
        }
    }

    /// Deletes every kept block unless its source is reachable from the stem and its target reaches the last node.
    fn exclude_dead(&mut self) {
        let last = self.layers.len();
        let mut reachable = vec![false; last + 1];
        reachable[0] = true;
        for node in 1..=last {
            reachable[node] = self.layers[node - 1]
                .blocks
                .iter()
                .any(|b| b.kept() && reachable[b.source]);
        }
        let mut useful = vec![false; last + 1];
        useful[last] = true;
        for node in (1..=last).rev() {
            if useful[node] && reachable[node] {
                for block in self.layers[node - 1].blocks.iter().filter(|b| b.kept()) {
                    useful[block.source] = true;
                }
            }
        }
        for (index, layer) in self.layers.iter_mut().enumerate() {
            for block in layer.blocks.iter_mut().filter(|b| b.kept()) {
                if !(reachable[block.source] && useful[index + 1]) {
                    block.fate = Fate::RemovedByExclusion;
                }
            }
        }
    }
}
