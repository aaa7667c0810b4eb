//! A convolution with its batch norm and activation: what every block, stem and head is made of.

use nettailor_domain::backbone::{Activation, ConvBn, Padding, TensorSpec};
use tch::Tensor;

use super::depthwise::Depthwise;
use super::synchronised::{Place, Synchronised};
use super::variables::{Builder, Role};
use super::{Error, Init};
use crate::device::Layout;

/// Which statistics a batch norm normalises with.
#[derive(Debug, Clone, Copy)]
pub enum Statistics<'a> {
    /// The running ones, unchanged: evaluation.
    Running,
    /// The batch's own; the running ones move towards them by `momentum`, once for each forward pass.
    Batch {
        /// Share of the new value. 1/n at the n-th batch makes the running value the mean over all batches.
        momentum: f64,
    },
    /// The same over the batches of a whole gang. Such a norm cuts the autograd graph: see [`Synchronised`].
    Gang {
        /// As for a batch.
        momentum: f64,
        /// The gang, and where its cuts are noted.
        over: &'a Synchronised<'a>,
    },
}

/// Momentum of running statistics in training.
pub const STATISTICS_MOMENTUM: f64 = 0.1;

/// How batch norms work in one forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Mode<'a> {
    /// Those of the backbone's blocks.
    pub universal: Statistics<'a>,
    /// Those of proxies, and wrn26's end.
    pub task: Statistics<'a>,
}

impl<'a> Statistics<'a> {
    fn over(self, gang: &'a Synchronised<'a>) -> Self {
        match self {
            Self::Batch { momentum } => Self::Gang { momentum, over: gang },
            other => other,
        }
    }

    fn for_batch(self, images: i64, whole: i64) -> Self {
        match self {
            Self::Batch { .. } if images < 2 => Self::Running,
            Self::Gang { .. } if whole < 2 => Self::Running,
            other => other,
        }
    }
}

impl<'a> Mode<'a> {
    /// Running statistics everywhere.
    pub const EVALUATE: Mode<'static> = Mode {
        universal: Statistics::Running,
        task: Statistics::Running,
    };

    /// Batch statistics everywhere, one running update.
    pub const TRAIN: Mode<'static> = Mode::batch(STATISTICS_MOMENTUM);

    /// Batch statistics everywhere, with this momentum.
    pub const fn batch(momentum: f64) -> Mode<'static> {
        Mode {
            universal: Statistics::Batch { momentum },
            task: Statistics::Batch { momentum },
        }
    }

    /// The same with the statistics of a whole gang's batches in the place of this rank's.
    pub fn over(self, gang: &'a Synchronised<'a>) -> Self {
        Self {
            universal: self.universal.over(gang),
            task: self.task.over(gang),
        }
    }

    /// The gang that statistics are taken over, if they are.
    pub(crate) fn gang(self) -> Option<&'a Synchronised<'a>> {
        let of = |statistics| match statistics {
            Statistics::Gang { over, .. } => Some(over),
            Statistics::Running | Statistics::Batch { .. } => None,
        };
        of(self.universal).or_else(|| of(self.task))
    }

    /// The same for `images` images of a batch of which the gang has `whole`: a single image has no statistics worth the
    /// name.
    pub fn for_batch(self, images: i64, whole: i64) -> Self {
        Self {
            universal: self.universal.for_batch(images, whole),
            task: self.task.for_batch(images, whole),
        }
    }
}

/// Batch norm over channels.
#[derive(Debug)]
pub struct Norm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: f64,
}

impl Norm {
    fn universal(builder: &mut Builder<'_>, specs: &[TensorSpec; 4], epsilon: f64) -> Result<Self, Error> {
        let [weight, bias, mean, variance] = specs;
        Ok(Self {
            weight: builder.universal_affine(weight, Init::Constant(1.0))?,
            bias: builder.universal_affine(bias, Init::Constant(0.0))?,
            mean: builder.universal_statistic(mean, Init::Constant(0.0))?,
            variance: builder.universal_statistic(variance, Init::Constant(1.0))?,
            epsilon,
        })
    }

    /// A task's own: weight 1, bias 0, trained.
    pub fn task(builder: &mut Builder<'_>, name: &str, channels: u32, epsilon: f64) -> Result<Self, Error> {
        let mut tensor = |part: &str, role, value| {
            builder.task(format!("{name}.{part}"), &[channels], role, Init::Constant(value))
        };
        Ok(Self {
            weight: tensor("weight", Role::Trained, 1.0)?,
            bias: tensor("bias", Role::Trained, 0.0)?,
            mean: tensor("running_mean", Role::Statistic, 0.0)?,
            variance: tensor("running_var", Role::Statistic, 1.0)?,
            epsilon,
        })
    }

    /// Weight and bias of the convolution with `weight` `[out, in, k, k]` that does this norm's work under running
    /// statistics too, its output multiplied by `factor`.
    pub fn folded(&self, weight: &Tensor, factor: f64, layout: Layout) -> Result<(Tensor, Tensor), Error> {
        tch::no_grad(|| {
            let deviation = self.variance.f_add_scalar(self.epsilon)?.f_sqrt()?;
            let scale = self.weight.f_div(&deviation)?;
            let bias = self.bias.f_sub(&self.mean.f_mul(&scale)?)?;
            let weight = weight.f_mul(&scale.f_mul_scalar(factor)?.f_view([-1, 1, 1, 1])?)?;
            let bias = bias.f_mul_scalar(factor)?;
            Ok((weight.f_to_kind(layout.kind())?, bias.f_to_kind(layout.kind())?))
        })
    }

    /// Normalises `x` `[n, channels, h, w]`. With `scale` (one element) the result is multiplied by it, at the price of
    /// scaling two vectors instead of a feature map.
    pub fn forward(
        &self,
        x: &Tensor,
        statistics: Statistics<'_>,
        scale: Option<&Tensor>,
    ) -> Result<Tensor, Error> {
        let scaled = scale.map(|scale| Ok::<_, Error>((self.weight.f_mul(scale)?, self.bias.f_mul(scale)?)));
        let scaled = scaled.transpose()?;
        let (weight, bias) = scaled
            .as_ref()
            .map_or((&self.weight, &self.bias), |(weight, bias)| (weight, bias));
        let (training, momentum) = match statistics {
            Statistics::Running => (false, 0.0),
            Statistics::Batch { momentum } => (true, momentum),
            Statistics::Gang { momentum, over } => {
                let place = Place {
                    running: [&self.mean, &self.variance],
                    momentum,
                    epsilon: self.epsilon,
                };
                let normal = over.normalise(x, place)?;
                return over.affine(&normal, weight, bias);
            }
        };
        let (mean, variance) = (Some(&self.mean), Some(&self.variance));
        let (weight, bias) = (Some(weight), Some(bias));
        let epsilon = self.epsilon;
        Ok(x.f_batch_norm(weight, bias, mean, variance, training, momentum, epsilon, true)?)
    }
}

/// Applies `activation` to a tensor that nobody else reads, in place where that saves memory. (A batch norm's and a sum's
/// backward passes do not need their results; ReLU's needs its result and ReLU6's its input, which it would copy first.)
pub fn activate(mut x: Tensor, activation: Activation) -> Result<Tensor, Error> {
    Ok(match activation {
        Activation::Identity => x,
        Activation::Relu => x.f_relu_()?,
        Activation::Relu6 if x.requires_grad() => x.f_relu6()?,
        Activation::Relu6 => x.f_relu6_()?,
    })
}

/// Applies `activation` to a tensor that others read too.
pub fn activated(x: &Tensor, activation: Activation) -> Result<Tensor, Error> {
    Ok(match activation {
        Activation::Identity => x.shallow_clone(),
        Activation::Relu => x.f_relu()?,
        Activation::Relu6 => x.f_relu6()?,
    })
}

/// Convolution, batch norm, activation.
#[derive(Debug)]
pub struct Unit {
    spec: ConvBn,
    /// As it is stored and trained.
    weight: Tensor,
    /// As the convolution reads it, where that is another precision and the weight is frozen: converted once.
    converted: Option<Tensor>,
    norm: Norm,
    /// Weight and bias of the one convolution that does the work of both under running statistics.
    folded: Option<(Tensor, Tensor)>,
    /// Of the feature maps that come and go.
    layout: Layout,
    /// Of the convolution.
    inner: Layout,
    /// The convolution in another form, for inputs of the usual side where that is faster.
    depthwise: Option<Depthwise>,
}

impl Unit {
    /// A part of the backbone, for inputs of side `side` (others are computed as well, if not always as fast).
    pub fn new(builder: &mut Builder<'_>, spec: &ConvBn, epsilon: f64, side: u32) -> Result<Self, Error> {
        let [weight, norm @ ..] = spec.tensors();
        let fan_out = spec.out_channels / spec.groups * spec.kernel * spec.kernel;
        let init = Init::Normal((2.0 / fan_out as f32).sqrt());
        let layout = builder.layout();
        let inner = layout.of_convolution(spec, spec.output_side(side));
        let weight = builder.universal_kernel(&weight, init, inner)?;
        let converts = !weight.requires_grad() && layout.kind() != weight.kind();
        let converted = converts.then(|| weight.f_to_kind(layout.kind())).transpose()?;
        let norm = Norm::universal(builder, &norm, epsilon)?;
        let sides = [side, spec.output_side(side)].map(i64::from);
        let sides = [sides[0], sides[1], padding(spec, sides[0]).0];
        let depthwise = Depthwise::new(spec, sides, weight.requires_grad(), layout)?;
        Ok(Self {
            spec: spec.clone(),
            weight,
            converted,
            norm,
            folded: None,
            layout,
            inner,
            depthwise,
        })
    }

    /// Folds the batch norm into the convolution for passes under running statistics, and `factor` (not negative) with
    /// it: the output is multiplied by it. Only for networks that do not train any more: later changes of the tensors
    /// would go unseen.
    pub fn fold(&mut self, factor: f64) -> Result<(), Error> {
        self.folded = Some(self.norm.folded(&self.weight, factor, self.layout)?);
        Ok(())
    }

    /// `[n, in, h, w] -> [n, out, h', w']`, sides by the convolution formula.
    pub fn forward(&self, x: &Tensor, statistics: Statistics<'_>) -> Result<Tensor, Error> {
        let y = match (&self.folded, statistics) {
            (Some((weight, bias)), Statistics::Running) => self.convolve(x, weight, Some(bias))?,
            _ => {
                let weight = self.converted.as_ref().unwrap_or(&self.weight);
                let y = self.convolve(x, weight, None)?;
                self.norm.forward(&y, statistics, None)?
            }
        };
        activate(y, self.spec.activation)
    }

    fn convolve(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, Error> {
        if let Some(depthwise) = self.depthwise.as_ref().filter(|depthwise| depthwise.fits(x)) {
            let y = depthwise.forward(x, &weight.f_to_kind(x.f_kind()?)?)?;
            let y = match bias {
                Some(bias) => y.f_add(&bias.f_view([1, -1, 1, 1])?)?,
                None => y,
            };
            return Ok(self.layout.ordered(&y)?);
        }
        let [stride, groups] = [self.spec.stride, self.spec.groups].map(i64::from);
        let (before, after) = padding(&self.spec, x.size()[2]);
        let extra = after - before;
        // An uneven padding is an even one under a kernel that begins with zeros: extending the small kernel costs
        // nothing, padding the large input is a copy of it.
        let extended = if extra == 0 {
            None
        } else {
            Some(weight.f_constant_pad_nd([extra, 0, extra, 0])?)
        };
        // Within the graph where the weight is trained; nothing happens where it has this precision.
        let weight = extended.as_ref().unwrap_or(weight).f_to_kind(x.f_kind()?)?;
        let convolve =
            |x: &Tensor| x.f_conv2d(&weight, bias, [stride, stride], [after, after], [1, 1], groups);
        if self.inner == self.layout {
            return Ok(convolve(x)?);
        }
        Ok(self.layout.ordered(&convolve(&self.inner.ordered(x)?)?)?)
    }
}

/// Zeros before and after each side, for an input of side `side`.
fn padding(spec: &ConvBn, side: i64) -> (i64, i64) {
    match spec.padding {
        Padding::Symmetric(padding) => (i64::from(padding), i64::from(padding)),
        Padding::Same => {
            let [stride, kernel] = [spec.stride, spec.kernel].map(i64::from);
            let output = (side + stride - 1) / stride;
            let total = ((output - 1) * stride + kernel - side).max(0);
            (total / 2, total - total / 2)
        }
    }
}
