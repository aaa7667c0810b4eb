//! A stretch of the forward pass with an autograd graph of its own, and how gradients pass through it.

use tch::Tensor;

use super::Error;
use crate::model::synchronised::NormCut;
use crate::model::{Mode, Synchronised};

/// Where a stretch ends, and the synchronised batch norms within it, where its graph is cut once more.
pub(super) struct Graph<'a> {
    end: Tensor,
    norms: Vec<NormCut>,
    gang: Option<&'a Synchronised<'a>>,
}

impl<'a> Graph<'a> {
    /// Takes up what was computed since the last stretch ended, under `mode`, with `end` as its result.
    pub(super) fn new(end: Tensor, mode: Mode<'a>) -> Self {
        let gang = mode.gang();
        Self {
            end,
            norms: gang.map(Synchronised::take).unwrap_or_default(),
            gang,
        }
    }

    /// What was computed.
    pub(super) fn end(&self) -> &Tensor {
        &self.end
    }

    /// Gradients of <end, cotangent> on `inputs`, of the end itself without a cotangent. Undefined where an input takes no
    /// part. The graph is freed unless it is to be kept.
    pub(super) fn gradients(
        &self,
        cotangent: Option<&Tensor>,
        inputs: &[&Tensor],
        keep: bool,
    ) -> Result<Vec<Tensor>, Error> {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let Some(gang) = self.gang.filter(|_| !self.norms.is_empty()) else {
            return Ok(enter(&self.end, cotangent, inputs, keep)?);
        };
        // The leaves of the cuts are inputs, too; what reaches one enters the graph before it, from the last to the first.
        let leaves = self.norms.iter().map(|norm| &norm.leaf);
        let all: Vec<&Tensor> = inputs.iter().copied().chain(leaves).collect();
        let mut found = enter(&self.end, cotangent, &all, keep)?;
        for (index, norm) in self.norms.iter().enumerate().rev() {
            let on_leaf = found.remove(inputs.len() + index);
            if on_leaf.defined() {
                let on_value = gang.backward(norm, &on_leaf)?;
                let before = &all[..inputs.len() + index];
                let more = enter(&norm.value, Some(&on_value), before, keep)?;
                for (sum, part) in found.iter_mut().zip(more) {
                    *sum = both(sum, part)?;
                }
            }
        }
        Ok(found)
    }
}

/// Gradients of one graph without cuts.
fn enter(
    value: &Tensor,
    cotangent: Option<&Tensor>,
    inputs: &[&Tensor],
    keep: bool,
) -> Result<Vec<Tensor>, tch::TchError> {
    // The engine starts from a gradient of 1, so the cotangent comes in as a factor.
    let root = match cotangent {
        Some(cotangent) => value.f_mul(cotangent)?,
        None => value.shallow_clone(),
    };
    Tensor::f_run_backward(&[root], inputs, keep, false)
}

fn both(sum: &Tensor, part: Tensor) -> Result<Tensor, tch::TchError> {
    match (sum.defined(), part.defined()) {
        (true, true) => sum.f_add(&part),
        (true, false) => Ok(sum.shallow_clone()),
        (false, _) => Ok(part),
    }
}

/// The tensor, if it is one.
pub(super) fn defined(tensor: &Tensor) -> Option<Tensor> {
    tensor.defined().then(|| tensor.shallow_clone())
}
