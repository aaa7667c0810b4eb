//! The teacher's step: every tensor of the network, cross-entropy, one autograd graph.

use nettailor_collective::Collective;
use tch::Tensor;

use super::sgd::Sgd;
use super::tape::defined;
use super::{Averages, Error, Learner, LearnerSettings, Losses, Moment, cross_entropy};
use crate::model::{Mode, Network};

/// Trains a whole network.
pub struct TeacherLearner<'a> {
    network: Network,
    gang: &'a dyn Collective,
    label_smoothing: f64,
    trained: Vec<Tensor>,
    sgd: Sgd,
    averages: Option<Averages>,
}

impl<'a> TeacherLearner<'a> {
    /// Trains every tensor of `network` that has the role for it, under a cross-entropy with this label smoothing.
    pub fn new(
        network: Network,
        settings: LearnerSettings,
        label_smoothing: f64,
        gang: &'a dyn Collective,
    ) -> Result<Self, Error> {
        let indices = network.variables.trained(0..network.variables.len());
        let trained: Vec<Tensor> = indices
            .into_iter()
            .map(|index| network.variables.get(index).tensor.shallow_clone())
            .collect();
        let averages = Averages::new(settings.ema, &network)?;
        let sgd = Sgd::new(settings.sgd, trained.iter().map(Tensor::shallow_clone).collect());
        Ok(Self {
            network,
            gang,
            label_smoothing,
            trained,
            sgd,
            averages,
        })
    }

    /// The network as trained so far.
    pub fn into_network(self) -> Network {
        self.network
    }
}

impl Learner for TeacherLearner<'_> {
    fn step(&mut self, images: &Tensor, labels: &Tensor, at: Moment) -> Result<Losses, Error> {
        let forward = self
            .network
            .forward(images, Mode::TRAIN.for_batch(images.size()[0]))?;
        let loss = cross_entropy(&forward.logits, labels, self.label_smoothing)?;
        let value = loss.f_double_value(&[])?;
        if !value.is_finite() {
            return Err(Error::Diverged { loss: value });
        }
        let found = Tensor::f_run_backward(&[loss], &self.trained, false, false)?;
        drop(forward);
        let found: Vec<Option<Tensor>> = found.iter().map(defined).collect();
        let all: Vec<Tensor> = found.iter().flatten().map(Tensor::shallow_clone).collect();
        self.gang.all_reduce_mean(&all)?;
        self.sgd.step(&found, at.learning_rate)?;
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
}
