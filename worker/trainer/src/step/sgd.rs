//! Stochastic gradient descent with momentum: v = momentum v + gradient + decay w; w -= rate v.

use nettailor_domain::architecture::Architecture;
use nettailor_domain::task::TrainingSettings;
use tch::Tensor;

use super::ExchangeSettings;

/// The constants of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdSettings {
    /// Share of the previous step that is taken again.
    pub momentum: f64,
    /// L2 penalty on the tensors (never on scores).
    pub weight_decay: f64,
}

/// What every kind of learner is told besides its loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearnerSettings {
    /// The optimiser's constants.
    pub sgd: SgdSettings,
    /// Decay per step of the moving average that is evaluated and kept; 0 for none.
    pub ema: f64,
    /// How it works together with the other ranks.
    pub exchange: ExchangeSettings,
}

impl From<&TrainingSettings> for LearnerSettings {
    fn from(settings: &TrainingSettings) -> Self {
        let TrainingSettings {
            momentum,
            weight_decay,
            ema,
            ..
        } = *settings;
        Self {
            sgd: SgdSettings {
                momentum,
                weight_decay,
            },
            ema,
            exchange: ExchangeSettings::default(),
        }
    }
}

/// The optimiser of a network's trained tensors.
#[derive(Debug)]
pub struct Sgd {
    settings: SgdSettings,
    tensors: Vec<Tensor>,
    velocity: Vec<Option<Tensor>>,
}

impl Sgd {
    /// For these tensors, at rest.
    pub fn new(settings: SgdSettings, tensors: Vec<Tensor>) -> Self {
        let velocity = tensors.iter().map(|_| None).collect();
        Self {
            settings,
            tensors,
            velocity,
        }
    }

    /// Moves each tensor against its gradient. A tensor without one stays where it is, without decay.
    pub fn step(&mut self, gradients: &[Option<Tensor>], learning_rate: f64) -> Result<(), tch::TchError> {
        let Some(first) = self.tensors.first() else {
            return Ok(());
        };
        // Factors as tensors: so each update is one pass over memory that is there already.
        let factor = |value: f64| Tensor::f_from_slice(&[value as f32])?.f_to_device(first.device());
        let (decay, rate) = (factor(self.settings.weight_decay)?, factor(-learning_rate)?);
        tch::no_grad(|| {
            for ((tensor, velocity), gradient) in
                self.tensors.iter_mut().zip(&mut self.velocity).zip(gradients)
            {
                let Some(gradient) = gradient else { continue };
                let mut push = match velocity.take() {
                    Some(mut velocity) => velocity.f_mul_scalar_(self.settings.momentum)?.f_add_(gradient)?,
                    // A copy: the gradient belongs to the caller.
                    None => gradient.f_detach_copy()?,
                };
                if self.settings.weight_decay != 0.0 {
                    push = push.f_addcmul_(tensor, &decay)?;
                }
                let _moved = tensor.f_addcmul_(&push, &rate)?;
                *velocity = Some(push);
            }
            Ok(())
        })
    }

    /// What it moves, in order.
    pub(super) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Each tensor's velocity, in order; `None` before its first step.
    pub fn velocity(&self) -> &[Option<Tensor>] {
        &self.velocity
    }

    /// Goes on with these velocities.
    pub(super) fn set_velocity(&mut self, velocity: Vec<Option<Tensor>>) {
        self.velocity = velocity;
    }
}

/// The optimiser of an architecture's scores: plain numbers, no weight decay.
#[derive(Debug)]
pub struct ScoreSgd {
    momentum: f32,
    velocity: Vec<Vec<f32>>,
}

impl ScoreSgd {
    /// For the scores of `architecture`, at rest.
    pub fn new(momentum: f64, architecture: &Architecture) -> Self {
        let velocity = architecture
            .layers
            .iter()
            .map(|layer| vec![0.0; layer.blocks.len()])
            .collect();
        Self {
            momentum: momentum as f32,
            velocity,
        }
    }

    /// Moves the scores of kept blocks against the gradient on the attention.
    pub fn step(&mut self, architecture: &mut Architecture, on_attention: &[Vec<f64>], learning_rate: f64) {
        let layers = architecture
            .layers
            .iter_mut()
            .zip(on_attention)
            .zip(&mut self.velocity);
        for ((layer, gradient), velocity) in layers {
            let gradient = layer.score_gradient(gradient);
            for ((block, gradient), velocity) in layer.blocks.iter_mut().zip(gradient).zip(velocity) {
                *velocity = self.momentum * *velocity + gradient as f32;
                if block.kept() {
                    block.score -= learning_rate as f32 * *velocity;
                }
            }
        }
    }

    /// Velocity of every score, by layer.
    pub fn velocity(&self) -> &[Vec<f32>] {
        &self.velocity
    }

    /// The same, to go on from others.
    pub(super) fn velocity_mut(&mut self) -> &mut [Vec<f32>] {
        &mut self.velocity
    }
}
