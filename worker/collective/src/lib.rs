//! How the ranks of a gang agree on gradients.
//!
//! [`Collective`] is the seam between a training step and the machines it is spread over: the step asks for the mean of
//! its gradients and does not know how many ranks there are. [`join`] makes one: [`Solo`] for a single rank, libtorch's
//! gloo between CPUs (`gloo`), NCCL between GPUs (`nccl`, loaded when it is needed and not before).
//!
//! The ranks meet at a store that rank 0 hosts (`rendezvous`), under the name of their attempt. Each writes its heartbeat there
//! from a thread of its own and reads the others' (`watch`), so a rank that is killed, stopped or cut off is noticed within
//! [`Limits::silence`], whatever the ranks compute meanwhile. Everything that blocks waits at the rank's `gate`, which
//! an abort opens: the wait ends with [`Error::Aborted`] and names the rank that was lost.
//!
//! Every implementation must pass [`conformance::check`].

mod bridge;
pub mod conformance;
mod gang;
mod gate;
mod gloo;
mod join;
mod nccl;
mod pending;
mod rendezvous;
mod solo;
#[cfg(test)]
mod testing;
mod watch;

use std::time::Duration;

use tch::{Kind, Tensor};

pub use join::{GangSettings, alone_over_nccl, join};
pub use pending::Pending;
pub use solo::Solo;

/// Why an operation did not happen. After any error the gang is unusable: its ranks are no longer in step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rank called [`Collective::abort`], ended without [`Collective::leave`], or was lost.
    #[error("the gang was aborted: {reason}")]
    Aborted {
        /// What the first rank to notice said.
        reason: String,
    },
    /// The ranks did not come together.
    #[error("rank {rank} could not join gang {gang}: {reason}")]
    Join {
        /// The gang's name.
        gang: String,
        /// This rank.
        rank: usize,
        /// What was missing, and what to do.
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
    /// Numbers that have no such result.
    #[error(
        "tensors of kind {kind:?} have no {reduction}; sums need float, double, bf16, half or whole numbers of 8, 32 or 64 \
         bits, means the first four"
    )]
    Kind {
        /// What was asked for.
        reduction: Reduction,
        /// Of what.
        kind: Kind,
    },
    /// libtorch refused.
    #[error("a tensor operation of the gang failed")]
    Torch(#[from] tch::TchError),
}

impl From<gate::Aborted> for Error {
    fn from(gate::Aborted(reason): gate::Aborted) -> Self {
        Self::Aborted { reason }
    }
}

impl Error {
    fn unless_rank(root: usize, world_size: usize) -> Result<(), Self> {
        if root < world_size {
            Ok(())
        } else {
            Err(Self::NoSuchRank { root, world_size })
        }
    }
}

/// What an all-reduce makes of the ranks' tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Of floating-point numbers.
    Mean,
    /// Of whole numbers too: those sums are exact (modulo 2 to the power of their width).
    Sum,
}

impl std::fmt::Display for Reduction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Sum => "sum",
        })
    }
}

impl Reduction {
    fn check(self, tensors: &[Tensor]) -> Result<(), Error> {
        for tensor in tensors {
            let kind = tensor.f_kind()?;
            let known = match kind {
                Kind::Float | Kind::Double | Kind::BFloat16 | Kind::Half => true,
                Kind::Int64 | Kind::Int | Kind::Int8 | Kind::Uint8 => self == Self::Sum,
                _ => false,
            };
            if !known {
                return Err(Error::Kind {
                    reduction: self,
                    kind,
                });
            }
        }
        Ok(())
    }
}

/// How long ranks wait for each other. The same for all ranks of a gang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Between two heartbeats of a rank.
    pub beat: Duration,
    /// A rank, or rank 0's store, that shows nothing new for so long is lost. Several beats.
    pub silence: Duration,
    /// From when a rank is told where rank 0 waits until its store answers, and from when all ranks are there until they are
    /// connected.
    pub reach: Duration,
    /// From the first rank's arrival until the last one's.
    pub join: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            beat: Duration::from_millis(500),
            silence: Duration::from_secs(3),
            reach: Duration::from_secs(60),
            join: Duration::from_secs(300),
        }
    }
}

impl Limits {
    /// How many beats in a row without news make a silence.
    fn patience(&self) -> u32 {
        let beats = self.silence.as_secs_f64() / self.beat.as_secs_f64();
        // At least one; saturates, which no sensible limits reach.
        beats.ceil().max(1.0) as u32
    }

    /// After this time the heartbeats have shown which rank is gone, if one is.
    fn grace(&self) -> Duration {
        self.silence + 2 * self.beat
    }
}

/// One rank's view of its gang. Every rank calls the same operations in the same order with tensors of equal kinds and
/// shapes; they are carried out in that order. Results are bit-identical on all ranks.
pub trait Collective {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// Ranks in the gang.
    fn world_size(&self) -> usize;

    /// Starts to replace each tensor, in place, by its mean or sum over the ranks, and returns while that goes on. Views
    /// share their memory with what they are views of. A single contiguous tensor of each kind is reduced where it is;
    /// others are copied into a flat buffer and back.
    ///
    /// # Errors
    /// [`Error::Aborted`], [`Error::Kind`], [`Error::Torch`].
    fn start_all_reduce(&self, tensors: Vec<Tensor>, reduction: Reduction) -> Result<Pending, Error>;

    /// Replaces each tensor, in place, by that of rank `root`. Returns when it is there.
    ///
    /// # Errors
    /// [`Error::Aborted`], [`Error::NoSuchRank`], [`Error::Torch`].
    fn broadcast(&self, tensors: &[Tensor], root: usize) -> Result<(), Error>;

    /// Returns once every rank has called it and everything started before has ended.
    ///
    /// # Errors
    /// [`Error::Aborted`].
    fn barrier(&self) -> Result<(), Error>;

    /// Ends the gang: this and every later operation fails with [`Error::Aborted`], on every rank and within seconds,
    /// those in progress included. The first reason stays.
    fn abort(&self, reason: &str);

    /// Says goodbye, when there is nothing more to do: a barrier, after which no rank's end is a loss to the others. A rank
    /// that is dropped without it ends the gang for all.
    ///
    /// # Errors
    /// [`Error::Aborted`].
    fn leave(&self) -> Result<(), Error>;

    /// [`Collective::start_all_reduce`] to the mean.
    ///
    /// # Errors
    /// As there.
    fn start_all_reduce_mean(&self, tensors: Vec<Tensor>) -> Result<Pending, Error> {
        self.start_all_reduce(tensors, Reduction::Mean)
    }

    /// Replaces each tensor, in place, by its mean over the ranks. Returns when it is there.
    ///
    /// # Errors
    /// As [`Collective::start_all_reduce`].
    fn all_reduce_mean(&self, tensors: &[Tensor]) -> Result<(), Error> {
        self.start_all_reduce(shallow(tensors), Reduction::Mean)?
            .synchronize()
    }

    /// Replaces each tensor, in place, by its sum over the ranks. Returns when it is there.
    ///
    /// # Errors
    /// As [`Collective::start_all_reduce`].
    fn all_reduce_sum(&self, tensors: &[Tensor]) -> Result<(), Error> {
        self.start_all_reduce(shallow(tensors), Reduction::Sum)?
            .synchronize()
    }
}

fn shallow(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
}
