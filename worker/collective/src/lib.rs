//! How the ranks of a gang agree on gradients.
//!
//! [`Collective`] is the seam between a training step and the machines it is spread over: the step asks for the mean of
//! its gradients and does not know how many ranks there are. [`Solo`] is the gang of one; every other implementation
//! must pass [`conformance::check`] as it does.

pub mod conformance;
mod solo;

use tch::{Kind, Tensor};

pub use solo::Solo;

/// Why an operation did not happen. After any error the gang is unusable: its ranks are no longer in step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rank called [`Collective::abort`], or was lost.
    #[error("the gang was aborted: {reason}")]
    Aborted {
        /// What the first rank to abort said.
        reason: String,
    },
    /// A root that is not a rank.
    #[error("rank {root} does not exist in a gang of {world_size}")]
    NoSuchRank {
        /// The rank that was asked for.
        root: usize,
        /// Ranks in the gang.
        world_size: usize,
    },
    /// libtorch refused.
    #[error("a tensor operation of the gang failed")]
    Torch(#[from] tch::TchError),
}

/// A reduction under way. Its tensors hold nothing definite, and must be left alone, until it was waited for.
#[must_use = "its tensors hold nothing definite until it was waited for"]
pub struct Pending(Box<dyn FnOnce() -> Result<(), Error>>);

impl Pending {
    /// One that `finish` waits for.
    pub fn new(finish: impl FnOnce() -> Result<(), Error> + 'static) -> Self {
        Self(Box::new(finish))
    }

    /// Returns when the result is there, on this rank.
    pub fn wait(self) -> Result<(), Error> {
        (self.0)()
    }
}

/// One rank's view of its gang. Every rank calls the same operations in the same order with tensors of equal shapes;
/// each call returns when its result is there, on every rank.
pub trait Collective {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// Ranks in the gang.
    fn world_size(&self) -> usize;

    /// Replaces each tensor, in place, by its mean over the ranks.
    fn all_reduce_mean(&self, tensors: &[Tensor]) -> Result<(), Error>;

    /// Starts the same, and returns at once: the tensors are reduced while the caller goes on.
    fn start_all_reduce_mean(&self, tensors: Vec<Tensor>) -> Result<Pending, Error> {
        self.all_reduce_mean(&tensors)?;
        Ok(Pending::new(|| Ok(())))
    }

    /// Replaces a tensor of whole numbers (int64), in place, by its exact sum over the ranks.
    fn all_reduce_sum(&self, tensor: &Tensor) -> Result<(), Error> {
        // Doubles hold every whole number up to 2^53; what the division rounds, the product is rounded back to.
        let mean = tensor.f_to_kind(Kind::Double)?;
        self.all_reduce_mean(&[mean.shallow_clone()])?;
        let sum = mean.f_mul_scalar(self.world_size() as f64)?.f_round()?;
        Ok(tensor.shallow_clone().f_copy_(&sum)?)
    }

    /// Replaces each tensor, in place, by that of rank `root`.
    fn broadcast(&self, tensors: &[Tensor], root: usize) -> Result<(), Error>;

    /// Returns once every rank has called it.
    fn barrier(&self) -> Result<(), Error>;

    /// Ends the gang: this and every later operation fails with [`Error::Aborted`], on every rank and within seconds,
    /// those in progress included. The first reason stays.
    fn abort(&self, reason: &str);
}
