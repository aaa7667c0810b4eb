//! Universal blocks and proxies: what merges into a node.

use nettailor_domain::backbone::{
    Activation, Block as BlockSpec, ProxyForm, ProxyShape, Shortcut as ShortcutSpec,
};
use tch::Tensor;

use super::unit::{Mode, Norm, Unit, activate};
use super::variables::{Builder, Role};
use super::{Error, Init};

/// Standard deviation of a new proxy's weights.
const PROXY_DEVIATION: f32 = 0.01;

/// A universal block G_l.
#[derive(Debug)]
pub struct Block {
    body: Vec<Unit>,
    shortcut: Shortcut,
    activation: Activation,
}

#[derive(Debug)]
enum Shortcut {
    None,
    Identity,
    Projection(Unit),
    /// Average pooling with this window, then this many zero channels.
    PoolPad {
        window: i64,
        channels: i64,
    },
}

impl Block {
    /// A part of the backbone.
    pub fn new(builder: &mut Builder<'_>, spec: &BlockSpec, epsilon: f64) -> Result<Self, Error> {
        let body = spec
            .body
            .iter()
            .map(|unit| Unit::new(builder, unit, epsilon))
            .collect::<Result<_, _>>()?;
        let shortcut = match &spec.shortcut {
            ShortcutSpec::None => Shortcut::None,
            ShortcutSpec::Identity => Shortcut::Identity,
            ShortcutSpec::Projection(unit) => Shortcut::Projection(Unit::new(builder, unit, epsilon)?),
            ShortcutSpec::PoolPad => Shortcut::PoolPad {
                window: i64::from(spec.stride),
                channels: i64::from(spec.out_channels) - i64::from(spec.in_channels),
            },
        };
        Ok(Self {
            body,
            shortcut,
            activation: spec.activation,
        })
    }

    /// See [`Unit::fold`].
    pub fn fold(&mut self) -> Result<(), Error> {
        let projection = match &mut self.shortcut {
            Shortcut::Projection(unit) => Some(unit),
            Shortcut::None | Shortcut::Identity | Shortcut::PoolPad { .. } => None,
        };
        self.body.iter_mut().chain(projection).try_for_each(Unit::fold)
    }

    /// Node l-1 to the block's share of node l, before attention and activation.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, Error> {
        let mut y = self.body[0].forward(x, mode.universal)?;
        for unit in &self.body[1..] {
            y = unit.forward(&y, mode.universal)?;
        }
        let merged = match &self.shortcut {
            Shortcut::None => y,
            Shortcut::Identity => y.f_add_(x)?,
            Shortcut::Projection(unit) => y.f_add_(&unit.forward(x, mode.universal)?)?,
            Shortcut::PoolPad { window, channels } => {
                let pooled = match window {
                    1 => x.shallow_clone(),
                    // Rounded up, as the body's convolutions are; a window over the edge averages what is there.
                    w => x.f_avg_pool2d([*w, *w], [*w, *w], [0, 0], true, true, None)?,
                };
                y.f_add_(&pooled.f_constant_pad_nd([0, 0, 0, 0, 0, *channels])?)?
            }
        };
        activate(merged, self.activation)
    }
}

/// A proxy A(s->l), behind its pooling.
#[derive(Debug)]
pub struct Proxy {
    steps: Vec<(Tensor, Norm)>,
    /// Side of its output.
    pub side: i64,
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
        let mut step = |suffix: &str, c_in: u32, c_out: u32| -> Result<(Tensor, Norm), Error> {
            let name = format!("{prefix}.conv{suffix}.weight");
            let weight = builder.task(
                name,
                &[c_out, c_in, 1, 1],
                Role::Trained,
                Init::Normal(PROXY_DEVIATION),
            )?;
            Ok((
                weight,
                Norm::task(builder, &format!("{prefix}.bn{suffix}"), c_out, epsilon)?,
            ))
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
            side: i64::from(shape.target.side),
        })
    }

    /// The pooled source times `scale` (the block's attention) through the layer; linear at the end.
    pub fn forward(&self, pooled: &Tensor, mode: Mode, scale: Option<&Tensor>) -> Result<Tensor, Error> {
        let last = self.steps.len() - 1;
        let mut y = pooled.shallow_clone();
        for (index, (weight, norm)) in self.steps.iter().enumerate() {
            let convolved = y.f_conv2d(weight, None::<&Tensor>, [1, 1], [0, 0], [1, 1], 1)?;
            y = if index == last {
                norm.forward(&convolved, mode.task, scale)?
            } else {
                activate(norm.forward(&convolved, mode.task, None)?, Activation::Relu)?
            };
        }
        Ok(y)
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
