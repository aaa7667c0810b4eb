//! A gang of several ranks: what all transports have in common.

use std::cell::Cell;

use tch::{Device, Kind, Tensor};

use crate::gate::{Aborted, Failure};
use crate::pending::{Flat, Started};
use crate::rendezvous::Rendezvous;
use crate::{Collective, Error, Pending, Reduction};

/// How buffers travel. Operations run in the order in which they were started.
pub(crate) trait Transport {
    /// Where its buffers lie.
    fn device(&self) -> Device;

    /// Starts to replace `buffer`, one-dimensional and contiguous, by its sum over the ranks.
    fn sum(&self, buffer: &Tensor) -> Result<Box<dyn Started>, Failure>;

    /// Starts to replace `buffer` by that of rank `root`.
    fn broadcast(&self, buffer: &Tensor, root: usize) -> Result<Box<dyn Started>, Failure>;
}

/// One rank of a gang that meets at a [`Rendezvous`] and talks over a [`Transport`].
pub(crate) struct Gang {
    // Dropped first: it waits until nobody needs this rank, and its connections, any more.
    rendezvous: Rendezvous,
    transport: Box<dyn Transport>,
    left: Cell<bool>,
}

impl Gang {
    pub(crate) fn new(rendezvous: Rendezvous, transport: Box<dyn Transport>) -> Self {
        Self {
            rendezvous,
            transport,
            left: Cell::new(false),
        }
    }

    #[cfg(test)]
    pub(crate) fn rendezvous(&self) -> &Rendezvous {
        &self.rendezvous
    }

    fn in_step(&self) -> Result<(), Error> {
        self.rendezvous.gate().check()?;
        if self.left.get() {
            return Err(Aborted("this rank has left the gang".to_owned()).into());
        }
        Ok(())
    }

    fn start(
        &self,
        tensors: &[Tensor],
        divisor: Option<f64>,
        operation: impl Fn(&Tensor) -> Result<Box<dyn Started>, Failure>,
    ) -> Result<Pending, Error> {
        self.in_step()?;
        let mut parts = Vec::new();
        for flat in Flat::gather(tensors, self.transport.device())? {
            let started = operation(flat.buffer()).map_err(|failure| {
                self.rendezvous
                    .gate()
                    .reason(failure, self.rendezvous.limits().grace())
            })?;
            parts.push((flat, started));
        }
        Ok(Pending::new(
            parts,
            divisor,
            self.rendezvous.gate().clone(),
            self.rendezvous.limits(),
        ))
    }
}

impl Collective for Gang {
    fn rank(&self) -> usize {
        self.rendezvous.rank()
    }

    fn world_size(&self) -> usize {
        self.rendezvous.world_size()
    }

    fn start_all_reduce(&self, tensors: Vec<Tensor>, reduction: Reduction) -> Result<Pending, Error> {
        reduction.check(&tensors)?;
        let divisor = match reduction {
            // Exact: a gang has far fewer ranks than 2^53.
            Reduction::Mean => Some(self.world_size() as f64),
            Reduction::Sum => None,
        };
        self.start(&tensors, divisor, |buffer| self.transport.sum(buffer))
    }

    fn broadcast(&self, tensors: &[Tensor], root: usize) -> Result<(), Error> {
        self.in_step()?;
        Error::unless_rank(root, self.world_size())?;
        self.start(tensors, None, |buffer| self.transport.broadcast(buffer, root))?
            .synchronize()
    }

    fn barrier(&self) -> Result<(), Error> {
        // Nobody has the sum before everybody has given a part of it.
        self.all_reduce_sum(&[Tensor::f_ones([1], (Kind::Int64, self.transport.device()))?])
    }

    fn abort(&self, reason: &str) {
        self.rendezvous.gate().abort(reason);
    }

    fn leave(&self) -> Result<(), Error> {
        self.barrier()?;
        self.left.set(true);
        self.rendezvous.release();
        Ok(())
    }
}
