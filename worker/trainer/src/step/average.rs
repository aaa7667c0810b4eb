//! An exponential moving average of what a learner trains: what is evaluated and kept, where a task asks for one.

use nettailor_domain::architecture::Architecture;
use tch::Tensor;

use crate::model::{Network, Role};

/// The averages of a network's tensors and scores. Early on it forgets faster, so that the initial values fade.
#[derive(Debug)]
pub(super) struct Averages {
    decay: f64,
    steps: u64,
    /// The tensors in training, and their averages.
    tensors: Vec<(Tensor, Tensor)>,
    scores: Vec<Vec<f32>>,
}

impl Averages {
    /// Of everything that training moves in `network`, running statistics and scores included, with this decay per step;
    /// none for a decay of 0.
    pub(super) fn new(decay: f64, network: &Network) -> Result<Option<Self>, tch::TchError> {
        if decay == 0.0 {
            return Ok(None);
        }
        let pair =
            |tensor: &Tensor| Ok::<_, tch::TchError>((tensor.shallow_clone(), tensor.f_detach_copy()?));
        let moving = network
            .variables
            .iter()
            .filter(|variable| variable.role != Role::Frozen)
            .map(|variable| &variable.tensor);
        Ok(Some(Self {
            decay,
            steps: 0,
            tensors: moving.map(pair).collect::<Result<_, _>>()?,
            scores: scores(&network.architecture),
        }))
    }

    /// Takes in what the last step left.
    pub(super) fn update(&mut self, architecture: &Architecture) -> Result<(), tch::TchError> {
        self.steps += 1;
        let warm_up = (1.0 + self.steps as f64) / (10.0 + self.steps as f64);
        let fresh = 1.0 - self.decay.min(warm_up);
        tch::no_grad(|| {
            for (tensor, average) in &mut self.tensors {
                let _moved = average.f_lerp_(tensor, fresh)?;
            }
            Ok::<(), tch::TchError>(())
        })?;
        let now = scores(architecture);
        for (average, now) in self.scores.iter_mut().flatten().zip(now.into_iter().flatten()) {
            *average += fresh as f32 * (now - *average);
        }
        Ok(())
    }

    /// Puts the averages in the place of the values in training, and those where the averages were.
    pub(super) fn exchange(&mut self, architecture: &mut Architecture) -> Result<(), tch::TchError> {
        tch::no_grad(|| {
            for (tensor, average) in &mut self.tensors {
                let kept = tensor.f_detach_copy()?;
                tensor.f_copy_(average)?;
                average.f_copy_(&kept)?;
            }
            Ok::<(), tch::TchError>(())
        })?;
        let places = architecture.layers.iter_mut().flat_map(|layer| &mut layer.blocks);
        for (block, average) in places.zip(self.scores.iter_mut().flatten()) {
            std::mem::swap(&mut block.score, average);
        }
        Ok(())
    }

    /// The averages of the tensors, in the network's order.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.iter().map(|(_, average)| average)
    }

    /// Those of the scores, by layer.
    pub(super) fn scores(&self) -> &[Vec<f32>] {
        &self.scores
    }

    /// The same, to go on from others.
    pub(super) fn scores_mut(&mut self) -> &mut [Vec<f32>] {
        &mut self.scores
    }

    /// Goes on as if it had taken in this many steps.
    pub(super) fn resume(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// Puts the averages in the place of the values in training, and begins anew from them.
    pub(super) fn keep(&mut self, architecture: &mut Architecture) -> Result<(), tch::TchError> {
        self.steps = 0;
        tch::no_grad(|| {
            let mut pairs = self.tensors.iter_mut();
            pairs.try_for_each(|(tensor, average)| tensor.f_copy_(average))
        })?;
        let places = architecture.layers.iter_mut().flat_map(|layer| &mut layer.blocks);
        for (block, average) in places.zip(self.scores.iter().flatten()) {
            block.score = *average;
        }
        Ok(())
    }
}

fn scores(architecture: &Architecture) -> Vec<Vec<f32>> {
    let layers = architecture.layers.iter();
    layers
        .map(|layer| layer.blocks.iter().map(|block| block.score).collect())
        .collect()
}
