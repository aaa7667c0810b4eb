//! The student's step: cross-entropy, hints, expected complexity.

use nettailor_collective::Collective;
use nettailor_domain::architecture::Architecture;
use nettailor_domain::task::{HintScale, Hints, StudentSettings};
use tch::{Kind, Tensor};

use super::sgd::{LearnerSettings, ScoreSgd, Sgd};
use super::tape::{Pull, Tape, defined};
use super::{Averages, Complexity, Error, Gradients, Losses, Moment, cross_entropy};
use crate::model::{Forward, Mode, Network};

/// Weights of the loss's terms and what they are computed from.
pub struct StudentLoss<'a> {
    /// Weight of the complexity, now.
    pub gamma1: f64,
    /// Weight of the hints.
    pub gamma2: f64,
    /// Which parameters a hint trains.
    pub hints: Hints,
    /// In what a hint measures distance.
    pub hint_scale: HintScale,
    /// Temperature of the logits' distillation; without one their hint is a node's.
    pub temperature: Option<f64>,
    /// Share of each label's probability that is spread over all classes.
    pub label_smoothing: f64,
    /// E[C] and its gradient.
    pub complexity: &'a Complexity<'a>,
    /// Expected complexity below which nothing is penalised.
    pub budget: Option<f64>,
}

/// Of a teacher's node, below which its hint counts nothing.
const LEAST_VARIANCE: f64 = 1e-6;

impl<'a> StudentLoss<'a> {
    /// As a task asks for it, with gamma1 at its full height.
    pub fn new(student: &StudentSettings, label_smoothing: f64, complexity: &'a Complexity<'a>) -> Self {
        Self {
            gamma1: student.gamma1,
            gamma2: student.gamma2,
            hints: student.hints,
            hint_scale: student.hint_scale,
            temperature: student.temperature,
            label_smoothing,
            complexity,
            budget: student.budget,
        }
    }

    /// What is penalised, and by how much each attention contributes: max(0, E[C] - budget) and its gradient.
    fn penalty(&self, architecture: &Architecture) -> (f64, f64, Vec<Vec<f64>>) {
        let (value, mut gradient) = (self.complexity)(architecture);
        let excess = value - self.budget.unwrap_or(0.0);
        if self.budget.is_some() && excess <= 0.0 {
            gradient.iter_mut().flatten().for_each(|g| *g = 0.0);
            return (value, 0.0, gradient);
        }
        (value, excess, gradient)
    }

    /// What a mean square of differences to `target` is multiplied by.
    fn scale(&self, target: &Tensor) -> Result<f64, tch::TchError> {
        Ok(match self.hint_scale {
            HintScale::Absolute => 1.0,
            HintScale::Relative => match target.f_var(false)?.f_double_value(&[])? {
                // A node that is the same everywhere has nothing to teach.
                variance if variance < LEAST_VARIANCE => 0.0,
                variance => 1.0 / variance,
            },
        })
    }

    /// The hint on the logits: T^2 KL(teacher || student) at temperature T, mean over the batch; or their distance.
    fn logits_hint(&self, logits: &Tensor, target: &Tensor) -> Result<Tensor, tch::TchError> {
        let Some(temperature) = self.temperature else {
            let distance = logits.f_mse_loss(target, tch::Reduction::Mean)?;
            return distance.f_mul_scalar(self.scale(target)?);
        };
        let soft = |logits: &Tensor| logits.f_div_scalar(temperature)?.f_log_softmax(1, Kind::Float);
        let (ours, theirs) = (soft(logits)?, soft(target)?);
        // Sum over classes, mean over images; the gradient of both entropies but ours is 0.
        let divergence = theirs.f_exp()?.f_mul(&theirs.f_sub(&ours)?)?.f_sum(Kind::Float)?;
        divergence.f_mul_scalar(temperature * temperature / logits.size()[0] as f64)
    }
}

/// Losses and gradients of one batch. `teacher` is the teacher's forward pass on the same images; without it there are no
/// hints. The network's running statistics move once.
pub fn gradients(
    network: &Network,
    images: &Tensor,
    labels: &Tensor,
    teacher: Option<&Forward>,
    loss: &StudentLoss<'_>,
    mode: Mode,
) -> Result<(Losses, Gradients), Error> {
    let tape = Tape::forward(network, images, mode.for_batch(images.size()[0]))?;
    let layers = network.layers.len() as f64;
    let weight = loss.gamma2 / layers;
    let mut hint_sum = 0.0;

    // Head: the hint on the logits belongs to them as much as the labels do, and flows on.
    let last = tape.last()?;
    let logits = network.head(last, mode.for_batch(images.size()[0]))?;
    let entropy = cross_entropy(&logits, labels, loss.label_smoothing)?;
    let mut objective = entropy.shallow_clone();
    if let Some(teacher) = teacher {
        let distance = loss.logits_hint(&logits, &teacher.logits)?;
        hint_sum += distance.f_double_value(&[])?;
        objective = objective.f_add(&distance.f_mul_scalar(weight)?)?;
    }
    let cross_entropy = entropy.f_double_value(&[])?;
    let mut found = Gradients {
        tensors: (0..network.variables.len()).map(|_| None).collect(),
        attention: network
            .architecture
            .layers
            .iter()
            .map(|layer| vec![0.0; layer.blocks.len()])
            .collect(),
    };
    let own = network.variables.trained(network.end.clone());
    let mut inputs: Vec<&Tensor> = own
        .iter()
        .map(|index| &network.variables.get(*index).tensor)
        .collect();
    if last.requires_grad() {
        inputs.push(last);
    }
    let mut on_head = Tensor::f_run_backward(&[objective], &inputs, false, false)?;
    let on_last = if on_head.len() > own.len() {
        on_head.pop().as_ref().and_then(defined)
    } else {
        None
    };
    for (index, gradient) in own.iter().zip(&on_head) {
        found.tensors[*index] = defined(gradient);
    }

    let end_to_end = loss.hints == Hints::EndToEnd;
    let mut found = tape.backward(on_last, found, |node, x, task| {
        let Some(target) = teacher.and_then(|teacher| teacher.nodes[node].as_ref()) else {
            return Ok(Pull {
                task,
                hint: None,
                end_to_end,
            });
        };
        let difference = x.f_sub(target)?;
        let scale = loss.scale(target)?;
        hint_sum += scale * difference.f_square()?.f_mean(Kind::Float)?.f_double_value(&[])?;
        let hint = difference.f_mul_scalar(scale * 2.0 * weight / x.numel() as f64)?;
        Ok(Pull {
            task,
            hint: Some(hint),
            end_to_end,
        })
    })?;

    let hint = hint_sum / layers;
    let mut losses = Losses {
        total: cross_entropy + loss.gamma2 * hint,
        cross_entropy,
        hint,
        complexity: 0.0,
    };
    if loss.gamma1 != 0.0 {
        let (value, excess, gradient) = loss.penalty(&network.architecture);
        losses.complexity = value;
        losses.total += loss.gamma1 * excess;
        for (sum, part) in found
            .attention
            .iter_mut()
            .flatten()
            .zip(gradient.iter().flatten())
        {
            *sum += loss.gamma1 * part;
        }
    }
    Ok((losses, found))
}

/// Trains a student or a candidate.
pub struct StudentLearner<'a> {
    network: Network,
    gang: &'a dyn Collective,
    loss: StudentLoss<'a>,
    pressure: Pressure,
    trained: Vec<usize>,
    sgd: Sgd,
    scores: ScoreSgd,
    averages: Option<Averages>,
}

/// How the expected complexity and its scores come into a [`StudentLearner`]'s steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Share of the steps over which gamma1 rises linearly from 0.
    pub gamma1_ramp: f64,
    /// Learning rate of the scores, as a share of the others'.
    pub score_rate: f64,
    /// How batch norms work.
    pub mode: Mode,
}

impl<'a> StudentLearner<'a> {
    /// Trains what `network` has the role for under `loss`, with gamma1 at its full height.
    pub fn new(
        network: Network,
        loss: StudentLoss<'a>,
        pressure: Pressure,
        settings: LearnerSettings,
        gang: &'a dyn Collective,
    ) -> Result<Self, Error> {
        let trained = network.variables.trained(0..network.variables.len());
        let tensors: Vec<Tensor> = trained
            .iter()
            .map(|index| network.variables.get(*index).tensor.shallow_clone())
            .collect();
        let averages = Averages::new(settings.ema, &network)?;
        let sgd = Sgd::new(settings.sgd, tensors);
        let scores = ScoreSgd::new(settings.sgd.momentum, &network.architecture);
        Ok(Self {
            network,
            gang,
            loss,
            pressure,
            trained,
            sgd,
            scores,
            averages,
        })
    }

    /// The network as trained so far.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The same, for good.
    pub fn into_network(self) -> Network {
        self.network
    }

    /// One step on a batch; `target` is the teacher's forward pass on the same images.
    pub(super) fn step(
        &mut self,
        images: &Tensor,
        labels: &Tensor,
        target: Option<&Forward>,
        at: Moment,
    ) -> Result<Losses, Error> {
        let ramp = if self.pressure.gamma1_ramp > 0.0 {
            (at.progress / self.pressure.gamma1_ramp).min(1.0)
        } else {
            1.0
        };
        let loss = StudentLoss {
            gamma1: ramp * self.loss.gamma1,
            ..self.loss
        };
        let (losses, mut found) =
            gradients(&self.network, images, labels, target, &loss, self.pressure.mode)?;
        if !losses.total.is_finite() {
            return Err(Error::Diverged { loss: losses.total });
        }
        let tensors = self.reduce(&mut found)?;
        self.sgd.step(&tensors, at.learning_rate)?;
        let score_rate = at.learning_rate * self.pressure.score_rate;
        self.scores
            .step(&mut self.network.architecture, &found.attention, score_rate);
        if let Some(averages) = &mut self.averages {
            averages.update(&self.network.architecture)?;
        }
        Ok(losses)
    }

    /// See [`super::Learner::exchange_averages`].
    pub(super) fn exchange_averages(&mut self) -> Result<(), Error> {
        if let Some(averages) = &mut self.averages {
            averages.exchange(&mut self.network.architecture)?;
        }
        Ok(())
    }

    /// See [`super::Learner::keep_averages`].
    pub(super) fn keep_averages(&mut self) -> Result<(), Error> {
        if let Some(averages) = &mut self.averages {
            averages.keep(&mut self.network.architecture)?;
        }
        Ok(())
    }

    /// Agrees on the gradients with the gang: the tensors', then the attention's as one tensor of its own.
    fn reduce(&self, found: &mut Gradients) -> Result<Vec<Option<Tensor>>, Error> {
        let tensors: Vec<Option<Tensor>> = self
            .trained
            .iter()
            .map(|index| found.tensors[*index].take())
            .collect();
        if self.gang.world_size() == 1 {
            self.gang.all_reduce_mean(&[])?;
            return Ok(tensors);
        }
        let attention: Vec<f64> = found.attention.iter().flatten().copied().collect();
        let attention = Tensor::f_from_slice(&attention)?.f_to_device(self.network.layout.device)?;
        let mut all: Vec<Tensor> = tensors.iter().flatten().map(Tensor::shallow_clone).collect();
        all.push(attention.shallow_clone());
        self.gang.all_reduce_mean(&all)?;
        let attention: Vec<f64> = Vec::try_from(&attention)?;
        for (value, mean) in found.attention.iter_mut().flatten().zip(attention) {
            *value = mean;
        }
        Ok(tensors)
    }
}
