//! Operations under way, and the flat buffers they work on.

use std::sync::Arc;

use tch::{Device, Kind, TchError, Tensor};

use crate::gate::{Failure, Gate};
use crate::{Error, Limits};

/// What a transport has started on one buffer.
pub(crate) trait Started {
    /// Returns when torch may work with the buffer: on a GPU, work queued from now on comes after the operation.
    fn wait(&mut self) -> Result<(), Failure>;

    /// Returns when the result is in memory.
    fn synchronize(&mut self) -> Result<(), Failure>;
}

/// An operation that has started. Its tensors have no defined content until it is waited for; one that is dropped goes on
/// in the background, and they stay undefined.
#[must_use = "the tensors hold the result only after `wait`"]
pub struct Pending(Option<Running>);

struct Running {
    parts: Vec<(Flat, Box<dyn Started>)>,
    /// Sums become means by it.
    divisor: Option<f64>,
    gate: Arc<Gate>,
    limits: Limits,
}

impl Pending {
    /// Nothing to wait for.
    pub(crate) fn done() -> Self {
        Self(None)
    }

    pub(crate) fn new(
        parts: Vec<(Flat, Box<dyn Started>)>,
        divisor: Option<f64>,
        gate: Arc<Gate>,
        limits: Limits,
    ) -> Self {
        Self(Some(Running {
            parts,
            divisor,
            gate,
            limits,
        }))
    }

    /// Returns when torch may work with the tensors. On the CPU the result is there; on a GPU, kernels launched from now on
    /// see it, and a gang that ends before they run is told by the next operation.
    ///
    /// # Errors
    /// [`Error::Aborted`] when the gang ended or a rank was lost; [`Error::Torch`] when libtorch refused.
    pub fn wait(self) -> Result<(), Error> {
        self.finish(|started| started.wait())
    }

    /// Returns when the result is in memory, on a GPU too.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub fn synchronize(self) -> Result<(), Error> {
        self.finish(|started| started.synchronize())
    }

    fn finish(self, end: impl Fn(&mut dyn Started) -> Result<(), Failure>) -> Result<(), Error> {
        let Some(mut running) = self.0 else {
            return Ok(());
        };
        for (flat, started) in &mut running.parts {
            end(started.as_mut()).map_err(|failure| running.gate.reason(failure, running.limits.grace()))?;
            flat.scatter(running.divisor)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let buffers = self.0.as_ref().map_or(0, |running| running.parts.len());
        f.debug_struct("Pending").field("buffers", &buffers).finish()
    }
}

/// Tensors of one kind as one contiguous buffer where the transport wants it.
pub(crate) struct Flat {
    buffer: Tensor,
    /// Where the buffer's content belongs; empty where it is the tensor's own memory.
    members: Vec<Tensor>,
}

impl Flat {
    /// One buffer per kind, in the order of the first tensor of each. A single contiguous tensor is its own buffer; others
    /// are copied. Tensors without elements have no part in it.
    pub(crate) fn gather(tensors: &[Tensor], device: Device) -> Result<Vec<Self>, Error> {
        let mut kinds: Vec<(Kind, Vec<Tensor>)> = Vec::new();
        for tensor in tensors.iter().filter(|tensor| tensor.numel() > 0) {
            let kind = tensor.f_kind()?;
            // Without history: what is done to the copy or the view is nothing to differentiate.
            let tensor = tensor.f_detach()?;
            match kinds.iter_mut().find(|(other, _)| *other == kind) {
                Some((_, members)) => members.push(tensor),
                None => kinds.push((kind, vec![tensor])),
            }
        }
        kinds
            .into_iter()
            .map(|(_, members)| Ok(Self::of(members, device)?))
            .collect()
    }

    fn of(members: Vec<Tensor>, device: Device) -> Result<Self, TchError> {
        if let [tensor] = members.as_slice()
            && tensor.is_contiguous()
            && tensor.device() == device
        {
            return Ok(Self {
                buffer: tensor.f_view([-1])?,
                members: Vec::new(),
            });
        }
        let flat: Vec<Tensor> = members
            .iter()
            .map(|tensor| tensor.f_reshape([-1])?.f_to_device(device))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            buffer: Tensor::f_cat(&flat, 0)?,
            members,
        })
    }

    /// One-dimensional and contiguous.
    pub(crate) fn buffer(&self) -> &Tensor {
        &self.buffer
    }

    /// Brings the result, divided if it is to be, to where it belongs.
    fn scatter(&mut self, divisor: Option<f64>) -> Result<(), TchError> {
        if let Some(divisor) = divisor {
            let _ = self.buffer.f_div_scalar_(divisor)?;
        }
        let mut start = 0;
        for member in &mut self.members {
            // A tensor's elements are counted in i64 by torch.
            let length = member.size().iter().product();
            let part = self.buffer.f_narrow(0, start, length)?;
            member.f_copy_(&part.f_view_as(member)?)?;
            start += length;
        }
        Ok(())
    }
}
