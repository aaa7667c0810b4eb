//! The teacher's step: every tensor of the network, cross-entropy.
//!
//! The graph is cut where a bucket of gradients ends, so that it travels while the layers before it are still being walked.

use nettailor_collective::Collective;
use tch::Tensor;

use super::exchange::{self, Exchange};
use super::graph::{Graph, defined};
use super::lesson::Part;
use super::sgd::Sgd;
use super::tape::Cut;
use super::{Averages, Error, Learner, LearnerSettings, Losses, Moment, State, cross_entropy};
use crate::model::{self, Mode, Network, Synchronised};

/// Bytes of a teacher's bucket: as many as a network's bandwidth wants, and few enough cuts to cost nothing.
const BUCKET: usize = 25 << 20;

/// Trains a whole network without proxies, as one rank of a gang.
pub struct TeacherLearner<'a> {
    network: Network,
    gang: &'a dyn Collective,
    synchronised: Option<Synchronised<'a>>,
    label_smoothing: f64,
    exchange: Exchange<'a>,
    sgd: Sgd,
    averages: Option<Averages>,
}

impl<'a> TeacherLearner<'a> {
    /// Trains every tensor of `network` that has the role for it, under a cross-entropy with this label smoothing. All
    /// ranks start from what rank 0 has.
    pub fn new(
        network: Network,
        settings: LearnerSettings,
        label_smoothing: f64,
        gang: &'a dyn Collective,
    ) -> Result<Self, Error> {
        debug_assert!(network.layers.iter().all(|layer| layer.skips.is_empty()));
        exchange::join(gang, &network)?;
        Ok(Self {
            gang,
            synchronised: settings.exchange.synchronised(gang),
            label_smoothing,
            exchange: Exchange::new(gang, &network, settings.exchange, BUCKET)?,
            sgd: Sgd::new(settings.sgd, network.variables.trained_tensors()),
            averages: Averages::new(settings.ema, &network)?,
            network,
        })
    }

    /// The network as trained so far.
    pub fn into_network(self) -> Network {
        self.network
    }

    /// Cross-entropy of a part of a batch times `weight`; its gradients go into the exchange.
    fn descend(&mut self, part: Part<'_>, weight: f64) -> Result<f64, Error> {
        let mode = match &self.synchronised {
            Some(gang) => Mode::TRAIN.over(gang),
            None => Mode::TRAIN,
        };
        let mode = mode.for_batch(part.len(), part.whole);
        let (logits, cuts) = forward(&self.network, part.images, &self.exchange, mode)?;
        let loss = cross_entropy(&logits, part.labels, self.label_smoothing)?.f_mul_scalar(weight)?;
        drop(logits);
        let value = loss.f_double_value(&[])?;
        backward(&self.network, Graph::new(loss, mode), cuts, &mut self.exchange)?;
        Ok(value)
    }
}

/// Images to logits, and the cuts: before each stretch with which a bucket begins.
fn forward<'a>(
    network: &Network,
    images: &Tensor,
    exchange: &Exchange<'_>,
    mode: Mode<'a>,
) -> Result<(Tensor, Vec<(usize, Cut<'a>)>), Error> {
    let mut cuts = Vec::new();
    let mut x = network.stem(images, mode)?;
    for stretch in 1..=network.layers.len() + 1 {
        if exchange.firsts().any(|first| first == stretch) {
            let cut = Cut::new(x, mode)?;
            x = cut.leaf.shallow_clone();
            cuts.push((stretch, cut));
        }
        x = match network.layers.get(stretch - 1) {
            Some(layer) => {
                let main = layer
                    .main
                    .as_ref()
                    .map(|main| main.forward(&x, mode))
                    .transpose()?;
                let merged = layer.combine(main.as_ref(), &[], None, mode)?;
                merged.ok_or(model::Error::Disconnected)?
            }
            None => network.head(&x, mode)?,
        };
    }
    Ok((x, cuts))
}

/// From the loss to the images, one graph after the other; each one's gradients are complete then.
fn backward<'a>(
    network: &Network,
    loss: Graph<'a>,
    mut cuts: Vec<(usize, Cut<'a>)>,
    exchange: &mut Exchange<'_>,
) -> Result<(), Error> {
    let stretches = network.stretches();
    let mut gradients: Vec<Option<Tensor>> = (0..network.variables.len()).map(|_| None).collect();
    let (mut graph, mut cotangent) = (loss, None);
    let mut end = network.variables.len();
    loop {
        let cut = cuts.pop();
        let first = cut.as_ref().map_or(0, |(stretch, _)| *stretch);
        let trained = network.variables.trained(stretches[first].start..end);
        let tensors = trained.iter().map(|index| &network.variables.get(*index).tensor);
        let leaf = cut
            .iter()
            .map(|(_, cut)| &cut.leaf)
            .filter(|leaf| leaf.requires_grad());
        let inputs: Vec<&Tensor> = tensors.chain(leaf).collect();
        let mut found = graph.gradients(cotangent.as_ref(), &inputs, false)?;
        let on_leaf = found.split_off(trained.len());
        for (index, gradient) in trained.iter().zip(&found) {
            gradients[*index] = defined(gradient);
        }
        exchange.complete(first, &mut gradients)?;
        let Some((_, cut)) = cut else {
            return Ok(());
        };
        cotangent = on_leaf.first().and_then(defined);
        (graph, end) = (cut.graph, stretches[first].start);
    }
}

impl Learner for TeacherLearner<'_> {
    fn step(&mut self, part: Part<'_>, at: Moment) -> Result<Losses, Error> {
        let weight = part.weight(self.gang.world_size());
        let mut measured = [self.descend(part, weight)?];
        let gradients = self.exchange.finish(&mut measured)?;
        let [value] = measured;
        // The same number on every rank: they all go on, or none does.
        if !value.is_finite() {
            return Err(Error::Diverged { loss: value });
        }
        self.sgd.step(&gradients, at.learning_rate)?;
        if let Some(averages) = &mut self.averages {
            averages.update(&self.network.architecture)?;
        }
        Ok(Losses {
            total: value,
            cross_entropy: value,
            hint: 0.0,
            complexity: 0.0,
        })
    }

    fn exchange_averages(&mut self) -> Result<(), Error> {
        if let Some(averages) = &mut self.averages {
            averages.exchange(&mut self.network.architecture)?;
        }
        Ok(())
    }

    fn keep_averages(&mut self) -> Result<(), Error> {
        if let Some(averages) = &mut self.averages {
            averages.keep(&mut self.network.architecture)?;
        }
        Ok(())
    }

    fn networks(&self) -> Vec<&Network> {
        vec![&self.network]
    }

    fn state(&self) -> Result<State, Error> {
        Ok(State::of(&self.network, &self.sgd, self.averages.as_ref()))
    }

    fn restore(&mut self, state: &State, steps: u64) -> Result<(), Error> {
        state.restore(&self.network, &mut self.sgd, self.averages.as_mut())?;
        if let Some(averages) = &mut self.averages {
            averages.resume(steps);
        }
        Ok(())
    }
}
