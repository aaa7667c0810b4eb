//! Universal blocks and proxies: what merges into a node.

use nettailor_domain::backbone::{
    Activation, Block as BlockSpec, ProxyForm, ProxyShape, Shortcut as ShortcutSpec,
};
use tch::Tensor;

use super::unit::{Mode, Norm, Statistics, Unit, activate};
use super::variables::{Builder, Role};
use super::{Error, Init};
use crate::device::Layout;

/// Standard deviation of a new proxy's weights.
const PROXY_DEVIATION: f32 = 0.01;

/// A universal block G_l.
#[derive(Debug)]
pub struct Block {
    body: Vec<Unit>,
    shortcut: Shortcut,
    activation: Activation,
    layout: Layout,
    /// What a folded block's output is multiplied by; the convolutions do it, shortcuts without one are told here.
    factor: Option<Tensor>,
}

#[derive(Debug)]
enum Shortcut {
    None,
    Identity,
    Projection(Box<Unit>),
    /// Average pooling with this window, then this many zero channels.
    PoolPad {
        window: i64,
        channels: i64,
    },
}

impl Block {
    /// A part of the backbone, for inputs of side `side`.
    pub fn new(builder: &mut Builder<'_>, spec: &BlockSpec, epsilon: f64, side: u32) -> Result<Self, Error> {
        let mut inner = side;
        let mut body = Vec::with_capacity(spec.body.len());
        for unit in &spec.body {
            body.push(Unit::new(builder, unit, epsilon, inner)?);
            inner = unit.output_side(inner);
        }
        let shortcut = match &spec.shortcut {
            ShortcutSpec::None => Shortcut::None,
            ShortcutSpec::Identity => Shortcut::Identity,
            ShortcutSpec::Projection(unit) => {
                Shortcut::Projection(Box::new(Unit::new(builder, unit, epsilon, side)?))
            }
            ShortcutSpec::PoolPad => Shortcut::PoolPad {
                window: i64::from(spec.stride),
                channels: i64::from(spec.out_channels) - i64::from(spec.in_channels),
            },
        };
        Ok(Self {
            body,
            shortcut,
            activation: spec.activation,
            layout: builder.layout(),
            factor: None,
        })
    }

    /// See [`Unit::fold`]; `factor` multiplies the block's output. No block ends in an activation that it would not pass
    /// through.
    pub fn fold(&mut self, factor: f64) -> Result<(), Error> {
        let last = self.body.len() - 1;
        for (index, unit) in self.body.iter_mut().enumerate() {
            unit.fold(if index == last { factor } else { 1.0 })?;
        }
        if let Shortcut::Projection(unit) = &mut self.shortcut {
            unit.fold(factor)?;
        }
        if factor != 1.0 {
            let factor = Tensor::f_from_slice(&[factor as f32])?.f_to_device(self.layout.device)?;
            self.factor = Some(factor.f_to_kind(self.layout.kind())?);
        }
        Ok(())
    }

    /// Node l-1 to the block's share of node l, before attention and activation.
    pub fn forward(&self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor, Error> {
        let mut y = self.body[0].forward(x, mode.universal)?;
        for unit in &self.body[1..] {
            y = unit.forward(&y, mode.universal)?;
        }
        let merged = match &self.shortcut {
            Shortcut::None => y,
            Shortcut::Identity => self.add(y, x)?,
            Shortcut::Projection(unit) => y.f_add_(&unit.forward(x, mode.universal)?)?,
            Shortcut::PoolPad { window, channels } => {
                let pooled = match window {
                    1 => x.shallow_clone(),
                    // Rounded up, as the body's convolutions are; a window over the edge averages what is there.
                    w => x.f_avg_pool2d([*w, *w], [*w, *w], [0, 0], true, true, None)?,
                };
                self.add(y, &pooled.f_constant_pad_nd([0, 0, 0, 0, 0, *channels])?)?
            }
        };
        activate(merged, self.activation)
    }

    /// The body's output plus a shortcut that has no convolution.
    fn add(&self, mut body: Tensor, shortcut: &Tensor) -> Result<Tensor, tch::TchError> {
        match &self.factor {
            Some(factor) => body.f_addcmul_(shortcut, factor),
            None => body.f_add_(shortcut),
        }
    }
}

/// A proxy A(s->l), behind its pooling.
#[derive(Debug)]
pub struct Proxy {
    steps: Vec<Step>,
    layout: Layout,
    /// Side of its output.
    pub side: i64,
}

/// A 1x1 convolution with its batch norm.
#[derive(Debug)]
struct Step {
    weight: Tensor,
    norm: Norm,
    /// Weight and bias of the one convolution that does the work of both.
    folded: Option<(Tensor, Tensor)>,
}

impl Proxy {
    /// The proxy into layer `target` whose source is `source`. Its tensors are `proxies.<l>.<s>.conv.weight` and
    /// `.bn.*`; those of a bottleneck `.conv1.weight`, `.bn1.*`, `.conv2.weight`, `.bn2.*`.
    pub fn new(
        builder: &mut Builder<'_>,
        shape: &ProxyShape,
        (source, target): (usize, usize),
        epsilon: f64,
    ) -> Result<Self, Error> {
        let prefix = format!("proxies.{target}.{source}");
        let mut step = |suffix: &str, c_in: u32, c_out: u32| -> Result<Step, Error> {
            let name = format!("{prefix}.conv{suffix}.weight");
            let weight = builder.task(
                name,
                &[c_out, c_in, 1, 1],
                Role::Trained,
                Init::Normal(PROXY_DEVIATION),
            )?;
            let norm = Norm::task(builder, &format!("{prefix}.bn{suffix}"), c_out, epsilon)?;
            Ok(Step {
                weight,
                norm,
                folded: None,
            })
        };
        let (c_in, c_out) = (shape.source.channels, shape.target.channels);
        let steps = match shape.form {
            ProxyForm::Conv => vec![step("", c_in, c_out)?],
            ProxyForm::Bottleneck => {
                let middle = shape.bottleneck_width();
                vec![step("1", c_in, middle)?, step("2", middle, c_out)?]
            }
        };
        Ok(Self {
            steps,
            layout: builder.layout(),
            side: i64::from(shape.target.side),
        })
    }

    /// See [`Unit::fold`]; `factor` multiplies the output.
    pub fn fold(&mut self, factor: f64) -> Result<(), Error> {
        let last = self.steps.len() - 1;
        for (index, step) in self.steps.iter_mut().enumerate() {
            let factor = if index == last { factor } else { 1.0 };
            step.folded = Some(step.norm.folded(&step.weight, factor, self.layout)?);
        }
        Ok(())
    }

    /// The pooled source times `scale` (the block's attention) through the layer; linear at the end.
    pub fn forward(&self, pooled: &Tensor, mode: Mode<'_>, scale: Option<&Tensor>) -> Result<Tensor, Error> {
        let last = self.steps.len() - 1;
        let mut y = pooled.shallow_clone();
        for (index, step) in self.steps.iter().enumerate() {
            let scale = if index == last { scale } else { None };
            y = step.forward(&y, mode.task, scale)?;
            if index < last {
                y = activate(y, Activation::Relu)?;
            }
        }
        Ok(y)
    }
}

impl Step {
    fn forward(
        &self,
        x: &Tensor,
        statistics: Statistics<'_>,
        scale: Option<&Tensor>,
    ) -> Result<Tensor, Error> {
        let convolve =
            |weight: &Tensor, bias: Option<&Tensor>| x.f_conv2d(weight, bias, [1, 1], [0, 0], [1, 1], 1);
        match (&self.folded, statistics) {
            (Some((weight, bias)), Statistics::Running) => Ok(convolve(weight, Some(bias))?),
            _ => {
                let convolved = convolve(&self.weight.f_to_kind(x.f_kind()?)?, None)?;
                self.norm.forward(&convolved, statistics, scale)
            }
        }
    }
}

/// The source of a proxy at its target's side: as it is, max-pooled (window r+1, stride r, padding r/2) where the ratio r
/// is whole, adaptively max-pooled where it is not.
pub fn pool(x: &Tensor, side: i64) -> Result<Tensor, Error> {
    let from = x.size()[2];
    Ok(match (from / side, from % side) {
        (1, 0) => x.shallow_clone(),
        (r, 0) => x.f_max_pool2d([r + 1, r + 1], [r, r], [r / 2, r / 2], [1, 1], false)?,
        _ => x.f_adaptive_max_pool2d([side, side])?.0,
    })
}
