//! Layer-local autograd graphs: the student's forward pass cut at every node, main block and pooled source.
//!
//! Between two cuts lies a small graph of its own. Going backwards layer by layer, each graph is entered with the
//! cotangents that belong to it and freed. That is what lets a hint reach a layer's own parameters and nothing else
//! without running a universal block twice: the main block's output is a leaf of the layer's merging graph, and the
//! block's own graph is entered with the task's cotangent only.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tch::Tensor;

use super::Error;
use super::graph::{Graph, defined};
use crate::model::block::pool;
use crate::model::layer::Layer;
use crate::model::{self, Mode, Network};

/// A value where the graph is cut. Downstream graphs read `leaf`; `graph` is the upstream one.
pub(super) struct Cut<'a> {
    pub(super) graph: Graph<'a>,
    pub(super) leaf: Tensor,
}

impl<'a> Cut<'a> {
    /// Ends a graph in `value`. Its leaf has a gradient where the value has one.
    pub(super) fn new(value: Tensor, mode: Mode<'a>) -> Result<Self, tch::TchError> {
        let leaf = value.f_detach()?.f_set_requires_grad(value.requires_grad())?;
        let graph = Graph::new(value, mode);
        Ok(Self { graph, leaf })
    }
}

/// One layer's graphs.
struct LayerTape<'a> {
    /// The main block's output; its leaf enters the merging graph.
    main: Option<Cut<'a>>,
    /// Keys of the pooled sources, for skips whose source is there.
    pooled: Vec<Option<(usize, i64)>>,
    attention: Option<Tensor>,
}

/// The forward pass of a student, ready to be walked backwards.
pub(super) struct Tape<'a> {
    network: &'a Network,
    layers: Vec<LayerTape<'a>>,
    /// Nodes 0..=L.
    nodes: Vec<Option<Cut<'a>>>,
    pools: HashMap<(usize, i64), Cut<'a>>,
}

/// What a step's backward pass found.
#[derive(Debug)]
pub struct Gradients {
    /// By variable index; `None` for tensors that are not trained or did not take part.
    pub tensors: Vec<Option<Tensor>>,
    /// On the attention, by layer and block; zero where it is no variable.
    pub attention: Vec<Vec<f64>>,
}

impl Gradients {
    /// Of `network`, before anything was found.
    pub(super) fn none(network: &Network) -> Self {
        let layers = network.architecture.layers.iter();
        Self {
            tensors: (0..network.variables.len()).map(|_| None).collect(),
            attention: layers.map(|layer| vec![0.0; layer.blocks.len()]).collect(),
        }
    }
}

/// Which cotangents go where.
pub(super) struct Pull {
    /// What the task's loss asks of the node; `None` where nothing downstream reads it.
    pub task: Option<Tensor>,
    /// What the node's hint asks of it.
    pub hint: Option<Tensor>,
    /// Whether the hint reaches the layer's inputs too.
    pub end_to_end: bool,
}

impl<'a> Tape<'a> {
    /// Runs the network up to its last node.
    pub(super) fn forward(network: &'a Network, images: &Tensor, mode: Mode<'a>) -> Result<Self, Error> {
        let count = network.layers.len();
        let stem = tch::no_grad(|| network.stem(images, mode))?;
        let nodes = vec![Some(Cut::new(stem, mode)?)];
        let mut tape = Self {
            network,
            layers: Vec::with_capacity(count),
            nodes,
            pools: HashMap::new(),
        };
        for (layer, attention) in network.layers.iter().zip(network.attention(true)?) {
            let (tape_of_layer, value) = tape.layer(layer, attention, mode)?;
            tape.layers.push(tape_of_layer);
            tape.nodes
                .push(value.map(|value| Cut::new(value, mode)).transpose()?);
        }
        Ok(tape)
    }

    fn layer(
        &mut self,
        layer: &Layer,
        attention: Option<Tensor>,
        mode: Mode<'a>,
    ) -> Result<(LayerTape<'a>, Option<Tensor>), Error> {
        let main = match (&layer.main, &self.nodes[layer.number - 1]) {
            (Some(block), Some(source)) => {
                // A leaf even where no gradient goes further: the attention's gradient needs the value only.
                Some(Cut::new(block.forward(&source.leaf, mode)?, mode)?)
            }
            _ => None,
        };
        let mut keys = Vec::with_capacity(layer.skips.len());
        for skip in &layer.skips {
            let key = (skip.source, skip.proxy.side);
            let Some(source) = &self.nodes[skip.source] else {
                keys.push(None);
                continue;
            };
            if let Entry::Vacant(place) = self.pools.entry(key) {
                let pooled = pool(&source.leaf, skip.proxy.side)?;
                place.insert(Cut::new(pooled, mode)?);
            }
            keys.push(Some(key));
        }
        let pooled: Vec<Option<Tensor>> = keys
            .iter()
            .map(|key| key.as_ref().map(|key| self.pools[key].leaf.shallow_clone()))
            .collect();
        let main_leaf = main.as_ref().map(|cut| &cut.leaf);
        let value = layer.combine(main_leaf, &pooled, attention.as_ref(), mode)?;
        Ok((
            LayerTape {
                main,
                pooled: keys,
                attention,
            },
            value,
        ))
    }

    /// The last node.
    pub(super) fn last(&self) -> Result<&Tensor, Error> {
        let last = self
            .nodes
            .last()
            .and_then(Option::as_ref)
            .ok_or(model::Error::Disconnected)?;
        Ok(&last.leaf)
    }

    /// Walks back. `last` is the task's cotangent of the last node; `pull(l, x_l, task)` says what to do with node l.
    /// `gradients` already holds the head's. `done(l, gradients)` is told, layer by layer, that nothing more will come for
    /// layer l's variables.
    pub(super) fn backward(
        mut self,
        last: Option<Tensor>,
        mut gradients: Gradients,
        mut pull: impl FnMut(usize, &Tensor, Option<Tensor>) -> Result<Pull, Error>,
        done: &mut dyn FnMut(usize, &mut Gradients) -> Result<(), Error>,
    ) -> Result<Gradients, Error> {
        let count = self.layers.len();
        let mut cotangents = Cotangents {
            nodes: (0..=count).map(|_| None).collect(),
            pools: HashMap::new(),
        };
        cotangents.nodes[count] = last;
        while let Some(tape) = self.layers.pop() {
            let number = self.layers.len() + 1;
            // Everything that reads node l has been walked: what its pools collected can flow into it.
            self.unpool(number, &mut cotangents, &mut gradients)?;
            if let Some(node) = self.nodes[number].take() {
                let asked = pull(number, &node.leaf, cotangents.nodes[number].take())?;
                if node.leaf.requires_grad() {
                    let layer = &self.network.layers[number - 1];
                    self.walk(layer, tape, &node.graph, asked, &mut cotangents, &mut gradients)?;
                }
            }
            done(number, &mut gradients)?;
        }
        Ok(gradients)
    }

    /// Enters layer `layer`'s graphs with the cotangents of its node.
    fn walk(
        &self,
        layer: &Layer,
        tape: LayerTape<'_>,
        graph: &Graph<'_>,
        asked: Pull,
        cotangents: &mut Cotangents,
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        let mut keys: Vec<(usize, i64)> = tape.pooled.iter().flatten().copied().collect();
        keys.sort_unstable();
        keys.dedup();
        let inputs = tape.main.iter().map(|cut| (None, &cut.leaf));
        let inputs = inputs.chain(keys.iter().map(|key| (Some(*key), &self.pools[key].leaf)));
        let inputs: Vec<(Option<(usize, i64)>, &Tensor)> =
            inputs.filter(|(_, leaf)| leaf.requires_grad()).collect();
        let trained = self.network.variables.trained(layer.own.clone());
        let mut own: Vec<Tensor> = trained
            .iter()
            .map(|index| self.network.variables.get(*index).tensor.shallow_clone())
            .collect();
        own.extend(tape.attention.iter().map(Tensor::shallow_clone));

        let leaves: Vec<&Tensor> = inputs.iter().map(|(_, leaf)| *leaf).collect();
        let (on_inputs, on_own) = split(graph, asked, &leaves, &own.iter().collect::<Vec<_>>())?;

        for (index, gradient) in trained.iter().zip(&on_own) {
            gradients.tensors[*index] = defined(gradient);
        }
        if let (Some(_), Some(gradient)) = (&tape.attention, on_own.last().and_then(defined)) {
            gradients.attention[layer.number - 1] = Vec::try_from(&gradient)?;
        }
        for ((key, _), gradient) in inputs.iter().zip(&on_inputs) {
            let Some(gradient) = defined(gradient) else {
                continue;
            };
            match (key, &tape.main) {
                (Some(key), _) => accumulate(cotangents.pools.entry(*key).or_default(), gradient)?,
                (None, Some(main)) => {
                    let own = self.network.variables.trained(layer.universal.clone());
                    let source = layer.number - 1;
                    self.flow(&main.graph, source, gradient, cotangents, &own, gradients)?;
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Lets what the pools of node `node` collected flow into it.
    fn unpool(
        &mut self,
        node: usize,
        cotangents: &mut Cotangents,
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        let mut keys: Vec<(usize, i64)> = self.pools.keys().filter(|key| key.0 == node).copied().collect();
        keys.sort_unstable();
        for key in keys {
            let Some(pooled) = self.pools.remove(&key) else {
                continue;
            };
            let Some(gradient) = cotangents.pools.remove(&key).flatten() else {
                continue;
            };
            self.flow(&pooled.graph, node, gradient, cotangents, &[], gradients)?;
        }
        Ok(())
    }

    /// Through the graph that starts at node `node` and trains the variables `own`.
    fn flow(
        &self,
        graph: &Graph<'_>,
        node: usize,
        cotangent: Tensor,
        to: &mut Cotangents,
        own: &[usize],
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        let Some(source) = &self.nodes[node] else {
            return Ok(());
        };
        let flowed = if graph.end().is_leaf() {
            // Nothing was computed (a source at its target's side): the value is the node.
            Some(cotangent)
        } else {
            let variables = own.iter().map(|index| &self.network.variables.get(*index).tensor);
            let leaf = source.leaf.requires_grad().then_some(&source.leaf);
            let inputs: Vec<&Tensor> = variables.chain(leaf).collect();
            let mut found = graph.gradients(Some(&cotangent), &inputs, false)?;
            let on_source = found.split_off(own.len());
            for (index, gradient) in own.iter().zip(&found) {
                gradients.tensors[*index] = defined(gradient);
            }
            on_source.first().and_then(defined)
        };
        match flowed {
            Some(gradient) => Ok(accumulate(&mut to.nodes[node], gradient)?),
            None => Ok(()),
        }
    }
}

/// What has arrived at nodes and pooled sources so far.
struct Cotangents {
    nodes: Vec<Option<Tensor>>,
    pools: HashMap<(usize, i64), Option<Tensor>>,
}

/// Gradients on a merging graph's inputs and on the layer's own parameters.
fn split(
    graph: &Graph<'_>,
    asked: Pull,
    inputs: &[&Tensor],
    own: &[&Tensor],
) -> Result<(Vec<Tensor>, Vec<Tensor>), Error> {
    let both = match (&asked.task, &asked.hint) {
        (Some(task), Some(hint)) => Some(task.f_add(hint)?),
        (Some(one), None) | (None, Some(one)) => Some(one.shallow_clone()),
        (None, None) => None,
    };
    let Some(both) = both else {
        return Ok((Vec::new(), Vec::new()));
    };
    if asked.hint.is_none() || asked.end_to_end {
        let all: Vec<&Tensor> = inputs.iter().chain(own).copied().collect();
        let mut on_inputs = graph.gradients(Some(&both), &all, false)?;
        let on_own = on_inputs.split_off(inputs.len());
        return Ok((on_inputs, on_own));
    }
    let on_inputs = match &asked.task {
        Some(task) => graph.gradients(Some(task), inputs, true)?,
        None => Vec::new(),
    };
    Ok((on_inputs, graph.gradients(Some(&both), own, false)?))
}

fn accumulate(sum: &mut Option<Tensor>, part: Tensor) -> Result<(), tch::TchError> {
    *sum = Some(match sum.take() {
        Some(sum) => sum.f_add(&part)?,
        None => part,
    });
    Ok(())
}
