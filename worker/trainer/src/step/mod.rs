//! One step of training: gradients, agreed on with the gang, applied.
//!
//! [`teacher`] trains a whole network. [`student`] trains a task's own tensors on layer-local graphs ([`tape`]): every
//! universal block is run exactly once, forward and backward. Both cut the autograd graph ([`graph`]), so that what is
//! behind a cut can be exchanged with the gang ([`exchange`]) while the pass goes on. [`cohort`] lets several students
//! learn from the same batches under one teacher ([`lesson`]). [`sgd`] applies what they find, [`average`] smooths it, and
//! [`state`] is what all of them keep.

mod average;
mod cohort;
mod exchange;
mod graph;
mod lesson;
mod sgd;
mod state;
mod student;
mod tape;
mod teacher;

use nettailor_domain::architecture::{Architecture, Gradient};
use tch::Tensor;

use crate::model;

use average::Averages;

pub use cohort::Cohort;
pub use exchange::ExchangeSettings;
pub(crate) use exchange::{agree, average_statistics, sum};
pub use lesson::{Lesson, Part};
pub use sgd::{LearnerSettings, ScoreSgd, Sgd, SgdSettings};
pub use state::State;
pub use student::{Pressure, StudentLearner, StudentLoss, gradients};
pub use tape::Gradients;
pub use teacher::TeacherLearner;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network could not be run.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The gang is broken.
    #[error(transparent)]
    Gang(#[from] nettailor_collective::Error),
    /// Ranks that do not hold what rank 0 holds.
    #[error(
        "ranks {ranks:?} hold other tensors than rank 0: their nodes compute or store wrongly; the attempt is given up"
    )]
    Apart {
        /// Which.
        ranks: Vec<usize>,
    },
    /// A checkpoint that is not this learner's.
    #[error(
        "the checkpoint has no tensor {name} of shape {shape:?}: it was written by another version of the trainer"
    )]
    State {
        /// The tensor.
        name: String,
        /// As it should be.
        shape: Vec<i64>,
    },
    /// The loss is not a number any more.
    #[error("the loss is {loss}: training diverged; lower the learning rate")]
    Diverged {
        /// What it is.
        loss: f64,
    },
    /// libtorch refused.
    #[error("a tensor operation failed: {0}")]
    Torch(#[from] tch::TchError),
}

/// E[C] (or what stands for it) and its gradient on the attention.
pub type Complexity<'a> = dyn Fn(&Architecture) -> (f64, Gradient) + 'a;

/// What one step measured. Means over the batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Losses {
    /// Cross-entropy + gamma1 * complexity + gamma2 * hint.
    pub total: f64,
    /// Cross-entropy.
    pub cross_entropy: f64,
    /// Omega, unweighted; 0 without a teacher.
    pub hint: f64,
    /// E[C], unweighted; 0 where it is no part of the loss.
    pub complexity: f64,
}

/// Where in its schedule a step is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Learning rate.
    pub learning_rate: f64,
    /// Share of the stage's steps that are done, 0 to 1.
    pub progress: f64,
}

/// Something that a training loop can train: one network, or several on the same batches.
pub trait Learner {
    /// One step on this rank's part of a batch. Losses are means over the whole batch and the networks.
    fn step(&mut self, part: Part<'_>, at: Moment) -> Result<Losses, Error>;

    /// Puts the averages of what is trained in its place, and the other way round; nothing without averages. Called
    /// before networks are evaluated, and again to train on.
    fn exchange_averages(&mut self) -> Result<(), Error>;

    /// Ends a run: the averages are what is kept, and a further run starts from them.
    fn keep_averages(&mut self) -> Result<(), Error>;

    /// The networks in training.
    fn networks(&self) -> Vec<&model::Network>;

    /// What the next step depends on, besides the number of steps behind it. Tensors are shared, not copied.
    fn state(&self) -> Result<State, Error>;

    /// Goes on from a state, `steps` steps into the run.
    fn restore(&mut self, state: &State, steps: u64) -> Result<(), Error>;
}

/// Cross-entropy of logits `[n, classes]`, mean over the batch. `smoothing` spreads that share of each label's
/// probability over all classes.
fn cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor, tch::TchError> {
    logits.f_cross_entropy_loss(labels, None::<&Tensor>, tch::Reduction::Mean, -100, smoothing)
}
