//! The student's step: cross-entropy, hints, expected complexity.

use nettailor_collective::Collective;
use nettailor_domain::architecture::Architecture;
use nettailor_domain::task::{HintScale, Hints, StudentSettings};
use tch::{Kind, Tensor};

use super::exchange::{self, Exchange};
use super::graph::{Graph, defined};
use super::lesson::{Lesson, Part};
use super::sgd::{LearnerSettings, ScoreSgd, Sgd};
use super::tape::{Pull, Tape};
use super::{Averages, Complexity, Error, Gradients, Losses, Moment, State, cross_entropy};
use crate::model::{Mode, Network, Synchronised};

/// Bytes of a student's bucket: few of them, and the first soon.
const BUCKET: usize = 4 << 20;

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

    /// Adds what does not depend on images to a batch's losses and gradients on the attention.
    fn press(&self, architecture: &Architecture, losses: &mut Losses, attention: &mut [Vec<f64>]) {
        losses.total = losses.cross_entropy + self.gamma2 * losses.hint;
        if self.gamma1 == 0.0 {
            return;
        }
        let (value, excess, gradient) = self.penalty(architecture);
        losses.complexity = value;
        losses.total += self.gamma1 * excess;
        for (sum, part) in attention.iter_mut().flatten().zip(gradient.iter().flatten()) {
            *sum += self.gamma1 * part;
        }
    }

    /// The hint on the logits: T^2 KL(teacher || student) at temperature T, mean over the batch; or their distance.
    fn logits_hint(&self, logits: &Tensor, lesson: &Lesson<'_>) -> Result<Tensor, Error> {
        let target = &lesson.forward.logits;
        let Some(temperature) = self.temperature else {
            let distance = logits.f_mse_loss(target, tch::Reduction::Mean)?;
            return Ok(distance.f_mul_scalar(lesson.logits_scale(self.hint_scale)?)?);
        };
        let soft = |logits: &Tensor| logits.f_div_scalar(temperature)?.f_log_softmax(1, Kind::Float);
        let (ours, theirs) = (soft(logits)?, soft(target)?);
        // Sum over classes, mean over images; the gradient of both entropies but ours is 0.
        let divergence = theirs.f_exp()?.f_mul(&theirs.f_sub(&ours)?)?.f_sum(Kind::Float)?;
        Ok(divergence.f_mul_scalar(temperature * temperature / logits.size()[0] as f64)?)
    }
}

/// Losses and gradients of one batch, for a gang of one. `lesson` is the teacher's; without it there are no hints. The
/// network's running statistics move once.
pub fn gradients(
    network: &Network,
    part: Part<'_>,
    lesson: Option<&Lesson<'_>>,
    loss: &StudentLoss<'_>,
    mode: Mode<'_>,
) -> Result<(Losses, Gradients), Error> {
    let (mut losses, mut found) = descend(network, part, 1.0, lesson, loss, mode, &mut |_, _| Ok(()))?;
    loss.press(&network.architecture, &mut losses, &mut found.attention);
    Ok((losses, found))
}

/// The part of losses and gradients that depends on images, multiplied by `weight`. `done` is told of every stretch that
/// is complete, from the end to layer 1.
fn descend(
    network: &Network,
    part: Part<'_>,
    weight: f64,
    lesson: Option<&Lesson<'_>>,
    loss: &StudentLoss<'_>,
    mode: Mode<'_>,
    done: &mut dyn FnMut(usize, &mut Gradients) -> Result<(), Error>,
) -> Result<(Losses, Gradients), Error> {
    let mode = mode.for_batch(part.len(), part.whole);
    let tape = Tape::forward(network, part.images, mode)?;
    let layers = network.layers.len() as f64;
    let hint_weight = loss.gamma2 / layers;
    let mut hint_sum = 0.0;

    // Head: the hint on the logits belongs to them as much as the labels do, and flows on.
    let last = tape.last()?;
    let logits = network.head(last, mode)?;
    let entropy = cross_entropy(&logits, part.labels, loss.label_smoothing)?;
    let mut objective = entropy.shallow_clone();
    if let Some(lesson) = lesson {
        let distance = loss.logits_hint(&logits, lesson)?;
        hint_sum += distance.f_double_value(&[])?;
        objective = objective.f_add(&distance.f_mul_scalar(hint_weight)?)?;
    }
    let cross_entropy = entropy.f_double_value(&[])?;
    let mut found = Gradients::none(network);
    let own = network.variables.trained(network.end.clone());
    let mut inputs: Vec<&Tensor> = own
        .iter()
        .map(|index| &network.variables.get(*index).tensor)
        .collect();
    if last.requires_grad() {
        inputs.push(last);
    }
    let head = Graph::new(objective.f_mul_scalar(weight)?, mode);
    let mut on_head = head.gradients(None, &inputs, false)?;
    let on_last = if on_head.len() > own.len() {
        on_head.pop().as_ref().and_then(defined)
    } else {
        None
    };
    for (index, gradient) in own.iter().zip(&on_head) {
        found.tensors[*index] = defined(gradient);
    }
    done(network.layers.len() + 1, &mut found)?;

    let end_to_end = loss.hints == Hints::EndToEnd;
    let pull = |node: usize, x: &Tensor, task| {
        let target = lesson.and_then(|lesson| Some((lesson, lesson.forward.nodes[node].as_ref()?)));
        let Some((lesson, target)) = target else {
            return Ok(Pull {
                task,
                hint: None,
                end_to_end,
            });
        };
        let difference = x.f_sub(target)?;
        let scale = lesson.node_scale(node, loss.hint_scale)?;
        hint_sum += scale * difference.f_square()?.f_mean(Kind::Float)?.f_double_value(&[])?;
        let slope = weight * scale * 2.0 * hint_weight / x.numel() as f64;
        Ok(Pull {
            task,
            hint: Some(difference.f_mul_scalar(slope)?),
            end_to_end,
        })
    };
    let found = tape.backward(on_last, found, pull, done)?;

    let losses = Losses {
        total: 0.0,
        cross_entropy: weight * cross_entropy,
        hint: weight * hint_sum / layers,
        complexity: 0.0,
    };
    Ok((losses, found))
}

/// Trains a student or a candidate, as one rank of a gang.
pub struct StudentLearner<'a> {
    network: Network,
    gang: &'a dyn Collective,
    synchronised: Option<Synchronised<'a>>,
    loss: StudentLoss<'a>,
    pressure: Pressure,
    exchange: Exchange<'a>,
    sgd: Sgd,
    scores: ScoreSgd,
    averages: Option<Averages>,
}

/// How the expected complexity and its scores come into a [`StudentLearner`]'s steps.
#[derive(Debug, Clone, Copy)]
pub struct Pressure {
    /// Share of the steps over which gamma1 rises linearly from 0.
    pub gamma1_ramp: f64,
    /// Learning rate of the scores, as a share of the others'.
    pub score_rate: f64,
    /// How batch norms work.
    pub mode: Mode<'static>,
}

impl<'a> StudentLearner<'a> {
    /// Trains what `network` has the role for under `loss`, with gamma1 at its full height. All ranks start from what rank
    /// 0 has.
    pub fn new(
        network: Network,
        loss: StudentLoss<'a>,
        pressure: Pressure,
        settings: LearnerSettings,
        gang: &'a dyn Collective,
    ) -> Result<Self, Error> {
        exchange::join(gang, &network)?;
        Ok(Self {
            gang,
            synchronised: settings.exchange.synchronised(gang),
            loss,
            pressure,
            exchange: Exchange::new(gang, &network, settings.exchange, BUCKET)?,
            sgd: Sgd::new(settings.sgd, network.variables.trained_tensors()),
            scores: ScoreSgd::new(settings.sgd.momentum, &network.architecture),
            averages: Averages::new(settings.ema, &network)?,
            network,
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

    /// The rank that it is.
    pub(super) fn gang(&self) -> &'a dyn Collective {
        self.gang
    }

    /// One step on a part of a batch.
    pub(super) fn step(
        &mut self,
        part: Part<'_>,
        lesson: Option<&Lesson<'_>>,
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
        let mode = match &self.synchronised {
            Some(gang) => self.pressure.mode.over(gang),
            None => self.pressure.mode,
        };
        let weight = part.weight(self.gang.world_size());
        let exchange = &mut self.exchange;
        let mut done = |stretch, found: &mut Gradients| exchange.complete(stretch, &mut found.tensors);
        let (mut losses, mut found) = descend(&self.network, part, weight, lesson, &loss, mode, &mut done)?;

        let mut measured = vec![losses.cross_entropy, losses.hint];
        measured.extend(found.attention.iter().flatten());
        let tensors = self.exchange.finish(&mut measured)?;
        (losses.cross_entropy, losses.hint) = (measured[0], measured[1]);
        for (gradient, mean) in found.attention.iter_mut().flatten().zip(&measured[2..]) {
            *gradient = *mean;
        }
        loss.press(&self.network.architecture, &mut losses, &mut found.attention);
        // The same number on every rank: they all go on, or none does.
        if !losses.total.is_finite() {
            return Err(Error::Diverged { loss: losses.total });
        }
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

    /// See [`super::Learner::state`].
    pub fn state(&self) -> Result<State, Error> {
        let mut state = State::of(&self.network, &self.sgd, self.averages.as_ref());
        state.add_scores(&self.network.architecture, &self.scores, self.averages.as_ref())?;
        Ok(state)
    }

    /// See [`super::Learner::restore`].
    pub fn restore(&mut self, state: &State, steps: u64) -> Result<(), Error> {
        state.restore(&self.network, &mut self.sgd, self.averages.as_mut())?;
        let architecture = &mut self.network.architecture;
        state.restore_scores(architecture, &mut self.scores, self.averages.as_mut())?;
        if let Some(averages) = &mut self.averages {
            averages.resume(steps);
        }
        Ok(())
    }
}
