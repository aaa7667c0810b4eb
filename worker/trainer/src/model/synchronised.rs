//! Batch norms that take their statistics from the batches of a whole gang.
//!
//! Autograd ends at the process, so the graph is cut at every such norm: what comes in is the end of one graph, the
//! normalised values are a leaf of the next, and between them lies the closed form of a normalisation's gradient, whose
//! two sums are taken over the gang. Weight and bias come after the cut, within the graph.
//!
//! With c the values of a channel over all ranks, n = (x - mean) / sqrt(variance + epsilon), and g what is asked of n:
//! the gradient on x is (g - sum(g) / c - n sum(g n) / c) / sqrt(variance + epsilon). Sums and counts come as means over
//! the ranks, whose factor cancels.

use std::cell::RefCell;
use std::fmt;

use nettailor_collective::Collective;
use tch::{Kind, Tensor};

use super::Error;

/// All but the channels of `[n, channels, h, w]`.
const OTHERS: &[i64] = &[0, 2, 3];

/// A gang whose batch norms share their statistics. It remembers the cuts of the forward pass under way.
pub struct Synchronised<'a> {
    gang: &'a dyn Collective,
    cuts: RefCell<Vec<NormCut>>,
}

/// A norm of a forward pass, where the graph is cut.
pub(crate) struct NormCut {
    /// What came in: the end of the graph before the cut.
    pub(crate) value: Tensor,
    /// It, normalised: a leaf of the graph behind the cut.
    pub(crate) leaf: Tensor,
    /// 1 / sqrt(variance + epsilon), `[1, channels, 1, 1]`.
    inverse: Tensor,
    /// Values of a channel, mean over the ranks, `[1]`.
    count: Tensor,
}

/// What belongs to one norm.
pub(super) struct Place<'t> {
    /// Running mean and variance.
    pub(super) running: [&'t Tensor; 2],
    /// How far they move.
    pub(super) momentum: f64,
    /// Added to the variance.
    pub(super) epsilon: f64,
}

impl fmt::Debug for Synchronised<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Synchronised").finish_non_exhaustive()
    }
}

impl<'a> Synchronised<'a> {
    /// Norms over `gang`.
    pub fn new(gang: &'a dyn Collective) -> Self {
        Self {
            gang,
            cuts: RefCell::default(),
        }
    }

    /// The cuts that were made since the last call, in the order of the forward pass.
    pub(crate) fn take(&self) -> Vec<NormCut> {
        self.cuts.take()
    }

    /// `x` `[n, channels, h, w]` with the gang's mean taken off and its deviation divided out; the running statistics move.
    pub(super) fn normalise(&self, x: &Tensor, place: Place<'_>) -> Result<Tensor, Error> {
        tch::no_grad(|| {
            let (mean, variance, count) = self.moments(x)?;
            // A running variance is an estimate for all images, not a measure of these.
            let values = count.f_mul_scalar(self.gang.world_size() as f64)?;
            let unbiased = variance.f_mul(&values.f_div(&values.f_sub_scalar(1.0)?)?)?;
            for (running, now) in place.running.into_iter().zip([&mean, &unbiased]) {
                let now = now.f_to_kind(Kind::Float)?;
                let _moved = running.shallow_clone().f_lerp_(&now, place.momentum)?;
            }
            let (mean, variance) = (mean.f_to_kind(Kind::Float)?, variance.f_to_kind(Kind::Float)?);
            let epsilon = place.epsilon;
            let leaf = {
                let (x, mean, variance) = (x.f_detach()?, Some(&mean), Some(&variance));
                x.f_batch_norm(None, None, mean, variance, false, 0.0, epsilon, true)?
            };
            if !x.requires_grad() {
                return Ok(leaf);
            }
            let leaf = leaf.f_set_requires_grad(true)?;
            let inverse = variance.f_add_scalar(epsilon)?.f_rsqrt()?;
            self.cuts.borrow_mut().push(NormCut {
                value: x.shallow_clone(),
                leaf: leaf.shallow_clone(),
                inverse: inverse.f_view([1, -1, 1, 1])?,
                count: count.f_to_kind(Kind::Float)?,
            });
            Ok(leaf)
        })
    }

    /// Mean and (biased) variance of each channel over the gang, and the mean number of values of a channel. In double
    /// precision: the variance is a difference of large numbers.
    fn moments(&self, x: &Tensor) -> Result<(Tensor, Tensor, Tensor), Error> {
        let nothing = None::<&Tensor>;
        let single = x.f_detach()?.f_to_kind(Kind::Float)?;
        let (mean, variance) = single.f_batch_norm_update_stats(nothing, nothing, 0.0)?;
        let (mean, variance) = (mean.f_to_kind(Kind::Double)?, variance.f_to_kind(Kind::Double)?);
        let channels = mean.size()[0];
        let count = (x.numel() as i64 / channels) as f64;
        let one = Tensor::f_ones([1], (Kind::Double, x.device()))?;
        let squares = variance.f_add(&mean.f_square()?)?;
        let sums = Tensor::f_cat(&[one, mean, squares], 0)?.f_mul_scalar(count)?;
        self.gang.all_reduce_mean(&[sums.shallow_clone()])?;
        let count = sums.f_narrow(0, 0, 1)?;
        let mean = sums.f_narrow(0, 1, channels)?.f_div(&count)?;
        let squares = sums.f_narrow(0, 1 + channels, channels)?.f_div(&count)?;
        let variance = squares.f_sub(&mean.f_square()?)?.f_clamp_min(0.0)?;
        Ok((mean, variance, count))
    }

    /// weight * normal + bias by channel, within the graph.
    pub(super) fn affine(&self, normal: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor, Error> {
        // A batch norm with nothing left to normalise: one pass, and fused gradients on all three.
        let (zero, one) = (bias.f_zeros_like()?, weight.f_ones_like()?);
        let (weight, bias, zero, one) = (Some(weight), Some(bias), Some(&zero), Some(&one));
        Ok(normal.f_batch_norm(weight, bias, zero, one, false, 0.0, 0.0, true)?)
    }

    /// The gradient on the cut's `value`, of `cotangent` on its leaf.
    pub(crate) fn backward(&self, cut: &NormCut, cotangent: &Tensor) -> Result<Tensor, Error> {
        tch::no_grad(|| {
            let sum = |values: &Tensor| values.f_sum_dim_intlist(OTHERS, false, Kind::Float);
            let sums = Tensor::f_stack(&[sum(cotangent)?, sum(&cotangent.f_mul(&cut.leaf)?)?], 0)?;
            self.gang.all_reduce_mean(&[sums.shallow_clone()])?;
            let means = sums.f_div(&cut.count)?.f_to_kind(cotangent.f_kind()?)?;
            let mean = |index| means.f_select(0, index)?.f_view([1, -1, 1, 1]);
            let inverse = cut.inverse.f_to_kind(cotangent.f_kind()?)?;
            let along = cut.leaf.f_mul(&mean(1)?)?;
            let mut gradient = cotangent.f_sub(&along)?.f_sub_(&mean(0)?)?;
            Ok(gradient.f_mul_(&inverse)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use nettailor_collective::Solo;

    use super::*;
    use crate::model::Init;

    const SIZE: [i64; 4] = [6, 4, 5, 5];
    const EPSILON: f64 = 1e-3;
    const MOMENTUM: f64 = 0.1;

    fn values(name: &str, size: &[i64], deviation: f32, mean: f64) -> Tensor {
        let count = size.iter().product::<i64>() as usize;
        Tensor::from_slice(&Init::Normal(deviation).values(1, name, count)).view(size) + mean
    }

    fn leaf(tensor: &Tensor, kind: Kind) -> Tensor {
        tensor.to_kind(kind).copy().set_requires_grad(true)
    }

    #[track_caller]
    fn near(what: &str, found: &Tensor, expected: &Tensor) {
        let largest = |tensor: &Tensor| f64::try_from(tensor.abs().max()).unwrap();
        let off = largest(&(found.to_kind(Kind::Double) - expected)) / largest(expected);
        assert!(off < 1e-5, "{what} is off by {off:.1e}");
    }

    #[test]
    fn it_is_a_batch_norm_with_its_gradient() {
        let (x, asked) = (values("x", &SIZE, 0.3, 1.0), values("asked", &SIZE, 1.0, 0.5));
        let (weight, bias) = (values("weight", &[4], 0.2, 1.0), values("bias", &[4], 1.0, 0.0));
        let running = [0.0, 1.0].map(|start| Tensor::full([4], start, tch::kind::FLOAT_CPU));

        // libtorch's own, in double precision.
        let double = [&x, &weight, &bias].map(|tensor| leaf(tensor, Kind::Double));
        let expected_running = [0, 1].map(|index: usize| running[index].to_kind(Kind::Double));
        let expected = {
            let [x, weight, bias] = &double;
            let [mean, variance] = &expected_running;
            let (weight, bias, mean, variance) = (Some(weight), Some(bias), Some(mean), Some(variance));
            x.batch_norm(weight, bias, mean, variance, true, MOMENTUM, EPSILON, false)
        };
        let product = &expected * asked.to_kind(Kind::Double);
        let expected_gradients = Tensor::run_backward(&[product], &double, false, false);

        let gang = Solo::new();
        let synchronised = Synchronised::new(&gang);
        let [x, weight, bias] = [&x, &weight, &bias].map(|tensor| leaf(tensor, Kind::Float));
        let place = Place {
            running: [&running[0], &running[1]],
            momentum: MOMENTUM,
            epsilon: EPSILON,
        };
        let normal = synchronised.normalise(&x, place).unwrap();
        let found = synchronised.affine(&normal, &weight, &bias).unwrap();
        let cuts = synchronised.take();
        assert_eq!(cuts.len(), 1);
        let inputs = [&cuts[0].leaf, &weight, &bias];
        let mut gradients = Tensor::run_backward(&[&found * &asked], &inputs, false, false);
        gradients[0] = synchronised.backward(&cuts[0], &gradients[0]).unwrap();

        near("what comes out", &found, &expected);
        for (what, index) in [("x", 0), ("weight", 1), ("bias", 2)] {
            near(
                &format!("the gradient on {what}"),
                &gradients[index],
                &expected_gradients[index],
            );
        }
        near("running mean", &running[0], &expected_running[0]);
        near("running variance", &running[1], &expected_running[1]);
    }
}
