//! What a step learns from: a batch, and what the teacher makes of it.

use std::cell::OnceCell;

use nettailor_collective::Collective;
use nettailor_domain::task::HintScale;
use tch::{Kind, Tensor};

use crate::model::{Error, Forward};

/// A rank's part of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Part<'t> {
    /// `[n, 3, side, side]`; n is at least 1.
    pub images: &'t Tensor,
    /// `[n]`.
    pub labels: &'t Tensor,
    /// Images of the batch, over all ranks.
    pub whole: i64,
}

impl<'t> Part<'t> {
    /// The whole batch, for a gang of one.
    pub fn whole(images: &'t Tensor, labels: &'t Tensor) -> Self {
        let whole = images.size()[0];
        Self {
            images,
            labels,
            whole,
        }
    }

    /// Images of this part.
    pub(super) fn len(&self) -> i64 {
        self.images.size()[0]
    }

    /// By what a mean over this part is multiplied, so that the mean over `ranks` such products is that over the batch.
    pub(super) fn weight(&self, ranks: usize) -> f64 {
        (self.len() * ranks as i64) as f64 / self.whole as f64
    }
}

/// Of a teacher's node, below which its hint counts nothing.
const LEAST_VARIANCE: f64 = 1e-6;

/// The teacher's forward pass on a part of a batch.
pub struct Lesson<'a> {
    pub(super) forward: &'a Forward,
    gang: &'a dyn Collective,
    /// Variances over the gang's batch, once they were asked for: of the nodes, then of the logits. 0 for dead nodes.
    variances: OnceCell<Vec<f64>>,
}

impl<'a> Lesson<'a> {
    /// For one rank of `gang`, on its part of a batch.
    pub fn new(forward: &'a Forward, gang: &'a dyn Collective) -> Self {
        Self {
            forward,
            gang,
            variances: OnceCell::new(),
        }
    }

    /// What a mean square of differences to node `node` is multiplied by.
    pub(super) fn node_scale(&self, node: usize, scale: HintScale) -> Result<f64, Error> {
        self.scale(scale, |variances| variances[node])
    }

    /// The same for the logits.
    pub(super) fn logits_scale(&self, scale: HintScale) -> Result<f64, Error> {
        self.scale(scale, |variances| variances[variances.len() - 1])
    }

    fn scale(&self, scale: HintScale, of: impl Fn(&[f64]) -> f64) -> Result<f64, Error> {
        if scale == HintScale::Absolute {
            return Ok(1.0);
        }
        let variances = match self.variances.get() {
            Some(variances) => variances,
            None => {
                let measured = self.measure()?;
                self.variances.get_or_init(|| measured)
            }
        };
        Ok(match of(variances) {
            // A node that is the same everywhere has nothing to teach.
            variance if variance < LEAST_VARIANCE => 0.0,
            variance => 1.0 / variance,
        })
    }

    /// All variances at once: one reduction.
    fn measure(&self) -> Result<Vec<f64>, Error> {
        let nodes = self.forward.nodes.iter().map(Option::as_ref);
        let targets = nodes.chain([Some(&self.forward.logits)]);
        // Number of elements, their sum and the sum of their squares, from each rank's mean and variance.
        let mut sums = Vec::new();
        for target in targets {
            let Some(target) = target else {
                sums.extend([1.0, 0.0, 0.0]);
                continue;
            };
            let (variance, mean) = target.f_to_kind(Kind::Float)?.f_var_mean(false)?;
            let (variance, mean) = (variance.f_double_value(&[])?, mean.f_double_value(&[])?);
            let count = target.numel() as f64;
            sums.extend([count, count * mean, count * (variance + mean * mean)]);
        }
        let table = Tensor::f_from_slice(&sums)?.f_to_device(self.forward.logits.device())?;
        self.gang.all_reduce_mean(&[table.shallow_clone()])?;
        let sums: Vec<f64> = Vec::try_from(table)?;
        let variance = |row: &[f64]| row[2] / row[0] - (row[1] / row[0]).powi(2);
        Ok(sums.chunks_exact(3).map(variance).collect())
    }
}
